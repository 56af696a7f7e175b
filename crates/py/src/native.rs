//! Native providers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use loop_engine::{Import, Later, Neutral, Outcome, Value, convert};
use loop_native::{HostServices, Provider};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::domain::Python_;
use crate::engine::Engine;
use crate::errors;
use crate::hub::{self, Hub, HubInner};
use crate::session::{Contract, Member, failures, values};
use crate::streams;
use crate::telling::Telling;

/// A native provider under one grant, ready to be linked.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Native(pub Provider);

#[pymethods]
impl Native {
    /// `config` and `grant` are JSON; `log(level, target, message, fields, trace)` takes log records. `payload`: bytes
    /// that one answer may have.
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
        let io = engine
            .0
            .runtime()
            .map_err(|e| Python::attach(|py| errors::of_load(py, &e)))?;
        let host = HostServices {
            observer: Arc::new(Telling { log }),
            io,
            payload,
        };
        let made = loop_native::provider(name, &json(config)?, &json(grant)?, host);
        made.map(Native).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// What it serves, with package and version.
    #[getter]
    fn interfaces(&self) -> Vec<&'static str> {
        self.0.interfaces.to_vec()
    }

    /// The functions of `contract` in its order, to be called from Python on the loop of `hub`; None for what this
    /// provider lacks.
    fn functions(&self, contract: &Contract, hub: &Hub) -> Vec<Option<NativeFunction>> {
        let found = contract.members.iter().map(|member| {
            let import = self.0.import(&member.ty.interface, &member.ty.name)?;
            Some(NativeFunction {
                import: import.clone(),
                member: member.clone(),
                hub: hub.inner.clone(),
                runtime: hub.runtime.clone(),
            })
        });
        found.collect()
    }
}

/// A function of a native provider, called without a component.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct NativeFunction {
    import: Import<Neutral>,
    member: Arc<Member>,
    hub: Arc<HubInner>,
    runtime: tokio::runtime::Handle,
}

#[pymethods]
impl NativeFunction {
    /// Whether it gives an awaitable.
    #[getter]
    fn waits(&self) -> bool {
        self.import.waits
    }

    /// Raises ArgumentError where an argument does not fit, the error of a WIT `result`, or ProviderError.
    #[pyo3(signature = (*args))]
    fn __call__(&self, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let (py, f) = (args.py(), &self.member.ty);
        values::counted(f, args)?;
        let given = hub::within(&self.hub, || {
            let given = args.iter().zip(&f.params).enumerate();
            let given = given.map(|(i, (v, (_, t)))| {
                convert::<Python_, Neutral>((), t, &v).map_err(|e| values::named(e, i))
            });
            given.collect::<Result<Vec<_>, _>>()
        });
        let given = given.map_err(|e| values::bad_argument(py, f, &e))?;
        let entered = self.runtime.enter();
        let outcome = (self.import.call)(given);
        drop(entered);
        let outcome = match outcome {
            // whoever awaits what may wait does so where it did not have to, too
            Outcome::Ready(out) if self.import.waits => Outcome::Later(Box::pin(async { out })),
            other => other,
        };
        hub::within(&self.hub, || match outcome {
            Outcome::Ready(out) => answer(py, &self.member, out),
            Outcome::Later(later) => {
                let value = Answer {
                    later,
                    member: self.member.clone(),
                    runtime: self.runtime.clone(),
                };
                streams::settled(py, None, Box::pin(value)).map_err(|e| values::raised(py, f, &e))
            }
        })
    }

    fn __repr__(&self) -> String {
        format!("<native {}>", self.member.ty.path())
    }
}

/// What a native provider answered, for Python.
fn answer(py: Python<'_>, member: &Member, out: wasmtime::Result<Option<Value>>) -> PyResult<Py<PyAny>> {
    let f = &member.ty;
    let value = out.map_err(|e| failures::raised(py, &values::failed(py, f, &e)))?;
    let Some((t, value)) = f.result.as_ref().zip(value) else {
        return Ok(py.None());
    };
    match convert::<Neutral, Python_>(py, t, &&value) {
        Ok(v) => values::unfolded(py, member.fallible, v),
        Err(e) => Err(values::raised(py, f, &e)),
    }
}

/// An answer that comes later, on an event loop.
struct Answer {
    later: Later<Neutral>,
    member: Arc<Member>,
    runtime: tokio::runtime::Handle,
}

impl Future for Answer {
    type Output = wasmtime::Result<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.runtime.clone();
        let _entered = entered.enter(); // timers and sockets are the runtime's
        let out = ready!(self.later.as_mut().poll(cx));
        Poll::Ready(Python::attach(|py| {
            answer(py, &self.member, out).map_err(crate::domain::failure)
        }))
    }
}

/// The native capabilities with their interfaces: `[("core", ["loop:core/log@0.1.0", ...]), ...]`.
#[pyfunction]
pub fn capabilities() -> Vec<(&'static str, Vec<&'static str>)> {
    loop_native::CAPABILITIES
        .iter()
        .map(|c| (c.name, c.interfaces.to_vec()))
        .collect()
}

/// What the running kernel can hold programs by: whether it has seccomp, and the version of its landlock, 0 for none.
#[pyfunction]
pub fn confinement() -> (bool, i32) {
    #[cfg(target_os = "linux")]
    {
        let here = loop_native::process::Confinement::here();
        (here.seccomp, here.landlock)
    }
    #[cfg(not(target_os = "linux"))]
    (false, 0)
}
