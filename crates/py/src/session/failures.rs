//! Failures of the wire and Python's exceptions. Which is which is decided in `loop_kit._failures`.

use loop_wire::{Code, Failure};
use pyo3::intern;
use pyo3::prelude::*;

/// What a failure is in Python.
pub fn raised(py: Python<'_>, failure: &Failure) -> PyErr {
    let made = py
        .import(intern!(py, "loop_kit._failures"))
        .and_then(|m| m.getattr(intern!(py, "error_of")))
        .and_then(|f| {
            f.call1((
                failure.code.word(),
                failure.retryable,
                &failure.message,
                failure.fields.clone(),
            ))
        });
    made.map_or_else(|e| e, PyErr::from_value)
}

/// What an exception is on the wire.
pub fn told(py: Python<'_>, e: &PyErr, interface: &str, function: &str) -> Failure {
    let made = py
        .import(intern!(py, "loop_kit._failures"))
        .and_then(|m| m.getattr(intern!(py, "failure_of")))
        .and_then(|f| f.call1((e.value(py), interface, function)))
        .and_then(|made| made.extract::<(String, bool, String, Vec<(String, String)>)>());
    match made {
        Ok((code, retryable, message, fields)) => Failure {
            code: Code::of(&code).unwrap_or(Code::Provider),
            retryable,
            message,
            fields,
        },
        Err(_) => Failure::new(Code::Provider, e.to_string()),
    }
}
