//! What one component may use, and the meter that enforces it in a Store.

use std::time::Duration;

use wasmtime::{ResourceLimiter, Result};

use crate::error::{Fault, fault_of};

/// How many instances serve a component's calls, and for how long each lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// A fresh instance for each call; nothing survives it.
    PerCall,
    /// One instance for all calls; its state survives.
    Shared,
    /// Up to so many instances, reused one call at a time.
    Pool(usize),
}

/// Limits of one component. Every field has a default; none is unlimited but fuel, which is off.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Linear memory of one instance, all memories together, bytes.
    pub memory: usize,
    /// Table elements of one instance, all tables together.
    pub table_elements: usize,
    /// Wall-clock time of one call; `None`: unlimited.
    pub deadline: Option<Duration>,
    /// CPU time of one call; `None`: unlimited.
    pub cpu: Option<Duration>,
    /// Fuel of one call, for determinism; `None`: not counted.
    pub fuel: Option<u64>,
    /// Calls at once.
    pub concurrent_calls: usize,
    /// Host memory that the values of one transfer from the guest may take, bytes.
    pub payload: usize,
    /// `None`: shared where an export deals in resources, per call otherwise.
    pub instances: Option<Instances>,
    /// How long a cancelled call on a shared instance may run on before the instance is retired.
    pub cancel_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 256 << 20,
            table_elements: 1 << 20,
            deadline: Some(Duration::from_secs(30)),
            cpu: Some(Duration::from_secs(30)),
            fuel: None,
            concurrent_calls: 256,
            payload: 256 << 20,
            instances: None,
            cancel_grace: Duration::from_secs(1),
        }
    }
}

/// Counts what an instance allocates.
pub(crate) struct Meter {
    memory_left: usize,
    elements_left: usize,
    memory_limit: usize,
    /// An allocation was refused: most guests trap soon after, and that is then the cause to name.
    pub refused: bool,
}

impl Meter {
    pub fn new(limits: &Limits) -> Self {
        Meter {
            memory_left: limits.memory,
            elements_left: limits.table_elements,
            memory_limit: limits.memory,
            refused: false,
        }
    }

    pub fn fault(&self) -> Option<Fault> {
        self.refused.then_some(Fault::Memory {
            limit: self.memory_limit,
        })
    }

    /// A trap, or a failed instantiation, that follows a refused allocation is that refusal's doing.
    pub fn explain(&self, e: wasmtime::Error) -> wasmtime::Error {
        match self.fault() {
            Some(fault) if fault_of(&e).is_none() => e.context(fault),
            _ => e,
        }
    }

    fn take(left: &mut usize, current: usize, desired: usize) -> bool {
        match left.checked_sub(desired.saturating_sub(current)) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false); // the module's own maximum, not ours
        }
        let granted = Meter::take(&mut self.memory_left, current, desired);
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(
            maximum.is_none_or(|max| desired <= max)
                && Meter::take(&mut self.elements_left, current, desired),
        )
    }

    // Composed components hold many small modules; memory and elements are what bounds them.
    fn instances(&self) -> usize {
        10_000
    }
    fn tables(&self) -> usize {
        10_000
    }
    fn memories(&self) -> usize {
        1_000
    }
}
