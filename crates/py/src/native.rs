//! Native providers.

use std::sync::Arc;

use loop_native::{HostServices, Provider, Record};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::Engine;
use crate::errors;

/// A native provider under one grant, ready to be linked.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Native(pub Provider);

#[pymethods]
impl Native {
    /// `config` and `grant` are JSON; `log(level, target, message, fields)` takes log records. `payload`: bytes that
    /// one answer may have.
    ///
    /// Raises ValueError naming the key that does not do.
    #[new]
    fn new(
        engine: &Engine,
        name: &str,
        config: &str,
        grant: &str,
        log: Py<PyAny>,
        payload: usize,
    ) -> PyResult<Self> {
        let json = |text: &str| serde_json::from_str(text).map_err(|e| PyValueError::new_err(e.to_string()));
        let sink = move |record: Record| {
            Python::attach(|py| {
                let Record {
                    level,
                    target,
                    message,
                    fields,
                    ..
                } = record;
                if let Err(e) = log.call1(py, (level as usize, target, message, fields)) {
                    e.write_unraisable(py, None);
                }
            });
        };
        let io = engine
            .0
            .runtime()
            .map_err(|e| Python::attach(|py| errors::of_load(py, &e)))?;
        let host = HostServices {
            log: Arc::new(sink),
            io,
            payload,
        };
        let made = loop_native::provider(name, &json(config)?, &json(grant)?, host);
        made.map(Native).map_err(|e| PyValueError::new_err(e.to_string()))
    }
}

/// The native capabilities with their interfaces: `[("core", ["loop:core/log@0.1.0-dev", ...]), ...]`.
#[pyfunction]
pub fn capabilities() -> Vec<(&'static str, Vec<&'static str>)> {
    loop_native::CAPABILITIES
        .iter()
        .map(|c| (c.name, c.interfaces.to_vec()))
        .collect()
}
