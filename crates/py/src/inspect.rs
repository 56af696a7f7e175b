//! What a component is, without loading it, and how WIT has changed.

use std::path::PathBuf;

use loop_engine::Wit;
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

/// What changed from the WIT at `old` to that at `new`, each `(interface, item, what, breaks)`, and the packages of both
/// with their versions.
///
/// Raises LoadError where one of them is not sound.
#[pyfunction]
#[allow(clippy::type_complexity)] // Python's tuples
pub fn wit_changes(
    py: Python<'_>,
    old: PathBuf,
    new: PathBuf,
) -> PyResult<(
    Vec<(String, String, String, bool)>,
    Vec<(String, String)>,
    Vec<(String, String)>,
)> {
    let read = |path: PathBuf| Wit::read(&path).map_err(|e| errors::of_load(py, &e));
    let (old, new) = (read(old)?, read(new)?);
    let changes = loop_engine::changes(&old, &new).into_iter();
    let changes = changes.map(|c| (c.interface, c.item, c.what, c.breaks)).collect();
    Ok((changes, loop_engine::packages(&old), loop_engine::packages(&new)))
}
