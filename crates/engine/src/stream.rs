//! Streams and futures between hosts and guests, for every payload type.
//!
//! Bytes go straight between the guest's buffer and the host's; other numbers move as blocks of their Rust type;
//! every other payload is an [`Elem`], one Rust type for all layouts. A chunk is taken from a [`Source`] only when
//! the guest reads, and from the guest only when the host's [`crate::Reader`] asks: nothing piles up on either side.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasmtime::component::{
    Destination, FutureAny, FutureReader, Lift, Lower, StreamAny, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};
use wasmtime::{Result, StoreContextMut};

use crate::convert::convert;
use crate::domain::Domain;
use crate::elem::Elem;
use crate::scope::{self, Busy};
use crate::types::{Kind, Num, TyRef};
use crate::value::Neutral;

/// Bytes that some owner keeps in place.
pub type Block = Box<dyn AsRef<[u8]> + Send>;

/// What moves through a stream at once.
pub enum Chunk<D: Domain> {
    /// Little-endian numbers, for payloads of fixed-width numbers.
    Raw(Block),
    /// Values of any other payload.
    Values(Vec<D::Value>),
    /// So many values of no payload.
    Units(usize),
}

/// The host's end of a stream that a guest reads.
pub trait Source<D: Domain>: Send + 'static {
    /// The next chunk; `None` ends the stream. An error traps the guest.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<D>>>>;

    /// Puts what comes next straight into a guest's memory, where that can be had without waiting; how many bytes.
    /// `None`, also at the end: ask `poll_next`. For streams of bytes alone.
    fn fill(&mut self, _room: &mut [u8]) -> Option<usize> {
        None
    }
}

/// What a host value lowered as a stream is.
pub enum Feed<D: Domain> {
    Source(Box<dyn Source<D>>),
    /// A stream end that came from this same instance, handed on.
    Same(StreamAny),
}

/// A future's value on its way.
pub type Settling<D> = Pin<Box<dyn Future<Output = Result<<D as Domain>::Value>> + Send>>;

/// What a host value lowered as a future is.
pub enum Settle<D: Domain> {
    Value(Settling<D>),
    Same(FutureAny),
}

pub(crate) fn make_stream<D: Domain, T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    payload: Option<&TyRef>,
    feed: Feed<D>,
) -> Result<StreamAny> {
    let source = match feed {
        Feed::Source(source) => Box::new(Counted {
            source,
            _busy: scope::current(|s| Ok(s.busy()))?,
        }),
        Feed::Same(any) => return Ok(any),
    };
    macro_rules! nums {
        ($n:expr, $($k:ident $t:ty;)*) => { match $n {
            Num::U8 => from_producer(store, Bytes { source, current: None }),
            $(Num::$k => from_producer(store, Numbers::<D, $t> { source, _t: PhantomData }),)*
        } };
    }
    match payload.map(|t| &t.kind) {
        None => from_producer(store, Units { source }),
        Some(Kind::Num(n)) => {
            nums!(n, S8 i8; U16 u16; S16 i16; U32 u32; S32 i32; U64 u64; S64 i64; F32 f32; F64 f64;)
        }
        Some(_) => {
            let payload = payload
                .cloned()
                .ok_or_else(|| wasmtime::format_err!("a stream of nothing"))?;
            let left = VecDeque::new();
            from_producer(
                store,
                Values {
                    source,
                    payload,
                    left,
                },
            )
        }
    }
}

fn from_producer<T: 'static, P: StreamProducer<T>>(
    store: &mut StoreContextMut<'_, T>,
    producer: P,
) -> Result<StreamAny>
where
    P::Item: Lower + Lift + Send + Sync + 'static,
{
    let reader = StreamReader::new(&mut *store, producer)?;
    StreamAny::try_from_stream_reader(&mut *store, reader)
}

pub(crate) fn make_future<D: Domain, T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    payload: Option<&TyRef>,
    settle: Settle<D>,
) -> Result<FutureAny> {
    let value = match settle {
        Settle::Value(v) => v,
        Settle::Same(any) => return Ok(any),
    };
    let busy = scope::current(|s| Ok(s.busy()))?;
    let value = async move {
        let _busy = busy;
        value.await
    };
    match payload {
        None => {
            let reader = FutureReader::<()>::new(&mut *store, async move { value.await.map(|_| ()) })?;
            FutureAny::try_from_future_reader(&mut *store, reader)
        }
        Some(_) => {
            let reader = FutureReader::<Elem<D>>::new(&mut *store, async move { value.await.map(Elem) })?;
            FutureAny::try_from_future_reader(&mut *store, reader)
        }
    }
}

/// A source that the host may still feed.
struct Counted<D: Domain> {
    source: Box<dyn Source<D>>,
    _busy: Busy,
}

impl<D: Domain> Source<D> for Counted<D> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<D>>>> {
        self.source.poll_next(cx)
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<usize> {
        self.source.fill(room)
    }
}

/// Polls a source for a producer: `None` means that the answer is already in the second place.
fn next<D: Domain>(
    source: &mut dyn Source<D>,
    cx: &mut Context<'_>,
    finish: bool,
) -> Poll<Result<Result<Chunk<D>, StreamResult>>> {
    match source.poll_next(cx) {
        Poll::Ready(Ok(Some(c))) => Poll::Ready(Ok(Ok(c))),
        Poll::Ready(Ok(None)) => Poll::Ready(Ok(Err(StreamResult::Dropped))),
        Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
        Poll::Pending if finish => Poll::Ready(Ok(Err(StreamResult::Cancelled))),
        Poll::Pending => Poll::Pending,
    }
}

/// Bytes, straight into the guest's buffer.
struct Bytes<D: Domain> {
    source: Box<dyn Source<D>>,
    /// What the last read left over.
    current: Option<(Block, usize)>,
}

impl<D: Domain, T: 'static> StreamProducer<T> for Bytes<D> {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        dst: Destination<'a, u8, VecBuffer<u8>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let room = dst.remaining(&mut store);
        if room == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed)); // "ready?" is answered by the next, real read
        }
        let mut direct = dst.as_direct(store, 64 * 1024);
        let left = self
            .current
            .as_ref()
            .is_some_and(|(c, at)| *at < (**c).as_ref().len());
        if room.is_some()
            && !left
            && let Some(n) = self.source.fill(direct.remaining())
        {
            direct.mark_written(n);
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let (chunk, from) = loop {
            match self.current.take() {
                Some((c, at)) if at < (*c).as_ref().len() => break (c, at),
                _ => match std::task::ready!(next(&mut *self.source, cx, finish))? {
                    Ok(Chunk::Raw(c)) => self.current = Some((c, 0)),
                    Ok(_) => {
                        return Poll::Ready(Err(wasmtime::format_err!(
                            "a byte stream was fed something else"
                        )));
                    }
                    Err(end) => return Poll::Ready(Ok(end)),
                },
            }
        };
        let src = &(*chunk).as_ref()[from..];
        let room = direct.remaining();
        let n = room.len().min(src.len());
        room[..n].copy_from_slice(&src[..n]);
        direct.mark_written(n);
        if n < src.len() {
            self.current = Some((chunk, from + n));
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// Numbers wider than a byte.
struct Numbers<D: Domain, N> {
    source: Box<dyn Source<D>>,
    _t: PhantomData<fn() -> N>,
}

/// A number type that may be copied from and to its little-endian bytes (the host is little-endian: checked below).
pub(crate) trait Plain: Lower + Lift + Copy + Default + Send + Sync + 'static {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for i16 {}
impl Plain for u32 {}
impl Plain for i32 {}
impl Plain for u64 {}
impl Plain for i64 {}
impl Plain for f32 {}
impl Plain for f64 {}
const _: () = assert!(
    cfg!(target_endian = "little"),
    "number blocks are copied as they lie in memory"
);

fn to_numbers<N: Plain>(raw: &[u8]) -> Vec<N> {
    let mut v = vec![N::default(); raw.len() / size_of::<N>()];
    // SAFETY: `v` has at least the copied number of bytes, and every bit pattern is a number.
    unsafe { std::ptr::copy_nonoverlapping(raw.as_ptr(), v.as_mut_ptr().cast(), v.len() * size_of::<N>()) };
    v
}

pub(crate) fn to_raw<N: Plain>(v: &[N]) -> Vec<u8> {
    // SAFETY: numbers have no padding.
    unsafe { std::slice::from_raw_parts(v.as_ptr().cast(), size_of_val(v)) }.to_vec()
}

impl<D: Domain, N: Plain, T: 'static> StreamProducer<T> for Numbers<D, N> {
    type Item = N;
    type Buffer = VecBuffer<N>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut dst: Destination<'a, N, VecBuffer<N>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        if dst.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            match std::task::ready!(next(&mut *self.source, cx, finish))? {
                Ok(Chunk::Raw(c)) => {
                    let numbers = to_numbers::<N>((*c).as_ref());
                    if !numbers.is_empty() {
                        dst.set_buffer(numbers.into());
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                }
                Ok(_) => {
                    return Poll::Ready(Err(wasmtime::format_err!(
                        "a number stream was fed something else"
                    )));
                }
                Err(end) => return Poll::Ready(Ok(end)),
            }
        }
    }
}

/// Values of any other payload.
///
/// The guest is given as many as it asks for and not more, so that a stream handed on after a few reads lacks none.
struct Values<D: Domain> {
    source: Box<dyn Source<D>>,
    payload: TyRef,
    /// What the last read left over.
    left: VecDeque<D::Value>,
}

/// The source of a stream that comes back to the host unread, to be read in the domain that made it.
pub(crate) struct Same<D: Domain>(pub Box<dyn Source<D>>);

/// The same, to be read in another domain.
pub(crate) struct Foreign(pub Box<dyn Source<Neutral>>);

// nothing in it is pinned
impl<D: Domain> Unpin for Values<D> {}

impl<D: Domain> Source<D> for Values<D> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<D>>>> {
        if !self.left.is_empty() {
            let left = std::mem::take(&mut self.left);
            return Poll::Ready(Ok(Some(Chunk::Values(left.into()))));
        }
        self.source.poll_next(cx)
    }
}

/// A source whose values are converted.
pub(crate) struct Converted<A: Domain> {
    pub source: Box<dyn Source<A>>,
    pub payload: Option<TyRef>,
}

impl<A: Domain, B: Domain> Source<B> for Converted<A> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<B>>>> {
        let chunk = std::task::ready!(self.source.poll_next(cx))?;
        Poll::Ready(Ok(match chunk {
            None => None,
            Some(Chunk::Raw(block)) => Some(Chunk::Raw(block)),
            Some(Chunk::Units(n)) => Some(Chunk::Units(n)),
            Some(Chunk::Values(values)) => Some(match &self.payload {
                None => Chunk::Units(values.len()),
                Some(t) => {
                    let all = values.iter().map(|v| converted::<A, B>(t, v));
                    Chunk::Values(all.collect::<Result<_>>()?)
                }
            }),
        }))
    }
}

/// A value that stands for itself, converted.
pub(crate) fn converted<A: Domain, B: Domain>(ty: &TyRef, v: &A::Value) -> Result<B::Value> {
    A::enter(|a| B::enter(|b| convert::<A, B>(b, ty, &A::view(a, v)).map(|v| B::whole(b, v))))
}

impl<D: Domain, T: 'static> StreamProducer<T> for Values<D> {
    type Item = Elem<D>;
    type Buffer = VecBuffer<Elem<D>>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut dst: Destination<'a, Elem<D>, VecBuffer<Elem<D>>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let room = dst.remaining(&mut store).unwrap_or(usize::MAX);
        if room == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            if !self.left.is_empty() {
                let n = room.min(self.left.len());
                let given = self.left.drain(..n).map(Elem).collect::<Vec<_>>();
                dst.set_buffer(given.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            match std::task::ready!(next(&mut *self.source, cx, finish))? {
                Ok(Chunk::Values(v)) => self.left = v.into(),
                Ok(_) => {
                    return Poll::Ready(Err(wasmtime::format_err!(
                        "a stream of values was fed something else"
                    )));
                }
                Err(end) => return Poll::Ready(Ok(end)),
            }
        }
    }

    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> std::result::Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty == TypeId::of::<Same<D>>() {
            let source: Box<Self> = Pin::into_inner(me);
            return Ok(Box::new(Same::<D>(source)));
        }
        if ty == TypeId::of::<Foreign>() {
            let payload = Some(me.payload.clone());
            let source = Pin::into_inner(me);
            return Ok(Box::new(Foreign(Box::new(Converted::<D> { source, payload }))));
        }
        Err(me)
    }
}

/// A stream without payload.
struct Units<D: Domain> {
    source: Box<dyn Source<D>>,
}

impl<D: Domain, T: 'static> StreamProducer<T> for Units<D> {
    type Item = ();
    type Buffer = VecBuffer<()>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut dst: Destination<'a, (), VecBuffer<()>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        if dst.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match std::task::ready!(next(&mut *self.source, cx, finish))? {
            Ok(Chunk::Units(n)) => dst.set_buffer(vec![(); n].into()),
            Ok(Chunk::Values(v)) => dst.set_buffer(vec![(); v.len()].into()),
            Ok(Chunk::Raw(_)) => {
                return Poll::Ready(Err(wasmtime::format_err!(
                    "a stream without payload was fed bytes"
                )));
            }
            Err(end) => return Poll::Ready(Ok(end)),
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
