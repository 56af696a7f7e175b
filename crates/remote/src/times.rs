//! Where the time of calls goes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use loop_wire::session::Times;

use crate::import::lock;

/// Calls whose times are kept until somebody asks.
const KEPT: usize = 1 << 16;

/// One call, in nanoseconds. Durations alone: those of the provider are of its own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Making the bytes of the arguments, as far as that is not done while they are lifted.
    pub encode: u64,
    /// From the session being given the call until whoever waits is given its answer.
    pub session: u64,
    /// Checking the bytes of the result.
    pub decode: u64,
    /// What the provider says; nothing where it does not tell.
    pub theirs: Option<Times>,
}

/// Keeps the times of calls while it is switched on.
#[derive(Default)]
pub struct Watch {
    on: AtomicBool,
    calls: Mutex<Vec<Spent>>,
}

impl Watch {
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub fn switch(&self, on: bool) {
        self.on.store(on, Relaxed);
    }

    pub fn keep(&self, spent: Spent) {
        let mut calls = lock(&self.calls);
        if calls.len() < KEPT {
            calls.push(spent);
        }
    }

    /// What was kept, in the order in which the calls ended; it is kept no longer.
    pub fn take(&self) -> Vec<Spent> {
        std::mem::take(&mut *lock(&self.calls))
    }
}
