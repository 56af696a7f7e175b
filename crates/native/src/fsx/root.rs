//! A root: every operation on paths, confined by cap-std (`openat2` with `RESOLVE_BENEATH` where there is one).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, Metadata, OpenOptions};
use serde::Deserialize;

use super::code::ErrorCode;
use super::glob::{self, Pattern};
use super::quota::Quota;
use super::temp::TempDir;
use crate::hints::{Hints, named};

/// As Linux has it: bytes of a path, without its end. What is deeper cannot be named.
pub(super) const MAX_PATH: usize = 4095;

/// What one call may return.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes.
    pub read: usize,
    pub entries: usize,
}

/// What symbolic links mean in a root.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Links {
    /// No path may lead through one.
    Refuse,
    /// Those that stay inside are followed.
    #[default]
    Follow,
    /// And the component may make some.
    Create,
}

/// A directory of the host, opened once, and what may be done with it.
pub(crate) struct Root {
    pub(super) dir: Dir,
    pub(super) links: Links,
    /// How much it may hold; where nothing may be changed, what would allow it.
    quota: Result<Arc<Quota>, ReadOnly>,
    pub(super) bounds: Bounds,
    /// It goes with this root.
    _temp: Option<TempDir>,
}

/// Nothing may be changed in the root of this name.
pub(super) struct ReadOnly {
    pub name: String,
    pub hints: Arc<Hints>,
}

/// A directory to look a path up from.
pub(super) enum Held<'r> {
    Root(&'r Dir),
    Own(Dir),
}

impl Deref for Held<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Held::Root(dir) => dir,
            Held::Own(dir) => dir,
        }
    }
}

/// Where something is: a path, and the directory that it is seen from.
pub(super) struct Spot<'r> {
    pub dir: Held<'r>,
    pub path: PathBuf,
    /// Whether a link at the end of the path may be followed.
    pub follow: bool,
}

pub(crate) struct Entry {
    pub name: String,
    pub kind: Kind,
    pub size: u64,
    pub modified: Option<SystemTime>,
}

/// In the order of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RegularFile,
    Directory,
    SymbolicLink,
    Other,
}

impl Spot<'_> {
    /// What is there, a link at its end followed if it may be.
    pub fn metadata(&self) -> Result<Metadata, ErrorCode> {
        if self.follow {
            return Ok(self.dir.metadata(&self.path)?);
        }
        let meta = self.dir.symlink_metadata(&self.path)?;
        if meta.is_symlink() {
            Err(ErrorCode::Loop)
        } else {
            Ok(meta)
        }
    }

    /// Opens the file, without waiting for who is at the other end of a pipe.
    pub fn open(&self, options: &mut OpenOptions) -> io::Result<cap_std::fs::File> {
        let follow = if self.follow {
            FollowSymlinks::Yes
        } else {
            FollowSymlinks::No
        };
        self.dir
            .open_with(&self.path, options.nonblock(true).follow(follow))
    }

    /// The directory, open to be listed.
    pub fn open_dir(&self) -> Result<Dir, ErrorCode> {
        open_dir(&self.dir, &self.path, self.follow).map_err(|e| {
            match self.dir.symlink_metadata(&self.path) {
                Ok(meta) if !self.follow && meta.is_symlink() => ErrorCode::Loop,
                _ => e.into(),
            }
        })
    }
}

/// Opens a directory to be listed; cap-std's own way is good to pass through only.
pub(super) fn open_dir(dir: &Dir, path: impl AsRef<Path>, follow: bool) -> io::Result<Dir> {
    #[cfg(target_os = "linux")]
    {
        use cap_std::fs::OpenOptionsExt;
        let follow = if follow {
            FollowSymlinks::Yes
        } else {
            FollowSymlinks::No
        };
        let mut options = OpenOptions::new();
        options.read(true).follow(follow);
        options.custom_flags(rustix::fs::OFlags::DIRECTORY.bits() as i32);
        Ok(Dir::from_std_file(dir.open_with(path, &options)?.into_std()))
    }
    #[cfg(not(target_os = "linux"))]
    if follow {
        dir.open_dir(path)
    } else {
        dir.open_dir_nofollow(path)
    }
}

impl Root {
    pub fn new(dir: Dir, links: Links, quota: Result<Arc<Quota>, ReadOnly>, bounds: Bounds) -> Self {
        Root {
            dir,
            links,
            quota,
            bounds,
            _temp: None,
        }
    }

    /// A directory that is removed with its root.
    pub(super) fn temporary(dir: Dir, quota: Arc<Quota>, bounds: Bounds, temp: TempDir) -> Self {
        Root {
            _temp: Some(temp),
            ..Root::new(dir, Links::Create, Ok(quota), bounds)
        }
    }

    /// The quota, which says that something may be changed here.
    pub(super) fn writable(&self) -> Result<&Arc<Quota>, ErrorCode> {
        self.quota.as_ref().map_err(|refused| {
            let name = named(&refused.name);
            let words =
                format!("the root `{name}` is read-only; `roots.{name}.mode = \"rw\"` lets it be changed");
            refused.hints.say(&words);
            ErrorCode::ReadOnly
        })
    }

    /// Where `path` is.
    pub(super) fn spot(&self, path: &str) -> Result<Spot<'_>, ErrorCode> {
        let whole = checked(path)?;
        if self.links != Links::Refuse {
            return Ok(Spot {
                dir: Held::Root(&self.dir),
                path: whole.into(),
                follow: true,
            });
        }
        let (above, name) = split(path);
        // what ends in a slash or in dots is a directory, and no name of one
        let (above, name) = if is_name(name) && !path.ends_with('/') {
            (above, name)
        } else {
            (path, ".")
        };
        Ok(Spot {
            dir: self.step(above)?,
            path: name.into(),
            follow: false,
        })
    }

    /// The directory at `path`, through no link.
    fn step(&self, path: &str) -> Result<Held<'_>, ErrorCode> {
        let mut above: Vec<Dir> = vec![];
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                above.pop().ok_or(ErrorCode::NotPermitted)?;
                continue;
            }
            let below = match above.last().unwrap_or(&self.dir).open_dir_nofollow(part) {
                Ok(below) => below,
                Err(e) => {
                    let meta = above.last().unwrap_or(&self.dir).symlink_metadata(part);
                    return Err(match meta {
                        Ok(meta) if meta.is_symlink() => ErrorCode::Loop,
                        _ => e.into(),
                    });
                }
            };
            above.push(below);
        }
        Ok(above.pop().map_or(Held::Root(&self.dir), Held::Own))
    }

    /// The directory that holds what `path` names, and its name there.
    pub(super) fn parent<'p>(&self, path: &'p str) -> Result<(Held<'_>, &'p str), ErrorCode> {
        checked(path)?;
        let (above, name) = split(path);
        if name == ".." {
            return Err(ErrorCode::NotPermitted);
        }
        if !is_name(name) {
            return Err(ErrorCode::Invalid);
        }
        let dir = match self.links {
            _ if above.is_empty() => Held::Root(&self.dir),
            Links::Refuse => self.step(above)?,
            _ => Held::Own(self.dir.open_dir(above)?),
        };
        Ok((dir, name))
    }

    /// The same for what is no directory: a slash at the end would say that it is one.
    pub(super) fn parent_of_file<'p>(&self, path: &'p str) -> Result<(Held<'_>, &'p str), ErrorCode> {
        let (dir, name) = self.parent(path)?;
        if !path.ends_with('/') {
            return Ok((dir, name));
        }
        let meta = dir.symlink_metadata(name)?;
        Err(if meta.is_dir() {
            ErrorCode::IsDirectory
        } else {
            ErrorCode::NotDirectory
        })
    }

    pub fn list(&self, path: &str) -> Result<Vec<Entry>, ErrorCode> {
        let mut entries = vec![];
        let spot = self.spot(path)?;
        // the entries of `dir` itself, not of what another may put at its name meanwhile
        for found in spot.open_dir()?.entries()? {
            let found = found?;
            let Ok(name) = found.file_name().into_string() else {
                continue;
            };
            match found.metadata() {
                Ok(meta) => entries.push(Entry::new(name, &meta)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                Err(e) => return Err(e.into()),
            }
            if entries.len() > self.bounds.entries {
                return Err(ErrorCode::MessageSize);
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    pub fn stat(&self, path: &str) -> Result<Entry, ErrorCode> {
        let spot = self.spot(path)?;
        // A link before a slash is followed. cap-std takes a lone name without its slash, so it must not see one.
        let meta = if path.ends_with('/') || path.ends_with("/.") {
            spot.metadata()?
        } else {
            spot.dir.symlink_metadata(&spot.path)?
        };
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(".");
        Ok(Entry::new(name.into(), &meta))
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, ErrorCode> {
        self.read_range(path, 0, u64::MAX)
    }

    pub fn read_range(&self, path: &str, offset: u64, len: u64) -> Result<Vec<u8>, ErrorCode> {
        let (mut file, size) = self.open(path)?;
        let max = self.bounds.read as u64;
        let there = size.saturating_sub(offset).min(len);
        if there > max {
            return Err(ErrorCode::FileTooLarge);
        }
        let mut bytes = vec![];
        bytes
            .try_reserve_exact(there as usize)
            .map_err(|e| ErrorCode::Other(e.to_string()))?;
        // To the real end: the file may have grown, and files of /proc call themselves empty.
        if skip(&mut file, offset)? {
            file.take(len.min(max.saturating_add(1)))
                .read_to_end(&mut bytes)?;
        }
        if bytes.len() > self.bounds.read {
            Err(ErrorCode::FileTooLarge)
        } else {
            Ok(bytes)
        }
    }

    pub fn glob(&self, pattern: &str) -> Result<Vec<String>, ErrorCode> {
        glob::walk(&self.dir, &Pattern::new(pattern)?, self.bounds.entries)
    }

    pub fn read_link(&self, path: &str) -> Result<String, ErrorCode> {
        let (dir, name) = self.parent_of_file(path)?;
        let target = dir.read_link_contents(name)?;
        match target.into_os_string().into_string() {
            // it would tell of the host
            Ok(target) if target.starts_with('/') => Err(ErrorCode::NotPermitted),
            Ok(target) => Ok(target),
            Err(_) => Err(ErrorCode::Invalid),
        }
    }

    /// The file at `path`, to be read from `offset` on; `None` where nothing can be.
    pub fn open_at(&self, path: &str, offset: u64) -> Result<Option<File>, ErrorCode> {
        let (mut file, _) = self.open(path)?;
        Ok(skip(&mut file, offset)?.then_some(file))
    }

    /// The file at `path` and its size.
    pub(super) fn open(&self, path: &str) -> Result<(File, u64), ErrorCode> {
        let spot = self.spot(path)?;
        // Opening a device or a pipe can have effects of its own, so look first; look again at what was opened, since
        // the path may name something else by then. Until that is known, nothing may block.
        regular(&spot.metadata()?)?;
        let file = spot.open(OpenOptions::new().read(true))?;
        let meta = file.metadata()?;
        regular(&meta)?;
        Ok((file.into_std(), meta.len()))
    }
}

impl Kind {
    pub(super) fn of(ty: &cap_std::fs::FileType) -> Self {
        if ty.is_file() {
            Kind::RegularFile
        } else if ty.is_dir() {
            Kind::Directory
        } else if ty.is_symlink() {
            Kind::SymbolicLink
        } else {
            Kind::Other
        }
    }
}

impl Entry {
    fn new(name: String, meta: &Metadata) -> Self {
        let kind = Kind::of(&meta.file_type());
        let size = if kind == Kind::RegularFile { meta.len() } else { 0 };
        Entry {
            name,
            kind,
            size,
            modified: meta.modified().ok().map(|t| t.into_std()),
        }
    }
}

/// Moves to `offset`; false where no file can reach.
fn skip(file: &mut File, offset: u64) -> io::Result<bool> {
    if i64::try_from(offset).is_err() {
        return Ok(false);
    }
    if offset > 0
        && let Err(e) = file.seek(SeekFrom::Start(offset))
    {
        // beyond what the file system can address, which is beyond the end of any file
        return match e.kind() {
            io::ErrorKind::InvalidInput => Ok(false),
            _ => Err(e),
        };
    }
    Ok(true)
}

pub(super) fn regular(meta: &Metadata) -> Result<(), ErrorCode> {
    if meta.is_file() {
        Ok(())
    } else if meta.is_dir() {
        Err(ErrorCode::IsDirectory)
    } else {
        Err(ErrorCode::Unsupported)
    }
}

/// A path without its last name, and that name; slashes at its end do not count.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rfind('/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => ("", path),
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
}

/// What can be said about a path without looking at the file system.
pub(super) fn checked(path: &str) -> Result<&Path, ErrorCode> {
    if path.is_empty() || path.contains('\0') || (cfg!(windows) && foreign(path)) {
        Err(ErrorCode::Invalid)
    } else if path.starts_with('/') {
        Err(ErrorCode::NotPermitted)
    } else {
        Ok(Path::new(path))
    }
}

/// Whether Windows would read more into `path` than names between slashes: its own separators, drives and streams,
/// and trailing dots and spaces, which it drops.
fn foreign(path: &str) -> bool {
    path.contains(['\\', ':'])
        || path
            .split('/')
            .any(|part| part.ends_with(['.', ' ']) && part != "." && part != "..")
}
