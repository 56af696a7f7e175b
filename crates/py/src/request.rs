//! Awaitables that guests wait for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use loop_engine::Behalf;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::hub::{HubInner, lock};

/// What an awaitable came to.
pub type Answer = PyResult<Py<PyAny>>;

/// An awaitable that a guest waits for.
pub struct Request {
    pub work: Work,
    pub reply: oneshot::Sender<Answer>,
    /// It may run within its caller's own task.
    pub inline: bool,
    /// The call that it is for, if any.
    pub behalf: Option<Behalf>,
    pub task: Slot,
}

/// What gives a request its answer.
pub enum Work {
    Awaitable(Py<PyAny>),
    /// A coroutine after its first step, and the future that it waits for; without one it wants its next turn.
    Started(Py<PyAny>, Option<Py<PyAny>>),
}

/// What came of asking.
pub enum Begun {
    /// The provider never had to wait.
    Done(Answer),
    Asked(Asked),
}

/// Where a request's task is found once it has one.
pub type Slot = Arc<OnceLock<Py<PyAny>>>;

/// The answer to a request, for the guest that waits for it. Dropped before it came, it cancels the task.
pub struct Asked {
    answer: oneshot::Receiver<Answer>,
    task: Slot,
    hub: Arc<HubInner>,
    answered: bool,
}

impl Asked {
    pub fn new(answer: oneshot::Receiver<Answer>, task: Slot, hub: Arc<HubInner>) -> Self {
        Asked {
            answer,
            task,
            hub,
            answered: false,
        }
    }

    /// The task that has still to be cancelled, by the caller instead of by dropping this.
    pub fn into_task(mut self) -> Slot {
        self.answered = true;
        self.task.clone()
    }
}

impl Future for Asked {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = std::task::ready!(Pin::new(&mut self.answer).poll(cx));
        self.answered = true;
        Poll::Ready(answer.unwrap_or_else(|_| Err(PyRuntimeError::new_err("the event loop has gone"))))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.hub.unasked(self.task.clone());
        }
    }
}

/// Gives a task's outcome to the guest that waits for it.
#[pyclass(frozen)]
pub struct Done {
    pub reply: Mutex<Option<oneshot::Sender<Answer>>>,
    pub hub: Arc<HubInner>,
    pub key: usize,
    pub behalf: Option<Behalf>,
}

#[pymethods]
impl Done {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let answer = task.call_method0(intern!(task.py(), "result")).map(Bound::unbind);
        self.hub.forget(self.key, task);
        if let Some(reply) = lock(&self.reply).take() {
            let _ = reply.send(answer);
        }
    }
}
