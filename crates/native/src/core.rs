//! `loop:core`: log, metrics, trace, clock, timers, random, cancel.
//!
//! Config: none. Grant: `{ log, metrics, trace, timers, random, cancel }`, see [`Grant`].

mod attributes;
mod cancel;
mod log;
mod metrics;
mod quota;
mod random;
mod timers;
mod trace;

use std::time::{Instant, SystemTime};

use loop_engine::{Import, Value};
use serde::Deserialize;
use serde_json::Value as Json;

pub use self::attributes::{Attribute, Attributes};
pub use self::log::{Level, Record};
pub use self::metrics::Instrument;
use self::quota::{Most, Quota};
use self::timers::Timers;
use crate::error::{NoConfig, Table, settings};
use crate::value::instant;
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "core",
    interfaces: &[
        "loop:core/log@0.1.0",
        "loop:core/attributes@0.1.0",
        "loop:core/metrics@0.1.0",
        "loop:core/trace@0.1.0",
        "loop:core/clock@0.1.0",
        "loop:core/timers@0.1.0",
        "loop:core/random@0.1.0",
        "loop:core/insecure-random@0.1.0",
        "loop:core/cancel@0.1.0",
        "loop:core/cancellation@0.1.0",
    ],
    provide,
};

/// The unit that [`Instant`] counts in.
const RESOLUTION: u64 = if cfg!(windows) { 100 } else { 1 };

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Grant {
    log: Table<log::Grant>,
    metrics: Table<metrics::Grant>,
    trace: Table<trace::Grant>,
    /// Timers at once, streams and waits for tokens included. Default: 1024.
    timers: Table<Most>,
    /// Seeded generators at once. Default: 1024.
    random: Table<Most>,
    /// Tokens at once. Default: 16384.
    cancel: Table<Most>,
}

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let NoConfig {} = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let HostServices {
        observer,
        io,
        payload,
    } = host;
    let started = Instant::now();
    let timers = Quota::new("timer", "timers.max", grant.timers.0.or(1024));
    let timers = Timers::new(timers, started, io);
    let mut functions = vec![
        ("log#log", log::import(grant.log.0, observer.clone())),
        ("clock#now", Import::now(|_| Ok(Some(instant(SystemTime::now()))))),
        (
            "clock#monotonic-now",
            Import::now(move |_| Ok(Some(Value::u64(started.elapsed().as_nanos() as u64)))),
        ),
        (
            "clock#resolution",
            Import::now(|_| Ok(Some(Value::u64(RESOLUTION)))),
        ),
        ("timers#sleep", timers.sleep()),
        ("timers#sleep-until", timers.sleep_until()),
        ("timers#every", timers.every()),
    ];
    functions.extend(metrics::functions(&grant.metrics.0, observer.clone()));
    functions.extend(trace::functions(&grant.trace.0, observer));
    let generators = Quota::new("generator", "random.max", grant.random.0.or(1024));
    functions.extend(random::functions(payload, generators));
    let tokens = Quota::new("token", "cancel.max", grant.cancel.0.or(16384));
    functions.extend(cancel::functions(tokens, &timers));
    Ok(Provider {
        interfaces: CAPABILITY.interfaces,
        functions: functions.into_iter().collect(),
    })
}
