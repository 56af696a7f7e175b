//! Values on their way out: written in the order in which the walker meets them.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use loop_engine::{Block, Chunk, Handle, Home, Kind, Num, Reader, Resource, Settling, Source, TyRef};
use loop_wire::codec::{Cursor, put_bytes};
use wasmtime::component::{FutureAny, StreamAny};
use wasmtime::{Error, Result, bail, format_err};

use crate::check::HANDLE;
use crate::encoded::{Encoded, Wire};
use crate::peer::Peer;

/// What a guest is asked for at once.
const CHUNK: usize = 64 * 1024;

/// The bytes being written, and the place in the value that they belong to.
#[derive(Default)]
pub struct Buffer(RefCell<Building>);

#[derive(Default)]
struct Building {
    made: Outgoing,
    path: Vec<u32>,
}

/// A value that was written; resources in it have no handles yet.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// In the order of their places.
    parts: Vec<Part>,
}

enum Part {
    /// Goes to byte `at`.
    Handle {
        at: usize,
        resource: Arc<Resource>,
        own: bool,
        handle: Handle,
    },
    End {
        path: Vec<u32>,
        payload: Option<TyRef>,
        end: End,
    },
}

/// The readable end of a stream or future.
pub(crate) enum End {
    GuestStream(StreamAny, Arc<Home>),
    GuestFuture(FutureAny, Arc<Home>),
    Stream(Box<dyn Source<Encoded>>),
    Future(Settling<Encoded>),
}

/// Bytes that can be sent, and what follows them.
#[derive(Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub pending: Vec<Pending>,
}

/// A stream or future whose items or value follow.
pub struct Pending {
    /// Within the root that the message is, or within the item of a stream.
    pub path: Vec<u32>,
    pub payload: Option<TyRef>,
    pub way: Way,
}

/// What is to be sent on the path of a [`Pending`].
pub enum Way {
    /// Chunks, until there is none.
    Stream(Box<dyn Source<Encoded>>),
    /// One value.
    Future(Settling<Encoded>),
}

impl Buffer {
    #[inline]
    pub(crate) fn put(&self, f: impl FnOnce(&mut Vec<u8>)) -> Result<Wire> {
        f(&mut self.0.borrow_mut().made.bytes);
        Ok(Wire::Placed)
    }

    /// Writes children, each under its number.
    #[inline]
    pub(crate) fn children(&self, len: usize, mut each: impl FnMut(usize) -> Result<Wire>) -> Result<()> {
        let depth = {
            let mut b = self.0.borrow_mut();
            b.path.push(0);
            b.path.len()
        };
        for i in 0..len {
            self.0.borrow_mut().path[depth - 1] = i as u32;
            each(i)?;
        }
        self.0.borrow_mut().path.truncate(depth - 1);
        Ok(())
    }

    /// Writes what there is of a payload, under the number of its case.
    #[inline]
    pub(crate) fn payload(
        &self,
        case: usize,
        payload: impl FnOnce() -> Result<Option<Wire>>,
    ) -> Result<Wire> {
        self.0.borrow_mut().path.push(case as u32);
        payload()?;
        self.0.borrow_mut().path.pop();
        Ok(Wire::Placed)
    }

    pub(crate) fn handle(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Wire> {
        let mut b = self.0.borrow_mut();
        let at = b.made.bytes.len();
        b.made.parts.push(Part::Handle {
            at,
            resource: resource.clone(),
            own,
            handle,
        });
        Ok(Wire::Placed)
    }

    /// Writes that a stream or future is pending.
    pub(crate) fn end(&self, payload: Option<&TyRef>, end: End) -> Result<Wire> {
        let b = &mut *self.0.borrow_mut();
        b.made.bytes.push(0);
        b.made.parts.push(Part::End {
            path: b.path.clone(),
            payload: payload.cloned(),
            end,
        });
        Ok(Wire::Placed)
    }

    pub(crate) fn take(&self) -> Outgoing {
        std::mem::take(&mut self.0.borrow_mut().made)
    }
}

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Gives resources their handles, and opens the guests' streams and futures.
    ///
    /// Errors where the peer cannot take a resource.
    pub fn finish(self, peer: &dyn Peer) -> Result<Message> {
        let mut made = Message::default();
        let mut done = 0;
        for part in self.parts {
            match part {
                Part::Handle {
                    at,
                    resource,
                    own,
                    handle,
                } => {
                    let handle = peer.give(&resource, own, handle)?;
                    if handle.len() > HANDLE {
                        bail!("a handle of {} bytes: {HANDLE} are the most", handle.len());
                    }
                    made.bytes.extend_from_slice(&self.bytes[done..at]);
                    put_bytes(&mut made.bytes, &handle);
                    done = at;
                }
                Part::End { path, payload, end } => made.pending.push(Pending {
                    path,
                    way: end.open(payload.as_ref()),
                    payload,
                }),
            }
        }
        if done == 0 && made.bytes.is_empty() {
            made.bytes = self.bytes;
        } else {
            made.bytes.extend_from_slice(&self.bytes[done..]);
        }
        Ok(made)
    }
}

impl End {
    fn open(self, payload: Option<&TyRef>) -> Way {
        match self {
            End::Stream(source) => Way::Stream(source),
            End::Future(value) => Way::Future(value),
            End::GuestStream(any, home) => Way::Stream(Box::new(Relay {
                reader: home.read_stream(payload.cloned(), any),
                bytes: payload.is_some_and(|t| matches!(t.kind, Kind::Num(Num::U8))),
                _home: home,
            })),
            End::GuestFuture(any, home) => {
                let mut relay = Relay {
                    reader: home.read_future(payload.cloned(), any),
                    bytes: false,
                    _home: home,
                };
                Way::Future(Box::pin(async move {
                    match std::future::poll_fn(|cx| relay.poll_next(cx)).await? {
                        Some(Chunk::Values(mut v)) if !v.is_empty() => Ok(v.remove(0)),
                        Some(_) => Ok(Wire::Placed),
                        None => Err(dropped()),
                    }
                }))
            }
        }
    }
}

fn dropped() -> Error {
    format_err!("the future was dropped by the component that had it")
}

/// A guest's stream or future, read for the wire.
struct Relay {
    reader: Reader<Encoded>,
    /// The payload is bytes.
    bytes: bool,
    /// Keeps the instance that writes alive.
    _home: Arc<Home>,
}

impl Source<Encoded> for Relay {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Encoded>>>> {
        let Some(chunk) = ready!(self.reader.poll_next(cx, CHUNK)) else {
            return Poll::Ready(self.reader.take_error().map_or(Ok(None), Err));
        };
        Poll::Ready(Ok(Some(match chunk {
            Chunk::Values(v) if self.bytes => Chunk::Raw(block(v)?),
            other => other,
        })))
    }
}

/// The bytes of a `list<u8>` that a reader made of a guest's.
fn block(values: Vec<Wire>) -> Result<Block> {
    struct Behind(Vec<u8>, usize);
    impl AsRef<[u8]> for Behind {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..]
        }
    }
    let Some(made) = values.into_iter().next().and_then(Wire::into_outgoing) else {
        bail!("a byte stream gave something else");
    };
    let mut from = Cursor::new(&made.bytes);
    let count = from.unsigned(32).map_err(|e| format_err!("{e}"))?;
    let behind = made.bytes.len() - count as usize;
    Ok(Box::new(Behind(made.bytes, behind)))
}

/// A source that has all its items already.
pub(crate) struct All(pub Option<Chunk<Encoded>>);

impl Source<Encoded> for All {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Chunk<Encoded>>>> {
        Poll::Ready(Ok(self.0.take()))
    }
}

/// A future that has its value already.
pub(crate) fn now(value: Wire) -> Settling<Encoded> {
    let value: Pin<Box<dyn Future<Output = Result<Wire>> + Send>> = Box::pin(async move { Ok(value) });
    value
}
