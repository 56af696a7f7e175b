//! Whole trees: removed, copied, counted.
//!
//! From open directories and never through a link, so that nothing that is swapped meanwhile leads out; and without
//! recursion, since a tree may be deeper than a stack.

use std::ffi::OsString;
use std::io;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions, ReadDir};

use super::code::ErrorCode;
use super::quota::{self, Count};
use super::root::regular;
use super::write::{copy_bytes, is_same, leads_out};

/// Directories that are open at once: what is deeper is brought up before it is removed.
const MAX_OPEN: usize = 64;

/// Deeper trees are not copied.
const MAX_DEPTH: usize = 256;

/// What a directory that is brought up is called until it is removed.
const RAISED: &str = ".loop-fsx-raised-";

struct Level {
    dir: Dir,
    entries: ReadDir,
    /// Its name in the level above.
    name: OsString,
}

impl Level {
    fn open(parent: &Dir, name: OsString) -> io::Result<Self> {
        let dir = parent.open_dir_nofollow(&name)?;
        let entries = dir.entries()?;
        Ok(Level { dir, entries, name })
    }
}

/// Removes what is called `name` with all that is in it, and tells of each thing that is gone.
pub(super) fn remove(parent: &Dir, name: &str, gone: &mut dyn FnMut(Count)) -> Result<(), ErrorCode> {
    let meta = parent.symlink_metadata(name)?;
    if !meta.is_dir() {
        parent.remove_file(name)?;
        gone(Count::of(&meta));
        return Ok(());
    }
    let mut raised: Vec<OsString> = vec![];
    let mut number = 0usize;
    let mut levels = vec![Level::open(parent, name.into())?];
    loop {
        let depth = levels.len();
        let level = levels.last_mut().expect("the loop ends with the last one");
        match level.entries.next() {
            Some(entry) => {
                let entry = entry?;
                let meta = match entry.metadata() {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                let name = entry.file_name();
                if !meta.is_dir() {
                    vanished_or(level.dir.remove_file(&name))?;
                    gone(Count::of(&meta));
                } else if depth < MAX_OPEN {
                    let below = Level::open(&level.dir, name);
                    match below {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        other => levels.push(other?),
                    }
                } else {
                    let (top, level) = (&levels[0].dir, &levels[depth - 1].dir);
                    let up = loop {
                        number += 1;
                        let up = OsString::from(format!("{RAISED}{number}"));
                        if top.symlink_metadata(&up).is_err() {
                            break up;
                        }
                    };
                    level.rename(&name, top, &up)?;
                    raised.push(up);
                }
            }
            None if depth == 1 => {
                let top = &levels[0].dir;
                // the listing of the top may have met it by then
                if let Some(up) = raised.pop() {
                    match Level::open(top, up) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        other => levels.push(other?),
                    }
                    continue;
                }
                parent.remove_dir(name)?;
                gone(Count::ONE);
                return Ok(());
            }
            None => {
                let done = levels.pop().expect("it was looked at");
                let above = &levels.last().expect("the top has its own case").dir;
                vanished_or(above.remove_dir(&done.name))?;
                gone(Count::ONE);
            }
        }
    }
}

fn vanished_or(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What is in the directory `name`, with itself.
pub(super) fn count(parent: &Dir, name: &str) -> Result<Count, ErrorCode> {
    let most = Count {
        bytes: u64::MAX,
        files: u64::MAX,
    };
    Ok(quota::count(&parent.open_dir_nofollow(name)?, most)?.plus(Count::ONE))
}

/// What copying a tree did.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub entries: u64,
    pub bytes: u64,
    pub left_out: u64,
}

/// Copies all that is in `from` into a new directory `name`. `links`: links too, as long as they stay in the tree. `take`
/// is asked before anything is made.
pub(super) fn copy(
    from: &Dir,
    parent: &Dir,
    name: &str,
    links: bool,
    take: &dyn Fn(Count) -> Result<(), ErrorCode>,
) -> Result<Copied, ErrorCode> {
    let mut copied = Copied::default();
    let top = Copying::begin(from.try_clone()?, parent, name, take)?;
    copied.entries += 1;
    // a copy within its own source must not copy itself
    let own = top.to.dir_metadata()?;
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let meta = match entry.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let Ok(name) = entry.file_name().into_string() else {
            copied.left_out += 1;
            continue;
        };
        if meta.is_file() {
            copied.bytes += level.file(&name, take)?;
            copied.entries += 1;
        } else if meta.is_dir() {
            if is_same(&meta, &own) {
                continue;
            }
            let below = level.from.open_dir_nofollow(&name)?;
            let below = Copying::begin(below, &level.to, &name, take)?;
            copied.entries += 1;
            if levels.len() == MAX_DEPTH {
                return Err(ErrorCode::NameTooLong);
            }
            levels.push(below);
        } else {
            let depth = levels.len() - 1;
            let level = levels.last().expect("this one");
            if links && meta.is_symlink() && level.link(&name, depth, take)? {
                copied.entries += 1;
            } else {
                copied.left_out += 1;
            }
        }
    }
    Ok(copied)
}

/// A directory that is being copied.
struct Copying {
    from: Dir,
    to: Dir,
    entries: ReadDir,
}

type Take<'t> = &'t dyn Fn(Count) -> Result<(), ErrorCode>;

impl Copying {
    fn begin(from: Dir, parent: &Dir, name: &str, take: Take<'_>) -> Result<Self, ErrorCode> {
        take(Count::ONE)?;
        parent.create_dir(name)?;
        let to = parent.open_dir_nofollow(name)?;
        let entries = from.entries()?;
        Ok(Copying { from, to, entries })
    }

    fn file(&self, name: &str, take: Take<'_>) -> Result<u64, ErrorCode> {
        let options = |options: &mut OpenOptions| options.nonblock(true).follow(FollowSymlinks::No).clone();
        let from = self
            .from
            .open_with(name, &options(OpenOptions::new().read(true)))?;
        let meta = from.metadata()?;
        regular(&meta)?;
        take(Count::bytes(meta.len()).plus(Count::ONE))?;
        let to = self
            .to
            .open_with(name, &options(OpenOptions::new().write(true).create_new(true)))?;
        to.set_permissions(meta.permissions())?;
        copy_bytes(&mut from.into_std(), &mut to.into_std(), meta.len())?;
        Ok(meta.len())
    }

    /// Whether the link stays in the tree, `depth` directories below its top, and is there now.
    fn link(&self, name: &str, depth: usize, take: Take<'_>) -> Result<bool, ErrorCode> {
        let target = self.from.read_link_contents(name)?;
        let Some(target) = target.to_str().filter(|target| !target.starts_with('/')) else {
            return Ok(false);
        };
        if leads_out(&format!("{}{name}", "d/".repeat(depth)), target) {
            return Ok(false);
        }
        take(Count::ONE)?;
        DirExt::symlink(&self.to, target, name)?;
        Ok(true)
    }
}
