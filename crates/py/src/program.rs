//! `Program`: a linked component, callable.

use std::collections::HashMap;
use std::sync::Arc;

use loop_engine::{Caller, Home, Kind, NamedType, Notify, Polled, StoreKind};
use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::call::Call;
use crate::classes;
use crate::domain::{Python_, failure};
use crate::engine::check_fork;
use crate::errors;
use crate::hub::Hub;
use crate::kept::Kept;
use crate::link::Function;
use crate::read::unwrapped;
use crate::values::{Handle, Ok as OkValue};
use crate::wave;

/// What calls need of their program.
pub struct Shell {
    pub inner: Arc<loop_engine::Program>,
    /// Exports whose result is a `result`, which is returned or raised.
    fallible: Vec<bool>,
    /// No import is answered by Python, so that calls may run on any thread.
    pub movable: bool,
    /// Polls concurrent instances; None: made for a host without an event loop.
    pub notify: Option<Arc<dyn Notify>>,
}

/// A linked component.
#[pyclass(frozen, weakref, module = "loop_kit._core")]
pub struct Program {
    pub shell: Arc<Shell>,
    /// Paths by which exports are called, with the export each names.
    paths: HashMap<String, usize>,
    hub: Option<Py<Hub>>,
    /// Providers and resource classes; components that serve imports close with this one at the earliest.
    kept: Arc<Kept>,
}

impl Program {
    pub fn new(
        inner: Arc<loop_engine::Program>,
        hub: Option<Py<Hub>>,
        kept: Arc<Kept>,
        movable: bool,
    ) -> Self {
        let mut paths = HashMap::new();
        let mut bare: HashMap<&str, usize> = HashMap::new();
        for (i, e) in inner.exports.iter().enumerate() {
            paths.insert(e.ty.path(), i);
            *bare.entry(&e.ty.name).or_default() += 1;
        }
        for (i, e) in inner.exports.iter().enumerate() {
            // a path will do without its version, and a bare name where only one interface has it
            if let Some((interface, _)) = e.ty.interface.split_once('@') {
                paths.entry(format!("{interface}#{}", e.ty.name)).or_insert(i);
            }
            if bare.get(&*e.ty.name) == Some(&1) {
                paths.entry(e.ty.name.to_string()).or_insert(i);
            }
        }
        if let Some(hub) = &hub {
            let hub = hub.get().inner.clone();
            let _ = inner.ext.set(Box::new(hub.clone()));
            let _ = inner
                .on_dropped
                .set(Box::new(move |home| hub.sweep(home.clone())));
        }
        let notify = hub.as_ref().map(|hub| -> Arc<dyn Notify> {
            let hub = hub.get();
            match movable {
                true => Arc::new(OnThreads(hub.runtime.clone())),
                false => hub.inner.clone(),
            }
        });
        let is_result = |e: &loop_engine::Export| {
            e.ty.result
                .as_ref()
                .is_some_and(|t| matches!(t.kind, Kind::Result { .. }))
        };
        let fallible = inner.exports.iter().map(is_result).collect();
        Program {
            shell: Arc::new(Shell {
                inner,
                fallible,
                movable,
                notify,
            }),
            paths,
            hub,
            kept,
        }
    }

    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        check_fork()?;
        if self.shell.inner.is_closed() {
            return Err(errors::component_closed(py));
        }
        Ok(())
    }

    fn index(&self, py: Python<'_>, path: &Bound<'_, PyString>) -> PyResult<usize> {
        match self.paths.get(path.to_str()?) {
            Some(&index) => Ok(index),
            None => {
                let known: Vec<&String> = self.paths.keys().collect();
                Err(errors::raise(py, "NoSuchExport", (path, known)))
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // idle instances know their program, which knows them
        self.shell.inner.close();
    }
}

#[pymethods]
impl Program {
    /// The exported functions.
    #[getter]
    fn exports(&self) -> Vec<Function> {
        self.shell
            .inner
            .exports
            .iter()
            .map(|e| Function::of(&e.ty))
            .collect()
    }

    /// Named types, as interface, name and Python class.
    fn types(&self, py: Python<'_>) -> PyResult<Vec<(String, String, Py<PyAny>)>> {
        let made = self
            .shell
            .inner
            .types
            .iter()
            .map(|(interface, name, ty): &NamedType| {
                Ok((
                    interface.to_string(),
                    name.to_string(),
                    classes::of(py, ty)?.class.clone_ref(py),
                ))
            });
        made.collect()
    }

    /// Calls that run, requests that are served among them.
    #[getter]
    fn calls(&self) -> usize {
        self.shell.inner.calls()
    }

    /// Whether calls may be made by `call`; else only by `start`.
    #[getter]
    fn is_sync(&self) -> bool {
        self.shell.inner.kind == StoreKind::Sync
    }

    /// The number of the export that `path` names.
    ///
    /// Raises KeyError.
    fn find(&self, path: &str) -> PyResult<usize> {
        self.paths
            .get(path)
            .copied()
            .ok_or_else(|| PyKeyError::new_err(path.to_string()))
    }

    /// The resources that the component itself defines, as interface and name.
    #[getter]
    fn resources(&self) -> Vec<(String, String)> {
        let own = self.shell.inner.resources().iter().filter(|r| r.host.is_none());
        own.map(|r| (r.interface.to_string(), r.name.to_string()))
            .collect()
    }

    /// Sets the class that wraps handles of the exported resource.
    fn set_resource_class(&self, interface: &str, name: &str, class_: Py<PyAny>) {
        let class = self.kept.keep(class_);
        let found = self.shell.inner.resources().iter();
        let mut found = found.filter(|r| &*r.interface == interface && &*r.name == name);
        if let Some(r) = found.next() {
            let _ = r.ext.set(Box::new(class));
        }
    }

    /// Calls the export named `path` and waits for its result.
    #[pyo3(signature = (path, *args))]
    fn call(
        &self,
        py: Python<'_>,
        path: &Bound<'_, PyString>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        self.call_index(py, self.index(py, path)?, args)
    }

    /// Calls the export numbered `index` and waits for its result.
    #[pyo3(signature = (index, *args))]
    fn call_index(&self, py: Python<'_>, index: usize, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.check_open(py)?;
        let values: Vec<Py<PyAny>> = args.iter().map(Bound::unbind).collect();
        let out = match self.shell.home_of(py, index, &values) {
            Some(home) => home.call::<Python_>(index, values, CALLER),
            None => self.shell.inner.call::<Python_>(index, values, CALLER),
        };
        match out {
            Ok(v) => self.shell.unwrap(py, index, v),
            Err(e) => Err(self.shell.failure(py, index, &e)),
        }
    }

    /// An awaitable of a call of the export named `path`.
    #[pyo3(signature = (path, *args))]
    fn start(slf: &Bound<'_, Self>, path: &Bound<'_, PyString>, args: &Bound<'_, PyTuple>) -> PyResult<Call> {
        Self::start_index(slf, slf.get().index(slf.py(), path)?, args)
    }

    /// An awaitable of a call of the export numbered `index`.
    #[pyo3(signature = (index, *args))]
    fn start_index(slf: &Bound<'_, Self>, index: usize, args: &Bound<'_, PyTuple>) -> PyResult<Call> {
        let this = slf.get();
        this.check_open(slf.py())?;
        let Some(hub) = &this.hub else {
            return Err(PyRuntimeError::new_err(
                "this component was loaded by a host without an event loop",
            ));
        };
        let values: Vec<Py<PyAny>> = args.iter().map(Bound::unbind).collect();
        let hub = hub.get();
        Ok(Call::new(
            slf.clone().unbind(),
            index,
            values,
            hub.inner.clone(),
            hub.runtime.clone(),
        ))
    }

    /// The arguments of a call of export `index`, written as WAVE, as Python values.
    ///
    /// Raises ValueError with the parser's words.
    fn parse_args(&self, py: Python<'_>, index: usize, text: &str) -> PyResult<Vec<Py<PyAny>>> {
        wave::parse(py, &self.shell.inner.exports[index].ty, text)
    }

    /// What a call of export `index` returned (or, with `error`, raised as `Err`) as WAVE.
    ///
    /// Raises ValueError where it holds a handle, a stream or a future.
    #[pyo3(signature = (index, value, error = false))]
    fn format_result(&self, py: Python<'_>, index: usize, value: Py<PyAny>, error: bool) -> PyResult<String> {
        let fallible = self.shell.fallible[index] && !error;
        wave::format(py, &self.shell.inner.exports[index].ty, value, fallible)
    }

    /// Drops idle instances and keeps none from now on; lets go of providers.
    fn close(&self) {
        self.shell.inner.close();
        self.kept.clear();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.kept.traverse(&visit)
    }

    fn __clear__(&self) {
        self.kept.clear();
    }
}

impl Shell {
    /// The instance that a method call has to run in: that of its object.
    pub fn home_of(&self, py: Python<'_>, index: usize, args: &[Py<PyAny>]) -> Option<Arc<Home>> {
        if !self.inner.exports[index].ty.name.starts_with("[method]") {
            return None;
        }
        let inner = unwrapped(args.first()?.bind(py)).ok()?;
        let handle = inner.cast::<Handle>().ok()?;
        Some(handle.get().guest.home())
    }

    pub fn failure(&self, py: Python<'_>, index: usize, e: &wasmtime::Error) -> PyErr {
        errors::of_call(py, &self.inner.exports[index].ty.path(), e)
    }

    /// A result's ok value is returned, its error raised.
    pub fn unwrap(&self, py: Python<'_>, index: usize, v: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let Some(v) = v else { return Ok(py.None()) };
        if !self.fallible[index] {
            return Ok(v);
        }
        match v.cast_bound::<OkValue>(py) {
            Ok(ok) => Ok(ok.get().value.clone_ref(py)),
            Err(_) => Err(PyErr::from_value(v.into_bound(py))),
        }
    }
}

/// Polls concurrent instances on the engine's threads: with no Python on any import, each wake would else cost a turn
/// of the event loop, and the loop the guest's time.
struct OnThreads(tokio::runtime::Handle);

impl Notify for OnThreads {
    fn notify(&self, home: Arc<Home>) {
        let home = Arc::downgrade(&home); // one that nobody uses any more need not be polled
        self.0.spawn(async move {
            while let Some(home) = home.upgrade()
                && home.poll() == Polled::Again
            {
                tokio::task::yield_now().await;
            }
        });
    }
}

/// How calls from Python are made.
pub const CALLER: Caller = Caller {
    on_tick: Some(on_tick),
    wait: |f| Python::attach(|py| py.detach(f)),
};

/// Runs at every epoch while a guest runs on this thread: signal handlers, and a turn for other Python threads.
fn on_tick() -> wasmtime::Result<()> {
    Python::attach(|py| {
        py.check_signals().map_err(failure)?;
        py.detach(|| ());
        Ok(())
    })
}
