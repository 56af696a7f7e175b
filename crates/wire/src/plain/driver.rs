//! Reads and writes the connection of one invocation in plain mode.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::frames::Reader;
use super::lane::{Closing, Gather, PlainLane};
use super::{Connector, Extent, Part, Roots, constructs, number_of};
use crate::failure::{Code, Failure};
use crate::frame::Out;
use crate::session::driver::{Guard, HANDSHAKE, Inner, TURNS, lock};
use crate::session::{Called, Handler, Meta, Reply, Request, Session};
use crate::transport::BoxIo;

/// Bytes of a peer that are thrown away after the last was said to it, lest closing loses what is on its way.
const DRAINED: usize = 16 << 20;

/// What answers a call of the peer's.
pub(super) struct Server {
    pub session: Weak<Guard>,
    pub handler: Arc<dyn Handler>,
    /// Functions that return handles which are owned are served.
    pub handles: bool,
}

enum Stage {
    /// Of the peer's calls: whom it is for is not known yet.
    Header(Server),
    /// The root is coming; with what answers, of the peer's calls.
    Root(Option<Server>),
    /// Streams and futures alone.
    Channels,
}

type Opening = BoxFuture<'static, Result<(BoxIo, OwnedSemaphorePermit), Failure>>;

/// Drives one invocation to its end; errors where the peer broke the rules.
pub(super) struct LaneDriver {
    lane: Arc<PlainLane>,
    inner: Arc<Inner>,
    number: u32,
    roots: Arc<dyn Roots>,
    function: u32,
    ours: bool,
    stage: Stage,
    opening: Option<Opening>,
    io: Option<BoxIo>,
    room: Option<OwnedSemaphorePermit>,
    reader: Reader,
    root: Gather,
    /// A frame of the root has come.
    rooted: bool,
    /// Nothing more can be read.
    deaf: bool,
    writing: Out,
    /// This side's direction is shut down.
    shut: bool,
    drained: usize,
    /// Of this side's calls the deadline, of the peer's the end of patience.
    late: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl LaneDriver {
    pub fn new(lane: Arc<PlainLane>, inner: Arc<Inner>, number: u32, roots: Arc<dyn Roots>) -> Self {
        LaneDriver {
            reader: Reader::new(inner.ours.limits.message),
            lane,
            inner,
            number,
            roots,
            function: 0,
            ours: false,
            stage: Stage::Root(None),
            opening: None,
            io: None,
            room: None,
            root: Gather::default(),
            rooted: false,
            deaf: false,
            writing: Out::default(),
            shut: false,
            drained: 0,
            late: None,
        }
    }

    /// A call of this side's, over a connection to be made.
    pub fn calls(&mut self, request: &Request, connector: Connector) {
        self.ours = true;
        self.function = request.function;
        self.late = request.meta.deadline.map(after);
        let inner = self.inner.clone();
        self.opening = Some(Box::pin(async move {
            let room = match &inner.lanes {
                Some(lanes) => lanes.room().await,
                None => None,
            };
            let room = room.ok_or_else(|| inner.gone())?;
            Ok((connector().await?, room))
        }));
    }

    /// A call of the peer's.
    pub fn serves(&mut self, io: BoxIo, server: Server) {
        self.io = Some(io);
        self.stage = Stage::Header(server);
        self.late = Some(after(HANDSHAKE));
        lock(&self.lane.state).sent = true;
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        for _ in 0..TURNS {
            let closing = lock(&self.lane.state).closing;
            if closing == Closing::Cut {
                return Poll::Ready(Ok(()));
            }
            if self.shut && closing == Closing::Properly {
                return self.drain(cx);
            }
            let moved = self.open(cx)? | self.read(cx)? | self.time(cx)?;
            let written = self.write(cx);
            let state = lock(&self.lane.state);
            let answered = self.ours && state.answered && !state.streaming;
            if answered || (state.deaf && state.closing == Closing::Properly) {
                return Poll::Ready(Ok(()));
            }
            let finished = state.finished || state.closing == Closing::Properly;
            let more = !state.out.is_empty() && !state.deaf;
            drop(state);
            if written && finished && !more && !self.shut && self.shutdown(cx) {
                continue;
            }
            let goes_on = moved || (written && more);
            if !goes_on {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for the connection; true where it is there.
    fn open(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(opening) = &mut self.opening else {
            return Ok(false);
        };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else {
            return Ok(false);
        };
        self.opening = None;
        let (io, room) = opened?;
        (self.io, self.room) = (Some(io), Some(room));
        lock(&self.lane.state).sent = true;
        Ok(true)
    }

    /// Reads once and deals with what came; false where there is nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        if self.deaf || !lock(&self.lane.state).listens() {
            return Ok(false);
        }
        let Some(io) = &mut self.io else { return Ok(false) };
        let mut buffer = ReadBuf::uninit(self.reader.space());
        let read = match Pin::new(io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
        };
        match read {
            Ok(0) => self.ended()?,
            Ok(n) => {
                // SAFETY: that many bytes were filled.
                unsafe { self.reader.filled(n) };
                self.events()?;
            }
            Err(e) => return Err(Failure::gone(format!("the connection broke: {e}"), false)),
        }
        Ok(true)
    }

    fn events(&mut self) -> Result<(), Failure> {
        if matches!(self.stage, Stage::Header(_)) && !self.header()? {
            return Ok(());
        }
        while let Some(frame) = self.reader.frame()? {
            if !frame.path.is_empty() {
                let mut state = lock(&self.lane.state);
                state.data(frame, &*self.roots, self.function, self.ours)?;
                continue;
            }
            if matches!(self.stage, Stage::Channels) && !frame.data.is_empty() {
                return Err(Failure::protocol("bytes are left after the root"));
            }
            self.rooted = true;
            self.root.push(frame.data);
        }
        if self.rooted { self.measure(false) } else { Ok(()) }
    }

    /// Learns whom the call is for; false where that has not all come.
    fn header(&mut self) -> Result<bool, Failure> {
        let Some(header) = self.reader.header()? else {
            return Ok(false);
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Channels);
        let Stage::Header(server) = stage else {
            return Ok(true);
        };
        self.late = None;
        self.function = number_of(&self.inner.ours.exports, &header.instance, &header.function)?;
        let owns = constructs(&self.inner.ours.exports, self.function) || self.roots.owns(self.function);
        if owns && !server.handles {
            let message = format!(
                "{} returns a handle, which plain mode could never drop: plain-handles allows it",
                header.function
            );
            return Err(Failure::new(Code::NotGranted, message).with("function", header.function));
        }
        self.stage = Stage::Root(Some(server));
        Ok(true)
    }

    /// Takes the root where it is whole.
    fn measure(&mut self, ended: bool) -> Result<(), Failure> {
        if !matches!(self.stage, Stage::Root(_)) {
            return Ok(());
        }
        let part = if self.ours { Part::Result } else { Part::Params };
        match self.roots.extent(self.function, part, self.root.bytes(), ended) {
            Extent::Complete(n) if n == self.root.bytes().len() => {
                let root = self.root.take(n);
                match std::mem::replace(&mut self.stage, Stage::Channels) {
                    Stage::Root(Some(server)) => self.called(server, root),
                    _ => lock(&self.lane.state).answer(root),
                }
                Ok(())
            }
            Extent::Complete(_) => Err(Failure::protocol("bytes are left after the root")),
            Extent::Truncated => self.root.in_vain(&self.inner.ours.limits),
            Extent::Invalid(e) => Err(e.into()),
        }
    }

    /// The peer has shut its direction down.
    fn ended(&mut self) -> Result<(), Failure> {
        self.deaf = true;
        let whole = !self.reader.is_within();
        if whole && (self.rooted || (self.ours && self.roots.is_silent(self.function))) {
            self.measure(true)?;
        }
        if !matches!(self.stage, Stage::Channels) {
            let what = if self.ours { "an answer" } else { "all of the call" };
            return Err(Failure::gone(format!("the peer closed without {what}"), false));
        }
        let why = Failure::gone("the peer ended the invocation before the stream or future", false);
        lock(&self.lane.state).end(&why);
        Ok(())
    }

    fn called(&mut self, server: Server, root: Bytes) {
        let Some(session) = Session::upgrade(&server.session) else {
            lock(&self.lane.state).closing = Closing::Cut;
            return;
        };
        let called = Called {
            stream: self.number,
            function: self.function,
            link: 0,
            meta: Meta::default(),
            root,
            at: std::time::Instant::now(),
        };
        let number = self.number;
        match server.handler.call(&session, called) {
            Reply::Now(answer) => session.respond(number, answer, None, false),
            Reply::Later(later) => self.spawn(async move {
                let answer = later.await;
                session.respond(number, answer, None, false);
            }),
            Reply::Task(task) => self.spawn(task),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        *lock(&self.lane.task) = Some(tokio::spawn(task).abort_handle());
    }

    /// Errors where it is too late.
    fn time(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let Some((sleep, limit)) = &mut self.late else {
            return Ok(false);
        };
        if lock(&self.lane.state).answered || sleep.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        if !self.ours {
            return Err(Failure::gone("the peer did not say in time what it calls", false));
        }
        let seconds = limit.as_secs_f64();
        let message = format!("the call ran past its deadline of {seconds} s");
        let failure = Failure::new(Code::DeadlineExceeded, message).with("seconds", seconds);
        let mut state = lock(&self.lane.state);
        state.fail(failure);
        state.closing = Closing::Cut;
        Ok(true)
    }

    /// Writes what there is; true where all of it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(io) = &mut self.io else { return false };
        loop {
            if self.writing.is_empty() {
                std::mem::swap(&mut lock(&self.lane.state).out, &mut self.writing);
            }
            if self.writing.is_empty() {
                return Pin::new(io).poll_flush(cx).is_ready();
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let n = self.writing.slices(&mut slices);
            match Pin::new(&mut *io).poll_write_vectored(cx, &slices[..n]) {
                Poll::Ready(Ok(n @ 1..)) => {
                    self.writing.advance(n);
                    lock(&self.lane.state).written(self.writing.len());
                }
                Poll::Pending => return false,
                Poll::Ready(_) => {
                    // what the peer has said may still be read
                    self.writing = Out::default();
                    let mut state = lock(&self.lane.state);
                    state.deaf = true;
                    state.out = Out::default();
                    if !self.ours {
                        state.closing = Closing::Cut;
                        drop(state);
                        self.lane.abort();
                    }
                    return true;
                }
            }
        }
    }

    /// Tells the peer that nothing more comes; true where it is told.
    fn shutdown(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(io) = &mut self.io {
            self.shut = Pin::new(io).poll_shutdown(cx).is_ready();
        }
        self.shut
    }

    /// Reads what the peer still says, for some time: closing with bytes unread would take from it what it has not read.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(io) = self.io.as_mut().filter(|_| !self.ours && !self.deaf) else {
            return Poll::Ready(Ok(()));
        };
        let (late, _) = self.late.get_or_insert_with(|| after(HANDSHAKE));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            self.drained += buffer.filled().len();
            if read.is_err() || buffer.filled().is_empty() || self.drained > DRAINED {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn after(limit: Duration) -> (Pin<Box<Sleep>>, Duration) {
    let far = Duration::from_secs(u32::MAX.into());
    (
        Box::pin(tokio::time::sleep_until(Instant::now() + limit.min(far))),
        limit,
    )
}

impl Future for LaneDriver {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.lane.driver.register(cx.waker());
        let ended = ready!(self.turn(cx));
        if let Err(failure) = &ended {
            let mut state = lock(&self.lane.state);
            // what broke the call itself says so, and not that the peer has gone
            if !matches!(failure.code, Code::ProviderGone) {
                state.fail(failure.clone());
            }
            state.lose(failure);
            drop(state);
            self.lane.abort();
        }
        Poll::Ready(ended)
    }
}

impl Drop for LaneDriver {
    fn drop(&mut self) {
        let gone = Failure::gone("the invocation is over", false);
        lock(&self.lane.state).lose(&gone);
        self.inner.lane_parted(self.ours);
        self.inner.lane_over(self.number);
    }
}
