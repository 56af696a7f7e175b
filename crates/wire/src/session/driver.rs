//! A session on tokio: one task reads and writes its connection, any number of tasks call.

mod channels;
mod pending;
mod task;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub use self::pending::Pending;
pub use self::task::Driver;
use super::core::{Called, Core, IdMap, Request, Times};
use super::eager::Eager;
use super::handler::{Answer, Handler, Io};
use super::inbox::Inbox;
use super::lane::{Lane, Lanes, Way};
use crate::failure::{Code, Failure};
use crate::frame::Out;
use crate::hello::{Hello, Link};

/// Time for the handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that the peer leaves unread before it is listened to no longer.
pub(crate) const UNREAD: usize = 64 << 20;
/// Turns of reading and writing before other tasks get theirs.
pub(crate) const TURNS: usize = 16;

pub(crate) type Slot = oneshot::Sender<Result<Answer, Failure>>;

/// What all handles of a session share.
pub(crate) struct Inner {
    core: Mutex<Core<Slot>>,
    /// Where invocations are, if not on the session's own connection.
    pub(crate) lanes: Option<Lanes>,
    driver: AtomicWaker,
    pub(crate) ours: Hello,
    theirs: OnceLock<Hello>,
    /// Why it is over.
    dead: OnceLock<Failure>,
    /// The peer broke the rules on a lane.
    broken: OnceLock<Failure>,
    /// Those who wait for the handshake or the end.
    watchers: Mutex<Vec<Waker>>,
    links: Mutex<IdMap<oneshot::Sender<Option<Failure>>>>,
    tasks: Mutex<IdMap<AbortHandle>>,
    reloads: Mutex<(u32, IdMap<oneshot::Sender<Option<Failure>>>)>,
    /// No new calls; the connection is closed when those on their way are over.
    leaving: AtomicBool,
    /// Closed as soon as what is to be written is.
    closing: AtomicBool,
}

pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic elsewhere leaves these data consistent
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn core(&self) -> MutexGuard<'_, Core<Slot>> {
        lock(&self.core)
    }

    fn watch(&self, cx: &mut Context<'_>) {
        let mut watchers = lock(&self.watchers);
        if !watchers.iter().any(|w| w.will_wake(cx.waker())) {
            watchers.push(cx.waker().clone());
        }
    }

    fn tell(&self) {
        std::mem::take(&mut *lock(&self.watchers))
            .into_iter()
            .for_each(Waker::wake);
    }

    /// Waits for the handshake; what the peer said of itself.
    pub(crate) async fn ready(&self) -> Result<&Hello, Failure> {
        std::future::poll_fn(|cx| {
            self.watch(cx);
            match (self.theirs.get(), self.dead.get()) {
                (Some(theirs), _) => Poll::Ready(Ok(theirs)),
                (None, Some(why)) => Poll::Ready(Err(why.clone())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) fn theirs(&self) -> Option<&Hello> {
        self.theirs.get()
    }

    /// The handshake is over.
    fn begun(&self, theirs: Hello) {
        if let Some(lanes) = &self.lanes {
            lanes.allow(theirs.limits.calls);
        }
        let _ = self.theirs.set(theirs);
        self.tell();
    }

    /// Whether no invocation is open.
    fn is_idle(&self) -> bool {
        self.core().busy() == 0 && self.lanes.as_ref().is_none_or(Lanes::is_idle)
    }

    /// Whether new calls are refused, or there is nobody to call.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) || self.closing.load(Relaxed) || self.dead.get().is_some()
    }

    /// An invocation on a lane counts no more, though the peer may have to end its direction.
    pub(crate) fn lane_parted(&self, ours: bool) {
        if let Some(lanes) = self.lanes.as_ref().filter(|_| !ours) {
            lanes.served();
        }
    }

    /// A lane is over.
    pub(crate) fn lane_over(&self, number: u32) {
        let Some(lanes) = &self.lanes else { return };
        lanes.remove(number);
        if !self.leaving.load(Relaxed) || !lanes.is_idle() {
            return;
        }
        match lanes.way.has_control() {
            true => self.driver.wake(),
            false => drop(self.over(&Failure::gone("the session was left", true))),
        }
    }

    /// The peer broke the rules on a lane, which ends the session.
    pub(crate) fn break_off(&self, failure: &Failure) {
        let _ = self.broken.set(failure.clone());
        self.core().go_away(failure);
        self.closing.store(true, Relaxed);
        self.driver.wake();
    }

    /// Ends the session; true where it had not ended before.
    fn over(&self, why: &Failure) -> bool {
        let first = self.dead.set(why.clone()).is_ok();
        let waiting = self.core().abandon();
        for (user, sent) in waiting {
            super::lane::fail(user, why, sent);
        }
        lock(&self.tasks).drain().for_each(|(_, task)| task.abort());
        lock(&self.links).clear();
        lock(&self.reloads).1.clear();
        if let Some(lanes) = &self.lanes {
            lanes.abandon(why);
            if first && !lanes.way.has_control() {
                lanes.way.closed(why);
            }
        }
        self.tell();
        first
    }

    /// Closes the connection as soon as what is to be written is.
    fn shut(&self) {
        self.closing.store(true, Relaxed);
        match &self.lanes {
            Some(lanes) if !lanes.way.has_control() => {
                self.over(&Failure::gone("the session was closed", true));
            }
            _ => self.driver.wake(),
        }
    }

    pub(crate) fn gone(&self) -> Failure {
        match self.dead.get() {
            Some(why) if why.code == Code::ProviderGone => Failure {
                retryable: true,
                ..why.clone()
            },
            Some(why) => Failure::gone(format!("the session is over: {why}"), true),
            None => Failure::gone("the session is over", true),
        }
    }
}

/// What a call that waits is told when the session, or the invocation, has ended by `why`.
pub(crate) fn ended(why: &Failure, sent: bool) -> Failure {
    match why.code {
        Code::ProviderGone => Failure {
            retryable: !sent,
            ..why.clone()
        },
        _ => Failure::gone(format!("the session ended: {why}"), !sent),
    }
}

/// Closes the connection when the last handle of the session is dropped.
pub(crate) struct Guard(Arc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.shut();
    }
}

/// A session; clones are the same one. Its connection is closed when the last is dropped.
#[derive(Clone)]
pub struct Session(Arc<Guard>);

impl Session {
    /// Begins a session on a connection that this side made. The [`Driver`] is to be spawned.
    pub fn connect<S: Io>(io: S, ours: Hello, handler: Arc<dyn Handler>) -> (Session, Driver<S>) {
        let ours = announced(&io, ours);
        let core = Core::initiator(&ours);
        Self::new(io, core, ours, handler, false, None)
    }

    /// The same on a connection that was made to this side.
    pub fn accept<S: Io>(io: S, ours: Hello, handler: Arc<dyn Handler>) -> (Session, Driver<S>) {
        let ours = announced(&io, ours);
        let core = Core::acceptor(ours.limits.clone());
        Self::new(io, core, ours, handler, true, None)
    }

    /// A session with nothing that drives it, to a peer that is known already.
    pub(crate) fn without_control(ours: Hello, theirs: Hello, way: Box<dyn Way>) -> Session {
        let core = Core::acceptor(ours.limits.clone());
        let inner = Self::inner_of(core, ours, Some(Lanes::new(way)));
        inner.begun(theirs);
        Session(Arc::new(Guard(Arc::new(inner))))
    }

    /// The shared part, for tasks that must not keep the session open.
    pub(crate) fn shared(&self) -> &Arc<Inner> {
        &self.0.0
    }

    pub(crate) fn downgrade(&self) -> Weak<Guard> {
        Arc::downgrade(&self.0)
    }

    /// The session, unless its last handle is gone.
    pub(crate) fn upgrade(weak: &Weak<Guard>) -> Option<Session> {
        weak.upgrade().map(Session)
    }

    fn inner_of(core: Core<Slot>, ours: Hello, lanes: Option<Lanes>) -> Inner {
        Inner {
            core: Mutex::new(core),
            lanes,
            driver: AtomicWaker::new(),
            ours,
            theirs: OnceLock::new(),
            dead: OnceLock::new(),
            broken: OnceLock::new(),
            watchers: Mutex::default(),
            links: Mutex::default(),
            tasks: Mutex::default(),
            reloads: Mutex::default(),
            leaving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn new<S: Io>(
        io: S,
        core: Core<Slot>,
        ours: Hello,
        handler: Arc<dyn Handler>,
        preface: bool,
        way: Option<Box<dyn Way>>,
    ) -> (Session, Driver<S>) {
        let inbox = Inbox::new(ours.limits.message, preface);
        let idle = Duration::from_millis(ours.limits.idle.max(3).into());
        let passed = core.may_be_passed();
        let inner = Arc::new(Self::inner_of(core, ours, way.map(Lanes::new)));
        let session = Session(Arc::new(Guard(inner.clone())));
        let driver = Driver {
            io,
            session: Arc::downgrade(&session.0),
            inner,
            handler,
            inbox,
            writing: Out::default(),
            passed,
            batch: vec![],
            eager: Eager::default(),
            idle,
            heard: Instant::now(),
            pinged: false,
            sleep: None,
            farewell: None,
            ending: None,
            lost: false,
        };
        (session, driver)
    }

    fn inner(&self) -> &Inner {
        &self.0.0
    }

    /// Waits for the handshake; what the peer said of itself.
    ///
    /// Errors with the peer's refusal, or ours of it.
    pub async fn ready(&self) -> Result<&Hello, Failure> {
        self.inner().ready().await
    }

    /// What the peer said of itself, once the handshake is over.
    pub fn theirs(&self) -> Option<&Hello> {
        self.inner().theirs.get()
    }

    /// Waits for the session's end; why it ended.
    pub async fn closed(&self) -> Failure {
        std::future::poll_fn(|cx| {
            self.inner().watch(cx);
            self.inner()
                .dead
                .get()
                .map_or(Poll::Pending, |why| Poll::Ready(why.clone()))
        })
        .await
    }

    /// Why the session ended, if it has.
    pub fn over(&self) -> Option<&Failure> {
        self.inner().dead.get()
    }

    /// Calls the peer. A streaming call stays open after the answer until [`Self::close_call`]. Dropping the [`Pending`]
    /// cancels the call.
    pub fn call(&self, request: Request) -> Pending {
        let (tx, rx) = oneshot::channel();
        let inner = self.inner();
        if let Some(lanes) = inner.lanes.as_ref().filter(|_| !inner.is_leaving()) {
            return Pending {
                session: self.clone(),
                stream: lanes.call(self.shared(), request, tx),
                answer: rx,
                done: false,
            };
        }
        let mut core = inner.core();
        if inner.dead.get().is_some() || inner.leaving.load(Relaxed) {
            drop(core);
            let _ = tx.send(Err(inner.gone()));
            return Pending {
                session: self.clone(),
                stream: 0,
                answer: rx,
                done: false,
            };
        }
        // the clock is read only where it is needed
        let now = if request.meta.deadline.is_some() {
            Instant::now()
        } else {
            inner_epoch()
        };
        let stream = core.call(now, request, tx);
        drop(core);
        inner.driver.wake();
        Pending {
            session: self.clone(),
            stream,
            answer: rx,
            done: false,
        }
    }

    /// Answers a call of the peer's, for a [`Reply::Task`].
    pub fn respond(
        &self,
        stream: u32,
        answer: Result<Bytes, Failure>,
        times: Option<&Times>,
        streaming: bool,
    ) {
        match &self.inner().lanes {
            None => self.change(|core| core.respond(stream, answer, times, streaming)),
            Some(lanes) => {
                if let Some(lane) = lanes.get(stream) {
                    lane.respond(answer, times, streaming);
                }
            }
        }
    }

    /// Nothing more is written to the streams and futures of that invocation. Worth saying before
    /// [`Self::close_call`] by callers: a peer in plain mode may wait for it.
    pub fn finish(&self, stream: u32) {
        if let Some(lane) = self.lane(stream) {
            lane.finish();
        }
    }

    /// An invocation with streams or futures is over on this side.
    pub fn close_call(&self, stream: u32) {
        match &self.inner().lanes {
            None => self.change(|core| core.close(stream)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.close())),
        }
    }

    fn cancel(&self, stream: u32) {
        match &self.inner().lanes {
            None => drop(self.change(|core| core.cancel(stream))),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.cancel())),
        }
    }

    /// The lane of an invocation; none where it has none, or is over.
    fn lane(&self, stream: u32) -> Option<Arc<dyn Lane>> {
        self.inner().lanes.as_ref()?.get(stream)
    }

    fn change<R>(&self, f: impl FnOnce(&mut Core<Slot>) -> R) -> R {
        let r = f(&mut self.inner().core());
        self.inner().driver.wake();
        r
    }

    /// Binds a link at the peer.
    pub async fn link(&self, link: Link) -> Result<(), Failure> {
        let known = self.inner().lanes.as_ref().and_then(|l| l.way.link(&link));
        if let Some(known) = known {
            return known;
        }
        let (tx, rx) = oneshot::channel();
        lock(&self.inner().links).insert(link.number, tx);
        self.change(|core| core.link(&link))?;
        self.told(rx).await
    }

    pub fn unlink(&self, number: u32) {
        self.change(|core| core.unlink(number));
    }

    /// Lets go of a handle that the peer made.
    pub fn drop_handle(&self, link: u32, resource: u32, handle: &[u8]) {
        if self.over().is_none() {
            self.change(|core| core.drop_handle(link, resource, handle));
        }
    }

    /// Asks the peer to read its code anew.
    pub async fn reload(&self) -> Result<(), Failure> {
        if self.is_plain() {
            return Err(Failure::new(
                Code::Provider,
                "plain mode cannot ask a peer to reload",
            ));
        }
        let (tx, rx) = oneshot::channel();
        let number = {
            let mut reloads = lock(&self.inner().reloads);
            reloads.0 += 1;
            let number = reloads.0;
            reloads.1.insert(number, tx);
            number
        };
        self.change(|core| core.reload(number));
        self.told(rx).await
    }

    /// Whether the peer speaks plain wRPC.
    pub fn is_plain(&self) -> bool {
        let lanes = self.inner().lanes.as_ref();
        lanes.is_some_and(|lanes| !lanes.way.has_control())
    }

    async fn told(&self, rx: oneshot::Receiver<Option<Failure>>) -> Result<(), Failure> {
        if self.over().is_some() {
            return Err(self.inner().gone());
        }
        match rx.await {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(failure),
            Err(_) => Err(self.inner().gone()),
        }
    }

    /// Leaves: no new calls, those on their way end first. Returns when the connection is closed.
    pub async fn leave(&self, why: &Failure) {
        self.inner().leaving.store(true, Relaxed);
        if self.is_plain() {
            if self.inner().is_idle() {
                self.inner().shut();
            }
        } else {
            self.change(|core| core.go_away(why));
        }
        self.closed().await;
    }

    /// Closes the connection now; calls that wait fail with `provider-gone`.
    pub fn close(&self) {
        self.inner().shut();
    }
}

/// What this side says of itself over that connection: that memory may be shared, where it may.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, unused_mut))]
fn announced(io: &impl Io, mut ours: Hello) -> Hello {
    #[cfg(target_os = "linux")]
    if crate::transport::Sharing::socket(io).is_some() {
        ours.share();
    }
    ours
}

/// Some moment; where no deadline is given, none is looked at.
fn inner_epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Tells the provider's times of a call, if they are wanted, from now on.
pub(crate) fn stopwatch(called: &Called) -> impl Fn() -> Option<Times> + Send + Copy + use<> {
    let at = called.at;
    let began = called.meta.timed.then(Instant::now);
    move || {
        began.map(|began| Times {
            queue: began.duration_since(at).as_nanos() as u64,
            provider: began.elapsed().as_nanos() as u64,
            ..Times::default()
        })
    }
}
