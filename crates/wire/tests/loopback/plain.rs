//! Plain mode: the recorded traces against both of our sides, and what sessions and plain mode share.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use loop_wire::codec::Cursor;
use loop_wire::plain::{Connector, Extent, Part, PlainServer, Roots, ToTheEnd};
use loop_wire::session::{Called, Handler, Meta, Reply, Request, Session};
use loop_wire::transport::{self, BoxIo, Options};
use loop_wire::{Code, Failure, Hello, Interface, Limits, Link, Service, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::peer::{self, Provider};
use crate::rig::patient;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/wrpc-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(v: &Value) -> Vec<u8> {
    let hex = v.as_str().unwrap();
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

type Frames = Vec<(Vec<u32>, Vec<u8>)>;

fn frames(v: &Value) -> Frames {
    let frame = |f: &Value| {
        let path = f["path"].as_array().unwrap();
        let path = path.iter().map(|s| s.as_u64().unwrap() as u32).collect();
        (path, bytes(&f["data"]))
    };
    v.as_array().unwrap().iter().map(frame).collect()
}

/// The frames after a header, or of a direction without one.
fn parse(bytes: &[u8], header: bool) -> Frames {
    let mut from = Cursor::new(bytes);
    if header {
        assert_eq!(from.byte(), Ok(0));
        from.string().unwrap();
        from.string().unwrap();
    }
    let mut frames = vec![];
    while !from.rest().is_empty() {
        let steps = from.unsigned(32).unwrap();
        let path = (0..steps).map(|_| from.unsigned(32).unwrap() as u32).collect();
        frames.push((path, from.bytes().unwrap().to_vec()));
    }
    frames
}

fn root(frames: &Frames) -> Bytes {
    Bytes::from(frames[0].1.clone())
}

/// Channels in the order of their first frames, each with all its bytes.
fn joined(frames: &Frames) -> Frames {
    let mut all: Frames = vec![];
    for (path, data) in frames {
        match all.iter_mut().find(|(p, _)| p == path) {
            Some((_, bytes)) => bytes.extend_from_slice(data),
            None => all.push((path.clone(), data.clone())),
        }
    }
    all
}

fn exports(trace: &Value) -> Vec<Interface> {
    vec![Interface {
        name: trace["instance"].as_str().unwrap().into(),
        types: vec![],
        functions: vec![trace["function"].as_str().unwrap().into()],
        resources: vec![],
    }]
}

/// Knows how long roots are, and takes each frame for a chunk.
struct Known {
    params: usize,
    result: usize,
}

impl Roots for Known {
    fn extent(&self, _: u32, part: Part<'_>, bytes: &[u8], _: bool) -> Extent {
        let n = match part {
            Part::Params => self.params,
            Part::Result => self.result,
            _ => bytes.len(),
        };
        if bytes.len() < n {
            Extent::Truncated
        } else {
            Extent::Complete(n)
        }
    }
}

/// Reads what the peer is to send, chunk by chunk.
async fn read(session: &Session, stream: u32, frames: &Frames) {
    for (path, data) in &frames[1..] {
        let chunk = patient(poll_fn(|cx| session.poll_read(stream, path, cx))).await;
        assert_eq!(chunk.unwrap(), data);
    }
}

async fn write(session: &Session, stream: u32, frames: &Frames) {
    for (path, data) in &frames[1..] {
        let room = patient(poll_fn(|cx| session.poll_write(stream, path, cx))).await;
        assert!(room.is_some());
        session.write(stream, path, data.clone().into());
    }
    session.finish(stream);
}

/// Does what a trace has of the server.
struct Replayed {
    client: Frames,
    server: Frames,
}

impl Handler for Replayed {
    fn call(&self, session: &Session, called: Called) -> Reply {
        assert_eq!(called.root, root(&self.client));
        let (session, stream) = (session.clone(), called.stream);
        let (client, server) = (self.client.clone(), self.server.clone());
        Reply::Task(Box::pin(async move {
            session.respond(stream, Ok(root(&server)), None, true);
            read(&session, stream, &client).await;
            write(&session, stream, &server).await;
            session.close_call(stream);
        }))
    }
}

fn server_of(trace: &Value) -> PlainServer {
    let (client, server) = (frames(&trace["client_frames"]), frames(&trace["server_frames"]));
    let roots = Known {
        params: root(&client).len(),
        result: root(&server).len(),
    };
    let hello = Hello {
        exports: exports(trace),
        ..Hello::default()
    };
    PlainServer::new(hello, Arc::new(Replayed { client, server }), Arc::new(roots))
}

#[tokio::test]
async fn traces_are_answered() {
    for trace in vectors()["traces"].as_array().unwrap() {
        for step in [1, usize::MAX] {
            let server = server_of(trace);
            let (mut ours, theirs) = duplex(1 << 20);
            let serving = tokio::spawn(server.serve(theirs));
            for part in bytes(&trace["client_bytes"]).chunks(step) {
                ours.write_all(part).await.unwrap();
            }
            ours.shutdown().await.unwrap();
            let mut got = vec![];
            patient(ours.read_to_end(&mut got)).await.unwrap();
            assert_eq!(
                joined(&parse(&got, false)),
                joined(&frames(&trace["server_frames"])),
                "{}",
                trace["name"]
            );
            patient(serving).await.unwrap().unwrap();
        }
    }
}

/// Connects to one end whose other end is sent along.
fn connector() -> (Connector, tokio::sync::mpsc::UnboundedReceiver<DuplexStream>) {
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    let connect: Connector = Arc::new(move || {
        let (ours, theirs) = duplex(1 << 20);
        let sent = tx.send(theirs).map_err(|_| Failure::gone("nobody listens", true));
        Box::pin(async move { sent.map(|()| Box::new(ours) as BoxIo) })
    });
    (connect, rx)
}

#[tokio::test]
async fn traces_are_called() {
    for trace in vectors()["traces"].as_array().unwrap() {
        let (client, server) = (frames(&trace["client_frames"]), frames(&trace["server_frames"]));
        let streaming = client.len() + server.len() > 2;
        let roots = Known {
            params: root(&client).len(),
            result: root(&server).len(),
        };
        let (connect, mut made) = connector();
        let session = Session::plain(connect, exports(trace), Limits::default(), Arc::new(roots));
        let call = session.call(Request {
            root: root(&client),
            streaming,
            ..Request::default()
        });
        let stream = call.stream();
        write(&session, stream, &client).await;
        let mut peer = patient(made.recv()).await.unwrap();
        let mut got = vec![];
        patient(peer.read_to_end(&mut got)).await.unwrap();
        let header = bytes(&trace["client_header"]);
        assert_eq!(got[..header.len()], header);
        assert_eq!(joined(&parse(&got, true)), joined(&client), "{}", trace["name"]);
        peer.write_all(&bytes(&trace["server_bytes"])).await.unwrap();
        drop(peer);
        assert_eq!(
            patient(call).await.unwrap().root,
            root(&server),
            "{}",
            trace["name"]
        );
        read(&session, stream, &server).await;
        session.close_call(stream);
        session.leave(&Failure::gone("the test is over", true)).await;
    }
}

#[tokio::test]
async fn bad_traces_are_refused_and_the_server_lives_on() {
    let vectors = vectors();
    let good = &vectors["traces"][1];
    let server = server_of(good);
    let try_one = async |sent: Vec<u8>| {
        let (mut ours, theirs) = duplex(1 << 20);
        let serving = tokio::spawn(server.serve(theirs));
        ours.write_all(&sent).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut got = vec![];
        patient(ours.read_to_end(&mut got)).await.unwrap();
        (patient(serving).await.unwrap(), got)
    };
    for (bad, why) in vectors["bad_traces"].as_array().unwrap().iter().zip([
        "framing version 0x01 is not known",
        "UTF-8",
        "is not offered here",
        "is not offered here",
        "a name of 4294967295 bytes",
    ]) {
        let (ended, got) = try_one(bytes(&bad["client_bytes"])).await;
        let failure = ended.expect_err(bad["name"].as_str().unwrap());
        assert!(failure.message.contains(why), "{} of {}", failure, bad["name"]);
        assert_eq!(got, b"", "{}", bad["name"]);
    }
    // the frame's size is looked at where the function is known
    let mut huge = bytes(&good["client_header"]);
    huge.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let (ended, _) = try_one(huge).await;
    assert!(ended.unwrap_err().message.contains("a frame of 4294967295 bytes"));
    let (ended, got) = try_one(bytes(&good["client_bytes"])).await;
    assert_eq!((ended, got), (Ok(()), bytes(&good["server_bytes"])));
}

/// Roots that are one `list<u8>`, and streams of them.
struct Lists;

impl Roots for Lists {
    fn extent(&self, _: u32, _: Part<'_>, bytes: &[u8], _: bool) -> Extent {
        let mut from = Cursor::new(bytes);
        match from.bytes() {
            Ok(_) => Extent::Complete(bytes.len() - from.rest().len()),
            Err(loop_wire::codec::Invalid::Truncated) => Extent::Truncated,
            Err(e) => Extent::Invalid(e),
        }
    }
}

fn lists() -> (Session, tokio::sync::mpsc::UnboundedReceiver<DuplexStream>) {
    let (connect, made) = connector();
    let session = Session::plain(
        connect,
        vec![peer::interface()],
        Limits::default(),
        Arc::new(Lists),
    );
    (session, made)
}

fn streaming(root: &'static [u8]) -> Request {
    Request {
        root: Bytes::from_static(root),
        streaming: true,
        ..Request::default()
    }
}

#[tokio::test]
async fn roots_and_chunks_may_be_cut_and_joined_at_will() {
    let (session, mut made) = lists();
    let call = session.call(streaming(&[0]));
    let stream = call.stream();
    let mut peer = patient(made.recv()).await.unwrap();
    // a list of 3 in two frames, then two chunks and a half in one, and the rest with the end
    peer.write_all(&[0, 2, 3, 1, 0, 2, 2, 3]).await.unwrap();
    peer.write_all(&[1, 0, 5, 1, 9, 1, 8, 2]).await.unwrap();
    peer.write_all(&[1, 0, 3, 7, 7, 0]).await.unwrap();
    assert_eq!(patient(call).await.unwrap().root, [3, 1, 2, 3][..]);
    for chunk in [&[1, 9][..], &[1, 8], &[2, 7, 7], &[0]] {
        let got = patient(poll_fn(|cx| session.poll_read(stream, &[0], cx))).await;
        assert_eq!(got.unwrap(), chunk);
    }
    drop(peer);
    let end = patient(poll_fn(|cx| session.poll_read(stream, &[0], cx))).await;
    assert_eq!(end.unwrap_err().code, Code::ProviderGone);
    session.close_call(stream);
}

#[tokio::test]
async fn what_comes_after_a_root_is_refused() {
    let (session, mut made) = lists();
    let call = session.call(streaming(&[0]));
    let mut peer = patient(made.recv()).await.unwrap();
    peer.write_all(&[0, 3, 1, 9, 9]).await.unwrap();
    assert_eq!(patient(call).await.unwrap_err().code, Code::Protocol);
}

#[tokio::test]
async fn failures_have_no_words_but_close_the_connection() {
    let (session, mut made) = lists();
    let call = session.call(streaming(&[0]));
    drop(patient(made.recv()).await.unwrap());
    let failure = patient(call).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::ProviderGone, false));
    drop(made);
    let failure = patient(session.call(streaming(&[0]))).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::ProviderGone, true));
    let missing = Request {
        function: 99,
        ..Request::default()
    };
    let failure = patient(session.call(missing)).await.unwrap_err();
    assert_eq!(failure.code, Code::NoSuchFunction);
}

#[tokio::test]
async fn cancelling_and_deadlines_close_the_connection() {
    let (session, mut made) = lists();
    let call = session.call(streaming(&[0]));
    let mut peer = patient(made.recv()).await.unwrap();
    drop(call);
    patient(peer.read_to_end(&mut vec![])).await.unwrap();
    let call = session.call(Request {
        meta: Meta {
            deadline: Some(Duration::from_millis(20)),
            ..Meta::default()
        },
        ..streaming(&[0])
    });
    let mut peer = patient(made.recv()).await.unwrap();
    assert_eq!(patient(call).await.unwrap_err().code, Code::DeadlineExceeded);
    patient(peer.read_to_end(&mut vec![])).await.unwrap();
    session.leave(&Failure::gone("the test is over", true)).await;
}

#[tokio::test]
async fn grants_are_not_taken_where_nobody_enforces_them() {
    let (session, _made) = lists();
    let link = |grant: &str| Link {
        number: 1,
        name: "app/kv".into(),
        grant: grant.into(),
        config: String::new(),
    };
    assert_eq!(session.link(link("{}")).await, Ok(()));
    let failure = session.link(link("{\"read\":true}")).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.field("link")),
        (Code::NotGranted, Some("app/kv"))
    );
    assert!(session.reload().await.is_err());
    assert!(session.is_plain());
}

struct Owns;

impl Roots for Owns {
    fn extent(&self, function: u32, part: Part<'_>, bytes: &[u8], ended: bool) -> Extent {
        ToTheEnd.extent(function, part, bytes, ended)
    }

    fn owns(&self, function: u32) -> bool {
        function == peer::ECHO
    }
}

#[tokio::test]
async fn owned_handles_are_served_only_if_that_is_wanted() {
    let hello = peer::hello(true, Limits::default());
    let server = || PlainServer::new(hello.clone(), Arc::new(Provider::new().0), Arc::new(Owns));
    for (server, served) in [(server(), false), (server().with_handles(), true)] {
        let (connect, mut made) = connector();
        let session = Session::plain(
            connect,
            hello.exports.clone(),
            Limits::default(),
            Arc::new(ToTheEnd),
        );
        let call = session.call(Request {
            root: Bytes::from_static(b"thing"),
            ..Request::default()
        });
        let ended = patient(server.serve(patient(made.recv()).await.unwrap())).await;
        assert_eq!(ended.is_ok(), served);
        assert_eq!(patient(call).await.is_ok(), served);
    }
}

/// A server that lets in only those who show a token.
struct Closed(Mutex<u32>);

impl Handler for Closed {
    fn call(&self, _: &Session, _: Called) -> Reply {
        *self.0.lock().unwrap() += 1;
        Reply::Now(Ok(Bytes::new()))
    }

    fn accept(&self, theirs: &Hello) -> Result<(), Failure> {
        match theirs.token.is_empty() {
            true => Err(Failure::new(Code::Unauthenticated, "a token is asked for")),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn plain_mode_is_no_way_around_a_token() {
    let closed = Arc::new(Closed(Mutex::new(0)));
    let server = PlainServer::new(
        peer::hello(true, Limits::default()),
        closed.clone(),
        Arc::new(ToTheEnd),
    );
    let (_ours, theirs) = duplex(1 << 10);
    let failure = patient(server.serve(theirs)).await.unwrap_err();
    assert_eq!(failure.code, Code::Unauthenticated);
    assert_eq!(*closed.0.lock().unwrap(), 0);
}

/// Both modes at one address; on quic, which tells them apart from the start, at two.
async fn both_modes(address: &str) {
    let hello = peer::hello(true, Limits::default());
    let provider = Arc::new(Provider::new().0);
    let plain = PlainServer::new(hello.clone(), provider.clone(), Arc::new(ToTheEnd));
    let mut service = Service::new(hello.clone(), move |_| provider.clone());
    service.others = Arc::new(plain);
    let options = Options {
        plain: true,
        ..Options::default()
    };
    let listener = transport::listen(&address.parse().unwrap(), &options)
        .await
        .unwrap();
    let server = serve(listener, service);
    let at = server.addresses()[0].clone();
    let connect = crate::rig::connector(&at, &options).await;
    let session = Session::plain(connect, hello.exports, Limits::default(), Arc::new(ToTheEnd));
    let large = Bytes::from(vec![7; 1 << 20]);
    for root in [Bytes::from_static(b"small"), large] {
        let answers = futures::future::join_all((0..8).map(|_| {
            session.call(Request {
                root: root.clone(),
                ..Request::default()
            })
        }));
        for answer in patient(answers).await {
            assert_eq!(answer.unwrap().root, root);
        }
    }
    let failing = Request {
        function: peer::FAIL,
        ..Request::default()
    };
    let failure = patient(session.call(failing)).await.unwrap_err();
    assert_eq!(failure.code, Code::ProviderGone);
    if at.scheme() != "quic" {
        let connection = transport::connect(&at, &Options::default()).await.unwrap();
        let (session, _driver) = crate::rig::session(connection, Limits::default()).await;
        patient(session.ready()).await.unwrap();
    }
    session.leave(&Failure::gone("the test is over", true)).await;
}

#[tokio::test]
async fn both_modes_on_tcp() {
    both_modes("tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn both_modes_on_unix() {
    let folder = tempfile::tempdir().unwrap();
    both_modes(&format!("unix:{}/socket", folder.path().display())).await;
}

#[tokio::test]
async fn both_modes_on_quic() {
    both_modes("quic://127.0.0.1:0").await;
}

#[tokio::test]
async fn both_modes_on_ws() {
    both_modes("ws://127.0.0.1:0/loop").await;
}
