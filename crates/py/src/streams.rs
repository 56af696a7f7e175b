//! Streams and futures: guests' as Python objects, Python's for guests.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loop_engine::{Chunk, Domain, Feed, Home, Kind, Num, Polled, Reader, Settle, Source, TyRef};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyType};
use tokio::sync::oneshot;
use wasmtime::component::{FutureAny, StreamAny};
use wasmtime::{Result, format_err};

use crate::domain::{PyFailure, Python_, failure};
use crate::errors;
use crate::hub::{Answer, CallWake, HubInner, current, lock, polling};
use crate::read::numbers;

/// How many values one read of `async for` takes at most.
const CHUNK: usize = 64 * 1024;

/// Where a guest's stream or future stands.
enum End<A> {
    Fresh(A),
    Reading(Reader<Python_>),
    Moved,
    Closed,
}

/// A stream that a guest writes: an async iterator.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Stream {
    end: Mutex<End<StreamAny>>,
    buffered: Mutex<VecDeque<Py<PyAny>>>,
    payload: Option<TyRef>,
    home: Arc<Home>,
    hub: Arc<HubInner>,
}

/// A future that a guest settles: an awaitable.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Future {
    end: Mutex<End<FutureAny>>,
    payload: Option<TyRef>,
    home: Arc<Home>,
    hub: Arc<HubInner>,
    value: Mutex<Option<Py<PyAny>>>,
}

fn lifted() -> Result<(Arc<Home>, Arc<HubInner>)> {
    match (loop_engine::current_home(), current()) {
        (Some(home), Some(hub)) => Ok((home, hub)),
        _ => Err(format_err!("streams and futures need an asynchronous host")),
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
            *end = End::Reading(self.home.read_stream(self.payload.clone(), any));
        }
        match &*end {
            End::Reading(reader) => Ok(reader.poll_next(cx, max)),
            End::Moved => Err(PyRuntimeError::new_err(
                "this stream was handed on to a component",
            )),
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
        if let End::Fresh(any) = old {
            // connecting and dropping the reader is what tells the guest
            drop(self.home.read_stream::<Python_>(self.payload.clone(), any));
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
            *end = End::Reading(self.home.read_future(self.payload.clone(), any));
        }
        match &*end {
            End::Reading(reader) => Ok(reader.poll_next(cx, 1)),
            End::Moved => Err(PyRuntimeError::new_err(
                "this future was handed on to a component",
            )),
            _ => Ok(Poll::Ready(None)),
        }
    }
}

impl Drop for Future {
    fn drop(&mut self) {
        if let End::Fresh(any) = std::mem::replace(&mut *lock(&self.end), End::Closed) {
            drop(self.home.read_future::<Python_>(self.payload.clone(), any));
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
            Target::Next(s) | Target::Chunk(s, _) => Some(&s.get().home),
            Target::Value(f) => Some(&f.get().home),
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
        self.wake.reset();
        let waker = Waker::from(self.wake.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut polled = self.poll(cx)?;
        if polled.is_pending()
            && let Some(home) = self.home()
        {
            let (p, requests) = polling(|| home.poll());
            for request in requests {
                self.hub.spawn(py, request);
            }
            if p == Polled::Again {
                home.notify(); // a wake that came during the poll is not announced again by itself
            }
            polled = self.poll(cx)?;
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
        let error = match value {
            Some(v) if !v.is_none() => v,
            _ if kind.is_instance_of::<PyType>() => kind.call0()?,
            _ => kind,
        };
        Err(PyErr::from_value(error))
    }
    fn close(&self) {}
}

// ---- Python's, for guests ------------------------------------------------------------------------------------------

enum Items {
    Sync(Py<PyIterator>),
    Async(Py<PyAny>),
    /// One buffer, as a whole.
    Once(Option<Py<PyAny>>),
}

/// A Python iterable that feeds a guest's stream.
struct Iterable {
    items: Items,
    payload: Option<TyRef>,
    hub: Arc<HubInner>,
    asked: Option<oneshot::Receiver<Answer>>,
}

/// What a Python value is as a stream.
pub fn feed(v: &Bound<'_, PyAny>, payload: Option<&TyRef>) -> Result<Feed<Python_>> {
    let py = v.py();
    let (home, hub) = lifted()?;
    if let Ok(s) = v.cast::<Stream>()
        && Arc::ptr_eq(&s.get().home, &home)
    {
        let mut end = lock(&s.get().end);
        if let End::Fresh(_) = &*end {
            let End::Fresh(any) = std::mem::replace(&mut *end, End::Moved) else {
                return Err(format_err!("the stream is gone"));
            };
            return Ok(Feed::Same(any));
        }
    }
    let numeric = matches!(payload.map(|t| &t.kind), Some(Kind::Num(_)));
    let items = if let Some(aiter) = v.getattr_opt(intern!(py, "__aiter__")).map_err(failure)? {
        Items::Async(aiter.call0().map_err(failure)?.unbind())
    } else if numeric && is_block(v) {
        Items::Once(Some(v.clone().unbind()))
    } else {
        match v.try_iter() {
            Ok(iter) => Items::Sync(iter.unbind()),
            Err(_) => return Err(loop_engine::Mismatch::new("", crate::domain::got(v)).into()),
        }
    };
    Ok(Feed::Source(Box::new(Iterable {
        items,
        payload: payload.cloned(),
        hub,
        asked: None,
    })))
}

/// Whether a value is a block of numbers rather than one number.
fn is_block(v: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only asks whether the type has the buffer protocol.
    v.is_instance_of::<PyBytes>() || unsafe { pyo3::ffi::PyObject_CheckBuffer(v.as_ptr()) } == 1
}

impl Iterable {
    /// One value of the iterable as a chunk.
    fn chunk(&self, py: Python<'_>, v: &Bound<'_, PyAny>) -> Result<Chunk<Python_>> {
        match self.payload.as_ref().map(|t| &t.kind) {
            None => Ok(Chunk::Units(1)),
            Some(Kind::Num(n)) => {
                if *n == Num::U8
                    && let Ok(b) = v.cast::<PyBytes>()
                {
                    return Ok(Chunk::Raw(Box::new(Held(b.clone().unbind()))));
                }
                if is_block(v) || v.is_instance_of::<PyList>() {
                    return Python_::with_nums(v, *n, |raw| Ok(Chunk::Raw(Box::new(raw.to_vec()))));
                }
                let bits = Python_::to_num(v, *n)?;
                Ok(Chunk::Raw(Box::new(bits.to_le_bytes()[..n.size()].to_vec())))
            }
            Some(_) => {
                let _ = py;
                Ok(Chunk::Values(vec![v.clone().unbind()]))
            }
        }
    }

    fn given(&self, answer: Answer) -> Result<Option<Chunk<Python_>>> {
        Python::attach(|py| match answer {
            Ok(v) => self.chunk(py, v.bind(py)).map(Some).map_err(|e| {
                match e.downcast::<loop_engine::Mismatch>() {
                    Ok(mut m) => {
                        if m.expected.is_empty() {
                            m.expected = self.payload.as_ref().map_or_else(String::new, |t| t.wit());
                        }
                        m.into()
                    }
                    Err(e) => e,
                }
            }),
            Err(e) if e.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
            Err(e) => Err(wasmtime::Error::new(PyFailure(errors::provider(
                py, "", "stream", e,
            )))),
        })
    }
}

/// Bytes that a Python object keeps.
struct Held(Py<PyBytes>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        Python::attach(|py| {
            let bytes = self.0.bind(py).as_bytes();
            // SAFETY: `bytes` never change or move, and live as long as this reference to them.
            unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
        })
    }
}

impl Source<Python_> for Iterable {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Python_>>>> {
        if let Some(asked) = &mut self.asked {
            let answer = std::task::ready!(Pin::new(asked).poll(cx));
            self.asked = None;
            let answer = answer.unwrap_or_else(|_| Err(PyRuntimeError::new_err("the event loop has gone")));
            return Poll::Ready(self.given(answer));
        }
        let next = Python::attach(|py| match &mut self.items {
            Items::Once(v) => Ok(v.take()),
            Items::Sync(iter) => iter
                .clone_ref(py)
                .into_bound(py)
                .next()
                .transpose()
                .map(|v| v.map(Bound::unbind)),
            Items::Async(iter) => {
                let awaitable = iter.call_method0(py, intern!(py, "__anext__"))?;
                self.asked = Some(self.hub.ask(awaitable, None));
                Ok(None)
            }
        });
        if self.asked.is_some() {
            return self.poll_next(cx);
        }
        match next {
            Ok(None) => Poll::Ready(Ok(None)),
            Ok(Some(v)) => Poll::Ready(self.given(Ok(v))),
            Err(e) => Poll::Ready(self.given(Err(e))),
        }
    }
}

/// What a Python value is as a future: any awaitable.
pub fn settle(v: &Bound<'_, PyAny>) -> Result<Settle<Python_>> {
    let py = v.py();
    let (home, hub) = lifted()?;
    if let Ok(f) = v.cast::<Future>()
        && Arc::ptr_eq(&f.get().home, &home)
    {
        let mut end = lock(&f.get().end);
        if let End::Fresh(_) = &*end {
            let End::Fresh(any) = std::mem::replace(&mut *end, End::Moved) else {
                return Err(format_err!("the future is gone"));
            };
            return Ok(Settle::Same(any));
        }
    }
    if v.getattr_opt(intern!(py, "__await__"))
        .map_err(failure)?
        .is_none()
    {
        return Err(loop_engine::Mismatch::new("", crate::domain::got(v)).into());
    }
    let answer = hub.ask(v.clone().unbind(), None);
    Ok(Settle::Value(Box::pin(async move {
        match answer.await {
            Ok(Ok(v)) => Ok(v),
            Ok(Err(e)) => Err(Python::attach(|py| {
                wasmtime::Error::new(PyFailure(errors::provider(py, "", "future", e)))
            })),
            Err(_) => Err(format_err!("the event loop has gone")),
        }
    })))
}
