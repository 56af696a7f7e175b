//! Streams and futures as providers see them; the same type in both directions.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use loop_wire::Failure;
use loop_wire::codec::Cursor;

use crate::answer::Context;
use crate::lift::Lift;

/// WIT's `stream<T>`: items, or why there are no more of them. `stream<u8>` is of [`Bytes`], in pieces of any size.
///
/// One that came is read by [`futures::StreamExt`], and its writer waits for that; one that is returned is drawn from as
/// fast as its reader reads. Dropping it tells the other side.
pub struct Stream<T>(BoxStream<'static, Result<T, Failure>>);

impl<T: Send + 'static> Stream<T> {
    /// Of items that cannot fail.
    pub fn new(items: impl futures::Stream<Item = T> + Send + 'static) -> Self {
        Stream(items.map(Ok).boxed())
    }

    /// Of items, or the failure that ends the stream.
    pub fn fallible(items: impl futures::Stream<Item = Result<T, Failure>> + Send + 'static) -> Self {
        Stream(items.boxed())
    }

    /// Of what is there already, or can be made at once.
    pub fn of(items: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        Stream::new(futures::stream::iter(items))
    }
}

impl<T> futures::Stream for Stream<T> {
    type Item = Result<T, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// WIT's `future<T>`: a value that comes later, or why it never will.
pub struct Promise<T>(BoxFuture<'static, Result<T, Failure>>);

impl<T: Send + 'static> Promise<T> {
    /// Of a value that cannot fail.
    pub fn new(value: impl Future<Output = T> + Send + 'static) -> Self {
        Promise(value.map(Ok).boxed())
    }

    pub fn fallible(value: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Self {
        Promise(value.boxed())
    }
}

impl<T> Future for Promise<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx)
    }
}

/// A stream or future that the caller writes: dropping it before its end tells the caller.
struct Inlet {
    cx: Context,
    path: Box<[u32]>,
    ended: bool,
}

impl Inlet {
    fn new(cx: Context, path: &[u32]) -> Self {
        cx.invocation().expect(path);
        Inlet {
            cx,
            path: path.into(),
            ended: false,
        }
    }

    /// What came next; after an error nothing does.
    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Result<Bytes, Failure>> {
        let read = ready!(self.cx.invocation().poll_read(&self.path, cx));
        if read.is_err() {
            self.end();
        }
        Poll::Ready(read)
    }

    /// Nothing more comes.
    fn end(&mut self) {
        self.ended = true;
        self.cx.invocation().taken(&self.path);
    }

    /// The rest cannot be told apart.
    fn stop(&mut self) {
        self.ended = true;
        self.cx.invocation().stop(&self.path);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        if !self.ended {
            self.cx.invocation().stop(&self.path);
        }
    }
}

/// The items of a stream that the caller writes.
pub(crate) struct IncomingItems<T, F> {
    inlet: Inlet,
    read: F,
    items: VecDeque<T>,
    total: u32,
}

impl<T, F> IncomingItems<T, F> {
    pub fn new(cx: Context, path: &[u32], read: F) -> Self {
        IncomingItems {
            inlet: Inlet::new(cx, path),
            read,
            items: VecDeque::new(),
            total: 0,
        }
    }
}

// nothing in it is pinned
impl<T, F> Unpin for IncomingItems<T, F> {}

impl<T, F: Fn(&mut Lift<'_>) -> Result<T, Failure>> futures::Stream for IncomingItems<T, F> {
    type Item = Result<T, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        if let Some(item) = me.items.pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        if me.inlet.ended {
            return Poll::Ready(None);
        }
        let chunk = match ready!(me.inlet.poll(cx)) {
            Ok(chunk) => chunk,
            Err(why) => return Poll::Ready(Some(Err(why))),
        };
        let mut lift = Lift::new(&chunk, &me.inlet.path, &me.inlet.cx);
        let read = lift
            .chunk(me.total, &me.read)
            .and_then(|items| lift.end().map(|()| items));
        match read {
            Ok(items) => me.items = items,
            Err(why) => {
                me.inlet.stop();
                return Poll::Ready(Some(Err(why)));
            }
        }
        me.total = me.total.wrapping_add(me.items.len() as u32);
        if me.items.is_empty() {
            me.inlet.end();
        }
        Poll::Ready(me.items.pop_front().map(Ok))
    }
}

/// The bytes of a stream that the caller writes.
pub(crate) struct IncomingBytes(Inlet);

impl IncomingBytes {
    pub fn new(cx: Context, path: &[u32]) -> Self {
        IncomingBytes(Inlet::new(cx, path))
    }
}

impl futures::Stream for IncomingBytes {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if self.0.ended {
            return Poll::Ready(None);
        }
        let chunk = match ready!(self.0.poll(cx)) {
            Ok(chunk) => chunk,
            Err(why) => return Poll::Ready(Some(Err(why))),
        };
        let mut from = Cursor::new(&chunk);
        let piece = from
            .bytes()
            .and_then(|piece| from.end().map(|()| chunk.slice_ref(piece)));
        match piece {
            Ok(piece) if piece.is_empty() => {
                self.0.end();
                Poll::Ready(None)
            }
            Ok(piece) => Poll::Ready(Some(Ok(piece))),
            Err(why) => {
                self.0.stop();
                Poll::Ready(Some(Err(why.into())))
            }
        }
    }
}

/// The value of a future that the caller writes.
pub(crate) fn incoming_value<T, F>(
    cx: Context,
    path: &[u32],
    read: F,
) -> impl Future<Output = Result<T, Failure>> + use<T, F>
where
    F: FnOnce(&mut Lift<'_>) -> Result<T, Failure>,
{
    let mut inlet = Inlet::new(cx, path);
    async move {
        let value = poll_fn(|cx| inlet.poll(cx)).await?;
        let mut lift = Lift::new(&value, &inlet.path, &inlet.cx);
        let read = read(&mut lift).and_then(|read| lift.end().map(|()| read));
        // a stream in the value may go on in the same channel
        inlet.end();
        read
    }
}
