//! `walking`: all that is below a directory, as a stream of folders.

use std::rc::Rc;

use wit_bindgen::{FutureReader, StreamReader, spawn_local};

use crate::Memory;
use crate::exports::loop_::fsx::files::DirBorrow;
use crate::exports::loop_::fsx::walking::{Folder, Guest, WalkOptions};
use crate::path::{self, join};
use crate::pattern::{Ignores, Patterns};
use crate::state::{self, Permit, with};
use crate::store::{Content, Id, Result, Root, Store};
use crate::{wit_future, wit_stream};

/// Names that are told at once, about.
const BATCH: usize = 2048;

impl Guest for Memory {
    async fn walk(
        dir: DirBorrow<'_>,
        path: String,
        options: WalkOptions,
    ) -> Result<(StreamReader<Folder>, FutureReader<Result<()>>)> {
        let root = state::root(&dir);
        let permit = Permit::take()?;
        let mut walk = with(|state| Walk::new(&state.store, root, &path, options))?;
        let (mut folders, stream) = wit_stream::new();
        let (end, ended) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            while let Some(found) = with(|state| walk.batch(&state.store)) {
                if !folders.write_all(found).await.is_empty() {
                    break;
                }
            }
            drop((folders, permit, walk));
            let _ = end.write(Ok(())).await; // or nobody wants to know
        });
        Ok((stream, ended))
    }
}

struct Walk {
    root: Rc<Root>,
    globs: Option<Patterns>,
    gitignore: bool,
    hidden: bool,
    max_depth: usize,
    left: Vec<Left>,
}

/// A directory still to be walked, or the rest of one.
struct Left {
    id: Id,
    /// Seen from the root; empty: the root itself.
    path: String,
    depth: usize,
    ignores: Option<Rc<Ignores>>,
    /// The last name that was looked at.
    after: Option<String>,
}

impl Walk {
    fn new(store: &Store, root: Rc<Root>, path: &str, options: WalkOptions) -> Result<Self> {
        let globs = match &options.globs[..] {
            [] => None,
            globs => Some(Patterns::new(globs)?),
        };
        let id = store.directory(&root, path)?;
        let parts = path::parts(path);
        let ignores = if options.gitignore {
            above(store, &root, &parts)
        } else {
            None
        };
        let first = Left {
            id,
            path: parts.join("/"),
            depth: 0,
            ignores,
            after: None,
        };
        Ok(Walk {
            root,
            globs,
            gitignore: options.gitignore,
            hidden: options.hidden,
            max_depth: options.max_depth.map_or(usize::MAX, |depth| depth as usize),
            left: vec![first],
        })
    }

    /// Folders with about so many names as are told at once; none: that was all.
    fn batch(&mut self, store: &Store) -> Option<Vec<Folder>> {
        let (mut found, mut names) = (vec![], 0);
        while names < BATCH {
            let Some(next) = self.left.pop() else { break };
            // what vanished meanwhile
            if store.is_directory(next.id) && store.is_within(next.id, self.root.top) {
                let (folder, looked) = self.look(store, next, BATCH - names);
                // an empty directory costs something too
                names += looked + 16;
                found.extend(folder);
            }
        }
        (!found.is_empty() || !self.left.is_empty()).then_some(found)
    }

    /// Looks at one directory, or at one more part of it: what was found, and how many names there were.
    fn look(&mut self, store: &Store, mut this: Left, most: usize) -> (Option<Folder>, usize) {
        let first = this.after.is_none();
        if self.gitignore && first {
            this.ignores = Ignores::with(this.ignores, store, this.id, &this.path);
        }
        let shown = if this.path.is_empty() { "." } else { &this.path };
        let mut folder = Folder {
            path: shown.into(),
            files: vec![],
            directories: vec![],
            links: vec![],
            others: vec![],
        };
        let from = match this.after.take() {
            None => std::ops::Bound::Unbounded,
            Some(name) => std::ops::Bound::Excluded(name),
        };
        let Ok(entries) = store.entries(this.id) else {
            return (None, 0);
        };
        let mut looked = 0;
        for (name, id) in entries.range((from, std::ops::Bound::Unbounded)) {
            looked += 1;
            self.meet(store, &this, name, *id, &mut folder);
            if looked == most {
                this.after = Some(name.clone());
                break;
            }
        }
        if this.after.is_some() {
            self.left.push(this);
        }
        let some = [&folder.files, &folder.directories, &folder.links];
        let show = some.iter().any(|names| !names.is_empty()) || (self.globs.is_none() && first);
        (show.then_some(folder), looked)
    }

    fn meet(&mut self, store: &Store, this: &Left, name: &str, id: Id, folder: &mut Folder) {
        let content = &store.node(id).content;
        let is_dir = matches!(content, Content::Directory(_));
        let path = join(&this.path, name);
        let is_link = matches!(content, Content::Link(_));
        if (name.starts_with('.') && !self.hidden)
            || (self.gitignore && is_dir && name == ".git")
            || this
                .ignores
                .as_ref()
                .is_some_and(|ignores| ignores.ignore(&path, is_dir))
            || (!is_link
                && self
                    .globs
                    .as_ref()
                    .is_some_and(|globs| globs.leave_out(&path, is_dir)))
        {
            return;
        }
        match content {
            Content::File(_) => folder.files.push(name.into()),
            Content::Directory(_) => {
                if self.globs.is_none() {
                    folder.directories.push(name.into());
                }
                if this.depth < self.max_depth && path.len() <= path::MAX_PATH {
                    self.left.push(Left {
                        id,
                        path,
                        depth: this.depth + 1,
                        ignores: this.ignores.clone(),
                        after: None,
                    });
                }
            }
            Content::Link(_) if self.globs.is_none() => folder.links.push(name.into()),
            Content::Link(_) => {}
        }
    }
}

/// The `.gitignore` files of the root and of the directories below it that `parts` leads through, none through a link.
fn above(store: &Store, root: &Root, parts: &[&str]) -> Option<Rc<Ignores>> {
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    let (mut all, mut dir, mut path) = (Ignores::with(None, store, root.top, ""), root.top, String::new());
    for part in &parts[..parts.len() - 1] {
        match store.lookup(dir, part).filter(|id| store.is_directory(*id)) {
            Some(id) => dir = id,
            None => break,
        }
        path = join(&path, part);
        all = Ignores::with(all, store, dir, &path);
    }
    all
}
