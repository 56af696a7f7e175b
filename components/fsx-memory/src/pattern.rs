//! Patterns, and what `.gitignore` files say, by ripgrep's own code, as the native provider has them.

use std::path::Path;
use std::rc::Rc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::overrides::{Override, OverrideBuilder};

use crate::exports::loop_::fsx::files::ErrorCode;
use crate::store::{Content, Id, Result, Store};

/// What a pattern costs to compile grows with its length.
const MAX_PATTERN: usize = 4096;

/// Braces within braces: the parser recurses.
const MAX_NESTING: usize = 32;

/// Bytes of one `.gitignore` that are read; the rest is left out.
const MAX_IGNORES: usize = 1 << 20;

/// A pattern of `rg --glob`.
pub struct Pattern(Override);

impl Pattern {
    pub fn new(pattern: &str) -> Result<Self> {
        if pattern.len() > MAX_PATTERN {
            return Err(ErrorCode::NameTooLong);
        }
        if pattern.contains('\0') || pattern.starts_with('!') || !is_sound(pattern) {
            return Err(ErrorCode::Invalid);
        }
        let compiled = build(&[pattern])?;
        // nothing was added: an empty line or a comment, which would let everything through
        if compiled.num_whitelists() == 0 {
            return Err(ErrorCode::Invalid);
        }
        Ok(Pattern(compiled))
    }

    pub fn matches(&self, path: &str) -> bool {
        self.0.matched(Path::new(path), false).is_whitelist()
    }
}

/// Patterns of which one must match; those with a leading `!` take out again.
pub struct Patterns(Override);

impl Patterns {
    pub fn new(patterns: &[String]) -> Result<Self> {
        if patterns.iter().map(String::len).sum::<usize>() > MAX_PATTERN {
            return Err(ErrorCode::NameTooLong);
        }
        // of a lone `!` nothing would be left
        if patterns
            .iter()
            .any(|p| p.contains('\0') || p == "!" || !is_sound(p))
        {
            return Err(ErrorCode::Invalid);
        }
        let compiled = build(patterns)?;
        // an empty line or a comment would say nothing
        if compiled.num_whitelists() + compiled.num_ignores() != patterns.len() as u64 {
            return Err(ErrorCode::Invalid);
        }
        Ok(Patterns(compiled))
    }

    /// Whether they leave something out.
    pub fn leave_out(&self, path: &str, is_dir: bool) -> bool {
        self.0.matched(Path::new(path), is_dir).is_ignore()
    }
}

fn build(patterns: &[impl AsRef<str>]) -> Result<Override> {
    // "." is the root to which paths are relative already: nothing is to be stripped
    let mut builder = OverrideBuilder::new(".");
    for pattern in patterns {
        builder.add(pattern.as_ref()).map_err(|_| ErrorCode::Invalid)?;
    }
    builder.build().map_err(|_| ErrorCode::Invalid)
}

/// Whether a line of patterns can be compiled without overflowing the stack, and at bearable cost.
fn is_sound(line: &str) -> bool {
    let (mut depth, mut deepest) = (0usize, 0);
    for c in line.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    line.len() <= MAX_PATTERN && deepest <= MAX_NESTING
}

/// The `.gitignore` of one directory, and those of the directories above it.
pub struct Ignores {
    above: Option<Rc<Ignores>>,
    here: Gitignore,
}

impl Ignores {
    /// With that of the directory `dir`, which is at `path` of the root, if it has one.
    pub fn with(above: Option<Rc<Self>>, store: &Store, dir: Id, path: &str) -> Option<Rc<Self>> {
        let Some(id) = store.lookup(dir, ".gitignore") else {
            return above;
        };
        // as git has it, a link is none
        let Content::File(file) = &store.node(id).content else {
            return above;
        };
        let text = String::from_utf8_lossy(&file.data[..file.data.len().min(MAX_IGNORES)]);
        let mut builder = GitignoreBuilder::new(if path.is_empty() { "." } else { path });
        builder.allow_unclosed_class(false); // as git has it
        for line in text.lines() {
            // what is no pattern ignores nothing, as git has it
            if is_sound(line) {
                let _ = builder.add_line(None, line);
            }
        }
        match builder.build() {
            Ok(here) => Some(Rc::new(Ignores { above, here })),
            Err(_) => above,
        }
    }

    /// Whether what is at `path` of the root is ignored; that directories above it are is not looked at.
    pub fn ignore(&self, path: &str, is_dir: bool) -> bool {
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
