//! Streams and futures over an invocation: what follows the values of a call on its paths.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use loop_engine::{Chunk, Feed, Handle, Resource, Settle, Source, TyRef};
use loop_wire::Failure;
use loop_wire::session::Session;
use wasmtime::{Error, Result};

use crate::chunk::{read_chunk, read_settled, write_chunk};
use crate::encoded::Encoded;
use crate::gather::Gathered;
use crate::import::streams;
use crate::outgoing::{Message, Pending, Way};
use crate::peer::Peer;

/// A failure that came from, or is meant for, the other side.
#[derive(Debug)]
pub struct Failed(pub Failure);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Failed {}

/// An invocation with channels. It is over when the last that holds it lets go.
pub trait Invocation: Send + Sync + 'static {
    fn expect(&self, path: &[u32]);
    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>>;
    fn taken(&self, path: &[u32]);
    fn stop(&self, path: &[u32]);
    fn poll_open(
        &self,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>>;
    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>>;
    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()>;
    fn write(&self, path: &[u32], chunk: Bytes);
    fn lose(&self, path: &[u32], failure: &Failure);
    fn done(&self, path: &[u32]);
}

/// The handles of one link in one session.
pub trait Handles: Send + Sync + 'static {
    /// The bytes that stand for a resource which leaves (`own`) or is lent.
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>>;
    /// The resource that bytes stand for.
    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle>;
}

/// An invocation of a session; dropping it closes the call on this side.
pub struct SessionCall {
    pub session: Session,
    pub stream: u32,
}

impl Invocation for SessionCall {
    fn expect(&self, path: &[u32]) {
        self.session.expect(self.stream, path);
    }
    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        self.session.poll_read(self.stream, path, cx)
    }
    fn taken(&self, path: &[u32]) {
        self.session.taken(self.stream, path);
    }
    fn stop(&self, path: &[u32]) {
        self.session.stop(self.stream, path);
    }
    fn poll_open(
        &self,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        self.session.poll_open(self.stream, within, paths, cx)
    }
    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.session.poll_write(self.stream, path, cx)
    }
    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        self.session.poll_unread(self.stream, path, cx)
    }
    fn write(&self, path: &[u32], chunk: Bytes) {
        self.session.write(self.stream, path, chunk);
    }
    fn lose(&self, path: &[u32], failure: &Failure) {
        self.session.lose(self.stream, path, failure);
    }
    fn done(&self, path: &[u32]) {
        self.session.done(self.stream, path);
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        self.session.close_call(self.stream);
    }
}

/// The other side of one invocation.
#[derive(Clone)]
pub struct Ends {
    /// None where the types of the call hold neither streams nor futures.
    pub invocation: Option<Arc<dyn Invocation>>,
    pub handles: Arc<dyn Handles>,
}

impl Ends {
    fn invocation(&self) -> Result<Arc<dyn Invocation>> {
        self.invocation
            .clone()
            .ok_or_else(|| wasmtime::format_err!("this call carries no streams and futures"))
    }

    fn channel(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Channel> {
        let invocation = self.invocation()?;
        invocation.expect(path);
        Ok(Channel {
            invocation,
            ends: self.clone(),
            path: path.into(),
            payload: payload.cloned(),
            first: 0,
            over: false,
        })
    }
}

impl Peer for Ends {
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        self.handles.give(resource, own, handle)
    }
    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        self.handles.take(resource, own, bytes)
    }
    fn stream(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Feed<Encoded>> {
        Ok(Feed::Source(Box::new(self.channel(path, payload)?)))
    }
    fn future(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Settle<Encoded>> {
        let mut channel = self.channel(path, payload)?;
        Ok(Settle::Value(Box::pin(async move {
            let read = std::future::poll_fn(|cx| channel.invocation.poll_read(&channel.path, cx)).await;
            let value = match &read {
                Ok(bytes) => read_settled(channel.payload.as_ref(), bytes, &channel.path, &channel.ends),
                Err(e) => Err(Error::new(Failed(e.clone()))),
            };
            // a stream in the value may go on in the same channel
            channel.end();
            value
        })))
    }
}

/// The readable end of a stream or future that the other side writes.
struct Channel {
    invocation: Arc<dyn Invocation>,
    ends: Ends,
    path: Box<[u32]>,
    payload: Option<TyRef>,
    /// The number of the next item.
    first: u32,
    over: bool,
}

impl Channel {
    /// It was read to its end.
    fn end(&mut self) {
        self.over = true;
        self.invocation.taken(&self.path);
    }
}

impl Source<Encoded> for Channel {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Encoded>>>> {
        if self.over {
            return Poll::Ready(Ok(None));
        }
        let bytes = match ready!(self.invocation.poll_read(&self.path, cx)) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.end();
                return Poll::Ready(Err(Error::new(Failed(e))));
            }
        };
        if *bytes == [0] {
            self.end();
            return Poll::Ready(Ok(None));
        }
        let read = read_chunk(self.payload.as_ref(), &bytes, &self.path, self.first, &self.ends);
        match &read {
            Ok(chunk) => self.first = self.first.wrapping_add(count(chunk, &bytes)),
            Err(_) => {
                self.over = true;
                self.invocation.stop(&self.path);
            }
        }
        Poll::Ready(read.map(Some))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.over {
            self.invocation.stop(&self.path);
        }
    }
}

/// Items of a chunk; those of numbers are told by the count that they came with.
fn count(chunk: &Chunk<Encoded>, bytes: &Bytes) -> u32 {
    match chunk {
        Chunk::Values(v) => v.len() as u32,
        Chunk::Units(n) => *n as u32,
        Chunk::Raw(_) => loop_wire::codec::Cursor::new(bytes).unsigned(32).unwrap_or(0) as u32,
    }
}

/// What runs until a stream or future is sent.
pub type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What runs pumps.
pub type Spawn = Arc<dyn Fn(Pump) + Send + Sync>;

/// Sends what follows a root. `spawn` runs the pumps, those of what is nested in them too.
///
/// Errors where that is more streams and futures than the peer takes.
pub fn follow(ends: &Ends, pending: Vec<Pending>, spawn: &Spawn) -> Result<()> {
    let Some(invocation) = &ends.invocation else {
        return Ok(());
    };
    let paths = paths(&[], &pending);
    // what a root announces waits for nothing
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(Err(why)) = invocation.poll_open(&[], &paths, &mut cx) {
        return Err(Error::new(Failed(why)));
    }
    begin(ends, invocation, paths, pending, spawn);
    Ok(())
}

fn paths(base: &[u32], pending: &[Pending]) -> Vec<Box<[u32]>> {
    let path = |p: &Pending| base.iter().chain(&p.path).copied().collect();
    pending.iter().map(path).collect()
}

/// Sends what was announced.
fn begin(
    ends: &Ends,
    invocation: &Arc<dyn Invocation>,
    paths: Vec<Box<[u32]>>,
    pending: Vec<Pending>,
    spawn: &Spawn,
) {
    for (p, path) in pending.into_iter().zip(paths) {
        let flow = Flow {
            invocation: invocation.clone(),
            ends: ends.clone(),
            path,
            spawn: spawn.clone(),
        };
        spawn(match p.way {
            Way::Stream(source) => Box::pin(flow.stream(source, p.payload)),
            Way::Future(value) => Box::pin(flow.future(value)),
        });
    }
}

struct Flow {
    invocation: Arc<dyn Invocation>,
    ends: Ends,
    path: Box<[u32]>,
    spawn: Spawn,
}

impl Flow {
    /// Waits until something may be written, and says how much; none where nobody reads.
    async fn room(&self) -> Option<usize> {
        std::future::poll_fn(|cx| self.invocation.poll_write(&self.path, cx)).await
    }

    /// What `polled` gives; none where nobody reads any more, also while there is nothing yet.
    async fn wanted<R>(&self, mut polled: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Option<R> {
        std::future::poll_fn(|cx| match polled(cx) {
            Poll::Ready(made) => Poll::Ready(Some(made)),
            Poll::Pending => self.invocation.poll_unread(&self.path, cx).map(|()| None),
        })
        .await
    }

    /// Sends a chunk or value, once what it announces has room; false where nothing more is to be sent.
    async fn send(&self, made: Message) -> bool {
        if self.room().await.is_none() {
            return false;
        }
        let paths = paths(&self.path, &made.pending);
        match std::future::poll_fn(|cx| self.invocation.poll_open(&self.path, &paths, cx)).await {
            Ok(true) => {
                self.invocation.write(&self.path, made.bytes.into());
                begin(&self.ends, &self.invocation, paths, made.pending, &self.spawn);
                true
            }
            Ok(false) => false,
            Err(why) => {
                self.invocation.lose(&self.path, &why);
                false
            }
        }
    }

    async fn stream(self, mut source: Box<dyn Source<Encoded>>, payload: Option<TyRef>) {
        let mut first = 0u32;
        let mut source = Gathered::of(&mut *source, payload.as_ref());
        // nothing is asked for before somebody wants it
        while let Some(room) = self.room().await {
            let Some(next) = self.wanted(|cx| source.poll_next(cx, room)).await else {
                return;
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return self.invocation.write(&self.path, Bytes::from_static(&[0])),
                Err(e) => return self.lose(&e),
            };
            for chunk in pieces(payload.as_ref(), chunk) {
                let made = match write_chunk(payload.as_ref(), chunk, first, &self.ends) {
                    Ok(made) => made,
                    Err(e) => return self.lose(&e),
                };
                let n = loop_wire::codec::Cursor::new(&made.bytes)
                    .unsigned(32)
                    .unwrap_or(0);
                if n == 0 {
                    continue; // an empty chunk would be the end
                }
                first = first.wrapping_add(n as u32);
                if !self.send(made).await {
                    return;
                }
            }
        }
    }

    async fn future(self, mut value: loop_engine::Settling<Encoded>) {
        let Some(settled) = self.wanted(|cx| value.as_mut().poll(cx)).await else {
            return;
        };
        match settled.and_then(|v| v.finish(&self.ends)) {
            Ok(made) => {
                self.send(made).await;
            }
            Err(e) => self.lose(&e),
        }
    }

    fn lose(&self, e: &Error) {
        self.invocation.lose(&self.path, &failure(e));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.invocation.done(&self.path);
    }
}

/// Items that have streams and futures in them go one by one, so that each may wait for those before it.
fn pieces(payload: Option<&TyRef>, chunk: Chunk<Encoded>) -> Vec<Chunk<Encoded>> {
    match chunk {
        Chunk::Values(values) if payload.is_some_and(|t| streams(t)) => {
            values.into_iter().map(|v| Chunk::Values(vec![v])).collect()
        }
        chunk => vec![chunk],
    }
}

/// An engine error as what the other side is told.
pub fn failure(e: &Error) -> Failure {
    use loop_wire::Code;
    if let Some(Failed(failure)) = e.downcast_ref() {
        return failure.clone();
    }
    if let Some(bad) = e.downcast_ref::<crate::check::BadBytes>() {
        return Failure::new(Code::BadValue, bad.to_string())
            .with("path", &bad.path)
            .with("expected", &bad.expected)
            .with("cause", bad.cause.word());
    }
    if let Some(m) = e.downcast_ref::<loop_engine::Mismatch>() {
        return Failure::new(Code::BadValue, m.to_string())
            .with("path", &m.path)
            .with("expected", &m.expected)
            .with("got", &m.got);
    }
    Failure::new(Code::Provider, format!("{e:#}"))
}
