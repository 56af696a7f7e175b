//! Whole trees: renamed, removed and copied. Without recursion, since a tree may be deeper than a stack.

use crate::exports::loop_::fsx::files::ErrorCode;
use crate::exports::loop_::fsx::writing::Copied;
use crate::grant::{Count, Links};
use crate::path::{Spot, join, leads_out};
use crate::store::{Content, Directory, Id, Node, Result, Root, Store};
use crate::writing::add;

/// Deeper trees are not copied.
const MAX_DEPTH: usize = 256;

impl Store {
    /// Whether a directory is `top`, or below it.
    pub fn is_within(&self, mut dir: Id, top: Id) -> bool {
        loop {
            if dir == top {
                return true;
            }
            match self.get(dir).map(|node| &node.content) {
                Some(Content::Directory(Directory {
                    above: Some((above, _)),
                    ..
                })) => dir = *above,
                _ => return false,
            }
        }
    }

    /// All directories at and below one, and what is in them, however deep.
    pub fn below(&self, top: Id) -> Vec<(Id, &str, Id)> {
        let (mut found, mut left) = (vec![], vec![top]);
        while let Some(dir) = left.pop() {
            for (name, id) in self.entries(dir).into_iter().flatten() {
                found.push((dir, &**name, *id));
                if self.is_directory(*id) {
                    left.push(*id);
                }
            }
        }
        found
    }

    /// A fresh directory that is in no other.
    pub fn new_top(&mut self, volume: usize) -> Result<Id> {
        self.take(volume, Count { bytes: 0, files: 1 })?;
        Ok(self.top())
    }

    pub fn remove_top(&mut self, volume: usize, top: Id) {
        self.give(volume, Count { bytes: 0, files: 1 });
        self.tell_gone(top);
        self.drop_content(volume, top);
    }

    /// Removes all that is in a directory.
    pub fn clear(&mut self, volume: usize, top: Id) {
        // what is in a directory comes after it
        let found: Vec<(Id, String)> = self
            .below(top)
            .into_iter()
            .map(|(dir, name, _)| (dir, name.into()))
            .collect();
        for (dir, name) in found.iter().rev() {
            self.remove(volume, *dir, name);
        }
    }

    pub fn rename(&mut self, root: &Root, path: &str, to_root: &Root, to: &str) -> Result<()> {
        let from_spot = self.parent(root, path, false)?;
        let to_spot = self.parent(to_root, to, false)?;
        let id = self.at(&from_spot).ok_or(ErrorCode::NoEntry)?;
        let is_dir = self.is_directory(id);
        if !is_dir && (path.ends_with('/') || to.ends_with('/')) {
            return Err(ErrorCode::NotDirectory);
        }
        let replaced = self.at(&to_spot);
        if replaced == Some(id) {
            return Ok(()); // two names of one file, or one name: both stay as they are
        }
        if is_dir && self.is_within(to_spot.dir, id) {
            return Err(ErrorCode::Invalid);
        }
        if let Some(other) = replaced {
            match (is_dir, self.entries(other)) {
                (true, Err(_)) => return Err(ErrorCode::NotDirectory),
                (false, Ok(_)) => return Err(ErrorCode::IsDirectory),
                (true, Ok(entries)) if !entries.is_empty() => return Err(ErrorCode::NotEmpty),
                _ => {}
            }
        }
        self.moved(root.volume, to_root.volume, id)?;
        if let Some(other) = replaced {
            self.give(to_root.volume, Count { bytes: 0, files: 1 });
            self.tell_gone(other);
            self.drop_content(to_root.volume, other);
        }
        self.directory_mut(from_spot.dir).entries.remove(&from_spot.name);
        self.touch(from_spot.dir);
        self.enter(to_spot.dir, &to_spot.name, id);
        self.tell_renamed(&from_spot, &to_spot, id);
        Ok(())
    }

    /// Copies the directory at `path` with all that is in it to `to`, where nothing may be.
    pub fn copy_tree(&mut self, from: &Root, path: &str, to_root: &Root, to: &str) -> Result<Copied> {
        let top = self.directory(from, path)?;
        let spot = self.parent(to_root, to, false)?;
        let volume = to_root.volume;
        let made = self.make_directory(volume, &spot)?;
        let mut copied = Copied {
            entries: 1,
            bytes: 0,
            left_out: 0,
        };
        // where it is in the tree, what is copied, and to where
        let mut left = vec![(String::new(), 1, top, made)];
        while let Some((above, depth, source, into)) = left.pop() {
            let names: Vec<_> = self
                .entries(source)?
                .iter()
                .map(|(n, id)| (n.clone(), *id))
                .collect();
            for (name, id) in names {
                let spot = Spot { dir: into, name };
                let node = match &self.node(id).content {
                    // a copy within its own source must not copy itself
                    Content::Directory(_) if id == made => continue,
                    Content::Directory(_) if depth == MAX_DEPTH => return Err(ErrorCode::NameTooLong),
                    Content::Directory(_) => {
                        let below = self.make_directory(volume, &spot)?;
                        copied.entries += 1;
                        left.push((join(&above, &spot.name), depth + 1, id, below));
                        continue;
                    }
                    Content::File(_) => Node::file(self.copied(id)?),
                    Content::Link(target)
                        if to_root.links == Links::Create
                            && !target.starts_with('/')
                            && !leads_out(&join(&above, &spot.name), target) =>
                    {
                        Node::link(target.clone())
                    }
                    Content::Link(_) => {
                        copied.left_out += 1;
                        continue;
                    }
                };
                copied.bytes += node.size();
                copied.entries += 1;
                add(self, volume, &spot, node)?;
            }
        }
        Ok(copied)
    }

    fn make_directory(&mut self, volume: usize, spot: &Spot) -> Result<Id> {
        add(self, volume, spot, Node::directory())?;
        self.at(spot).ok_or(ErrorCode::NoEntry)
    }
}
