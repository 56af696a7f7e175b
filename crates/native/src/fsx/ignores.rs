//! What `.gitignore` files say, by ripgrep's own code.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::glob::is_sound;

const NAME: &str = ".gitignore";

/// Bytes of one file that are read; the rest is left out.
const MAX_SIZE: u64 = 1 << 20;

/// The file of one directory, and those of the directories above it.
pub(super) struct Ignores {
    above: Option<Arc<Ignores>>,
    here: Gitignore,
}

impl Ignores {
    /// Those of `root` and of the directories `parts` below it, but the last; none through a link.
    pub fn above(root: &Dir, parts: &[&str]) -> Option<Arc<Self>> {
        if parts.is_empty() || parts.contains(&"..") {
            return None;
        }
        let mut all = Ignores::with(None, root, "");
        let mut dir = root.try_clone().ok()?;
        for (depth, part) in parts[..parts.len() - 1].iter().enumerate() {
            match dir.open_dir_nofollow(part) {
                Ok(below) => dir = below,
                Err(_) => break,
            }
            all = Ignores::with(all, &dir, &parts[..=depth].join("/"));
        }
        all
    }

    /// With that of the directory `dir`, which is at `path` of the root, if it has one.
    pub fn with(above: Option<Arc<Self>>, dir: &Dir, path: &str) -> Option<Arc<Self>> {
        let Some(text) = read(dir) else { return above };
        let mut builder = GitignoreBuilder::new(if path.is_empty() { "." } else { path });
        builder.allow_unclosed_class(false); // as git has it
        for line in text.lines() {
            // what is no pattern ignores nothing, as git has it
            if is_sound(line) {
                let _ = builder.add_line(None, line);
            }
        }
        match builder.build() {
            Ok(here) => Some(Arc::new(Ignores { above, here })),
            Err(_) => above,
        }
    }

    /// Whether what is at `path` of the root is ignored; that directories above it are is not looked at.
    pub fn ignores(&self, path: &str, is_dir: bool) -> bool {
        let mut at = Some(self);
        while let Some(ignores) = at {
            let matched = ignores.here.matched(Path::new(path), is_dir);
            if !matched.is_none() {
                return matched.is_ignore();
            }
            at = ignores.above.as_deref();
        }
        false
    }
}

/// The text of the directory's file. As git has it, a link is none.
fn read(dir: &Dir) -> Option<String> {
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true).follow(FollowSymlinks::No);
    let file = dir.open_with(NAME, &options).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = vec![];
    file.into_std().take(MAX_SIZE).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
