//! A call that was made, as something to await.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::conn::Wire;

/// Awaits the answer of a peer; cancelling whoever awaits cancels the call there.
#[pyclass(module = "loop_kit._core")]
pub struct WireCall {
    stream: u32,
    /// None once it is over: an error that whoever awaited keeps knows the frame that may keep this.
    open: Option<Open>,
}

struct Open {
    wire: Py<Wire>,
    future: Py<PyAny>,
    /// The iterator of the future, once it is awaited.
    waiting: Option<Py<PyAny>>,
}

impl WireCall {
    pub fn new(wire: Py<Wire>, stream: u32, future: Py<PyAny>) -> Self {
        let open = Open {
            wire,
            future,
            waiting: None,
        };
        WireCall {
            stream,
            open: Some(open),
        }
    }
}

#[pymethods]
impl WireCall {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(open) = &mut self.open else {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited call"));
        };
        let waiting = match &open.waiting {
            Some(waiting) => waiting,
            None => {
                let iterator = open.future.call_method0(py, intern!(py, "__await__"))?;
                open.waiting.insert(iterator)
            }
        };
        let next = waiting.call_method0(py, intern!(py, "__next__"));
        if next.is_err() {
            self.open = None;
        }
        next
    }

    fn send(&mut self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: Py<PyAny>,
        value: Option<Py<PyAny>>,
        _traceback: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.close(py)?;
        let error = match value {
            Some(value) => value,
            None if kind.bind(py).is_instance_of::<pyo3::types::PyType>() => kind.call0(py)?,
            None => kind,
        };
        Err(
            match error
                .bind(py)
                .is_instance_of::<pyo3::exceptions::PyBaseException>()
            {
                true => PyErr::from_value(error.into_bound(py)),
                false => PyRuntimeError::new_err("only exceptions can be thrown"),
            },
        )
    }

    /// Gives the call up.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        open.future.call_method0(py, intern!(py, "cancel"))?;
        Wire::cancel(open.wire.bind(py), self.stream);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        visit.call(&open.wire)?;
        visit.call(&open.future)?;
        visit.call(&open.waiting)
    }

    fn __clear__(&mut self) {
        self.open = None;
    }
}
