//! Streams and futures of guests, read by the host.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use wasmtime::component::{
    FutureAny, FutureConsumer, Source as Guest, StreamAny, StreamConsumer, StreamResult,
};
use wasmtime::{AsContextMut, Error, Result, StoreContextMut};

use crate::domain::Domain;
use crate::elem::{self, Elem};
use crate::scope::{Busy, lock};
use crate::stream::{Chunk, Converted, Foreign, Plain, Same, Source, to_raw};
use crate::types::{Kind, Num, TyRef};
use crate::value::Neutral;

/// The host's end of a stream (or, with one value, a future) that a guest writes.
pub struct Reader<D: Domain>(Arc<Mutex<Mailbox<D>>>);

struct Mailbox<D: Domain> {
    /// Values the reader can take now; 0 while it is not asking.
    want: usize,
    chunk: Option<Chunk<D>>,
    /// A host's own source that came back unread: no guest stands between.
    direct: Option<Box<dyn Source<D>>>,
    /// There is, or was, such a source.
    handed: bool,
    /// Why `direct` failed.
    failed: Option<Error>,
    /// The guest (or its instance) has gone: nothing follows.
    ended: bool,
    /// The reader has gone: the guest is told that its reader dropped.
    closed: bool,
    /// Whoever waits for the next chunk: the first to come takes it, the others go on waiting.
    readers: Vec<Waker>,
    writer: Option<Waker>,
}

impl<D: Domain> Mailbox<D> {
    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.readers.iter().any(|w| w.will_wake(cx.waker())) {
            self.readers.push(cx.waker().clone());
        }
    }

    /// Wakes whoever waits for a chunk, with the lock let go.
    fn wake_readers(mut m: MutexGuard<'_, Self>) {
        let readers = std::mem::take(&mut m.readers);
        drop(m);
        readers.into_iter().for_each(Waker::wake);
    }
}

impl<D: Domain> Reader<D> {
    fn new() -> Self {
        let empty = Mailbox {
            want: 0,
            chunk: None,
            direct: None,
            handed: false,
            failed: None,
            ended: false,
            closed: false,
            readers: vec![],
            writer: None,
        };
        Reader(Arc::new(Mutex::new(empty)))
    }

    /// Reads what no guest stands between.
    pub fn of(source: Box<dyn Source<D>>) -> Self {
        let reader = Reader::new();
        let mut m = lock(&reader.0);
        m.handed = true;
        m.direct = Some(source);
        drop(m);
        reader
    }

    /// The next chunk, of at most `max` values; `None` at the end. The instance has to be polled meanwhile.
    pub fn poll_next(&self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Chunk<D>>> {
        let mut m = lock(&self.0);
        if let Some(c) = m.chunk.take() {
            m.want = 0;
            return Poll::Ready(Some(c));
        }
        if m.closed {
            return Poll::Ready(None);
        }
        if let Some(source) = m.direct.take() {
            drop(m);
            return self.poll_direct(source, cx);
        }
        if m.ended {
            return Poll::Ready(None);
        }
        // nobody gets more than they asked for
        m.want = if m.want == 0 { max } else { m.want.min(max) };
        m.wait(cx);
        if let Some(w) = m.writer.take() {
            drop(m);
            w.wake();
        }
        Poll::Pending
    }

    /// Polls a source that was taken out of the mailbox: with the lock let go, since it runs the embedder's code.
    fn poll_direct(&self, mut source: Box<dyn Source<D>>, cx: &mut Context<'_>) -> Poll<Option<Chunk<D>>> {
        let polled = source.poll_next(cx);
        let mut m = lock(&self.0);
        match polled {
            Poll::Ready(Ok(None)) => m.ended = true,
            Poll::Ready(Err(e)) => {
                m.failed = Some(e);
                m.ended = true;
            }
            _ if m.closed => {}
            _ => {
                m.direct = Some(source);
                let Poll::Ready(Ok(Some(chunk))) = polled else {
                    // the source knows the last of its pollers only
                    m.wait(cx);
                    return Poll::Pending;
                };
                Mailbox::wake_readers(m);
                return Poll::Ready(Some(chunk));
            }
        }
        Mailbox::wake_readers(m);
        Poll::Ready(None)
    }

    /// Why the stream ended, if what feeds it failed without any guest between. Told once.
    pub fn take_error(&self) -> Option<Error> {
        lock(&self.0).failed.take()
    }

    /// Forgets a waker of a poll that nobody waits for any more.
    pub fn forget(&self, waker: &Waker) {
        lock(&self.0).readers.retain(|w| !w.will_wake(waker));
    }

    /// Stops reading; the guest's next write finds the stream dropped.
    pub fn close(&self) {
        let mut m = lock(&self.0);
        m.closed = true;
        m.chunk = None;
        let direct = m.direct.take();
        let writer = m.writer.take();
        Mailbox::wake_readers(m);
        drop(direct);
        if let Some(w) = writer {
            w.wake();
        }
    }
}

impl<D: Domain> Drop for Reader<D> {
    fn drop(&mut self) {
        self.close();
    }
}

/// The consumer's side of a [`Reader`]; the second field only counts, for as long as it is there.
struct Writer<D: Domain>(Arc<Mutex<Mailbox<D>>>, #[allow(dead_code)] Busy);

impl<D: Domain> Writer<D> {
    /// How many values the reader wants; `Err` is the answer to give the guest instead.
    ///
    /// A write of nothing waits for it as well: by that a guest finds out whether its stream is still read.
    fn demand(&self, cx: &mut Context<'_>, finish: bool) -> Poll<Result<usize, StreamResult>> {
        let mut m = lock(&self.0);
        if m.closed {
            return Poll::Ready(Err(StreamResult::Dropped));
        }
        if m.want == 0 || m.chunk.is_some() {
            if finish {
                return Poll::Ready(Err(StreamResult::Cancelled));
            }
            m.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(m.want))
    }

    /// Whether the reader wants the value of a future; `None`: the guest gave its write up, and keeps it.
    ///
    /// One that nobody wants is taken all the same: no answer tells the writer of a future that its reader has gone.
    fn awaited(&self, cx: &mut Context<'_>, finish: bool) -> Poll<Option<bool>> {
        self.demand(cx, finish).map(|demand| match demand {
            Ok(_) => Some(true),
            Err(StreamResult::Cancelled) => None,
            Err(_) => Some(false),
        })
    }

    /// Leaves the reader to read the source itself.
    fn hand_over(&self, source: Box<dyn Source<D>>) {
        let mut m = lock(&self.0);
        m.handed = true;
        if !m.closed {
            m.direct = Some(source);
        }
        Mailbox::wake_readers(m);
    }

    fn put(&self, chunk: Chunk<D>) {
        let mut m = lock(&self.0);
        m.chunk = Some(chunk);
        m.want = 0;
        Mailbox::wake_readers(m);
    }
}

impl<D: Domain> Drop for Writer<D> {
    fn drop(&mut self) {
        let mut m = lock(&self.0);
        if m.handed {
            return;
        }
        m.ended = true;
        Mailbox::wake_readers(m);
    }
}

/// A reader, and what connects it with a guest's stream or future. `busy`: the host may still read.
pub(crate) fn reader<D: Domain>(busy: Busy) -> (Reader<D>, Connect<D>) {
    let reader = Reader::new();
    let writer = Writer(reader.0.clone(), busy);
    (reader, Connect(writer))
}

/// The guest's side of a [`Reader`] that is not connected yet. Dropping it ends the reader.
pub(crate) struct Connect<D: Domain>(Writer<D>);

impl<D: Domain> Connect<D> {
    pub fn stream<T: 'static>(
        self,
        mut store: impl AsContextMut<Data = T>,
        payload: Option<&TyRef>,
        stream: StreamAny,
    ) -> Result<()> {
        let writer = self.0;
        macro_rules! nums {
            ($n:expr, $($k:ident $t:ty;)*) => { match $n {
                Num::U8 => stream.try_into_stream_reader::<u8>()?.pipe(&mut store, BytesOut(writer)),
                $(Num::$k => stream.try_into_stream_reader::<$t>()?.pipe(&mut store, NumbersOut::<D, $t>(writer, PhantomData)),)*
            } };
        }
        match payload.map(|t| &t.kind) {
            None => stream
                .try_into_stream_reader::<()>()?
                .pipe(&mut store, UnitsOut(writer)),
            Some(Kind::Num(n)) => {
                nums!(n, S8 i8; U16 u16; S16 i16; U32 u32; S32 i32; U64 u64; S64 i64; F32 f32; F64 f64;)
            }
            Some(_) => {
                let reader = stream.try_into_stream_reader::<Elem<D>>()?;
                let reader = match reader.try_into::<Same<D>>(&mut store) {
                    Ok(Same(source)) => {
                        writer.hand_over(source);
                        return Ok(());
                    }
                    Err(reader) => reader,
                };
                match (reader.try_into::<Foreign>(&mut store), payload) {
                    (Ok(Foreign(source)), Some(payload)) => {
                        let payload = Some(payload.clone());
                        writer.hand_over(Box::new(Converted::<Neutral> { source, payload }));
                        Ok(())
                    }
                    (Ok(_), None) => Ok(()),
                    (Err(reader), _) => reader.pipe(&mut store, ValuesOut(writer)),
                }
            }
        }
    }

    /// The reader gets one chunk of one value.
    pub fn future<T: 'static>(
        self,
        mut store: impl AsContextMut<Data = T>,
        payload: Option<&TyRef>,
        future: FutureAny,
    ) -> Result<()> {
        match payload {
            None => future
                .try_into_future_reader::<()>()?
                .pipe(&mut store, UnitsOut(self.0)),
            Some(_) => future
                .try_into_future_reader::<Elem<D>>()?
                .pipe(&mut store, ValuesOut(self.0)),
        }
    }
}

struct BytesOut<D: Domain>(Writer<D>);

impl<D: Domain, T: 'static> StreamConsumer<T> for BytesOut<D> {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        src: Guest<'_, u8>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let want = match std::task::ready!(self.0.demand(cx, finish)) {
            Ok(n) => n,
            Err(end) => return Poll::Ready(Ok(end)),
        };
        let mut direct = src.as_direct(store);
        if direct.remaining().is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let n = direct.remaining().len().min(want);
        let made = D::enter(|d| D::nums(d, Num::U8, &direct.remaining()[..n]).map(|v| D::whole(d, v)))?;
        direct.mark_read(n);
        self.0.put(Chunk::Values(vec![made]));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

struct NumbersOut<D: Domain, N>(Writer<D>, PhantomData<fn() -> N>);

impl<D: Domain, N: Plain, T: 'static> StreamConsumer<T> for NumbersOut<D, N> {
    type Item = N;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<T>,
        mut src: Guest<'_, N>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let want = match std::task::ready!(self.0.demand(cx, finish)) {
            Ok(n) => n,
            Err(end) => return Poll::Ready(Ok(end)),
        };
        let there = src.remaining(&mut store);
        if there == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut buffer: Vec<N> = Vec::with_capacity(there.min(want));
        src.read(&mut store, &mut buffer)?;
        self.0.put(Chunk::Raw(Box::new(to_raw(&buffer))));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

struct UnitsOut<D: Domain>(Writer<D>);

impl<D: Domain> UnitsOut<D> {
    fn take<T: 'static>(
        &self,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<T>,
        mut src: Guest<'_, ()>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let want = match std::task::ready!(self.0.demand(cx, finish)) {
            Ok(n) => n,
            Err(end) => return Poll::Ready(Ok(end)),
        };
        let there = src.remaining(&mut store);
        if there == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let n = there.min(want);
        // a Vec of units reports endless capacity, so the count is bounded by hand
        for _ in 0..n {
            let mut one: Option<()> = None;
            src.read(&mut store, &mut one)?;
        }
        self.0.put(Chunk::Units(n));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl<D: Domain, T: 'static> StreamConsumer<T> for UnitsOut<D> {
    type Item = ();

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        src: Guest<'_, ()>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        self.take(cx, store, src, finish)
    }
}

impl<D: Domain, T: 'static> FutureConsumer<T> for UnitsOut<D> {
    type Item = ();

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<T>,
        mut src: Guest<'_, ()>,
        finish: bool,
    ) -> Poll<Result<()>> {
        let Some(wanted) = std::task::ready!(self.0.awaited(cx, finish)) else {
            return Poll::Ready(Ok(()));
        };
        let mut one: Option<()> = None;
        src.read(&mut store, &mut one)?;
        if wanted {
            self.0.put(Chunk::Units(1));
        }
        Poll::Ready(Ok(()))
    }
}

struct ValuesOut<D: Domain>(Writer<D>);

impl<D: Domain> ValuesOut<D> {
    fn take<T: 'static>(
        &self,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<T>,
        mut src: Guest<'_, Elem<D>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let want = match std::task::ready!(self.0.demand(cx, finish)) {
            Ok(n) => n,
            Err(end) => return Poll::Ready(Ok(end)),
        };
        let there = src.remaining(&mut store);
        if there == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        // a guest's write is offered once from its start; what is left over is offered again as a new write
        elem::rewind();
        let mut buffer: Vec<Elem<D>> = Vec::with_capacity(there.min(want));
        src.read(&mut store, &mut buffer)?;
        self.0
            .put(Chunk::Values(buffer.into_iter().map(|e| e.0).collect()));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl<D: Domain, T: 'static> StreamConsumer<T> for ValuesOut<D> {
    type Item = Elem<D>;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        src: Guest<'_, Elem<D>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        self.take(cx, store, src, finish)
    }
}

impl<D: Domain, T: 'static> FutureConsumer<T> for ValuesOut<D> {
    type Item = Elem<D>;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<T>,
        mut src: Guest<'_, Elem<D>>,
        finish: bool,
    ) -> Poll<Result<()>> {
        let Some(wanted) = std::task::ready!(self.0.awaited(cx, finish)) else {
            return Poll::Ready(Ok(()));
        };
        elem::rewind();
        let mut value: Option<Elem<D>> = None;
        src.read(&mut store, &mut value)?;
        if wanted {
            self.0
                .put(Chunk::Values(value.map(|e| e.0).into_iter().collect()));
        }
        Poll::Ready(Ok(()))
    }
}
