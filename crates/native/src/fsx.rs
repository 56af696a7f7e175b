//! `loop:fsx`: files below the roots that a grant names.
//!
//! Config: none. Grant: `{ roots: { NAME: { path, mode, … } }, temp: …, max-read, … }`, see [`Grant`].

mod atomic;
mod calls;
mod changes;
mod code;
mod digest;
mod glob;
mod grant;
mod ignores;
mod listing;
mod quota;
mod root;
mod stream;
mod temp;
mod tree;
mod walk;
#[cfg(target_os = "linux")]
mod watch;
mod write;

use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::Semaphore;

use self::grant::Grant;
use crate::error::{NoConfig, settings};
use crate::hints::Hints;
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "fsx",
    interfaces: &[
        "loop:fsx/files@0.1.0",
        "loop:fsx/writing@0.1.0",
        "loop:fsx/digests@0.1.0",
        "loop:fsx/temporary@0.1.0",
        "loop:fsx/streaming@0.1.0",
        "loop:fsx/walking@0.1.0",
        "loop:fsx/watching@0.1.0",
    ],
    provide,
};

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let NoConfig {} = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let hints = Hints::new(host.observer, "loop:fsx");
    let roots = Arc::new(grant.roots(&hints)?);
    let temp = grant.temp(&host.io)?;
    let streams = Arc::new(Semaphore::new(grant.max_streams()));
    let mut functions = std::collections::BTreeMap::new();
    functions.extend(calls::files(roots, hints.clone()));
    functions.extend(calls::writing(&host.io));
    functions.extend(calls::digests(&host.io));
    functions.extend(calls::temporary(temp, hints));
    functions.extend(calls::streaming(&host.io, &streams));
    functions.extend(calls::walking(&host.io, &streams));
    functions.extend(calls::watching(&host.io, &grant));
    Ok(Provider {
        interfaces: CAPABILITY.interfaces,
        functions,
    })
}
