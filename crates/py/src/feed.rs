//! Python's iterables and awaitables as streams and futures for guests.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use loop_engine::{Chunk, Domain, Feed, Home, Kind, Num, Settle, Source, TyRef};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList};
use wasmtime::Result;

use crate::domain::{PyFailure, Python_, failure};
use crate::errors;
use crate::hub::{HubInner, lock};
use crate::pulled::Pulled;
use crate::request::{Answer, Asked, Begun};
use crate::streams::{Future, Stream, lifted};

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
    asked: Option<Asked>,
    /// It has given all it had.
    ended: bool,
}

/// Errors where a value is a stream or future that was handed on already.
pub fn check(v: &Bound<'_, PyAny>) -> Result<()> {
    if let Ok(s) = v.cast::<Stream>() {
        lock(&s.get().end).check("stream").map_err(failure)?;
    }
    if let Ok(f) = v.cast::<Future>() {
        lock(&f.get().end).check("future").map_err(failure)?;
    }
    Ok(())
}

/// Whether both are of one instance.
fn same(a: &Option<Arc<Home>>, b: &Option<Arc<Home>>) -> bool {
    a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
}

/// What a Python value is as a stream.
pub fn feed(v: &Bound<'_, PyAny>, payload: Option<&TyRef>) -> Result<Feed<Python_>> {
    let py = v.py();
    let (home, hub) = lifted()?;
    if let Ok(s) = v.cast::<Stream>()
        && same(&s.get().home, &home)
        && let Some(any) = lock(&s.get().end).hand_on("stream").map_err(failure)?
    {
        return Ok(Feed::Same(any));
    }
    let numeric = matches!(payload.map(|t| &t.kind), Some(Kind::Num(_)));
    let items = if let Some(aiter) = v.getattr_opt(intern!(py, "__aiter__")).map_err(failure)? {
        let iterator = aiter.call0().map_err(failure)?.unbind();
        if home.is_none() {
            let pulled = Pulled::new(py, iterator, payload, &hub)?;
            return Ok(Feed::Source(Box::new(pulled)));
        }
        Items::Async(iterator)
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
        ended: false,
    })))
}

/// Whether a value is a block of numbers rather than one number.
fn is_block(v: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only asks whether the type has the buffer protocol.
    v.is_instance_of::<PyBytes>() || unsafe { pyo3::ffi::PyObject_CheckBuffer(v.as_ptr()) } == 1
}

/// One value of an iterable as a chunk.
fn chunk(payload: Option<&TyRef>, v: &Bound<'_, PyAny>) -> Result<Chunk<Python_>> {
    match payload.map(|t| &t.kind) {
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
        Some(_) => Ok(Chunk::Values(vec![v.clone().unbind()])),
    }
}

/// What an iterable gave, or how it ended.
pub fn given(payload: Option<&TyRef>, answer: Answer) -> Result<Option<Chunk<Python_>>> {
    Python::attach(|py| match answer {
        Ok(v) => {
            chunk(payload, v.bind(py))
                .map(Some)
                .map_err(|e| match e.downcast::<loop_engine::Mismatch>() {
                    Ok(mut m) => {
                        if m.expected.is_empty() {
                            m.expected = payload.map_or_else(String::new, |t| t.wit());
                        }
                        m.into()
                    }
                    Err(e) => e,
                })
        }
        Err(e) if e.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
        Err(e) => Err(wasmtime::Error::new(PyFailure(errors::provider(
            py, "", "stream", e,
        )))),
    })
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
            let given = given(self.payload.as_ref(), answer);
            self.ended = !matches!(given, Ok(Some(_)));
            return Poll::Ready(given);
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
                match self.hub.begin(py, awaitable, None) {
                    Begun::Done(answer) => answer.map(Some),
                    Begun::Asked(asked) => {
                        self.asked = Some(asked);
                        Ok(None)
                    }
                }
            }
        });
        if self.asked.is_some() {
            return self.poll_next(cx);
        }
        let given = match next {
            Ok(None) => Ok(None),
            Ok(Some(v)) => given(self.payload.as_ref(), Ok(v)),
            Err(e) => given(self.payload.as_ref(), Err(e)),
        };
        self.ended = !matches!(given, Ok(Some(_)));
        Poll::Ready(given)
    }
}

impl Drop for Iterable {
    fn drop(&mut self) {
        if let Items::Async(iterator) = &self.items
            && !self.ended
        {
            let iterator = Python::attach(|py| iterator.clone_ref(py));
            self.hub.unread(iterator, self.asked.take());
        }
    }
}

/// What a Python value is as a future: any awaitable.
pub fn settle(v: &Bound<'_, PyAny>) -> Result<Settle<Python_>> {
    let py = v.py();
    let (home, hub) = lifted()?;
    if let Ok(f) = v.cast::<Future>()
        && same(&f.get().home, &home)
        && let Some(any) = lock(&f.get().end).hand_on("future").map_err(failure)?
    {
        return Ok(Settle::Same(any));
    }
    if v.getattr_opt(intern!(py, "__await__"))
        .map_err(failure)?
        .is_none()
    {
        return Err(loop_engine::Mismatch::new("", crate::domain::got(v)).into());
    }
    let answer = hub.ask(v.clone().unbind());
    Ok(Settle::Value(Box::pin(async move {
        answer.await.map_err(|e| {
            Python::attach(|py| wasmtime::Error::new(PyFailure(errors::provider(py, "", "future", e))))
        })
    })))
}
