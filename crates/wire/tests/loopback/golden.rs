//! The bytes of every frame, in `tests/data/wire-golden.json`: made here, read here, and kept for other SDKs.
//!
//! One session in which each kind of frame comes at least once. What a frame says stands beside its bytes, as WIT types
//! and values, so that a test in another language needs nothing but its codec.

mod scene;

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_wire::codec::encode;
use loop_wire::frame::{PREFACE, kind};
use loop_wire::session::{Core, Event, Inbox, Meta, Request, Times};
use loop_wire::{Code, Failure, Hello, Interface, Limits, Link};
use serde_json::{Value, json};

use self::scene::{
    FAILURE, From, LINK, Says, Scene, Side, failure_value, frame, hello_type, hello_value, hex, says,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/wire-golden.json");
const FORMAT: &str = include_str!("golden.txt");

fn interface() -> Interface {
    Interface {
        name: "acme:kv/store@0.1.0".into(),
        functions: ["get", "[method]bucket.watch"].map(Into::into).to_vec(),
        types: vec![(0..32).collect(), (32..64).collect()],
        resources: vec!["bucket".into()],
    }
}

fn hello() -> Hello {
    Hello {
        software: "loop-kit/0.1.0".into(),
        instance: "9f1c".into(),
        limits: Limits {
            message: 1 << 20,
            calls: 8,
            channels: 4,
            window: 12,
            connection: 560,
            idle: 30_000,
        },
        ..Hello::default()
    }
}

/// A CALL's payload as it is said, without flags.
fn call_says(function: u32, link: u32, root: &[u8]) -> Says {
    vec![
        ("function", "u32".into(), json!(function)),
        ("link", "u32".into(), json!(link)),
        ("flags", "u8".into(), json!(0)),
        ("root", "bytes".into(), json!(hex(root))),
    ]
}

/// `through`: what hands the provider's WELCOME on adds to its transports.
fn begin(through: Option<&str>) -> Scene {
    let mut theirs = hello();
    theirs.identity = "app.example.com".into();
    theirs.token = b"secret".to_vec();
    theirs.imports.push(interface());
    let mut ours = hello();
    ours.generation = 3;
    ours.exports.push(interface());
    ours.config_schema = "{}".into();
    ours.transports.push("tcp://127.0.0.1:7000".into());
    ours.transports.extend(through.map(String::from));
    theirs.share();
    ours.share();
    let mut s = Scene {
        caller: Side {
            core: Core::initiator(&theirs),
            inbox: Inbox::new(1 << 20, false),
        },
        provider: Side {
            core: Core::acceptor(ours.limits.clone()),
            inbox: Inbox::new(1 << 20, true),
        },
        frames: vec![],
    };
    s.provider.inbox.feed(&PREFACE);
    match s.frame(
        From::Caller,
        "HELLO",
        says("hello", hello_type(), hello_value(&theirs)),
    ) {
        Some(Event::Hello(heard)) => assert_eq!(heard, theirs),
        other => panic!("{other:?}"),
    }
    s.provider.core.welcome(&ours, &theirs);
    match s.frame(
        From::Provider,
        "WELCOME",
        says("hello", hello_type(), hello_value(&ours)),
    ) {
        Some(Event::Welcome(heard)) => assert_eq!(heard, ours),
        other => panic!("{other:?}"),
    }
    s
}

fn links(s: &mut Scene) {
    let link = Link {
        number: 1,
        name: "app/acme:kv/store".into(),
        grant: "{\"read\":true}".into(),
        config: String::new(),
    };
    s.caller.core.link(&link).unwrap();
    let value = json!({"number": 1, "name": link.name, "grant": link.grant, "config": ""});
    match s.frame(From::Caller, "LINK", says("link", LINK, value)) {
        Some(Event::Link(heard)) => assert_eq!(heard, link),
        other => panic!("{other:?}"),
    }
    let no = Failure::new(Code::NotGranted, "writing is not granted").with("link", "app/acme:kv/store");
    for (name, number, failure) in [("LINKED", 1, None), ("LINKED, refused", 2, Some(no))] {
        s.provider.core.linked(number, failure.clone());
        let value = failure.as_ref().map(|f| json!({"some": failure_value(f)}));
        let mut all = says("number", "u32", json!(number));
        all.extend(says("failure", format!("option<{FAILURE}>"), json!(value)));
        match s.frame(From::Provider, name, all) {
            Some(Event::Linked(n, heard)) => assert_eq!((n, heard), (number, failure)),
            other => panic!("{other:?}"),
        }
    }
}

/// A call with all that can be said with one, and its answer with times.
fn full_call(s: &mut Scene) {
    let meta = Meta {
        deadline: Some(Duration::from_micros(1_500_000)),
        trace: Some(std::array::from_fn(|i| i as u8)),
        identity: Some("app.example.com".into()),
        key: b"key 1".to_vec(),
        timed: true,
    };
    let root = encode("name");
    let request = Request {
        link: 1,
        meta: meta.clone(),
        root: root.clone().into(),
        ..Request::default()
    };
    assert_eq!(s.caller.core.call(Instant::now(), request, 7), 1);
    let all: Says = vec![
        ("function", "u32".into(), json!(0)),
        ("link", "u32".into(), json!(1)),
        ("flags", "u8".into(), json!(0x1f)),
        ("deadline", "u64".into(), json!("1500000")),
        ("trace", "bytes".into(), json!(hex(&meta.trace.unwrap()))),
        ("identity", "string".into(), json!("app.example.com")),
        ("key", "list<u8>".into(), json!(meta.key)),
        ("root", "string".into(), json!("name")),
    ];
    match s.frame(From::Caller, "CALL, with everything", all) {
        Some(Event::Called(c)) => {
            assert_eq!((c.stream, c.function, c.link), (1, 0, 1));
            assert_eq!((c.meta, c.root), (meta, Bytes::from(root)));
        }
        other => panic!("{other:?}"),
    }
    let times = Times {
        queue: 1,
        decode: 200,
        provider: 30_000,
        encode: 4,
    };
    s.provider
        .core
        .respond(1, Ok(Bytes::from_static(b"\x01\x2a")), Some(&times), false);
    let mut all = says("flags", "u8", json!(1));
    for (name, n) in [("queue", 1), ("decode", 200), ("provider", 30_000), ("encode", 4)] {
        all.extend(says(name, "u64", json!(n.to_string())));
    }
    all.extend(says("root", "option<u8>", json!({"some": 42})));
    match s.frame(From::Provider, "RESULT, with times", all) {
        Some(Event::Answered {
            user: 7,
            times: heard,
            root,
            ..
        }) => {
            assert_eq!((heard, &root[..]), (Some(times), &b"\x01\x2a"[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// A call that waits for the connection's credit, and then fails.
fn failing_call(s: &mut Scene) {
    let request = Request {
        root: encode("name").into(),
        ..Request::default()
    };
    assert_eq!(s.caller.core.call(Instant::now(), request, 8), 3);
    assert!(s.caller.say().is_empty(), "there is no credit left for it");
    let credit = frame(kind::CREDIT, 0, &encode(&(vec![0u32; 0], 67u32)));
    let mut all = says("path", "list<u32>", json!([]));
    all.extend(says("bytes", "u32", json!(67)));
    assert!(
        s.made(From::Provider, "CREDIT, of the connection", all, &credit)
            .is_none()
    );
    let called = s.frame(From::Caller, "CALL", call_says(0, 0, b"\x04name"));
    assert!(matches!(called, Some(Event::Called(c)) if c.stream == 3));
    let failure = Failure::new(Code::Provider, "no such key")
        .with("type", "KeyError")
        .with("interface", "acme:kv/store@0.1.0")
        .with("function", "get");
    s.provider.core.respond(3, Err(failure.clone()), None, false);
    match s.frame(
        From::Provider,
        "FAIL",
        says("failure", FAILURE, failure_value(&failure)),
    ) {
        Some(Event::Failed {
            user: 8,
            failure: heard,
        }) => assert_eq!(heard, failure),
        other => panic!("{other:?}"),
    }
}

/// A call with streams, which is given up.
fn streaming_call(s: &mut Scene) {
    let request = Request {
        function: 1,
        root: Bytes::from_static(b"\x00"),
        streaming: true,
        ..Request::default()
    };
    s.made(
        From::Provider,
        "CREDIT, of the connection, once more",
        [
            says("path", "list<u32>", json!([])),
            says("bytes", "u32", json!(600)),
        ]
        .concat(),
        &frame(kind::CREDIT, 0, &encode(&(vec![0u32; 0], 600u32))),
    );
    assert_eq!(s.caller.core.call(Instant::now(), request, 9), 5);
    let called = s.frame(From::Caller, "CALL, with a stream", call_says(1, 0, b"\x00"));
    assert!(matches!(called, Some(Event::Called(c)) if c.stream == 5 && c.function == 1));
    s.provider
        .core
        .respond(5, Ok(Bytes::from_static(b"\x00")), None, true);
    let mut all = says("flags", "u8", json!(0));
    all.extend(says("root", "bytes", json!("00")));
    let answered = s.frame(From::Provider, "RESULT", all);
    assert!(
        matches!(answered, Some(Event::Answered { user: 9, times: None, root, .. }) if root == b"\x00"[..])
    );

    let path = || says("path", "list<u32>", json!([0]));
    let mut cx = Context::from_waker(Waker::noop());
    s.caller.core.write(5, &[0], encode(&b"hello"[..]).into());
    let chunk = says("chunk", "list<u8>", json!(b"hello"));
    assert!(s.frame(From::Caller, "DATA", [path(), chunk].concat()).is_none());
    let read = s.provider.core.poll_read(5, &[0], &mut cx);
    assert!(matches!(read, Poll::Ready(Ok(chunk)) if chunk == b"\x05hello"[..]));
    let granted = says("bytes", "u32", json!(8));
    assert!(
        s.frame(From::Provider, "CREDIT, of a stream", [path(), granted].concat())
            .is_none()
    );
    s.caller.core.write(5, &[0], Bytes::from_static(b"\x00"));
    let end = says("chunk", "list<u8>", json!([]));
    assert!(
        s.frame(From::Caller, "DATA, the end", [path(), end].concat())
            .is_none()
    );
    let read = s.provider.core.poll_read(5, &[0], &mut cx);
    assert!(matches!(read, Poll::Ready(Ok(chunk)) if chunk == b"\x00"[..]));

    // whoever has it goes on without the stream that it came in
    s.caller.core.expect(5, &[0, 1]);
    s.caller.core.stop(5, &[0]);
    assert!(s.frame(From::Caller, "STOP", path()).is_none());
    let written = s.provider.core.poll_write(5, &[0], &mut cx);
    assert!(matches!(written, Poll::Ready(None)), "nobody reads");
    let lost = Failure::new(Code::Provider, "the disk is gone");
    s.provider.core.lose(5, &[0, 1], &lost);
    let mut all = says("path", "list<u32>", json!([0, 1]));
    all.extend(says("failure", FAILURE, failure_value(&lost)));
    assert!(s.frame(From::Provider, "LOST", all).is_none());
    let read = s.caller.core.poll_read(5, &[0, 1], &mut cx);
    assert!(matches!(read, Poll::Ready(Err(f)) if f == lost));

    s.caller.core.cancel(5);
    let cancelled = s.frame(From::Caller, "CANCEL", vec![]);
    assert!(matches!(cancelled, Some(Event::Cancelled { stream: 5 })));
}

/// A call of the provider's in two parts.
fn call_in_parts(s: &mut Scene) {
    let head = [&encode(&9u64)[..], &[2, 0, 0], b"\x05he"].concat();
    let mut all = says("size", "u64", json!("9"));
    all.extend(call_says(2, 0, b"\x05he"));
    let first = frame(kind::CALL | kind::MORE, 2, &head);
    assert!(s.made(From::Provider, "CALL, first part", all, &first).is_none());
    let called = s.made(
        From::Provider,
        "CALL, last part",
        says("root", "bytes", json!(hex(b"llo"))),
        &frame(kind::CALL, 2, b"llo"),
    );
    assert!(matches!(called, Some(Event::Called(c)) if c.function == 2 && c.root == b"\x05hello"[..]));
}

/// A call whose root lies in the caller's arena, and the place given back.
#[cfg(target_os = "linux")]
fn shared_call(s: &mut Scene) {
    let (mut memory, descriptor) = loop_wire::arena::Arena::new(1 << 20).unwrap();
    s.provider.inbox.passed(descriptor);
    let bytes = frame(kind::ARENA, 0, &encode(&(1u64 << 20)));
    let size = says("size", "u64", json!("1048576"));
    assert!(s.made(From::Caller, "ARENA", size, &bytes).is_none());
    memory.write(4096, b"\x04name");
    let mut all = says("kind", "u8", json!(kind::CALL));
    all.extend(says("offset", "u32", json!(4096)));
    all.extend(says("length", "u32", json!(5)));
    all.extend(says("before it", "bytes", json!("000000")));
    let bytes = [&[kind::CALL][..], &encode(&(4096u32, 5u32)), &[0, 0, 0]].concat();
    let bytes = frame(kind::PLACED, 7, &bytes);
    match s.made(From::Caller, "PLACED", all, &bytes) {
        Some(Event::Called(c)) => assert_eq!((c.stream, c.root), (7, Bytes::from_static(b"\x04name"))),
        other => panic!("{other:?}"),
    }
    let bytes = s.provider.say();
    let places = says("places", "u32", json!(1));
    s.publish(From::Provider, "FREED", places, &bytes);
}

/// What has no stream.
fn others(s: &mut Scene) {
    s.caller.core.drop_handle(1, 0, b"b1");
    let mut all = says("link", "u32", json!(1));
    all.extend(says("resource", "u32", json!(0)));
    all.extend(says("handle", "list<u8>", json!(b"b1")));
    match s.frame(From::Caller, "DROP", all) {
        Some(Event::Dropped(1, 0, handle)) => assert_eq!(handle, b"b1"[..]),
        other => panic!("{other:?}"),
    }
    s.caller.core.unlink(1);
    let unlinked = s.frame(From::Caller, "UNLINK", says("number", "u32", json!(1)));
    assert!(matches!(unlinked, Some(Event::Unlink(1))));
    s.caller.core.reload(300);
    let reload = s.frame(From::Caller, "RELOAD", says("number", "u32", json!(300)));
    assert!(matches!(reload, Some(Event::Reload(300))));
    let cannot = Failure::new(Code::Provider, "this provider cannot reload");
    for (name, failure) in [("RELOADED", None), ("RELOADED, refused", Some(cannot))] {
        s.provider.core.reloaded(300, failure.clone());
        let value = failure.as_ref().map(|f| json!({"some": failure_value(f)}));
        let mut all = says("number", "u32", json!(300));
        all.extend(says("failure", format!("option<{FAILURE}>"), json!(value)));
        match s.frame(From::Provider, name, all) {
            Some(Event::Reloaded(300, heard)) => assert_eq!(heard, failure),
            other => panic!("{other:?}"),
        }
    }
    let payload = [1, 2, 3, 4, 5, 6, 7, 8];
    s.caller.core.ping(payload);
    let eight = || says("payload", "bytes", json!(hex(&payload)));
    assert!(s.frame(From::Caller, "PING", eight()).is_none());
    assert!(s.frame(From::Provider, "PONG", eight()).is_none());
    let leaving = Failure::gone("the provider is leaving", true);
    s.provider.core.go_away(&leaving);
    let value = failure_value(&leaving);
    match s.frame(From::Provider, "GOAWAY", says("failure", FAILURE, value)) {
        Some(Event::GoingAway(heard)) => assert_eq!(heard, leaving),
        other => panic!("{other:?}"),
    }
}

/// A session that is refused.
fn refused() -> Value {
    let mut s = begin(None);
    let hello = hello();
    s.caller.core = Core::initiator(&hello);
    s.caller.say();
    let no = Failure::new(
        Code::NoSuchInterface,
        "acme:kv/store@0.2.0 is not offered by the peer",
    )
    .with("interface", "acme:kv/store@0.2.0")
    .with("offered", "acme:kv/store@0.1.0");
    s.provider.core.refuse(&no);
    let bytes = s.provider.say();
    s.caller.inbox.feed(&bytes);
    let heard = s
        .caller
        .core
        .event(&mut s.caller.inbox)
        .expect_err("it is refused");
    assert_eq!(heard, no);
    json!({
        "name": "REFUSE", "from": "provider", "kind": kind::REFUSE, "stream": 0,
        "says": [{"name": "failure", "type": FAILURE, "value": failure_value(&no)}], "bytes": hex(&bytes),
    })
}

/// A call is over where a relay waits to hear of it.
fn done() -> Value {
    let mut s = begin(Some("done:"));
    let request = Request {
        root: encode("name").into(),
        ..Request::default()
    };
    assert_eq!(s.caller.core.call(Instant::now(), request, 7), 1);
    s.frame(From::Caller, "CALL", call_says(0, 0, b"\x04name"));
    s.provider
        .core
        .respond(1, Ok(Bytes::from_static(b"\x00")), None, false);
    let mut all = says("flags", "u8", json!(0));
    all.extend(says("root", "bytes", json!("00")));
    s.frame(From::Provider, "RESULT", all);
    assert!(s.frame(From::Caller, "DONE", vec![]).is_none());
    s.frames.pop().unwrap()
}

fn golden() -> Vec<Value> {
    let mut s = begin(None);
    links(&mut s);
    full_call(&mut s);
    failing_call(&mut s);
    streaming_call(&mut s);
    call_in_parts(&mut s);
    #[cfg(target_os = "linux")]
    shared_call(&mut s);
    others(&mut s);
    s.frames.insert(2, refused());
    s.frames.push(done());
    s.frames
}

/// The file: a frame a line.
fn file(frames: &[Value]) -> String {
    let lines = |all: Vec<String>| all.join(",\n  ");
    let frame = |f: &Value| {
        let keys = ["name", "from", "kind", "stream", "says", "bytes"];
        format!("{{{}}}", keys.map(|k| format!("\"{k}\": {}", f[k])).join(", "))
    };
    format!(
        "{{\n \"format\": [\n  {}\n ],\n \"preface\": \"{}\",\n \"frames\": [\n  {}\n ]\n}}\n",
        lines(FORMAT.lines().map(|l| json!(l).to_string()).collect()),
        hex(&PREFACE),
        lines(frames.iter().map(frame).collect()),
    )
}

#[test]
#[cfg(target_os = "linux")] // whose memory some frames are about
fn every_frame_has_the_bytes_that_are_published() {
    let frames = golden();
    let made = file(&frames);
    if std::env::var_os("LOOP_WRITE_GOLDEN").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    for (frame, kept) in frames.iter().zip(kept["frames"].as_array().unwrap()) {
        assert_eq!(frame, kept, "{}", frame["name"]);
    }
    assert!(
        serde_json::from_str::<Value>(&made).unwrap() == kept,
        "{FILE} is another; LOOP_WRITE_GOLDEN=1 writes it, and every SDK follows"
    );
}

/// The table of kinds in the specification, the constants and the file name the same frames.
#[test]
#[cfg(target_os = "linux")] // whose memory some frames are about
fn every_kind_of_frame_is_published() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md")).unwrap();
    let table = docs
        .split("### Frames")
        .nth(1)
        .unwrap()
        .split("\n**More.**")
        .next()
        .unwrap();
    let mut specified: Vec<_> = table
        .lines()
        .filter_map(|l| {
            let mut cells = l
                .strip_prefix("| `")?
                .split(['`', '|'])
                .map(str::trim)
                .filter(|c| !c.is_empty());
            let kind = u8::from_str_radix(cells.next()?, 16).ok()?;
            Some((kind, cells.next()?.to_owned()))
        })
        .collect();
    specified.sort();
    let mut published: Vec<_> = golden()
        .iter()
        .map(|f| {
            let name = f["name"].as_str().unwrap();
            let kind = f["kind"].as_u64().unwrap() as u8 & !kind::MORE;
            (kind, name.split(',').next().unwrap().to_owned())
        })
        .collect();
    published.sort();
    published.dedup();
    assert_eq!(published, specified);
}
