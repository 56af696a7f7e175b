//! Sessions: one connection, many calls.

mod channel;
mod core;
mod driver;
mod inbox;

pub use self::core::{Called, Core, Event, Meta, Request, Times};
pub use self::driver::{Answer, Driver, Handler, Io, Nothing, Pending, Reply, Session};
pub use self::inbox::Inbox;
#[cfg(test)]
mod tests;
