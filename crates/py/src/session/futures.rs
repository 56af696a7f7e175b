//! Futures of the event loop that sessions settle, and what else they do with what they keep.

use loop_wire::Failure;
use pyo3::intern;
use pyo3::prelude::*;

use super::failures;

pub fn take(asked: &mut Vec<(u32, Py<PyAny>)>, number: u32) -> Option<Py<PyAny>> {
    let at = asked.iter().position(|(n, _)| *n == number)?;
    Some(asked.swap_remove(at).1)
}

pub fn settled(py: Python<'_>, future: Option<Py<PyAny>>, failure: Option<Failure>) -> PyResult<()> {
    let Some(future) = future else { return Ok(()) };
    let outcome = match failure {
        None => Ok(py.None()),
        Some(failure) => Err(failures::raised(py, &failure)),
    };
    settle(py, &future, outcome)
}

/// Gives a future its outcome, unless whoever waited has cancelled it.
pub fn settle(py: Python<'_>, future: &Py<PyAny>, outcome: PyResult<Py<PyAny>>) -> PyResult<()> {
    if future.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    match outcome {
        Ok(v) => future.call_method1(py, intern!(py, "set_result"), (v,)),
        Err(e) => future.call_method1(py, intern!(py, "set_exception"), (e.into_value(py),)),
    }
    .map(drop)
}
