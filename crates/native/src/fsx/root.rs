//! A root: every operation on paths, confined by cap-std (`openat2` with `RESOLVE_BENEATH` where there is one).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::fs::{Dir, Metadata, OpenOptions};

use super::code::ErrorCode;
use super::glob::{self, Pattern};

/// A directory of the host, opened once, and what one call may return from it.
pub(crate) struct Root {
    pub dir: Dir,
    /// Bytes.
    pub max_read: usize,
    pub max_entries: usize,
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

impl Root {
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, ErrorCode> {
        let mut entries = vec![];
        for found in self.dir.read_dir(checked(path)?)? {
            let found = found?;
            let Ok(name) = found.file_name().into_string() else {
                continue;
            };
            match found.metadata() {
                Ok(meta) => entries.push(Entry::new(name, &meta)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                Err(e) => return Err(e.into()),
            }
            if entries.len() > self.max_entries {
                return Err(ErrorCode::MessageSize);
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    pub fn stat(&self, path: &str) -> Result<Entry, ErrorCode> {
        let checked = checked(path)?;
        // A link before a slash is followed. cap-std takes a lone name without its slash, so it must not see one.
        let meta = if path.ends_with('/') || path.ends_with("/.") {
            self.dir.metadata(checked)?
        } else {
            self.dir.symlink_metadata(checked)?
        };
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(".");
        Ok(Entry::new(name.into(), &meta))
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, ErrorCode> {
        self.read_range(path, 0, u64::MAX)
    }

    pub fn read_range(&self, path: &str, offset: u64, len: u64) -> Result<Vec<u8>, ErrorCode> {
        let (mut file, size) = self.open(path)?;
        let max = self.max_read as u64;
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
        if bytes.len() > self.max_read {
            Err(ErrorCode::FileTooLarge)
        } else {
            Ok(bytes)
        }
    }

    pub fn glob(&self, pattern: &str) -> Result<Vec<String>, ErrorCode> {
        glob::walk(&self.dir, &Pattern::new(pattern)?, self.max_entries)
    }

    /// The file at `path`, to be read from `offset` on; `None` where nothing can be.
    pub fn open_at(&self, path: &str, offset: u64) -> Result<Option<File>, ErrorCode> {
        let (mut file, _) = self.open(path)?;
        Ok(skip(&mut file, offset)?.then_some(file))
    }

    /// The file at `path` and its size.
    fn open(&self, path: &str) -> Result<(File, u64), ErrorCode> {
        let path = checked(path)?;
        // Opening a device or a pipe can have effects of its own, so look first; look again at what was opened, since
        // the path may name something else by then. Until that is known, nothing may block.
        readable(&self.dir.metadata(path)?)?;
        let file = self
            .dir
            .open_with(path, OpenOptions::new().read(true).nonblock(true))?;
        let meta = file.metadata()?;
        readable(&meta)?;
        Ok((file.into_std(), meta.len()))
    }
}

impl Entry {
    fn new(name: String, meta: &Metadata) -> Self {
        let kind = if meta.is_file() {
            Kind::RegularFile
        } else if meta.is_dir() {
            Kind::Directory
        } else if meta.is_symlink() {
            Kind::SymbolicLink
        } else {
            Kind::Other
        };
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

fn readable(meta: &Metadata) -> Result<(), ErrorCode> {
    if meta.is_file() {
        Ok(())
    } else if meta.is_dir() {
        Err(ErrorCode::IsDirectory)
    } else {
        Err(ErrorCode::Unsupported)
    }
}

/// What can be said about a path without looking at the file system.
fn checked(path: &str) -> Result<&Path, ErrorCode> {
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
