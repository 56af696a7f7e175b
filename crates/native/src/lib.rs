//! Native providers of the `loop:*` capabilities, one module each.
//!
//! A capability reads its grant once and gives a [`Provider`]: host functions by name, ready to be linked. Nothing
//! here knows components, Python or the manifest; what a provider needs of its host comes as [`HostServices`].

mod core;
mod error;
mod fsx;
mod hints;
mod keyvalue;
#[cfg(unix)]
pub mod launch;
mod netx;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use loop_engine::{Import, Neutral, Trace};
use serde_json::Value as Json;

pub use crate::core::{Attribute, Attributes, Instrument, Level, Record};
pub use crate::error::ProviderError;

/// What providers need of the host that links them.
#[derive(Clone)]
pub struct HostServices {
    /// Hears what components tell of themselves.
    pub observer: Arc<dyn Observer>,
    /// The runtime whose blocking threads read streams.
    pub io: tokio::runtime::Handle,
    /// Bytes that one answer may have: the component's `payload` limit.
    pub payload: usize,
}

/// Hears what components tell of themselves, as far as their grants let it through. Called on whatever thread runs the
/// component; must not block.
pub trait Observer: Send + Sync {
    /// A log record.
    fn log(&self, record: Record);
    /// Whether anybody is there for measurements and spans; else none are made.
    fn listens(&self) -> bool;
    fn measured(&self, measurement: Measurement);
    /// A span is over.
    fn ended(&self, span: Ended);
    /// The span that the call at work belongs to.
    fn current(&self) -> Option<Trace>;
}

/// One value of an instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub instrument: Instrument,
    pub name: Arc<str>,
    pub unit: Arc<str>,
    pub description: Arc<str>,
    /// What was added, set or counted in.
    pub value: f64,
    pub attributes: Attributes,
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub name: String,
    /// By its number in the WIT.
    pub kind: usize,
    pub context: Trace,
    /// `tracestate`.
    pub state: String,
    pub parent: Option<Trace>,
    pub began: SystemTime,
    pub ended: SystemTime,
    pub attributes: Attributes,
    /// Name, time and attributes.
    pub events: Vec<(String, SystemTime, Attributes)>,
    /// By its number in the WIT, and why it failed.
    pub status: (usize, String),
    /// Attributes and events that the grant had no room for.
    pub dropped: usize,
}

/// The host functions of one capability under one grant.
pub struct Provider {
    /// The capability's.
    pub interfaces: &'static [&'static str],
    /// By interface and WIT name, without package and version: `files#roots`, `files#[method]dir.list`.
    pub functions: BTreeMap<&'static str, Import<Neutral>>,
}

impl Provider {
    /// The function that serves `function` of `interface`, which may carry package and version
    /// (`loop:fsx/files@0.1.0`); these are not compared.
    pub fn import(&self, interface: &str, function: &str) -> Option<&Import<Neutral>> {
        let interface = interface.rsplit('/').next()?.split('@').next()?;
        self.functions.get(format!("{interface}#{function}").as_str())
    }
}

/// A capability that this crate serves.
pub struct Capability {
    /// `fsx`.
    pub name: &'static str,
    /// Its interfaces, with package and version: `loop:fsx/files@0.1.0`.
    pub interfaces: &'static [&'static str],
    provide: fn(&Json, &Json, HostServices) -> Result<Provider, ProviderError>,
}

/// Every capability that this crate serves, by name.
pub const CAPABILITIES: &[Capability] = &[
    core::CAPABILITY,
    fsx::CAPABILITY,
    keyvalue::CAPABILITY,
    netx::CAPABILITY,
    #[cfg(target_os = "linux")]
    process::CAPABILITY,
];

/// The provider of the capability `name` under `grant`.
///
/// `config` and `grant` are objects, or null for the defaults; each capability's module documents its keys. Errors
/// when there is no such capability, on an unknown key, and on a value that does not fit or cannot be served.
pub fn provider(
    name: &str,
    config: &Json,
    grant: &Json,
    host: HostServices,
) -> Result<Provider, ProviderError> {
    match CAPABILITIES.iter().find(|c| c.name == name) {
        Some(capability) => (capability.provide)(config, grant, host),
        None => {
            let known: Vec<_> = CAPABILITIES.iter().map(|c| c.name).collect();
            Err(ProviderError::new(
                "name",
                format!(
                    "there is no native provider `{name}`; use one of: {}",
                    known.join(", ")
                ),
            ))
        }
    }
}
