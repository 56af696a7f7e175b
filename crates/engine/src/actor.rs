//! A concurrent instance at work: one future that runs its Store, and jobs sent to it.
//!
//! wasmtime lets one `run_concurrent` at a time poll a Store, so every call, stream and drop of an instance goes
//! through the future here. Whoever has an interest in the instance may poll that future ([`Home::poll`]); wakes go
//! to the embedder's [`Notify`], which polls it where its host functions may run (the event loop's thread).

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use wasmtime::component::{Accessor, AccessorTask, JoinHandle};
use wasmtime::{Error, Result, Trap};

use crate::instance::{Home, State};
use crate::joint::Joint;
use crate::scope::{self, lock};
use crate::tracing::Trace;

/// What an embedder does when an instance wants to be polled.
pub trait Notify: Send + Sync + 'static {
    /// Arranges for [`Home::poll`], soon and on the right thread. Called from any thread, with no lock held.
    fn notify(&self, home: Arc<Home>);
}

/// Something to do in the Store, to its end.
pub(crate) type Job =
    Box<dyn for<'a> FnOnce(&'a Accessor<State>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send>;

type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

pub(crate) struct Actor {
    jobs: mpsc::UnboundedSender<Job>,
    future: Mutex<Option<Running>>,
    wake: Arc<ActorWake>,
    /// Why the future ended, if by an error.
    end: Mutex<Option<Arc<Error>>>,
    /// When it ended, one call ran at most: the error is that call's own.
    alone: OnceLock<bool>,
    /// To be dropped by whoever polls it now.
    stopping: AtomicBool,
}

struct ActorWake {
    home: Weak<Home>,
    notify: Arc<dyn Notify>,
    /// Woken since the last poll began.
    queued: AtomicBool,
    polling: AtomicBool,
}

impl Wake for ActorWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // whoever polls looks at `queued` once more after it has cleared `polling`
        if self.queued.swap(true, SeqCst) || self.polling.load(SeqCst) {
            return;
        }
        if let Some(home) = self.home.upgrade() {
            self.notify.notify(home);
        }
    }
}

/// What came of one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing more to do until it is woken.
    Idle,
    /// It was woken meanwhile: poll again, when others had their turn.
    Again,
    /// Its future has ended.
    Ended,
}

impl Actor {
    /// `run` is given the queue of jobs and runs them in the instance's Store.
    pub fn new<F>(
        home: Weak<Home>,
        notify: Arc<dyn Notify>,
        run: impl FnOnce(mpsc::UnboundedReceiver<Job>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (jobs, queue) = mpsc::unbounded_channel();
        let wake = ActorWake {
            home,
            notify,
            queued: AtomicBool::new(false),
            polling: AtomicBool::new(false),
        };
        Actor {
            jobs,
            future: Mutex::new(Some(Box::pin(Joint::new(run(queue))))),
            wake: Arc::new(wake),
            end: Mutex::default(),
            alone: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Queues a job. A job for an instance that has ended is dropped.
    pub fn submit(&self, job: Job) {
        let _ = self.jobs.send(job);
        // until its first poll the future has no waker for the queue to wake
        self.wake.wake_by_ref();
    }

    /// Queues a job for a caller that polls the instance itself, next.
    pub fn submit_quietly(&self, job: Job) {
        // a queued wake keeps the queue's own wake from notifying the embedder
        self.wake.queued.store(true, SeqCst);
        let _ = self.jobs.send(job);
    }

    /// Drops the Store, with all that runs in it; at the end of the poll where it is being polled.
    fn stop(&self, home: &Home, why: Error) {
        lock(&self.end).get_or_insert_with(|| Arc::new(why));
        self.stopping.store(true, SeqCst);
        if let Ok(future) = self.future.try_lock() {
            self.bury(home, future);
        }
    }

    /// Notes why the Store ends, before it is dropped and its callers learn that it has ended.
    pub fn ends(&self, home: &Home, why: Error) {
        let _ = self.alone.set(lock(&home.callers).len() <= 1);
        lock(&self.end).get_or_insert_with(|| Arc::new(why));
    }

    /// Drops the Store. Its callers now learn that it has ended.
    fn bury(&self, home: &Home, mut future: MutexGuard<'_, Option<Running>>) {
        let Some(gone) = future.take() else { return };
        drop(future);
        let callers = std::mem::take(&mut *lock(&home.callers));
        let _ = self.alone.set(callers.len() <= 1);
        drop(gone);
        drop(callers);
    }

    /// Whether the error that ended the instance is that of the one call that ran.
    pub fn ended_alone(&self) -> bool {
        self.alone.get().is_some_and(|alone| *alone)
    }

    pub fn end(&self) -> Option<Arc<Error>> {
        lock(&self.end).clone()
    }

    pub fn has_ended(&self) -> bool {
        match self.future.try_lock() {
            Ok(f) => f.is_none(),
            Err(_) => false, // it is being polled
        }
    }

    fn poll(&self, home: &Home) -> Polled {
        let Ok(mut future) = self.future.try_lock() else {
            // Polled further up this stack, or by another thread. That one looks for wakes until it has cleared
            // `polling`: what came after is still to be polled.
            let left = self.wake.queued.load(SeqCst) && !self.wake.polling.load(SeqCst);
            return if left { Polled::Again } else { Polled::Idle };
        };
        let Some(running) = future.as_mut() else {
            return Polled::Ended;
        };
        self.wake.polling.store(true, SeqCst);
        self.wake.queued.store(false, SeqCst);
        let waker = Waker::from(self.wake.clone());
        let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
        self.wake.polling.store(false, SeqCst);
        let polled = if self.stopping.load(SeqCst) {
            Poll::Ready(Ok(()))
        } else {
            polled
        };
        match polled {
            Poll::Pending if self.wake.queued.load(SeqCst) => Polled::Again,
            Poll::Pending if home.is_stuck() => {
                lock(&self.end).get_or_insert_with(|| Arc::new(Trap::AsyncDeadlock.into()));
                self.bury(home, future);
                Polled::Ended
            }
            Poll::Pending => Polled::Idle,
            Poll::Ready(result) => {
                if let Err(e) = result {
                    lock(&self.end).get_or_insert_with(|| Arc::new(e));
                }
                self.bury(home, future);
                Polled::Ended
            }
        }
    }
}

impl Home {
    /// Polls the instance's future once. Does nothing for an instance that is not concurrent.
    pub fn poll(self: &Arc<Self>) -> Polled {
        let Some(actor) = self.actor.get() else {
            return Polled::Ended;
        };
        scope::enter(&self.shared, || actor.poll(self))
    }

    /// Notifies once more; for whoever polled, got [`Polled::Again`], and lets others have their turn first.
    pub fn notify(self: &Arc<Self>) {
        if let Some(actor) = self.actor.get() {
            actor.wake.notify.notify(self.clone());
        }
    }

    /// Why the instance ended, if by an error.
    pub fn ended(&self) -> Option<Arc<Error>> {
        self.actor.get().and_then(Actor::end)
    }

    /// Stops the instance: calls in flight end with [`crate::Fault::Gone`].
    pub fn stop(&self, why: Error) {
        if let Some(actor) = self.actor.get() {
            actor.stop(self, why);
        }
    }
}

/// A job at work: it goes on whenever the Store runs.
struct Task(Job);

impl AccessorTask<State> for Task {
    async fn run(self, accessor: &Accessor<State>) -> Result<()> {
        (self.0)(accessor).await;
        Ok(())
    }
}

/// The jobs of one Store.
pub(crate) struct Jobs {
    queue: mpsc::UnboundedReceiver<Job>,
    running: FuturesUnordered<JoinHandle>,
}

impl Jobs {
    pub fn new(queue: mpsc::UnboundedReceiver<Job>) -> Self {
        Jobs {
            queue,
            running: FuturesUnordered::new(),
        }
    }

    /// Runs jobs until the queue closes and all are done, which is false; or until `leave` says that the Store is wanted
    /// for something else.
    pub async fn run(&mut self, accessor: &Accessor<State>, leave: impl Fn() -> bool) -> Result<bool> {
        loop {
            if leave() {
                return Ok(true);
            }
            tokio::select! {
                biased;
                job = self.queue.recv() => match job {
                    Some(job) => self.running.push(accessor.spawn(Task(job))?),
                    None => break,
                },
                Some(()) = self.running.next(), if !self.running.is_empty() => {}
            }
        }
        while self.running.next().await.is_some() {}
        Ok(false)
    }
}

/// What the caller of an export may attach to its call.
pub trait Attached: Any + Send + Sync {
    /// The trace context that what the call does now belongs to.
    fn trace(&self) -> Option<Trace> {
        None
    }

    /// A span begins within the call, and is the current one until it is left.
    fn enter(&self, _span: Trace) {}

    /// A span that was entered ends.
    fn leave(&self, _span: Trace) {}
}

impl Attached for () {}

/// What the caller of an export attached to its call; imports made on its behalf find it.
pub type CallContext = Arc<dyn Attached>;
