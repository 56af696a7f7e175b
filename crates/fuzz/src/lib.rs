//! What the fuzzers check. Each oracle takes any bytes, makes a case of them, and panics where loop-engine is wrong.
//!
//! cargo-fuzz drives them from `fuzz/` with inputs that reach new code (`make fuzz`), and `cargo test -p loop-fuzz`
//! with as many random ones as fit into seconds. The same input always makes the same case.

mod component;
mod hosts;
mod link;
mod memory;
mod plant;
mod text;
mod transfer;
mod types;
mod values;
mod wire;

pub use link::link;
pub use loop_fuzz_wire::{Counting, frames, records, session};
pub use memory::memory;
pub use text::text;
pub use transfer::values;
pub use wire::wire;

/// An oracle.
pub type Oracle = fn(&[u8]);

/// Every oracle by the name of its target in `fuzz/`.
pub const ORACLES: [(&str, Oracle); 8] = [
    ("values", values),
    ("memory", memory),
    ("text", text),
    ("link", link),
    ("wire", wire),
    ("session", session),
    ("frames", frames),
    ("records", records),
];
