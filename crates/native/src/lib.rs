//! Native providers of the `loop:*` capabilities, one module each.
//!
//! A capability reads its grant once and gives a [`Provider`]: host functions by name, ready to be linked. Nothing
//! here knows components, Python or the manifest; what a provider needs of its host comes as [`HostServices`].

mod core;
mod error;
mod fsx;
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

use loop_engine::{Import, Neutral};
use serde_json::Value as Json;

pub use crate::core::{Level, Record};
pub use crate::error::ProviderError;

/// What providers need of the host that links them.
#[derive(Clone)]
pub struct HostServices {
    /// Takes the log records that a grant lets through. Called on whatever thread runs the component; must not block.
    pub log: Arc<dyn Fn(Record) + Send + Sync>,
    /// The runtime whose blocking threads read streams.
    pub io: tokio::runtime::Handle,
    /// Bytes that one answer may have: the component's `payload` limit.
    pub payload: usize,
}

/// The host functions of one capability under one grant.
pub struct Provider {
    /// By interface and WIT name, without package and version: `files#roots`, `files#[method]dir.list`.
    pub functions: BTreeMap<&'static str, Import<Neutral>>,
}

impl Provider {
    /// The function that serves `function` of `interface`, which may carry package and version
    /// (`loop:fsx/files@0.1.0-dev`); these are not compared.
    pub fn import(&self, interface: &str, function: &str) -> Option<&Import<Neutral>> {
        let interface = interface.rsplit('/').next()?.split('@').next()?;
        self.functions.get(format!("{interface}#{function}").as_str())
    }
}

/// A capability that this crate serves.
pub struct Capability {
    /// `fsx`.
    pub name: &'static str,
    /// Its interfaces, with package and version: `loop:fsx/files@0.1.0-dev`.
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
