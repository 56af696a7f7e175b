//! Sends what a provider returns as streams and futures, as fast as it is read.

use std::pin::Pin;
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

/// Sends the items of a stream.
pub(crate) async fn items<T: Send>(
    cx: Context,
    path: Vec<u32>,
    stream: Stream<T>,
    write: impl Fn(&mut Lower<'_>, T) -> Result<(), Failure> + Send,
) {
    let mut stream = stream.fuse();
    let mut total = 0u32;
    let mut next = stream.next().await;
    loop {
        let mut failed = None;
        let (chunk, pumps, n) = {
            let mut lower = Lower::new(&path, &cx);
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
                if lower.out.len() >= GATHER || n as usize >= GATHER {
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
            (Bytes::from(chunk), lower.pumps, n)
        };
        if n > 0 || failed.is_none() {
            if cx.invocation().room(&path).await.is_none() {
                return;
            }
            cx.invocation().write(&path, chunk);
            cx.add(pumps);
        }
        if let Some(why) = failed {
            return cx.invocation().lose(&path, &why);
        }
        if n == 0 {
            return; // that was the end
        }
        total = total.wrapping_add(n);
        next = stream.next().await;
    }
}

/// Sends a stream of bytes.
pub(crate) async fn bytes(cx: Context, path: Vec<u32>, mut stream: Stream<Bytes>) {
    while let Some(piece) = stream.next().await {
        let mut piece = match piece {
            Ok(piece) => piece,
            Err(why) => return cx.invocation().lose(&path, &why),
        };
        while !piece.is_empty() {
            let Some(room) = cx.invocation().room(&path).await else {
                return;
            };
            let n = room.saturating_sub(COUNT).min(PIECE).min(piece.len()).max(1);
            let mut head = Vec::with_capacity(COUNT);
            put_unsigned(&mut head, n as u64);
            let mut chunk = BytesMut::with_capacity(head.len() + n);
            chunk.put_slice(&head);
            chunk.put_slice(&piece[..n]);
            piece.advance(n);
            cx.invocation().write(&path, chunk.freeze());
        }
    }
    if cx.invocation().room(&path).await.is_some() {
        cx.invocation().write(&path, Bytes::from_static(&[0]));
    }
}

/// Sends the value of a future.
pub(crate) async fn value<T: Send>(
    cx: Context,
    path: Vec<u32>,
    future: Promise<T>,
    write: impl FnOnce(&mut Lower<'_>, T) -> Result<(), Failure> + Send,
) {
    let value = future.await;
    let made = {
        let mut lower = Lower::new(&path, &cx);
        match value.and_then(|value| write(&mut lower, value)) {
            Ok(()) => Ok((Bytes::from(lower.out), lower.pumps)),
            Err(why) => {
                lower.undo(Default::default());
                Err(why)
            }
        }
    };
    match made {
        Ok((bytes, pumps)) => {
            if cx.invocation().room(&path).await.is_some() {
                cx.invocation().write(&path, bytes);
                cx.add(pumps);
            }
        }
        Err(why) => cx.invocation().lose(&path, &why),
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
