//! loop-wire against the official wRPC crates, both ways.

pub mod official;
pub mod ours;
pub mod place;
