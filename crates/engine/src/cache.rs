//! Compiled code on disk.
//!
//! Loading compiled code runs it, so a file counts only when this user wrote it: the folder is owner-only, and each
//! file carries a keyed BLAKE3 hash whose key lies beside it, owner-only too. Anything else is compiled anew.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

const MAGIC: &[u8; 8] = b"loopwc1\n";
const HEADER: usize = MAGIC.len() + blake3::OUT_LEN;

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub fn new(folder: PathBuf) -> Self {
        Cache { folder }
    }

    /// The component for `wasm`, from the cache or compiled and added to it. A cache that cannot be used costs time,
    /// never an error.
    pub fn component(&self, engine: &Engine, wasm: &[u8]) -> Result<Component> {
        let Some(key) = self.key() else {
            return Component::from_binary(engine, wasm);
        };
        let name = name(engine, wasm);
        let path = self.folder.join(format!("{name}.cwasm"));
        if let Some(code) = read(&path, &key, &name) {
            // SAFETY: the keyed hash shows that this user's engine of this very configuration serialized these bytes.
            if let Ok(component) = unsafe { Component::deserialize(engine, &code) } {
                return Ok(component);
            }
        }
        let component = Component::from_binary(engine, wasm)?;
        if let Ok(code) = component.serialize() {
            let _ = write(&path, &key, &name, &code);
        }
        Ok(component)
    }

    /// The key of the folder's hashes, made at first use; `None` where the folder is not this user's alone.
    fn key(&self) -> Option<[u8; 32]> {
        private_folder(&self.folder).ok()?;
        let path = self.folder.join("key");
        for _ in 0..2 {
            if let Some(found) = read_private(&path).and_then(|b| b.try_into().ok()) {
                return Some(found);
            }
            let mut key = [0; 32];
            getrandom::fill(&mut key).ok()?;
            // another process may be first; the loop then reads its key
            let _ = publish(&path, &[&key], true);
        }
        None
    }
}

fn name(engine: &Engine, wasm: &[u8]) -> String {
    struct Sink(blake3::Hasher);
    impl Hasher for Sink {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sink = Sink(blake3::Hasher::new());
    // wasmtime's version, the compiler's settings and the CPU's features
    engine.precompile_compatibility_hash().hash(&mut sink);
    sink.0.update(blake3::hash(wasm).as_bytes());
    sink.0.finalize().to_hex()[..40].to_string()
}

fn read(path: &Path, key: &[u8; 32], name: &str) -> Option<Vec<u8>> {
    let mut bytes = read_private(path)?;
    let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
    let (hash, code) = rest.split_at_checked(blake3::OUT_LEN)?;
    // `blake3::Hash` compares in constant time
    let ok = magic == MAGIC && seal(key, name, code) == blake3::Hash::from_slice(hash).ok()?;
    if !ok {
        let _ = fs::remove_file(path);
        return None;
    }
    bytes.drain(..HEADER);
    Some(bytes)
}

fn write(path: &Path, key: &[u8; 32], name: &str, code: &[u8]) -> std::io::Result<()> {
    publish(path, &[MAGIC, seal(key, name, code).as_bytes(), code], false)
}

/// The hash of code and of what it was compiled from, so that a file does not pass under another's name.
fn seal(key: &[u8; 32], name: &str, code: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_keyed(key)
        .update(name.as_bytes())
        .update(code)
        .finalize()
}

/// Writes a whole file under another name and moves it into place. One that may not take another's is on the disk when
/// this returns; the rest have a hash, which tells what a power failure left of them.
fn publish(path: &Path, parts: &[&[u8]], keep: bool) -> std::io::Result<()> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
    let temp = path.with_extension(format!("{:x}.tmp", u64::from_le_bytes(salt)));
    let made = (|| {
        let mut file = create_private(&temp)?;
        for part in parts {
            file.write_all(part)?;
        }
        if keep {
            file.sync_all()?;
            fs::hard_link(&temp, path)
        } else {
            fs::rename(&temp, path)
        }
    })();
    if keep || made.is_err() {
        let _ = fs::remove_file(&temp);
    }
    made
}

#[cfg(unix)]
mod os {
    use super::*;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

    /// Whether `meta` is this user's alone to write (and, for `secret`, to read).
    fn mine(meta: &fs::Metadata) -> bool {
        meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0
    }

    pub fn private_folder(folder: &Path) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let meta = fs::symlink_metadata(folder)?;
        if meta.is_dir() && mine(&meta) {
            Ok(())
        } else {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }

    pub fn create_private(path: &Path) -> std::io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    pub fn read_private(path: &Path) -> Option<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)
            .ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || !mine(&meta) {
            return None;
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(not(unix))]
mod os {
    use super::*;

    // The user's own profile folder is private by its inherited ACL.
    pub fn private_folder(folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)
    }

    pub fn create_private(path: &Path) -> std::io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    pub fn read_private(path: &Path) -> Option<Vec<u8>> {
        let mut bytes = vec![];
        File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

use os::{create_private, private_folder, read_private};
