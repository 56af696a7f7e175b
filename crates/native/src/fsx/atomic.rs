//! A file that is replaced in one step.

use std::fs::File;
use std::io::{self, Write};

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, OpenOptions};

use super::code::ErrorCode;
use super::quota::Count;
use super::root::{Kind, Root};

/// How often a name is tried for what is not finished.
const TRIES: usize = 16;

/// The new contents, until they have the name.
///
/// Where the system can (Linux), they have no name at all before they are complete, so that whatever kills the host
/// leaves nothing behind; else a hidden one in the same directory.
pub(super) struct Atomic {
    dir: Dir,
    name: String,
    file: File,
    /// What it is called meanwhile.
    temporary: Option<String>,
}

impl Atomic {
    /// Begins to replace what is at `path`, or to make it.
    pub fn new(root: &Root, path: &str) -> Result<Self, ErrorCode> {
        root.writable()?;
        let (dir, name) = root.parent_of_file(path)?;
        let there = match dir.symlink_metadata(name) {
            Ok(meta) => match Kind::of(&meta.file_type()) {
                Kind::Directory => return Err(ErrorCode::IsDirectory),
                Kind::Other => return Err(ErrorCode::Unsupported),
                Kind::RegularFile => Some(meta),
                Kind::SymbolicLink => None,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e.into()),
        };
        let dir = dir.try_clone()?;
        let (file, temporary) = match unnamed(&dir) {
            Some(file) => (file, None),
            None => {
                let (file, name) = named(&dir)?;
                (file, Some(name))
            }
        };
        let made = Atomic {
            dir,
            name: name.into(),
            file,
            temporary,
        };
        if let Some(meta) = there {
            // who may read it and who may run it stays
            let mode = cap_std::fs::Permissions::into_std(meta.permissions(), &made.file)?;
            made.file.set_permissions(mode)?;
        }
        Ok(made)
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the new contents their name. `durable`: and waits until both are on the disk.
    pub fn commit(mut self, root: &Root, durable: bool) -> Result<(), ErrorCode> {
        if durable {
            self.file.sync_all()?;
        }
        let temporary = match self.temporary.take() {
            Some(name) => name,
            None => link(&self.file, &self.dir)?,
        };
        self.temporary = Some(temporary);
        let temporary = self.temporary.as_deref().expect("just set");
        let replaced = self.dir.symlink_metadata(&self.name).ok();
        self.dir.rename(temporary, &self.dir, &self.name)?;
        self.temporary = None;
        if let Some(replaced) = replaced {
            root.writable()?.give(Count::of(&replaced));
        }
        if durable {
            sync(&self.dir)?;
        }
        Ok(())
    }
}

impl Drop for Atomic {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = self.dir.remove_file_or_symlink(name);
        }
    }
}

impl Root {
    pub fn write_atomic(&self, path: &str, data: &[u8], durable: bool) -> Result<(), ErrorCode> {
        let mut atomic = Atomic::new(self, path)?;
        let quota = self.writable()?;
        let all = Count::ONE.plus(Count::bytes(data.len() as u64));
        quota.take(all)?;
        let written = atomic.file().write_all(data).map_err(ErrorCode::from);
        written
            .and_then(|()| atomic.commit(self, durable))
            .inspect_err(|_| quota.give(all))
    }
}

fn fresh_name() -> Result<String, ErrorCode> {
    let random = getrandom::u64().map_err(|_| ErrorCode::Io)?;
    Ok(format!(".loop-fsx-{random:016x}.tmp"))
}

fn named(dir: &Dir) -> Result<(File, String), ErrorCode> {
    for _ in 0..TRIES {
        let name = fresh_name()?;
        match dir.open_with(&name, OpenOptions::new().write(true).create_new(true)) {
            Ok(file) => return Ok((file.into_std(), name)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(ErrorCode::Exist)
}

/// A file without a name in the file system of `dir`, if there can be one.
#[cfg(target_os = "linux")]
fn unnamed(dir: &Dir) -> Option<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, ".", flags, Mode::from_raw_mode(0o666)).ok()?;
    Some(File::from(file))
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Dir) -> Option<File> {
    None
}

/// Gives a file that has no name one that nobody knows.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Dir) -> Result<String, ErrorCode> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    for _ in 0..TRIES {
        let name = fresh_name()?;
        let file = format!("/proc/self/fd/{}", file.as_raw_fd());
        match linkat(CWD, file, dir, &name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return Ok(name),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Err(ErrorCode::Exist)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Dir) -> Result<String, ErrorCode> {
    Err(ErrorCode::Io)
}

/// Waits until the names in a directory are on the disk.
fn sync(dir: &Dir) -> Result<(), ErrorCode> {
    // one to pass through may not be synced, so it is opened anew
    #[cfg(unix)]
    {
        use rustix::fs::{Mode, OFlags, fsync, openat};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(dir, ".", flags, Mode::empty()).map_err(io::Error::from)?;
        fsync(opened).map_err(io::Error::from)?;
    }
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
