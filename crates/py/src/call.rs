//! `Call`: the awaitable of one call, driven in its caller's own task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loop_engine::{CallContext, Instances, Later, Polled, Spans};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::domain::Python_;
use crate::hub::{HubInner, Started, key_of, polling, within_poll};
use crate::invoked::{Carried, Invoked, traced};
use crate::program::{Program, Shell};
use crate::request::{Answer, Request, Slot, Work};
use crate::wake::CallWake;

/// How a task resumes what it awaits.
pub enum Resume {
    Send(Py<PyAny>),
    Throw(Py<PyAny>),
}

/// What one step of an awaitable gave.
pub enum Step {
    Yield(Py<PyAny>),
    Done(Answer),
}

/// One step of a coroutine or of any other iterator that `__await__` gave.
pub fn step(py: Python<'_>, iterator: &Py<PyAny>, resume: Resume) -> Step {
    match resume {
        Resume::Send(v) => {
            let mut out: *mut ffi::PyObject = std::ptr::null_mut();
            // SAFETY: two live objects; on success `out` holds a new reference.
            let status = unsafe { ffi::PyIter_Send(iterator.as_ptr(), v.as_ptr(), &raw mut out) };
            match status {
                // SAFETY: as above.
                ffi::PySendResult::PYGEN_NEXT => {
                    Step::Yield(unsafe { Bound::from_owned_ptr(py, out).unbind() })
                }
                ffi::PySendResult::PYGEN_RETURN => {
                    Step::Done(Ok(unsafe { Bound::from_owned_ptr(py, out).unbind() }))
                }
                ffi::PySendResult::PYGEN_ERROR => Step::Done(Err(PyErr::fetch(py))),
            }
        }
        Resume::Throw(e) => match iterator.call_method1(py, intern!(py, "throw"), (&e,)) {
            Ok(y) => Step::Yield(y),
            Err(err) if err.is_instance_of::<PyStopIteration>(py) => {
                Step::Done(err.value(py).getattr(intern!(py, "value")).map(Bound::unbind))
            }
            Err(err) => Step::Done(Err(err)),
        },
    }
}

/// The iterator that drives an awaitable: a coroutine is its own.
pub fn iterator(py: Python<'_>, awaitable: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    static COROUTINE: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let coroutine = COROUTINE.get_or_try_init(py, || {
        py.import(intern!(py, "types"))?
            .getattr(intern!(py, "CoroutineType"))
            .map(Bound::unbind)
    })?;
    if awaitable.bind(py).get_type().is(coroutine) {
        return Ok(awaitable.clone_ref(py));
    }
    awaitable.call_method0(py, intern!(py, "__await__"))
}

/// A provider's coroutine that runs within the caller's task.
struct Guest {
    iterator: Py<PyAny>,
    reply: oneshot::Sender<Answer>,
    task: Slot,
    /// The call that it is for.
    invoked: Option<Invoked>,
    /// What it waits for, where the task waits for something of ours instead.
    waiting: Option<Py<PyAny>>,
}

impl From<Guest> for Request {
    fn from(guest: Guest) -> Request {
        Request {
            work: Work::Started(guest.iterator, guest.waiting),
            reply: guest.reply,
            inline: false,
            behalf: None,
            task: guest.task,
        }
    }
}

/// What the task drives.
enum State {
    Fresh {
        args: Vec<Py<PyAny>>,
    },
    Alone(Later<Python_>),
    /// On the engine's threads.
    Away(Away),
    Within(loop_engine::Call<Python_>),
    Over,
}

/// A call that goes on elsewhere. Dropping it ends the instance there.
struct Away {
    result: oneshot::Receiver<wasmtime::Result<Option<Py<PyAny>>>>,
    task: AbortHandle,
}

impl Drop for Away {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A call on its way. Await it once.
#[pyclass(module = "loop_kit._core")]
pub struct Call {
    /// Keeps the providers for as long as the call may ask them.
    _program: Py<Program>,
    shell: Arc<Shell>,
    index: usize,
    state: State,
    guest: Option<Guest>,
    wake: Arc<CallWake>,
    hub: Arc<HubInner>,
    runtime: tokio::runtime::Handle,
    /// The key of the tasks that run for this call.
    key: usize,
    /// The task that gave others their turn and has the next one; 0: it waits for the wake's future.
    turn: usize,
    /// It has had to wait once.
    waited: bool,
}

// SAFETY: the future is only reached through `&mut Call`, which PyO3 hands out to one thread at a time.
unsafe impl Sync for Call {}

impl Call {
    pub fn new(
        program: Py<Program>,
        index: usize,
        args: Vec<Py<PyAny>>,
        hub: Arc<HubInner>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Call {
            shell: program.get().shell.clone(),
            _program: program,
            index,
            state: State::Fresh { args },
            guest: None,
            wake: CallWake::new(hub.clone()),
            hub,
            runtime,
            key: 0,
            turn: 0,
            waited: false,
        }
    }

    fn begin(&mut self, py: Python<'_>, args: Vec<Py<PyAny>>) -> PyResult<()> {
        self.hub.check(py)?;
        let context: CallContext = Arc::new(Carried {
            python: copy_context(py)?,
            shell: self.shell.clone(),
            trace: traced(py),
            spans: Spans::default(),
        });
        self.key = key_of(&context);
        let on = self.shell.home_of(py, self.index, &args);
        let own: Arc<dyn loop_engine::Notify> = self.hub.clone();
        let notify = self.shell.notify.as_ref().unwrap_or(&own);
        let started = self
            .shell
            .inner
            .start::<Python_>(self.index, args, Some(context), notify, on);
        self.state = match started {
            Ok(Started::Alone(future)) => State::Alone(future),
            Ok(Started::Within(call)) => State::Within(call),
            Err(e) => return Err(self.shell.failure(py, self.index, &e)),
        };
        Ok(())
    }

    fn advance(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Py<PyAny>> {
        // a provider that takes its first step within a poll may call, but only once that poll is over
        if within_poll()
            && let Resume::Send(_) = resume
        {
            return Ok(self.pass(py));
        }
        if let State::Fresh { .. } = self.state {
            if let Resume::Throw(e) = resume {
                self.state = State::Over;
                return Err(PyErr::from_value(e.into_bound(py)));
            }
            let State::Fresh { args } = std::mem::replace(&mut self.state, State::Over) else {
                return Err(reused());
            };
            self.begin(py, args)?;
            return self.drive(py);
        }
        if self.hub.is_closed() {
            self.abandon(py);
            return Err(match resume {
                Resume::Throw(e) => PyErr::from_value(e.into_bound(py)),
                Resume::Send(_) => crate::errors::host_closed(py),
            });
        }
        match self.guest.take() {
            Some(guest) => {
                if self.resume_guest(py, guest, resume)? {
                    return Ok(self.pass(py));
                }
            }
            None => {
                if let Resume::Throw(e) = resume {
                    self.abandon(py);
                    return Err(PyErr::from_value(e.into_bound(py)));
                }
            }
        }
        self.drive(py)
    }

    /// Resumes the provider's coroutine; true: it wants its next turn, others first.
    fn resume_guest(&mut self, py: Python<'_>, mut guest: Guest, resume: Resume) -> PyResult<bool> {
        let resume = match (guest.waiting.take(), resume) {
            (Some(on), Resume::Send(v)) => {
                if !on.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
                    guest.waiting = Some(on); // woken by the instance, not by what the coroutine waits for
                    self.guest = Some(guest);
                    return Ok(false);
                }
                Resume::Send(v)
            }
            (Some(on), throw) => {
                on.call_method0(py, intern!(py, "cancel"))?;
                throw
            }
            (None, resume) => resume,
        };
        self.step_guest(py, guest, resume)
    }

    fn step_guest(&mut self, py: Python<'_>, guest: Guest, resume: Resume) -> PyResult<bool> {
        let stepped = || step(py, &guest.iterator, resume);
        let stepped = match &guest.invoked {
            Some(invoked) => invoked.during(stepped),
            None => stepped(),
        };
        match stepped {
            Step::Done(answer) => {
                let _ = guest.reply.send(answer);
                Ok(false)
            }
            Step::Yield(y) => {
                let waiting = Some(y).filter(|y| !y.is_none(py));
                self.keep_guest(py, Guest { waiting, ..guest })
            }
        }
    }

    /// Waits for what the provider's coroutine waits for; true: it wants its next turn, others first.
    fn keep_guest(&mut self, py: Python<'_>, guest: Guest) -> PyResult<bool> {
        // The call may end before what its coroutine waits for, at its deadline say: the task must wait for both, so
        // it waits for a future of ours.
        if let Some(y) = &guest.waiting {
            y.setattr(py, intern!(py, "_asyncio_future_blocking"), false)?;
            let waker = Py::new(py, Nudge(self.wake.clone()))?;
            y.call_method1(py, intern!(py, "add_done_callback"), (waker,))?;
        }
        let turn = guest.waiting.is_none();
        self.guest = Some(guest);
        Ok(turn)
    }

    fn drive(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            self.wake.reset();
            let waker = Waker::from(self.wake.clone());
            let ((polled, again), requests) = self.poll(&waker);
            // a wake that came during the poll is only announced again when somebody polls, or is told to
            let unpolled = |call: &Self| {
                if again && let State::Within(within) = &call.state {
                    within.home.notify();
                }
            };
            if let Poll::Ready(result) = polled {
                unpolled(self);
                for request in requests {
                    self.hub.spawn(py, request);
                }
                return self.finish(py, result);
            }
            if self.moves() {
                continue;
            }
            // the guest, or its whole instance, may have given up what it waited for
            if self.guest.as_ref().is_some_and(|g| g.reply.is_closed()) {
                self.drop_guest(py);
            }
            let mut progress = false;
            let mut yielded = false;
            for request in requests {
                if !request.inline || self.guest.is_some() || !self.is_alone() {
                    self.hub.spawn(py, request);
                    continue;
                }
                let Request {
                    work,
                    reply,
                    task,
                    behalf,
                    ..
                } = request;
                let (iterator, waiting, started) = match work {
                    Work::Started(iterator, waiting) => (iterator, waiting, true),
                    Work::Awaitable(awaitable) => match iterator(py, &awaitable) {
                        Ok(iterator) => (iterator, None, false),
                        Err(e) => {
                            let _ = reply.send(Err(e));
                            progress = true;
                            continue;
                        }
                    },
                };
                let guest = Guest {
                    iterator,
                    reply,
                    task,
                    invoked: behalf.map(Invoked::Component),
                    waiting,
                };
                yielded = if started {
                    self.keep_guest(py, guest)?
                } else {
                    self.step_guest(py, guest, Resume::Send(py.None()))?
                };
                progress |= self.guest.is_none();
            }
            if progress {
                continue;
            }
            unpolled(self);
            // others have their turn first
            if yielded || again {
                return Ok(self.pass(py));
            }
            return self.wake.wait(py);
        }
    }

    /// Yields to the loop for one turn.
    fn pass(&mut self, py: Python<'_>) -> Py<PyAny> {
        self.turn = current_task(&self.hub);
        py.None()
    }

    /// Hands a call that has to wait again to the engine's threads, where it can: with no Python on any import, each
    /// further wait would cost it a turn of the event loop, and the loop the guest's time.
    fn moves(&mut self) -> bool {
        if !self.shell.movable || !matches!(self.state, State::Alone(_)) {
            return false;
        }
        if !std::mem::replace(&mut self.waited, true) {
            return false;
        }
        let State::Alone(future) = std::mem::replace(&mut self.state, State::Over) else {
            return false;
        };
        let (reply, result) = oneshot::channel();
        let task = self.runtime.spawn(async move {
            let _ = reply.send(future.await);
        });
        let task = task.abort_handle();
        self.state = State::Away(Away { result, task });
        true
    }

    /// Whether this call alone uses its instance, so that providers may run in its task.
    fn is_alone(&self) -> bool {
        match &self.state {
            State::Within(call) => call.exclusive,
            _ => true,
        }
    }

    #[allow(clippy::type_complexity)]
    fn poll(&mut self, waker: &Waker) -> ((Poll<wasmtime::Result<Option<Py<PyAny>>>>, bool), Vec<Request>) {
        let _runtime = self.runtime.enter();
        let cx = &mut Context::from_waker(waker);
        // what a shared instance tells its caller's own call from another's by
        let poller = if self.shell.inner.instances == Instances::Shared {
            current_task(&self.hub)
        } else {
            0
        };
        let inline = self.guest.is_none() && self.is_alone();
        polling(inline, || {
            loop_engine::with_poller(poller, || match &mut self.state {
                State::Alone(future) => (future.as_mut().poll(cx), false),
                State::Away(away) => {
                    let result = Pin::new(&mut away.result).poll(cx);
                    let gone = |_| Err(wasmtime::format_err!("the host is closed"));
                    (result.map(|r| r.unwrap_or_else(gone)), false)
                }
                State::Within(call) => {
                    if let Poll::Ready(r) = call.poll_result(cx) {
                        return (Poll::Ready(r), false);
                    }
                    let polled = call.home.poll();
                    (call.poll_result(cx), polled == Polled::Again)
                }
                _ => (Poll::Pending, false),
            })
        })
    }

    fn finish(&mut self, py: Python<'_>, result: wasmtime::Result<Option<Py<PyAny>>>) -> PyResult<Py<PyAny>> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let value = match result {
            Ok(v) => {
                // an `async func` may answer and go on, and what it asked for goes on with it
                if let Some(guest) = self.guest.take_if(|g| !g.reply.is_closed()) {
                    self.hub.spawn(py, guest.into());
                }
                self.drop_guest(py);
                self.shell.unwrap(py, self.index, v)?
            }
            Err(e) => {
                self.drop_guest(py);
                self.hub.cancel_tasks(py, self.key);
                drop(state);
                return Err(self.shell.failure(py, self.index, &e));
            }
        };
        Err(PyStopIteration::new_err((value,)))
    }

    /// Ends the provider's coroutine, whose answer nobody waits for any more.
    fn drop_guest(&mut self, py: Python<'_>) {
        if let Some(guest) = self.guest.take() {
            self.hub.abandon(py, &guest.iterator, guest.waiting.as_ref());
            self.hub.silence(guest.reply);
        }
    }

    /// The caller has gone. Dropping its call ends the instance that it used alone.
    fn abandon(&mut self, py: Python<'_>) {
        self.drop_guest(py);
        self.hub.cancel_tasks(py, self.key);
        self.state = State::Over;
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited call")
}

/// The running task, by its address; 0 outside one.
fn current_task(hub: &HubInner) -> usize {
    Python::attach(|py| hub.current_task(py).map_or(0, |task| task.as_ptr() as usize))
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static COPY: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let copy = COPY.get_or_try_init(py, || {
        py.import(intern!(py, "contextvars"))?
            .getattr(intern!(py, "copy_context"))
            .map(Bound::unbind)
    })?;
    copy.call0(py)
}

#[pymethods]
impl Call {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.send(py, py.None())
    }

    fn send(&mut self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        if let State::Over = self.state {
            return Err(reused());
        }
        if self.wake.is_awaited() || (self.turn != 0 && self.turn != current_task(&self.hub)) {
            return Err(PyRuntimeError::new_err("the call is being awaited already"));
        }
        self.turn = 0;
        let out = self.advance(py, Resume::Send(value));
        if out.is_err() {
            self.state = State::Over;
        }
        out
    }

    #[pyo3(signature = (kind, value = None, trace = None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        trace: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = trace;
        let error = match value {
            Some(v) if !v.is_none() => v,
            _ if kind.is_instance_of::<PyType>() => kind.call0()?,
            _ => kind,
        };
        if let State::Over = self.state {
            return Err(PyErr::from_value(error));
        }
        let out = self.advance(py, Resume::Throw(error.unbind()));
        if out.is_err() {
            self.state = State::Over;
        }
        out
    }

    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        let closed = self.guest.take().map_or(Ok(()), |g| {
            self.hub.silence(g.reply);
            match g.iterator.bind(py).getattr_opt(intern!(py, "close"))? {
                Some(close) => close.call0().map(|_| ()),
                None => Ok(()),
            }
        });
        self.abandon(py);
        self.state = State::Over;
        closed
    }
}

/// A done-callback that wakes a call.
#[pyclass(frozen)]
struct Nudge(Arc<CallWake>);

#[pymethods]
impl Nudge {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        std::task::Wake::wake_by_ref(&self.0);
    }
}
