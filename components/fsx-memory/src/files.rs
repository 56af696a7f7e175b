//! `files`, `digests` and `temporary`.

use sha2::{Digest, Sha256};

use crate::Memory;
use crate::exports::loop_::fsx::digests::{Algorithm, Guest as Digests};
use crate::exports::loop_::fsx::files::{Dir, DirBorrow, Entry, ErrorCode, Guest as Files, GuestDir, Kind};
use crate::exports::loop_::fsx::temporary::Guest as Temporary;
use crate::path;
use crate::pattern::Pattern;
use crate::state::{self, Handle, with};
use crate::store::{Content, Id, Node, Result, Store};

impl Files for Memory {
    type Dir = Handle;

    fn roots() -> Vec<(String, Dir)> {
        with(|state| {
            let roots = state.roots.iter();
            let opened = roots.map(|(name, root)| (name.clone(), Dir::new(Handle::new(root.clone()))));
            opened.collect()
        })
    }

    fn root(name: String) -> Result<Dir> {
        let root = with(|state| state.roots.get(&name).cloned());
        root.map(|root| Dir::new(Handle::new(root)))
            .ok_or(ErrorCode::NotPermitted)
    }
}

impl GuestDir for Handle {
    fn list(&self, path: String) -> Result<Vec<Entry>> {
        with(|state| {
            let id = state.store.find(&self.root, &path)?;
            let entries = state.store.entries(id)?;
            if entries.len() > state.max_entries {
                return Err(ErrorCode::MessageSize);
            }
            let entry = |(name, id): (&String, &Id)| entry(name, state.store.node(*id));
            Ok(entries.iter().map(entry).collect())
        })
    }

    fn stat(&self, path: String) -> Result<Entry> {
        with(|state| {
            let spot = state.store.reach(&self.root, &path, false, false)?;
            let id = state.store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            let name = path.split('/').rfind(|part| !part.is_empty()).unwrap_or(".");
            Ok(entry(name, state.store.node(id)))
        })
    }

    fn read(&self, path: String) -> Result<Vec<u8>> {
        with(|state| {
            let id = state.store.file(&self.root, &path)?;
            part(&state.store, id, 0, u64::MAX, state.max_read)
        })
    }

    fn read_range(&self, path: String, offset: u64, len: u32) -> Result<Vec<u8>> {
        with(|state| {
            let id = state.store.file(&self.root, &path)?;
            part(&state.store, id, offset, len.into(), state.max_read)
        })
    }

    fn glob(&self, pattern: String) -> Result<Vec<String>> {
        let pattern = Pattern::new(&pattern)?;
        with(|state| glob(&state.store, self.root.top, &pattern, state.max_entries))
    }

    fn read_link(&self, path: String) -> Result<String> {
        with(|state| {
            let spot = state.store.parent(&self.root, &path, true)?;
            let id = state.store.at(&spot).ok_or(ErrorCode::NoEntry)?;
            match &state.store.node(id).content {
                Content::Link(target) if target.starts_with('/') => Err(ErrorCode::NotPermitted),
                Content::Link(target) => Ok(target.clone()),
                _ => Err(ErrorCode::Invalid),
            }
        })
    }
}

fn entry(name: &str, node: &Node) -> Entry {
    let kind = match node.content {
        Content::File(_) => Kind::RegularFile,
        Content::Directory(_) => Kind::Directory,
        Content::Link(_) => Kind::SymbolicLink,
    };
    Entry {
        name: name.into(),
        kind,
        size: node.size(),
        modified: Some(node.modified),
    }
}

/// Some bytes of a file, as many as may be read at once.
fn part(store: &Store, id: Id, offset: u64, len: u64, max: usize) -> Result<Vec<u8>> {
    let data = store.bytes(id)?;
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|at| data.get(at..))
        .unwrap_or_default();
    let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    if len > max {
        return Err(ErrorCode::FileTooLarge);
    }
    let mut copy = vec![];
    copy.try_reserve_exact(len)
        .map_err(|_| ErrorCode::InsufficientSpace)?;
    copy.extend_from_slice(&rest[..len]);
    Ok(copy)
}

fn glob(store: &Store, top: Id, pattern: &Pattern, max: usize) -> Result<Vec<String>> {
    let (mut found, mut left) = (vec![], vec![(String::new(), top)]);
    while let Some((above, dir)) = left.pop() {
        for (name, id) in store.entries(dir)? {
            let path = path::join(&above, name);
            match store.node(*id).content {
                // what is deeper no path could name
                Content::Directory(_) if path.len() <= path::MAX_PATH => left.push((path, *id)),
                Content::File(_) if pattern.matches(&path) => {
                    if found.len() == max {
                        return Err(ErrorCode::MessageSize);
                    }
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Digests for Memory {
    fn digest(dir: DirBorrow<'_>, path: String, algorithm: Algorithm) -> Result<Vec<u8>> {
        let root = state::root(&dir);
        with(|state| {
            let id = state.store.file(&root, &path)?;
            let data = state.store.bytes(id)?;
            Ok(match algorithm {
                Algorithm::Blake3 => blake3::hash(data).as_bytes().to_vec(),
                Algorithm::Sha256 => Sha256::digest(data).to_vec(),
            })
        })
    }
}

impl Temporary for Memory {
    fn temp_dir() -> Result<Dir> {
        with(|state| state.temp_dir()).map(Dir::new)
    }
}
