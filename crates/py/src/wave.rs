//! Arguments and results of functions as WAVE, the text form of values.

use loop_engine::{FuncTy, Neutral, convert};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wasmtime::Error;

use crate::domain::Python_;
use crate::values::Ok as OkValue;

fn bad(e: Error) -> PyErr {
    PyValueError::new_err(format!("{e:#}"))
}

/// The arguments of a call as Python values.
///
/// Raises ValueError with the parser's words.
pub fn parse(py: Python<'_>, ty: &FuncTy, text: &str) -> PyResult<Vec<Py<PyAny>>> {
    let values = ty.parse_args(text).map_err(bad)?;
    let made = values.iter().zip(&ty.params);
    made.map(|(v, (_, ty))| convert::<Neutral, Python_>(py, ty, &v).map_err(bad))
        .collect()
}

/// What a call returned. `ok`: it is that case of a `result`.
///
/// Raises ValueError where it holds a handle, a stream or a future.
pub fn format(py: Python<'_>, ty: &FuncTy, value: Py<PyAny>, ok: bool) -> PyResult<String> {
    let Some(result) = &ty.result else {
        return Ok(String::new());
    };
    let value = match ok {
        true => Py::new(py, OkValue { value })?.into_any().into_bound(py),
        false => value.into_bound(py),
    };
    let neutral = convert::<Python_, Neutral>((), result, &value);
    neutral.and_then(|v| ty.format_result(&v)).map_err(bad)
}
