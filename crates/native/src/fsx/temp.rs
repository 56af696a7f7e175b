//! Directories that live as long as their handle.
//!
//! Those of one provider lie in a directory of its own, beside a file that it keeps locked. The system lets go of the
//! lock of whoever was killed, so that the next provider sees by it what nobody uses any more, and removes that.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions};
use tokio::runtime::Handle;

use super::code::ErrorCode;
use super::quota::{Count, Quota};
use super::root::{Bounds, Root};
use super::tree;

/// How the directory of a provider is called; what follows is random.
const PREFIX: &str = "loop-fsx-";
const LOCK: &str = "lock";
const DIRS: &str = "dirs";

/// How often a directory is tried that a sweeper may take away before it is locked.
const TRIES: usize = 16;

/// The directory of one provider.
pub(super) struct Session {
    /// Where it is, and how it is called there.
    place: Dir,
    name: String,
    dirs: Dir,
    /// Locked for as long as the session is there.
    _lock: File,
    quota: Arc<Quota>,
    bounds: Bounds,
    max_dirs: usize,
    now: AtomicUsize,
    next: AtomicU64,
    io: Handle,
}

/// A temporary directory, removed with this.
pub(super) struct TempDir {
    session: Arc<Session>,
    name: String,
}

impl Session {
    /// Makes one in `place`, after what killed ones left there is removed.
    pub fn new(
        place: Dir,
        most: Count,
        max_dirs: usize,
        bounds: Bounds,
        io: Handle,
    ) -> io::Result<Arc<Self>> {
        sweep(&place)?;
        for _ in 0..TRIES {
            let name = format!("{PREFIX}{:016x}", getrandom::u64().map_err(io::Error::other)?);
            make_private(&place, &name)?;
            let Some(lock) = locked(&place, &name, true)? else {
                continue;
            };
            let dir = place.open_dir_nofollow(&name)?;
            make_private(&dir, DIRS)?;
            let dirs = dir.open_dir_nofollow(DIRS)?;
            return Ok(Arc::new(Session {
                quota: Arc::new(Quota::new(dirs.try_clone()?, most)),
                place,
                name,
                dirs,
                _lock: lock,
                bounds,
                max_dirs,
                now: AtomicUsize::new(0),
                next: AtomicU64::new(0),
                io,
            }));
        }
        Err(io::Error::other("others remove what is made there"))
    }

    pub fn temp_dir(self: &Arc<Self>) -> Result<Root, ErrorCode> {
        let name = self.next.fetch_add(1, Relaxed).to_string();
        let more = self
            .now
            .fetch_update(Relaxed, Relaxed, |n| (n < self.max_dirs).then_some(n + 1));
        more.map_err(|_| ErrorCode::Quota)?;
        // from here on it is counted, and given back when it is dropped
        let temp = TempDir {
            session: self.clone(),
            name,
        };
        self.quota.take(Count::ONE)?;
        make_private(&self.dirs, &temp.name)?;
        let dir = self.dirs.open_dir_nofollow(&temp.name)?;
        Ok(Root::temporary(dir, self.quota.clone(), self.bounds, temp))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = tree::remove(&self.place, &self.name, &mut |_| ());
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let (session, name) = (self.session.clone(), std::mem::take(&mut self.name));
        // It may be large, and this may be the thread of a guest. A runtime that ends forgets the task and with it the
        // session, which then removes everything.
        self.session.io.spawn_blocking(move || {
            let _ = tree::remove(&session.dirs, &name, &mut |gone| session.quota.give(gone));
            session.now.fetch_sub(1, Relaxed);
        });
    }
}

/// Removes what providers left that are no more.
fn sweep(place: &Dir) -> io::Result<()> {
    for entry in place.entries()? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        // what others own or use, or what vanishes meanwhile, is left alone
        if name.starts_with(PREFIX) && is_own(place, &name) {
            match locked(place, &name, false) {
                Ok(Some(_lock)) => {
                    let _ = tree::remove(place, &name, &mut |_| ());
                }
                // one that has no lock yet is empty, and who makes it tries again
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let _ = place.remove_dir(&name);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_own(place: &Dir, name: &str) -> bool {
    use cap_std::fs::MetadataExt;
    place
        .symlink_metadata(name)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(not(unix))]
fn is_own(place: &Dir, name: &str) -> bool {
    place.symlink_metadata(name).is_ok_and(|meta| meta.is_dir())
}

/// The lock of a session's directory; none where another has it. `create`: it is to be made.
fn locked(place: &Dir, name: &str, create: bool) -> io::Result<Option<File>> {
    let dir = match place.open_dir_nofollow(name) {
        // a sweeper took the empty directory
        Err(e) if create && e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut options = OpenOptions::new();
    options.write(true).create(create).follow(FollowSymlinks::No);
    let lock = match dir.open_with(LOCK, &options) {
        Err(e) if create && e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?.into_std(),
    };
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    // a sweeper had it in between, and removed it
    let there = dir.symlink_metadata(LOCK).is_ok();
    Ok(there.then_some(lock))
}

/// Makes a directory that nobody else may enter.
fn make_private(dir: &Dir, name: &str) -> io::Result<()> {
    #[allow(unused_mut)]
    let mut builder = cap_std::fs::DirBuilder::new();
    #[cfg(unix)]
    cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
    dir.create_dir_with(name, &builder)
}
