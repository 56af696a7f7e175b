//! `wrpc`: calls of peers that a grant names, in bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Import, Neutral, Result, Value};
use loop_wire::plain::{Connector, ToTheEnd, streams_of};
use loop_wire::session::{Request, Session};
use loop_wire::transport::{self, Connection, Options};
use loop_wire::{Address, Code, Failure, Interface, Limits as WireLimits};
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use super::pool::Pool;
use crate::ProviderError;
use crate::error::Table;
use crate::value::{args, string};

/// A peer of the grant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerGrant {
    /// `tcp://HOST:PORT`, `unix:PATH` or `ws://HOST:PORT/PATH`.
    address: String,
    /// The interfaces that may be called, as they are asked for. Default: all.
    interfaces: Option<Vec<String>>,
}

struct Peer {
    address: Address,
    interfaces: Option<Vec<String>>,
}

pub(super) fn functions(
    grants: BTreeMap<String, Table<PeerGrant>>,
    pool: &Arc<Pool>,
) -> Result<Vec<(&'static str, Import<Neutral>)>, ProviderError> {
    let mut peers = BTreeMap::new();
    for (name, Table(grant)) in grants {
        let refuse = |problem: String| ProviderError::new(format!("grant.wrpc.{name}.address"), problem);
        let address: Address = grant.address.parse().map_err(|e: Failure| refuse(e.message))?;
        if !matches!(
            address,
            Address::Tcp(_) | Address::Unix(_) | Address::Ws { secure: false, .. }
        ) {
            return Err(refuse(format!(
                "`{}` is no way to a wRPC peer; use tcp:, unix: or ws:",
                grant.address
            )));
        }
        peers.insert(
            name,
            Arc::new(Peer {
                address,
                interfaces: grant.interfaces,
            }),
        );
    }
    let (peers, io) = (Arc::new(peers), pool.io.clone());
    let (max, limit) = (pool.limits.max_body, pool.limits.first_byte_timeout);
    let invoke = Import::later(move |a| {
        let (peers, io) = (peers.clone(), io.clone());
        async move {
            let [peer, instance, function, params] = args(a)?;
            let (name, instance, function) = (string(peer)?, string(instance)?, string(function)?);
            let Value::Nums(_, params) = params else {
                return Err(loop_engine::Error::msg("the parameters are a list of bytes"));
            };
            let called = match granted(&peers, &name, &instance) {
                Ok(peer) => {
                    let work = call(peer, instance, function, params, max, limit);
                    let done = AbortOnDropHandle::new(io.spawn(work)).await;
                    done.unwrap_or_else(|_| Err(Failure::new(Code::Cancelled, "the host is shutting down")))
                }
                Err(failure) => Err(failure),
            };
            Ok(Some(match called {
                Ok(result) => Value::ok(Some(Value::bytes(result))),
                Err(failure) => Value::err(Some(value_of(failure))),
            }))
        }
    });
    Ok(vec![("wrpc#invoke", invoke)])
}

fn granted(peers: &BTreeMap<String, Arc<Peer>>, name: &str, instance: &str) -> Result<Arc<Peer>, Failure> {
    let denied = |words: String| Failure::new(Code::NotGranted, words);
    let peer = peers.get(name).ok_or_else(|| {
        denied(format!(
            "the grant has no peer `{name}`; add `wrpc.{name}.address`"
        ))
    })?;
    match &peer.interfaces {
        Some(all) if !all.iter().any(|i| i == instance) => Err(denied(format!(
            "the grant does not have {instance} of the peer `{name}`; add it to `wrpc.{name}.interfaces`"
        ))),
        _ => Ok(peer.clone()),
    }
}

async fn call(
    peer: Arc<Peer>,
    instance: String,
    function: String,
    params: Vec<u8>,
    max: u64,
    limit: Duration,
) -> Result<Vec<u8>, Failure> {
    let connector: Connector = Arc::new(move || {
        let peer = peer.clone();
        Box::pin(async move {
            let options = Options {
                plain: true,
                ..Options::default()
            };
            match transport::connect(&peer.address, &options).await? {
                Connection::Bytes(io, _) => Ok(io),
                Connection::Native(native, _) => streams_of(native.into())().await,
            }
        })
    });
    let exports = vec![Interface {
        name: instance,
        functions: vec![function],
        types: vec![],
        resources: vec![],
    }];
    let limits = WireLimits {
        message: max,
        ..WireLimits::default()
    };
    let session = Session::plain(connector, exports, limits, Arc::new(ToTheEnd));
    let request = Request {
        root: params.into(),
        ..Request::default()
    };
    let late = || {
        Failure::new(
            Code::DeadlineExceeded,
            format!("no answer within {} s", limit.as_secs_f64()),
        )
    };
    let answer = tokio::time::timeout(limit, session.call(request)).await;
    Ok(answer.map_err(|_| late())??.root.into())
}

fn value_of(failure: Failure) -> Value {
    let reason = match failure.code {
        Code::NotGranted => 0,
        Code::ProviderGone => 1,
        Code::DeadlineExceeded => 2,
        Code::Overloaded => 3,
        Code::Protocol => 4,
        _ => 5,
    };
    Value::Fields(vec![Value::Case(reason, None), Value::String(failure.message)])
}
