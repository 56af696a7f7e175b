//! Handles to resources that guests define.

use std::sync::{Arc, Mutex};

use wasmtime::Result;
use wasmtime::component::ResourceAny;

use crate::error::{Fault, Mismatch};
use crate::instance::Home;
use crate::scope::lock;
use crate::types::Resource;

/// A resource that a guest defines, held by the host.
///
/// Dropping the last reference drops the resource in its instance, at the latest when that instance is next used.
pub struct GuestHandle {
    any: Mutex<Option<ResourceAny>>,
    /// A handle keeps its instance, for as long as its program is not closed.
    home: Arc<Home>,
    pub resource: Arc<Resource>,
    own: bool,
}

impl GuestHandle {
    pub(crate) fn new(any: ResourceAny, home: Arc<Home>, resource: Arc<Resource>, own: bool) -> Arc<Self> {
        Arc::new(GuestHandle {
            any: Mutex::new(Some(any)),
            home,
            resource,
            own,
        })
    }

    /// Whether the handle may be given to `to` as a `resource`.
    pub(crate) fn check(&self, to: &Home, resource: &Arc<Resource>, own: bool) -> Result<()> {
        let wrong = |what: &str| Err(Mismatch::new("", what).into());
        if !std::ptr::eq(&*self.home, to) {
            if self.home.is_dead() {
                return Err(Fault::Gone("it trapped, and its resources with it".into()).into());
            }
            return wrong("a resource of another component instance");
        }
        if !Arc::ptr_eq(&self.resource, resource) {
            return wrong(&format!("a {}", self.resource.name));
        }
        if own && !self.own {
            return wrong("a borrowed resource, where an owned one is moved");
        }
        if lock(&self.any).is_none() {
            return wrong("a resource that was moved or dropped");
        }
        Ok(())
    }

    /// The wasmtime handle to lower into the instance `to`; an owned one is moved out.
    pub(crate) fn give(&self, to: &Home, resource: &Arc<Resource>, own: bool) -> Result<ResourceAny> {
        self.check(to, resource, own)?;
        let mut any = lock(&self.any);
        let handle = if own { any.take() } else { *any };
        handle.ok_or_else(|| Mismatch::new("", "a resource that was moved or dropped").into())
    }

    /// The instance that defines the resource.
    pub fn home(&self) -> Arc<Home> {
        self.home.clone()
    }

    /// Whether the resource is still here to be used.
    pub fn is_live(&self) -> bool {
        lock(&self.any).is_some() && !self.home.is_dead()
    }

    /// Drops the resource when its instance runs next: dropping runs guest code, which must not happen on whatever
    /// thread and stack this is called from.
    pub fn discard(&self) {
        if self.own
            && let Some(any) = lock(&self.any).take()
        {
            self.home.drop_later(any);
        }
    }
}

impl Drop for GuestHandle {
    fn drop(&mut self) {
        self.discard();
    }
}
