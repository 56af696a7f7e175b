//! Imports whose providers are exchanged while calls run.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, Weak};

use loop_engine::{
    Domain, FuncTy, Hold, Import, Neutral, Outcome, Resource, Tally, bad_result, convert_all, converted_all,
    outside,
};
use loop_remote::Encoded;
use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use tokio::sync::oneshot;

use crate::audit::{Audit, Shown};
use crate::domain::Python_;
use crate::hub::{self, Hub, HubInner, lock};
use crate::kept::{Anchor, Kept, Place};
use crate::link::{Interface, told};
use crate::native::Native;
use crate::offer::{self, Offered, Problem, Target};
use crate::program::Program;
use crate::session::Route;
use crate::streams;

/// One of the providers that serve in turn.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Generation {
    /// Gone once it was retired.
    held: Mutex<Option<Arc<loop_engine::Generation>>>,
    weak: Weak<loop_engine::Generation>,
    drained: Mutex<Option<oneshot::Receiver<()>>>,
    hub: Arc<HubInner>,
}

impl Generation {
    pub fn held(&self) -> PyResult<Arc<loop_engine::Generation>> {
        let held = lock(&self.held).clone();
        held.ok_or_else(|| PyRuntimeError::new_err("this generation is retired"))
    }
}

#[pymethods]
impl Generation {
    #[new]
    fn new(hub: &Hub) -> Self {
        let (held, drained) = loop_engine::Generation::new();
        Generation {
            weak: Arc::downgrade(&held),
            held: Mutex::new(Some(held)),
            drained: Mutex::new(Some(drained)),
            hub: hub.inner.clone(),
        }
    }

    /// Says that nothing more is to begin in it. Returns what is awaited until all that it has begun has ended: calls,
    /// resources, streams.
    fn retire(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        lock(&self.held).take();
        let drained = lock(&self.drained).take();
        let ended = async move {
            if let Some(drained) = drained {
                let _ = drained.await; // it ends by going
            }
            Ok(Python::attach(|py| py.None()))
        };
        awaited(py, Some(&self.hub), ended)
    }

    /// Ends what is left of it: calls fail by ProviderGone.
    fn expire(&self, py: Python<'_>) {
        if let Some(generation) = self.weak.upgrade() {
            py.detach(|| generation.expire());
        }
    }
}

/// What Python awaits.
fn awaited(
    py: Python<'_>,
    hub: Option<&Arc<HubInner>>,
    work: impl Future<Output = wasmtime::Result<Py<PyAny>>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    let hub = hub.ok_or_else(|| PyRuntimeError::new_err("there is no event loop to wait on"))?;
    hub::within(hub, || streams::settled(py, None, Box::pin(work)))
        .map_err(|e| PyRuntimeError::new_err(format!("{e:#}")))
}

/// A function's slot, in the representation of values that its first provider has.
pub enum AnySlot {
    Python(Arc<loop_engine::Slot<Python_>>),
    Neutral(Arc<loop_engine::Slot<Neutral>>),
    Encoded(Arc<loop_engine::Slot<Encoded>>),
}

/// The same as long as the component is there.
#[derive(Clone)]
enum Known {
    Python(Weak<loop_engine::Slot<Python_>>),
    Neutral(Weak<loop_engine::Slot<Neutral>>),
    Encoded(Weak<loop_engine::Slot<Encoded>>),
}

impl Known {
    fn of(slot: &AnySlot) -> Self {
        match slot {
            AnySlot::Python(slot) => Known::Python(Arc::downgrade(slot)),
            AnySlot::Neutral(slot) => Known::Neutral(Arc::downgrade(slot)),
            AnySlot::Encoded(slot) => Known::Encoded(Arc::downgrade(slot)),
        }
    }

    fn get(&self) -> Option<AnySlot> {
        Some(match self {
            Known::Python(slot) => AnySlot::Python(slot.upgrade()?),
            Known::Neutral(slot) => AnySlot::Neutral(slot.upgrade()?),
            Known::Encoded(slot) => AnySlot::Encoded(slot.upgrade()?),
        })
    }
}

/// An interface that a component imports, whose providers may be exchanged. It holds neither of them.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Slot {
    #[pyo3(get)]
    interface: Py<Interface>,
    wanted: loop_engine::Interface,
    members: Mutex<Vec<(Arc<FuncTy>, Known)>>,
    /// Where those of resources are kept, as tuples of what objects may be of.
    classes: Mutex<HashMap<String, Place>>,
    tally: Arc<Tally>,
    hold: Arc<Hold>,
    hub: Option<Arc<HubInner>>,
    audit: Option<Weak<Anchor>>,
    /// The component's.
    kept: Weak<Kept>,
    first: Mutex<Weak<Kept>>,
}

impl Slot {
    pub fn new(
        py: Python<'_>,
        wanted: loop_engine::Interface,
        hub: Option<Arc<HubInner>>,
        audit: Option<&Audit>,
        kept: &Arc<Kept>,
    ) -> PyResult<Self> {
        Ok(Slot {
            interface: Py::new(py, Interface::of(py, &wanted)?)?,
            wanted,
            members: Mutex::default(),
            classes: Mutex::default(),
            tally: Arc::default(),
            hold: Arc::default(),
            hub,
            audit: audit.map(|audit| Arc::downgrade(&audit.0)),
            kept: Arc::downgrade(kept),
            first: Mutex::default(),
        })
    }

    /// What keeps the first provider, while it is being linked.
    pub fn first(&self, kept: &Arc<Kept>) -> Arc<Kept> {
        let mut first = lock(&self.first);
        first.upgrade().unwrap_or_else(|| {
            let made = kept.within();
            *first = Arc::downgrade(&made);
            made
        })
    }

    fn audit(&self) -> Option<Audit> {
        self.audit.as_ref().and_then(Weak::upgrade).map(Audit)
    }

    /// Adds a function with its first provider.
    pub fn add(
        &self,
        f: &Arc<FuncTy>,
        offered: Offered,
        generation: Arc<loop_engine::Generation>,
        keeps: Arc<Kept>,
    ) -> AnySlot {
        let (tally, hold, audit) = (self.tally.clone(), self.hold.clone(), self.audit());
        let audit = audit.as_ref();
        let slot = match offered {
            Offered::Python(i) => AnySlot::Python(loop_engine::Slot::new(
                told(audit, f, i),
                generation,
                keeps,
                tally,
                hold,
            )),
            Offered::Neutral(i) => AnySlot::Neutral(loop_engine::Slot::new(
                told(audit, f, i),
                generation,
                keeps,
                tally,
                hold,
            )),
            Offered::Encoded(i) => AnySlot::Encoded(loop_engine::Slot::new(
                told(audit, f, i),
                generation,
                keeps,
                tally,
                hold,
            )),
        };
        lock(&self.members).push((f.clone(), Known::of(&slot)));
        slot
    }

    /// Says what objects of a resource may be of from now on: of `class` and of what was said before it.
    pub fn class_of(
        &self,
        py: Python<'_>,
        r: &Arc<Resource>,
        class: Option<Bound<'_, PyType>>,
    ) -> PyResult<()> {
        let Some(kept) = self.kept.upgrade() else {
            return Ok(()); // the component has gone
        };
        let mut classes = lock(&self.classes);
        let new = class.map(|class| class.into_any().unbind());
        let Some(place) = classes.get(&*r.name) else {
            let all = PyTuple::new(py, new)?.into_any().unbind();
            let anchor = kept.keep(all);
            classes.insert(r.name.to_string(), anchor.place());
            let _ = r.ext.set(Box::new(anchor));
            return Ok(());
        };
        let known = kept.at(*place);
        let before = known.get(py).and_then(|all| all.bind(py).get_item(0).ok());
        // objects of the one before are around until it is drained; without a class any object will do
        let all: Vec<_> = match new {
            Some(new) => std::iter::once(new).chain(before.map(Bound::unbind)).collect(),
            None => vec![],
        };
        known.set(PyTuple::new(py, all)?.into_any().unbind());
        Ok(())
    }
}

impl Slot {
    fn there(&self) -> Vec<AnySlot> {
        let members = lock(&self.members).clone();
        members.iter().filter_map(|(_, slot)| slot.get()).collect()
    }
}

#[pymethods]
impl Slot {
    /// Begins an exchange: what is linked to what this returns serves once it is committed, by `generation`.
    fn exchange(slf: Bound<'_, Self>, generation: &Generation) -> PyResult<Exchange> {
        let this = slf.get();
        let kept = this.kept.upgrade().map(|kept| kept.within());
        Ok(Exchange {
            generation: generation.held()?,
            kept: kept.unwrap_or_default(),
            slot: slf.unbind(),
            made: vec![],
            classes: vec![],
        })
    }

    /// Has the calls to come wait. Returns what is awaited until those that have begun have ended; their resources and
    /// streams may go on.
    fn hold(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.hold.set(true);
        let hold = self.hold.clone();
        let quiet = async move {
            hold.quiet().await;
            Ok(Python::attach(|py| py.None()))
        };
        awaited(py, self.hub.as_ref(), quiet)
    }

    /// Has them go on.
    fn let_go(&self) {
        self.hold.set(false);
    }

    /// Lets go of providers of which nothing is left.
    fn prune(&self) {
        for slot in self.there() {
            match slot {
                AnySlot::Python(slot) => slot.prune(),
                AnySlot::Neutral(slot) => slot.prune(),
                AnySlot::Encoded(slot) => slot.prune(),
            }
        }
    }

    /// Whether the component is still there.
    #[getter]
    fn alive(&self) -> bool {
        lock(&self.members).is_empty() || !self.there().is_empty()
    }

    /// Calls that have ended, those of them that failed, and the nanoseconds that they took together.
    #[getter]
    fn tally(&self) -> (u64, u64, u64) {
        let t = &self.tally;
        (
            t.calls.load(Relaxed),
            t.errors.load(Relaxed),
            t.busy.load(Relaxed),
        )
    }
}

/// A provider on its way into a slot: it is linked as to a `Link`.
#[pyclass(module = "loop_kit._core")]
pub struct Exchange {
    slot: Py<Slot>,
    generation: Arc<loop_engine::Generation>,
    kept: Arc<Kept>,
    made: Vec<(Arc<FuncTy>, Offered)>,
    classes: Vec<(Arc<Resource>, Option<Py<PyType>>)>,
}

#[pymethods]
impl Exchange {
    #[pyo3(signature = (interface, name, target, method = None, waits = false))]
    fn define(
        &mut self,
        interface: &str,
        name: &str,
        target: Option<Py<PyAny>>,
        method: Option<Py<PyString>>,
        waits: bool,
    ) -> PyResult<()> {
        let slot = self.slot.get();
        let f = slot.wanted.function(name).cloned();
        let f = f.ok_or_else(|| PyKeyError::new_err(format!("{interface}#{name}")))?;
        let target = Target::of(target, method, self.kept.clone())?;
        let import = offer::python(&f, target, waits, slot.hub.clone());
        self.made.push((f, Offered::Python(import)));
        Ok(())
    }

    #[pyo3(signature = (interface, name, class_ = None))]
    fn define_resource(&mut self, interface: &str, name: &str, class_: Option<Py<PyType>>) -> PyResult<()> {
        let r = self.slot.get().wanted.resource(name).cloned();
        let r = r.ok_or_else(|| PyKeyError::new_err(format!("{interface}#{name}")))?;
        self.classes.push((r, class_));
        Ok(())
    }

    fn define_native(&mut self, _interface: &str, provider: &Native) -> Vec<Problem> {
        let (made, problems) = offer::native(&self.slot.get().wanted, provider);
        self.made.extend(made);
        problems
    }

    fn define_remote(&mut self, _interface: &str, route: &Route) -> Vec<Problem> {
        let (made, problems) = offer::remote(&self.slot.get().wanted, route);
        self.made.extend(made);
        problems
    }

    fn define_program(&mut self, _interface: &str, provider: Py<Program>) -> Vec<Problem> {
        let slot = self.slot.get();
        let (made, problems) = offer::program(&slot.wanted, &provider, slot.hub.clone());
        self.kept.keep(provider.into_any());
        self.made.extend(made);
        problems
    }

    /// Has the calls to come go to the provider. Raises RuntimeError where functions were not linked.
    fn commit(&mut self, py: Python<'_>) -> PyResult<()> {
        let slot = self.slot.get();
        let members = lock(&slot.members).clone();
        let made = std::mem::take(&mut self.made);
        if !slot.alive() {
            return Ok(());
        }
        let mut found = vec![];
        for (f, offered) in made {
            let member = members.iter().find(|(known, _)| known.name == f.name);
            found.extend(member.and_then(|(_, slot)| Some((f, slot.get()?, offered))));
        }
        if found.len() != members.len() {
            return Err(PyRuntimeError::new_err(
                "functions of the interface were not linked",
            ));
        }
        for (r, class) in std::mem::take(&mut self.classes) {
            slot.class_of(py, &r, class.map(|class| class.into_bound(py)))?;
        }
        for (f, member, offered) in found {
            match member {
                AnySlot::Python(to) => self.fill(&*to, &f, offered),
                AnySlot::Neutral(to) => self.fill(&*to, &f, offered),
                AnySlot::Encoded(to) => self.fill(&*to, &f, offered),
            }
        }
        Ok(())
    }
}

impl Exchange {
    fn fill<D: Shown>(&self, to: &loop_engine::Slot<D>, f: &Arc<FuncTy>, offered: Offered) {
        let slot = self.slot.get();
        let (audit, hub) = (slot.audit(), &slot.hub);
        let audit = audit.as_ref();
        let import = match offered {
            Offered::Python(i) => adapted(f, told(audit, f, i), hub),
            Offered::Neutral(i) => adapted(f, told(audit, f, i), hub),
            Offered::Encoded(i) => adapted(f, told(audit, f, i), hub),
        };
        to.exchange(import, self.generation.clone(), self.kept.clone());
    }
}

/// An import in another representation of values.
fn adapted<E: Domain, D: Domain>(
    f: &Arc<FuncTy>,
    import: Import<E>,
    hub: &Option<Arc<HubInner>>,
) -> Import<D> {
    let import = match same::<E, D>(import) {
        Ok(import) => return import,
        Err(import) => import,
    };
    let (f, hub, waits) = (f.clone(), hub.clone(), import.waits);
    let call = move |args: Vec<D::Value>| {
        let args = match apart(&hub, || convert_all::<D, E>(&f.param_tuple, args)) {
            Ok(args) => args,
            Err(e) => return Outcome::Ready(Err(e)),
        };
        match (import.call)(args) {
            Outcome::Ready(out) => Outcome::Ready(answer::<E, D>(&f, &hub, out)),
            Outcome::Later(later) => {
                let (f, hub) = (f.clone(), hub.clone());
                Outcome::Later(Box::pin(async move { answer::<E, D>(&f, &hub, later.await) }))
            }
        }
    };
    Import {
        call: Arc::new(call),
        waits,
    }
}

/// The import itself where both representations are one.
fn same<E: Domain, D: Domain>(import: Import<E>) -> Result<Import<D>, Import<E>> {
    let any: Box<dyn std::any::Any> = Box::new(import);
    match any.downcast::<Import<D>>() {
        Ok(import) => Ok(*import),
        Err(any) => match any.downcast::<Import<E>>() {
            Ok(import) => Err(*import),
            Err(_) => unreachable!("it was made of one"),
        },
    }
}

fn answer<E: Domain, D: Domain>(
    f: &Arc<FuncTy>,
    hub: &Option<Arc<HubInner>>,
    out: wasmtime::Result<Option<E::Value>>,
) -> wasmtime::Result<Option<D::Value>> {
    let Some(value) = out? else { return Ok(None) };
    apart(hub, || {
        let built = converted_all::<E, D>(&f.result_tuple, &[value])?;
        D::readable(&f.result_tuple, built)
    })
    .map(|mut values| values.pop())
    .map_err(|e| bad_result(f, e))
}

/// Converts with no instance at work: what guests made of streams may go anywhere.
fn apart<R>(hub: &Option<Arc<HubInner>>, f: impl FnOnce() -> R) -> R {
    match hub {
        Some(hub) => hub::within(hub, || outside(f)),
        None => outside(f),
    }
}
