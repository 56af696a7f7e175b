//! Values as the bytes of the wire, by a type written as WIT.

use std::sync::Arc;

use bytes::Bytes;
use loop_engine::{
    Handle as Crossing, Kind, Mismatch, Neutral, Resource, Ty, TyRef, convert, format_value, parse_type,
    parse_values, ready,
};
use loop_remote::{BadBytes, Peer, decode, encode};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyType};
use wasmtime::{Error, Result, format_err};

use crate::domain::{PyFailure, PyObjectHandle, Python_, failure};
use crate::errors;
use crate::kept::Kept;

/// A WIT type by itself.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct WireType {
    ty: TyRef,
    peer: Opaque,
}

/// Handles as the bytes that they are: objects of a class that holds them as `bytes`.
struct Opaque(Py<PyType>);

impl Peer for Opaque {
    fn give(&self, resource: &Arc<Resource>, _: bool, handle: Crossing) -> Result<Vec<u8>> {
        let Crossing::Host(object) = &handle else {
            return Err(format_err!("a {} of a guest has no bytes", resource.name));
        };
        let Some(PyObjectHandle(object)) = object.downcast_ref() else {
            return Err(format_err!("a {} of another host has no bytes", resource.name));
        };
        Python::attach(|py| object.bind(py).getattr(intern!(py, "bytes"))?.extract()).map_err(failure)
    }

    fn take(&self, _: &Arc<Resource>, _: bool, bytes: &[u8]) -> Result<Crossing> {
        let made = Python::attach(|py| self.0.call1(py, (PyBytes::new(py, bytes),)));
        Ok(Crossing::Host(Arc::new(PyObjectHandle(made.map_err(failure)?))))
    }
}

#[pymethods]
impl WireType {
    /// Reads the type. `handle` is the class that stands for handles.
    ///
    /// Raises WireError.
    #[new]
    fn new(py: Python<'_>, text: &str, handle: Py<PyType>) -> PyResult<Self> {
        let ty = parse_type(text).map_err(|e| {
            let column = text[..e.at].chars().count() + 1;
            let message = format!("`{}`, column {column}: {e}", short(text));
            errors::raise(py, "WireError", (message, "bad-type", e.at))
        })?;
        let ty = ready(&ty).map_err(|e| errors::raise(py, "WireError", (format!("{e}"), "bad-type", 0)))?;
        let kept: Arc<Kept> = Arc::default();
        let keep = |resource: &Arc<Resource>| {
            let class = kept.keep(handle.clone_ref(py).into_any());
            let _ = resource.ext.set(Box::new(class));
        };
        each_resource(&ty, &keep);
        Ok(WireType {
            ty,
            peer: Opaque(handle),
        })
    }

    /// The type as it is read and written: streams are lists, futures are variants.
    #[getter]
    fn wit(&self) -> String {
        self.ty.shape()
    }

    /// The bytes of a value.
    ///
    /// Raises WireError.
    fn encode<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let made = encode::<Python_>(&self.ty, value, &self.peer).map_err(|e| self.failed(py, e))?;
        Ok(PyBytes::new(py, &made.bytes))
    }

    /// The value that the bytes of a buffer are.
    ///
    /// Raises WireError.
    fn decode(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let data = buffer(data)?;
        decode::<Python_>(py, &self.ty, &data, &self.peer).map_err(|e| self.failed(py, e))
    }

    /// A value written as WAVE.
    ///
    /// Raises ValueError with the parser's words.
    fn parse(&self, py: Python<'_>, text: &str) -> PyResult<Py<PyAny>> {
        let values = parse_values([&self.ty].into_iter(), text).map_err(worded)?;
        let value = values.first().ok_or_else(|| PyValueError::new_err("no value"))?;
        convert::<Neutral, Python_>(py, &self.ty, &value).map_err(worded)
    }

    /// A value as WAVE.
    ///
    /// Raises ValueError where it holds a handle.
    fn format(&self, value: &Bound<'_, PyAny>) -> PyResult<String> {
        let value = convert::<Python_, Neutral>((), &self.ty, value).map_err(worded)?;
        format_value(&self.ty, &value).map_err(worded)
    }
}

impl WireType {
    fn failed(&self, py: Python<'_>, e: Error) -> PyErr {
        if let Some(PyFailure(cause)) = e.downcast_ref() {
            return cause.clone_ref(py);
        }
        let text = format!("{}: {e}", short(&self.ty.wit()));
        if let Some(e) = e.downcast_ref::<BadBytes>() {
            return errors::raise(
                py,
                "WireError",
                (text, e.cause.word(), e.offset, &e.path, &e.expected, py.None()),
            );
        }
        match e.downcast_ref::<Mismatch>() {
            Some(e) => errors::raise(
                py,
                "WireError",
                (text, "mismatch", py.None(), &e.path, &e.expected, &e.got),
            ),
            None => errors::raise(py, "WireError", (text, "bad-handle", py.None())),
        }
    }
}

/// A type in a message that has more to say.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn worded(e: Error) -> PyErr {
    PyValueError::new_err(format!("{e:#}"))
}

fn each_resource(ty: &Ty, f: &dyn Fn(&Arc<Resource>)) {
    match &ty.kind {
        Kind::Own(r) | Kind::Borrow(r) => f(r),
        _ => ty.children().into_iter().for_each(|t| each_resource(t, f)),
    }
}

/// The bytes of a buffer; those of `bytes` are not copied.
fn buffer(data: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if data.is_instance_of::<PyBytes>() {
        return Ok(Bytes::from_owner(data.extract::<PyBackedBytes>()?));
    }
    let buffer = PyBuffer::<u8>::get(data).map_err(|_| {
        PyTypeError::new_err(format!(
            "expected bytes or another buffer of bytes, got {}",
            crate::domain::got(data)
        ))
    })?;
    buffer.to_vec(data.py()).map(Bytes::from)
}
