//! Between the neutral values of the engine and Rust's own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use loop_engine::{
    Block, Chunk, Error, Feed, Home, Mismatch, Neutral, Num, Reader, Result, Settle, Source, Value,
};

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

/// Seconds since 1970 rounded down, and nanoseconds forwards from there.
pub(crate) fn since_epoch(t: SystemTime) -> (i64, u32) {
    match t.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        Err(e) => match (e.duration().as_secs() as i64, e.duration().subsec_nanos()) {
            (s, 0) => (-s, 0),
            (s, ns) => (-s - 1, 1_000_000_000 - ns),
        },
    }
}

/// The record `instant`.
pub(crate) fn instant(t: SystemTime) -> Value {
    let (seconds, nanoseconds) = since_epoch(t);
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

/// Bytes that a caller streams to a provider.
pub(crate) struct ByteReader {
    reader: Reader<Neutral>,
    /// Keeps the instance that writes alive.
    _home: Option<Arc<Home>>,
}

impl ByteReader {
    /// The next bytes, at most `max`; `None` at the end.
    pub fn poll_next(&self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Bytes>> {
        loop {
            return Poll::Ready(match ready!(self.reader.poll_next(cx, max)) {
                None => None,
                Some(Chunk::Raw(block)) => Some(Bytes::from_owner(Owned(block))),
                Some(Chunk::Values(mut v)) => match v.pop() {
                    Some(Value::Nums(_, raw)) => Some(raw.into()),
                    _ => continue,
                },
                Some(Chunk::Units(_)) => continue,
            });
        }
    }

    /// Whether it ended because what feeds it failed.
    pub fn failed(&self) -> bool {
        self.reader.take_error().is_some()
    }
}

struct Owned(Block);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// The values of a stream that a caller gives a provider.
pub(crate) struct ValueReader {
    reader: Reader<Neutral>,
    left: VecDeque<Value>,
    /// Keeps the instance that writes alive.
    _home: Option<Arc<Home>>,
}

impl ValueReader {
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Value>> {
        loop {
            if let Some(value) = self.left.pop_front() {
                return Poll::Ready(Some(value));
            }
            match ready!(self.reader.poll_next(cx, 1)) {
                None => return Poll::Ready(None),
                Some(Chunk::Values(values)) => self.left = values.into(),
                Some(_) => {}
            }
        }
    }
}

fn opened(v: Value) -> Result<(Reader<Neutral>, Option<Arc<Home>>)> {
    let moved = || Error::msg("a stream was moved already");
    match v {
        Value::Stream(feed) => match feed.into_inner().ok().flatten().ok_or_else(moved)? {
            Feed::Source(source) => Ok((Reader::of(source), None)),
            Feed::Same(_) => Err(Error::msg("a stream of the component's own cannot be read here")),
        },
        Value::GuestStream(stream, payload, home) => {
            let stream = stream.into_inner().ok().flatten().ok_or_else(moved)?;
            Ok((home.read_stream(payload, stream), Some(home)))
        }
        other => Err(Mismatch::new("a stream", format!("{other:?}")).into()),
    }
}

/// The bytes of an argument `stream<u8>`.
pub(crate) fn bytes_of(v: Value) -> Result<ByteReader> {
    let (reader, _home) = opened(v)?;
    Ok(ByteReader { reader, _home })
}

/// The values of an argument `stream<T>`, where `T` is no number.
pub(crate) fn values_of(v: Value) -> Result<ValueReader> {
    let (reader, _home) = opened(v)?;
    Ok(ValueReader {
        reader,
        left: VecDeque::new(),
        _home,
    })
}

/// The value of a future, on its way.
pub(crate) type Settled = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

/// The value of an argument `future<T>`.
pub(crate) fn settled(v: Value) -> Result<Settled> {
    let moved = || Error::msg("a future was moved already");
    match v {
        Value::Future(settle) => match settle.into_inner().ok().flatten().ok_or_else(moved)? {
            Settle::Value(value) => Ok(value),
            Settle::Same(_) => Err(Error::msg("a future of the component's own cannot be read here")),
        },
        Value::GuestFuture(future, payload, home) => {
            let future = future.into_inner().ok().flatten().ok_or_else(moved)?;
            let reader = home.read_future::<Neutral>(payload, future);
            Ok(Box::pin(async move {
                let _home = home;
                match std::future::poll_fn(|cx| reader.poll_next(cx, 1)).await {
                    Some(Chunk::Values(mut values)) if !values.is_empty() => Ok(values.remove(0)),
                    _ => Err(Error::msg("the future was dropped by the component that had it")),
                }
            }))
        }
        other => Err(Mismatch::new("a future", format!("{other:?}")).into()),
    }
}

/// What an option holds.
pub(crate) fn optional(v: Value) -> Result<Option<Value>> {
    match v {
        Value::Case(0, None) => Ok(None),
        Value::Case(1, Some(v)) => Ok(Some(*v)),
        other => Err(Mismatch::new("an option", format!("{other:?}")).into()),
    }
}
