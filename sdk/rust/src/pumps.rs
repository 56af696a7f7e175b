//! Sends what a provider returns as streams and futures, as fast as it is read.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context as Task, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use loop_wire::Failure;
use loop_wire::codec::put_unsigned;

use crate::answer::Context;
use crate::channels::{Promise, Stream};
use crate::lower::Lower;

/// Bytes and items that are gathered before they are sent.
const GATHER: usize = 16 << 10;
/// Bytes of the largest piece of a byte stream in one frame, with the number of them.
const PIECE: usize = 64 << 10;
const COUNT: usize = 5;

/// A stream or future that is written; dropped when nothing more is.
pub(crate) struct Outlet {
    cx: Context,
    path: Box<[u32]>,
}

impl Outlet {
    pub fn new(cx: Context, path: &[u32]) -> Self {
        Outlet {
            cx,
            path: path.into(),
        }
    }

    /// Waits until so many bytes may be written, one at least; none where the reader has gone.
    async fn room(&self) -> Option<usize> {
        self.cx.invocation().room(&self.path).await
    }

    /// What `work` gives; none where nobody reads any more, also while there is nothing yet.
    async fn wanted<R>(&self, work: impl Future<Output = R> + Send) -> Option<R> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(made) => Poll::Ready(Some(made)),
            Poll::Pending => self.cx.invocation().poll_unread(&self.path, cx).map(|()| None),
        })
        .await
    }

    fn write(&self, chunk: Bytes) {
        self.cx.invocation().write(&self.path, chunk);
    }

    fn lose(&self, why: &Failure) {
        self.cx.invocation().lose(&self.path, why);
    }

    /// Sends a chunk or value, once what it announces has room; false where nothing more is to be sent.
    async fn send(&self, made: Made) -> bool {
        if self.room().await.is_none() {
            return false;
        }
        match self.cx.invocation().open(&self.path, &made.paths).await {
            Ok(true) => {
                self.write(made.bytes);
                self.cx.add(made.pumps);
                true
            }
            Ok(false) => false,
            Err(why) => {
                self.lose(&why);
                false
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.cx.invocation().done(&self.path);
    }
}

/// A chunk or value, and what follows it.
struct Made {
    bytes: Bytes,
    pumps: Vec<BoxFuture<'static, ()>>,
    paths: Vec<Box<[u32]>>,
}

/// Sends the items of a stream.
pub(crate) async fn items<T: Send>(
    outlet: Outlet,
    stream: Stream<T>,
    write: impl Fn(&mut Lower<'_>, T) -> Result<(), Failure> + Send,
) {
    let mut stream = stream.fuse();
    let mut total = 0u32;
    let Some(mut next) = outlet.wanted(stream.next()).await else {
        return;
    };
    loop {
        let mut failed = None;
        let (made, n) = {
            let mut lower = Lower::new(&outlet.path, &outlet.cx);
            let mut n = 0u32;
            // what can be had without waiting goes with the first
            while let Some(item) = next.take() {
                let step = total.wrapping_add(n);
                let before = lower.mark();
                if let Err(why) = item.and_then(|item| lower.at(step, item, &write)) {
                    lower.undo(before);
                    failed = Some(why);
                    break;
                }
                n += 1;
                // one with streams and futures in it goes by itself, so that it may wait for those before it
                if lower.out.len() >= GATHER || n as usize >= GATHER || !lower.pumps.is_empty() {
                    break;
                }
                match stream.next().now_or_never() {
                    Some(Some(item)) => next = Some(item),
                    // it has ended, which it says again
                    Some(None) | None => break,
                }
            }
            let mut chunk = Vec::with_capacity(lower.out.len() + COUNT);
            put_unsigned(&mut chunk, n.into());
            chunk.append(&mut lower.out);
            let made = Made {
                bytes: chunk.into(),
                pumps: lower.pumps,
                paths: lower.paths,
            };
            (made, n)
        };
        if (n > 0 || failed.is_none()) && !outlet.send(made).await {
            return;
        }
        if let Some(why) = failed {
            return outlet.lose(&why);
        }
        if n == 0 {
            return; // that was the end
        }
        total = total.wrapping_add(n);
        match outlet.wanted(stream.next()).await {
            Some(found) => next = found,
            None => return,
        }
    }
}

/// Sends a stream of bytes.
pub(crate) async fn bytes(outlet: Outlet, mut stream: Stream<Bytes>) {
    loop {
        let Some(found) = outlet.wanted(stream.next()).await else {
            return;
        };
        let Some(piece) = found else { break };
        let mut piece = match piece {
            Ok(piece) => piece,
            Err(why) => return outlet.lose(&why),
        };
        while !piece.is_empty() {
            let Some(room) = outlet.room().await else {
                return;
            };
            let n = room.saturating_sub(COUNT).min(PIECE).min(piece.len()).max(1);
            let mut head = Vec::with_capacity(COUNT);
            put_unsigned(&mut head, n as u64);
            let mut chunk = BytesMut::with_capacity(head.len() + n);
            chunk.put_slice(&head);
            chunk.put_slice(&piece[..n]);
            piece.advance(n);
            outlet.write(chunk.freeze());
        }
    }
    if outlet.room().await.is_some() {
        outlet.write(Bytes::from_static(&[0]));
    }
}

/// Sends the value of a future.
pub(crate) async fn value<T: Send>(
    outlet: Outlet,
    future: Promise<T>,
    write: impl FnOnce(&mut Lower<'_>, T) -> Result<(), Failure> + Send,
) {
    let Some(value) = outlet.wanted(future).await else {
        return;
    };
    let made = {
        let mut lower = Lower::new(&outlet.path, &outlet.cx);
        match value.and_then(|value| write(&mut lower, value)) {
            Ok(()) => Ok(Made {
                bytes: lower.out.into(),
                pumps: lower.pumps,
                paths: lower.paths,
            }),
            Err(why) => {
                lower.undo(Default::default());
                Err(why)
            }
        }
    };
    match made {
        Ok(made) => drop(outlet.send(made).await),
        Err(why) => outlet.lose(&why),
    }
}

/// Runs the pumps of a call, and those that they add, to their end.
pub(crate) struct All {
    cx: Context,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl All {
    pub fn new(cx: Context, pumps: Vec<BoxFuture<'static, ()>>) -> Self {
        All {
            cx,
            running: pumps.into_iter().collect(),
        }
    }
}

impl Future for All {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<()> {
        loop {
            let polled = self.running.poll_next_unpin(cx);
            let added = self.cx.added();
            match polled {
                Poll::Ready(None) if added.is_empty() => return Poll::Ready(()),
                Poll::Pending if added.is_empty() => return Poll::Pending,
                _ => self.running.extend(added),
            }
        }
    }
}
