//! What the links of a session reach: the providers made for them, and the resources that their peer holds.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use loop_wire::codec::{Cursor, put_unsigned};
use loop_wire::{Code, Failure};

use crate::answer::Service;
use crate::call::Link;

/// Resources that one link may hold.
const MOST: usize = 1 << 16;

pub(crate) type Services = Vec<Arc<dyn Service>>;

/// A link that is bound.
pub(crate) struct Bound {
    pub link: Arc<Link>,
    services: RwLock<Services>,
    pub handles: Handles,
}

impl Bound {
    pub fn new(link: Arc<Link>, services: Services) -> Self {
        Bound {
            link,
            services: RwLock::new(services),
            handles: Handles::default(),
        }
    }

    /// What serves an interface now.
    pub fn service(&self, interface: usize) -> Option<Arc<dyn Service>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(interface).cloned()
    }

    /// Has new calls served by others.
    pub fn exchange(&self, services: Services) {
        *self.services.write().unwrap_or_else(PoisonError::into_inner) = services;
    }
}

type Held = Arc<dyn Any + Send + Sync>;

/// The resources of a link, by handle.
#[derive(Default)]
pub(crate) struct Handles(Mutex<(u64, HashMap<u64, Held>)>);

impl Handles {
    fn all(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<u64, Held>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a resource to the peer; its number.
    ///
    /// Errors with `overloaded` where the link holds too many.
    pub fn give(&self, resource: Held) -> Result<u64, Failure> {
        let mut all = self.all();
        if all.1.len() >= MOST {
            let message = format!("a link may hold {MOST} resources, and does; drop some");
            return Err(Failure::new(Code::Overloaded, message).with("limit", MOST));
        }
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, resource);
        Ok(number)
    }

    /// The resource of a handle; `own`: it is the peer's no more.
    ///
    /// Errors with `bad-handle` where it is none of this link, or of another type.
    pub fn take<R: Any + Send + Sync>(&self, handle: &[u8], own: bool) -> Result<Arc<R>, Failure> {
        let bad = || {
            Failure::new(
                Code::BadHandle,
                "no such resource: it was dropped, or belongs to another link",
            )
        };
        let number = number(handle).ok_or_else(bad)?;
        let mut all = self.all();
        let held = all.1.get(&number).cloned().ok_or_else(bad)?;
        let resource = held.downcast().map_err(|_| bad())?;
        if own {
            all.1.remove(&number);
        }
        Ok(resource)
    }

    /// The peer let go of a handle, or never got it.
    pub fn remove(&self, number: u64) {
        // what is dropped may do anything, so not under the lock
        let gone = self.all().1.remove(&number);
        drop(gone);
    }

    /// The same by the bytes of a handle.
    pub fn dropped(&self, handle: &[u8]) {
        if let Some(number) = number(handle) {
            self.remove(number);
        }
    }
}

/// The bytes of a handle.
pub(crate) fn bytes(number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    put_unsigned(&mut bytes, number);
    bytes
}

fn number(handle: &[u8]) -> Option<u64> {
    let mut from = Cursor::new(handle);
    let number = from.unsigned(64).ok()?;
    from.end().ok()?;
    Some(number)
}
