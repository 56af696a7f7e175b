//! Calls that coroutines answer. `loop_kit._session` runs them, several in one task as long as none of them waits.

use std::sync::Mutex;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::conn::Wire;
use super::serve::{Answer, leaves};
use crate::hub::lock;
use crate::invoked::{Invoked, Told};

/// A call, and the coroutine that answers it.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Job {
    wire: Py<Wire>,
    invoked: Invoked,
    coroutine: Py<PyAny>,
    /// None once it is answered.
    answer: Mutex<Option<Answer>>,
}

impl Job {
    pub fn new(
        wire: &Bound<'_, Wire>,
        invoked: Invoked,
        coroutine: Bound<'_, PyAny>,
        answer: Answer,
    ) -> Self {
        Job {
            wire: wire.clone().unbind(),
            invoked,
            coroutine: coroutine.unbind(),
            answer: Mutex::new(Some(answer)),
        }
    }

    fn answer(&self, py: Python<'_>, out: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let wire = self.wire.bind(py);
        let Some(answer) = lock(&self.answer).take() else {
            return Ok(());
        };
        wire.get().links.done(answer.stream);
        match out {
            Err(e) if leaves(py, &e) => return Err(e),
            out => answer.give(wire, out)?,
        }
        wire.get().queue.schedule(py);
        Ok(())
    }
}

#[pymethods]
impl Job {
    /// The coroutine, which `task` runs from here on.
    fn begin(&self, py: Python<'_>, task: Py<PyAny>) -> Py<PyAny> {
        if let Some(answer) = lock(&self.answer).as_mut() {
            answer.enter();
            self.wire.get().links.at_work(answer.stream, task);
        }
        self.coroutine.clone_ref(py)
    }

    /// What is known of the call, as `invoked` tells it.
    fn told(&self, py: Python<'_>) -> Told {
        self.invoked.told(py)
    }

    /// Answers with what the coroutine returned.
    fn give(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        self.answer(value.py(), Ok(value))
    }

    /// Answers with what it raised; raises that again where it is to end the process.
    fn fail(&self, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.answer(error.py(), Err(PyErr::from_value(error)))
    }

    /// Gives up a call that was not begun.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.coroutine.call_method0(py, intern!(py, "close")).map(drop)
    }
}

/// Hands the calls of one read over to whoever runs coroutines.
pub fn start(wire: &Bound<'_, Wire>) -> PyResult<()> {
    let jobs = wire.get().links.take_jobs();
    match jobs.is_empty() {
        true => Ok(()),
        false => wire
            .get()
            .tell(wire.py(), "work", (PyList::new(wire.py(), jobs)?,)),
    }
}
