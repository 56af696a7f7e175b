//! `Call`: the awaitable of one call, driven in its caller's own task.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loop_engine::{CallContext, Instances, Later, Polled};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};
use tokio::sync::oneshot;

use crate::domain::Python_;
use crate::hub::{Answer, CallWake, HubInner, Request, Started, key_of, polling};
use crate::program::Shell;

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
    /// What it waits for, where the task waits for something of ours instead.
    waiting: Option<Py<PyAny>>,
}

/// What the task drives.
enum State {
    Fresh { args: Vec<Py<PyAny>> },
    Alone(Later<Python_>),
    Within(loop_engine::Call<Python_>),
    Over,
}

/// A call on its way. Await it once.
#[pyclass(module = "loop_kit._core")]
pub struct Call {
    shell: Arc<Shell>,
    index: usize,
    state: State,
    guest: Option<Guest>,
    wake: Arc<CallWake>,
    hub: Arc<HubInner>,
    runtime: tokio::runtime::Handle,
    /// The key of the tasks that run for this call.
    key: usize,
}

// SAFETY: the future is only reached through `&mut Call`, which PyO3 hands out to one thread at a time.
unsafe impl Sync for Call {}

impl Call {
    pub fn new(
        shell: Arc<Shell>,
        index: usize,
        args: Vec<Py<PyAny>>,
        hub: Arc<HubInner>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Call {
            shell,
            index,
            state: State::Fresh { args },
            guest: None,
            wake: CallWake::new(hub.clone()),
            hub,
            runtime,
            key: 0,
        }
    }

    fn begin(&mut self, py: Python<'_>, args: Vec<Py<PyAny>>) -> PyResult<()> {
        self.hub.check(py)?;
        let context: CallContext = Arc::new(copy_context(py)?);
        self.key = key_of(&context);
        let on = self.shell.home_of(py, self.index, &args);
        let notify: Arc<dyn loop_engine::Notify> = self.hub.clone();
        let started = self
            .shell
            .inner
            .start::<Python_>(self.index, args, Some(context), &notify, on);
        self.state = match started {
            Ok(Started::Alone(future)) => State::Alone(future),
            Ok(Started::Within(call)) => State::Within(call),
            Err(e) => return Err(self.shell.failure(py, self.index, &e)),
        };
        Ok(())
    }

    fn advance(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Py<PyAny>> {
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
        match self.guest.take() {
            Some(guest) => {
                if let Some(y) = self.resume_guest(py, guest, resume)? {
                    return Ok(y);
                }
            }
            None => {
                if let Resume::Throw(e) = resume {
                    self.abandon(py);
                    return Err(PyErr::from_value(e.into_bound(py)));
                }
                if self.wake.is_awaited() {
                    return Err(PyRuntimeError::new_err("the call is being awaited already"));
                }
            }
        }
        self.drive(py)
    }

    /// Resumes the provider's coroutine; Some: what to yield.
    fn resume_guest(
        &mut self,
        py: Python<'_>,
        mut guest: Guest,
        resume: Resume,
    ) -> PyResult<Option<Py<PyAny>>> {
        if self.hub.is_closed()
            && let Resume::Throw(e) = resume
        {
            self.guest = Some(guest);
            self.abandon(py);
            return Err(PyErr::from_value(e.into_bound(py)));
        }
        let resume = match (guest.waiting.take(), resume) {
            (Some(on), Resume::Send(v)) => {
                if !on.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
                    guest.waiting = Some(on); // woken by the instance, not by what the coroutine waits for
                    self.guest = Some(guest);
                    return Ok(None);
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

    fn step_guest(
        &mut self,
        py: Python<'_>,
        mut guest: Guest,
        resume: Resume,
    ) -> PyResult<Option<Py<PyAny>>> {
        match step(py, &guest.iterator, resume) {
            Step::Done(answer) => {
                let _ = guest.reply.send(answer);
                Ok(None)
            }
            Step::Yield(y) => {
                // The call may end before what its coroutine waits for, at its deadline say: the task must wait for
                // both, so it waits for a future of ours.
                if !y.is_none(py) {
                    y.setattr(py, intern!(py, "_asyncio_future_blocking"), false)?;
                    let waker = Py::new(py, Nudge(self.wake.clone()))?;
                    y.call_method1(py, intern!(py, "add_done_callback"), (waker,))?;
                    guest.waiting = Some(y);
                    self.guest = Some(guest);
                    return Ok(None);
                }
                self.guest = Some(guest);
                Ok(Some(y))
            }
        }
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
            let mut progress = false;
            let mut yielded = None;
            for request in requests {
                if self.guest.is_some() || !self.is_alone() {
                    self.hub.spawn(py, request);
                    continue;
                }
                let Request { awaitable, reply, .. } = request;
                match iterator(py, &awaitable) {
                    Ok(iterator) => {
                        let guest = Guest {
                            iterator,
                            reply,
                            waiting: None,
                        };
                        yielded = self.step_guest(py, guest, Resume::Send(py.None()))?;
                        progress |= self.guest.is_none();
                    }
                    Err(e) => {
                        let _ = reply.send(Err(e));
                        progress = true;
                    }
                }
            }
            if progress {
                continue;
            }
            unpolled(self);
            if let Some(y) = yielded {
                return Ok(y);
            }
            if again {
                return Ok(py.None()); // others have their turn first
            }
            return self.wake.wait(py);
        }
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
        polling(|| {
            loop_engine::with_poller(poller, || match &mut self.state {
                State::Alone(future) => (future.as_mut().poll(cx), false),
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
        self.drop_guest(py);
        self.state = State::Over;
        let value = match result {
            Ok(v) => self.shell.unwrap(py, self.index, v)?,
            Err(e) => return Err(self.shell.failure(py, self.index, &e)),
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

    /// The caller has gone. What uses its instance alone is dropped with it.
    fn abandon(&mut self, py: Python<'_>) {
        self.drop_guest(py);
        self.hub.cancel_tasks(py, self.key);
        if let State::Within(call) = std::mem::replace(&mut self.state, State::Over)
            && call.exclusive
        {
            call.home.stop(wasmtime::format_err!("its call was cancelled"));
        }
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
