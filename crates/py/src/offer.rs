//! What providers offer for an imported interface: Python objects, native ones, other components, peers.

use std::sync::Arc;

use loop_engine::{FuncTy, Import, Interface, Kind, Neutral, Notify, Outcome};
use loop_remote::Encoded;
use loop_wire::{Code, serves};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::domain::{PyFailure, Python_, failure};
use crate::errors;
use crate::hub::HubInner;
use crate::kept::{Anchor, Kept};
use crate::native::Native;
use crate::program::Program;
use crate::request::Begun;
use crate::session::Route;
use crate::values::Ok as OkValue;

/// What answers a function, in the representation of values that its provider has.
pub enum Offered {
    Python(Import<Python_>),
    Neutral(Import<Neutral>),
    Encoded(Import<Encoded>),
}

type Made = Vec<(Arc<FuncTy>, Offered)>;

/// What a native provider has of an interface, and what it lacks.
pub fn native(wanted: &Interface, provider: &Native) -> (Made, Vec<Problem>) {
    if let Err(problem) = version(provider.0.interfaces.iter().copied(), &wanted.name) {
        return (vec![], vec![problem]);
    }
    let (mut made, mut missing) = (vec![], vec![]);
    for f in &wanted.funcs {
        match provider.0.import(&wanted.name, &f.name) {
            Some(import) => made.push((f.clone(), Offered::Neutral(import.clone()))),
            None => missing.push((
                Some(f.name.to_string()),
                "is not served by this native provider".into(),
            )),
        }
    }
    (made, missing)
}

/// What a peer has of an interface, and what does not fit.
pub fn remote(wanted: &Interface, route: &Route) -> (Made, Vec<Problem>) {
    let peer = route.0.link();
    let (mut made, mut problems) = (vec![], vec![]);
    for f in &wanted.funcs {
        match peer.function(f) {
            Ok(_) => made.push((f.clone(), Offered::Encoded(route.0.import(f)))),
            Err(why) => {
                let why = match why.code {
                    Code::NoSuchFunction | Code::NoSuchInterface => "is not offered by the provider".into(),
                    Code::VersionMismatch if why.field("function").is_some() => {
                        format!("is of another type at the provider; needed for {}", f.wit())
                    }
                    _ => why.message,
                };
                problems.push((Some(f.name.to_string()), why));
            }
        }
    }
    (made, problems)
}

/// What another component has of an interface, and what does not fit.
pub fn program(
    wanted: &Interface,
    provider: &Py<Program>,
    hub: Option<Arc<HubInner>>,
) -> (Made, Vec<Problem>) {
    let notify = hub.map(|hub| -> Arc<dyn Notify> { hub });
    let inner = &provider.get().shell.inner;
    let exported = inner.exports.iter().map(|e| &*e.ty.interface);
    let offered = match version(exported, &wanted.name) {
        Ok(offered) => offered,
        Err(problem) => return (vec![], vec![problem]),
    };
    let (mut made, mut problems) = (vec![], vec![]);
    for f in &wanted.funcs {
        match loop_engine::exported(f, offered, inner, notify.as_ref()) {
            Ok(import) => made.push((f.clone(), Offered::Neutral(import))),
            Err(why) => problems.push((Some(f.name.to_string()), why)),
        }
    }
    (made, problems)
}

/// Where a function of a Python provider is found.
pub enum Target {
    Callable(Anchor),
    Method(Py<PyString>),
}

impl Target {
    /// `method`: the attribute of that name of the call's first argument; else `callable`, which `kept` is to keep.
    pub fn of(
        callable: Option<Py<PyAny>>,
        method: Option<Py<PyString>>,
        kept: Arc<Kept>,
    ) -> PyResult<Target> {
        match (callable, method) {
            (_, Some(name)) => Ok(Target::Method(name)),
            (Some(callable), None) => Ok(Target::Callable(kept.keep(callable))),
            (None, None) => Err(PyRuntimeError::new_err("neither a callable nor a method")),
        }
    }
}

/// A Python callable as an import.
pub fn python(f: &Arc<FuncTy>, target: Target, waits: bool, hub: Option<Arc<HubInner>>) -> Import<Python_> {
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
pub type Problem = (Option<String>, String);

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
