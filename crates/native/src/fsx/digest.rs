//! Digests of files.
//!
//! Files are read, not mapped: who cuts a mapped file short kills the process that reads it. What a thread has read it
//! hashes while it is in its cache, so that reading costs little beside.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use sha2::{Digest, Sha256};

use super::code::ErrorCode;

/// Bytes read at once; a power of two, so that each block is a subtree of BLAKE3.
const BLOCK: usize = 256 << 10;

/// Bytes from which on it is worth to have several threads.
const MANY: u64 = 4 << 20;

const MAX_THREADS: usize = 8;

/// In the order of the WIT.
#[derive(Debug, Clone, Copy)]
pub(super) enum Algorithm {
    Blake3,
    Sha256,
}

/// The digest of `file`, which has `size` bytes.
pub(super) fn digest(file: &mut File, size: u64, algorithm: Algorithm) -> Result<Vec<u8>, ErrorCode> {
    match algorithm {
        Algorithm::Sha256 => {
            let mut hasher = Sha256::new();
            each_block(file, |block| hasher.update(block))?;
            Ok(hasher.finalize().to_vec())
        }
        Algorithm::Blake3 => {
            if size >= MANY
                && let Some(hash) = parallel(file, size)?
            {
                return Ok(hash.as_bytes().to_vec());
            }
            let mut hasher = blake3::Hasher::new();
            each_block(file, |block| {
                hasher.update(block);
            })?;
            Ok(hasher.finalize().as_bytes().to_vec())
        }
    }
}

fn each_block(file: &mut File, mut f: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => f(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The hash by several threads; none where the file turns out to be shorter, or cannot be read so.
fn parallel(file: &File, size: u64) -> io::Result<Option<blake3::Hash>> {
    let threads = std::thread::available_parallelism()
        .map_or(1, |n| n.get())
        .min(MAX_THREADS);
    let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).map_err(io::Error::other)?;
    let (next, short) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> io::Result<Vec<(usize, ChainingValue)>> {
        let mut buffer = vec![0; BLOCK];
        let mut done = vec![];
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= blocks || short.load(Relaxed) {
                return Ok(done);
            }
            let offset = index as u64 * BLOCK as u64;
            let block = &mut buffer[..BLOCK.min((size - offset) as usize)];
            if !read_at(file, block, offset)? {
                short.store(true, Relaxed);
                return Ok(done);
            }
            let value = blake3::Hasher::new()
                .set_input_offset(offset)
                .update(block)
                .finalize_non_root();
            done.push((index, value));
        }
    };
    let mut values = vec![[0; 32]; blocks];
    let results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        results.extend(
            others
                .into_iter()
                .map(|other| other.join().expect("hashing does not panic")),
        );
        results
    });
    for result in results {
        for (index, value) in result? {
            values[index] = value;
        }
    }
    if short.into_inner() {
        return Ok(None);
    }
    let left = left_subtree_len(size);
    let (a, b) = values.split_at((left / BLOCK as u64) as usize);
    Ok(Some(merge_subtrees_root(
        &merged(a, left),
        &merged(b, size - left),
        Mode::Hash,
    )))
}

/// The value of a subtree of `len` bytes from those of its blocks.
fn merged(values: &[ChainingValue], len: u64) -> ChainingValue {
    if let [one] = values {
        return *one;
    }
    let left = left_subtree_len(len);
    let (a, b) = values.split_at((left / BLOCK as u64) as usize);
    merge_subtrees_non_root(&merged(a, left), &merged(b, len - left), Mode::Hash)
}

/// Fills `block` from `offset` on; false where the file ends before.
#[cfg(unix)]
fn read_at(file: &File, block: &mut [u8], offset: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    match file.read_exact_at(block, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(not(unix))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<bool> {
    Ok(false)
}
