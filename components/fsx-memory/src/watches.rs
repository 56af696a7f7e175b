//! Who watches what, and what they are told.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use crate::changes::Changes;
use crate::exports::loop_::fsx::files::ErrorCode;
use crate::exports::loop_::fsx::watching::{Event, Renaming};
use crate::grant::Grant;
use crate::path::{Spot, join};
use crate::store::{Content, Directory, Id, Result, Store};

/// A watched directory.
pub struct Watch {
    top: Id,
    /// As it is told: seen from the root; empty: the root itself.
    path: String,
    recursive: bool,
    pub telling: RefCell<Telling>,
}

/// What is to be told.
pub struct Telling {
    pub changes: Changes,
    /// Why there will be no more.
    pub end: Option<ErrorCode>,
    /// Whether somebody asks if the stream is still read.
    pub asked: bool,
    /// Whether events are being read: then the stream tells by itself when it is not read any more.
    pub writing: bool,
    /// Wakes who tells.
    pub waker: Option<Waker>,
    /// How many directories it watches.
    directories: usize,
}

impl Telling {
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn push(&mut self, event: Event) {
        self.changes.push(event);
        self.wake();
    }

    fn end(&mut self, code: ErrorCode) {
        self.end.get_or_insert(code);
        self.wake();
    }
}

#[derive(Default)]
pub struct Watches {
    all: Vec<Rc<Watch>>,
    max: usize,
    max_directories: usize,
    max_events: usize,
}

impl Watches {
    pub fn bound(&mut self, grant: &Grant) {
        self.max = grant.max_watches.get();
        self.max_directories = grant.max_watched.get();
        self.max_events = grant.max_events.get();
    }

    pub fn is_full(&self) -> bool {
        self.all.len() >= self.max
    }

    /// Those who do not tell anything just now.
    pub fn idle(&self) -> Vec<Rc<Watch>> {
        let idle = |watch: &&Rc<Watch>| !watch.telling.borrow().writing;
        self.all.iter().filter(idle).cloned().collect()
    }

    pub fn remove(&mut self, watch: &Rc<Watch>) {
        self.all.retain(|other| !Rc::ptr_eq(other, watch));
    }

    /// Counts so many more directories of a watch, which ends with `quota` where these are too many.
    fn more(&self, watch: &Watch, count: usize) {
        let now: usize = self.all.iter().map(|w| w.telling.borrow().directories).sum();
        let mut telling = watch.telling.borrow_mut();
        telling.directories += count;
        if now + count > self.max_directories {
            telling.end(ErrorCode::Quota);
        }
    }
}

impl Store {
    /// Watches a directory.
    pub fn watch(
        &mut self,
        top: Id,
        path: String,
        recursive: bool,
        debounce: Option<u64>,
    ) -> Result<Rc<Watch>> {
        if self.watches.is_full() {
            return Err(ErrorCode::Quota);
        }
        let directories = if recursive { self.directories(top) } else { 1 };
        let all = self.watches.all.iter();
        let now: usize = all.map(|watch| watch.telling.borrow().directories).sum();
        if now + directories > self.watches.max_directories {
            return Err(ErrorCode::Quota);
        }
        let watch = Rc::new(Watch {
            top,
            path,
            recursive,
            telling: RefCell::new(Telling {
                changes: Changes::new(self.watches.max_events, debounce),
                end: None,
                asked: false,
                writing: false,
                waker: None,
                directories,
            }),
        });
        self.watches.all.push(watch.clone());
        Ok(watch)
    }

    /// How many directories there are at and below one; none where it is none.
    fn directories(&self, id: Id) -> usize {
        if !self.is_directory(id) {
            return 0;
        }
        1 + self
            .below(id)
            .iter()
            .filter(|(_, _, id)| self.is_directory(*id))
            .count()
    }

    /// The path that a watch tells of a name in a directory; none where it is none of its business.
    fn told(&self, watch: &Watch, dir: Id, name: &str) -> Option<String> {
        if !watch.recursive && dir != watch.top {
            return None;
        }
        let (mut names, mut at) = (vec![name], dir);
        while at != watch.top {
            let Content::Directory(Directory {
                above: Some((above, name)),
                ..
            }) = &self.get(at)?.content
            else {
                return None;
            };
            names.push(name);
            at = *above;
        }
        names.reverse();
        Some(join(&watch.path, &names.join("/")))
    }

    /// There is something new.
    pub fn tell_created(&self, dir: Id, name: &str, id: Id) {
        for watch in &self.watches.all {
            if let Some(path) = self.told(watch, dir, name) {
                self.tell_new(watch, path, id);
            }
        }
    }

    fn tell_new(&self, watch: &Watch, path: String, id: Id) {
        watch.telling.borrow_mut().push(Event::Created(path));
        if !watch.recursive || !self.is_directory(id) {
            return;
        }
        let below = self.below(id);
        for (dir, name, _) in &below {
            if let Some(path) = self.told(watch, *dir, name) {
                watch.telling.borrow_mut().push(Event::Created(path));
            }
        }
        self.watches.more(watch, self.directories(id));
    }

    /// The contents of a file changed.
    pub fn tell_modified(&self, dir: Id, name: &str) {
        for watch in &self.watches.all {
            if let Some(path) = self.told(watch, dir, name) {
                watch.telling.borrow_mut().push(Event::Modified(path));
            }
        }
    }

    /// Something is about to be removed.
    pub fn tell_removed(&self, dir: Id, name: &str, id: Id) {
        for watch in &self.watches.all {
            if let Some(path) = self.told(watch, dir, name) {
                watch.telling.borrow_mut().push(Event::Removed(path));
            }
        }
        self.tell_gone(id);
    }

    /// What has been there is about to go; if it is a directory there is nothing in it.
    pub fn tell_gone(&self, id: Id) {
        if !self.is_directory(id) {
            return;
        }
        for watch in &self.watches.all {
            if watch.top == id {
                watch.telling.borrow_mut().end(ErrorCode::NoEntry);
            } else if watch.recursive && self.is_within(id, watch.top) {
                watch.telling.borrow_mut().directories -= 1;
            }
        }
    }

    /// Something has another name.
    pub fn tell_renamed(&self, from: &Spot, to: &Spot, id: Id) {
        for watch in &self.watches.all {
            let old = self.told(watch, from.dir, &from.name);
            let new = self.told(watch, to.dir, &to.name);
            match (old, new) {
                (Some(old), Some(new)) => {
                    let event = Event::Renamed(Renaming { old, new });
                    watch.telling.borrow_mut().push(event);
                }
                (Some(old), None) => {
                    let mut telling = watch.telling.borrow_mut();
                    telling.push(Event::Removed(old));
                    if watch.recursive {
                        telling.directories -= self.directories(id);
                    }
                }
                (None, Some(new)) => self.tell_new(watch, new, id),
                (None, None) => {}
            }
            if watch.top == id {
                watch.telling.borrow_mut().end(ErrorCode::NoEntry);
            }
        }
    }
}
