//! What values need beside their bytes: handles, and what follows on paths.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use loop_engine::{
    Chunk, Domain, Feed, Handle, Neutral, Num, Resource, Settle, Source, Ty, TyRef, Value, convert,
    parse_type,
};
use wasmtime::Result;

use crate::{
    Apart, BadBytes, Encoded, Message, Peer, Way, Wire, decode, encode, read_chunk, receive, write_chunk,
};

/// Gives handles by counting, and notes what it is asked for.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Noted {
    fn note(&self, what: String) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(what);
        all.len()
    }

    fn all(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Peer for Noted {
    fn give(&self, r: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        let Handle::Host(object) = handle else {
            panic!("a handle of a guest")
        };
        let object = object.downcast::<u8>().unwrap();
        self.note(format!("give {} {own} {object}", r.name));
        Ok(vec![0xaa; usize::from(*object)])
    }
    fn take(&self, r: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        self.note(format!("take {} {own} {bytes:?}", r.name));
        Ok(Handle::Host(Arc::new(bytes.len() as u8)))
    }
    fn stream(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Feed<Encoded>> {
        self.note(format!("stream {path:?} {:?}", payload.map(|t| t.wit())));
        Ok(Feed::Source(Box::new(Once::<Encoded>(None))))
    }
    fn future(&self, path: &[u32], payload: Option<&TyRef>) -> Result<Settle<Encoded>> {
        self.note(format!("future {path:?} {:?}", payload.map(|t| t.wit())));
        Ok(Settle::Value(Box::pin(std::future::pending())))
    }
}

struct Once<D: Domain>(Option<Chunk<D>>);

impl<D: Domain> Source<D> for Once<D> {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Chunk<D>>>> {
        Poll::Ready(Ok(self.0.take()))
    }
}

fn next<D: Domain>(source: &mut dyn Source<D>) -> Option<Chunk<D>> {
    match source.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next.unwrap(),
        Poll::Pending => panic!("a chunk that is not there"),
    }
}

fn ty(text: &str) -> TyRef {
    parse_type(text).unwrap()
}

fn sent(ty: &TyRef, value: Value, peer: &dyn Peer) -> Message {
    encode::<Neutral>(ty, &&value, peer).unwrap()
}

fn bytes(v: &[u8]) -> Bytes {
    Bytes::copy_from_slice(v)
}

fn stream(chunk: Chunk<Neutral>) -> Value {
    Value::Stream(Mutex::new(Some(Feed::Source(Box::new(Once(Some(chunk)))))))
}

fn future(value: Value) -> Value {
    let settle = Settle::Value(Box::pin(async move { Ok(value) }));
    Value::Future(Mutex::new(Some(settle)))
}

#[test]
fn handles_stand_in_their_places() {
    let ty = ty("tuple<own<file>, string, list<borrow<file>>, u8>");
    let peer = Noted::default();
    let list = Value::List(vec![Value::host(1_u8), Value::host(0_u8)]);
    let value = Value::Fields(vec![
        Value::host(2_u8),
        Value::string("x"),
        list,
        Value::Num(Num::U8, 7),
    ]);
    let made = sent(&ty, value, &peer);
    assert_eq!(made.bytes, b"\x02\xaa\xaa\x01x\x02\x01\xaa\x00\x07");
    assert_eq!(
        peer.all(),
        ["give file true 2", "give file false 1", "give file false 0"]
    );

    let back = decode::<Neutral>((), &ty, &Bytes::from(made.bytes), &peer).unwrap();
    let items = back.items().unwrap();
    assert_eq!(*items[0].as_host::<u8>().unwrap(), 2);
    assert_eq!(*items[2].items().unwrap()[0].as_host::<u8>().unwrap(), 1);
    let taken = [
        "take file true [170, 170]",
        "take file false [170]",
        "take file false []",
    ];
    assert_eq!(peer.all(), taken);
}

#[test]
fn a_peer_is_asked_only_when_all_bytes_are_good() {
    let peer = Noted::default();
    let tuple = Ty::tuple([ty("own<file>"), ty("record { a: stream<u8>, b: bool }")]).unwrap();
    let e = receive(&tuple, &bytes(b"\x01\xaa\x00\x02"), &peer).err().unwrap();
    let e = e.downcast::<BadBytes>().unwrap();
    assert_eq!(
        (e.offset, e.path.as_str(), e.cause.word()),
        (3, "1.b", "invalid-value")
    );
    assert!(peer.all().is_empty());
    let e = receive(&tuple, &bytes(b"\x01\xaa\x00\x01\x00"), &peer)
        .err()
        .unwrap();
    assert_eq!(e.downcast::<BadBytes>().unwrap().cause.word(), "trailing-bytes");
    assert!(peer.all().is_empty());
    let e = receive(&tuple, &bytes(b"\x01\xaa\x00\x01"), &Apart)
        .err()
        .unwrap();
    assert_eq!(
        e.to_string(),
        "the resource file cannot be received: nobody keeps it"
    );
    assert_eq!(
        receive(&tuple, &bytes(b"\x01\xaa\x00\x01"), &peer).unwrap().len(),
        2
    );
    assert_eq!(peer.all(), ["take file true [170]", "stream [1, 0] Some(\"u8\")"]);
}

#[test]
fn what_follows_has_its_path() {
    let ty = ty("record { n: option<stream<u64>>, v: list<variant { x, y(future<string>) }>, u: stream }");
    let chunk = Chunk::Raw(Box::new([1_u64.to_le_bytes(), 300_u64.to_le_bytes()].concat()));
    let y = Value::Case(1, Some(Box::new(future(Value::string("later")))));
    let value = Value::Fields(vec![
        Value::some(stream(chunk)),
        Value::List(vec![Value::Case(0, None), y]),
        stream(Chunk::Units(3)),
    ]);
    let made = sent(&ty, value, &Apart);
    assert_eq!(made.bytes, b"\x01\x00\x02\x00\x01\x00\x00");
    let paths: Vec<_> = made.pending.iter().map(|p| p.path.clone()).collect();
    assert_eq!(paths, [vec![0, 1], vec![1, 1, 1], vec![2]]);

    let mut chunks = vec![];
    for mut p in made.pending {
        chunks.push(match &mut p.way {
            Way::Stream(source) => {
                let chunk = next(&mut **source).unwrap();
                assert!(next(&mut **source).is_none());
                write_chunk(p.payload.as_ref(), chunk, 0, &Apart).unwrap().bytes
            }
            Way::Future(value) => match value.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => value.unwrap().finish(&Apart).unwrap().bytes,
                Poll::Pending => panic!("a value that is there"),
            },
        });
    }
    assert_eq!(chunks, [&b"\x02\x01\xac\x02"[..], b"\x05later", b"\x03"]);

    let peer = Noted::default();
    decode::<Neutral>((), &ty, &Bytes::from(made.bytes), &peer).unwrap();
    let asked = [
        "stream [0, 1] Some(\"u64\")",
        "future [1, 1, 1] Some(\"string\")",
        "stream [2] None",
    ];
    assert_eq!(peer.all(), asked);
}

#[test]
fn what_is_there_already_is_read_in_place() {
    let ty = ty("tuple<stream<string>, stream<u16>, future<u8>, stream>");
    let value = decode::<Neutral>(
        (),
        &ty,
        &bytes(b"\x01\x02\x01a\x00\x01\x01\xac\x02\x01\x07\x01\x02"),
        &Apart,
    )
    .unwrap();
    let items = value.items().unwrap();
    let chunk = |v: &Value| match v {
        Value::Stream(feed) => match feed.lock().unwrap().as_mut() {
            Some(Feed::Source(source)) => next(&mut **source).unwrap(),
            _ => panic!("no source"),
        },
        _ => panic!("no stream"),
    };
    match chunk(&items[0]) {
        Chunk::Values(v) => assert_eq!(
            v.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>(),
            ["a", ""]
        ),
        _ => panic!("no values"),
    }
    match chunk(&items[1]) {
        Chunk::Raw(raw) => assert_eq!((*raw).as_ref(), 300_u16.to_le_bytes()),
        _ => panic!("no numbers"),
    }
    match &items[2] {
        Value::Future(settle) => match settle.lock().unwrap().take() {
            Some(Settle::Value(mut value)) => {
                let value = value.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(value, Poll::Ready(Ok(Value::Num(Num::U8, 7)))));
            }
            _ => panic!("no value"),
        },
        _ => panic!("no future"),
    }
    assert!(matches!(chunk(&items[3]), Chunk::Units(2)));
}

#[test]
fn items_of_chunks_are_counted_on() {
    let ty = ty("future<string>");
    let peer = Noted::default();
    match read_chunk(Some(&ty), &bytes(b"\x02\x00\x00"), &[0, 4], 2, &peer).unwrap() {
        Chunk::Values(v) => assert_eq!(v.len(), 2),
        _ => panic!("no values"),
    }
    let asked = [
        "future [0, 4, 2] Some(\"string\")",
        "future [0, 4, 3] Some(\"string\")",
    ];
    assert_eq!(peer.all(), asked);

    let items = [future(Value::string("a")), future(Value::string("b"))];
    let item = |v: &Value| {
        Encoded::enter(|cx| convert::<Neutral, Encoded>(cx, &ty, &v).map(|v| Encoded::whole(cx, v))).unwrap()
    };
    let chunk: Chunk<Encoded> = Chunk::Values(items.iter().map(item).collect());
    let made = write_chunk(Some(&ty), chunk, 5, &Apart).unwrap();
    assert_eq!(made.bytes, b"\x02\x00\x00");
    assert_eq!(
        made.pending.iter().map(|p| p.path.clone()).collect::<Vec<_>>(),
        [[5], [6]]
    );
}

#[test]
fn chunks_that_are_none() {
    let bad = |text: &str, data: &[u8]| {
        let e = read_chunk(Some(&ty(text)), &bytes(data), &[0], 0, &Apart)
            .err()
            .unwrap();
        e.downcast::<BadBytes>().unwrap().cause.word()
    };
    assert_eq!(bad("u8", b"\x02a"), "truncated");
    assert_eq!(bad("u8", b"\x01ab"), "trailing-bytes");
    assert_eq!(bad("u16", b"\xff\xff\xff\xff\x0f"), "truncated");
    assert_eq!(bad("string", b"\xff\xff\xff\xff\x0f"), "truncated");
    assert_eq!(bad("string", b"\x01\x01\xff"), "invalid-utf8");
    assert_eq!(bad("tuple<>", b"\xff\xff\xff\xff\x0f"), "limit");
    let e = read_chunk(None, &bytes(b"\x01\x00"), &[0], 0, &Apart)
        .err()
        .unwrap();
    assert_eq!(e.downcast::<BadBytes>().unwrap().cause.word(), "trailing-bytes");
}

#[test]
fn values_are_read_again_from_their_beginning() {
    let tuple = Ty::tuple([ty("list<u32>"), ty("tuple<u8, string>")]).unwrap();
    let values = receive(&tuple, &bytes(b"\x01\xac\x02\x07\x01a"), &Apart).unwrap();
    let read = |v: &Wire, t: &str| {
        Encoded::enter(|cx| convert::<Encoded, Neutral>((), &ty(t), &Encoded::view(cx, v))).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(
            read(&values[0], "list<u32>").as_bytes().unwrap(),
            300_u32.to_le_bytes()
        );
        let pair = read(&values[1], "tuple<u8, string>");
        assert_eq!(pair.items().unwrap()[1].as_str().unwrap(), "a");
    }
}
