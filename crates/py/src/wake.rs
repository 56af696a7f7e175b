//! What wakes the tasks that wait for components.

use std::sync::{Arc, Mutex};
use std::task::Wake;

use pyo3::intern;
use pyo3::prelude::*;

use crate::hub::{HubInner, lock};

/// The waker of one awaitable of ours: completes the asyncio future that its task waits for.
pub struct CallWake {
    state: Mutex<WakeState>,
    hub: Arc<HubInner>,
}

#[derive(Default)]
struct WakeState {
    woken: bool,
    future: Option<Py<PyAny>>,
}

impl CallWake {
    pub fn new(hub: Arc<HubInner>) -> Arc<Self> {
        Arc::new(CallWake {
            state: Mutex::default(),
            hub,
        })
    }

    /// Forgets earlier wakes; before a poll.
    pub fn reset(self: &Arc<Self>) {
        let old = std::mem::take(&mut *lock(&self.state));
        if old.future.is_some() {
            self.hub.unwatch(self);
        }
    }

    /// Whether some task waits for the future of this wake, and no wake has come.
    pub fn is_awaited(&self) -> bool {
        let state = lock(&self.state);
        state.future.is_some() && !state.woken
    }

    /// What the task waits for, to be completed by whoever takes it.
    pub fn take_future(&self) -> Option<Py<PyAny>> {
        lock(&self.state).future.take()
    }

    pub fn woken(&self) -> bool {
        lock(&self.state).woken
    }

    /// What to yield to asyncio: a future that the next wake completes, or None where it was woken already.
    pub fn wait(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.woken() {
            return Ok(py.None());
        }
        let future = self.hub.create_future(py)?;
        // what `Future.__await__` does before it yields itself
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let mut state = lock(&self.state);
        if state.woken {
            return Ok(py.None());
        }
        state.future = Some(future.clone().unbind());
        drop(state);
        self.hub.watch(self);
        Ok(future.unbind())
    }
}

impl Wake for CallWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.woken, true) {
            return;
        }
        if state.future.is_some() {
            drop(state);
            self.hub.woken(self.clone());
        }
    }
}
