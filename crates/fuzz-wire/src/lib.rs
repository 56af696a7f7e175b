//! What the fuzzers check of `loop-wire`. An oracle takes any bytes, makes a case of them, and panics where something
//! is wrong.

mod memory;
mod session;

pub use memory::Counting;
pub use session::session;
