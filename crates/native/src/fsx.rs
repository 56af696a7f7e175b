//! `loop:fsx`: read-only files below the roots that a grant names.
//!
//! Config: none. Grant: `{ roots: { NAME: { path, mode } }, max-read, max-entries }`, see [`Grant`].

mod code;
mod glob;
mod root;
mod stream;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use loop_engine::{Error, Import, Neutral, Num, Result, Value};
use serde::Deserialize;
use serde_json::Value as Json;

use self::code::ErrorCode;
use self::root::{Entry, Root};
use crate::error::{NoConfig, Table, settings};
use crate::value::{args, instant, option, string};
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "fsx",
    interfaces: &["loop:fsx/files@0.1.0-dev", "loop:fsx/streaming@0.1.0-dev"],
    provide,
};

/// What a component may read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Grant {
    /// Directories by the name that the component knows them by. Default: none.
    roots: BTreeMap<String, Table<RootGrant>>,
    /// Bytes that `read` and `read-range` return at most. Default: 16 MiB.
    max_read: NonZeroUsize,
    /// Entries or paths that `list` and `glob` return at most. Default: 100,000.
    max_entries: NonZeroUsize,
}

impl Default for Grant {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        Grant {
            roots: BTreeMap::new(),
            max_read: size(16 << 20),
            max_entries: size(100_000),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootGrant {
    /// The directory on the host, absolute.
    path: PathBuf,
    /// What may be done there. Default: `ro`.
    #[serde(default, rename = "mode")]
    _mode: Mode,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
}

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let NoConfig {} = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let mut roots = BTreeMap::new();
    for (name, Table(RootGrant { path, .. })) in grant.roots {
        let refuse = |problem: String| ProviderError::new(format!("grant.roots.{name}.path"), problem);
        if !path.is_absolute() {
            return Err(refuse(format!(
                "`{}` is relative; write the absolute path",
                path.display()
            )));
        }
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(|e| {
            refuse(format!(
                "`{}` cannot be opened ({e}); name a directory that exists",
                path.display()
            ))
        })?;
        let root = Root {
            dir,
            max_read: grant.max_read.get(),
            max_entries: grant.max_entries.get(),
        };
        roots.insert(name, Arc::new(root));
    }
    let roots = Arc::new(roots);
    let named = roots.clone();
    let functions = [
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
                let root = named.get(name.as_str()?).ok_or(ErrorCode::NotPermitted);
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
        ("streaming#read-stream", read_stream(host.io)),
    ];
    Ok(Provider {
        functions: functions.into(),
    })
}

/// A method of `dir` with one string; it runs on the caller's thread: a hop costs more than most reads.
fn on_path(f: impl Fn(&Root, &str) -> Result<Value, ErrorCode> + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| {
        let [root, path] = args(a)?;
        answer(f(&*root.as_host::<Root>()?, path.as_str()?))
    })
}

fn read_stream(io: tokio::runtime::Handle) -> Import<Neutral> {
    Import::later(move |a| {
        let io = io.clone();
        async move {
            let [root, path, offset] = args(a)?;
            let (root, path, offset) = (root.as_host::<Root>()?, string(path)?, offset.as_u64()?);
            let opened = io
                .spawn_blocking(move || root.open_at(&path, offset))
                .await
                .map_err(Error::new)?;
            answer(opened.map(|file| {
                let (bytes, end) = stream::read_ahead(io, file);
                Value::Fields(vec![bytes, end])
            }))
        }
    })
}

fn answer(result: Result<Value, ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(Some(v)),
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
