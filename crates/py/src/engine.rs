//! `Engine`: what a Host owns.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::prelude::*;

use crate::errors;

/// Set in a child made by fork: none of the parent's threads live there, so nothing of ours can work.
static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Relaxed);
}

/// Refuses use after fork.
pub fn check_fork() -> PyResult<()> {
    if FORKED.load(Relaxed) {
        return Python::attach(|py| {
            Err(errors::raise(
                py,
                "ForkError",
                (
                    "this process was forked from one that had used loop_kit; start it with the \"spawn\" method instead",
                ),
            ))
        });
    }
    Ok(())
}

/// The engines, the clock and the runtime of one host.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Engine(pub loop_engine::Engine);

#[pymethods]
impl Engine {
    /// `cache`: folder of compiled code, or None for no cache. `incremental`: whether to keep compiled functions too.
    #[new]
    #[pyo3(signature = (cache = None, incremental = false))]
    fn new(cache: Option<PathBuf>, incremental: bool) -> PyResult<Self> {
        check_fork()?;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: `in_child` only stores to an atomic, which is allowed after fork.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Ok(Engine(loop_engine::Engine::new(cache, incremental)))
    }
}
