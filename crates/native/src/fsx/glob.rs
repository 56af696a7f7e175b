//! Patterns, and the walk that looks for what matches.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, DirEntry, FileType};
use ignore::overrides::{Override, OverrideBuilder};

use super::code::ErrorCode;

/// No longer than a path may be on most systems: what a pattern costs to compile grows with its length.
const MAX_PATTERN: usize = 4096;

/// Braces within braces. The parser recurses, and a guest must not be able to overflow the host's stack.
const MAX_NESTING: usize = 32;

/// A pattern of `rg --glob`, compiled by ripgrep's own code.
pub(super) struct Pattern {
    matcher: Override,
    /// The directories that every match is in, as far as the pattern spells them out: no need to look elsewhere.
    within: Vec<String>,
}

impl Pattern {
    pub fn new(pattern: &str) -> Result<Self, ErrorCode> {
        if pattern.len() > MAX_PATTERN {
            return Err(ErrorCode::NameTooLong);
        }
        if pattern.contains('\0') || pattern.starts_with('!') || nesting(pattern) > MAX_NESTING {
            return Err(ErrorCode::Invalid);
        }
        // "." is the root to which paths are relative already: nothing is to be stripped
        let mut builder = OverrideBuilder::new(".");
        builder.add(pattern).map_err(|_| ErrorCode::Invalid)?;
        let matcher = builder.build().map_err(|_| ErrorCode::Invalid)?;
        // nothing was added: an empty line or a comment, which would let everything through
        if matcher.num_whitelists() == 0 {
            return Err(ErrorCode::Invalid);
        }
        Ok(Pattern {
            matcher,
            within: literal_directories(pattern),
        })
    }

    fn matches(&self, path: &str) -> bool {
        self.matcher.matched(Path::new(path), false).is_whitelist()
    }
}

/// Patterns of which one must match; those with a leading `!` take out again.
pub(super) fn compile(patterns: &[&str]) -> Result<Override, ErrorCode> {
    if patterns.iter().map(|pattern| pattern.len()).sum::<usize>() > MAX_PATTERN {
        return Err(ErrorCode::NameTooLong);
    }
    let mut builder = OverrideBuilder::new(".");
    for pattern in patterns {
        // of a lone `!` nothing would be left
        if pattern.contains('\0') || *pattern == "!" || !is_sound(pattern) {
            return Err(ErrorCode::Invalid);
        }
        builder.add(pattern).map_err(|_| ErrorCode::Invalid)?;
    }
    let compiled = builder.build().map_err(|_| ErrorCode::Invalid)?;
    // an empty line or a comment would say nothing
    let all = compiled.num_whitelists() + compiled.num_ignores();
    if all == patterns.len() as u64 {
        Ok(compiled)
    } else {
        Err(ErrorCode::Invalid)
    }
}

/// Whether a line of patterns can be compiled without overflowing the stack, and at bearable cost.
pub(super) fn is_sound(line: &str) -> bool {
    line.len() <= MAX_PATTERN && nesting(line) <= MAX_NESTING
}

/// How deep braces nest, at most: an escaped one counts too.
fn nesting(pattern: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for c in pattern.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn literal_directories(pattern: &str) -> Vec<String> {
    let mut parts: Vec<_> = pattern.strip_prefix('/').unwrap_or(pattern).split('/').collect();
    let last = parts.pop();
    // a slash at the end does not tie a pattern to the root
    if last == Some("") {
        parts.pop();
    }
    parts
        .into_iter()
        .take_while(|part| !part.contains(['*', '?', '[', ']', '{', '}', '\\']))
        .map(String::from)
        .collect()
}

/// A directory still to be walked, opened only when its turn comes: a chain of any depth takes two descriptors.
struct Pending {
    parent: Arc<Dir>,
    name: String,
    /// The path of `parent`: empty, or with a slash at its end.
    above: String,
    depth: usize,
}

struct Walk<'p> {
    pattern: &'p Pattern,
    max: usize,
    found: Vec<String>,
    pending: Vec<Pending>,
}

/// The paths of all files below `root` that match, sorted; `message-size` where there are more than `max`.
///
/// What vanishes meanwhile is left out, and so is what is in a directory that may not be read.
pub(super) fn walk(root: &Dir, pattern: &Pattern, max: usize) -> Result<Vec<String>, ErrorCode> {
    let mut walk = Walk {
        pattern,
        max,
        found: vec![],
        pending: vec![],
    };
    walk.look(Arc::new(root.open_dir(".")?), "", 0)?;
    while let Some(next) = walk.pending.pop() {
        match walk.enter(next) {
            Ok(())
            | Err(ErrorCode::Access | ErrorCode::NoEntry | ErrorCode::NotDirectory | ErrorCode::Loop) => {}
            Err(code) => return Err(code),
        }
    }
    walk.found.sort_unstable();
    Ok(walk.found)
}

impl Walk<'_> {
    fn enter(&mut self, next: Pending) -> Result<(), ErrorCode> {
        // From the open parent and never through a link: a swap meanwhile cannot lead out.
        let dir = Arc::new(next.parent.open_dir_nofollow(&next.name)?);
        drop(next.parent);
        self.look(dir, &format!("{}{}/", next.above, next.name), next.depth)
    }

    /// Looks through one directory, whose path is `above`.
    fn look(&mut self, dir: Arc<Dir>, above: &str, depth: usize) -> Result<(), ErrorCode> {
        let only = self.pattern.within.get(depth);
        for entry in dir.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Some(ty) = file_type(&entry)? else { continue };
            if ty.is_dir() {
                if only.is_none_or(|only| *only == name) {
                    let (parent, above) = (dir.clone(), above.to_string());
                    self.pending.push(Pending {
                        parent,
                        name,
                        above,
                        depth: depth + 1,
                    });
                }
            } else if ty.is_file() && only.is_none() {
                let path = format!("{above}{name}");
                if self.pattern.matches(&path) {
                    self.found.push(path);
                    if self.found.len() > self.max {
                        return Err(ErrorCode::MessageSize);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What an entry is, asked for where listing the directory did not tell; `None` if it vanished.
fn file_type(entry: &DirEntry) -> io::Result<Option<FileType>> {
    let ty = entry.file_type()?;
    if ty != FileType::unknown() {
        return Ok(Some(ty));
    }
    match entry.metadata() {
        Ok(meta) => Ok(Some(meta.file_type())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
