//! What components tell of themselves, told to Python.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use loop_engine::Trace;
use loop_native::{Attribute, Attributes, Ended, Instrument, Measurement, Observer, Record};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::invoked;

/// Whether anybody listens: looked at before anything is made.
static LISTENS: AtomicBool = AtomicBool::new(false);
static LISTENERS: RwLock<Option<(Py<PyAny>, Py<PyAny>)>> = RwLock::new(None);

/// Has measurements and spans told to `measured` and `ended`; None, None: to nobody.
///
/// `measured(kind, name, unit, description, value, attributes)`, `ended(name, kind, context, state, parent, began, ended,
/// attributes, events, status, why, dropped)`; times are nanoseconds since 1970.
#[pyfunction]
pub fn listen(measured: Option<Py<PyAny>>, ended: Option<Py<PyAny>>) {
    let listeners = measured.zip(ended);
    LISTENS.store(listeners.is_some(), Relaxed);
    let was = std::mem::replace(
        &mut *LISTENERS
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
        listeners,
    );
    drop(was); // with the lock let go
}

/// What a native provider tells.
pub struct Telling {
    pub log: Py<PyAny>,
}

impl Observer for Telling {
    fn log(&self, record: Record) {
        Python::attach(|py| {
            let Record {
                level,
                target,
                message,
                fields,
                trace,
                ..
            } = record;
            let told = (level as usize, target, message, fields, trace.map(|t| t.to_vec()));
            if let Err(e) = self.log.call1(py, told) {
                e.write_unraisable(py, None);
            }
        });
    }

    fn listens(&self) -> bool {
        invoked::note_trace(); // asked when a span begins
        LISTENS.load(Relaxed)
    }

    fn measured(&self, measurement: Measurement) {
        let Measurement {
            instrument,
            name,
            unit,
            description,
            value,
            attributes,
        } = measurement;
        let kind = match instrument {
            Instrument::Counter => "counter",
            Instrument::Gauge => "gauge",
            Instrument::Histogram => "histogram",
        };
        tell(|py, (measured, _)| {
            let attributes = dict(py, attributes)?;
            measured.call1(py, (kind, &*name, &*unit, &*description, value, attributes))
        });
    }

    fn ended(&self, span: Ended) {
        tell(|py, (_, ended)| {
            let events = span
                .events
                .into_iter()
                .map(|(name, at, attributes)| Ok((name, nanoseconds(at), dict(py, attributes)?)))
                .collect::<PyResult<Vec<_>>>()?;
            let told = (
                span.name,
                span.kind,
                span.context.to_vec(),
                span.state,
                span.parent.map(|p| p.to_vec()),
                nanoseconds(span.began),
                nanoseconds(span.ended),
                dict(py, span.attributes)?,
                events,
                span.status.0,
                span.status.1,
                span.dropped,
            );
            ended.call1(py, told)
        });
    }

    fn current(&self) -> Option<Trace> {
        invoked::current()
    }
}

fn tell(f: impl FnOnce(Python<'_>, &(Py<PyAny>, Py<PyAny>)) -> PyResult<Py<PyAny>>) {
    Python::attach(|py| {
        let listeners = {
            let listeners = LISTENERS
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            listeners
                .as_ref()
                .map(|(a, b)| (a.clone_ref(py), b.clone_ref(py)))
        };
        if let Some(listeners) = listeners
            && let Err(e) = f(py, &listeners)
        {
            e.write_unraisable(py, None);
        }
    });
}

fn dict<'py>(py: Python<'py>, attributes: Attributes) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (key, value) in attributes {
        let value = match value {
            Attribute::Text(v) => v.into_bound_py_any(py)?,
            Attribute::Integer(v) => v.into_bound_py_any(py)?,
            Attribute::Number(v) => v.into_bound_py_any(py)?,
            Attribute::Boolean(v) => v.into_bound_py_any(py)?,
        };
        all.set_item(key, value)?;
    }
    Ok(all)
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
