//! What is to be done in the loop's next turn: writing, streams that go on, and what was dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use loop_remote::{Invocation, Pump};
use loop_wire::Failure;
use pyo3::intern;
use pyo3::prelude::*;

use super::conn::Wire;
use crate::errors::aside;
use crate::hub::lock;

/// What whoever drops something may not do itself, since dropping happens anywhere.
pub enum Later {
    Close(u32),
    LetGo(u32, u32, Vec<u8>),
}

/// The turn to come.
pub struct Queue {
    event_loop: Py<PyAny>,
    /// What the loop is to call: a method of the session, until it ends.
    callback: Mutex<Option<Py<PyAny>>>,
    scheduled: AtomicBool,
    /// The session is over: nothing will run any more.
    over: AtomicBool,
    ready: Mutex<VecDeque<Arc<Running>>>,
    later: Mutex<Vec<Later>>,
}

impl Queue {
    pub fn new(event_loop: Py<PyAny>) -> Arc<Self> {
        Arc::new(Queue {
            event_loop,
            callback: Mutex::default(),
            scheduled: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ready: Mutex::default(),
            later: Mutex::default(),
        })
    }

    /// Sets what the loop is to call; None: nothing any more.
    pub fn set(&self, callback: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut *lock(&self.callback), callback);
        drop(old);
    }

    /// Ends it with the session, and drops the pumps: they hold what holds them.
    pub fn close(&self) {
        self.over.store(true, SeqCst);
        self.set(None);
        let ready = std::mem::take(&mut *lock(&self.ready));
        ready.iter().for_each(|running| running.end());
    }

    /// Asks for a turn, once.
    pub fn schedule(&self, py: Python<'_>) {
        if self.scheduled.swap(true, SeqCst) {
            return;
        }
        let callback = lock(&self.callback).as_ref().map(|c| c.clone_ref(py));
        if let Some(callback) = callback {
            // a closed loop refuses: nothing will run any more then
            let _ = aside(py, || {
                self.event_loop
                    .call_method1(py, intern!(py, "call_soon"), (callback,))
            });
        }
    }

    pub fn push(&self, later: Later) {
        lock(&self.later).push(later);
        Python::attach(|py| self.schedule(py));
    }

    /// Begins the turn: from here on another may be asked for.
    pub fn begin(&self) -> Vec<Later> {
        self.scheduled.store(false, SeqCst);
        std::mem::take(&mut *lock(&self.later))
    }

    /// Runs a pump as far as it goes, and again whenever it is woken.
    pub fn spawn(self: &Arc<Self>, pump: Pump) {
        if self.over.load(SeqCst) {
            return;
        }
        let running = Arc::new(Running {
            queue: self.clone(),
            pump: Mutex::new(Some(pump)),
            woken: AtomicBool::new(true),
        });
        lock(&self.ready).push_back(running);
        Python::attach(|py| self.schedule(py));
    }

    /// Runs the pumps that were woken.
    pub fn run(&self) {
        // those that are woken meanwhile have their turn in the next
        let ready = std::mem::take(&mut *lock(&self.ready));
        for running in ready {
            running.woken.store(false, SeqCst);
            let Some(mut pump) = lock(&running.pump).take() else {
                continue;
            };
            let waker = Waker::from(running.clone());
            let polled = pump.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() && !self.over.load(SeqCst) {
                *lock(&running.pump) = Some(pump);
            }
        }
    }
}

/// A pump at work.
struct Running {
    queue: Arc<Queue>,
    pump: Mutex<Option<Pump>>,
    woken: AtomicBool,
}

impl Running {
    fn end(&self) {
        let pump = lock(&self.pump).take();
        drop(pump);
    }
}

impl Wake for Running {
    fn wake(self: Arc<Self>) {
        // no channel is left to wake it from within the session
        if self.queue.over.load(SeqCst) {
            self.end();
        } else if !self.woken.swap(true, SeqCst) {
            lock(&self.queue.ready).push_back(self.clone());
            Python::attach(|py| self.queue.schedule(py));
        }
    }
}

/// An invocation of a session on an event loop; it is over when the last that holds it lets go.
pub struct WireInvocation {
    pub wire: Py<Wire>,
    pub queue: Arc<Queue>,
    pub stream: u32,
}

impl WireInvocation {
    fn soon(&self) {
        Python::attach(|py| self.queue.schedule(py));
    }
}

impl Invocation for WireInvocation {
    fn expect(&self, path: &[u32]) {
        lock(&self.wire.get().state).core.expect(self.stream, path);
    }
    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        let polled = lock(&self.wire.get().state).core.poll_read(self.stream, path, cx);
        self.soon(); // credit may go out
        polled
    }
    fn taken(&self, path: &[u32]) {
        lock(&self.wire.get().state).core.taken(self.stream, path);
        self.soon();
    }
    fn stop(&self, path: &[u32]) {
        lock(&self.wire.get().state).core.stop(self.stream, path);
        self.soon();
    }
    fn poll_open(
        &self,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        lock(&self.wire.get().state)
            .core
            .poll_open(self.stream, within, paths, cx)
    }
    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        lock(&self.wire.get().state)
            .core
            .poll_write(self.stream, path, cx)
    }
    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        lock(&self.wire.get().state)
            .core
            .poll_unread(self.stream, path, cx)
    }
    fn write(&self, path: &[u32], chunk: Bytes) {
        lock(&self.wire.get().state).core.write(self.stream, path, chunk);
        self.soon();
    }
    fn lose(&self, path: &[u32], failure: &Failure) {
        lock(&self.wire.get().state).core.lose(self.stream, path, failure);
        self.soon();
    }
    fn done(&self, path: &[u32]) {
        lock(&self.wire.get().state).core.done(self.stream, path);
        self.soon();
    }
}

impl Drop for WireInvocation {
    fn drop(&mut self) {
        self.queue.push(Later::Close(self.stream));
    }
}
