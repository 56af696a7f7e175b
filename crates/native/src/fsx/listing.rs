//! The names in a directory with their kinds, some at a time.

use std::io;

use cap_std::fs::Dir;

use super::root::Kind;

/// An open directory and how far it was read.
pub(super) struct Listing {
    dir: Dir,
    begun: bool,
    /// Whether what is told now is not its beginning.
    continued: bool,
}

impl Listing {
    /// `dir` is open to be listed, and nobody else lists it.
    pub fn new(dir: Dir) -> Self {
        Listing {
            dir,
            begun: false,
            continued: false,
        }
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub fn begun(&self) -> bool {
        self.begun
    }

    pub fn was_continued(&self) -> bool {
        self.continued
    }

    /// Says that it will be read on.
    pub fn keep(&mut self) {
        self.continued = true;
    }

    /// Tells of some names, those that are UTF-8; whether there may be more.
    #[cfg(target_os = "linux")]
    pub fn some(&mut self, f: &mut dyn FnMut(&str, Kind)) -> io::Result<bool> {
        use std::cell::RefCell;
        use std::mem::MaybeUninit;

        use rustix::fs::{AtFlags, FileType, RawDir, statat};

        /// Of the system's answers; a directory with more comes in parts.
        const SIZE: usize = 64 << 10;

        thread_local! {
            static BUFFER: RefCell<Vec<MaybeUninit<u8>>> = RefCell::new(vec![MaybeUninit::uninit(); SIZE]);
        }

        let kind_of = |ty: FileType| match ty {
            FileType::RegularFile => Kind::RegularFile,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::SymbolicLink,
            _ => Kind::Other,
        };
        self.begun = true;
        BUFFER.with_borrow_mut(|buffer| {
            let mut raw = RawDir::new(&self.dir, buffer);
            while let Some(entry) = raw.next() {
                let entry = entry.map_err(io::Error::from)?;
                let name = entry.file_name();
                let known = entry.file_type();
                if let Ok(text) = name.to_str()
                    && !matches!(text, "." | "..")
                {
                    let kind = match known {
                        // some file systems do not tell
                        FileType::Unknown => match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                            Ok(meta) => Some(kind_of(FileType::from_raw_mode(meta.st_mode))),
                            Err(_) => None,
                        },
                        known => Some(kind_of(known)),
                    };
                    if let Some(kind) = kind {
                        f(text, kind);
                    }
                }
                if raw.is_buffer_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn some(&mut self, f: &mut dyn FnMut(&str, Kind)) -> io::Result<bool> {
        self.begun = true;
        for entry in self.dir.entries()? {
            let entry = entry?;
            if let (Ok(name), Ok(ty)) = (entry.file_name().into_string(), entry.file_type()) {
                f(&name, Kind::of(&ty));
            }
        }
        Ok(false)
    }
}
