//! What a peer's calls reach: objects bound for its links, their resources, the tasks at work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use loop_engine::{Handle, Mismatch, Resource};
use loop_remote::{Failed, Handles};
use loop_wire::codec::{Cursor, put_unsigned};
use loop_wire::{Code, Failure};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};
use wasmtime::{Error, Result};

use super::conn::Wire;
use super::jobs::Job;
use crate::domain::{PyObjectHandle, wrapped};
use crate::hub::lock;
use crate::read::unwrapped;
use crate::values::{Handle as GuestObject, NativeHandle};

/// Resources that one link may hold.
const MOST: usize = 1 << 16;

/// What answers a function.
pub enum Target {
    Callable(Py<PyAny>),
    /// The method of that name of the first argument.
    Method(Py<PyString>),
}

/// The number of the last resource, and those that the peer holds.
type Held = (u64, HashMap<u64, Py<PyAny>>);

/// What a link's calls reach.
#[derive(Default)]
pub struct Bound {
    /// By number of the function: what answers, and whether it gives a coroutine.
    pub targets: Vec<Option<(Target, bool)>>,
    /// As whoever bound it calls it; none for calls without a link.
    pub name: Option<Arc<str>>,
    handles: Arc<Mutex<Held>>,
}

/// The links of a session, and the tasks that answer its calls.
#[derive(Default)]
pub struct Links {
    bound: Mutex<HashMap<u32, Arc<Bound>>>,
    tasks: Mutex<HashMap<u32, Py<PyAny>>>,
    /// Calls that were read and are to be begun.
    jobs: Mutex<Vec<Py<Job>>>,
}

impl Links {
    pub fn get(&self, link: u32) -> Option<Arc<Bound>> {
        lock(&self.bound).get(&link).cloned()
    }

    pub fn bind(&self, link: u32, bound: Bound) {
        let old = lock(&self.bound).insert(link, Arc::new(bound));
        drop(old);
    }

    /// Has other targets answer a link's calls to come; the peer keeps the resources that it holds.
    pub fn replace(&self, link: u32, mut bound: Bound) {
        if let Some(old) = self.get(link) {
            bound.handles = old.handles.clone();
            bound.name = old.name.clone();
        }
        self.bind(link, bound);
    }

    pub fn unbind(&self, link: u32) {
        let old = lock(&self.bound).remove(&link);
        drop(old); // with the lock let go: dropping may run any code
    }

    /// The peer let go of a handle.
    pub fn dropped(&self, link: u32, handle: &[u8]) {
        let object = self.get(link).and_then(|b| b.remove(handle));
        drop(object);
    }

    pub fn at_work(&self, stream: u32, task: Py<PyAny>) {
        lock(&self.tasks).insert(stream, task);
    }

    pub fn done(&self, stream: u32) {
        let task = lock(&self.tasks).remove(&stream);
        drop(task);
    }

    pub fn later(&self, job: Py<Job>) -> PyResult<()> {
        lock(&self.jobs).push(job);
        Ok(())
    }

    pub fn take_jobs(&self) -> Vec<Py<Job>> {
        std::mem::take(&mut *lock(&self.jobs))
    }

    /// Cancels the task that answers a call.
    pub fn cancel(&self, py: Python<'_>, stream: u32) -> PyResult<()> {
        let task = lock(&self.tasks).get(&stream).map(|t| t.clone_ref(py));
        match task {
            Some(task) => task.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// Cancels all and lets go of all.
    pub fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let tasks: Vec<_> = lock(&self.tasks).drain().map(|(_, t)| t).collect();
        for task in tasks {
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        for job in self.take_jobs() {
            job.call_method0(py, intern!(py, "close"))?;
        }
        let bound = std::mem::take(&mut *lock(&self.bound));
        drop(bound);
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        if let Ok(bound) = self.bound.try_lock() {
            for target in bound.values().flat_map(|b| b.targets.iter().flatten()) {
                if let (Target::Callable(c), _) = target {
                    visit.call(c)?;
                }
            }
        }
        Ok(())
    }
}

impl Bound {
    pub fn of(targets: Vec<Option<(Target, bool)>>, name: Option<Arc<str>>) -> Self {
        Bound {
            targets,
            name,
            handles: Arc::default(),
        }
    }

    fn remove(&self, handle: &[u8]) -> Option<Py<PyAny>> {
        let id = Cursor::new(handle).unsigned(64).ok()?;
        lock(&self.handles).1.remove(&id)
    }
}

fn bad_handle(resource: &Resource) -> Error {
    let text = format!(
        "no such {}: it was dropped, or belongs to another link",
        resource.name
    );
    Error::new(Failed(Failure::new(Code::BadHandle, text)))
}

/// The handles of a link that is served.
pub struct Served(pub Arc<Bound>);

impl Handles for Served {
    fn give(&self, resource: &Arc<Resource>, _own: bool, handle: Handle) -> Result<Vec<u8>> {
        let object = Python::attach(|py| match handle {
            Handle::Guest(guest) => match Py::new(py, GuestObject { guest }) {
                Ok(object) => Ok(object.into_any()),
                Err(e) => Err(crate::domain::failure(e)),
            },
            Handle::Host(object) => match object.downcast_ref::<PyObjectHandle>() {
                Some(object) => Ok(object.0.clone_ref(py)),
                None => match Py::new(py, NativeHandle::new(resource.name.clone(), object.clone())) {
                    Ok(native) => Ok(native.into_any()),
                    Err(e) => Err(crate::domain::failure(e)),
                },
            },
        })?;
        let mut handles = lock(&self.0.handles);
        if handles.1.len() >= MOST {
            let failure = Failure::new(Code::Overloaded, "more resources than one link may hold");
            return Err(Error::new(Failed(failure.with("limit", MOST))));
        }
        handles.0 += 1;
        let id = handles.0;
        handles.1.insert(id, object);
        let mut bytes = vec![];
        put_unsigned(&mut bytes, id);
        Ok(bytes)
    }

    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        let id = Cursor::new(bytes)
            .unsigned(64)
            .map_err(|_| bad_handle(resource))?;
        let found = Python::attach(|py| {
            let mut handles = lock(&self.0.handles);
            let object = handles.1.get(&id)?.clone_ref(py);
            let handle = if let Ok(guest) = object.cast_bound::<GuestObject>(py) {
                Handle::Guest(guest.get().guest.clone())
            } else if let Ok(native) = object.cast_bound::<NativeHandle>(py) {
                Handle::Host(native.get().object(own)?)
            } else {
                Handle::Host(Arc::new(PyObjectHandle(object)))
            };
            // a component's are told apart by their types; a provider's class says itself what it takes
            if matches!(&handle, Handle::Guest(g) if !Arc::ptr_eq(&g.resource, resource)) {
                return None;
            }
            if own {
                handles.1.remove(&id);
            }
            Some(handle)
        });
        found.ok_or_else(|| bad_handle(resource))
    }
}

/// A resource that the peer implements. Dropped with its last reference.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct RemoteHandle {
    wire: Py<Wire>,
    link: u32,
    resource: u32,
    name: Arc<str>,
    bytes: Mutex<Option<Vec<u8>>>,
}

#[pymethods]
impl RemoteHandle {
    /// Lets the peer drop the resource. Again is harmless.
    fn drop(&self) {
        let bytes = lock(&self.bytes).take();
        if let Some(bytes) = bytes {
            self.wire.get().let_go_later(self.link, self.resource, bytes)
        }
    }

    fn __repr__(&self) -> String {
        let state = if lock(&self.bytes).is_some() { "" } else { ", gone" };
        format!("<{} resource of a peer{state}>", self.name)
    }
}

impl Drop for RemoteHandle {
    fn drop(&mut self) {
        if let Some(bytes) = lock(&self.bytes).take() {
            // within the collector no session may be touched: it is told in its next turn
            self.wire.get().let_go_later(self.link, self.resource, bytes);
        }
    }
}

/// The handles of a link that is called.
pub struct Called {
    pub wire: Py<Wire>,
    pub link: u32,
}

impl Handles for Called {
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        Python::attach(|py| {
            let object = match &handle {
                Handle::Host(object) => object.downcast_ref::<PyObjectHandle>(),
                Handle::Guest(_) => None,
            };
            let proxy = object.map(|o| unwrapped(o.0.bind(py))).transpose()?;
            let proxy = proxy.as_ref().and_then(|o| o.cast::<RemoteHandle>().ok());
            let proxy = proxy.filter(|p| p.get().wire.is(&self.wire) && p.get().link == self.link);
            let Some(proxy) = proxy else {
                let wanted = format!("a {} of this session", resource.name);
                return Err(Mismatch::new(wanted, "something else").into());
            };
            let mut bytes = lock(&proxy.get().bytes);
            let there = if own { bytes.take() } else { bytes.clone() };
            there.ok_or_else(|| Mismatch::new(&*resource.name, "a resource that was given away").into())
        })
    }

    fn take(&self, resource: &Arc<Resource>, _own: bool, bytes: &[u8]) -> Result<Handle> {
        Python::attach(|py| {
            let number = self.wire.get().imported(&resource.interface, &resource.name);
            let proxy = RemoteHandle {
                wire: self.wire.clone_ref(py),
                link: self.link,
                resource: number.ok_or_else(|| bad_handle(resource))?,
                name: resource.name.clone(),
                bytes: Mutex::new(Some(bytes.to_vec())),
            };
            let object = Py::new(py, proxy).map_err(crate::domain::failure)?.into_any();
            let object = wrapped(py, resource, object)?;
            Ok(Handle::Host(Arc::new(PyObjectHandle(object))))
        })
    }
}
