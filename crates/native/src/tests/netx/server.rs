//! Servers: what reaches the component, and what its clients get.

use std::sync::Arc;

use super::*;

type Host = Arc<dyn std::any::Any + Send + Sync>;

fn host(v: Value) -> Host {
    match v {
        Value::Host(host) => host,
        other => panic!("{other:?}"),
    }
}

fn route(name: &str, methods: &[&str], path: &str) -> Value {
    let methods = methods.iter().map(|m| s(m)).collect();
    Value::Fields(vec![s(name), Value::List(methods), s(path)])
}

/// A server and its port.
pub fn listen(bench: &Bench, routes: Vec<Value>) -> (Host, u16) {
    let listener = bench.done("http-server#listen", vec![s("web"), Value::List(routes)]);
    let listener = host(listener.unwrap().unwrap());
    let address = bench.get(
        "http-server#[method]listener.address",
        vec![Value::Host(listener.clone())],
    );
    let port = address
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    (listener, port)
}

pub fn serving(mut grant: Json) -> Bench {
    grant["listen"] = json!({"web": {"address": "127.0.0.1:0"}});
    local(grant)
}

pub fn accept(bench: &Bench, listener: &Host) -> Host {
    let accepted = bench.done(
        "http-server#[method]listener.accept",
        vec![Value::Host(listener.clone())],
    );
    host(accepted.unwrap().unwrap())
}

fn respond(
    bench: &Bench,
    exchange: &Host,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(), String> {
    let status = Value::Num(loop_engine::Num::U16, status.into());
    let args = vec![
        Value::Host(exchange.clone()),
        status,
        fields(headers),
        Value::bytes(body.to_vec()),
    ];
    bench.done("http-server#[method]exchange.respond", args).map(drop)
}

/// What a connection that says this is told, until it is closed.
fn say(port: u16, what: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(what.as_bytes()).unwrap();
    let mut told = String::new();
    let read = stream.read_to_string(&mut told);
    assert!(read.is_ok(), "{what:?}: {read:?} after {told:?}");
    told
}

fn saying(port: u16, what: impl Into<String>) -> thread::JoinHandle<String> {
    let what = what.into();
    thread::spawn(move || say(port, &what))
}

#[test]
fn a_request_comes_by_its_route_and_is_answered() {
    let bench = serving(json!({}));
    let routes = vec![
        route("user", &["GET", "POST"], "/users/{id}"),
        route("any", &[], "/any"),
    ];
    let (listener, port) = listen(&bench, routes);
    let client = saying(
        port,
        "POST /users/7%2F8?a=b HTTP/1.1\r\nhost: me\r\nconnection: close\r\nX-A: 1\r\ncontent-length: 4\r\n\r\nbody",
    );
    let exchange = accept(&bench, &listener);
    let request = bench.get(
        "http-server#[method]exchange.request",
        vec![Value::Host(exchange.clone())],
    );
    let r = request.items().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    assert_eq!(
        [text(&r[0]), text(&r[1]), text(&r[3])],
        ["POST", "http", "/users/7%2F8"]
    );
    assert!(pairs(&r[5]).contains(&("x-a".into(), "1".into())));
    assert!(text(&r[7]).starts_with("127.0.0.1:"));
    assert_eq!(text(&r[8]), "user");
    let param = r[9].items().unwrap()[0].items().unwrap();
    assert_eq!([text(&param[0]), text(&param[1])], ["id", "7%2F8"]);
    let read = || {
        bench.done(
            "http-server#[method]exchange.read",
            vec![Value::Host(exchange.clone())],
        )
    };
    assert_eq!(read().unwrap().unwrap().as_bytes().unwrap(), b"body");
    assert_eq!(read().unwrap_err(), "internal-error");
    for (bad, error) in [
        (("x", "a\r\nb: c"), "HTTP-request-header-invalid"),
        (("transfer-encoding", "chunked"), "HTTP-request-header-invalid"),
        (("content-length", "3"), "HTTP-request-header-invalid"),
    ] {
        assert_eq!(
            respond(&bench, &exchange, 200, &[bad], b"done").unwrap_err(),
            error
        );
    }
    assert_eq!(
        respond(&bench, &exchange, 101, &[], b"").unwrap_err(),
        "HTTP-protocol-error"
    );
    respond(&bench, &exchange, 201, &[("x-b", "2")], b"done").unwrap();
    assert_eq!(
        respond(&bench, &exchange, 200, &[], b"").unwrap_err(),
        "internal-error"
    );
    let told = client.join().unwrap();
    assert!(
        told.starts_with("HTTP/1.1 201 Created\r\nx-b: 2\r\n") && told.ends_with("\r\n\r\ndone"),
        "{told}"
    );
}

#[test]
fn what_no_route_takes_and_what_is_dropped_never_waits() {
    let bench = serving(json!({}));
    let (listener, port) = listen(&bench, vec![route("a", &["GET", "POST"], "/a")]);
    let get = |line: &str| {
        say(
            port,
            &format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
    };
    assert!(get("GET /b").starts_with("HTTP/1.1 404"));
    let told = get("PUT /a");
    assert!(
        told.starts_with("HTTP/1.1 405") && told.contains("allow: GET, POST\r\n"),
        "{told}"
    );
    let client = saying(port, "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    drop(accept(&bench, &listener));
    assert!(client.join().unwrap().starts_with("HTTP/1.1 500"));
    drop(listener);
    // the port is free again
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {}
    let other = bench.done("http-server#listen", vec![s("other"), Value::List(vec![])]);
    assert_eq!(other.unwrap_err(), "HTTP-request-denied");
}

#[test]
fn requests_that_read_in_two_ways_are_refused() {
    let bench = serving(json!({}));
    let (listener, port) = listen(&bench, vec![]);
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\0: a\r\n\r\n",
        "GET /\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let told = say(
            port,
            &format!("{request}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
        );
        let refused = ["HTTP/1.1 400", "HTTP/1.1 501"]
            .iter()
            .any(|s| told.starts_with(s));
        assert!(refused || told.is_empty(), "{request:?}: {told}");
        assert_eq!(
            told.matches("HTTP/1.1").count(),
            usize::from(!told.is_empty()),
            "{request:?}: {told}"
        );
    }
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    assert!(say(port, &long).starts_with("HTTP/1.1 431"));
    // none of them came here
    let client = saying(port, "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let exchange = accept(&bench, &listener);
    let request = bench.get(
        "http-server#[method]exchange.request",
        vec![Value::Host(exchange.clone())],
    );
    assert_eq!(request.items().unwrap()[3].as_str().unwrap(), "/last");
    respond(&bench, &exchange, 200, &[], b"").unwrap();
    client.join().unwrap();
}

#[test]
fn a_request_of_two_lengths_is_the_last_of_its_connection() {
    let bench = serving(json!({}));
    let (listener, port) = listen(&bench, vec![]);
    for lengths in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "transfer-encoding: chunked",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let client = saying(
            port,
            format!("POST / HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}"),
        );
        let exchange = accept(&bench, &listener);
        respond(&bench, &exchange, 200, &[], b"one").unwrap();
        let told = client.join().unwrap();
        assert!(
            told.contains("connection: close\r\n") && told.ends_with("\r\n\r\none"),
            "{told}"
        );
    }
}

#[test]
fn bodies_are_bounded_in_length_and_in_time() {
    let bench = serving(json!({"max-body": 1000, "between-bytes-timeout": 0.1}));
    let (listener, port) = listen(&bench, vec![]);
    for (body, error) in [
        ("content-length: 1001\r\n\r\n", "HTTP-request-body-size"),
        ("content-length: 10\r\n\r\nabc", "connection-read-timeout"),
    ] {
        let client = saying(
            port,
            format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{body}"),
        );
        let exchange = accept(&bench, &listener);
        let read = bench.done(
            "http-server#[method]exchange.read",
            vec![Value::Host(exchange.clone())],
        );
        assert_eq!(read.unwrap_err(), error);
        respond(&bench, &exchange, 413, &[], b"").unwrap();
        assert!(client.join().unwrap().starts_with("HTTP/1.1 413"));
    }
    let idle = serving(json!({"connect-timeout": 0.1, "idle-timeout": 0.1}));
    let (_listener, port) = listen(&idle, vec![]);
    // a head that never ends is given up
    assert_eq!(say(port, "GET / HTTP/1.1\r\nhost: a\r\n"), "");
}

#[test]
fn who_does_not_read_its_answer_is_given_up() {
    let bench = serving(json!({"between-bytes-timeout": 0.2, "max-connections": 1}));
    let (listener, port) = listen(&bench, vec![]);
    let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    idle.write_all(ask.as_bytes()).unwrap();
    let exchange = accept(&bench, &listener);
    respond(&bench, &exchange, 200, &[], &vec![0; 64 << 20]).unwrap();
    drop(exchange);
    // its place is free for the next, though it has not gone
    let client = saying(port, ask);
    let exchange = accept(&bench, &listener);
    respond(&bench, &exchange, 200, &[], b"next").unwrap();
    assert!(client.join().unwrap().ends_with("next"));
    idle.shutdown(std::net::Shutdown::Both).ok();
}

#[test]
fn bodies_stream_both_ways() {
    let bench = serving(json!({}));
    let (listener, port) = listen(&bench, vec![]);
    let client = saying(
        port,
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\nsum: 5\r\n\r\n",
    );
    let exchange = accept(&bench, &listener);
    let body = bench.done(
        "http-server#[method]exchange.body",
        vec![Value::Host(exchange.clone())],
    );
    let body = body.unwrap().unwrap();
    let [bytes, end] = body.items().unwrap() else {
        panic!()
    };
    let (bytes, end) = bench.drain(bytes, end);
    assert_eq!(
        (&bytes[..], end.unwrap()),
        (&b"abcde"[..], vec![("sum".into(), "5".into())])
    );
    let status = Value::Num(loop_engine::Num::U16, 200);
    let trailers = crate::value::future(async { fields(&[("sum", "6")]) });
    let args = vec![
        Value::Host(exchange),
        status,
        fields(&[("trailer-is", "sum")]),
        stream(&[b"one", b"two"]),
        Value::some(trailers),
    ];
    bench
        .done("http-server#[method]exchange.respond-streaming", args)
        .unwrap();
    let told = client.join().unwrap();
    assert!(told.contains("3\r\none\r\n3\r\ntwo\r\n0\r\n"), "{told}");
}
