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

pub use link::link;
pub use loop_fuzz_wire::{Counting, session};
pub use memory::memory;
pub use text::text;
pub use transfer::values;

/// An oracle.
pub type Oracle = fn(&[u8]);

/// Every oracle by the name of its target in `fuzz/`.
pub const ORACLES: [(&str, Oracle); 5] = [
    ("values", values),
    ("memory", memory),
    ("text", text),
    ("link", link),
    ("session", session),
];
