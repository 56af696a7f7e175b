//! What the fuzzers check of `loop-wire`. An oracle takes any bytes, makes a case of them, and panics where something
//! is wrong.

mod frames;
mod memory;
mod records;
mod session;

pub use frames::frames;
pub use memory::Counting;
pub use records::records;
pub use session::session;

/// Bytes that may be held: what messages claim and is made ready, and what any session has.
const HELD: usize = (256 << 20) + (2 << 20);
/// Bytes that are held, and those that are answered, for each byte that was said: a channel for its path, a failure with
/// its words for a call.
const FOR_EACH: usize = 256;

/// A frame of that kind.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    [
        &loop_wire::frame::Header { length, kind, stream }.bytes()[..],
        payload,
    ]
    .concat()
}
