//! WebSockets between two ends of this provider, and with a peer that breaks the rules.

use std::sync::Arc;

use loop_engine::Num;

use super::server::{accept, listen, serving};
use super::*;

type Host = Arc<dyn std::any::Any + Send + Sync>;

fn text(t: &str) -> Value {
    Value::Case(0, Some(Box::new(s(t))))
}

fn binary(bytes: Vec<u8>) -> Value {
    Value::Case(1, Some(Box::new(Value::bytes(bytes))))
}

fn connect(bench: &Bench, port: u16, protocols: &[&str]) -> Result<Host, String> {
    let protocols = protocols.iter().map(|p| s(p)).collect();
    let args = vec![
        s(&format!("ws://127.0.0.1:{port}/chat")),
        fields(&[("origin", "http://here")]),
        Value::List(protocols),
        Value::none(),
    ];
    match bench.done("websocket#connect", args)?.unwrap() {
        Value::Host(socket) => Ok(socket),
        other => panic!("{other:?}"),
    }
}

fn call(bench: &Bench, socket: &Host, method: &str, rest: Vec<Value>) -> Result<Option<Value>, Value> {
    let args = std::iter::once(Value::Host(socket.clone())).chain(rest).collect();
    match bench.get(&format!("websocket#[method]connection.{method}"), args) {
        Value::Case(0, v) => Ok(v.map(|v| *v)),
        Value::Case(1, Some(v)) => Err(*v),
        other => panic!("{other:?}"),
    }
}

fn received(bench: &Bench, socket: &Host) -> Value {
    call(bench, socket, "receive", vec![]).ok().flatten().unwrap()
}

/// Code, reason and cleanness of the end that an operation meets.
fn ended(error: Value) -> (u64, String, bool) {
    let Value::Case(0, Some(closing)) = error else {
        panic!("{error:?}")
    };
    closing_of(&closing)
}

fn closing_of(v: &Value) -> (u64, String, bool) {
    let [code, reason, clean] = v.items().unwrap() else {
        panic!()
    };
    (
        code.as_u64().unwrap(),
        reason.as_str().unwrap().into(),
        matches!(clean, Value::Bool(true)),
    )
}

fn close(bench: &Bench, socket: &Host, code: u16, reason: &str) -> Result<(u64, String, bool), Value> {
    let code = Value::Num(Num::U16, code.into());
    call(bench, socket, "close", vec![code, s(reason)]).map(|v| closing_of(&v.unwrap()))
}

/// Both ends of a connection.
fn pair(bench: &Bench, protocols: &[&str], take: Option<&str>) -> (Host, Host) {
    let (listener, port) = listen(bench, vec![]);
    let upgrade = || {
        let exchange = accept(bench, &listener);
        let protocol = take.map_or_else(Value::none, |p| Value::some(s(p)));
        let args = vec![Value::Host(exchange), protocol, fields(&[("x-extra", "1")])];
        match bench.done("http-server#[method]exchange.upgrade", args).unwrap() {
            Some(Value::Host(socket)) => socket,
            other => panic!("{other:?}"),
        }
    };
    thread::scope(|scope| {
        let client = scope.spawn(|| connect(bench, port, protocols).unwrap());
        let server = upgrade();
        (client.join().unwrap(), server)
    })
}

#[test]
fn messages_of_both_kinds_go_both_ways() {
    let bench = serving(json!({}));
    let (client, server) = pair(&bench, &["v1", "v2"], Some("v2"));
    for end in [&client, &server] {
        let args = vec![Value::Host(end.clone())];
        let protocol = bench.get("websocket#[method]connection.protocol", args);
        let Value::Case(1, Some(protocol)) = protocol else {
            panic!()
        };
        assert_eq!(protocol.as_str().unwrap(), "v2");
    }
    for (from, to) in [(&client, &server), (&server, &client)] {
        call(&bench, from, "send", vec![text("héllo")]).ok().unwrap();
        call(&bench, from, "send", vec![binary(vec![0; 3 << 20])])
            .ok()
            .unwrap();
        let Value::Case(0, Some(t)) = received(&bench, to) else {
            panic!()
        };
        assert_eq!(t.as_str().unwrap(), "héllo");
        let Value::Case(1, Some(b)) = received(&bench, to) else {
            panic!()
        };
        assert_eq!(b.as_bytes().unwrap().len(), 3 << 20);
        assert!(
            call(&bench, from, "ping", vec![])
                .ok()
                .flatten()
                .unwrap()
                .as_u64()
                .unwrap()
                > 0
        );
    }
    assert_eq!(
        close(&bench, &client, 4321, "bye").unwrap(),
        (4321, "bye".into(), true)
    );
    let met = call(&bench, &server, "receive", vec![]).err().unwrap();
    assert_eq!(ended(met), (4321, "bye".into(), true));
    let met = call(&bench, &server, "send", vec![text("late")]).err().unwrap();
    assert_eq!(ended(met), (4321, "bye".into(), true));
}

#[test]
fn what_may_not_be_sent_is_refused_and_a_drop_says_goodbye() {
    let bench = serving(json!({"max-message": 1000}));
    let (client, server) = pair(&bench, &[], None);
    let Value::Case(1, Some(max)) = call(&bench, &client, "send", vec![binary(vec![0; 1001])])
        .err()
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(max.as_u64().unwrap(), 1000);
    for (code, reason) in [
        (999, ""),
        (1004, ""),
        (1005, ""),
        (1006, ""),
        (1015, ""),
        (5000, ""),
        (1000, &*"x".repeat(124)),
    ] {
        assert!(
            matches!(close(&bench, &client, code, reason), Err(Value::Case(2, _))),
            "{code}"
        );
    }
    drop(client);
    let met = call(&bench, &server, "receive", vec![]).err().unwrap();
    assert_eq!(ended(met), (1001, String::new(), true));
}

#[test]
fn handshakes_that_are_none_are_refused() {
    let bench = serving(json!({}));
    let (port, _) = scripted(|_, _| ok("no socket here"));
    assert_eq!(connect(&bench, port, &[]).unwrap_err(), "HTTP-upgrade-failed");
    let (port, _) = scripted(|_, _| {
        b"HTTP/1.1 101 Go\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: wrong\r\n\r\n"
            .to_vec()
    });
    assert_eq!(connect(&bench, port, &[]).unwrap_err(), "HTTP-upgrade-failed");
    let denied = Bench::new("netx", json!({}));
    assert_eq!(connect(&denied, port, &[]).unwrap_err(), "HTTP-request-denied");
    assert_eq!(
        connect(&bench, port, &["a b"]).unwrap_err(),
        "HTTP-request-header-invalid"
    );
    let args = vec![
        s(&format!("ws://127.0.0.1:{port}/")),
        fields(&[("sec-websocket-extensions", "permessage-deflate")]),
        Value::List(vec![]),
        Value::none(),
    ];
    assert_eq!(
        bench.done("websocket#connect", args).unwrap_err(),
        "HTTP-request-header-invalid"
    );

    let (listener, port) = listen(&bench, vec![]);
    for head in [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: short\r\n",
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client
            .write_all(format!("{head}host: a\r\n\r\n").as_bytes())
            .unwrap();
        let exchange = accept(&bench, &listener);
        let args = vec![Value::Host(exchange), Value::none(), fields(&[])];
        let refused = bench.done("http-server#[method]exchange.upgrade", args);
        assert_eq!(refused.unwrap_err(), "HTTP-upgrade-failed", "{head}");
    }
}

/// A frame of a client: its first byte, and a payload that the mask leaves as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut all = vec![first];
    match payload.len() {
        n @ 0..126 => all.push(0x80 | n as u8),
        n => {
            all.push(0x80 | 126);
            all.extend((n as u16).to_be_bytes());
        }
    }
    all.extend([0; 4]);
    all.extend(payload);
    all
}

/// The server's end of a connection whose client says these bytes, and what that client is told.
fn broken(bench: &Bench, bytes: &[u8]) -> (Host, Vec<u8>) {
    let (listener, port) = listen(bench, vec![]);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client
        .write_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
              sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let exchange = accept(bench, &listener);
    let args = vec![Value::Host(exchange), Value::none(), fields(&[])];
    let Some(Value::Host(socket)) = bench.done("http-server#[method]exchange.upgrade", args).unwrap() else {
        panic!()
    };
    assert!(
        head(&mut client)
            .unwrap()
            .contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    client.write_all(bytes).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut told = vec![];
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let read = client.read_to_end(&mut told);
    assert!(read.is_ok(), "{bytes:?}: {read:?} after {told:?}");
    (socket, told)
}

#[test]
fn fragments_and_pings_are_taken_and_broken_frames_end_the_connection() {
    let bench = serving(json!({"max-message": 1000}));
    let whole = [
        frame(0x01, "hé".as_bytes()),
        frame(0x89, b"ping"),
        frame(0x00, &"é".as_bytes()[..1]),
        frame(0x80, &"é".as_bytes()[1..]),
        frame(0x88, &[&1000u16.to_be_bytes()[..], b"done"].concat()),
    ]
    .concat();
    let (socket, told) = broken(&bench, &whole);
    let Value::Case(0, Some(t)) = received(&bench, &socket) else {
        panic!()
    };
    assert_eq!(t.as_str().unwrap(), "héé");
    let met = call(&bench, &socket, "receive", vec![]).err().unwrap();
    assert_eq!(ended(met), (1000, "done".into(), true));
    assert!(told.starts_with(b"\x8a\x04ping"), "{told:?}");

    for (bytes, code) in [
        (frame(0x81, b"\xff\xfe"), 1007),
        ([frame(0x01, b"\xc3"), frame(0x80, b"(")].concat(), 1007),
        (frame(0x82, &[0; 1001]), 1009),
        ([frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), 1009),
        (frame(0xc1, b"reserved bit"), 1002),
        (frame(0x83, b"reserved opcode"), 1002),
        (frame(0x80, b"a continuation of nothing"), 1002),
        (frame(0x09, b"a ping in pieces"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (vec![0x81, 0x02, b'h', b'i'], 1002), // without a mask
    ] {
        let (socket, told) = broken(&bench, &bytes);
        let met = call(&bench, &socket, "receive", vec![]).err().unwrap();
        let (met, _, clean) = ended(met);
        assert_eq!((met, clean), (code, false), "{bytes:?}");
        assert_eq!(told[0], 0x88, "{told:?}");
        assert_eq!(u16::from_be_bytes([told[2], told[3]]), code as u16, "{told:?}");
    }
    let (socket, _) = broken(&bench, b"");
    let met = call(&bench, &socket, "receive", vec![]).err().unwrap();
    assert_eq!(ended(met), (1006, String::new(), false));
}

#[test]
fn a_connection_that_became_a_socket_keeps_its_place_among_those_that_may_be_open() {
    let bench = serving(json!({"max-connections": 1}));
    let (listener, port) = listen(
        &bench,
        vec![Value::Fields(vec![s("socket"), Value::List(vec![]), s("/")])],
    );
    let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    first
        .write_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
              sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let args = vec![Value::Host(accept(&bench, &listener)), Value::none(), fields(&[])];
    let socket = bench.done("http-server#[method]exchange.upgrade", args).unwrap();
    assert!(head(&mut first).is_some());
    let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
    second
        .write_all(b"GET /none HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(second.read(&mut [0; 100]).is_err(), "it waits its turn");
    drop((socket, first));
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(head(&mut second).unwrap().starts_with("HTTP/1.1 404"));
}
