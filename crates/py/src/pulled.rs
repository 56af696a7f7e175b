//! Async iterators that feed peers: one task pulls each, as far as the peer has room. A task for every value would cost
//! far more than most values do.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use loop_engine::{Chunk, Kind, Source, TyRef};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use wasmtime::Result;

use crate::domain::{Python_, failure};
use crate::feed::given;
use crate::hub::{HubInner, lock};
use crate::request::{Answer, Asked};

/// Values that are pulled before somebody takes them: of numbers, and of anything else.
const NUMBERS: usize = 1024;
const VALUES: usize = 64;
/// Bytes of such values, as far as they say how many they have.
const BYTES: usize = 16 << 10;

/// What was pulled and not taken yet.
#[derive(Default)]
struct Pulling {
    values: VecDeque<Py<PyAny>>,
    bytes: usize,
    /// Who waits for values.
    reader: Option<Waker>,
    /// What the task waits for until more is wanted.
    wanted: Option<Py<PyAny>>,
}

/// Takes what a task pulls.
#[pyclass(frozen)]
struct Sink {
    pulling: Mutex<Pulling>,
    most: usize,
    hub: Arc<HubInner>,
}

#[pymethods]
impl Sink {
    /// Takes a value; whether more are wanted yet.
    fn give(&self, value: Bound<'_, PyAny>) -> bool {
        let size = match (value.cast::<PyBytes>(), value.cast::<PyString>()) {
            (Ok(_), _) | (_, Ok(_)) => value.len().unwrap_or(0),
            _ => 0,
        };
        let mut pulling = lock(&self.pulling);
        pulling.values.push_back(value.unbind());
        pulling.bytes += size;
        let more = pulling.values.len() < self.most && pulling.bytes < BYTES;
        let reader = pulling.reader.take();
        drop(pulling);
        if let Some(reader) = reader {
            reader.wake();
        }
        more
    }

    /// A future of when more are wanted.
    fn wanted(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.hub.create_future(py)?.unbind();
        let mut pulling = lock(&self.pulling);
        match pulling.values.is_empty() {
            true => drop(future.call_method1(py, intern!(py, "set_result"), (py.None(),))?),
            false => pulling.wanted = Some(future.clone_ref(py)),
        }
        Ok(future)
    }
}

enum State {
    Fresh(Py<PyAny>),
    Running(Asked),
    /// How it ended, until that was told.
    Over(Option<Answer>),
}

/// An async iterator as a source.
pub struct Pulled {
    state: State,
    sink: Py<Sink>,
    payload: Option<TyRef>,
    hub: Arc<HubInner>,
}

impl Pulled {
    pub fn new(
        py: Python<'_>,
        iterator: Py<PyAny>,
        payload: Option<&TyRef>,
        hub: &Arc<HubInner>,
    ) -> Result<Self> {
        let numbers = payload.is_none_or(|t| matches!(t.kind, Kind::Num(_)));
        let sink = Sink {
            pulling: Mutex::default(),
            most: if numbers { NUMBERS } else { VALUES },
            hub: hub.clone(),
        };
        Ok(Pulled {
            state: State::Fresh(iterator),
            sink: Py::new(py, sink).map_err(failure)?,
            payload: payload.cloned(),
            hub: hub.clone(),
        })
    }

    /// What was pulled; else asks for more, and has `cx` woken by it.
    fn take(&self, py: Python<'_>, cx: &Context<'_>) -> Option<Py<PyAny>> {
        let mut pulling = lock(&self.sink.get().pulling);
        if let Some(value) = pulling.values.pop_front() {
            if pulling.values.is_empty() {
                pulling.bytes = 0;
            }
            return Some(value);
        }
        pulling.reader = Some(cx.waker().clone());
        let wanted = pulling.wanted.take();
        drop(pulling);
        if let Some(wanted) = wanted {
            self.hub.complete(py, wanted);
        }
        None
    }

    fn begin(&mut self, py: Python<'_>) -> Result<()> {
        if let State::Fresh(iterator) = &self.state {
            let coroutine = py
                .import(intern!(py, "loop_kit._loop"))
                .and_then(|helper| helper.call_method1(intern!(py, "pull"), (iterator, &self.sink)))
                .map_err(failure)?;
            self.state = State::Running(self.hub.ask(coroutine.unbind()));
        }
        Ok(())
    }
}

impl Source<Python_> for Pulled {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Python_>>>> {
        let taken = Python::attach(|py| self.begin(py).map(|()| self.take(py, cx)))?;
        if let Some(value) = taken {
            return Poll::Ready(given(self.payload.as_ref(), Ok(value)));
        }
        if let State::Running(asked) = &mut self.state {
            let ended = std::task::ready!(Pin::new(asked).poll(cx));
            self.state = State::Over(Some(ended));
            // on another thread it may have given more since that was looked at
            if let Some(value) = Python::attach(|py| self.take(py, cx)) {
                return Poll::Ready(given(self.payload.as_ref(), Ok(value)));
            }
        }
        let State::Over(ended) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        Poll::Ready(match ended.take() {
            Some(Err(e)) => given(self.payload.as_ref(), Err(e)),
            Some(Ok(_)) | None => Ok(None),
        })
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        if let State::Fresh(iterator) = std::mem::replace(&mut self.state, State::Over(None)) {
            self.hub.unread(iterator, None);
        }
    }
}
