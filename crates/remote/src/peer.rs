//! What values need beside their bytes.

use std::sync::Arc;

use loop_engine::{Feed, Handle, Resource, Settle, TyRef};
use wasmtime::{Result, bail};

use crate::encoded::Encoded;

/// Who is at the other end: gives resources their handles, and streams and futures their channels.
pub trait Peer: Send + Sync {
    /// The bytes that stand for a resource which leaves (`own`) or is lent.
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        let _ = (own, handle);
        bail!("the resource {} cannot be sent: nobody keeps it", resource.name)
    }

    /// The resource that bytes stand for. Called once for each handle, after all bytes were checked.
    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        let _ = (own, bytes);
        bail!(
            "the resource {} cannot be received: nobody keeps it",
            resource.name
        )
    }

    /// The stream whose items come on `path`. Called once for each, after all bytes were checked.
    fn stream(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Feed<Encoded>> {
        let _ = (path, payload);
        bail!("a stream that follows its value needs a session")
    }

    /// The future whose value comes on `path`, in the same way.
    fn future(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Settle<Encoded>> {
        let _ = (path, payload);
        bail!("a future that follows its value needs a session")
    }
}

/// Nobody: values without resources and without anything that follows them.
pub struct Apart;

impl Peer for Apart {}
