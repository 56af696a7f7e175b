//! Sessions: one connection, many calls.

mod channel;
mod core;
pub(crate) mod driver;
mod eager;
mod handler;
mod inbox;
mod invocation;
pub(crate) mod lane;
mod native;
#[cfg(test)]
mod tests;

pub use self::core::{Called, Core, Event, Meta, Request, Times};
pub use self::driver::{Driver, Pending, Session};
pub use self::eager::Eager;
pub use self::handler::{Answer, Handler, Io, Nothing, Reply};
pub use self::inbox::{Arrived, Inbox, State};
pub use self::native::{accept_native, connect_native};
