//! Destructors of resources whose handles died outside of any call.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Wake, Waker};

use loop_engine::Home;
use pyo3::prelude::*;

use crate::hub::{HubInner, lock, polling};

/// Destructors that run, on the loop of a hub.
pub struct Sweep {
    hub: Weak<HubInner>,
    /// None once they have run, and while they do.
    future: Mutex<Option<Swept>>,
}

type Swept = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

impl Sweep {
    /// Those that wait in an instance.
    pub fn new(hub: &Arc<HubInner>, home: &Arc<Home>) -> Arc<Self> {
        Arc::new(Sweep {
            hub: Arc::downgrade(hub),
            future: Mutex::new(Some(Box::pin(home.clone().swept()))),
        })
    }

    pub fn poll(self: &Arc<Self>, py: Python<'_>, hub: &Arc<HubInner>) {
        let Some(mut future) = lock(&self.future).take() else {
            return;
        };
        let waker = Waker::from(self.clone());
        let (polled, requests) = polling(false, || future.as_mut().poll(&mut Context::from_waker(&waker)));
        for request in requests {
            hub.spawn(py, request);
        }
        // a destructor that traps ends the instance, which whoever uses it next learns
        if polled.is_pending() {
            *lock(&self.future) = Some(future);
        }
    }
}

impl Wake for Sweep {
    fn wake(self: Arc<Self>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.again(self);
        }
    }
}
