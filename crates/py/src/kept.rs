//! Python objects that a linked component needs: providers, and the classes of its resources.
//!
//! The engine's closures must not own them: providers often know the component that they serve, and Python's
//! collector does not see through the engine. They are kept in one place instead, which `Program` shows to the
//! collector and empties when its host closes, and the closures find them there.

use std::sync::{Arc, Mutex, Weak};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::hub::lock;

#[derive(Default)]
pub struct Kept {
    objects: Mutex<Vec<Py<PyAny>>>,
    /// What is kept for providers that may go before the component does.
    within: Mutex<Vec<Weak<Kept>>>,
}

/// Where an object is kept.
#[derive(Clone, Copy)]
pub struct Place(usize);

/// One object that is kept.
pub struct Anchor {
    kept: Arc<Kept>,
    index: usize,
}

impl Kept {
    pub fn keep(self: &Arc<Self>, object: Py<PyAny>) -> Anchor {
        let mut objects = lock(&self.objects);
        objects.push(object);
        Anchor {
            kept: self.clone(),
            index: objects.len() - 1,
        }
    }

    pub fn at(self: &Arc<Self>, place: Place) -> Anchor {
        Anchor {
            kept: self.clone(),
            index: place.0,
        }
    }

    /// Keeps for as long as what is returned is there, and this is not cleared.
    pub fn within(&self) -> Arc<Kept> {
        let made = Arc::new(Kept::default());
        let mut within = lock(&self.within);
        within.retain(|w| w.strong_count() > 0);
        within.push(Arc::downgrade(&made));
        made
    }

    /// Lets go of all: whoever asks for one finds it gone.
    pub fn clear(&self) {
        for within in std::mem::take(&mut *lock(&self.within)) {
            if let Some(within) = within.upgrade() {
                within.clear();
            }
        }
        let gone = std::mem::take(&mut *lock(&self.objects));
        drop(gone); // with the lock let go: dropping may run any code
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // whoever holds the lock is about to let go of it, and what cannot be looked at now is not garbage yet
        let (Ok(objects), Ok(within)) = (self.objects.try_lock(), self.within.try_lock()) else {
            return Ok(());
        };
        objects.iter().try_for_each(|object| visit.call(object))?;
        let mut within = within.iter().filter_map(Weak::upgrade);
        within.try_for_each(|within| within.traverse(visit))
    }
}

impl Anchor {
    pub fn place(&self) -> Place {
        Place(self.index)
    }

    /// The object, unless the component was closed.
    pub fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.kept.objects)
            .get(self.index)
            .map(|object| object.clone_ref(py))
    }

    /// Keeps another object in the place of this one, unless the component was closed.
    pub fn set(&self, object: Py<PyAny>) {
        let mut objects = lock(&self.kept.objects);
        let old = objects
            .get_mut(self.index)
            .map(|place| std::mem::replace(place, object));
        drop(objects);
        drop(old); // with the lock let go: dropping may run any code
    }
}
