//! Sessions over transports that multiplex by themselves.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use loop_wire::codec::Encode;
use loop_wire::frame::{Header, PREFACE, kind};
use loop_wire::session::{Nothing, Request, Session, accept_native, connect_native};
use loop_wire::transport::{self, Connection, Native, Options};
use loop_wire::{Code, Hello, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{self, CHUNK, ECHO, Provider, STREAMS, hello};
use crate::rig::{Way, patient, request, rig};

/// Both ends of a native connection to this machine.
async fn pair(address: &str, options: &Options) -> (Arc<dyn Native>, Arc<dyn Native>, String) {
    let mut listener = transport::listen(&address.parse().unwrap(), options)
        .await
        .unwrap();
    let (at, connecting) = (listener.addresses().remove(0), Options::default());
    let (theirs, ours) = futures::join!(
        async { listener.accept().await.unwrap().unwrap().await.unwrap() },
        transport::connect(&at, &connecting)
    );
    match (ours.unwrap(), theirs) {
        (Connection::Native(ours, _), Connection::Native(theirs, _)) => {
            (ours.into(), theirs.into(), at.to_string())
        }
        _ => panic!("they are native"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_invocation_delays_no_other() {
    for way in [Way::Quic, Way::Http2] {
        let rig = rig(way).await;
        let stalled = rig.session.call(Request {
            streaming: true,
            ..request(STREAMS, "endless")
        });
        let stream = stalled.stream();
        patient(stalled).await.unwrap();
        // nobody reads it; its writer fills the window and waits
        let window = Limits::default().window as usize;
        patient(async {
            while rig.seen.written.load(std::sync::atomic::Ordering::SeqCst) + CHUNK < window {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for _ in 0..100 {
            let answer = patient(rig.session.call(request(ECHO, vec![7; 100_000]))).await;
            assert_eq!(answer.unwrap().root.len(), 100_000);
        }
        let chunk = patient(poll_fn(|cx| rig.session.poll_read(stream, &[0], cx))).await;
        assert_eq!(chunk.unwrap().len(), CHUNK);
        rig.session.stop(stream, &[0]);
        rig.session.close_call(stream);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_call_back() {
    for address in ["quic://127.0.0.1:0", "http2://127.0.0.1:0"] {
        let (ours, theirs, _) = pair(address, &Options::default()).await;
        let serving = Arc::new(Provider::new().0);
        let begun = connect_native(ours, hello(true, Limits::default()), serving);
        let (_ours, driver) = patient(begun).await.unwrap();
        tokio::spawn(driver);
        let begun = accept_native(theirs, hello(false, Limits::default()), Arc::new(Nothing));
        let (theirs, driver) = patient(begun).await.unwrap();
        tokio::spawn(driver);
        patient(theirs.ready()).await.unwrap();
        let calls = (0..50u32).map(|i| theirs.call(request(ECHO, i.to_le_bytes().to_vec())));
        for (i, answer) in patient(futures::future::join_all(calls))
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(answer.unwrap().root, (i as u32).to_le_bytes()[..]);
        }
    }
}

/// The acceptor's session, and the control stream and connection of a peer that is played by hand.
async fn by_hand() -> (Session, transport::BoxIo, Arc<dyn Native>) {
    let (ours, theirs, _) = pair("quic://127.0.0.1:0", &Options::default()).await;
    let mut control = ours.open().await.unwrap();
    control.write_all(&PREFACE).await.unwrap();
    let mut said = vec![];
    Hello::default().encode(&mut said);
    control.write_all(&frame(kind::HELLO, 0, &said)).await.unwrap();
    let provider = Arc::new(Provider::new().0);
    let (session, driver) = accept_native(theirs, hello(true, Limits::default()), provider)
        .await
        .unwrap();
    tokio::spawn(driver);
    patient(session.ready()).await.unwrap();
    (session, control, ours)
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Bytes {
    let length = payload.len();
    let mut frame = BytesMut::from(&Header { length, kind, stream }.bytes()[..]);
    frame.extend_from_slice(payload);
    frame.freeze()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_has_the_frames_of_a_session() {
    let (_session, _control, native) = by_hand().await;
    let mut io = native.open().await.unwrap();
    io.write_all(&frame(kind::CALL, 1, &[0, 0, 0, 9, 8]))
        .await
        .unwrap();
    let mut got = vec![];
    patient(io.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, frame(kind::RESULT, 1, &[0, 9, 8]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn breaking_the_rules_on_an_invocation_ends_the_session() {
    for (wrong, why) in [
        (frame(kind::CALL, 3, &[0, 0, 0]), "stream 3"),
        (frame(kind::PING, 1, &[0; 8]), "frame 0x20"),
        (frame(kind::CREDIT, 0, &[0, 1]), "stream 0"),
        (frame(kind::DATA, 1, &[0]), "was never opened"),
    ] {
        let (session, _control, native) = by_hand().await;
        let mut io = native.open().await.unwrap();
        io.write_all(&wrong).await.unwrap();
        let ended = patient(session.closed()).await;
        assert_eq!(ended.code, Code::Protocol, "{ended}");
        assert!(ended.message.contains(why), "{ended}");
    }
    let (session, mut control, _native) = by_hand().await;
    control
        .write_all(&frame(kind::CALL, 1, &[0, 0, 0]))
        .await
        .unwrap();
    assert_eq!(
        patient(session.closed()).await.code,
        Code::Protocol,
        "a call on the control stream"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_costs_its_call_alone() {
    let (session, _control, native) = by_hand().await;
    let mut io = native.open().await.unwrap();
    io.write_all(&frame(kind::CALL, 1, &[0, 0])[..9]).await.unwrap();
    drop(io);
    let mut io = native.open().await.unwrap();
    io.write_all(&frame(kind::CALL, 1, &[0, 0, 0])).await.unwrap();
    let mut got = vec![];
    patient(io.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, frame(kind::RESULT, 1, &[0]));
    assert_eq!(session.over(), None);
}

#[tokio::test]
async fn quic_needs_certificates_beyond_this_machine() {
    let address = "quic://192.0.2.1:7000".parse().unwrap();
    let failure = transport::connect(&address, &Options::default())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (failure.code, failure.field("option")),
        (Code::BadValue, Some("tls"))
    );
    let address = "quic://0.0.0.0:0".parse().unwrap();
    let failure = transport::listen(&address, &Options::default())
        .await
        .err()
        .unwrap();
    assert_eq!(failure.code, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_tells_the_modes_apart_from_the_start() {
    let plain = Options {
        plain: true,
        ..Options::default()
    };
    let mut listener = transport::listen(&"quic://127.0.0.1:0".parse().unwrap(), &plain)
        .await
        .unwrap();
    let at = listener.addresses().remove(0);
    let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
    let failure = patient(transport::connect(&at, &Options::default()))
        .await
        .err()
        .unwrap();
    assert_eq!(failure.code, Code::Protocol, "{failure}");
    assert!(failure.message.contains("plain mode"), "{failure}");
    accepting.abort();
}

/// What a request without body is answered, by hand as curl would.
async fn ask(at: &str, method: &str, path: &str) -> (u16, String) {
    let io = tokio::net::TcpStream::connect(at).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://{at}{path}"))
        .body(())
        .unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let response = patient(response).await.unwrap();
    let (status, mut body) = (response.status().as_u16(), response.into_body());
    let mut text = vec![];
    while let Some(part) = patient(body.data()).await {
        text.extend_from_slice(&part.unwrap());
    }
    (status, String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_what_is_served() {
    let served = hello(true, Limits::default());
    let options = Options {
        about: Some(Arc::new(served.clone())),
        ..Options::default()
    };
    let listener = transport::listen(&"http2://127.0.0.1:0".parse().unwrap(), &options)
        .await
        .unwrap();
    let provider = Arc::new(Provider::new().0);
    let server = loop_wire::serve(
        listener,
        loop_wire::Service::new(served, move |_| provider.clone()),
    );
    let at = server.addresses()[0].place().unwrap().to_string();
    let (status, text) = ask(&at, "GET", "/").await;
    assert_eq!(status, 200);
    for said in [
        "loop-kit/",
        "test:wire/provider@0.1.0",
        peer::FUNCTIONS[0],
        &format!("http2://{at}"),
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert_eq!(ask(&at, "HEAD", "/").await, (200, String::new()));
    let (status, text) = ask(&at, "GET", "/kv").await;
    assert_eq!(
        (status, &text[..]),
        (404, "There is nothing at /kv; GET / tells what is served here.\n")
    );
    assert_eq!(ask(&at, "GET", "/loop/call").await.0, 405);
}
