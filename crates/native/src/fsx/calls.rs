//! The functions of the interfaces: from neutral values to what serves them, and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loop_engine::{Error, Import, Neutral, Num, Outcome, Result, Value};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::code::ErrorCode;
use super::digest::{self, Algorithm};
use super::grant::Grant;
use super::root::{Entry, Root};
use super::temp::Session;
use super::{stream, walk};
use crate::hints::{Hints, named};
use crate::value::{args, instant, items, option, string};

type Functions = Vec<(&'static str, Import<Neutral>)>;
type Roots = Arc<BTreeMap<String, Arc<Root>>>;

/// Bytes of a file that is digested on the caller's thread: a hop costs more.
const SMALL: u64 = 256 << 10;

/// Milliseconds that a debounce may have.
const MAX_DEBOUNCE: u64 = 60_000;

pub(super) fn files(roots: Roots, hints: Arc<Hints>) -> Functions {
    let given = roots.clone();
    vec![
        (
            "files#roots",
            Import::now(move |_| {
                let pair = |(name, root): (&String, &Arc<Root>)| {
                    Value::Fields(vec![Value::string(name.as_str()), Value::Host(root.clone())])
                };
                Ok(Some(Value::List(roots.iter().map(pair).collect())))
            }),
        ),
        (
            "files#root",
            Import::now(move |a| {
                let [name] = args(a)?;
                let name = name.as_str()?;
                let root = given.get(name).ok_or_else(|| {
                    let name = named(name);
                    hints.say(&format!(
                        "the grant has no root `{name}`; add `roots.{name}.path`"
                    ));
                    ErrorCode::NotPermitted
                });
                answer(root.map(|r| Value::Host(r.clone())))
            }),
        ),
        (
            "files#[method]dir.list",
            on_path(|root, path| Ok(Value::List(root.list(path)?.into_iter().map(entry).collect()))),
        ),
        (
            "files#[method]dir.stat",
            on_path(|root, path| root.stat(path).map(entry)),
        ),
        (
            "files#[method]dir.read",
            on_path(|root, path| root.read(path).map(Value::bytes)),
        ),
        (
            "files#[method]dir.read-range",
            Import::now(|a| {
                let [root, path, offset, len] = args(a)?;
                let (root, offset, len) = (root.as_host::<Root>()?, offset.as_u64()?, len.as_u64()?);
                answer(root.read_range(path.as_str()?, offset, len).map(Value::bytes))
            }),
        ),
        (
            "files#[method]dir.glob",
            on_path(|root, pattern| {
                Ok(Value::List(
                    root.glob(pattern)?.into_iter().map(Value::String).collect(),
                ))
            }),
        ),
        (
            "files#[method]dir.read-link",
            on_path(|root, path| root.read_link(path).map(Value::String)),
        ),
    ]
}

pub(super) fn writing(io: &Handle) -> Functions {
    vec![
        (
            "writing#write",
            with_data(|root, path, data| root.write(path, data)),
        ),
        (
            "writing#write-new",
            with_data(|root, path, data| root.write_new(path, data)),
        ),
        (
            "writing#append",
            with_data(|root, path, data| root.append(path, data)),
        ),
        (
            "writing#write-range",
            Import::now(|a| {
                let [root, path, offset, data] = args(a)?;
                let (root, offset) = (root.as_host::<Root>()?, offset.as_u64()?);
                done(root.write_range(path.as_str()?, offset, data.as_bytes()?))
            }),
        ),
        (
            "writing#write-atomic",
            maybe_later(io, |a, io| {
                let [root, path, data, durable] = args(a)?;
                let (root, durable) = (root.as_host::<Root>()?, boolean(&durable)?);
                // the disk is waited for only where it has to be
                if !durable {
                    return Ok(Outcome::Ready(done(root.write_atomic(
                        path.as_str()?,
                        data.as_bytes()?,
                        false,
                    ))));
                }
                let path = string(path)?;
                Ok(later(io, move || {
                    done(root.write_atomic(&path, data.as_bytes()?, true))
                }))
            }),
        ),
        (
            "writing#truncate",
            Import::now(|a| {
                let [root, path, size] = args(a)?;
                let (root, size) = (root.as_host::<Root>()?, size.as_u64()?);
                done(root.truncate(path.as_str()?, size))
            }),
        ),
        ("writing#create-directory", on_name(Root::create_directory)),
        ("writing#create-directories", on_name(Root::create_directories)),
        ("writing#remove-file", on_name(Root::remove_file)),
        ("writing#remove-directory", on_name(Root::remove_directory)),
        (
            "writing#remove-tree",
            maybe_later(io, |a, io| {
                let [root, path] = args(a)?;
                let (root, path) = (root.as_host::<Root>()?, string(path)?);
                Ok(later(io, move || done(root.remove_tree(&path))))
            }),
        ),
        (
            "writing#rename",
            between(|from, path, to_root, to| from.rename(path, to_root, to)),
        ),
        (
            "writing#link",
            between(|from, path, to_root, to| from.link(path, to_root, to)),
        ),
        (
            "writing#copy",
            between_later(io, |from, path, to_root, to| {
                Ok(Value::u64(from.copy(path, to_root, to)?))
            }),
        ),
        (
            "writing#copy-tree",
            between_later(io, |from, path, to_root, to| {
                let copied = from.copy_tree(path, to_root, to)?;
                let fields = [copied.entries, copied.bytes, copied.left_out];
                Ok(Value::Fields(fields.map(Value::u64).into()))
            }),
        ),
        (
            "writing#symlink",
            Import::now(|a| {
                let [root, target, path] = args(a)?;
                done(root.as_host::<Root>()?.symlink(target.as_str()?, path.as_str()?))
            }),
        ),
        (
            "writing#set-times",
            Import::now(|a| {
                let [root, path, accessed, modified] = args(a)?;
                let root = root.as_host::<Root>()?;
                let times = (time(accessed)?, time(modified)?);
                let (Ok(accessed), Ok(modified)) = times else {
                    return done(Err(ErrorCode::Invalid));
                };
                done(root.set_times(path.as_str()?, accessed, modified))
            }),
        ),
    ]
}

pub(super) fn digests(io: &Handle) -> Functions {
    let digest = maybe_later(io, |a, io| {
        let [root, path, algorithm] = args(a)?;
        let root = root.as_host::<Root>()?;
        let algorithm = match algorithm {
            Value::Case(0, None) => Algorithm::Blake3,
            Value::Case(1, None) => Algorithm::Sha256,
            other => return Err(Error::msg(format!("not an algorithm: {other:?}"))),
        };
        let (mut file, size) = match root.open(path.as_str()?) {
            Ok(opened) => opened,
            Err(code) => return Ok(Outcome::Ready(answer(Err(code)))),
        };
        let mut work = move || answer(digest::digest(&mut file, size, algorithm).map(Value::bytes));
        Ok(if (1..=SMALL).contains(&size) {
            Outcome::Ready(work())
        } else {
            later(io, work)
        })
    });
    vec![("digests#digest", digest)]
}

pub(super) fn temporary(session: Option<Arc<Session>>, hints: Arc<Hints>) -> Functions {
    let temp_dir = Import::now(move |_| {
        let session = session.as_ref().ok_or_else(|| {
            hints.say("the grant has no temporary directories; add `temp = {}`");
            ErrorCode::NotPermitted
        });
        answer(session.and_then(Session::temp_dir).map(Value::host))
    });
    vec![("temporary#temp-dir", temp_dir)]
}

pub(super) fn streaming(io: &Handle, streams: &Arc<Semaphore>) -> Functions {
    let (read_io, read_streams) = (io.clone(), streams.clone());
    let (write_io, write_streams) = (io.clone(), streams.clone());
    vec![
        (
            "streaming#read-stream",
            Import::later(move |a| {
                let (io, streams) = (read_io.clone(), read_streams.clone());
                async move {
                    let [root, path, offset] = args(a)?;
                    let (root, path, offset) = (root.as_host::<Root>()?, string(path)?, offset.as_u64()?);
                    let permit = match one_of(&streams) {
                        Ok(permit) => permit,
                        Err(code) => return answer(Err(code)),
                    };
                    let opened = io
                        .spawn_blocking(move || root.open_at(&path, offset))
                        .await
                        .map_err(Error::new)?;
                    answer(opened.map(|file| stream::read_ahead(io, file, permit)))
                }
            }),
        ),
        (
            "streaming#write-stream",
            Import::later(move |a| {
                let (io, streams) = (write_io.clone(), write_streams.clone());
                // the stream is taken while the caller's instance is at hand
                let taken = (|| {
                    let [root, path, placement, data] = args(a)?;
                    let placement = stream::placement(&placement)?;
                    Ok::<_, Error>((
                        root.as_host::<Root>()?,
                        string(path)?,
                        placement,
                        data.into_source()?,
                    ))
                })();
                async move {
                    let (root, path, placement, source) = taken?;
                    let _permit = match one_of(&streams) {
                        Ok(permit) => permit,
                        Err(code) => return answer(Err(code)),
                    };
                    let written = stream::write(io, root, path, placement, source).await?;
                    answer(written.map(Value::u64))
                }
            }),
        ),
    ]
}

pub(super) fn walking(io: &Handle, streams: &Arc<Semaphore>) -> Functions {
    let (io, streams) = (io.clone(), streams.clone());
    let walk = Import::later(move |a| {
        let (io, streams) = (io.clone(), streams.clone());
        async move {
            let [root, path, options] = args(a)?;
            let (root, path) = (root.as_host::<Root>()?, string(path)?);
            let [globs, gitignore, hidden, max_depth] = args(items(options)?)?;
            let globs = globs
                .items()?
                .iter()
                .map(Value::as_str)
                .collect::<Result<Vec<_>>>()?;
            let max_depth = optional(max_depth, |depth| Ok(depth.as_u64()? as u32))?;
            let options = walk::Options::new(&globs, boolean(&gitignore)?, boolean(&hidden)?, max_depth);
            let begun = match (options, one_of(&streams)) {
                (Ok(options), Ok(permit)) => {
                    let task = io
                        .clone()
                        .spawn_blocking(move || walk::walk(io, root, &path, options, permit));
                    task.await.map_err(Error::new)?
                }
                (Err(code), _) | (_, Err(code)) => Err(code),
            };
            answer(begun)
        }
    });
    vec![("walking#walk", walk)]
}

#[cfg(target_os = "linux")]
pub(super) fn watching(io: &Handle, grant: &Grant) -> Functions {
    use super::watch;

    let watches = Arc::new(Semaphore::new(grant.max_watches()));
    let watched = Arc::new(watch::Watched::new(grant.max_watched()));
    let (io, max_events) = (io.clone(), grant.max_events());
    let watch = Import::later(move |a| {
        let (io, watches, watched) = (io.clone(), watches.clone(), watched.clone());
        async move {
            let [root, path, options] = args(a)?;
            let (root, path) = (root.as_host::<Root>()?, string(path)?);
            let [recursive, debounce] = args(items(options)?)?;
            let recursive = boolean(&recursive)?;
            let debounce = optional(debounce, |ms| ms.as_u64())?;
            if debounce.is_some_and(|ms| ms > MAX_DEBOUNCE) {
                return answer(Err(ErrorCode::Invalid));
            }
            let permit = match one_of(&watches) {
                Ok(permit) => permit,
                Err(code) => return answer(Err(code)),
            };
            let options = watch::Options {
                recursive,
                debounce: debounce.filter(|&ms| ms > 0).map(Duration::from_millis),
                max_events,
            };
            let begin = move |io: Handle| watch::watch(&io, root, &path, &options, watched, permit);
            let task = io.clone().spawn_blocking(move || begin(io));
            answer(task.await.map_err(Error::new)?)
        }
    });
    vec![("watching#watch", watch)]
}

/// Other systems watch by path, which could be made to lead out of a root.
#[cfg(not(target_os = "linux"))]
pub(super) fn watching(_: &Handle, grant: &Grant) -> Functions {
    let _ = (
        grant.max_watches(),
        grant.max_watched(),
        grant.max_events(),
        MAX_DEBOUNCE,
        Duration::ZERO,
    );
    let watch = Import::later(|_| async { answer(Err(ErrorCode::Unsupported)) });
    vec![("watching#watch", watch)]
}

/// A method of `dir` with one string; it runs on the caller's thread: a hop costs more than most reads.
fn on_path(f: impl Fn(&Root, &str) -> Result<Value, ErrorCode> + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| {
        let [root, path] = args(a)?;
        answer(f(&*root.as_host::<Root>()?, path.as_str()?))
    })
}

/// The same of what has no answer.
fn on_name(f: impl Fn(&Root, &str) -> Result<(), ErrorCode> + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| {
        let [root, path] = args(a)?;
        done(f(&*root.as_host::<Root>()?, path.as_str()?))
    })
}

fn with_data(
    f: impl Fn(&Root, &str, &[u8]) -> Result<(), ErrorCode> + Send + Sync + 'static,
) -> Import<Neutral> {
    Import::now(move |a| {
        let [root, path, data] = args(a)?;
        done(f(&*root.as_host::<Root>()?, path.as_str()?, data.as_bytes()?))
    })
}

/// What has two paths, each in a root of its own.
fn between(
    f: impl Fn(&Root, &str, &Root, &str) -> Result<(), ErrorCode> + Send + Sync + 'static,
) -> Import<Neutral> {
    Import::now(move |a| {
        let [from, path, to_root, to] = args(a)?;
        let (from, to_root) = (from.as_host::<Root>()?, to_root.as_host::<Root>()?);
        done(f(&from, path.as_str()?, &to_root, to.as_str()?))
    })
}

fn between_later(
    io: &Handle,
    f: impl Fn(&Root, &str, &Root, &str) -> Result<Value, ErrorCode> + Clone + Send + Sync + 'static,
) -> Import<Neutral> {
    maybe_later(io, move |a, io| {
        let [from, path, to_root, to] = args(a)?;
        let (from, to_root) = (from.as_host::<Root>()?, to_root.as_host::<Root>()?);
        let (path, to, f) = (string(path)?, string(to)?, f.clone());
        Ok(later(io, move || answer(f(&from, &path, &to_root, &to))))
    })
}

/// A function that decides for itself whether its caller has to wait.
fn maybe_later(
    io: &Handle,
    f: impl Fn(Vec<Value>, &Handle) -> Result<Outcome<Neutral>> + Send + Sync + 'static,
) -> Import<Neutral> {
    let io = io.clone();
    Import {
        call: Arc::new(move |a| f(a, &io).unwrap_or_else(|e| Outcome::Ready(Err(e)))),
        waits: true,
    }
}

/// Work that may take long, on a thread where nobody else waits for it.
fn later(io: &Handle, work: impl FnOnce() -> Result<Option<Value>> + Send + 'static) -> Outcome<Neutral> {
    let task = io.spawn_blocking(work);
    Outcome::Later(Box::pin(async move { task.await.map_err(Error::new)? }))
}

fn one_of(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ErrorCode> {
    permits.clone().try_acquire_owned().map_err(|_| ErrorCode::Quota)
}

fn answer(result: Result<Value, ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(Some(v)),
        Err(code) => Value::err(Some(code.into())),
    }))
}

fn done(result: Result<(), ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(()) => Value::ok(None),
        Err(code) => Value::err(Some(code.into())),
    }))
}

fn entry(e: Entry) -> Value {
    Value::Fields(vec![
        Value::String(e.name),
        Value::Case(e.kind as usize, None),
        Value::Num(Num::U64, e.size),
        option(e.modified.map(instant)),
    ])
}

fn boolean(v: &Value) -> Result<bool> {
    match v {
        Value::Bool(b) => Ok(*b),
        other => Err(Error::msg(format!("not a bool: {other:?}"))),
    }
}

fn optional<T>(v: Value, f: impl FnOnce(Value) -> Result<T>) -> Result<Option<T>> {
    match v {
        Value::Case(1, Some(v)) => f(*v).map(Some),
        _ => Ok(None),
    }
}

/// A time as the record `instant` has it; an error where it is none.
#[allow(clippy::type_complexity)]
fn time(v: Value) -> Result<Result<Option<SystemTime>, ()>> {
    let parts = optional(v, |v| {
        let [seconds, nanoseconds] = args(items(v)?)?;
        Ok((seconds.as_u64()? as i64, nanoseconds.as_u64()?))
    })?;
    let Some((seconds, nanoseconds)) = parts else {
        return Ok(Ok(None));
    };
    if nanoseconds >= 1_000_000_000 {
        return Ok(Err(()));
    }
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    Ok(at
        .and_then(|at| at.checked_add(Duration::from_nanos(nanoseconds)))
        .map(Some)
        .ok_or(()))
}
