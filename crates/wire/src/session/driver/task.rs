//! The task that reads and writes a session's connection.

use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::{Guard, HANDSHAKE, Inner, Session, Slot, TURNS, UNREAD, lock, stopwatch};
use crate::failure::{Code, Failure};
use crate::frame::Out;
use crate::hello::Hello;
use crate::session::core::{Called, Event, Times};
use crate::session::eager::Eager;
use crate::session::handler::{Answer, Handler, Io, Reply};
use crate::session::inbox::Inbox;
#[cfg(target_os = "linux")]
use crate::transport::Sharing;

/// Time for the last words on a control stream to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads and writes a session's connection until it ends; returns why it did.
pub struct Driver<S> {
    pub(super) io: S,
    pub(super) session: Weak<Guard>,
    pub(super) inner: Arc<Inner>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) inbox: Inbox,
    pub(super) writing: Out,
    /// A descriptor may come along with what is read.
    pub(super) passed: bool,
    pub(super) batch: Vec<Event<Slot>>,
    pub(super) eager: Eager,
    pub(super) idle: Duration,
    pub(super) heard: Instant,
    pub(super) pinged: bool,
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
    pub(super) farewell: Option<Pin<Box<Sleep>>>,
    /// It is over as soon as what is left is written.
    pub(super) ending: Option<Failure>,
    /// It is over, whatever is left.
    pub(super) lost: bool,
}

impl<S: Io> Future for Driver<S> {
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        let me = &mut *self;
        me.inner.driver.register(cx.waker());
        let why = match me.turn(cx) {
            Ok(Some(why)) => why,
            Ok(None) => {
                if me.eager.looks(Instant::now()) {
                    // wakes this task when the other tasks have had their turn, and the runtime has looked for events
                    let _ = pin!(tokio::task::yield_now()).poll(cx);
                    std::thread::yield_now();
                }
                return Poll::Pending;
            }
            Err(e) => Failure::gone(format!("the connection broke: {e}"), false),
        };
        // some transports tell their end apart from a break; only native ones wait for it, and have done so
        if me.inner.lanes.is_none() {
            let _ = Pin::new(&mut me.io).poll_shutdown(cx);
        }
        me.end(&why);
        Poll::Ready(why)
    }
}

impl<S: Io> Driver<S> {
    fn turn(&mut self, cx: &mut Context<'_>) -> std::io::Result<Option<Failure>> {
        for _ in 0..TURNS {
            let read = self.ending.is_none() && self.read(cx)?;
            if self.time(cx) {
                if self.lost {
                    return Ok(self.ending.take());
                }
                continue;
            }
            if self.write(cx)? {
                // everything is written
                if self.ending.is_none() {
                    self.ending = self.leaves();
                    if self.ending.is_some() {
                        continue; // the last answer may have come, from another thread, after the writing
                    }
                }
                if self.ending.is_some() {
                    // a native connection is closed soon, and would lose what is on its way
                    if self.inner.lanes.is_some() && self.farewell(cx).is_pending() {
                        return Ok(None);
                    }
                    return Ok(self.ending.take());
                }
            }
            if !read {
                return Ok(None);
            }
        }
        cx.waker().wake_by_ref();
        Ok(None)
    }

    /// Ends the control stream, and waits for some time until the peer has all of it.
    fn farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.io).poll_shutdown(cx).is_ready() {
            return Poll::Ready(());
        }
        let sleep = || Box::pin(tokio::time::sleep(FAREWELL));
        self.farewell.get_or_insert_with(sleep).as_mut().poll(cx)
    }

    /// Why this side ends the session now, if it does.
    fn leaves(&self) -> Option<Failure> {
        if self.inner.closing.load(Relaxed) {
            let broken = self.inner.broken.get().cloned();
            return Some(broken.unwrap_or_else(|| Failure::gone("the session was closed", true)));
        }
        let left = self.inner.leaving.load(Relaxed) && self.inner.is_idle();
        left.then(|| Failure::gone("the session was left", true))
    }

    /// Reads once and deals with what came; false where there is nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        // what is written now, and what waits behind it
        if !self.writing.is_empty() && self.writing.len() + self.inner.core().unwritten() > UNREAD {
            return Ok(false);
        }
        match self.poll_read(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => {
                self.ending = Some(Failure::gone("the peer closed the connection", false));
                return Ok(true);
            }
            Poll::Ready(read) => read?,
        };
        let now = Instant::now();
        self.eager.read(now);
        let (failed, open) = {
            let mut core = self.inner.core();
            let failed = loop {
                match core.event(&mut self.inbox) {
                    Ok(Some(event)) => self.batch.push(event),
                    Ok(None) => break None,
                    Err(failure) => break Some(failure),
                }
            };
            self.passed = core.may_be_passed();
            (failed, core.is_open())
        };
        // the time of the handshake is not prolonged byte by byte
        if open {
            self.heard = now;
            self.pinged = false;
        }
        self.deal();
        if !open {
            // a HELLO was answered
            self.passed = self.inner.core().may_be_passed();
        }
        if let Some(failure) = failed {
            let mut core = self.inner.core();
            if core.is_open() {
                core.go_away(&failure);
            } else if self.inner.theirs.get().is_none() && failure.code == Code::Protocol {
                core.refuse(&failure);
            }
            self.ending = Some(failure);
        }
        Ok(true)
    }

    /// Reads into the inbox; how many bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        #[cfg(target_os = "linux")]
        if let Some(socket) = Sharing::socket(&self.io).filter(|_| self.passed) {
            return crate::passing::poll_read(socket, cx, &mut self.inbox);
        }
        let mut buffer = ReadBuf::uninit(self.inbox.space());
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let n = buffer.filled().len();
        // SAFETY: that many bytes were filled.
        unsafe { self.inbox.filled(n) };
        Poll::Ready(Ok(n))
    }

    /// Writes some of what is to be written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        #[cfg(target_os = "linux")]
        if let Some(socket) = Sharing::socket(&self.io).filter(|_| self.writing.descriptor().is_some()) {
            return crate::passing::poll_write(socket, cx, &mut self.writing);
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let n = self.writing.slices(&mut slices);
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..n]))?;
        if n == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
        }
        self.writing.advance(n);
        self.eager.wrote();
        Poll::Ready(Ok(()))
    }

    /// Takes bytes for read that somebody read before.
    pub(crate) fn replay(&mut self, bytes: &[u8]) {
        self.inbox.feed(bytes);
    }

    /// Deals with the events of one read; answers that are there at once are written together.
    fn deal(&mut self) {
        let mut answers = vec![];
        for event in std::mem::take(&mut self.batch) {
            match event {
                Event::Called(called) => self.called(called, &mut answers),
                Event::Answered {
                    user, times, root, ..
                } => {
                    let _ = user.send(Ok(Answer { times, root }));
                }
                Event::Failed { user, failure } => {
                    let _ = user.send(Err(failure));
                }
                Event::Cancelled { stream } => {
                    if let Some(task) = lock(&self.inner.tasks).remove(&stream) {
                        task.abort();
                        let failure = Failure::new(Code::Cancelled, "the call was cancelled");
                        answers.push((stream, Err(failure), None));
                    }
                }
                Event::Hello(theirs) => self.greet(theirs),
                Event::Welcome(theirs) => match self.inner.ours.satisfied_by(&theirs) {
                    Ok(()) => self.inner.begun(theirs),
                    Err(failure) => {
                        self.inner.core().go_away(&failure);
                        self.ending = Some(failure);
                    }
                },
                Event::Link(link) => {
                    let number = link.number;
                    let failure = self.handler.link(link).err();
                    self.inner.core().linked(number, failure);
                }
                Event::Linked(number, failure) => {
                    if let Some(tx) = lock(&self.inner.links).remove(&number) {
                        let _ = tx.send(failure);
                    }
                }
                Event::Unlink(number) => self.handler.unlink(number),
                Event::Dropped(link, resource, handle) => self.handler.dropped(link, resource, &handle),
                Event::Reload(number) => {
                    let failure = self.handler.reload().err();
                    self.inner.core().reloaded(number, failure);
                }
                Event::Reloaded(number, failure) => {
                    if let Some(tx) = lock(&self.inner.reloads).1.remove(&number) {
                        let _ = tx.send(failure);
                    }
                }
                Event::GoingAway(_) => self.inner.leaving.store(true, Relaxed),
            }
        }
        if !answers.is_empty() {
            let mut core = self.inner.core();
            for (stream, answer, times) in answers {
                core.respond(stream, answer, times.as_ref(), false);
            }
        }
    }

    fn called(&mut self, called: Called, answers: &mut Vec<(u32, Result<Bytes, Failure>, Option<Times>)>) {
        let Some(session) = self.session.upgrade().map(Session) else {
            return;
        };
        let stream = called.stream;
        let spent = stopwatch(&called);
        match self.handler.call(&session, called) {
            Reply::Now(answer) => answers.push((stream, answer, spent())),
            Reply::Later(later) => self.spawn(stream, async move {
                let answer = later.await;
                session.respond(stream, answer, spent().as_ref(), false);
            }),
            Reply::Task(task) => self.spawn(stream, task),
        }
    }

    fn spawn(&self, stream: u32, task: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::downgrade(&self.inner);
        let mut tasks = lock(&self.inner.tasks);
        let task = tokio::spawn(async move {
            task.await;
            if let Some(inner) = inner.upgrade() {
                lock(&inner.tasks).remove(&stream);
            }
        });
        tasks.insert(stream, task.abort_handle());
    }

    /// Answers a HELLO.
    fn greet(&mut self, theirs: Hello) {
        let ours = &self.inner.ours;
        let fits = if theirs.protocol != ours.protocol {
            ours.satisfied_by(&theirs)
        } else {
            self.handler
                .accept(&theirs)
                .and_then(|()| theirs.satisfied_by(ours))
                .and_then(|()| ours.satisfied_by(&theirs))
        };
        match fits {
            Ok(()) => {
                self.inner.core().welcome(ours, &theirs);
                self.inner.begun(theirs);
            }
            Err(failure) => {
                self.inner.core().refuse(&failure);
                self.ending = Some(failure);
            }
        }
    }

    /// Writes what there is; true where all of it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        loop {
            if self.writing.is_empty() {
                self.inner.core().take(&mut self.writing);
            }
            if self.writing.is_empty() {
                return match Pin::new(&mut self.io).poll_flush(cx) {
                    Poll::Ready(r) => r.map(|()| true),
                    Poll::Pending => Ok(false),
                };
            }
            match self.poll_write(cx) {
                Poll::Ready(written) => written?,
                Poll::Pending => return Ok(false),
            }
        }
    }

    /// Ends what is late, and keeps the connection alive. True where there is something to deal with or to write.
    fn time(&mut self, cx: &mut Context<'_>) -> bool {
        let (deadline, open) = {
            let core = self.inner.core();
            (core.next_deadline(), core.is_open())
        };
        let alive = match (open, self.pinged) {
            (false, _) => self.heard + HANDSHAKE,
            (true, false) => self.heard + self.idle / 3,
            (true, true) => self.heard + self.idle,
        };
        let next = deadline.map_or(alive, |d| d.min(alive));
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.into())));
        if next < sleep.deadline().into_std() {
            sleep.as_mut().reset(next.into());
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = Instant::now();
        if now < next {
            // it was set for what is over by now
            sleep.as_mut().reset(next.into());
            return sleep.as_mut().poll(cx).is_ready();
        }
        self.batch = self.inner.core().expire(now);
        self.deal();
        if now >= alive {
            // whoever is silent is not waited for to take what is left
            self.lost = self.ending.is_some() || self.pinged || !open;
            if self.lost {
                let silent = self.idle.as_secs_f64();
                self.ending.get_or_insert_with(|| match open {
                    false => Failure::gone("the peer did not begin a session in time", false),
                    true => Failure::gone(format!("nothing was heard of the peer for {silent} s"), false),
                });
            } else {
                self.pinged = true;
                self.inner.core().ping([0; 8]);
            }
        }
        true
    }

    fn end(&mut self, why: &Failure) {
        self.inner.over(why);
        self.handler.closed(why);
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        // dropped before its end, as with its runtime: nobody may wait for ever
        if self.inner.dead.get().is_none() {
            self.inner
                .over(&Failure::gone("the session's task was dropped", false));
        }
    }
}
