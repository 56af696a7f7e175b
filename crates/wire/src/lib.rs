//! How calls travel between processes.
//!
//! `docs/wire.md` is the specification: the encoding of values, wRPC's framing for any peer, and sessions between
//! loop-kit peers. Nothing here knows wasmtime or Python.

mod address;
pub mod arena;
pub mod codec;
mod failure;
pub mod frame;
mod hello;
#[cfg(target_os = "linux")]
pub mod passing;
pub mod plain;
pub mod relay;
mod replay;
mod serve;
pub mod session;
pub mod transport;

pub use address::{Address, Place};
pub use failure::{Code, Failure};
pub use hello::{Hello, Interface, Limits, Link, PROTOCOL, serves};
pub use replay::first_byte;
pub use serve::{Bounds, Guarded, Others, Server, Service, admit, serve};
