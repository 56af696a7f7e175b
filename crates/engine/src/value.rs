//! The neutral representation: for native providers, and between components.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use wasmtime::component::{FutureAny, StreamAny, Val};
use wasmtime::{Result, bail, format_err};

use crate::domain::{Domain, Handle, HostObject};
use crate::error::Mismatch;
use crate::instance::Home;
use crate::reader::Reader;
use crate::resource::GuestHandle;
use crate::scope::{current_home, lock};
use crate::stream::{Chunk, Feed, Settle, Settling, Source};
use crate::types::{Num, Resource, Ty, TyRef};

/// A component value.
pub enum Value {
    Bool(bool),
    /// A number and its bits, as [`Domain::num`] takes them.
    Num(Num, u64),
    Char(char),
    String(String),
    /// A list of numbers, little-endian.
    Nums(Num, Vec<u8>),
    /// A list of anything but numbers.
    List(Vec<Value>),
    /// A record's or tuple's fields, in order.
    Fields(Vec<Value>),
    /// Variant, enum, option (0: none, 1: some) and result (0: ok, 1: err).
    Case(usize, Option<Box<Value>>),
    Flags(u32),
    Host(HostObject),
    Guest(Arc<GuestHandle>),
    /// A stream or future end; taken when it is lowered.
    Stream(Mutex<Option<Feed<Neutral>>>),
    Future(Mutex<Option<Settle<Neutral>>>),
    /// The same, as a guest gave it.
    GuestStream(Mutex<Option<StreamAny>>, Option<TyRef>, Arc<Home>),
    GuestFuture(Mutex<Option<FutureAny>>, Option<TyRef>, Arc<Home>),
    ErrorContext(Val),
}

impl Value {
    pub fn u32(v: u32) -> Self {
        Value::Num(Num::U32, v.into())
    }

    pub fn u64(v: u64) -> Self {
        Value::Num(Num::U64, v)
    }

    pub fn bytes(v: Vec<u8>) -> Self {
        Value::Nums(Num::U8, v)
    }

    pub fn string(v: impl Into<String>) -> Self {
        Value::String(v.into())
    }

    pub fn none() -> Self {
        Value::Case(0, None)
    }

    pub fn some(v: Value) -> Self {
        Value::Case(1, Some(Box::new(v)))
    }

    pub fn ok(v: Option<Value>) -> Self {
        Value::Case(0, v.map(Box::new))
    }

    pub fn err(v: Option<Value>) -> Self {
        Value::Case(1, v.map(Box::new))
    }

    /// A resource that its provider defines.
    pub fn host<T: Send + Sync + 'static>(v: T) -> Self {
        Value::Host(Arc::new(v))
    }

    /// The unsigned number, whatever its width.
    pub fn as_u64(&self) -> Result<u64> {
        match self {
            Value::Num(_, bits) => Ok(*bits),
            other => Err(Mismatch::new("a number", other.kind()).into()),
        }
    }

    pub fn as_str(&self) -> Result<&str> {
        match self {
            Value::String(s) => Ok(s),
            other => Err(Mismatch::new("string", other.kind()).into()),
        }
    }

    pub fn as_bytes(&self) -> Result<&[u8]> {
        match self {
            Value::Nums(_, raw) => Ok(raw),
            other => Err(Mismatch::new("list<u8>", other.kind()).into()),
        }
    }

    /// The items of a list, record or tuple.
    pub fn items(&self) -> Result<&[Value]> {
        match self {
            Value::List(v) | Value::Fields(v) => Ok(v),
            other => Err(Mismatch::new("a list or record", other.kind()).into()),
        }
    }

    /// The provider's own object behind a handle.
    pub fn as_host<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        match self {
            Value::Host(h) => h
                .clone()
                .downcast()
                .map_err(|_| Mismatch::new("a resource", "one of another type").into()),
            other => Err(Mismatch::new("a resource", other.kind()).into()),
        }
    }

    /// What feeds a stream that was handed to a host function. The instance that it came from has to be polled meanwhile.
    pub fn into_source(self) -> Result<Box<dyn Source<Neutral>>> {
        match self {
            Value::Stream(m) => match taken(&m)? {
                Feed::Source(source) => Ok(source),
                Feed::Same(_) => bail!("a stream that belongs to no instance"),
            },
            Value::GuestStream(m, payload, home) => {
                let reader = home.read_stream(payload, taken(&m)?);
                Ok(Box::new(Relay { reader, _home: home }))
            }
            other => Err(Mismatch::new("a stream", other.kind()).into()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::Num(n, _) => n.wit(),
            Value::Char(_) => "char",
            Value::String(_) => "string",
            Value::Nums(..) => "a list of numbers",
            Value::List(_) => "a list",
            Value::Fields(_) => "a record or tuple",
            Value::Case(..) => "a variant",
            Value::Flags(_) => "flags",
            Value::Host(_) | Value::Guest(_) => "a resource",
            Value::Stream(_) | Value::GuestStream(..) => "a stream",
            Value::Future(_) | Value::GuestFuture(..) => "a future",
            Value::ErrorContext(_) => "an error-context",
        }
    }
}

/// The domain of [`Value`].
pub struct Neutral;

fn here() -> Result<Arc<Home>> {
    current_home().ok_or_else(|| format_err!("streams and futures exist only within a component's instance"))
}

fn is_here(home: &Arc<Home>) -> bool {
    current_home().is_some_and(|here| Arc::ptr_eq(&here, home))
}

fn taken<T>(m: &Mutex<Option<T>>) -> Result<T> {
    lock(m)
        .take()
        .ok_or_else(|| format_err!("a stream or future was moved already"))
}

/// Another instance's stream as the source of one of this instance.
struct Relay {
    reader: Reader<Neutral>,
    /// Keeps the instance that writes alive.
    _home: Arc<Home>,
}

impl Source<Neutral> for Relay {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let chunk = std::task::ready!(self.reader.poll_next(cx, 64 * 1024));
        Poll::Ready(Ok(chunk.map(|c| match c {
            Chunk::Values(mut v) if matches!(v[..], [Value::Nums(Num::U8, _)]) => match v.pop() {
                Some(Value::Nums(_, raw)) => Chunk::Raw(Box::new(raw)),
                _ => Chunk::Values(v),
            },
            other => other,
        })))
    }
}

fn bad<R>(v: &Value) -> Result<R> {
    Err(Mismatch::new("", v.kind()).into())
}

impl Domain for Neutral {
    type Value = Value;
    type Cx<'c> = ();
    type Item<'c, 'v> = &'v Value;
    const OBJECT: usize = size_of::<Value>();

    fn enter<R>(f: impl for<'c> FnOnce(()) -> R) -> R {
        f(())
    }
    fn view<'c, 'v>((): (), value: &'v Value) -> &'v Value
    where
        'c: 'c,
        'v: 'v,
    {
        value
    }

    fn bool((): (), v: bool) -> Result<Value> {
        Ok(Value::Bool(v))
    }
    fn num((): (), kind: Num, bits: u64) -> Result<Value> {
        Ok(Value::Num(kind, bits))
    }
    fn char((): (), v: char) -> Result<Value> {
        Ok(Value::Char(v))
    }
    fn string((): (), v: &str) -> Result<Value> {
        Ok(Value::String(v.into()))
    }
    fn nums((): (), kind: Num, raw: &[u8]) -> Result<Value> {
        Ok(Value::Nums(kind, raw.to_vec()))
    }
    fn list((): (), len: usize, each: impl FnMut(usize) -> Result<Value>) -> Result<Value> {
        Ok(Value::List((0..len).map(each).collect::<Result<_>>()?))
    }
    fn tuple((): (), len: usize, each: impl FnMut(usize) -> Result<Value>) -> Result<Value> {
        Ok(Value::Fields((0..len).map(each).collect::<Result<_>>()?))
    }
    fn record((): (), ty: &Ty, each: impl FnMut(usize) -> Result<Value>) -> Result<Value> {
        Ok(Value::Fields(
            (0..ty.children().len()).map(each).collect::<Result<_>>()?,
        ))
    }
    fn case((): (), _: &Ty, index: usize, payload: impl FnOnce() -> Result<Option<Value>>) -> Result<Value> {
        Ok(Value::Case(index, payload()?.map(Box::new)))
    }
    fn flags((): (), _: &Ty, bits: u32) -> Result<Value> {
        Ok(Value::Flags(bits))
    }
    fn handle((): (), _: &Arc<Resource>, _: bool, handle: Handle) -> Result<Value> {
        Ok(match handle {
            Handle::Host(object) => Value::Host(object),
            Handle::Guest(guest) => Value::Guest(guest),
        })
    }
    fn stream((): (), payload: Option<&TyRef>, stream: StreamAny) -> Result<Value> {
        Ok(Value::GuestStream(
            Mutex::new(Some(stream)),
            payload.cloned(),
            here()?,
        ))
    }
    fn future((): (), payload: Option<&TyRef>, future: FutureAny) -> Result<Value> {
        Ok(Value::GuestFuture(
            Mutex::new(Some(future)),
            payload.cloned(),
            here()?,
        ))
    }
    fn fed((): (), _: Option<&TyRef>, source: Box<dyn Source<Self>>) -> Result<Value> {
        Ok(Value::Stream(Mutex::new(Some(Feed::Source(source)))))
    }
    fn settled((): (), _: Option<&TyRef>, value: Settling<Self>) -> Result<Value> {
        Ok(Value::Future(Mutex::new(Some(Settle::Value(value)))))
    }
    fn error_context((): (), context: Val) -> Result<Value> {
        Ok(Value::ErrorContext(context))
    }

    fn to_bool(v: &&Value) -> Result<bool> {
        if let Value::Bool(b) = v { Ok(*b) } else { bad(v) }
    }
    fn to_num(v: &&Value, kind: Num) -> Result<u64> {
        match v {
            Value::Num(n, bits) if *n == kind => Ok(*bits),
            _ => bad(v),
        }
    }
    fn to_char(v: &&Value) -> Result<char> {
        if let Value::Char(c) = v { Ok(*c) } else { bad(v) }
    }
    fn with_str<R>(v: &&Value, f: impl FnOnce(&str) -> Result<R>) -> Result<R> {
        if let Value::String(s) = v { f(s) } else { bad(v) }
    }
    fn with_nums<R>(v: &&Value, kind: Num, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        match v {
            Value::Nums(n, raw) if *n == kind => f(raw),
            _ => bad(v),
        }
    }
    fn open<'c, 'v>(v: &&'v Value, _: &Ty) -> Result<(usize, &'v Value)>
    where
        'c: 'c,
        'v: 'v,
    {
        match v {
            Value::List(l) | Value::Fields(l) => Ok((l.len(), v)),
            _ => bad(v),
        }
    }
    fn at<'c, 'v>(v: &&'v Value, index: usize) -> Result<&'v Value>
    where
        'c: 'c,
        'v: 'v,
    {
        match v {
            Value::List(l) | Value::Fields(l) if index < l.len() => Ok(&l[index]),
            _ => bad(v),
        }
    }
    fn field<'c, 'v>(v: &&'v Value, _: &Ty, index: usize) -> Result<&'v Value>
    where
        'c: 'c,
        'v: 'v,
    {
        Self::at(v, index)
    }
    fn to_case<'c, 'v>(v: &&'v Value, ty: &Ty) -> Result<(usize, Option<&'v Value>)>
    where
        'c: 'c,
        'v: 'v,
    {
        match v {
            Value::Case(i, payload) if ty.case(*i).is_some() => Ok((*i, payload.as_deref())),
            _ => bad(v),
        }
    }
    fn to_flags(v: &&Value, _: &Ty) -> Result<u32> {
        if let Value::Flags(bits) = v {
            Ok(*bits)
        } else {
            bad(v)
        }
    }
    fn to_handle(v: &&Value, ty: &Arc<Resource>, _: bool) -> Result<Handle> {
        match v {
            // A guest's resource is a host object to every other component that gets it.
            Value::Guest(g) if ty.host.is_some() => Ok(Handle::Host(g.clone())),
            Value::Guest(g) => Ok(Handle::Guest(g.clone())),
            Value::Host(h) if ty.host.is_some() => Ok(Handle::Host(h.clone())),
            // … and comes home as what it was.
            Value::Host(h) => match h.clone().downcast::<GuestHandle>() {
                Ok(g) => Ok(Handle::Guest(g)),
                Err(_) => bad(v),
            },
            _ => bad(v),
        }
    }
    fn to_stream(v: &&Value, _: Option<&TyRef>) -> Result<Feed<Self>> {
        match v {
            Value::Stream(m) => taken(m),
            Value::GuestStream(m, payload, home) => {
                let any = taken(m)?;
                if is_here(home) {
                    return Ok(Feed::Same(any));
                }
                let reader = home.read_stream(payload.clone(), any);
                Ok(Feed::Source(Box::new(Relay {
                    reader,
                    _home: home.clone(),
                })))
            }
            _ => bad(v),
        }
    }
    fn to_future(v: &&Value, _: Option<&TyRef>) -> Result<Settle<Self>> {
        match v {
            Value::Future(m) => taken(m),
            Value::GuestFuture(m, payload, home) => {
                let any = taken(m)?;
                if is_here(home) {
                    return Ok(Settle::Same(any));
                }
                let mut relay = Relay {
                    reader: home.read_future(payload.clone(), any),
                    _home: home.clone(),
                };
                Ok(Settle::Value(Box::pin(async move {
                    match std::future::poll_fn(|cx| relay.poll_next(cx)).await? {
                        Some(Chunk::Values(mut v)) if !v.is_empty() => Ok(v.remove(0)),
                        Some(_) => Ok(Value::Fields(vec![])),
                        None => bail!("the future was dropped by the component that had it"),
                    }
                })))
            }
            _ => bad(v),
        }
    }
    fn to_error_context(v: &&Value) -> Result<Val> {
        if let Value::ErrorContext(c) = v {
            Ok(c.clone())
        } else {
            bad(v)
        }
    }

    fn dropped(object: HostObject) -> Result<()> {
        drop(object);
        Ok(())
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}
