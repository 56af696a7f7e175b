//! Values between components and the wire.
//!
//! The bytes of `docs/wire.md` are one more [`Domain`](loop_engine::Domain) of values, [`Encoded`]: what a guest passes
//! is written as the walker meets it, and what a peer sent is read in the same way. Bytes from outside are checked as
//! a whole before anything is read from them, so that no guest is entered with bad ones.

mod again;
mod check;
mod chunk;
mod codec;
mod encoded;
mod flow;
mod forward;
mod gather;
mod import;
mod incoming;
mod nums;
mod outgoing;
mod peer;
mod plain;
mod times;

pub use check::{BadBytes, check};
pub use chunk::{read_chunk, read_settled, write_chunk};
pub use codec::{decode, encode};
pub use encoded::{Encoded, Wire};
pub use flow::{Ends, Failed, Handles, Invocation, Pump, SessionCall, Spawn, failure, follow};
pub use forward::{Forward, Reach, Reached};
pub use import::{Link, Route, streams};
pub use incoming::{Incoming, receive};
pub use outgoing::{Buffer, Message, Outgoing, Pending, Way};
pub use peer::{Apart, Peer};
pub use plain::Functions;
pub use times::{Spent, Watch};

#[cfg(test)]
mod tests;
