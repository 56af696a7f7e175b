//! Requests: whom they may reach, where they are led, and what comes back.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::netx::egress::Resolver;
use crate::netx::provide_by;

#[test]
fn a_response_is_whole_and_its_connection_is_used_again() {
    let (port, seen) = scripted(|n, _| ok(&format!("answer {n}")));
    let bench = local(json!({}));
    let url = format!("http://127.0.0.1:{port}/a?b=c#d");
    for n in 0..3 {
        let r = bench
            .fetch(
                request("POST", &url, &[("X-Name", "value")], Value::none()),
                Some(b"body"),
            )
            .unwrap();
        assert_eq!((r.status, &r.body[..]), (200, format!("answer {n}").as_bytes()));
        assert_eq!(r.url, url);
        assert!(r.trailers.is_empty());
        assert_eq!(r.headers, [("content-length".into(), "8".into())]);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen[0],
        format!(
            "POST /a?b=c HTTP/1.1\r\nx-name: value\r\naccept-encoding: gzip, br\r\nhost: 127.0.0.1:{port}\r\n\
             content-length: 4\r\n\r\nbody"
        )
    );
    assert_eq!(seen.len(), 3);
}

#[test]
fn nothing_is_reached_that_the_grant_does_not_name() {
    let (port, seen) = scripted(|_, _| ok("secret"));
    for (allow, url, error) in [
        (vec![], "http://127.0.0.1:PORT/", "HTTP-request-denied"),
        (
            vec!["https://127.0.0.1:PORT"],
            "http://127.0.0.1:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://127.0.0.1:1"],
            "http://127.0.0.1:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://*:*"],
            "http://127.0.0.1:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://localhost:*"],
            "http://127.0.0.1:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://127.0.0.1:*"],
            "http://localhost:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://*:*"],
            "http://localhost:PORT/",
            "destination-IP-prohibited",
        ),
        (vec!["http://*:*"], "http://[::1]:PORT/", "HTTP-request-denied"),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://[::ffff:127.0.0.1]:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://[::ffff:7f00:1]:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://*:*"],
            "http://[64:ff9b::7f00:1]:PORT/",
            "HTTP-request-denied",
        ),
        (
            vec!["http://*:*"],
            "http://[2002:7f00:1::]:PORT/",
            "HTTP-request-denied",
        ),
        (vec!["http://*:*"], "http://0.0.0.0:PORT/", "HTTP-request-denied"),
        (
            vec!["http://*:*"],
            "http://169.254.169.254/latest/meta-data",
            "HTTP-request-denied",
        ),
        (vec!["http://*:*"], "http://224.0.0.1/", "HTTP-request-denied"),
        // though the address is granted: whoever writes it so hides it from somebody
        (
            vec!["http://127.0.0.0/8:*"],
            "http://2130706433:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://0x7f000001:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://0177.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://127.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://127.0.0.1.:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://１２７.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://%31%32%37.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://u:p@127.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://127.0.0.1:PORT\\@evil/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "http://127.0.0.1:PORT/\r\nX: y",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "ftp://127.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (
            vec!["http://127.0.0.0/8:*"],
            "ws://127.0.0.1:PORT/",
            "HTTP-request-URI-invalid",
        ),
        (vec!["http://127.0.0.0/8:*"], "/path", "HTTP-request-URI-invalid"),
    ] {
        let port = port.to_string();
        let allow: Vec<_> = allow.iter().map(|a| a.replace("PORT", &port)).collect();
        let bench = Bench::new("netx", json!({ "allow": allow }));
        let url = url.replace("PORT", &port);
        assert_eq!(bench.fetch_url(&url).unwrap_err(), error, "{url} under {allow:?}");
    }
    assert!(seen.lock().unwrap().is_empty());
    let bench = Bench::new("netx", json!({}));
    let asked = vec![
        request("GET", "https://api.example.com/x", &[], Value::none()),
        Value::none(),
    ];
    assert!(
        bench
            .words("http-client#fetch", asked)
            .contains("add \"https://api.example.com:443\" to its `allow`")
    );
}

#[test]
fn a_granted_name_reaches_this_machine_only_as_localhost() {
    let (port, _) = scripted(|_, _| ok("here"));
    let bench = Bench::new("netx", json!({"allow": [format!("http://localhost:{port}")]}));
    let url = format!("http://LOCALHOST.:{port}/");
    assert_eq!(bench.fetch_url(&url).unwrap().body, b"here");
}

#[test]
fn a_name_that_is_bound_anew_leads_nowhere_else() {
    let closing = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    let (port, _) = scripted(move |_, _| closing("here"));
    let inner = TcpListener::bind(("127.0.0.2", port)).unwrap();
    inner.set_nonblocking(true).unwrap();
    let answers: [&[&str]; 5] = [
        &["127.0.0.1"],
        &["127.0.0.2"],
        &["127.0.0.2", "127.0.0.1"],
        &["::ffff:127.0.0.2"],
        &["127.0.0.1"],
    ];
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolver: Resolver = Arc::new(move |_| {
        let answer = answers[count.fetch_add(1, Relaxed)];
        Box::pin(async move { Ok(answer.iter().map(|ip| ip.parse().unwrap()).collect()) })
    });
    let grant = json!({"allow": [format!("http://bound.test:{port}"), format!("http://127.0.0.1:{port}")]});
    let bench = Bench::of("netx", |host| provide_by(&Json::Null, &grant, host, resolver)).unwrap();
    let said = answers.map(|_| {
        bench
            .fetch_url(&format!("http://bound.test:{port}/"))
            .map(|r| r.body)
    });
    let (here, not) = (
        || Ok(b"here".to_vec()),
        || Err("destination-IP-prohibited".to_string()),
    );
    assert_eq!(said, [here(), not(), here(), not(), here()]);
    // what was looked at is what was connected to: no request asked twice
    assert_eq!(asked.load(Relaxed), answers.len());
    assert!(
        inner.accept().is_err(),
        "somebody came to an address that no rule names"
    );
}

#[test]
fn redirects_are_asked_for_like_anything_else() {
    let (inner, secrets) = scripted(|_, _| ok("secret"));
    let to = format!("http://127.0.0.1:{inner}/");
    let (port, _) = scripted(move |_, head| match head.split(' ').nth(1).unwrap() {
        "/private" => redirect(302, &to),
        "/hex" => redirect(302, &to.replace("127.0.0.1", "0x7f.1")),
        "/login" => redirect(302, &to.replace("127", "u:p@127")),
        "/file" => redirect(302, "file:///etc/passwd"),
        "/loop" => redirect(302, "/loop"),
        "/relative" => redirect(307, "there?x"),
        _ => ok(&head[..head.find(' ').unwrap()]),
    });
    let bench = Bench::new("netx", json!({"allow": [format!("http://127.0.0.1:{port}")]}));
    let get = |path: &str| bench.fetch_url(&format!("http://127.0.0.1:{port}{path}"));
    assert_eq!(get("/private").unwrap_err(), "HTTP-request-denied");
    assert_eq!(get("/hex").unwrap_err(), "HTTP-request-URI-invalid");
    assert_eq!(get("/login").unwrap_err(), "HTTP-request-URI-invalid");
    assert_eq!(get("/file").unwrap_err(), "HTTP-request-URI-invalid");
    assert_eq!(get("/loop").unwrap_err(), "loop-detected");
    assert_eq!(
        get("/relative").unwrap().url,
        format!("http://127.0.0.1:{port}/there?x")
    );
    let unfollowed = request("GET", &format!("http://127.0.0.1:{port}/loop"), &[], follow(0));
    assert_eq!(bench.fetch(unfollowed, None).unwrap().status, 302);
    assert!(secrets.lock().unwrap().is_empty());
}

#[test]
fn secrets_stay_with_their_origin_and_methods_change_as_in_browsers() {
    let (other, seen) = scripted(|_, _| ok(""));
    let (port, _) = scripted(move |_, head| {
        let status = head.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        redirect(status, &format!("http://127.0.0.1:{other}/"))
    });
    let bench = local(json!({}));
    let secret = [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("content-type", "text/plain"),
        ("x", "y"),
    ];
    for (status, method, then, body) in [
        (301, "POST", "GET", false),
        (302, "POST", "GET", false),
        (303, "PUT", "GET", false),
        (302, "PUT", "PUT", true),
        (307, "POST", "POST", true),
        (308, "POST", "POST", true),
        (303, "HEAD", "HEAD", false),
    ] {
        let url = format!("http://127.0.0.1:{port}/{status}");
        let body_sent = (method != "HEAD").then_some(&b"body"[..]);
        bench
            .fetch(request(method, &url, &secret, Value::none()), body_sent)
            .unwrap();
        let head = seen.lock().unwrap().pop().unwrap();
        assert!(
            head.starts_with(&format!("{then} / ")),
            "{status} {method}: {head}"
        );
        assert_eq!(head.ends_with("\r\n\r\nbody"), body, "{head}");
        assert!(
            head.contains("x: y") && !head.contains("Bearer") && !head.contains("a=b"),
            "{head}"
        );
    }
}

#[test]
fn fields_that_could_smuggle_are_refused() {
    let (port, seen) = scripted(|_, _| ok(""));
    let bench = local(json!({}));
    let url = format!("http://127.0.0.1:{port}/");
    for (name, value) in [
        ("x", "a\r\nevil: b"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x", " a"),
        ("x y", "a"),
        ("", "a"),
        ("x:", "a"),
        ("x\r\nevil", "a"),
        ("Host", "evil"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
        ("proxy-authorization", "a"),
        ("content-length", "0"),
        ("content-length", "4, 4"),
        ("content-length", "+4"),
    ] {
        let r = bench.fetch(
            request("POST", &url, &[(name, value)], Value::none()),
            Some(b"body"),
        );
        assert_eq!(r.unwrap_err(), "HTTP-request-header-invalid", "{name}: {value}");
    }
    for method in ["", "G T", "GET\r\n", "CONNECT", "TRACE"] {
        let r = bench.fetch(request(method, &url, &[], Value::none()), None);
        assert_eq!(r.unwrap_err(), "HTTP-request-method-invalid", "{method}");
    }
    let long = "x".repeat(70_000);
    let r = bench.fetch(request("GET", &url, &[("x", &long)], Value::none()), None);
    assert_eq!(r.unwrap_err(), "HTTP-request-header-section-size");
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn responses_that_read_in_two_ways_are_refused_and_their_connection_is_not_used_again() {
    for (response, error) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP-protocol-error",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc",
            "HTTP-protocol-error",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP-protocol-error",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP-response-transfer-coding",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
            "HTTP-protocol-error",
        ),
        ("HTTP/1.1 200 OK\r\nx : y\r\n\r\n", "HTTP-protocol-error"),
        ("HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n", "HTTP-protocol-error"),
        ("junk\r\n\r\n", "HTTP-protocol-error"),
        (
            "HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "HTTP-upgrade-failed",
        ),
    ] {
        let bytes = response.as_bytes().to_vec();
        let (port, _) = scripted(move |n, _| if n == 0 { bytes.clone() } else { ok("next") });
        let bench = local(json!({}));
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(bench.fetch_url(&url).unwrap_err(), error, "{response:?}");
        assert_eq!(bench.fetch_url(&url).unwrap().body, b"next");
    }
}

#[test]
fn what_a_response_may_be_is_bounded() {
    let gzip = {
        let mut z = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        z.write_all(&vec![0; 8 << 20]).unwrap();
        z.finish().unwrap()
    };
    let (port, seen) = scripted(move |_, head| match head.split(' ').nth(1).unwrap() {
        "/bomb" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                gzip.len()
            );
            [head.as_bytes(), &gzip].concat()
        }
        "/stated" => b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec(),
        "/chunked" => {
            let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk.repeat(2)
            )
            .into_bytes()
        }
        "/head" => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000)).into_bytes(),
        "/fields" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200)).into_bytes(),
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc".to_vec(),
        "/coding" => b"HTTP/1.1 200 OK\r\ncontent-encoding: rot13\r\ncontent-length: 1\r\n\r\na".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc".to_vec(),
    });
    let bench = local(json!({"max-body": 1 << 20, "max-decoded": 4 << 20, "between-bytes-timeout": 0.2}));
    let error = |path: &str| {
        bench
            .fetch_url(&format!("http://127.0.0.1:{port}{path}"))
            .unwrap_err()
    };
    assert_eq!(error("/bomb"), "HTTP-response-body-size");
    assert_eq!(error("/stated"), "HTTP-response-body-size");
    assert_eq!(error("/chunked"), "HTTP-response-body-size");
    assert_eq!(error("/head"), "HTTP-response-header-section-size");
    assert_eq!(error("/fields"), "HTTP-response-header-section-size");
    assert_eq!(error("/short"), "connection-read-timeout");
    assert_eq!(error("/coding"), "HTTP-response-content-coding");
    assert_eq!(error("/broken"), "HTTP-response-content-coding");
    let sent = seen.lock().unwrap().len();
    let big = request("POST", &format!("http://127.0.0.1:{port}/"), &[], Value::none());
    assert_eq!(
        bench.fetch(big, Some(&vec![0; (1 << 20) + 1])).unwrap_err(),
        "HTTP-request-body-size"
    );
    assert_eq!(seen.lock().unwrap().len(), sent);

    // as a stream, a body is as long as it likes, but what it unfolds to is bounded
    let url = format!("http://127.0.0.1:{port}/bomb");
    let asked = vec![
        request("GET", &url, &[], Value::none()),
        Value::none(),
        Value::none(),
    ];
    let v = bench.done("http-streaming#send", asked).unwrap().unwrap();
    let [_, stream, end] = v.items().unwrap() else {
        panic!()
    };
    let (bytes, end) = bench.drain(stream, end);
    assert!(bytes.len() <= 4 << 20);
    assert_eq!(end.unwrap_err(), "HTTP-response-body-size");
}

#[test]
fn every_wait_has_an_end() {
    let (port, _) = scripted(|_, _| {
        std::thread::sleep(Duration::from_secs(3600));
        vec![]
    });
    let bench = local(json!({"first-byte-timeout": 0.1}));
    assert_eq!(
        bench.fetch_url(&format!("http://127.0.0.1:{port}/")).unwrap_err(),
        "HTTP-response-timeout"
    );
    let bench = local(json!({"total-timeout": 0.1}));
    assert_eq!(
        bench.fetch_url(&format!("http://127.0.0.1:{port}/")).unwrap_err(),
        "HTTP-response-timeout"
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_eq!(
        bench
            .fetch_url(&format!("http://127.0.0.1:{closed}/"))
            .unwrap_err(),
        "connection-refused"
    );
    // TLS with somebody who says nothing
    let bench = local(json!({"connect-timeout": 0.1}));
    assert_eq!(
        bench
            .fetch_url(&format!("https://127.0.0.1:{port}/"))
            .unwrap_err(),
        "connection-timeout"
    );
}

#[test]
fn connections_are_bounded_and_unused_ones_give_way() {
    let (a, _) = scripted(|_, _| ok("a"));
    let (b, _) = scripted(|_, _| ok("b"));
    let bench = local(json!({"max-connections": 1, "connect-timeout": 5}));
    for _ in 0..2 {
        assert_eq!(
            bench.fetch_url(&format!("http://127.0.0.1:{a}/")).unwrap().body,
            b"a"
        );
        assert_eq!(
            bench.fetch_url(&format!("http://127.0.0.1:{b}/")).unwrap().body,
            b"b"
        );
    }
    let held = bench
        .done(
            "http-streaming#send",
            vec![
                request("GET", &format!("http://127.0.0.1:{a}/"), &[], Value::none()),
                Value::none(),
                Value::none(),
            ],
        )
        .unwrap();
    let bench_error = {
        let options = Value::some(Value::Fields(vec![
            Value::some(Value::u64(100_000_000)),
            Value::none(),
            Value::none(),
            Value::none(),
            Value::none(),
            Value::Bool(true),
            Value::none(),
        ]));
        bench.fetch(
            request("GET", &format!("http://127.0.0.1:{b}/"), &[], options),
            None,
        )
    };
    assert_eq!(bench_error.unwrap_err(), "connection-limit-reached");
    drop(held);
    assert_eq!(
        bench.fetch_url(&format!("http://127.0.0.1:{b}/")).unwrap().body,
        b"b"
    );
}

#[test]
fn a_connection_that_ended_unseen_is_replaced() {
    let (port, seen) = scripted(|n, _| {
        // says nothing of its end
        if n % 2 == 0 { ok("first") } else { vec![] }
    });
    let bench = local(json!({}));
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(bench.fetch_url(&url).unwrap().body, b"first");
    // the server closes once it was asked again: what was sent may have been done, so nobody repeats it
    assert!(bench.fetch_url(&url).is_err());
    assert_eq!(bench.fetch_url(&url).unwrap().body, b"first");
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn bodies_stream_both_ways_with_trailers() {
    let (port, seen) = scripted(|_, _| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nsum: 5\r\n\r\n"
            .to_vec()
    });
    let bench = local(json!({}));
    let url = format!("http://127.0.0.1:{port}/");
    let send = |headers: &[(&str, &str)], body: Value| {
        let asked = vec![
            request("PUT", &url, headers, Value::none()),
            Value::some(body),
            Value::none(),
        ];
        bench.done("http-streaming#send", asked).map(Option::unwrap)
    };
    let v = send(&[("content-length", "6")], stream(&[b"one", b"two"])).unwrap();
    let [head, bytes, end] = v.items().unwrap() else {
        panic!()
    };
    assert_eq!(head.items().unwrap()[0].as_u64().unwrap(), 200);
    let (bytes, end) = bench.drain(bytes, end);
    assert_eq!(
        (&bytes[..], end.unwrap()),
        (&b"abcde"[..], vec![("sum".into(), "5".into())])
    );
    let head = seen.lock().unwrap()[0].clone();
    assert!(
        head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\nonetwo"),
        "{head}"
    );

    // a stream that is not as long as it was said to be ends the request, and the connection with it
    for body in [stream(&[b"short"]), stream(&[b"too", b" long"])] {
        assert_eq!(
            send(&[("content-length", "6")], body).unwrap_err(),
            "HTTP-request-body-size"
        );
    }
}
