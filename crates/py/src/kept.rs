//! Python objects that a linked component needs: providers, and the classes of its resources.
//!
//! The engine's closures must not own them: providers often know the component that they serve, and Python's
//! collector does not see through the engine. They are kept in one place instead, which `Program` shows to the
//! collector and empties when its host closes, and the closures find them there.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::hub::lock;

#[derive(Default)]
pub struct Kept(Mutex<Vec<Py<PyAny>>>);

/// One object that is kept.
pub struct Anchor {
    kept: Arc<Kept>,
    index: usize,
}

impl Kept {
    pub fn keep(self: &Arc<Self>, object: Py<PyAny>) -> Anchor {
        let mut objects = lock(&self.0);
        objects.push(object);
        Anchor {
            kept: self.clone(),
            index: objects.len() - 1,
        }
    }

    /// Lets go of all: whoever asks for one finds it gone.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.0));
        drop(gone); // with the lock let go: dropping may run any code
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // whoever holds the lock is about to let go of it, and what cannot be looked at now is not garbage yet
        let Ok(objects) = self.0.try_lock() else {
            return Ok(());
        };
        objects.iter().try_for_each(|object| visit.call(object))
    }
}

impl Anchor {
    /// The object, unless the component was closed.
    pub fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.kept.0)
            .get(self.index)
            .map(|object| object.clone_ref(py))
    }
}
