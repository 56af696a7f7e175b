//! Paths, which never lead out of a root: every step is taken by itself, and `..` goes back to where the walk came from.

use crate::exports::loop_::fsx::files::ErrorCode;
use crate::grant::Links;
use crate::store::{Content, Id, Result, Root, Store};

/// As Linux has it: bytes of a path, bytes of a name, and links on the way.
pub const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;
const MAX_LINKS: usize = 40;

/// Where a path leads: a name in a directory, or that directory itself.
pub struct Spot {
    pub dir: Id,
    /// Empty: the directory itself.
    pub name: String,
}

/// A path about which nothing is wrong so far.
pub fn checked(path: &str) -> Result<&str> {
    if path.is_empty() || path.contains('\0') {
        Err(ErrorCode::Invalid)
    } else if path.starts_with('/') {
        Err(ErrorCode::NotPermitted)
    } else if path.len() > MAX_PATH {
        Err(ErrorCode::NameTooLong)
    } else {
        Ok(path)
    }
}

/// A name that a directory may have something by.
pub fn named(name: &str) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(ErrorCode::NameTooLong);
    }
    Ok(())
}

/// Whether a link at `path` would, by the letters of both, lead above the root.
pub fn leads_out(path: &str, target: &str) -> bool {
    let path = path.trim_end_matches('/');
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    let mut depth = 0usize;
    for part in above.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// The names on a path that is seen from a root, without those that say nothing.
pub fn parts(path: &str) -> Vec<&str> {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect()
}

/// A path below a directory; `above` is empty for the root itself.
pub fn join(above: &str, name: &str) -> String {
    match (above, name) {
        ("", name) => name.into(),
        (above, "") => above.into(),
        (above, name) => format!("{above}/{name}"),
    }
}

impl Store {
    /// What is at a spot, if anything.
    pub fn at(&self, spot: &Spot) -> Option<Id> {
        if spot.name.is_empty() {
            Some(spot.dir)
        } else {
            self.lookup(spot.dir, &spot.name)
        }
    }

    /// Walks to what `path` names. `follow`: a link at its very end is followed; `missing`: nothing need be there.
    pub fn reach(&self, root: &Root, path: &str, follow: bool, missing: bool) -> Result<Spot> {
        let mut above = vec![root.top];
        let mut left: Vec<String> = checked(path)?.split('/').rev().map(String::from).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if matches!(&*part, "" | ".") {
                continue;
            }
            let Some(&dir) = above.last() else {
                return Err(ErrorCode::NotPermitted);
            };
            if part == ".." {
                above.pop();
                if above.is_empty() {
                    return Err(ErrorCode::NotPermitted);
                }
                continue;
            }
            named(&part)?;
            if left.is_empty() && !follow {
                return Ok(Spot { dir, name: part });
            }
            match self.lookup(dir, &part).map(|id| (id, &self.node(id).content)) {
                None if left.is_empty() && missing => return Ok(Spot { dir, name: part }),
                None => return Err(ErrorCode::NoEntry),
                Some((id, Content::Directory(_))) if !left.is_empty() => above.push(id),
                Some((_, Content::Link(target))) => {
                    links += 1;
                    if links > MAX_LINKS || root.links == Links::Refuse {
                        return Err(ErrorCode::Loop);
                    }
                    if target.starts_with('/') {
                        return Err(ErrorCode::NotPermitted);
                    }
                    left.extend(target.split('/').rev().map(String::from));
                }
                Some(_) if left.is_empty() => return Ok(Spot { dir, name: part }),
                Some(_) => return Err(ErrorCode::NotDirectory),
            }
        }
        let dir = *above.last().ok_or(ErrorCode::NotPermitted)?;
        Ok(Spot {
            dir,
            name: String::new(),
        })
    }

    /// What `path` names, links followed.
    pub fn find(&self, root: &Root, path: &str) -> Result<Id> {
        let spot = self.reach(root, path, true, false)?;
        self.at(&spot).ok_or(ErrorCode::NoEntry)
    }

    /// The directory at `path`.
    pub fn directory(&self, root: &Root, path: &str) -> Result<Id> {
        let id = self.find(root, path)?;
        if self.is_directory(id) {
            Ok(id)
        } else {
            Err(ErrorCode::NotDirectory)
        }
    }

    /// The file at `path`.
    pub fn file(&self, root: &Root, path: &str) -> Result<Id> {
        let id = self.find(root, path)?;
        self.bytes(id)?;
        Ok(id)
    }

    /// The directory that holds what `path` names, and its name there. `file`: it is to be no directory, which a slash
    /// at the end would say.
    pub fn parent(&self, root: &Root, path: &str, file: bool) -> Result<Spot> {
        checked(path)?;
        let trimmed = path.trim_end_matches('/');
        let (above, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        match name {
            ".." => return Err(ErrorCode::NotPermitted),
            "" | "." => return Err(ErrorCode::Invalid),
            _ => {}
        }
        let dir = if above.is_empty() {
            root.top
        } else {
            self.directory(root, above)?
        };
        named(name)?;
        let spot = Spot {
            dir,
            name: name.into(),
        };
        if file && path.ends_with('/') {
            let id = self.at(&spot).ok_or(ErrorCode::NoEntry)?;
            return Err(if self.is_directory(id) {
                ErrorCode::IsDirectory
            } else {
                ErrorCode::NotDirectory
            });
        }
        Ok(spot)
    }
}
