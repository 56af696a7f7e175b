//! Between the neutral values of the engine and Rust's own.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use loop_engine::{Error, Feed, Mismatch, Neutral, Num, Reader, Result, Settle, Source, Value};

/// The arguments of a function of `N` parameters.
pub(crate) fn args<const N: usize>(args: Vec<Value>) -> Result<[Value; N]> {
    args.try_into()
        .map_err(|v: Vec<_>| Error::msg(format!("expected {N} arguments, got {}", v.len())))
}

/// The string itself, not a copy.
pub(crate) fn string(v: Value) -> Result<String> {
    match v {
        Value::String(s) => Ok(s),
        other => other.as_str().map(String::from),
    }
}

/// The items of a list, record or tuple.
pub(crate) fn items(v: Value) -> Result<Vec<Value>> {
    match v {
        Value::List(items) | Value::Fields(items) => Ok(items),
        other => Err(Mismatch::new("a list or record", format!("{other:?}")).into()),
    }
}

pub(crate) fn option(v: Option<Value>) -> Value {
    v.map_or_else(Value::none, Value::some)
}

/// The record `instant`: seconds since 1970 rounded down, and nanoseconds forwards from there.
pub(crate) fn instant(t: SystemTime) -> Value {
    let (seconds, nanoseconds) = match t.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        Err(e) => match (e.duration().as_secs() as i64, e.duration().subsec_nanos()) {
            (s, 0) => (-s, 0),
            (s, ns) => (-s - 1, 1_000_000_000 - ns),
        },
    };
    Value::Fields(vec![
        Value::Num(Num::S64, seconds as u64),
        Value::u32(nanoseconds),
    ])
}

pub(crate) fn stream(source: impl Source<Neutral>) -> Value {
    Value::Stream(Mutex::new(Some(Feed::Source(Box::new(source)))))
}

/// Reads a stream that was given, by a guest or by a host.
pub(crate) fn reader(stream: Value) -> Result<Reader<Neutral>> {
    let moved = || Error::msg("a stream was moved already");
    match stream {
        Value::Stream(end) => match end
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .ok_or_else(moved)?
        {
            Feed::Source(source) => Ok(Reader::of(source)),
            Feed::Same(_) => Err(Error::msg("a stream of a component can be read only by the host")),
        },
        Value::GuestStream(end, payload, home) => {
            let any = end
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .ok_or_else(moved)?;
            Ok(home.read_stream(payload, any))
        }
        other => Err(Mismatch::new("a stream", format!("{other:?}")).into()),
    }
}

pub(crate) fn future(value: impl Future<Output = Value> + Send + 'static) -> Value {
    let settled: Pin<Box<dyn Future<Output = Result<Value>> + Send>> =
        Box::pin(async move { Ok(value.await) });
    Value::Future(Mutex::new(Some(Settle::Value(settled))))
}
