//! The event loop's side: wakes from any thread, awaitables that guests wait for, instances that want to be polled.
//!
//! A foreign wake is put in a queue and announced by one byte on a socket pair that the loop's selector watches, so
//! that a waker needs no GIL. A provider's coroutine runs in its caller's own task, or in a task of its own; within a
//! poll of a Store it takes its first step at most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use loop_engine::{Behalf, CallContext, Home, Notify, Polled};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use tokio::sync::oneshot;

use crate::call::{Resume, Step, iterator, step};
use crate::domain::Python_;
use crate::engine::Engine;
use crate::errors::aside;
use crate::invoked::{self, Carried};
use crate::request::{Answer, Asked, Begun, Done, Request, Slot, Work};
use crate::sweep::Sweep;
use crate::wake::CallWake;

thread_local! {
    /// What the poll that runs on this thread makes, to be taken by whoever polls.
    static MADE: RefCell<Option<Made>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Made {
    requests: Vec<Request>,
    /// The next provider may begin at once: the task that polls is its caller's, and runs no other.
    inline: bool,
}

/// Runs a poll on the loop's thread; returns what it gave and the requests it made.
pub fn polling<R>(inline: bool, f: impl FnOnce() -> R) -> (R, Vec<Request>) {
    let requests = vec![];
    let outer = MADE.replace(Some(Made { requests, inline }));
    let r = f();
    let made = MADE.replace(outer).unwrap_or_default();
    (r, made.requests)
}

/// Whether a Store is being polled on this thread: another cannot be, for wasmtime does not nest them.
pub fn within_poll() -> bool {
    MADE.with_borrow(Option::is_some)
}

pub fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Woken {
    Call(Arc<CallWake>),
    /// Weak: an instance that nobody uses any more need not be polled.
    Home(Weak<Home>),
    /// Destructors that run outside any call.
    Sweep(Arc<Sweep>),
    Request(Request),
    /// Nobody waits any more for what the task would give.
    Unasked(Slot),
    /// Nobody reads the async iterator any more, whose next value the task was to give.
    Unread(Py<PyAny>, Slot),
    /// A task can go on that waits for this future.
    Awaited(Py<PyAny>),
}

/// A task of asyncio's and what it calls when it is done.
type Task = (Py<PyAny>, Py<Done>);

/// What wakers reach: no Python in here but the loop itself.
pub struct HubInner {
    queue: Mutex<Vec<Woken>>,
    scheduled: AtomicBool,
    pipe: UnixStream,
    /// The thread that runs the loop.
    thread: Mutex<ThreadId>,
    event_loop: Py<PyAny>,
    /// `Hub.drain`, until the hub closes: it knows the hub, which knows this.
    drain: Mutex<Option<Py<PyAny>>>,
    closed: AtomicBool,
    /// Tasks that run for a call, by its key; held here because asyncio holds its tasks weakly.
    tasks: Mutex<HashMap<usize, Vec<Task>>>,
    /// Answers that never come: of imports that were cancelled in instances that go on.
    silenced: Mutex<Vec<oneshot::Sender<Answer>>>,
    /// Awaitables of ours that tasks wait for, by address.
    waiting: Mutex<HashMap<usize, Weak<CallWake>>>,
}

impl HubInner {
    fn push(&self, w: Woken) {
        if self.closed.load(SeqCst) {
            return;
        }
        lock(&self.queue).push(w);
        if self.scheduled.swap(true, SeqCst) {
            return;
        }
        if std::thread::current().id() == *lock(&self.thread) {
            Python::attach(|py| {
                let drain = lock(&self.drain).as_ref().map(|drain| drain.clone_ref(py));
                if let Some(drain) = drain {
                    // a closed loop refuses: nothing will run any more then
                    let _ = aside(py, || {
                        self.event_loop
                            .call_method1(py, intern!(py, "call_soon"), (drain,))
                    });
                }
            });
            return;
        }
        // a full pipe holds a byte that will wake the loop as well
        let _ = (&self.pipe).write(&[1]);
    }

    /// Lets a guest wait for what its import, or a stream's source, gave. In its caller's task the provider takes its
    /// first step at once, as a plain function would: most never have to wait.
    pub fn begin(self: &Arc<Self>, py: Python<'_>, awaitable: Py<PyAny>, behalf: Option<Behalf>) -> Begun {
        let at_once =
            MADE.with_borrow_mut(|made| made.as_mut().is_some_and(|m| std::mem::take(&mut m.inline)));
        if !at_once {
            return Begun::Asked(self.ask_for(Work::Awaitable(awaitable), behalf, true));
        }
        let iterator = match iterator(py, &awaitable) {
            Ok(iterator) => iterator,
            Err(e) => return Begun::Done(Err(e)),
        };
        match step(py, &iterator, Resume::Send(py.None())) {
            Step::Done(answer) => {
                MADE.with_borrow_mut(|made| {
                    if let Some(made) = made {
                        made.inline = true;
                    }
                });
                Begun::Done(answer)
            }
            Step::Yield(y) => {
                let waiting = Some(y).filter(|y| !y.is_none(py));
                Begun::Asked(self.ask_for(Work::Started(iterator, waiting), behalf, true))
            }
        }
    }

    /// Lets a guest wait for an awaitable that settles its future: in a task of its own, for the guest may answer first.
    pub fn ask(self: &Arc<Self>, awaitable: Py<PyAny>) -> Asked {
        self.ask_for(Work::Awaitable(awaitable), None, false)
    }

    /// `inline`: it may run in its caller's task.
    fn ask_for(self: &Arc<Self>, work: Work, behalf: Option<Behalf>, inline: bool) -> Asked {
        let (reply, answer) = oneshot::channel();
        let task = Slot::default();
        let request = Request {
            work,
            reply,
            inline,
            behalf,
            task: task.clone(),
        };
        let left = MADE.with_borrow_mut(|made| match made {
            Some(made) => {
                made.requests.push(request);
                None
            }
            None => Some(request), // polled by another thread
        });
        if let Some(request) = left {
            self.push(Woken::Request(request));
        }
        Asked::new(answer, task, self.clone())
    }

    /// Nobody waits any more for what the task would give.
    pub fn unasked(&self, task: Slot) {
        self.push(Woken::Unasked(task));
    }

    /// The task of a call is done.
    pub fn forget(&self, key: usize, task: &Bound<'_, PyAny>) {
        let mut tasks = lock(&self.tasks);
        if let Some(of_call) = tasks.get_mut(&key) {
            of_call.retain(|(t, _)| !t.is(task));
            if of_call.is_empty() {
                tasks.remove(&key);
            }
        }
    }

    /// Has the instance run the destructors that wait in it.
    pub fn sweep(self: &Arc<Self>, home: Arc<Home>) {
        self.again(Sweep::new(self, &home));
    }

    /// A call's task can go on.
    pub fn woken(&self, call: Arc<CallWake>) {
        self.push(Woken::Call(call));
    }

    /// Has destructors go on.
    pub fn again(&self, sweep: Arc<Sweep>) {
        self.push(Woken::Sweep(sweep));
    }

    /// Completes a future of the loop, which only its own thread may do: from another one the loop would not wake.
    pub fn complete(&self, py: Python<'_>, future: Py<PyAny>) {
        if std::thread::current().id() == *lock(&self.thread) {
            // it was cancelled with its task otherwise, which tells by itself
            let _ = future.call_method1(py, intern!(py, "set_result"), (py.None(),));
        } else {
            self.push(Woken::Awaited(future));
        }
    }

    /// Remembers whose task waits, and must not wait for ever once the hub closes.
    pub fn watch(&self, call: &Arc<CallWake>) {
        lock(&self.waiting).insert(Arc::as_ptr(call) as usize, Arc::downgrade(call));
    }

    pub fn unwatch(&self, call: &Arc<CallWake>) {
        lock(&self.waiting).remove(&(Arc::as_ptr(call) as usize));
    }

    /// Ends an async iterator that feeds a guest: its reader has gone before its end.
    pub fn unread(&self, iterator: Py<PyAny>, asked: Option<Asked>) {
        self.push(Woken::Unread(
            iterator,
            asked.map(Asked::into_task).unwrap_or_default(),
        ));
    }

    /// Runs an awaitable as a task of its own, in its caller's context.
    pub fn spawn(self: &Arc<Self>, py: Python<'_>, request: Request) {
        let Request {
            work,
            reply,
            behalf,
            task: slot,
            inline: _,
        } = request;
        // 0: for no call
        let key = behalf.as_ref().and_then(|b| b.context.as_ref()).map_or(0, key_of);
        let made = (|| {
            let helper = py.import(intern!(py, "loop_kit._loop"))?;
            let awaitable = match work {
                Work::Awaitable(awaitable) if reply.is_closed() => {
                    helper.call_method1(intern!(py, "discard"), (awaitable,))?;
                    return Ok(None);
                }
                Work::Started(iterator, waiting) if reply.is_closed() => {
                    self.abandon(py, &iterator, waiting.as_ref());
                    return Ok(None);
                }
                Work::Awaitable(awaitable) => awaitable.into_bound(py),
                Work::Started(iterator, waiting) => {
                    helper.call_method1(intern!(py, "resume"), (iterator, waiting))?
                }
            };
            let kwargs = PyDict::new(py);
            if let Some(context) = behalf.as_ref().and_then(Carried::of) {
                kwargs.set_item(intern!(py, "context"), &context.python)?;
            }
            let coroutine = helper.call_method1(intern!(py, "coroutine"), (awaitable,))?;
            self.event_loop
                .bind(py)
                .call_method(intern!(py, "create_task"), (coroutine,), Some(&kwargs))
                .map(Some)
        })();
        match made {
            Err(e) => {
                let _ = reply.send(Err(e));
            }
            Ok(None) => {}
            Ok(Some(task)) => {
                let _ = slot.set(task.clone().unbind());
                let done = Done {
                    reply: Mutex::new(Some(reply)),
                    hub: self.clone(),
                    key,
                    behalf,
                };
                let added = Py::new(py, done).and_then(|done| {
                    lock(&self.tasks)
                        .entry(key)
                        .or_default()
                        .push((task.clone().unbind(), done.clone_ref(py)));
                    task.call_method1(intern!(py, "add_done_callback"), (done,))
                        .map(|_| ())
                });
                if let Err(e) = added {
                    e.write_unraisable(py, Some(&task));
                }
            }
        }
    }

    /// The call that a task runs for.
    pub fn behalf_of(&self, task: &Bound<'_, PyAny>) -> Option<Behalf> {
        let tasks = lock(&self.tasks);
        let (_, done) = tasks.values().flatten().find(|(t, _)| t.is(task))?;
        done.get().behalf.clone()
    }

    /// Cancels what runs for a call that was abandoned. Its guest, if it goes on, gets no answer.
    pub fn cancel_tasks(&self, py: Python<'_>, key: usize) {
        let tasks = lock(&self.tasks).remove(&key).unwrap_or_default();
        for (task, done) in tasks {
            if let Some(reply) = lock(&done.get().reply).take() {
                self.silence(reply);
            }
            let _ = task.call_method0(py, intern!(py, "cancel"));
        }
    }

    /// Keeps an answer from ever coming.
    pub fn silence(&self, reply: oneshot::Sender<Answer>) {
        let mut silenced = lock(&self.silenced);
        silenced.retain(|s| !s.is_closed());
        silenced.push(reply);
    }

    /// Lets a coroutine that nobody will resume end by CancelledError, in a task of its own.
    pub fn abandon(&self, py: Python<'_>, iterator: &Py<PyAny>, waiting: Option<&Py<PyAny>>) {
        let ended = (|| {
            let helper = py.import(intern!(py, "loop_kit._loop"))?;
            helper
                .call_method1(intern!(py, "abandon"), (&self.event_loop, iterator, waiting))
                .map(|_| ())
        })();
        if let Err(e) = ended {
            e.write_unraisable(py, None);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Refuses what the hub cannot serve: it was closed, or another loop or thread asks.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        static RUNNING: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
        let running = RUNNING.get_or_try_init(py, || {
            py.import(intern!(py, "asyncio"))?
                .getattr(intern!(py, "_get_running_loop"))
                .map(Bound::unbind)
        })?;
        // a loop may move from thread to thread, as that of the blocking host does
        *lock(&self.thread) = std::thread::current().id();
        let text = if !running.call0(py)?.is(&self.event_loop) {
            "this host belongs to another event loop; make one for each loop"
        } else if self.is_closed() {
            "this host is closed"
        } else {
            return Ok(());
        };
        Err(crate::errors::raise(py, "HostClosed", (text,)))
    }

    /// Polls an instance from the loop, outside any task.
    pub fn poll_home(self: &Arc<Self>, py: Python<'_>, home: &Arc<Home>) {
        let (polled, requests) = polling(false, || home.poll());
        for request in requests {
            self.spawn(py, request);
        }
        if polled == Polled::Again {
            home.notify();
        }
    }

    pub fn current_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        static CURRENT: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
        let current = CURRENT.get_or_try_init(py, || {
            py.import(intern!(py, "asyncio"))?
                .getattr(intern!(py, "current_task"))
                .map(Bound::unbind)
        });
        current
            .ok()?
            .bind(py)
            .call1((&self.event_loop,))
            .ok()
            .filter(|task| !task.is_none())
    }

    pub fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    pub fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop
            .bind(py)
            .call_method0(intern!(py, "create_future"))
    }
}

/// The key of a call's tasks.
pub fn key_of(context: &CallContext) -> usize {
    Arc::as_ptr(context).cast::<u8>() as usize
}

impl Notify for HubInner {
    fn notify(&self, home: Arc<Home>) {
        self.push(Woken::Home(Arc::downgrade(&home)));
    }
}

/// One event loop's hub. Make it within the loop.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Hub {
    pub inner: Arc<HubInner>,
    pipe: UnixStream,
    pub runtime: tokio::runtime::Handle,
}

#[pymethods]
impl Hub {
    /// Watches for wakes on `event_loop`, which must be the running one.
    #[staticmethod]
    fn create(py: Python<'_>, event_loop: Py<PyAny>, engine: &Engine) -> PyResult<Py<Hub>> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let runtime = engine
            .0
            .runtime()
            .map_err(|e| PyRuntimeError::new_err(format!("{e:#}")))?;
        let inner = Arc::new(HubInner {
            queue: Mutex::default(),
            scheduled: AtomicBool::new(false),
            pipe: writer,
            thread: Mutex::new(std::thread::current().id()),
            event_loop: event_loop.clone_ref(py),
            drain: Mutex::default(),
            closed: AtomicBool::new(false),
            tasks: Mutex::default(),
            silenced: Mutex::default(),
            waiting: Mutex::default(),
        });
        invoked::note(&inner);
        let hub = Py::new(
            py,
            Hub {
                inner: inner.clone(),
                pipe: reader,
                runtime,
            },
        )?;
        let drain = hub.getattr(py, intern!(py, "drain"))?;
        event_loop.call_method1(
            py,
            intern!(py, "add_reader"),
            (hub.get().pipe.as_raw_fd(), &drain),
        )?;
        *lock(&inner.drain) = Some(drain);
        Ok(hub)
    }

    /// Does what wakes asked for.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mut bytes = [0; 64];
        let _ = (&self.pipe).read(&mut bytes);
        self.inner.scheduled.store(false, SeqCst);
        let queue = std::mem::take(&mut *lock(&self.inner.queue));
        let _runtime = self.runtime.enter();
        for woken in queue {
            match woken {
                Woken::Home(home) => {
                    if let Some(home) = home.upgrade() {
                        self.inner.poll_home(py, &home);
                    }
                }
                Woken::Sweep(sweep) => sweep.poll(py, &self.inner),
                Woken::Request(request) => self.inner.spawn(py, request),
                Woken::Unasked(task) => {
                    if let Some(task) = task.get() {
                        task.call_method0(py, intern!(py, "cancel"))?;
                    }
                }
                Woken::Unread(iterator, task) => {
                    let helper = py.import(intern!(py, "loop_kit._loop"))?;
                    let task = task.get().map(|task| task.clone_ref(py));
                    let args = (&self.inner.event_loop, iterator, task);
                    helper.call_method1(intern!(py, "finish"), args)?;
                }
                Woken::Awaited(future) => self.inner.complete(py, future),
                Woken::Call(call) => {
                    let future = call.take_future();
                    if let Some(future) = future
                        && !future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
                    {
                        future.call_method1(py, intern!(py, "set_result"), (py.None(),))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.inner.drain.try_lock() {
            Ok(drain) => drain.as_ref().map_or(Ok(()), |drain| visit.call(drain)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        lock(&self.inner.drain).take();
    }

    /// Stops watching; wakes are ignored from now on. Again is harmless.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner.closed.swap(true, SeqCst) {
            return Ok(());
        }
        let homes: Vec<usize> = lock(&self.inner.tasks).keys().copied().collect();
        for home in homes {
            self.inner.cancel_tasks(py, home);
        }
        lock(&self.inner.queue).clear();
        // whoever waits for us must not wait for ever
        let waiting: Vec<_> = lock(&self.inner.waiting)
            .drain()
            .filter_map(|(_, w)| w.upgrade())
            .collect();
        for call in waiting {
            let future = call.take_future();
            if let Some(future) = future
                && !future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
            {
                let closed = crate::errors::host_closed(py);
                future.call_method1(py, intern!(py, "set_exception"), (closed.into_value(py),))?;
            }
        }
        let event_loop = self.inner.event_loop.bind(py);
        if !event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            event_loop.call_method1(intern!(py, "remove_reader"), (self.pipe.as_raw_fd(),))?;
        }
        lock(&self.inner.drain).take();
        Ok(())
    }
}

thread_local! {
    /// The hub on whose behalf values are converted that no instance is at work with.
    static OUTSIDE: RefCell<Option<Arc<HubInner>>> = const { RefCell::new(None) };
}

/// Runs `f`, which converts values of a session, on behalf of `hub`.
pub fn within<R>(hub: &Arc<HubInner>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<HubInner>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OUTSIDE.set(self.0.take());
        }
    }
    let _restore = Restore(OUTSIDE.replace(Some(hub.clone())));
    f()
}

/// The hub of the instance at work, or else of the session.
pub fn current() -> Option<Arc<HubInner>> {
    match loop_engine::current_home() {
        Some(home) => home.program.ext.get()?.downcast_ref::<Arc<HubInner>>().cloned(),
        None => OUTSIDE.with_borrow(Clone::clone),
    }
}

/// Only for `Started`'s type to be named once.
pub type Started = loop_engine::Started<Python_>;
