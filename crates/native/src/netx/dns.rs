//! `dns`: the addresses of names.

use std::net::IpAddr;
use std::sync::Arc;

use loop_engine::{Import, Neutral, Num, Value};

use super::pool::Pool;
use super::{answer, within};
use crate::value::{args, string};

pub(super) fn resolve(pool: Arc<Pool>) -> Import<Neutral> {
    Import::later(move |a| {
        let pool = pool.clone();
        async move {
            let [name] = args(a)?;
            let name = string(name)?;
            let io = pool.io.clone();
            let found = within(&io, async move {
                pool.egress.resolve(&name, pool.limits.connect_timeout).await
            });
            answer(
                found
                    .await
                    .map(|all| Value::List(all.into_iter().map(address).collect())),
            )
        }
    })
}

fn address(ip: IpAddr) -> Value {
    let (case, parts): (usize, Vec<_>) = match ip {
        IpAddr::V4(ip) => (0, ip.octets().map(|b| Value::Num(Num::U8, b.into())).into()),
        IpAddr::V6(ip) => (1, ip.segments().map(|s| Value::Num(Num::U16, s.into())).into()),
    };
    Value::Case(case, Some(Box::new(Value::Fields(parts))))
}
