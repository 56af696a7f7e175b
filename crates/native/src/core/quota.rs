//! How many things a component may have the host hold.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loop_engine::{Error, Result};
use serde::Deserialize;

/// A key of the grant with one number: `{ max }`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Most {
    max: Option<NonZeroUsize>,
}

impl Most {
    pub(super) fn or(&self, default: usize) -> NonZeroUsize {
        self.max.unwrap_or(NonZeroUsize::new(default).expect("not zero"))
    }
}

/// At most so many things of one kind at once.
#[derive(Clone)]
pub(super) struct Quota {
    /// `timer`, and the key of the grant that says how many: `timers.max`.
    what: &'static str,
    key: &'static str,
    max: usize,
    held: Arc<AtomicUsize>,
}

/// One of them, for as long as it lives.
pub(super) struct Held(Arc<AtomicUsize>);

impl Quota {
    pub(super) fn new(what: &'static str, key: &'static str, max: NonZeroUsize) -> Self {
        Quota {
            what,
            key,
            max: max.get(),
            held: Arc::default(),
        }
    }

    pub(super) fn take(&self) -> Result<Held> {
        let before = self.held.fetch_add(1, Relaxed);
        let held = Held(self.held.clone()); // gives it back where it is one too many
        if before >= self.max {
            let Quota { what, key, max, .. } = self;
            return Err(Error::msg(format!(
                "a {what} too many: `{key}` of the grant is {max}"
            )));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
