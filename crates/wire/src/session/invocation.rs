//! One invocation on a native stream of its own, in the frames of a session.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use super::core::{Called, Core, Event, Times};
use super::driver::{Guard, HANDSHAKE, Inner, Session, Slot, TURNS, UNREAD, lock, stopwatch};
use super::handler::{Answer, Handler, Reply};
use super::inbox::Inbox;
use super::lane::{Lane, fail};
use crate::failure::{Code, Failure};
use crate::frame::Out;
use crate::transport::BoxIo;

/// The number that the one invocation of a native stream has there.
const STREAM: u32 = 1;

/// What users of an invocation reach of it.
pub(super) struct NativeLane {
    core: Mutex<Core<Slot>>,
    driver: AtomicWaker,
    /// What serves the call.
    task: Mutex<Option<AbortHandle>>,
    abandoned: AtomicBool,
}

impl NativeLane {
    pub fn new(core: Core<Slot>) -> Self {
        NativeLane {
            core: Mutex::new(core),
            driver: AtomicWaker::new(),
            task: Mutex::default(),
            abandoned: AtomicBool::new(false),
        }
    }

    fn change<R>(&self, f: impl FnOnce(&mut Core<Slot>) -> R) -> R {
        let r = f(&mut lock(&self.core));
        self.driver.wake();
        r
    }

    /// Stops what serves the call; false where nothing does.
    fn abort(&self) -> bool {
        let task = lock(&self.task).take();
        task.map(|task| task.abort()).is_some()
    }
}

impl Lane for NativeLane {
    fn respond(&self, answer: Result<Bytes, Failure>, times: Option<&Times>, streaming: bool) {
        self.change(|core| core.respond(STREAM, answer, times, streaming));
    }

    fn cancel(&self) {
        drop(self.change(|core| core.cancel(STREAM)));
    }

    fn finish(&self) {}

    fn close(&self) {
        self.change(|core| core.close(STREAM));
    }

    fn expect(&self, path: &[u32]) {
        lock(&self.core).expect(STREAM, path);
    }

    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        let polled = lock(&self.core).poll_read(STREAM, path, cx);
        if polled.is_ready() {
            self.driver.wake();
        }
        polled
    }

    fn taken(&self, path: &[u32]) {
        self.change(|core| core.taken(STREAM, path));
    }

    fn stop(&self, path: &[u32]) {
        self.change(|core| core.stop(STREAM, path));
    }

    fn poll_open(
        &self,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        lock(&self.core).poll_open(STREAM, within, paths, cx)
    }

    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        lock(&self.core).poll_write(STREAM, path, cx)
    }

    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        lock(&self.core).poll_unread(STREAM, path, cx)
    }

    fn write(&self, path: &[u32], chunk: Bytes) {
        self.change(|core| core.write(STREAM, path, chunk));
    }

    fn lose(&self, path: &[u32], failure: &Failure) {
        self.change(|core| core.lose(STREAM, path, failure));
    }

    fn done(&self, path: &[u32]) {
        self.change(|core| core.done(STREAM, path));
    }

    fn abandon(&self, why: &Failure) {
        self.abandoned.store(true, Relaxed);
        for (user, sent) in self.change(Core::abandon) {
            fail(user, why, sent);
        }
        self.abort();
    }
}

/// What answers an invocation of the peer's.
pub(super) struct Server {
    pub session: Weak<Guard>,
    pub handler: Arc<dyn Handler>,
    /// There are more calls at once than this side takes.
    pub crowded: bool,
}

/// Reads and writes one native stream until its invocation is over.
pub(super) struct LaneDriver {
    lane: Arc<NativeLane>,
    inner: Arc<Inner>,
    number: u32,
    /// This side called.
    ours: bool,
    /// Until the peer's call has come.
    pub server: Option<Server>,
    pub opening: Option<BoxFuture<'static, Result<(BoxIo, OwnedSemaphorePermit), Failure>>>,
    pub io: Option<BoxIo>,
    /// Held as long as the peer counts the call.
    room: Option<OwnedSemaphorePermit>,
    inbox: Inbox,
    writing: Out,
    /// Nothing more can be read, or written.
    deaf: bool,
    mute: bool,
    /// The invocation is over, and this side's direction has ended.
    parted: bool,
    /// When a peer is given up that has begun no call and says nothing.
    late: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LaneDriver {
    pub fn new(lane: Arc<NativeLane>, inner: Arc<Inner>, number: u32, ours: bool) -> Self {
        LaneDriver {
            inbox: Inbox::new(inner.ours.limits.message, false),
            lane,
            inner,
            number,
            ours,
            server: None,
            opening: None,
            io: None,
            room: None,
            writing: Out::default(),
            deaf: false,
            mute: false,
            parted: false,
            late: None,
            sleep: None,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            if self.lane.abandoned.load(Relaxed) {
                return Poll::Ready(());
            }
            if self.parted {
                return self.part(cx);
            }
            let mut moved = self.open(cx) | self.read(cx) | self.time(cx);
            let written = self.write(cx);
            let over = {
                let core = lock(&self.lane.core);
                moved |= written && !core.is_drained() && !self.mute;
                core.busy() == 0 && self.server.is_none() && (self.mute || (written && core.is_drained()))
            };
            if over {
                return self.part(cx);
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends this side's direction, and waits until the peer has ended its own: some transports would reset it otherwise,
    /// and take from the peer what it has not read.
    fn part(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = self.io.as_mut().filter(|_| !self.mute) else {
            return Poll::Ready(());
        };
        if !self.parted {
            if ready!(Pin::new(&mut *io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.parted = true;
            self.room = None;
            self.sleep = Some(Box::pin(tokio::time::sleep(HANDSHAKE)));
            self.inner.lane_parted(self.ours);
        }
        let late = self
            .sleep
            .as_mut()
            .map(|sleep| sleep.as_mut().poll(cx).is_ready());
        let mut space = [0; 1024];
        while !self.deaf && late != Some(true) {
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            self.deaf = read.is_err() || buffer.filled().is_empty();
        }
        Poll::Ready(())
    }

    /// Waits for the native stream; true where it has come, or cannot.
    fn open(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(opening) = &mut self.opening else {
            return false;
        };
        if lock(&self.lane.core).busy() == 0 {
            // given up before it was heard of
            (self.opening, self.mute) = (None, true);
            return true;
        }
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else {
            return false;
        };
        self.opening = None;
        match (opened, self.inner.theirs()) {
            (Ok((io, room)), Some(theirs)) => {
                (self.io, self.room) = (Some(io), Some(room));
                lock(&self.lane.core).start(&theirs.limits);
            }
            (opened, _) => {
                let why = opened.err().unwrap_or_else(|| self.inner.gone());
                self.mute = true;
                for (user, sent) in self.lane.change(Core::abandon) {
                    fail(user, &why, sent);
                }
            }
        }
        true
    }

    /// Reads once and deals with what came; false where there is nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(io) = self
            .io
            .as_mut()
            .filter(|_| !self.deaf && self.writing.len() <= UNREAD)
        else {
            return false;
        };
        let mut buffer = ReadBuf::uninit(self.inbox.space());
        let read = match Pin::new(io).poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
        };
        match read {
            Ok(n @ 1..) => {
                // SAFETY: that many bytes were filled.
                unsafe { self.inbox.filled(n) };
                // a long call takes its time
                self.late = None;
                self.events();
            }
            Ok(0) => self.cut("the peer ended the invocation"),
            Err(e) => {
                self.mute = true;
                self.cut(&format!("the invocation's stream broke: {e}"));
            }
        }
        true
    }

    fn events(&mut self) {
        loop {
            let event = lock(&self.lane.core).event(&mut self.inbox);
            match event {
                Ok(Some(event)) => self.deal(event),
                Ok(None) => return,
                Err(failure) => {
                    self.inner.break_off(&failure);
                    self.mute = true;
                    return self.cut(&failure.message);
                }
            }
        }
    }

    /// Nothing more comes of the peer.
    fn cut(&mut self, why: &str) {
        self.deaf = true;
        self.server = None;
        let why = Failure::gone(why, false);
        if let Some((user, sent)) = lock(&self.lane.core).cut(STREAM, &why) {
            fail(user, &why, sent);
        }
        if lock(&self.lane.core).busy() == 0 {
            self.lane.abort();
        }
    }

    fn deal(&mut self, event: Event<Slot>) {
        match event {
            Event::Called(called) => self.called(called),
            Event::Answered {
                user, times, root, ..
            } => {
                let _ = user.send(Ok(Answer { times, root }));
            }
            Event::Failed { user, failure } => {
                let _ = user.send(Err(failure));
            }
            Event::Cancelled { .. } if self.lane.abort() => {
                let failure = Failure::new(Code::Cancelled, "the call was cancelled");
                lock(&self.lane.core).respond(STREAM, Err(failure), None, false);
            }
            // the core lets nothing else pass on a stream of one invocation
            _ => {}
        }
    }

    fn called(&mut self, mut called: Called) {
        let Some(server) = self.server.take() else { return };
        let Some(session) = Session::upgrade(&server.session).filter(|_| !self.inner.is_leaving()) else {
            let failure = Failure::gone("the provider is leaving", true);
            return lock(&self.lane.core).respond(STREAM, Err(failure), None, false);
        };
        if server.crowded {
            let failure = Failure::new(Code::Overloaded, "more calls at once than this peer takes");
            let failure = failure.with("limit", self.inner.ours.limits.calls);
            return lock(&self.lane.core).respond(STREAM, Err(failure), None, false);
        }
        called.stream = self.number;
        let spent = stopwatch(&called);
        let number = self.number;
        match server.handler.call(&session, called) {
            Reply::Now(answer) => lock(&self.lane.core).respond(STREAM, answer, spent().as_ref(), false),
            Reply::Later(later) => self.spawn(async move {
                let answer = later.await;
                session.respond(number, answer, spent().as_ref(), false);
            }),
            Reply::Task(task) => self.spawn(task),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        *lock(&self.lane.task) = Some(tokio::spawn(task).abort_handle());
    }

    /// Ends what is late; true where there is something to write.
    fn time(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = lock(&self.lane.core).next_deadline().map(Instant::from_std);
        let late = match self.server {
            Some(_) => Some(*self.late.get_or_insert_with(|| Instant::now() + HANDSHAKE)),
            None => None,
        };
        let Some(next) = deadline.into_iter().chain(late).min() else {
            return false;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = Instant::now();
        let events = lock(&self.lane.core).expire(now.into_std());
        events.into_iter().for_each(|event| self.expired(event));
        if late.is_some_and(|late| late <= now) {
            self.mute = true;
            self.cut("the peer opened an invocation and did not begin it");
        }
        true
    }

    /// A call is past its deadline.
    fn expired(&mut self, event: Event<Slot>) {
        match event {
            // it is answered already
            Event::Cancelled { .. } => drop(self.lane.abort()),
            event => self.deal(event),
        }
    }

    /// Writes what there is; true where all of it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(io) = self.io.as_mut().filter(|_| !self.mute) else {
            return false;
        };
        loop {
            if self.writing.is_empty() {
                lock(&self.lane.core).take(&mut self.writing);
            }
            if self.writing.is_empty() {
                return Pin::new(io).poll_flush(cx).is_ready();
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let n = self.writing.slices(&mut slices);
            match Pin::new(&mut *io).poll_write_vectored(cx, &slices[..n]) {
                Poll::Ready(Ok(n @ 1..)) => self.writing.advance(n),
                Poll::Pending => return false,
                Poll::Ready(_) => {
                    self.mute = true;
                    return false;
                }
            }
        }
    }
}

impl Future for LaneDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.lane.driver.register(cx.waker());
        self.turn(cx)
    }
}

impl Drop for LaneDriver {
    fn drop(&mut self) {
        if !self.parted {
            self.inner.lane_parted(self.ours);
        }
        self.inner.lane_over(self.number);
    }
}
