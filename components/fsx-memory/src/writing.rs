//! `writing`.

use std::rc::Rc;

use crate::Memory;
use crate::exports::loop_::fsx::files::{DirBorrow, ErrorCode, Instant};
use crate::exports::loop_::fsx::writing::{Copied, Guest};
use crate::grant::Links;
use crate::path::{self, Spot};
use crate::state::{self, with};
use crate::store::{Id, MAX_SIZE, Node, Result, Root, Store};

/// A file that is open to be written.
pub struct Open {
    pub id: Id,
    /// Where it was found, to tell who watches.
    pub spot: Spot,
}

/// Opens a file; where it is missing it is made, if `create`.
pub fn open(store: &mut Store, root: &Root, path: &str, create: bool) -> Result<Open> {
    let volume = root.to_change()?;
    let spot = store.reach(root, path, true, create)?;
    let id = match store.at(&spot) {
        Some(id) => {
            store.bytes(id)?;
            id
        }
        None => store.create(volume, spot.dir, &spot.name, Node::file(vec![]))?,
    };
    Ok(Open { id, spot })
}

impl Open {
    pub fn tell(&self, store: &mut Store) {
        store.tell_modified(self.spot.dir, &self.spot.name);
    }
}

/// Where an atomic write goes: a name that no directory has.
pub fn target(store: &Store, root: &Root, path: &str) -> Result<Spot> {
    root.to_change()?;
    let spot = store.parent(root, path, true)?;
    if store.at(&spot).is_some_and(|id| store.is_directory(id)) {
        return Err(ErrorCode::IsDirectory);
    }
    Ok(spot)
}

fn change<R>(dir: &DirBorrow<'_>, f: impl FnOnce(&mut Store, Rc<Root>) -> Result<R>) -> Result<R> {
    let root = state::root(dir);
    with(|state| {
        root.to_change()?;
        f(&mut state.store, root)
    })
}

fn change_both<R>(
    dir: &DirBorrow<'_>,
    to: &DirBorrow<'_>,
    f: impl FnOnce(&mut Store, Rc<Root>, Rc<Root>) -> Result<R>,
) -> Result<R> {
    let to = state::root(to);
    change(dir, |store, from| {
        to.to_change()?;
        f(store, from, to)
    })
}

impl Guest for Memory {
    fn write(dir: DirBorrow<'_>, path: String, data: Vec<u8>) -> Result<()> {
        change(&dir, |store, root| {
            let file = open(store, &root, &path, true)?;
            store.set(file.id, data)?;
            file.tell(store);
            Ok(())
        })
    }

    fn write_new(dir: DirBorrow<'_>, path: String, data: Vec<u8>) -> Result<()> {
        change(&dir, |store, root| {
            let there = store.reach(&root, &path, false, false)?;
            if store.at(&there).is_some() {
                return Err(ErrorCode::Exist);
            }
            let file = open(store, &root, &path, true)?;
            store.set(file.id, data)
        })
    }

    fn write_range(dir: DirBorrow<'_>, path: String, offset: u64, data: Vec<u8>) -> Result<()> {
        change(&dir, |store, root| {
            // before anything is made
            if offset.saturating_add(data.len() as u64) > MAX_SIZE {
                return Err(ErrorCode::FileTooLarge);
            }
            let file = open(store, &root, &path, true)?;
            store.put(file.id, offset, &data)?;
            file.tell(store);
            Ok(())
        })
    }

    fn append(dir: DirBorrow<'_>, path: String, data: Vec<u8>) -> Result<()> {
        change(&dir, |store, root| {
            let file = open(store, &root, &path, true)?;
            store.put(file.id, store.node(file.id).size(), &data)?;
            file.tell(store);
            Ok(())
        })
    }

    fn write_atomic(dir: DirBorrow<'_>, path: String, data: Vec<u8>, _durable: bool) -> Result<()> {
        change(&dir, |store, root| {
            let spot = target(store, &root, &path)?;
            let id = store.unnamed(root.volume)?;
            if let Err(code) = store.set(id, data) {
                store.forget(root.volume, id);
                return Err(code);
            }
            store.name(root.volume, spot.dir, &spot.name, id);
            Ok(())
        })
    }

    fn truncate(dir: DirBorrow<'_>, path: String, size: u64) -> Result<()> {
        change(&dir, |store, root| {
            let file = open(store, &root, &path, false)?;
            store.set_size(file.id, size)?;
            file.tell(store);
            Ok(())
        })
    }

    fn create_directory(dir: DirBorrow<'_>, path: String) -> Result<()> {
        change(&dir, |store, root| make(store, &root, &path))
    }

    fn create_directories(dir: DirBorrow<'_>, path: String) -> Result<()> {
        change(&dir, |store, root| {
            path::checked(&path)?;
            let ends = path.trim_end_matches('/').match_indices('/').map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                let part = &path[..end];
                match make(store, &root, part) {
                    Ok(()) | Err(ErrorCode::Exist | ErrorCode::Invalid) => {}
                    // what ends in dots is there or is not, and nothing makes it
                    Err(ErrorCode::NotPermitted) if part.ends_with("..") => {}
                    Err(code) => return Err(code),
                }
                store.directory(&root, part)?;
            }
            Ok(())
        })
    }

    fn rename(dir: DirBorrow<'_>, path: String, to_dir: DirBorrow<'_>, to: String) -> Result<()> {
        change_both(&dir, &to_dir, |store, root, to_root| {
            store.rename(&root, &path, &to_root, &to)
        })
    }

    fn remove_file(dir: DirBorrow<'_>, path: String) -> Result<()> {
        change(&dir, |store, root| {
            let spot = store.parent(&root, &path, true)?;
            let id = store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            if store.is_directory(id) {
                return Err(ErrorCode::IsDirectory);
            }
            store.remove(root.volume, spot.dir, &spot.name);
            Ok(())
        })
    }

    fn remove_directory(dir: DirBorrow<'_>, path: String) -> Result<()> {
        change(&dir, |store, root| {
            let spot = store.parent(&root, &path, false)?;
            let id = store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            if !store.entries(id)?.is_empty() {
                return Err(ErrorCode::NotEmpty);
            }
            store.remove(root.volume, spot.dir, &spot.name);
            Ok(())
        })
    }

    fn remove_tree(dir: DirBorrow<'_>, path: String) -> Result<()> {
        change(&dir, |store, root| {
            let spot = store.parent(&root, &path, false)?;
            let id = store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            if store.is_directory(id) {
                store.clear(root.volume, id);
            } else if path.ends_with('/') {
                return Err(ErrorCode::NotDirectory);
            }
            store.remove(root.volume, spot.dir, &spot.name);
            Ok(())
        })
    }

    fn copy(dir: DirBorrow<'_>, path: String, to_dir: DirBorrow<'_>, to: String) -> Result<u64> {
        let (from, to_root) = (state::root(&dir), state::root(&to_dir));
        with(|state| {
            let store = &mut state.store;
            to_root.to_change()?;
            let source = store.file(&from, &path)?;
            let file = open(store, &to_root, &to, true)?;
            if file.id == source {
                return Err(ErrorCode::Invalid);
            }
            let data = store.copied(source)?;
            let size = data.len() as u64;
            store.set(file.id, data)?;
            file.tell(store);
            Ok(size)
        })
    }

    fn copy_tree(dir: DirBorrow<'_>, path: String, to_dir: DirBorrow<'_>, to: String) -> Result<Copied> {
        let (from, to_root) = (state::root(&dir), state::root(&to_dir));
        with(|state| {
            to_root.to_change()?;
            state.store.copy_tree(&from, &path, &to_root, &to)
        })
    }

    fn symlink(dir: DirBorrow<'_>, target: String, path: String) -> Result<()> {
        change(&dir, |store, root| {
            if root.links != Links::Create {
                return Err(ErrorCode::NotPermitted);
            }
            if target.is_empty() || target.contains('\0') {
                return Err(ErrorCode::Invalid);
            }
            if target.len() > path::MAX_PATH {
                return Err(ErrorCode::NameTooLong);
            }
            let spot = store.parent(&root, &path, true)?;
            if target.starts_with('/') || path::leads_out(&path, &target) {
                return Err(ErrorCode::NotPermitted);
            }
            add(store, root.volume, &spot, Node::link(target))
        })
    }

    fn link(dir: DirBorrow<'_>, path: String, to_dir: DirBorrow<'_>, to: String) -> Result<()> {
        change_both(&dir, &to_dir, |store, root, to_root| {
            let spot = store.parent(&root, &path, true)?;
            let id = store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            let to = store.parent(&to_root, &to, true)?;
            store.bytes(id)?;
            if store.at(&to).is_some() {
                return Err(ErrorCode::Exist);
            }
            store.link(to_root.volume, to.dir, &to.name, id)
        })
    }

    fn set_times(
        dir: DirBorrow<'_>,
        path: String,
        accessed: Option<Instant>,
        modified: Option<Instant>,
    ) -> Result<()> {
        change(&dir, |store, root| {
            let id = store.find(&root, &path)?;
            if [accessed, modified]
                .into_iter()
                .flatten()
                .any(|time| time.nanoseconds >= 1_000_000_000)
            {
                return Err(ErrorCode::Invalid);
            }
            if let Some(modified) = modified {
                store.node_mut(id).modified = modified;
            }
            Ok(())
        })
    }
}

/// Adds what is new where there is nothing.
pub fn add(store: &mut Store, volume: usize, spot: &Spot, node: Node) -> Result<()> {
    if store.at(spot).is_some() {
        return Err(ErrorCode::Exist);
    }
    store.create(volume, spot.dir, &spot.name, node).map(drop)
}

fn make(store: &mut Store, root: &Root, path: &str) -> Result<()> {
    match store.parent(root, path, false) {
        Ok(spot) => add(store, root.volume, &spot, Node::directory()),
        // the root itself, however it is written
        Err(ErrorCode::Invalid) if path::checked(path).is_ok() => {
            store.directory(root, path)?;
            Err(ErrorCode::Exist)
        }
        Err(code) => Err(code),
    }
}
