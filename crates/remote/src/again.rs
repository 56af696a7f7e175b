//! Values that were written here, read here: on their way to a provider that is reached in another way than the one
//! before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use loop_engine::{Chunk, Feed, Handle, Resource, Settle, Source, Ty, TyRef};
use wasmtime::{Result, bail, format_err};

use crate::chunk::{read_chunk, read_settled, write_chunk};
use crate::encoded::{Encoded, Wire};
use crate::import::lock;
use crate::incoming::receive;
use crate::outgoing::{Pending, Way};
use crate::peer::Peer;

/// Keeps what bytes cannot say until it is met.
#[derive(Default)]
struct Here {
    handles: Mutex<Vec<Handle>>,
    ways: Mutex<HashMap<Vec<u32>, Way>>,
}

impl Here {
    fn keep(&self, pending: Vec<Pending>) {
        lock(&self.ways).extend(pending.into_iter().map(|p| (p.path, p.way)));
    }

    fn way(&self, path: &[u32]) -> Result<Way> {
        let way = lock(&self.ways).remove(path);
        way.ok_or_else(|| format_err!("a stream or future was met twice"))
    }
}

impl Peer for Here {
    fn give(&self, _: &Arc<Resource>, _: bool, handle: Handle) -> Result<Vec<u8>> {
        let mut handles = lock(&self.handles);
        handles.push(handle);
        Ok((handles.len() as u32 - 1).to_le_bytes().to_vec())
    }

    fn take(&self, resource: &Arc<Resource>, _: bool, bytes: &[u8]) -> Result<Handle> {
        let index = <[u8; 4]>::try_from(bytes).map_or(usize::MAX, |b| u32::from_le_bytes(b) as usize);
        let handles = lock(&self.handles);
        let handle = handles.get(index).cloned();
        handle.ok_or_else(|| format_err!("no such {}", resource.name))
    }

    fn stream(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Feed<Encoded>> {
        let Way::Stream(source) = self.way(path)? else {
            bail!("a future stands where a stream is wanted")
        };
        let payload = payload.cloned();
        Ok(Feed::Source(Box::new(Again { source, payload })))
    }

    fn future(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Settle<Encoded>> {
        let Way::Future(value) = self.way(path)? else {
            bail!("a stream stands where a future is wanted")
        };
        let payload = payload.cloned();
        Ok(Settle::Value(Box::pin(async move {
            let here = Here::default();
            let message = value.await?.finish(&here)?;
            here.keep(message.pending);
            read_settled(payload.as_ref(), &message.bytes.into(), &[], &here)
        })))
    }
}

/// What was written for `tuple`, to be read.
pub(crate) fn again(tuple: &Ty, mut built: Vec<Wire>) -> Result<Vec<Wire>> {
    if built.iter().any(|v| matches!(v, Wire::In(_))) {
        return Ok(built);
    }
    let here = Here::default();
    // all of them together are one value
    let message = built.pop().unwrap_or(Wire::Placed).finish(&here)?;
    here.keep(message.pending);
    receive(tuple, &message.bytes.into(), &here)
}

/// A stream whose items were written here.
struct Again {
    source: Box<dyn Source<Encoded>>,
    payload: Option<TyRef>,
}

impl Source<Encoded> for Again {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Encoded>>>> {
        let values = match ready!(self.source.poll_next(cx))? {
            Some(chunk @ Chunk::Values(_)) => chunk,
            other => return Poll::Ready(Ok(other)),
        };
        let payload = self.payload.as_ref();
        let here = Here::default();
        let message = write_chunk(payload, values, 0, &here)?;
        here.keep(message.pending);
        Poll::Ready(read_chunk(payload, &message.bytes.into(), &[], 0, &here).map(Some))
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<usize> {
        self.source.fill(room)
    }
}
