//! `loop:core`: log, clock, timers, random, cancel.
//!
//! Config: none. Grant: `{ log: { level, targets, max-record }, timers: { max } }`, see [`log::Grant`] and
//! [`timers::Grant`].

mod log;
mod timers;

use std::time::{Instant, SystemTime};

use loop_engine::{Error, Import, Value};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

pub use self::log::{Level, Record};
use self::timers::Timers;
use crate::error::{NoConfig, Table, settings};
use crate::value::{args, instant};
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "core",
    interfaces: &[
        "loop:core/log@0.1.0-dev",
        "loop:core/clock@0.1.0-dev",
        "loop:core/timers@0.1.0-dev",
        "loop:core/random@0.1.0-dev",
        "loop:core/cancel@0.1.0-dev",
    ],
    provide,
};

/// The unit that [`Instant`] counts in.
const RESOLUTION: u64 = if cfg!(windows) { 100 } else { 1 };

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Grant {
    log: Table<log::Grant>,
    timers: Table<timers::Grant>,
}

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let NoConfig {} = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let HostServices {
        log: sink,
        io,
        payload,
    } = host;
    let started = Instant::now();
    let timers = Timers::new(&grant.timers.0, started, io);
    let functions = [
        ("log#log", log::import(grant.log.0, sink)),
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
        (
            "random#bytes",
            Import::now(move |a| {
                let [len] = args(a)?;
                let len = len.as_u64()? as usize;
                if len > payload {
                    return Err(Error::msg(format!(
                        "{len} random bytes asked for, the payload limit is {payload}"
                    )));
                }
                let mut bytes = vec![0; len];
                getrandom::fill(&mut bytes)?;
                Ok(Some(Value::bytes(bytes)))
            }),
        ),
        (
            "random#u64",
            Import::now(|_| Ok(Some(Value::u64(getrandom::u64()?)))),
        ),
        // The token of tokio-util forgets what no handle can cancel any more, and answers without walking the tree.
        (
            "cancel#[constructor]token",
            Import::now(|_| Ok(Some(Value::host(CancellationToken::new())))),
        ),
        (
            "cancel#[method]token.child",
            Import::now(|a| {
                let [token] = args(a)?;
                Ok(Some(Value::host(
                    token.as_host::<CancellationToken>()?.child_token(),
                )))
            }),
        ),
        (
            "cancel#[method]token.cancel",
            Import::now(|a| {
                let [token] = args(a)?;
                token.as_host::<CancellationToken>()?.cancel();
                Ok(None)
            }),
        ),
        (
            "cancel#[method]token.is-cancelled",
            Import::now(|a| {
                let [token] = args(a)?;
                Ok(Some(Value::Bool(
                    token.as_host::<CancellationToken>()?.is_cancelled(),
                )))
            }),
        ),
    ];
    Ok(Provider {
        functions: functions.into(),
    })
}
