//! `Link`: a component on its way to a `Program`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Domain, FuncTy, Import, Instances, Limits, Neutral};
use loop_remote::Encoded;
use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::audit::{Audit, Shown};
use crate::domain::Python_;
use crate::engine::{Engine, check_fork};
use crate::errors;
use crate::hub::{Hub, HubInner};
use crate::kept::Kept;
use crate::native::Native;
use crate::offer::{self, Offered, Problem, Target};
use crate::program::Program;
use crate::session::Route;
use crate::slot::{AnySlot, Generation, Slot};
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
    /// Interfaces whose providers may be exchanged.
    slots: HashMap<String, Slotted>,
}

/// An import on its way into a slot.
struct Slotted {
    slot: Py<Slot>,
    generation: Arc<loop_engine::Generation>,
    /// Keeps the first provider.
    first: Arc<Kept>,
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
            slots: HashMap::new(),
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

    /// Has import `interface` served by one provider after another, of which the next to be linked is the first, by
    /// `generation`. Raises KeyError where there is no such import.
    fn slot(&mut self, py: Python<'_>, interface: &str, generation: &Generation) -> PyResult<Py<Slot>> {
        let Some(wanted) = self.wanted(interface)?.cloned() else {
            return Err(PyKeyError::new_err(interface.to_string()));
        };
        let slot = Slot::new(py, wanted, self.hub(), self.audit.as_ref(), &self.kept)?;
        let slot = Py::new(py, slot)?;
        let first = slot.get().first(&self.kept);
        let slotted = Slotted {
            slot: slot.clone_ref(py),
            generation: generation.held()?,
            first,
        };
        self.slots.insert(interface.to_string(), slotted);
        Ok(slot)
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
        let f = self
            .wanted(interface)?
            .and_then(|wanted| wanted.function(name).cloned())
            .ok_or_else(|| PyRuntimeError::new_err(format!("no import {interface}#{name}")))?;
        let target = Target::of(target, method, self.keeper(interface))?;
        let offered = Offered::Python(offer::python(&f, target, waits, self.hub()));
        self.add(&f, offered)?;
        self.python = true;
        Ok(())
    }

    /// Links resource `name` of import `interface`; `class_`, where it is a class, is what its objects must be of.
    #[pyo3(signature = (interface, name, class_ = None))]
    fn define_resource(
        &mut self,
        py: Python<'_>,
        interface: &str,
        name: &str,
        class_: Option<Bound<'_, PyType>>,
    ) -> PyResult<()> {
        let kept = self.kept.clone();
        let slot = self.slots.get(interface).map(|s| s.slot.clone_ref(py));
        let wanted = self.wanted(interface)?;
        let Some(r) = wanted.and_then(|wanted| wanted.resource(name).cloned()) else {
            return Err(PyRuntimeError::new_err(format!(
                "no imported resource {interface}#{name}"
            )));
        };
        match (slot, class_) {
            (Some(slot), class) => slot.get().class_of(py, &r, class)?,
            (None, Some(class)) => {
                let _ = r.ext.set(Box::new(kept.keep(class.into_any().unbind())));
            }
            (None, None) => {}
        }
        self.get_mut()?.define_resource::<Python_>(&r);
        Ok(())
    }

    /// Serves import `interface` by a native provider; returns what it lacks, as functions, or None for the whole
    /// interface, and reasons.
    fn define_native(
        &mut self,
        py: Python<'_>,
        interface: &str,
        provider: &Native,
    ) -> PyResult<Vec<Problem>> {
        let Some(wanted) = self.wanted(interface)?.cloned() else {
            return Ok(vec![]);
        };
        let (made, problems) = offer::native(&wanted, provider);
        self.serve::<Neutral>(py, &wanted, made)?;
        Ok(problems)
    }

    /// Serves import `interface` by a peer; returns what does not fit, as functions and reasons.
    fn define_remote(&mut self, py: Python<'_>, interface: &str, route: &Route) -> PyResult<Vec<Problem>> {
        let Some(wanted) = self.wanted(interface)?.cloned() else {
            return Ok(vec![]);
        };
        let (made, problems) = offer::remote(&wanted, route);
        self.serve::<Encoded>(py, &wanted, made)?;
        Ok(problems)
    }

    /// Serves import `interface` by another loaded component; returns what does not fit, as functions, or None for the
    /// whole interface, and reasons.
    fn define_program(
        &mut self,
        py: Python<'_>,
        interface: &str,
        provider: Py<Program>,
    ) -> PyResult<Vec<Problem>> {
        let Some(wanted) = self.wanted(interface)?.cloned() else {
            return Ok(vec![]);
        };
        let (made, problems) = offer::program(&wanted, &provider, self.hub());
        self.python |= !provider.get().shell.movable;
        self.keeper(interface).keep(provider.into_any());
        self.serve::<Neutral>(py, &wanted, made)?;
        Ok(problems)
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
    fn hub(&self) -> Option<Arc<HubInner>> {
        self.hub.as_ref().map(|h| h.get().inner.clone())
    }

    fn wanted(&self, interface: &str) -> PyResult<Option<&loop_engine::Interface>> {
        Ok(self.get()?.imports.iter().find(|i| &*i.name == interface))
    }

    /// What holds the providers of an import.
    fn keeper(&self, interface: &str) -> Arc<Kept> {
        let slot = self.slots.get(interface);
        slot.map_or_else(|| self.kept.clone(), |s| s.first.clone())
    }

    fn add(&mut self, f: &Arc<FuncTy>, offered: Offered) -> PyResult<()> {
        if let Some(s) = self.slots.get(&*f.interface) {
            let slot = s.slot.get();
            let slot = slot.add(f, offered, s.generation.clone(), s.first.clone());
            // whoever comes later may be in Python
            self.python = true;
            let link = self.get_mut()?;
            match slot {
                AnySlot::Python(slot) => link.define_slot(f, slot),
                AnySlot::Neutral(slot) => link.define_slot(f, slot),
                AnySlot::Encoded(slot) => link.define_slot(f, slot),
            }
            return Ok(());
        }
        let audit = self.audit.clone();
        let link = self.get_mut()?;
        match offered {
            Offered::Python(import) => link.define(f, told(audit.as_ref(), f, import)),
            Offered::Neutral(import) => link.define(f, told(audit.as_ref(), f, import)),
            Offered::Encoded(import) => link.define(f, told(audit.as_ref(), f, import)),
        }
        Ok(())
    }

    fn serve<D: Domain>(
        &mut self,
        py: Python<'_>,
        wanted: &loop_engine::Interface,
        made: Vec<(Arc<FuncTy>, Offered)>,
    ) -> PyResult<()> {
        for (f, offered) in made {
            self.add(&f, offered)?;
        }
        for r in &wanted.resources {
            match self.slots.get(&*wanted.name).map(|s| s.slot.clone_ref(py)) {
                Some(slot) => {
                    slot.get().class_of(py, r, None)?;
                    // lets go of objects of Python's as well, which come with an exchange
                    self.get_mut()?.define_resource::<Python_>(r);
                }
                None => self.get_mut()?.define_resource::<D>(r),
            }
        }
        Ok(())
    }

    fn get(&self) -> PyResult<&loop_engine::Link> {
        self.inner.as_ref().ok_or_else(used)
    }

    fn get_mut(&mut self) -> PyResult<&mut loop_engine::Link> {
        self.inner.as_mut().ok_or_else(used)
    }
}

pub fn told<D: Shown>(audit: Option<&Audit>, f: &FuncTy, import: Import<D>) -> Import<D> {
    match audit {
        Some(audit) => audit.of(f, import),
        None => import,
    }
}

fn used() -> PyErr {
    PyRuntimeError::new_err("this component is linked already")
}
