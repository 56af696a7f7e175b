//! What a component is, without loading it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors;

/// Decodes a component: `{"module": bool, "imports": [...], "exports": [...], "wit": str}`, where an import or export
/// is `{"name": str, "functions": [str, ...]}`.
///
/// Raises LoadError.
#[pyfunction]
pub fn inspect<'py>(py: Python<'py>, wasm: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let found = py
        .detach(|| loop_engine::inspect(wasm))
        .map_err(|e| errors::of_load(py, &e))?;
    let items = |items: &[loop_engine::Item]| -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for item in items {
            let made = PyDict::new(py);
            made.set_item("name", &item.name)?;
            made.set_item("functions", &item.functions)?;
            list.append(made)?;
        }
        Ok(list)
    };
    let made = PyDict::new(py);
    made.set_item("module", found.module)?;
    made.set_item("imports", items(&found.imports)?)?;
    made.set_item("exports", items(&found.exports)?)?;
    made.set_item("wit", found.wit)?;
    Ok(made)
}
