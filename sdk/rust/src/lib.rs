//! Providers for loop-kit: what serves WIT interfaces to WebAssembly components, as a process of its own.
//!
//! `build.rs` writes the Rust of the WIT (see `loop_provider_build`); a provider implements the trait that comes of it:
//!
//! ```ignore
//! loop_provider::wit!();
//!
//! struct Store(Mutex<HashMap<String, Vec<u8>>>);
//!
//! impl store::Provider for Store {
//!     async fn get(&self, _: Call, key: String) -> Result<Option<Vec<u8>>, Failure> {
//!         Ok(self.0.lock().unwrap().get(&key).cloned())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     Provider::new().with(store::provide(|_link| Ok(Store::default()))).run()
//! }
//! ```
//!
//! Each link, that is each component that imports the interface, gets a provider of its own, made under the link's grant.
//! A function that waits does so by `await`; dropping what it awaits is how a call that is cancelled, or late, ends.

mod answer;
mod call;
mod channels;
mod invocation;
mod lift;
mod links;
mod lower;
mod provider;
mod pumps;
mod run;
#[cfg(test)]
mod tests;

pub use bytes::Bytes;
pub use loop_wire::transport::{Options, Pem, Tls, Token};
pub use loop_wire::{Address, Code, Failure, Limits};

pub use self::answer::Interface;
pub use self::call::{Call, Link};
pub use self::channels::{Promise, Stream};
pub use self::provider::{Provider, Server};
pub use serde_json::Value;

/// The modules that `build.rs` wrote: one for each interface. Resources are types of the same name beside it.
#[macro_export]
macro_rules! wit {
    () => {
        include!(concat!(env!("OUT_DIR"), "/wit.rs"));
    };
}

/// What the text that `loop_provider_build` writes stands on.
#[doc(hidden)]
pub mod parts {
    pub use std::sync::Arc;
    pub use std::vec::Vec;

    pub use bytes::Bytes;
    pub use loop_wire::Failure;
    pub use loop_wire::codec::{Cursor, Decode, Encode, Invalid, put_unsigned};

    pub use crate::answer::{Answer, Interface, Request, Service, put_flags, unfinished};
    pub use crate::call::{Call, ErrorContext, Link};
    pub use crate::channels::{Promise, Stream};
    pub use crate::lift::Lift;
    pub use crate::lower::Lower;
}
