//! What changes below a directory, by inotify.
//!
//! The system takes watches by path, and a path may lead out by the time it is used. So each directory is opened
//! first, confined to the root and through no link, and it is the open directory that is watched, by its name in
//! `/proc/self/fd`.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use loop_engine::{Chunk, Neutral, Result, Source, Value};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Sleep;

use super::changes::{Changes, Due, Event};
use super::code::ErrorCode;
use super::listing::Listing;
use super::root::{Kind, Root, open_dir};

/// How long the second name of what was renamed may take to be told.
const PAIRING: Duration = Duration::from_millis(2);

/// Bytes of events that are taken from the system at once.
const BUFFER: usize = 16 << 10;

const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// How many directories all watches of a provider watch, and may.
pub(super) struct Watched {
    now: AtomicUsize,
    max: usize,
}

impl Watched {
    pub fn new(max: usize) -> Self {
        Watched {
            now: AtomicUsize::new(0),
            max,
        }
    }

    fn take(&self) -> Result<(), ErrorCode> {
        let more = self
            .now
            .fetch_update(Relaxed, Relaxed, |n| (n < self.max).then_some(n + 1));
        more.map(drop).map_err(|_| ErrorCode::Quota)
    }
}

pub(super) struct Options {
    pub recursive: bool,
    pub debounce: Option<Duration>,
    pub max_events: usize,
}

/// A watched directory: its name in the one above it.
struct Node {
    above: i32,
    name: String,
}

/// What was moved away and may come back under another name.
struct Moved {
    cookie: u32,
    path: String,
    /// The watch of it, where it is a watched directory.
    wd: Option<i32>,
    until: Instant,
}

/// The directories that are watched, and by what names they are known.
struct Tree {
    fd: OwnedFd,
    root: Arc<Root>,
    /// Seen from the root; empty: the root itself.
    top_path: String,
    top: i32,
    nodes: HashMap<i32, Node>,
    by_name: HashMap<(i32, String), i32>,
    recursive: bool,
    watched: Arc<Watched>,
}

/// Watches the directory at `path`: the stream of events, and the future of how it ended. It takes as long as the tree
/// is large.
pub(super) fn watch(
    io: &Handle,
    root: Arc<Root>,
    path: &str,
    options: &Options,
    watched: Arc<Watched>,
    permit: OwnedSemaphorePermit,
) -> Result<Value, ErrorCode> {
    let dir = root.spot(path)?.open_dir()?;
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    // `a/..` says nothing of where things are
    if parts.contains(&"..") {
        return Err(ErrorCode::Invalid);
    }
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| match e {
        Errno::MFILE => ErrorCode::Quota,
        e => io::Error::from(e).into(),
    })?;
    let mut tree = Tree {
        fd,
        root,
        top_path: parts.join("/"),
        top: 0,
        nodes: HashMap::new(),
        by_name: HashMap::new(),
        recursive: options.recursive,
        watched,
    };
    tree.top = tree.add(&dir, -1, "")?;
    if tree.recursive {
        tree.add_below(tree.top, dir, &mut |_| ())?;
    }
    let fd = tree.fd.try_clone()?;
    let _entered = io.enter();
    // SAFETY: an `OwnedFd` names the same open file for as long as it is there.
    let ready = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    let ready = ready.map_err(|_| ErrorCode::Unsupported)?;
    let changes = Changes::new(options.max_events, options.debounce);
    Ok(super::stream::with_end(|ended| {
        crate::value::stream(Watching {
            io: io.clone(),
            tree,
            ready,
            changes,
            moved: None,
            timer: None,
            end: None,
            ended: Some(ended),
            _permit: permit,
        })
    }))
}

impl Tree {
    /// Watches an open directory.
    fn add(&mut self, dir: &Dir, above: i32, name: &str) -> Result<i32, ErrorCode> {
        self.watched.take()?;
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let wd = inotify::add_watch(&self.fd, path, MASK);
        let wd = match wd {
            Ok(wd) => wd,
            Err(e) => {
                self.watched.now.fetch_sub(1, Relaxed);
                return Err(match e {
                    // as many as the system lets one user have
                    Errno::NOSPC => ErrorCode::Quota,
                    Errno::NOENT => ErrorCode::Unsupported,
                    e => io::Error::from(e).into(),
                });
            }
        };
        let node = Node {
            above,
            name: name.into(),
        };
        if let Some(known) = self.nodes.insert(wd, node) {
            self.watched.now.fetch_sub(1, Relaxed);
            self.by_name.remove(&(known.above, known.name));
        }
        self.by_name.insert((above, name.into()), wd);
        Ok(wd)
    }

    /// Watches all directories below one, and tells of what is there.
    fn add_below(&mut self, wd: i32, dir: Dir, found: &mut dyn FnMut(String)) -> Result<(), ErrorCode> {
        let mut waiting = vec![(wd, dir)];
        // they wait as paths, but for the first: few descriptors are open
        let mut paths: Vec<(i32, String)> = vec![];
        loop {
            let (wd, dir) = match waiting.pop() {
                Some(next) => next,
                None => {
                    let Some((above, name)) = paths.pop() else {
                        return Ok(());
                    };
                    let Some(path) = self.path(above, &name) else {
                        continue;
                    };
                    let dir = match open_dir(&self.root.dir, &path, false) {
                        Ok(dir) => dir,
                        // it vanished, or may not be read
                        Err(_) => continue,
                    };
                    (self.add(&dir, above, &name)?, dir)
                }
            };
            let Some(here) = self.path(wd, "") else { continue };
            let mut listing = Listing::new(dir);
            loop {
                let more = listing.some(&mut |name, kind| {
                    found(join(&here, name));
                    if kind == Kind::Directory {
                        paths.push((wd, name.into()));
                    }
                });
                match more {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        }
    }

    /// The path of `name` in a watched directory; empty: of that itself.
    fn path(&self, wd: i32, name: &str) -> Option<String> {
        let mut parts = vec![];
        let mut at = wd;
        while at != self.top {
            let node = self.nodes.get(&at)?;
            parts.push(node.name.as_str());
            at = node.above;
            if parts.len() > self.nodes.len() {
                return None;
            }
        }
        parts.push(&self.top_path);
        let path = parts
            .into_iter()
            .rev()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        Some(join(&path, name))
    }

    /// Forgets a directory that is not there any more, with all below it. `still`: the system watches it still.
    fn forget(&mut self, wd: i32, still: bool) {
        let mut gone = vec![wd];
        while let Some(wd) = gone.pop() {
            let Some(node) = self.nodes.remove(&wd) else {
                continue;
            };
            self.watched.now.fetch_sub(1, Relaxed);
            self.by_name.remove(&(node.above, node.name));
            if still {
                let _ = inotify::remove_watch(&self.fd, wd);
            }
            gone.extend(
                self.nodes
                    .iter()
                    .filter(|(_, node)| node.above == wd)
                    .map(|(&wd, _)| wd),
            );
        }
    }

    /// Something new in a watched directory, and what is in it if it is one.
    fn created(
        &mut self,
        above: i32,
        name: &str,
        is_dir: bool,
        changes: &mut Changes,
    ) -> Result<(), ErrorCode> {
        let Some(path) = self.path(above, name) else {
            return Ok(());
        };
        changes.push(Event::Created(path.clone()));
        self.enter(above, name, &path, is_dir, changes)
    }

    /// Watches what is new, if it is a folder, and tells what is in it already.
    fn enter(
        &mut self,
        above: i32,
        name: &str,
        path: &str,
        is_dir: bool,
        changes: &mut Changes,
    ) -> Result<(), ErrorCode> {
        if !is_dir || !self.recursive {
            return Ok(());
        }
        // what is no more by then, or may not be read, is not watched
        let Ok(dir) = open_dir(&self.root.dir, path, false) else {
            return Ok(());
        };
        let wd = self.add(&dir, above, name)?;
        self.add_below(wd, dir, &mut |path| changes.push(Event::Created(path)))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.watched.now.fetch_sub(self.nodes.len(), Relaxed);
    }
}

fn join(above: &str, name: &str) -> String {
    match (above, name) {
        ("", name) => name.into(),
        (above, "") => above.into(),
        (above, name) => format!("{above}/{name}"),
    }
}

/// The host's end of the stream.
struct Watching {
    io: Handle,
    tree: Tree,
    ready: AsyncFd<OwnedFd>,
    changes: Changes,
    moved: Option<Moved>,
    timer: Option<Pin<Box<Sleep>>>,
    end: Option<ErrorCode>,
    ended: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    _permit: OwnedSemaphorePermit,
}

/// An event of the system.
struct Raw {
    wd: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<String>,
}

impl Watching {
    /// Takes all that the system has to tell now.
    fn drain(&mut self, cx: &mut Context<'_>) -> Result<(), ErrorCode> {
        loop {
            let Poll::Ready(ready) = self.ready.poll_read_ready(cx) else {
                return Ok(());
            };
            let mut ready = ready?;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = Reader::new(&self.tree.fd, &mut buffer);
            let mut raw = vec![];
            let drained = loop {
                match reader.next() {
                    Ok(event) => raw.push(Raw {
                        wd: event.wd(),
                        flags: event.events(),
                        cookie: event.cookie(),
                        name: event.file_name().map(|name| name.to_string_lossy().into_owned()),
                    }),
                    Err(Errno::AGAIN) => break true,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(io::Error::from(e).into()),
                }
                // what is read is told before more is
                if reader.is_buffer_empty() && raw.len() >= 256 {
                    break false;
                }
            };
            if drained {
                ready.clear_ready();
            }
            for event in raw {
                self.take(event)?;
            }
            if !drained {
                // this task is to be polled again, whether or not anything new comes
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: Raw) -> Result<(), ErrorCode> {
        let Raw {
            wd,
            flags,
            cookie,
            name,
        } = event;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.changes.push(Event::Overflow);
            return self.look_again();
        }
        let is_dir = flags.contains(ReadFlags::ISDIR);
        if flags.contains(ReadFlags::MOVED_TO) {
            return self.moved_to(wd, cookie, name.as_deref().unwrap_or(""), is_dir);
        }
        // the second name comes right after the first, or not at all
        self.let_go();
        if wd == self.tree.top {
            let moved = flags.contains(ReadFlags::MOVE_SELF) && !self.tree.top_path.is_empty();
            if moved || flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED) {
                return Err(ErrorCode::NoEntry);
            }
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.tree.forget(wd, false);
            return Ok(());
        }
        // those of a directory itself come from the one above it as well
        let (Some(name), true) = (name, self.tree.nodes.contains_key(&wd)) else {
            return Ok(());
        };
        if name.contains('\u{fffd}') {
            return Ok(()); // not UTF-8
        }
        if flags.contains(ReadFlags::CREATE) {
            return self.tree.created(wd, &name, is_dir, &mut self.changes);
        }
        let Some(path) = self.tree.path(wd, &name) else {
            return Ok(());
        };
        if flags.contains(ReadFlags::MODIFY) {
            self.changes.push(Event::Modified(path));
        } else if flags.contains(ReadFlags::DELETE) {
            self.changes.push(Event::Removed(path));
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            let wd = self.tree.by_name.get(&(wd, name)).copied().filter(|_| is_dir);
            self.moved = Some(Moved {
                cookie,
                path,
                wd,
                until: Instant::now() + PAIRING,
            });
        }
        Ok(())
    }

    fn moved_to(&mut self, above: i32, cookie: u32, name: &str, is_dir: bool) -> Result<(), ErrorCode> {
        let Some(moved) = self.moved.take_if(|moved| moved.cookie == cookie) else {
            self.let_go();
            return self.tree.created(above, name, is_dir, &mut self.changes);
        };
        let Some(path) = self.tree.path(above, name) else {
            return Ok(());
        };
        let known = moved.wd.is_some();
        if let Some(wd) = moved.wd
            && let Some(mut node) = self.tree.nodes.remove(&wd)
        {
            self.tree.by_name.remove(&(node.above, node.name));
            (node.above, node.name) = (above, name.to_string());
            self.tree.nodes.insert(wd, node);
            self.tree.by_name.insert((above, name.into()), wd);
        }
        self.changes.push(Event::Renamed(moved.path, path.clone()));
        if known {
            return Ok(());
        }
        // made, and named anew before it was looked at
        self.tree.enter(above, name, &path, is_dir, &mut self.changes)
    }

    /// What was moved and did not come back is gone, and what is in it is no business of ours.
    fn let_go(&mut self) {
        if let Some(moved) = self.moved.take() {
            if let Some(wd) = moved.wd {
                self.tree.forget(wd, true);
            }
            self.changes.push(Event::Removed(moved.path));
        }
    }

    /// Watches what may have been missed.
    fn look_again(&mut self) -> Result<(), ErrorCode> {
        self.moved = None;
        if !self.tree.recursive {
            return Ok(());
        }
        let Some(path) = self.tree.path(self.tree.top, "") else {
            return Ok(());
        };
        let path = if path.is_empty() { "." } else { &path };
        let Ok(dir) = open_dir(&self.tree.root.dir, path, false) else {
            return Ok(());
        };
        self.tree.add_below(self.tree.top, dir, &mut |_| ())
    }

    /// Whether `at` has come; else whoever polls is woken then.
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = tokio::time::Instant::from_std(at);
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                timer
            }
            None => {
                let _entered = self.io.enter();
                self.timer.insert(Box::pin(tokio::time::sleep_until(at)))
            }
        };
        timer.as_mut().poll(cx)
    }
}

impl Source<Neutral> for Watching {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        loop {
            if self.end.is_none()
                && let Err(code) = self.drain(cx)
            {
                self.let_go();
                self.end = Some(code);
            }
            if let Some(until) = self.moved.as_ref().map(|moved| moved.until) {
                if self.poll_until(until, cx).is_pending() {
                    return Poll::Pending;
                }
                self.let_go();
            }
            match self.changes.due() {
                Some(Due::At(at)) if self.end.is_none() => {
                    if self.poll_until(at, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Some(_) => {
                    let told = self.changes.take().into_iter().map(Value::from).collect();
                    return Poll::Ready(Ok(Some(Chunk::Values(told))));
                }
                None => break,
            }
        }
        let Some(code) = &self.end else {
            return Poll::Pending;
        };
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(Err(code.clone()));
        }
        Poll::Ready(Ok(None))
    }
}
