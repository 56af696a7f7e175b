//! Which instance runs on this thread.
//!
//! wasmtime lifts an import's parameters before any code of ours sees the call, and gives the lifting code no way
//! to its store's data. So whoever enters or polls a Store says so here first, and lifting finds the plans and the
//! host-resource slots of the instance at work. Scopes nest: a provider may call into another Store.

use std::cell::Cell;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::{Result, format_err};

use crate::actor::CallContext;
use crate::domain::HostObject;
use crate::instance::Home;
use crate::joint::Joint;
use crate::plans::Plans;
use crate::slot::Generation;

/// What every import and export of one instance shares.
pub struct Shared {
    pub(crate) plans: Arc<Plans>,
    /// The instance itself; dead once its Store has gone.
    home: Weak<Home>,
    slots: Mutex<Slots>,
    /// Values are being lowered: the guest's `realloc` must not be made to yield, since the domain's permission
    /// (the GIL) is held on this stack.
    lowering: AtomicBool,
    /// What the host does, or may still do, for the guest: imports on their way, ends of streams and futures.
    busy: Arc<AtomicUsize>,
}

/// Counts as something that the host does for an instance.
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A host object that a guest has, and whose it is where its provider may be exchanged.
type Entry = (HostObject, Option<Arc<Generation>>);

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Shared {
    pub(crate) fn new(plans: Arc<Plans>, home: Weak<Home>) -> Arc<Self> {
        Arc::new(Shared {
            plans,
            home,
            slots: Mutex::default(),
            lowering: AtomicBool::new(false),
            busy: Arc::default(),
        })
    }

    pub(crate) fn home(&self) -> &Weak<Home> {
        &self.home
    }

    pub(crate) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Relaxed);
        Busy(self.busy.clone())
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    /// Makes a host object reachable by the guest; the number is its representation in handle tables.
    pub(crate) fn insert(&self, object: HostObject, of: Option<Arc<Generation>>) -> u32 {
        let mut slots = lock(&self.slots);
        let entry = Some((object, of));
        match slots.free.pop() {
            Some(i) => {
                slots.entries[i as usize] = entry;
                i
            }
            None => {
                slots.entries.push(entry);
                (slots.entries.len() - 1) as u32
            }
        }
    }

    pub(crate) fn get(&self, rep: u32) -> Result<Entry> {
        let slots = lock(&self.slots);
        slots
            .entries
            .get(rep as usize)
            .cloned()
            .flatten()
            .ok_or_else(|| format_err!("no such host resource"))
    }

    pub(crate) fn take(&self, rep: u32) -> Result<Entry> {
        let mut slots = lock(&self.slots);
        let entry = slots.entries.get_mut(rep as usize).and_then(Option::take);
        let entry = entry.ok_or_else(|| format_err!("no such host resource"))?;
        slots.free.push(rep);
        Ok(entry)
    }

    /// Lets go of every host object: the guest that held them has gone.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.slots));
        drop(gone); // with the lock let go: dropping may run code of the embedder's
    }

    pub(crate) fn is_lowering(&self) -> bool {
        self.lowering.load(Relaxed)
    }

    /// How many host objects the guest holds; for leak tests.
    pub fn live(&self) -> usize {
        let slots = lock(&self.slots);
        slots.entries.len() - slots.free.len()
    }
}

/// A poisoned lock only says that some thread panicked elsewhere; the data here stay consistent.
pub(crate) fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

thread_local! {
    static CURRENT: Cell<Option<NonNull<Shared>>> = const { Cell::new(None) };
}

/// Runs `f` with `shared` as the instance at work.
pub(crate) fn enter<R>(shared: &Arc<Shared>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<NonNull<Shared>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(Some(NonNull::from(&**shared))));
    f()
}

/// Runs `f` as if no instance were at work: what it makes of guests' streams and futures may go to others.
pub fn outside<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(Option<NonNull<Shared>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.take());
    f()
}

/// Calls `f` with the instance at work.
///
/// Errors when no instance is at work, which would be a bug of the engine.
pub(crate) fn current<R>(f: impl FnOnce(&Shared) -> Result<R>) -> Result<R> {
    match CURRENT.get() {
        // SAFETY: `enter` borrows the Arc for as long as the pointer is set, and the pointer never leaves its thread.
        Some(p) => f(unsafe { p.as_ref() }),
        None => Err(format_err!("no component instance is at work on this thread")),
    }
}

/// The instance at work on this thread, if any.
pub fn current_home() -> Option<Arc<Home>> {
    current(|s| Ok(s.home.upgrade())).ok().flatten()
}

/// The call that a host function runs for.
#[derive(Clone)]
pub struct Behalf {
    /// What was passed to [`crate::Program::start`].
    pub context: Option<CallContext>,
    pub deadline: Deadline,
}

impl Behalf {
    /// Time left of the call, for as long as the host function runs.
    pub fn time_left(&self) -> Option<Duration> {
        let program = current_home()?.program.clone();
        program.time_left(self.deadline)
    }
}

type Tell = dyn FnMut() -> Behalf;

thread_local! {
    /// Tells which call makes an import now.
    static BEHALF: Cell<Option<NonNull<Tell>>> = const { Cell::new(None) };
}

/// Runs `f`, a host function, with `tell` at hand for [`behalf`]: most never ask, and so pay nothing.
pub(crate) fn on_behalf<'a, R>(tell: &'a mut (dyn FnMut() -> Behalf + 'a), f: impl FnOnce() -> R) -> R {
    struct Restore(Option<NonNull<Tell>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            BEHALF.set(self.0);
        }
    }
    // SAFETY: the same pointer but for the lifetime; it is taken back before `tell` is used or dropped by others.
    let tell =
        unsafe { std::mem::transmute::<NonNull<dyn FnMut() -> Behalf + 'a>, NonNull<Tell>>(tell.into()) };
    let _restore = Restore(BEHALF.replace(Some(tell)));
    f()
}

/// The call on whose behalf a host function runs on this thread now; none outside of one.
pub fn behalf() -> Option<Behalf> {
    let mut tell = BEHALF.take()?;
    // SAFETY: `on_behalf` borrows it for as long as the pointer is set, and nobody else calls it meanwhile.
    let told = unsafe { tell.as_mut() }();
    BEHALF.set(Some(tell));
    Some(told)
}

/// When a call must have ended.
#[derive(Clone, Copy)]
pub struct Deadline {
    /// The tick at which it passes.
    pub(crate) tick: u64,
    /// The limit that it comes from, for the error.
    pub(crate) seconds: f64,
}

impl Deadline {
    pub(crate) const NEVER: Deadline = Deadline {
        tick: u64::MAX,
        seconds: f64::INFINITY,
    };

    pub(crate) fn sooner(self, other: Deadline) -> Deadline {
        if other.tick < self.tick { other } else { self }
    }
}

thread_local! {
    /// The deadline of the synchronous calls on this stack.
    static DEADLINE: Cell<Deadline> = const { Cell::new(Deadline::NEVER) };
}

/// The deadline of whoever calls on this stack: a call within a call takes no longer than the outer one may.
pub(crate) fn deadline() -> Deadline {
    DEADLINE.get()
}

/// Runs `f` with the deadline for what it calls.
pub(crate) fn with_deadline<R>(deadline: Deadline, f: impl FnOnce() -> R) -> R {
    struct Restore(Deadline);
    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let _restore = Restore(DEADLINE.replace(deadline));
    f()
}

thread_local! {
    static POLLER: Cell<usize> = const { Cell::new(0) };
}

/// Runs `f`, a poll, on behalf of `poller` (a task, by its address; 0: unknown).
pub fn with_poller<R>(poller: usize, f: impl FnOnce() -> R) -> R {
    let outer = POLLER.replace(poller);
    let r = f();
    POLLER.set(outer);
    r
}

pub(crate) fn poller() -> usize {
    POLLER.get()
}

/// Runs `f`, which lowers values into the instance at work, without yields in between.
pub(crate) fn lowering<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(p) = CURRENT.get() else {
        return Err(format_err!("no component instance is at work on this thread"));
    };
    // SAFETY: as in `current`.
    let flag = &unsafe { p.as_ref() }.lowering;
    flag.store(true, Relaxed);
    let r = f();
    flag.store(false, Relaxed);
    r
}

pin_project_lite::pin_project! {
    /// A Store's future, polled within the scope of its instance and together with the calls that it hands over.
    pub(crate) struct Scoped<F> {
        shared: Arc<Shared>,
        #[pin]
        inner: Joint<F>,
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(shared: Arc<Shared>, inner: F) -> Self {
        Scoped {
            shared,
            inner: Joint::new(inner),
        }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        enter(this.shared, || this.inner.poll(cx))
    }
}
