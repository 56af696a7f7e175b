//! `loop:netx`: HTTP, WebSockets, names, wRPC and gRPC, to servers that a grant names, and servers where it says so.
//!
//! Config: `{ ca: [FILE, ...] }`, certificates in PEM that are trusted besides the system's. Grant: see [`Grant`].

mod address;
mod body;
mod client;
mod code;
mod dns;
pub(crate) mod egress;
mod exchange;
mod fields;
mod grpc;
mod inflate;
mod line;
mod patient;
mod pool;
mod proxy;
mod route;
mod rule;
mod server;
mod socket;
mod tls;
mod wrpc;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Result, Value};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::runtime::Handle;

use self::code::ErrorCode;
use self::egress::Egress;
use self::pool::Pool;
use self::proxy::{Proxies, ProxyGrant};
use self::rule::Rule;
use crate::error::{Table, settings};
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "netx",
    interfaces: &[
        "loop:netx/types@0.1.0",
        "loop:netx/dns@0.1.0",
        "loop:netx/grpc@0.1.0",
        "loop:netx/grpc-streaming@0.1.0",
        "loop:netx/http-client@0.1.0",
        "loop:netx/http-streaming@0.1.0",
        "loop:netx/websocket@0.1.0",
        "loop:netx/http-server@0.1.0",
        "loop:netx/wrpc@0.1.0",
    ],
    provide,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Config {
    ca: Vec<PathBuf>,
}

/// What a component may reach.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Grant {
    /// Servers: `SCHEME://HOST:PORT`. Default: none.
    allow: Vec<Rule>,
    /// The proxy that requests go through. Default: none, whatever the environment says.
    proxy: ProxyGrant,
    /// Addresses to listen on, by the name that the component knows them by. Default: none.
    listen: BTreeMap<String, Table<ListenGrant>>,
    /// wRPC peers, by the name that the component knows them by. Default: none.
    wrpc: BTreeMap<String, Table<wrpc::PeerGrant>>,
    /// Bytes of a body that is given or taken whole. Default: 16 MiB.
    max_body: Option<NonZeroUsize>,
    /// Bytes that a compressed body may unfold to. Default: 1 GiB.
    max_decoded: Option<NonZeroUsize>,
    /// Bytes of a message's fields, or of its trailers. Default: 64 KiB.
    max_header: Option<NonZeroUsize>,
    /// Fields of a message. Default: 128.
    max_fields: Option<NonZeroUsize>,
    /// Bytes of a WebSocket message, and of those that wait. Default: 16 MiB.
    max_message: Option<NonZeroUsize>,
    /// Connections open at once, to servers and from clients each. Default: 256.
    max_connections: Option<NonZeroUsize>,
    /// Connections to one server that are kept unused. Default: 32.
    max_idle: Option<usize>,
    /// Redirects that a request follows. Default: 10.
    max_redirects: Option<u32>,
    /// Seconds to connect, with the lookup of the name and TLS. Default: 10.
    connect_timeout: Option<Seconds>,
    /// Seconds from there to the head of the response. Default: 60.
    first_byte_timeout: Option<Seconds>,
    /// Seconds between two pieces of a body, and that a client of a server here may leave unread what it is sent.
    /// Default: 60.
    between_bytes_timeout: Option<Seconds>,
    /// Seconds for a whole request. Default: no end.
    total_timeout: Option<Seconds>,
    /// Seconds that a connection is kept unused. Default: 30.
    idle_timeout: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ListenGrant {
    /// `HOST:PORT`; port 0 takes any that is free.
    address: std::net::SocketAddr,
    /// PEM files; both or neither.
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// A number of seconds above 0.
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let duration = Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero());
        let bad = || serde::de::Error::custom(format!("{seconds} is no number of seconds above 0"));
        duration.map(Seconds).ok_or_else(bad)
    }
}

/// The bounds of a grant.
struct Limits {
    max_body: u64,
    max_decoded: u64,
    max_header: usize,
    max_fields: usize,
    max_message: usize,
    max_connections: usize,
    max_idle: usize,
    max_redirects: u32,
    connect_timeout: Duration,
    first_byte_timeout: Duration,
    between_bytes_timeout: Duration,
    total_timeout: Option<Duration>,
    idle_timeout: Duration,
}

impl Limits {
    fn of(grant: &Grant) -> Result<Self, ProviderError> {
        let size = |v: Option<NonZeroUsize>, default| v.map_or(default, NonZeroUsize::get);
        let time = |v: &Option<Seconds>, default| v.as_ref().map_or(Duration::from_secs(default), |s| s.0);
        let max_header = size(grant.max_header, 64 << 10);
        if max_header < 8 << 10 {
            let problem = "must be 8192 or more: so much is read at once";
            return Err(ProviderError::new("grant.max-header", problem));
        }
        Ok(Limits {
            max_body: size(grant.max_body, 16 << 20) as u64,
            max_decoded: size(grant.max_decoded, 1 << 30) as u64,
            max_header,
            max_fields: size(grant.max_fields, 128),
            max_message: size(grant.max_message, 16 << 20),
            max_connections: size(grant.max_connections, 256),
            max_idle: grant.max_idle.unwrap_or(32),
            max_redirects: grant.max_redirects.unwrap_or(10),
            connect_timeout: time(&grant.connect_timeout, 10),
            first_byte_timeout: time(&grant.first_byte_timeout, 60),
            between_bytes_timeout: time(&grant.between_bytes_timeout, 60),
            total_timeout: grant.total_timeout.as_ref().map(|s| s.0),
            idle_timeout: time(&grant.idle_timeout, 30),
        })
    }
}

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    provide_by(config, grant, host, egress::system())
}

/// The provider with a resolver of one's own.
pub(crate) fn provide_by(
    config: &Json,
    grant: &Json,
    host: HostServices,
    resolver: egress::Resolver,
) -> Result<Provider, ProviderError> {
    let config: Config = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let limits = Arc::new(Limits::of(&grant)?);
    let proxies = Proxies::new(&grant.proxy, |name| std::env::var(name).ok())
        .map_err(|e| ProviderError::new("grant.proxy", e))?;
    let egress = Arc::new(Egress {
        rules: grant.allow,
        resolver,
    });
    let tls = tls::Tls::new(&config.ca)?;
    let pool = Arc::new(Pool::new(egress, tls, proxies, limits, host.io.clone()));
    let mut functions = vec![
        ("http-client#fetch", client::fetch(pool.clone())),
        ("http-streaming#send", client::send_streaming(pool.clone())),
        ("websocket#connect", socket::connect(pool.clone())),
        ("dns#resolve-addresses", dns::resolve(pool.clone())),
    ];
    functions.extend(socket::functions());
    functions.extend(server::functions(
        grant.listen,
        pool.limits.clone(),
        host.io.clone(),
    )?);
    functions.extend(wrpc::functions(grant.wrpc, &pool)?);
    functions.extend(grpc::functions(&pool));
    Ok(Provider {
        interfaces: CAPABILITY.interfaces,
        functions: functions.into_iter().collect(),
    })
}

fn answer(result: Result<Value, ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(Some(v)),
        Err(code) => Value::err(Some(code.into())),
    }))
}

/// Does the work on whatever thread polls for it, with the timers and sockets of the host's runtime: an answer that can be
/// had without waiting needs no other thread, and any other only to be told when to go on.
async fn within<T>(io: &Handle, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _entered = io.enter();
        work.as_mut().poll(cx)
    })
    .await
}
