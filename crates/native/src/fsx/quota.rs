//! How much a root may hold.

use std::collections::HashSet;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cap_fs_ext::{DirExt, MetadataExt};
use cap_std::fs::{Dir, Metadata};

use super::code::ErrorCode;

/// Files with their bytes: what is there, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
}

impl Count {
    pub const ONE: Count = Count { bytes: 0, files: 1 };

    pub fn bytes(bytes: u64) -> Self {
        Count { bytes, files: 0 }
    }

    /// What goes when this name of it goes.
    pub fn of(meta: &Metadata) -> Self {
        let bytes = if meta.is_file() && MetadataExt::nlink(meta) <= 1 {
            meta.len()
        } else {
            0
        };
        Count { bytes, files: 1 }
    }

    pub fn plus(self, other: Count) -> Self {
        Count {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
        }
    }

    fn minus(self, other: Count) -> Self {
        Count {
            bytes: self.bytes.saturating_sub(other.bytes),
            files: self.files.saturating_sub(other.files),
        }
    }

    fn within(self, most: Count) -> bool {
        self.bytes <= most.bytes && self.files <= most.files
    }
}

/// The quota of a root.
///
/// What is there is counted when something is first added, and from then on what the component adds and removes. Others
/// may change files too, so that what seems too much is counted anew, but never so often that more than a tenth of
/// the time goes into it.
pub(super) struct Quota {
    dir: Dir,
    most: Count,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    used: Option<Count>,
    /// Bytes that open streams have written: their files need not have a name any more.
    streaming: u64,
    /// When counting may begin again.
    rest_until: Option<Instant>,
}

/// A directory nested deeper cannot be counted, and nothing is added to a root that has one.
const MAX_DEPTH: usize = 256;

impl Quota {
    pub fn new(dir: Dir, most: Count) -> Self {
        Quota {
            dir,
            most,
            known: Mutex::default(),
        }
    }

    /// Takes what will be added, before it is; `quota` where that is too much.
    pub fn take(&self, more: Count) -> Result<(), ErrorCode> {
        if more == Count::default() {
            return Ok(());
        }
        let mut known = self.known.lock().expect("nothing panics here");
        let fresh = known.used.is_none();
        let used = match known.used {
            Some(used) => used,
            None => self.count(&mut known)?,
        };
        let mut then = used.plus(more).plus(Count::bytes(known.streaming));
        if !then.within(self.most) && !fresh && known.rest_until.is_none_or(|at| at <= Instant::now()) {
            let used = self.count(&mut known)?;
            then = used.plus(more).plus(Count::bytes(known.streaming));
        }
        if !then.within(self.most) {
            return Err(ErrorCode::Quota);
        }
        known.used = Some(then.minus(Count::bytes(known.streaming)));
        Ok(())
    }

    /// Gives back what was removed, or was not added after all.
    pub fn give(&self, less: Count) {
        let mut known = self.known.lock().expect("nothing panics here");
        known.used = known.used.map(|used| used.minus(less));
    }

    /// The same as `take` for bytes of a stream, which count until [`Streamed`] is dropped, name or not.
    fn take_streamed(&self, bytes: u64) -> Result<(), ErrorCode> {
        self.take(Count::bytes(bytes))?;
        let mut known = self.known.lock().expect("nothing panics here");
        known.used = known.used.map(|used| used.minus(Count::bytes(bytes)));
        known.streaming += bytes;
        Ok(())
    }

    fn count(&self, known: &mut Known) -> Result<Count, ErrorCode> {
        let began = Instant::now();
        // an unreadable directory does not hide what is in the others
        let counted = count(&self.dir, self.most)?;
        known.used = Some(counted);
        let rest = (began.elapsed() * 10).max(Duration::from_millis(1));
        known.rest_until = Some(Instant::now() + rest);
        Ok(counted)
    }
}

/// What an open stream has written so far.
pub(super) struct Streamed {
    quota: std::sync::Arc<Quota>,
    bytes: u64,
}

impl Streamed {
    pub fn new(quota: std::sync::Arc<Quota>) -> Self {
        Streamed { quota, bytes: 0 }
    }

    pub fn take(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        self.quota.take_streamed(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let mut known = self.quota.known.lock().expect("nothing panics here");
        known.streaming -= self.bytes;
        known.used = known.used.map(|used| used.plus(Count::bytes(self.bytes)));
    }
}

/// Counts what is below a directory, links not followed; no further than what is surely too much.
pub(super) fn count(dir: &Dir, most: Count) -> Result<Count, ErrorCode> {
    let mut sum = Count::default();
    // files with several names have their bytes once
    let mut seen = HashSet::new();
    let mut above = vec![dir.entries()?];
    let mut dirs = vec![dir.try_clone()?];
    while let Some(entries) = above.last_mut() {
        let Some(entry) = entries.next() else {
            above.pop();
            dirs.pop();
            continue;
        };
        let Ok(entry) = entry else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        sum.files += 1;
        if meta.is_file()
            && (MetadataExt::nlink(&meta) <= 1
                || seen.insert((MetadataExt::dev(&meta), MetadataExt::ino(&meta))))
        {
            sum.bytes = sum.bytes.saturating_add(meta.len());
        }
        if !sum.within(most) {
            return Ok(sum);
        }
        if meta.is_dir() {
            if dirs.len() > MAX_DEPTH {
                return Err(ErrorCode::Quota);
            }
            let parent = dirs.last().expect("one for each level");
            let Ok(below) = parent.open_dir_nofollow(entry.file_name()) else {
                continue;
            };
            match below.entries() {
                Ok(entries) => {
                    above.push(entries);
                    dirs.push(below);
                }
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => continue,
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(sum)
}
