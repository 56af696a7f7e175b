//! A walk by several threads, as a stream of folders.
//!
//! A directory waits as a path and is opened, confined to the root, when its turn comes: however much waits, few
//! descriptors are open. Threads work as long as somebody reads; those of a walk that nobody reads are given back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use ignore::overrides::Override;
use loop_engine::{Chunk, Neutral, Result, Source, Value};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::code::ErrorCode;
use super::glob;
use super::ignores::Ignores;
use super::listing::Listing;
use super::root::{Kind, MAX_PATH, Root, open_dir};

/// Batches of folders that are found ahead.
const AHEAD: usize = 8;

/// Names in a batch, about.
const BATCH: usize = 2048;

const MAX_THREADS: usize = 8;

/// Directories that may wait; a walk of wider trees ends with `message-size`.
const MAX_WAITING: usize = 1 << 20;

/// What a walk looks for.
pub(super) struct Options {
    globs: Option<Override>,
    gitignore: bool,
    hidden: bool,
    max_depth: usize,
}

impl Options {
    pub fn new(
        globs: &[&str],
        gitignore: bool,
        hidden: bool,
        max_depth: Option<u32>,
    ) -> Result<Self, ErrorCode> {
        Ok(Options {
            globs: if globs.is_empty() {
                None
            } else {
                Some(glob::compile(globs)?)
            },
            gitignore,
            hidden,
            max_depth: max_depth.map_or(usize::MAX, |depth| depth as usize),
        })
    }
}

/// A directory still to be walked.
struct Waiting {
    /// Seen from the root; empty: the root itself.
    path: String,
    depth: usize,
    ignores: Option<Arc<Ignores>>,
    /// It is open, and the rest of it is still to be read.
    open: Option<Listing>,
}

struct Walk {
    io: Handle,
    root: Arc<Root>,
    options: Options,
    threads: usize,
    state: Mutex<State>,
    cancelled: AtomicBool,
}

struct State {
    waiting: Vec<Waiting>,
    working: usize,
    /// Gone once all is found: then the channel ends.
    tx: Option<mpsc::Sender<Vec<Value>>>,
    failed: Option<ErrorCode>,
}

/// Begins to walk the directory at `path`: the stream of folders, and the future of how it ended.
pub(super) fn walk(
    io: Handle,
    root: Arc<Root>,
    path: &str,
    options: Options,
    permit: OwnedSemaphorePermit,
) -> Result<Value, ErrorCode> {
    let open = Listing::new(root.spot(path)?.open_dir()?);
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let ignores = if options.gitignore {
        Ignores::above(&root.dir, &parts)
    } else {
        None
    };
    let (tx, rx) = mpsc::channel(AHEAD);
    let first = Waiting {
        path: parts.join("/"),
        depth: 0,
        ignores,
        open: Some(open),
    };
    let walk = Arc::new(Walk {
        io,
        root,
        options,
        threads: std::thread::available_parallelism()
            .map_or(1, |n| n.get())
            .min(MAX_THREADS),
        state: Mutex::new(State {
            waiting: vec![first],
            working: 0,
            tx: Some(tx),
            failed: None,
        }),
        cancelled: AtomicBool::new(false),
    });
    Ok(super::stream::with_end(|ended| {
        crate::value::stream(Walking {
            walk,
            rx,
            ended: Some(ended),
            _permit: permit,
        })
    }))
}

impl Walk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics here")
    }

    /// Has as many threads work as there is work and room for.
    fn go_on(self: &Arc<Self>, state: &mut State) {
        let room = state.tx.as_ref().map_or(0, mpsc::Sender::capacity);
        let want = self
            .threads
            .min(state.waiting.len() + state.working)
            .min(room + state.working);
        while state.working < want {
            state.working += 1;
            let walk = self.clone();
            self.io.spawn_blocking(move || walk.work());
        }
    }

    /// One thread's work, until there is no more, or no room for what it would find.
    fn work(self: &Arc<Self>) {
        loop {
            let tx = self.lock().tx.clone();
            if let Some(tx) = tx
                && let Ok(permit) = tx.try_reserve()
            {
                let found = self.batch();
                if !found.is_empty() {
                    permit.send(found);
                }
            }
            let mut state = self.lock();
            let room = state.tx.as_ref().is_some_and(|tx| tx.capacity() > 0);
            if !state.waiting.is_empty() && room && !self.cancelled.load(Relaxed) {
                continue;
            }
            // whoever read since then saw us at work, so that the room was looked at under the lock
            state.working -= 1;
            if state.working == 0 && state.waiting.is_empty() {
                state.tx = None;
            }
            return;
        }
    }

    /// Folders with about so many names as make a batch.
    fn batch(self: &Arc<Self>) -> Vec<Value> {
        let (mut found, mut names) = (vec![], 0);
        while names < BATCH && !self.cancelled.load(Relaxed) {
            let Some(next) = self.lock().waiting.pop() else {
                break;
            };
            match self.look(next) {
                Ok((folder, looked)) => {
                    // an empty directory costs something too
                    names += looked + 16;
                    found.extend(folder);
                }
                // what vanished or changed meanwhile, and what may not be read
                Err(
                    ErrorCode::Access
                    | ErrorCode::NoEntry
                    | ErrorCode::NotDirectory
                    | ErrorCode::Loop
                    | ErrorCode::NotPermitted,
                ) => {}
                Err(code) => {
                    let mut state = self.lock();
                    state.failed.get_or_insert(code);
                    state.waiting.clear();
                }
            }
        }
        found
    }

    /// Looks at one directory, or at one more part of it: what was found, and how many names there were.
    fn look(self: &Arc<Self>, mut this: Waiting) -> Result<(Option<Value>, usize), ErrorCode> {
        let mut listing = match this.open.take() {
            Some(open) => open,
            None => Listing::new(open_dir(&self.root.dir, &this.path, false)?),
        };
        if self.options.gitignore && !listing.begun() {
            this.ignores = Ignores::with(this.ignores.take(), listing.dir(), &this.path);
        }
        let mut folder = Folder::default();
        let mut below = vec![];
        let mut looked = 0;
        let above = if this.path.is_empty() {
            String::new()
        } else {
            format!("{}/", this.path)
        };
        // the path of each name in turn
        let mut path = above.clone();
        let more = listing.some(&mut |name, kind| {
            looked += 1;
            if name.starts_with('.') && !self.options.hidden {
                return;
            }
            path.truncate(above.len());
            path.push_str(name);
            let is_dir = kind == Kind::Directory;
            if self.options.gitignore && is_dir && name == ".git" {
                return;
            }
            if this
                .ignores
                .as_ref()
                .is_some_and(|ignores| ignores.ignores(&path, is_dir))
            {
                return;
            }
            let globs = self.options.globs.as_ref();
            if (is_dir || kind == Kind::RegularFile)
                && globs.is_some_and(|globs| globs.matched(Path::new(&path), is_dir).is_ignore())
            {
                return;
            }
            match kind {
                Kind::RegularFile => folder.files.push(Value::string(name)),
                Kind::Directory => {
                    if globs.is_none() {
                        folder.directories.push(Value::string(name));
                    }
                    if this.depth < self.options.max_depth && path.len() <= MAX_PATH {
                        below.push(path.clone());
                    }
                }
                Kind::SymbolicLink if globs.is_none() => folder.links.push(Value::string(name)),
                Kind::Other if globs.is_none() => folder.others.push(Value::string(name)),
                _ => {}
            }
        })?;
        let first = !listing.was_continued();
        let shown = if this.path.is_empty() {
            ".".to_string()
        } else {
            this.path.clone()
        };
        if more || !below.is_empty() {
            let mut state = self.lock();
            if state.waiting.len() + below.len() > MAX_WAITING {
                return Err(ErrorCode::MessageSize);
            }
            if state.failed.is_none() && !self.cancelled.load(Relaxed) {
                state.waiting.extend(below.into_iter().map(|path| Waiting {
                    path,
                    depth: this.depth + 1,
                    ignores: this.ignores.clone(),
                    open: None,
                }));
                if more {
                    listing.keep();
                    state.waiting.push(Waiting {
                        open: Some(listing),
                        ..this
                    });
                }
                self.go_on(&mut state);
            }
        }
        let show = !folder.is_empty() || (self.options.globs.is_none() && first);
        Ok((show.then(|| folder.value(shown)), looked))
    }
}

/// The record `folder`, without its path.
#[derive(Default)]
struct Folder {
    files: Vec<Value>,
    directories: Vec<Value>,
    links: Vec<Value>,
    others: Vec<Value>,
}

impl Folder {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.directories.is_empty()
            && self.links.is_empty()
            && self.others.is_empty()
    }

    fn value(self, path: String) -> Value {
        let lists = [self.files, self.directories, self.links, self.others];
        let fields = std::iter::once(Value::String(path)).chain(lists.map(Value::List));
        Value::Fields(fields.collect())
    }
}

/// The host's end of the stream.
struct Walking {
    walk: Arc<Walk>,
    rx: mpsc::Receiver<Vec<Value>>,
    ended: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    _permit: OwnedSemaphorePermit,
}

impl Source<Neutral> for Walking {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        {
            let mut state = self.walk.lock();
            self.walk.go_on(&mut state);
        }
        if let Some(found) = ready!(self.rx.poll_recv(cx)) {
            return Poll::Ready(Ok(Some(Chunk::Values(found))));
        }
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(self.walk.lock().failed.take().map_or(Ok(()), Err));
        }
        Poll::Ready(Ok(None))
    }
}

impl Drop for Walking {
    fn drop(&mut self) {
        self.walk.cancelled.store(true, Relaxed);
        let left = std::mem::take(&mut self.walk.lock().waiting);
        drop(left);
    }
}
