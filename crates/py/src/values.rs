//! Python objects that stand for WIT values without a Python type of their own.

use std::sync::{Arc, Mutex};

use loop_engine::{GuestHandle, HostObject};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wasmtime::component::Val;

use crate::errors;
use crate::hub::lock;
use crate::program::CALLER;

/// The ok case of a `result` inside another value; its error case is `loop_kit.Err`.
#[pyclass(frozen, module = "loop_kit")]
pub struct Ok {
    #[pyo3(get)]
    pub value: Py<PyAny>,
}

#[pymethods]
impl Ok {
    #[new]
    #[pyo3(signature = (value = None))]
    fn new(py: Python<'_>, value: Option<Py<PyAny>>) -> Self {
        Ok {
            value: value.unwrap_or_else(|| py.None()),
        }
    }

    #[classattr]
    fn __match_args__() -> (&'static str,) {
        ("value",)
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, pyo3::types::PyType>,
        _item: &Bound<'py, PyAny>,
    ) -> Bound<'py, PyAny> {
        cls.clone().into_any()
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        match other.cast::<Ok>() {
            Result::Ok(other) => self.value.bind(py).eq(other.get().value.bind(py)),
            Result::Err(_) => Result::Ok(false),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        PyTuple::new(py, [self.value.bind(py)])?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Result::Ok(format!("Ok({})", self.value.bind(py).repr()?))
    }

    fn __getnewargs__(&self, py: Python<'_>) -> (Py<PyAny>,) {
        (self.value.clone_ref(py),)
    }
}

/// A resource that a guest defines. `loop_kit` wraps it in a class with the resource's methods.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Handle {
    pub guest: Arc<GuestHandle>,
}

#[pymethods]
impl Handle {
    /// Whether the resource can still be used.
    #[getter]
    fn live(&self) -> bool {
        self.guest.is_live()
    }

    /// The resource's WIT name.
    #[getter]
    fn name(&self) -> String {
        self.guest.resource.name.to_string()
    }

    /// Drops the resource. Its destructor runs now where its instance is synchronous and idle, soon where it belongs to
    /// an event loop, else when it runs next. Again is harmless.
    fn drop(&self) -> PyResult<()> {
        self.guest.discard();
        let home = self.guest.home();
        home.sweep(CALLER)
            .map_err(|e| Python::attach(|py| errors::of_call(py, &format!("[drop]{}", self.name()), &e)))
    }

    fn __repr__(&self) -> String {
        let state = if self.live() { "" } else { ", gone" };
        format!("<{} resource of a guest{state}>", self.name())
    }
}

/// A resource of a native provider. `loop_kit` wraps it in a class with the resource's methods.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct NativeHandle {
    name: Arc<str>,
    object: Mutex<Option<HostObject>>,
}

impl NativeHandle {
    pub fn new(name: Arc<str>, object: HostObject) -> Self {
        let object = Mutex::new(Some(object));
        NativeHandle { name, object }
    }

    /// The provider's object; with `own` it is gone from here. None where it was given away or dropped.
    pub fn object(&self, own: bool) -> Option<HostObject> {
        let mut object = lock(&self.object);
        if own { object.take() } else { object.clone() }
    }
}

#[pymethods]
impl NativeHandle {
    /// Drops the resource. Again is harmless.
    fn drop(&self) {
        let object = lock(&self.object).take();
        drop(object); // with the lock let go: dropping may run any code
    }

    fn __repr__(&self) -> String {
        let state = if lock(&self.object).is_some() {
            ""
        } else {
            ", gone"
        };
        format!("<{} resource of a native provider{state}>", self.name)
    }
}

/// An error-context that a guest made; opaque, and good to hand back.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct ErrorContext(pub Val);

#[pymethods]
impl ErrorContext {
    fn __repr__(&self) -> &'static str {
        "<error-context of a guest>"
    }
}
