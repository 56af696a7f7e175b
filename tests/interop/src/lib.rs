//! loop-wire against the official wRPC crates, both ways.

pub mod official;
pub mod ours;
pub mod place;

/// Bytes that are not all alike.
pub fn some_bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}
