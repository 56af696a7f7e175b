//! Sessions on an event loop: providers served and peers called from Python.

mod calls;
mod conn;
mod contract;
pub mod failures;
mod futures;
mod jobs;
mod links;
mod net;
mod pending;
mod plain;
mod pumps;
mod remote;
mod serve;
pub mod values;

pub use conn::Wire;
pub use contract::{Contract, Member};
pub use jobs::Job;
pub use links::RemoteHandle;
pub use net::{Listener, Socket};
pub use pending::WireCall;
pub use remote::{Remote, Route};
