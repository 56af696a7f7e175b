//! Our side of the same interface: the wire crate alone, with Rust types for those of WIT.

use std::future::poll_fn;

use bytes::Bytes;
use loop_wire::codec::{self, Cursor, Decode, Encode, Invalid};
use loop_wire::plain::{Extent, Part, Roots};
use loop_wire::session::{Called, Handler, Reply, Request, Session};
use loop_wire::{Code, Failure, Interface};

/// The functions by their numbers.
pub const FUNCTIONS: [&str; 11] = [
    "small",
    "numbers",
    "compound",
    "bytes",
    "nothing",
    "fails",
    "streams",
    "later",
    "[constructor]counter",
    "[method]counter.add",
    "[static]counter.open",
];
pub const SMALL: u32 = 0;
pub const NUMBERS: u32 = 1;
pub const COMPOUND: u32 = 2;
pub const BYTES: u32 = 3;
pub const NOTHING: u32 = 4;
pub const FAILS: u32 = 5;
pub const STREAMS: u32 = 6;
pub const LATER: u32 = 7;
pub const NEW: u32 = 8;
pub const ADD: u32 = 9;
pub const OPEN: u32 = 10;

pub fn interface() -> Interface {
    Interface {
        name: "test:interop/kinds@0.1.0".into(),
        functions: FUNCTIONS.map(Into::into).to_vec(),
        types: vec![],
        resources: vec!["counter".into()],
    }
}

/// `variant shape`.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    None,
    Circle(f64),
    Polygon(Vec<(i32, String)>),
}

impl Encode for Shape {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Shape::None => 0u32.encode(out),
            Shape::Circle(r) => (1u32, *r).encode(out),
            Shape::Polygon(points) => {
                2u32.encode(out);
                points.encode(out);
            }
        }
    }
}

impl Decode for Shape {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        Ok(match from.case(3)? {
            0 => Shape::None,
            1 => Shape::Circle(f64::decode(from)?),
            _ => Shape::Polygon(Vec::decode(from)?),
        })
    }
}

/// Parameters and result of `numbers`; tuples within tuples have the same bytes as one.
pub type Numbers = ((u8, i8, u16, i16), (u32, i32, u64, i64), (f32, f64, bool, char));
/// Those of `compound`; flags are a byte.
pub type Compound = (
    Shape,
    (u32, u8),
    (Option<String>, Result<u32, String>),
    Vec<(String, u64)>,
);

/// Those of `streams`: pending, or all items at once.
pub type Streams = (Option<Vec<u8>>, Option<Vec<u64>>);

fn extent<T: Decode>(bytes: &[u8]) -> Extent {
    let mut from = Cursor::new(bytes);
    match T::decode(&mut from) {
        Ok(_) => Extent::Complete(bytes.len() - from.rest().len()),
        Err(Invalid::Truncated) => Extent::Truncated,
        Err(e) => Extent::Invalid(e),
    }
}

/// Knows the types of the interface.
pub struct Types;

impl Roots for Types {
    fn extent(&self, function: u32, part: Part<'_>, bytes: &[u8], _: bool) -> Extent {
        use Part::{Params, ParamsChannel, Result as Root, ResultChannel};
        let measure = match (function, part) {
            (SMALL, Params) => extent::<(u32, u32)>,
            (SMALL, Root) => extent::<u32>,
            (NUMBERS, _) => extent::<Numbers>,
            (COMPOUND, _) => extent::<Compound>,
            (BYTES, _) => extent::<Vec<u8>>,
            (FAILS, Root) => extent::<Result<(), String>>,
            (STREAMS, Params | Root) => extent::<Streams>,
            (STREAMS, ParamsChannel([0]) | ResultChannel([0, 0])) => extent::<Vec<u8>>,
            (STREAMS, ParamsChannel(_) | ResultChannel(_)) => extent::<Vec<u64>>,
            (LATER, Params | Root) => extent::<Option<String>>,
            (LATER, _) => extent::<String>,
            (NEW, Params) => extent::<u64>,
            (OPEN, Params) => extent::<String>,
            (NEW | OPEN, _) => extent::<Vec<u8>>,
            (ADD, Params) => extent::<(Vec<u8>, u64)>,
            (ADD, _) => extent::<u64>,
            _ => extent::<()>,
        };
        measure(bytes)
    }

    fn is_silent(&self, function: u32) -> bool {
        function == NOTHING
    }

    fn owns(&self, function: u32) -> bool {
        [NEW, OPEN].contains(&function)
    }
}

/// Serves the interface as the official side does.
pub struct Kinds;

fn answer<P: Decode, R: Encode>(root: &[u8], f: impl FnOnce(P) -> R) -> Reply {
    let params = codec::decode(root).map_err(Failure::from);
    Reply::Now(params.map(|params| codec::encode(&f(params)).into()))
}

impl Handler for Kinds {
    fn call(&self, session: &Session, called: Called) -> Reply {
        let root = &called.root[..];
        let (session, stream) = (session.clone(), called.stream);
        match called.function {
            SMALL => answer(root, |(a, b): (u32, u32)| a.wrapping_add(b)),
            NUMBERS => answer(root, |v: Numbers| v),
            COMPOUND => answer(root, |v: Compound| v),
            // the largest that there is: not copied
            BYTES => Reply::Now(Ok(called.root)),
            NOTHING => answer(root, |()| ()),
            FAILS => answer(root, |()| Err::<(), _>("it failed".to_owned())),
            NEW => answer(root, |start: u64| start.to_string().into_bytes()),
            OPEN => answer(root, |name: String| name.len().to_string().into_bytes()),
            ADD => answer(root, |(handle, n): (Vec<u8>, u64)| {
                let start: u64 = String::from_utf8_lossy(&handle).parse().unwrap_or_default();
                start + n
            }),
            STREAMS => Reply::Task(Box::pin(async move {
                let Ok((bytes, numbers)) = codec::decode::<Streams>(&called.root) else {
                    return session.close_call(stream);
                };
                session.respond(stream, Ok(Bytes::from_static(&[0, 0])), None, true);
                let one = echo(&session, stream, bytes.map(|b| codec::encode(&b)), &[0], &[0, 0]);
                let two = echo(
                    &session,
                    stream,
                    numbers.map(|n| codec::encode(&n)),
                    &[1],
                    &[0, 1],
                );
                futures::join!(one, two);
                session.close_call(stream);
            })),
            LATER => Reply::Task(Box::pin(async move {
                let Ok(ready) = codec::decode::<Option<String>>(&called.root) else {
                    return session.close_call(stream);
                };
                session.respond(stream, Ok(Bytes::from_static(&[0])), None, true);
                let text = match ready {
                    Some(text) => Some(text),
                    None => match read(&session, stream, &[0]).await {
                        Ok(value) => codec::decode(&value).ok(),
                        Err(_) => None,
                    },
                };
                if let Some(text) = text {
                    write(&session, stream, &[0], codec::encode(&format!("{text}, world"))).await;
                }
                session.close_call(stream);
            })),
            _ => Reply::Now(Err(Failure::new(
                Code::NoSuchFunction,
                "there is no such function",
            ))),
        }
    }
}

/// Sends the chunks of one stream, or what came of it at once, back by another.
async fn echo(session: &Session, stream: u32, ready: Option<Vec<u8>>, from: &[u32], to: &[u32]) {
    if let Some(all) = ready {
        if all[..] != [0] {
            write(session, stream, to, all).await;
        }
        return write(session, stream, to, vec![0]).await;
    }
    while let Ok(chunk) = read(session, stream, from).await {
        let last = chunk[..] == [0];
        write(session, stream, to, chunk).await;
        if last {
            return;
        }
    }
}

pub async fn read(session: &Session, stream: u32, path: &[u32]) -> Result<Bytes, Failure> {
    poll_fn(|cx| session.poll_read(stream, path, cx)).await
}

pub async fn write(session: &Session, stream: u32, path: &[u32], chunk: impl Into<Bytes>) {
    if poll_fn(|cx| session.poll_write(stream, path, cx)).await.is_some() {
        session.write(stream, path, chunk.into());
    }
}

/// Calls a function without streams.
pub async fn call<R: Decode>(session: &Session, function: u32, params: impl Encode) -> Result<R, Failure> {
    let request = Request {
        function,
        root: codec::encode(&params).into(),
        ..Request::default()
    };
    Ok(codec::decode(&session.call(request).await?.root)?)
}
