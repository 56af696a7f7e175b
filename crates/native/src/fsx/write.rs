//! What changes files and names, confined as reading is.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::time::SystemTime;

use cap_fs_ext::{DirExt, MetadataExt, OpenOptionsMaybeDirExt};
use cap_std::fs::{Metadata, OpenOptions};

use super::code::ErrorCode;
use super::quota::Count;
use super::root::{Links, MAX_PATH, Root, checked, regular};
use super::tree;
#[cfg(unix)]
use crate::value::since_epoch;

/// Where in a file something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// From its start, and nothing is left behind it.
    Whole,
    End,
    Offset(u64),
}

impl Root {
    pub fn write(&self, path: &str, data: &[u8]) -> Result<(), ErrorCode> {
        let (mut file, size) = self.open_to_write(path, At::Whole, false)?;
        self.grow(&mut file, size, data.len() as u64, |file| file.write_all(data))?;
        self.cut(&file, size, data.len() as u64)
    }

    pub fn write_new(&self, path: &str, data: &[u8]) -> Result<(), ErrorCode> {
        let (mut file, size) = self.open_to_write(path, At::Whole, true)?;
        self.grow(&mut file, size, data.len() as u64, |file| file.write_all(data))
    }

    pub fn write_range(&self, path: &str, offset: u64, data: &[u8]) -> Result<(), ErrorCode> {
        let end = end(offset, data.len())?;
        let (mut file, size) = self.open_to_write(path, At::Offset(offset), false)?;
        // writing nothing does not make a file longer
        if data.is_empty() {
            return Ok(());
        }
        self.grow(&mut file, size, end, |file| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(data)
        })
    }

    pub fn append(&self, path: &str, data: &[u8]) -> Result<(), ErrorCode> {
        let (mut file, size) = self.open_to_write(path, At::End, false)?;
        let end = end(size, data.len())?;
        self.grow(&mut file, size, end, |file| file.write_all(data))
    }

    pub fn truncate(&self, path: &str, size: u64) -> Result<(), ErrorCode> {
        self.writable()?;
        end(size, 0)?;
        let spot = self.spot(path)?;
        regular(&spot.metadata()?)?;
        let mut file = spot.open(OpenOptions::new().write(true))?.into_std();
        let old = file.metadata()?.len();
        self.grow(&mut file, old, size, |file| file.set_len(size))?;
        self.cut(&file, old, size)
    }

    /// A regular file to be written, and its size; it is created where it is missing. `new`: it must be missing.
    pub(super) fn open_to_write(&self, path: &str, at: At, new: bool) -> Result<(File, u64), ErrorCode> {
        let quota = self.writable()?;
        let spot = self.spot(path)?;
        // as in reading: look first, and look again at what was opened
        let there = match spot.metadata() {
            Ok(_) if new => return Err(ErrorCode::Exist),
            Ok(meta) => {
                regular(&meta)?;
                true
            }
            Err(ErrorCode::NoEntry) => false,
            // only one that leads nowhere or out
            Err(ErrorCode::Loop) if new => return Err(ErrorCode::Exist),
            Err(code) => return Err(code),
        };
        let mut options = OpenOptions::new();
        if at == At::End {
            options.append(true);
        } else {
            options.write(true);
        }
        if there {
            return self.opened(spot.open(&mut options)?);
        }
        if path.ends_with('/') {
            return Err(ErrorCode::IsDirectory);
        }
        quota.take(Count::ONE)?;
        if new {
            options.create_new(true);
        } else {
            options.create(true);
        }
        let opened = spot
            .open(&mut options)
            .map_err(ErrorCode::from)
            .and_then(|file| self.opened(file));
        if opened.is_err() {
            quota.give(Count::ONE);
        }
        opened
    }

    fn opened(&self, file: cap_std::fs::File) -> Result<(File, u64), ErrorCode> {
        let meta = file.metadata()?;
        regular(&meta)?;
        Ok((file.into_std(), meta.len()))
    }

    /// Does what makes a file of `size` bytes one of `end`, if that is more.
    fn grow(
        &self,
        file: &mut File,
        size: u64,
        end: u64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        let more = end.saturating_sub(size);
        quota.take(Count::bytes(more))?;
        write(file).map_err(|e| {
            let got = file.metadata().map_or(end, |meta| meta.len());
            quota.give(Count::bytes(more.saturating_sub(got.saturating_sub(size))));
            e.into()
        })
    }

    /// Lets go of what a file of `size` bytes has after `end`.
    fn cut(&self, file: &File, size: u64, end: u64) -> Result<(), ErrorCode> {
        if end < size {
            file.set_len(end)?;
            self.writable()?.give(Count::bytes(size - end));
        }
        Ok(())
    }

    pub fn create_directory(&self, path: &str) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        let (dir, name) = match self.parent(path) {
            // the root itself, however it is written
            Err(ErrorCode::Invalid) if self.stat(path).is_ok() => return Err(ErrorCode::Exist),
            other => other?,
        };
        quota.take(Count::ONE)?;
        dir.create_dir(name).map_err(|e| {
            quota.give(Count::ONE);
            e.into()
        })
    }

    pub fn create_directories(&self, path: &str) -> Result<(), ErrorCode> {
        self.writable()?;
        checked(path)?;
        // nothing is made of what would come to its end on the way
        if path.len() > MAX_PATH {
            return Err(ErrorCode::NameTooLong);
        }
        let mut made = 0;
        loop {
            // the longest part that is there, from the whole downwards
            let part = &path[..made_end(path, made)];
            match self.create_directory(part) {
                Ok(()) => {}
                Err(ErrorCode::Exist | ErrorCode::Invalid) => {
                    if !self.spot(part)?.metadata()?.is_dir() {
                        return Err(ErrorCode::NotDirectory);
                    }
                }
                // `a/..` is there or is not, and nothing makes it
                Err(ErrorCode::NotPermitted) if part.ends_with("..") => {
                    if !self.spot(part)?.metadata()?.is_dir() {
                        return Err(ErrorCode::NotDirectory);
                    }
                }
                Err(code) => return Err(code),
            }
            if part.len() == path.len() {
                return Ok(());
            }
            made = part.len() + 1;
        }
    }

    pub fn rename(&self, path: &str, to_root: &Root, to: &str) -> Result<(), ErrorCode> {
        let (quota, to_quota) = (self.writable()?, to_root.writable()?);
        let (dir, name) = self.parent(path)?;
        let (to_dir, to_name) = to_root.parent(to)?;
        let meta = dir.symlink_metadata(name)?;
        if !meta.is_dir() && (path.ends_with('/') || to.ends_with('/')) {
            return Err(ErrorCode::NotDirectory);
        }
        let replaced = to_dir.symlink_metadata(to_name).ok();
        if replaced.as_ref().is_some_and(|there| is_same(&meta, there)) {
            // two names of one file, or one name: the system leaves both as they are
            return Ok(dir.rename(name, &to_dir, to_name)?);
        }
        let moved = if std::sync::Arc::ptr_eq(quota, to_quota) {
            Count::default()
        } else if meta.is_dir() {
            tree::count(&dir, name)?
        } else {
            Count::of(&meta)
        };
        to_quota.take(moved)?;
        if let Err(e) = dir.rename(name, &to_dir, to_name) {
            to_quota.give(moved);
            return Err(e.into());
        }
        quota.give(moved);
        if let Some(replaced) = replaced {
            to_quota.give(Count::of(&replaced));
        }
        Ok(())
    }

    pub fn remove_file(&self, path: &str) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        let (dir, name) = self.parent_of_file(path)?;
        let meta = dir.symlink_metadata(name)?;
        if meta.is_dir() {
            return Err(ErrorCode::IsDirectory);
        }
        dir.remove_file(name)?;
        quota.give(Count::of(&meta));
        Ok(())
    }

    pub fn remove_directory(&self, path: &str) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        let (dir, name) = self.parent(path)?;
        dir.remove_dir(name)?;
        quota.give(Count::ONE);
        Ok(())
    }

    pub fn remove_tree(&self, path: &str) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        let (dir, name) = self.parent(path)?;
        if path.ends_with('/') && !dir.symlink_metadata(name)?.is_dir() {
            return Err(ErrorCode::NotDirectory);
        }
        tree::remove(&dir, name, &mut |gone| quota.give(gone))
    }

    pub fn copy(&self, path: &str, to_root: &Root, to: &str) -> Result<u64, ErrorCode> {
        to_root.writable()?;
        let (mut from, _) = self.open(path)?;
        let (mut file, old) = to_root.open_to_write(to, At::Whole, false)?;
        let (meta, to_meta) = (cap_meta(&from)?, cap_meta(&file)?);
        if is_same(&meta, &to_meta) {
            return Err(ErrorCode::Invalid);
        }
        let size = meta.len();
        to_root.grow(&mut file, old, size, |file| copy_bytes(&mut from, file, size))?;
        to_root.cut(&file, old, size)?;
        Ok(size)
    }

    pub fn copy_tree(&self, path: &str, to_root: &Root, to: &str) -> Result<tree::Copied, ErrorCode> {
        let quota = to_root.writable()?;
        let from = self.spot(path)?.open_dir()?;
        let (to_dir, to_name) = to_root.parent(to)?;
        let links = to_root.links == Links::Create;
        tree::copy(&from, &to_dir, to_name, links, &|more| quota.take(more))
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<(), ErrorCode> {
        let quota = self.writable()?;
        if self.links != Links::Create {
            return Err(ErrorCode::NotPermitted);
        }
        checked(target)?;
        let (dir, name) = self.parent_of_file(path)?;
        // Whoever else follows links below this root is not confined as we are: none of ours shall lead them out.
        if leads_out(path, target) {
            return Err(ErrorCode::NotPermitted);
        }
        quota.take(Count::ONE)?;
        DirExt::symlink(&*dir, target, name).map_err(|e| {
            quota.give(Count::ONE);
            e.into()
        })
    }

    pub fn link(&self, path: &str, to_root: &Root, to: &str) -> Result<(), ErrorCode> {
        self.writable()?;
        let quota = to_root.writable()?;
        let (dir, name) = self.parent_of_file(path)?;
        let (to_dir, to_name) = to_root.parent_of_file(to)?;
        let meta = dir.symlink_metadata(name)?;
        regular(&meta)?;
        // in another root it has its bytes once more
        let shared = std::sync::Arc::ptr_eq(quota, self.writable()?);
        let more = Count::ONE.plus(Count::bytes(if shared { 0 } else { meta.len() }));
        quota.take(more)?;
        dir.hard_link(name, &to_dir, to_name).map_err(|e| {
            quota.give(more);
            ErrorCode::from(e)
        })?;
        // what was linked may have been another thing by then; the name of a link must not stay
        if to_dir.symlink_metadata(to_name)?.is_symlink() {
            to_dir.remove_file(to_name)?;
            return Err(ErrorCode::Unsupported);
        }
        Ok(())
    }

    pub fn set_times(
        &self,
        path: &str,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> Result<(), ErrorCode> {
        self.writable()?;
        let spot = self.spot(path)?;
        let meta = spot.metadata()?;
        if !meta.is_file() && !meta.is_dir() {
            return Err(ErrorCode::Unsupported);
        }
        let file = spot.open(OpenOptions::new().read(true).maybe_dir(true))?;
        set_times(&file.into_std(), accessed, modified)?;
        Ok(())
    }
}

/// Sets times, those before 1970 too.
#[cfg(unix)]
fn set_times(file: &File, accessed: Option<SystemTime>, modified: Option<SystemTime>) -> io::Result<()> {
    use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};
    let time = |t: Option<SystemTime>| match t.map(since_epoch) {
        Some((tv_sec, nanoseconds)) => Timespec {
            tv_sec,
            tv_nsec: nanoseconds.into(),
        },
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    let times = Timestamps {
        last_access: time(accessed),
        last_modification: time(modified),
    };
    Ok(futimens(file, &times)?)
}

#[cfg(not(unix))]
fn set_times(file: &File, accessed: Option<SystemTime>, modified: Option<SystemTime>) -> io::Result<()> {
    let mut times = std::fs::FileTimes::new();
    if let Some(at) = accessed {
        times = times.set_accessed(at);
    }
    if let Some(at) = modified {
        times = times.set_modified(at);
    }
    file.set_times(times)
}

/// Copies so many bytes, by the kernel alone where it can.
pub(super) fn copy_bytes(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    let copied = io::copy(&mut io::Read::take(from, size), to)?;
    // it shrank meanwhile: what is missing reads as zeroes, as in a file that is cut and grows again
    if copied < size { to.set_len(size) } else { Ok(()) }
}

fn cap_meta(file: &File) -> io::Result<Metadata> {
    Metadata::from_file(file)
}

pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (MetadataExt::dev(a), MetadataExt::ino(a)) == (MetadataExt::dev(b), MetadataExt::ino(b))
}

/// Where something of `len` bytes at `offset` ends; no file is longer than `i64::MAX`.
fn end(offset: u64, len: usize) -> Result<u64, ErrorCode> {
    let end = offset
        .checked_add(len as u64)
        .filter(|&end| i64::try_from(end).is_ok());
    end.ok_or(ErrorCode::FileTooLarge)
}

/// The end of the first name of `path` after `from`.
fn made_end(path: &str, from: usize) -> usize {
    path[from.min(path.len())..]
        .find('/')
        .map_or(path.len(), |at| from + at)
        .max(1)
}

/// Whether a link at `path` would, by the letters of `path` and `target`, lead above the root.
pub(super) fn leads_out(path: &str, target: &str) -> bool {
    let mut depth = 0i64;
    let above = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(above, _)| above);
    for part in above.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                depth -= 1;
                if depth < 0 {
                    return true;
                }
            }
            _ => depth += 1,
        }
    }
    false
}
