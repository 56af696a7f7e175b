//! A call that was made, as something to await.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::conn::Wire;

/// Awaits the answer of a peer; cancelling whoever awaits cancels the call there.
#[pyclass(module = "loop_kit._core")]
pub struct WireCall {
    wire: Py<Wire>,
    stream: u32,
    future: Py<PyAny>,
    /// The iterator of the future, once it is awaited.
    waiting: Option<Py<PyAny>>,
}

impl WireCall {
    pub fn new(wire: Py<Wire>, stream: u32, future: Py<PyAny>) -> Self {
        WireCall {
            wire,
            stream,
            future,
            waiting: None,
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
        let waiting = match &self.waiting {
            Some(waiting) => waiting,
            None => {
                let iterator = self.future.call_method0(py, intern!(py, "__await__"))?;
                self.waiting.insert(iterator)
            }
        };
        waiting.call_method0(py, intern!(py, "__next__"))
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
        self.future.call_method0(py, intern!(py, "cancel"))?;
        Wire::cancel(self.wire.bind(py), self.stream);
        Ok(())
    }
}
