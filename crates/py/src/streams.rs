//! Guests' streams and futures as Python objects.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loop_engine::{Chunk, Domain, Home, Kind, Num, Polled, Reader, Settling, Source, TyRef};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};
use wasmtime::component::{FutureAny, StreamAny};
use wasmtime::{Result, format_err};

use crate::domain::{Python_, failure};
use crate::errors;
use crate::hub::{HubInner, current, lock, polling, within_poll};
use crate::read::numbers;
use crate::wake::CallWake;

/// How many values one read of `async for` takes at most.
const CHUNK: usize = 64 * 1024;

/// Where a guest's stream or future stands.
pub enum End<A> {
    Fresh(A),
    Reading(Reader<Python_>),
    Moved,
    Closed,
}

impl<A> End<A> {
    /// Gives the end away, unless somebody reads it. `what` it is of.
    ///
    /// Raises where it was given away before.
    pub fn hand_on(&mut self, what: &str) -> PyResult<Option<A>> {
        self.check(what)?;
        match std::mem::replace(self, End::Moved) {
            End::Fresh(any) => Ok(Some(any)),
            other => {
                *self = other;
                Ok(None)
            }
        }
    }

    pub fn check(&self, what: &str) -> PyResult<()> {
        match self {
            End::Moved => Err(moved(what)),
            _ => Ok(()),
        }
    }
}

/// A stream that a guest writes: an async iterator.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Stream {
    pub end: Mutex<End<StreamAny>>,
    buffered: Mutex<VecDeque<Py<PyAny>>>,
    payload: Option<TyRef>,
    /// The instance that writes it; None: a peer does.
    pub home: Option<Arc<Home>>,
    hub: Arc<HubInner>,
}

/// A future that a guest settles: an awaitable.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Future {
    pub end: Mutex<End<FutureAny>>,
    payload: Option<TyRef>,
    pub home: Option<Arc<Home>>,
    hub: Arc<HubInner>,
    value: Mutex<Option<Py<PyAny>>>,
}

fn moved(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("this {what} was handed on to a component"))
}

/// The instance at work, if it is one's, and the event loop.
pub fn lifted() -> Result<(Option<Arc<Home>>, Arc<HubInner>)> {
    match current() {
        Some(hub) => Ok((loop_engine::current_home(), hub)),
        None => Err(format_err!("streams and futures need an asynchronous host")),
    }
}

/// A stream that no guest writes, as a Python object.
pub fn fed(py: Python<'_>, payload: Option<&TyRef>, source: Box<dyn Source<Python_>>) -> Result<Py<PyAny>> {
    let (_, hub) = lifted()?;
    let source: Box<dyn Source<Python_>> = match payload.map(|t| &t.kind) {
        Some(Kind::Num(Num::U8)) => Box::new(Bytes(source)),
        _ => source,
    };
    let made = Stream {
        end: Mutex::new(End::Reading(Reader::of(source))),
        buffered: Mutex::default(),
        payload: payload.cloned(),
        home: None,
        hub,
    };
    Py::new(py, made).map(Py::into_any).map_err(failure)
}

/// A future that no guest settles, as a Python object.
pub fn settled(py: Python<'_>, payload: Option<&TyRef>, value: Settling<Python_>) -> Result<Py<PyAny>> {
    let (_, hub) = lifted()?;
    let made = Future {
        end: Mutex::new(End::Reading(Reader::of(Box::new(Once(Some(value)))))),
        payload: payload.cloned(),
        home: None,
        hub,
        value: Mutex::default(),
    };
    Py::new(py, made).map(Py::into_any).map_err(failure)
}

/// Blocks of bytes as `bytes`, which is how a guest's come too.
struct Bytes(Box<dyn Source<Python_>>);

impl Source<Python_> for Bytes {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Python_>>>> {
        let chunk = std::task::ready!(self.0.poll_next(cx))?;
        Poll::Ready(match chunk {
            Some(Chunk::Raw(raw)) => Python_::enter(|py| Python_::nums(py, Num::U8, (*raw).as_ref()))
                .map(|bytes| Some(Chunk::Values(vec![bytes]))),
            other => Ok(other),
        })
    }
}

/// A future's value as a source of one.
struct Once(Option<Settling<Python_>>);

impl Source<Python_> for Once {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Python_>>>> {
        let Some(value) = &mut self.0 else {
            return Poll::Ready(Ok(None));
        };
        let value = std::task::ready!(value.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(value.map(|v| Some(Chunk::Values(vec![v]))))
    }
}

/// A guest's stream as a Python object.
pub fn stream(py: Python<'_>, payload: Option<&TyRef>, any: StreamAny) -> Result<Py<PyAny>> {
    let (home, hub) = lifted()?;
    let end = Mutex::new(End::Fresh(any));
    let made = Stream {
        end,
        buffered: Mutex::default(),
        payload: payload.cloned(),
        home,
        hub,
    };
    Py::new(py, made).map(Py::into_any).map_err(failure)
}

/// A guest's future as a Python object.
pub fn future(py: Python<'_>, payload: Option<&TyRef>, any: FutureAny) -> Result<Py<PyAny>> {
    let (home, hub) = lifted()?;
    let end = Mutex::new(End::Fresh(any));
    let made = Future {
        end,
        payload: payload.cloned(),
        home,
        hub,
        value: Mutex::default(),
    };
    Py::new(py, made).map(Py::into_any).map_err(failure)
}

impl Stream {
    fn poll_chunk(&self, cx: &mut Context<'_>, max: usize) -> PyResult<Poll<Option<Chunk<Python_>>>> {
        let mut end = lock(&self.end);
        if let End::Fresh(_) = &*end {
            let End::Fresh(any) = std::mem::replace(&mut *end, End::Closed) else {
                return Ok(Poll::Ready(None));
            };
            if let Some(home) = &self.home {
                *end = End::Reading(home.read_stream(self.payload.clone(), any));
            }
        }
        match &*end {
            End::Reading(reader) => Ok(reader.poll_next(cx, max)),
            End::Moved => Err(moved("stream")),
            _ => Ok(Poll::Ready(None)),
        }
    }

    fn numbers(&self) -> Option<Num> {
        match self.payload.as_ref().map(|t| &t.kind) {
            Some(Kind::Num(n)) => Some(*n),
            _ => None,
        }
    }
}

#[pymethods]
impl Stream {
    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// The next value; the next chunk as `bytes` for `stream<u8>`.
    fn __anext__(this: Py<Self>) -> Read {
        let hub = this.get().hub.clone();
        Read::new(Target::Next(this), hub)
    }

    /// The next chunk of at most `limit` values: bytes, `Numbers` or a list; empty at the end.
    #[pyo3(signature = (limit = CHUNK))]
    fn read(this: Py<Self>, limit: usize) -> Read {
        let hub = this.get().hub.clone();
        Read::new(Target::Chunk(this, limit.max(1)), hub)
    }

    /// Stops reading; the guest learns of it at its next write. Again is harmless.
    fn close(&self) {
        let old = std::mem::replace(&mut *lock(&self.end), End::Closed);
        lock(&self.buffered).clear();
        if let (End::Fresh(any), Some(home)) = (old, &self.home) {
            // connecting and dropping the reader is what tells the guest
            drop(home.read_stream::<Python_>(self.payload.clone(), any));
        }
    }

    fn aclose(this: Py<Self>) -> Read {
        this.get().close();
        let hub = this.get().hub.clone();
        Read::new(Target::Nothing, hub)
    }

    fn __aenter__(this: Py<Self>) -> Read {
        let hub = this.get().hub.clone();
        Read::new(Target::Itself(this.into_any()), hub)
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(this: Py<Self>, _args: &Bound<'_, pyo3::types::PyTuple>) -> Read {
        Self::aclose(this)
    }

    fn __repr__(&self) -> String {
        format!(
            "<stream<{}> of a guest>",
            self.payload.as_ref().map_or_else(|| "_".into(), |t| t.wit())
        )
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

#[pymethods]
impl Future {
    fn __await__(this: Py<Self>) -> Read {
        let hub = this.get().hub.clone();
        Read::new(Target::Value(this), hub)
    }

    fn __repr__(&self) -> String {
        format!(
            "<future<{}> of a guest>",
            self.payload.as_ref().map_or_else(|| "_".into(), |t| t.wit())
        )
    }
}

impl Future {
    fn poll_value(&self, cx: &mut Context<'_>) -> PyResult<Poll<Option<Chunk<Python_>>>> {
        let mut end = lock(&self.end);
        if let End::Fresh(_) = &*end {
            let End::Fresh(any) = std::mem::replace(&mut *end, End::Closed) else {
                return Ok(Poll::Ready(None));
            };
            if let Some(home) = &self.home {
                *end = End::Reading(home.read_future(self.payload.clone(), any));
            }
        }
        match &*end {
            End::Reading(reader) => Ok(reader.poll_next(cx, 1)),
            End::Moved => Err(moved("future")),
            _ => Ok(Poll::Ready(None)),
        }
    }
}

impl Drop for Future {
    fn drop(&mut self) {
        let old = std::mem::replace(&mut *lock(&self.end), End::Closed);
        if let (End::Fresh(any), Some(home)) = (old, &self.home) {
            drop(home.read_future::<Python_>(self.payload.clone(), any));
        }
    }
}

enum Target {
    Next(Py<Stream>),
    Chunk(Py<Stream>, usize),
    Value(Py<Future>),
    Itself(Py<PyAny>),
    Nothing,
}

/// The awaitable of one read.
#[pyclass(module = "loop_kit._core")]
pub struct Read {
    target: Target,
    wake: Arc<CallWake>,
    hub: Arc<HubInner>,
}

impl Read {
    fn new(target: Target, hub: Arc<HubInner>) -> Self {
        Read {
            target,
            wake: CallWake::new(hub.clone()),
            hub,
        }
    }

    fn home(&self) -> Option<&Arc<Home>> {
        match &self.target {
            Target::Next(s) | Target::Chunk(s, _) => s.get().home.as_ref(),
            Target::Value(f) => f.get().home.as_ref(),
            _ => None,
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> PyResult<Poll<Option<Chunk<Python_>>>> {
        match &self.target {
            Target::Next(s) => s.get().poll_chunk(cx, CHUNK),
            Target::Chunk(s, max) => s.get().poll_chunk(cx, *max),
            Target::Value(f) => f.get().poll_value(cx),
            _ => Ok(Poll::Ready(None)),
        }
    }

    fn with_reader<R>(&self, f: impl FnOnce(&Reader<Python_>) -> R) -> Option<R> {
        fn of<A, R>(end: &Mutex<End<A>>, f: impl FnOnce(&Reader<Python_>) -> R) -> Option<R> {
            match &*lock(end) {
                End::Reading(reader) => Some(f(reader)),
                _ => None,
            }
        }
        match &self.target {
            Target::Next(s) | Target::Chunk(s, _) => of(&s.get().end, f),
            Target::Value(future) => of(&future.get().end, f),
            _ => None,
        }
    }

    /// What is there without asking the guest.
    fn at_hand(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.target {
            Target::Next(s) => lock(&s.get().buffered).pop_front(),
            Target::Value(f) => lock(&f.get().value).as_ref().map(|v| v.clone_ref(py)),
            Target::Itself(o) => Some(o.clone_ref(py)),
            Target::Nothing => Some(py.None()),
            Target::Chunk(s, _) => {
                let values: Vec<_> = lock(&s.get().buffered).drain(..).collect();
                (!values.is_empty())
                    .then(|| PyList::new(py, values).map(|l| l.into_any().unbind()).ok())
                    .flatten()
            }
        }
    }

    fn advance(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(v) = self.at_hand(py) {
            return Err(PyStopIteration::new_err((v,)));
        }
        if self.hub.is_closed() {
            return Err(errors::host_closed(py));
        }
        if within_poll() {
            return Ok(py.None()); // its turn comes once that poll is over
        }
        self.wake.reset();
        let waker = Waker::from(self.wake.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut polled = crate::hub::within(&self.hub, || self.poll(cx))?;
        if polled.is_pending()
            && let Some(home) = self.home()
        {
            let (p, requests) = polling(false, || home.poll());
            for request in requests {
                self.hub.spawn(py, request);
            }
            if p == Polled::Again {
                home.notify(); // a wake that came during the poll is not announced again by itself
            }
            polled = crate::hub::within(&self.hub, || self.poll(cx))?;
        }
        match polled {
            Poll::Ready(Some(chunk)) => Err(PyStopIteration::new_err((self.take(py, chunk)?,))),
            Poll::Ready(None) => Err(self.ended(py)),
            Poll::Pending => self.wake.wait(py),
        }
    }

    fn take(&self, py: Python<'_>, chunk: Chunk<Python_>) -> PyResult<Py<PyAny>> {
        match &self.target {
            Target::Value(f) => {
                let value = match chunk {
                    Chunk::Values(mut v) => v.pop().unwrap_or_else(|| py.None()),
                    _ => py.None(),
                };
                *lock(&f.get().value) = Some(value.clone_ref(py));
                Ok(value)
            }
            Target::Next(s) => {
                let s = s.get();
                let mut values: VecDeque<Py<PyAny>> = match chunk {
                    Chunk::Values(v) => v.into(),
                    Chunk::Units(n) => (0..n).map(|_| py.None()).collect(),
                    Chunk::Raw(raw) => match s.numbers() {
                        Some(n) => {
                            let all = numbers(py, n, (*raw).as_ref())?;
                            all.bind(py)
                                .try_iter()?
                                .map(|x| x.map(Bound::unbind))
                                .collect::<PyResult<_>>()?
                        }
                        None => VecDeque::new(),
                    },
                };
                let first = values.pop_front().unwrap_or_else(|| py.None());
                lock(&s.buffered).extend(values);
                Ok(first)
            }
            Target::Chunk(s, _) => match chunk {
                // bytes are one value, whole
                Chunk::Values(mut v) if s.get().numbers() == Some(Num::U8) => {
                    Ok(v.pop().unwrap_or_else(|| py.None()))
                }
                Chunk::Values(v) => Ok(PyList::new(py, v)?.into_any().unbind()),
                Chunk::Units(n) => Ok(PyList::new(py, (0..n).map(|_| py.None()))?.into_any().unbind()),
                Chunk::Raw(raw) => numbers(py, s.get().numbers().unwrap_or(Num::U8), (*raw).as_ref()),
            },
            _ => Ok(py.None()),
        }
    }

    /// The end, or the reason for it.
    fn ended(&self, py: Python<'_>) -> PyErr {
        if let Some(e) = self.home().and_then(|h| h.ended()) {
            return errors::of_ended(py, "stream", &e);
        }
        if let Some(e) = self.with_reader(|r| r.take_error()).flatten() {
            return errors::of_call(py, "stream", &e);
        }
        match &self.target {
            Target::Next(_) => PyStopAsyncIteration::new_err(()),
            Target::Chunk(s, _) => match s.get().numbers() {
                Some(Num::U8) => PyStopIteration::new_err((PyBytes::new(py, b"").unbind(),)),
                Some(n) => numbers(py, n, &[]).map_or_else(|e| e, |empty| PyStopIteration::new_err((empty,))),
                None => PyStopIteration::new_err((PyList::empty(py).unbind(),)),
            },
            Target::Value(_) => errors::raise(
                py,
                "ProviderGone",
                ("the guest dropped the future without settling it",),
            ),
            _ => PyStopIteration::new_err((py.None(),)),
        }
    }
}

#[pymethods]
impl Read {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.advance(py)
    }
    fn send(&mut self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.advance(py)
    }
    #[pyo3(signature = (kind, value = None, _trace = None))]
    fn throw(
        &mut self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _trace: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.with_reader(|r| r.forget(&Waker::from(self.wake.clone())));
        let error = match value {
            Some(v) if !v.is_none() => v,
            _ if kind.is_instance_of::<PyType>() => kind.call0()?,
            _ => kind,
        };
        Err(PyErr::from_value(error))
    }
    fn close(&self) {}
}
