//! `Link`: a component on its way to a `Program`.

use std::sync::Arc;
use std::time::Duration;

use loop_engine::{FuncTy, Import, Instances, Kind, Limits, Neutral, Outcome};
use loop_remote::Encoded;
use loop_wire::serves;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::audit::{Audit, Shown};
use crate::domain::{PyFailure, Python_, failure};
use crate::engine::{Engine, check_fork};
use crate::errors;
use crate::hub::{Hub, HubInner};
use crate::kept::{Anchor, Kept};
use crate::native::Native;
use crate::program::Program;
use crate::request::Begun;
use crate::session::Route;
use crate::values::Ok as OkValue;
use crate::wasi;

/// An imported interface.
#[pyclass(frozen, get_all, module = "loop_kit._core")]
pub struct Interface {
    pub name: String,
    pub functions: Vec<Py<Function>>,
    /// Names of the resources that the interface defines.
    pub resources: Vec<String>,
}

impl Interface {
    /// Functions in the order in which the interface has them.
    pub fn of(py: Python<'_>, interface: &loop_engine::Interface) -> PyResult<Self> {
        let functions = interface.funcs.iter().map(|f| Py::new(py, Function::of(f)));
        Ok(Interface {
            name: interface.name.to_string(),
            functions: functions.collect::<PyResult<_>>()?,
            resources: interface.resources.iter().map(|r| r.name.to_string()).collect(),
        })
    }
}

/// A function's signature.
#[pyclass(frozen, get_all, module = "loop_kit._core")]
pub struct Function {
    interface: String,
    /// WIT name, such as `greet` or `[method]thing.get`.
    name: String,
    /// Parameter names and WIT types.
    parameters: Vec<(String, String)>,
    /// WIT type of the result, if any.
    result: Option<String>,
    is_async: bool,
    /// The signature as WIT.
    wit: String,
}

impl Function {
    pub fn of(f: &FuncTy) -> Self {
        Function {
            interface: f.interface.to_string(),
            name: f.name.to_string(),
            parameters: f.params.iter().map(|(n, t)| (n.to_string(), t.wit())).collect(),
            result: f.result.as_ref().map(|t| t.wit()),
            is_async: f.async_,
            wit: f.wit(),
        }
    }
}

/// A component being linked; consumed by `finish`.
#[pyclass(module = "loop_kit._core")]
pub struct Link {
    inner: Option<loop_engine::Link>,
    /// The event loop's hub, for a host that has one.
    hub: Option<Py<Hub>>,
    /// Providers, components among them: they must live as long as what is linked to them.
    kept: Arc<Kept>,
    /// An import is answered by Python.
    python: bool,
    /// Told of calls of what is linked from here on.
    audit: Option<Audit>,
}

#[pymethods]
impl Link {
    /// Compiles `wasm` and plans its imports; names that start with one of `foreign` are left to WASI.
    #[new]
    #[pyo3(signature = (engine, wasm, foreign, fuel = false, hub = None))]
    fn new(
        py: Python<'_>,
        engine: &Engine,
        wasm: &[u8],
        foreign: Vec<String>,
        fuel: bool,
        hub: Option<Py<Hub>>,
    ) -> PyResult<Self> {
        check_fork()?;
        let engine = engine.0.clone();
        py.detach(|| {
            loop_engine::Link::new(&engine, wasm, fuel, |name| {
                foreign.iter().any(|f| name.starts_with(&**f))
            })
        })
        .map(|l| Link {
            inner: Some(l),
            hub,
            kept: Arc::default(),
            python: false,
            audit: None,
        })
        .map_err(|e| errors::of_load(py, &e))
    }

    /// Has `tell(interface, function, arguments)` called before each call of an import that is linked after this. Calls
    /// of other components and of WASI are not told.
    fn audit(&mut self, tell: Py<PyAny>) {
        self.audit = Some(Audit(Arc::new(self.kept.keep(tell))));
    }

    /// What has to be provided.
    fn imports(&self, py: Python<'_>) -> PyResult<Vec<Interface>> {
        self.get()?.imports.iter().map(|i| Interface::of(py, i)).collect()
    }

    /// Imports that no host can provide, as names and what they are.
    fn unprovidable(&self) -> PyResult<Vec<(String, &'static str)>> {
        Ok(self.get()?.unprovidable.clone())
    }

    /// Links function `name` of import `interface` to `target`: a callable, or, with `method`, the attribute of that
    /// name of the call's first argument. `waits`: it is an `async def`.
    #[pyo3(signature = (interface, name, target, method = None, waits = false))]
    fn define(
        &mut self,
        interface: &str,
        name: &str,
        target: Option<Py<PyAny>>,
        method: Option<Py<PyString>>,
        waits: bool,
    ) -> PyResult<()> {
        let hub = self.hub.as_ref().map(|h| h.get().inner.clone());
        let (kept, audit) = (self.kept.clone(), self.audit.clone());
        let link = self.get_mut()?;
        let found = link
            .imports
            .iter()
            .filter(|i| &*i.name == interface)
            .flat_map(|i| &i.funcs)
            .find(|f| &*f.name == name);
        let Some(f) = found.cloned() else {
            return Err(PyRuntimeError::new_err(format!("no import {interface}#{name}")));
        };
        let target = match (target, method) {
            (_, Some(name)) => Target::Method(name),
            (Some(callable), None) => Target::Callable(kept.keep(callable)),
            (None, None) => return Err(PyRuntimeError::new_err("neither a callable nor a method")),
        };
        let import = import(&f, target, waits, hub);
        link.define(&f, told(audit.as_ref(), &f, import));
        self.python = true;
        Ok(())
    }

    /// Links resource `name` of import `interface`; `class_`, where it is a class, is what its objects must be of.
    #[pyo3(signature = (interface, name, class_ = None))]
    fn define_resource(
        &mut self,
        interface: &str,
        name: &str,
        class_: Option<Bound<'_, PyType>>,
    ) -> PyResult<()> {
        let kept = self.kept.clone();
        let link = self.get_mut()?;
        let found = link
            .imports
            .iter()
            .filter(|i| &*i.name == interface)
            .flat_map(|i| &i.resources)
            .find(|r| &*r.name == name);
        let Some(r) = found.cloned() else {
            return Err(PyRuntimeError::new_err(format!(
                "no imported resource {interface}#{name}"
            )));
        };
        if let Some(class) = class_ {
            let _ = r.ext.set(Box::new(kept.keep(class.into_any().unbind())));
        }
        link.define_resource::<Python_>(&r);
        Ok(())
    }

    /// Serves import `interface` by a native provider; returns what it lacks, as functions, or None for the whole
    /// interface, and reasons.
    fn define_native(&mut self, interface: &str, provider: &Native) -> PyResult<Vec<Problem>> {
        let audit = self.audit.clone();
        let link = self.get_mut()?;
        let Some(found) = link.imports.iter().find(|i| &*i.name == interface) else {
            return Ok(vec![]);
        };
        if let Err(problem) = version(provider.0.interfaces.iter().copied(), interface) {
            return Ok(vec![problem]);
        }
        let (funcs, resources) = (found.funcs.clone(), found.resources.clone());
        let mut missing = vec![];
        for f in &funcs {
            match provider.0.import(interface, &f.name) {
                Some(import) => link.define(f, told(audit.as_ref(), f, import.clone())),
                None => missing.push((
                    Some(f.name.to_string()),
                    "is not served by this native provider".into(),
                )),
            }
        }
        for r in &resources {
            link.define_resource::<Neutral>(r);
        }
        Ok(missing)
    }

    /// Serves import `interface` by a peer; returns the functions that it lacks.
    fn define_remote(&mut self, interface: &str, route: &Route) -> PyResult<Vec<String>> {
        let audit = self.audit.clone();
        let link = self.get_mut()?;
        let Some(found) = link.imports.iter().find(|i| &*i.name == interface) else {
            return Ok(vec![]);
        };
        let (funcs, resources) = (found.funcs.clone(), found.resources.clone());
        let peer = route.0.link();
        let mut missing = vec![];
        for f in &funcs {
            match peer.function(f) {
                Ok(_) => link.define(f, told(audit.as_ref(), f, route.0.import(f))),
                Err(_) => missing.push(f.name.to_string()),
            }
        }
        for r in &resources {
            link.define_resource::<Encoded>(r);
        }
        Ok(missing)
    }

    /// Serves import `interface` by another loaded component; returns what does not fit, as functions, or None for the
    /// whole interface, and reasons.
    fn define_program(&mut self, interface: &str, provider: Py<Program>) -> PyResult<Vec<Problem>> {
        let notify = self
            .hub
            .as_ref()
            .map(|h| -> Arc<dyn loop_engine::Notify> { h.get().inner.clone() });
        let inner = provider.get().shell.inner.clone();
        let exported = inner.exports.iter().map(|e| &*e.ty.interface);
        let offered = match version(exported, interface) {
            Ok(offered) => offered,
            Err(problem) => return Ok(vec![problem]),
        };
        self.python |= !provider.get().shell.movable;
        self.kept.keep(provider.into_any());
        let link = self.get_mut()?;
        let problems = link
            .define_program(interface, offered, &inner, notify.as_ref())
            .err();
        let problems = problems.unwrap_or_default().into_iter();
        Ok(problems.map(|(function, why)| (Some(function), why)).collect())
    }

    /// Checks the whole. Times in seconds, sizes in bytes; None: unlimited.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (*, memory, table_elements, deadline, cpu, fuel, concurrent_calls, payload, instances, cancel_grace, asynchronous, wasi))]
    fn finish(
        &mut self,
        py: Python<'_>,
        memory: usize,
        table_elements: usize,
        deadline: Option<f64>,
        cpu: Option<f64>,
        fuel: Option<u64>,
        concurrent_calls: usize,
        payload: usize,
        instances: Option<isize>,
        cancel_grace: f64,
        asynchronous: bool,
        wasi: &Bound<'_, PyDict>,
    ) -> PyResult<Program> {
        let mut link = self.inner.take().ok_or_else(used)?;
        link.define_wasi(wasi::config(wasi)?);
        let limits = Limits {
            memory,
            table_elements,
            deadline: deadline.map(Duration::from_secs_f64),
            cpu: cpu.map(Duration::from_secs_f64),
            fuel,
            concurrent_calls,
            payload,
            // 0: per call; -1: shared; n: a pool of n
            instances: instances.map(|n| match n {
                0 => Instances::PerCall,
                n if n < 0 => Instances::Shared,
                n => Instances::Pool(n.unsigned_abs()),
            }),
            cancel_grace: Duration::from_secs_f64(cancel_grace),
        };
        let program = py
            .detach(|| link.finish(limits, asynchronous))
            .map_err(|e| errors::of_load(py, &e))?;
        let hub = self.hub.as_ref().map(|h| h.clone_ref(py));
        Ok(Program::new(program, hub, self.kept.clone(), !self.python))
    }
}

impl Link {
    fn get(&self) -> PyResult<&loop_engine::Link> {
        self.inner.as_ref().ok_or_else(used)
    }

    fn get_mut(&mut self) -> PyResult<&mut loop_engine::Link> {
        self.inner.as_mut().ok_or_else(used)
    }
}

fn told<D: Shown>(audit: Option<&Audit>, f: &FuncTy, import: Import<D>) -> Import<D> {
    match audit {
        Some(audit) => audit.of(f, import),
        None => import,
    }
}

fn used() -> PyErr {
    PyRuntimeError::new_err("this component is linked already")
}

enum Target {
    Callable(Anchor),
    Method(Py<PyString>),
}

/// A Python callable as an import.
fn import(f: &Arc<FuncTy>, target: Target, waits: bool, hub: Option<Arc<HubInner>>) -> Import<Python_> {
    let f = f.clone();
    let fallible = f
        .result
        .as_ref()
        .is_some_and(|t| matches!(t.kind, Kind::Result { .. }));
    let call = move |args: Vec<Py<PyAny>>| {
        Python::attach(|py| {
            let behalf = waits.then(loop_engine::behalf).flatten();
            let out = match &target {
                Target::Callable(c) => match c.get(py) {
                    Some(c) => PyTuple::new(py, args).and_then(|args| c.bind(py).call1(args)),
                    None => Err(errors::component_closed(py)),
                },
                Target::Method(name) => {
                    let mut args = args.into_iter();
                    match args.next() {
                        Some(this) => PyTuple::new(py, args)
                            .and_then(|args| this.bind(py).call_method1(name.bind(py), args)),
                        None => Err(PyRuntimeError::new_err("a method without its object")),
                    }
                }
            };
            match (out, hub.as_ref()) {
                (Ok(awaitable), Some(hub)) if waits => {
                    let answer = match hub.begin(py, awaitable.unbind(), behalf) {
                        Begun::Done(out) => {
                            return Outcome::Ready(settle(py, &f, fallible, out.map(|v| v.into_bound(py))));
                        }
                        Begun::Asked(answer) => answer,
                    };
                    let f = f.clone();
                    Outcome::Later(Box::pin(async move {
                        let out = answer.await;
                        Python::attach(|py| settle(py, &f, fallible, out.map(|v| v.into_bound(py))))
                    }))
                }
                (out, _) => Outcome::Ready(settle(py, &f, fallible, out)),
            }
        })
    };
    Import {
        call: Arc::new(call),
        waits,
    }
}

/// What a provider returned or raised, as the import's answer.
pub fn settle<'py>(
    py: Python<'py>,
    f: &FuncTy,
    fallible: bool,
    out: PyResult<Bound<'py, PyAny>>,
) -> wasmtime::Result<Option<Py<PyAny>>> {
    match out {
        Ok(v) if fallible => {
            if v.is_instance_of::<OkValue>() || is_err(&v) {
                return Ok(Some(v.unbind()));
            }
            Py::new(py, OkValue { value: v.unbind() })
                .map(|v| Some(v.into_any()))
                .map_err(failure)
        }
        Ok(v) => Ok(f.result.is_some().then(|| v.unbind())),
        Err(e) if fallible && is_err(e.value(py)) => Ok(Some(e.into_value(py).into_any())),
        Err(e) => Err(wasmtime::Error::new(PyFailure(errors::provider(
            py,
            &f.interface,
            &f.name,
            e,
        )))),
    }
}

fn is_err(v: &Bound<'_, PyAny>) -> bool {
    static CLASS: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let py = v.py();
    let class = CLASS.get_or_try_init(py, || {
        py.import(intern!(py, "loop_kit._types"))?
            .getattr(intern!(py, "Err"))
            .map(Bound::unbind)
    });
    class.is_ok_and(|c| v.is_instance(c.bind(py)).unwrap_or(false))
}

/// What does not fit: a function, or None for the whole interface, and why.
type Problem = (Option<String>, String);

/// The one of `offered` that serves the import `wanted`: of that very name, else the first whose version does.
fn version<'a>(offered: impl Iterator<Item = &'a str> + Clone, wanted: &str) -> Result<&'a str, Problem> {
    let same = offered.clone().find(|o| *o == wanted);
    if let Some(found) = same.or_else(|| offered.clone().find(|o| serves(o, wanted))) {
        return Ok(found);
    }
    let name = |full: &str| full.split('@').next().unwrap_or_default().to_string();
    let why = match offered.clone().find(|o| name(o) == name(wanted)) {
        Some(other) => format!("is there as {other}, which does not serve this version"),
        None => "is not exported".into(),
    };
    Err((None, why))
}
