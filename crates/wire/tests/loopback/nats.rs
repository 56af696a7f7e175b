//! NATS, with a real server: `NATS_SERVER` says where its program is. Without it these tests do nothing.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use loop_wire::session::{Nothing, Session};
use loop_wire::transport::{self, Connection, Login, Options};
use loop_wire::{Address, Code, Failure, Limits, serve};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::peer::{ECHO, NEVER, Provider, hello};
use crate::rig::{patient, request, service, session};

pub fn binary() -> Option<std::ffi::OsString> {
    let found = std::env::var_os("NATS_SERVER");
    if found.is_none() {
        eprintln!("skipped: NATS_SERVER does not say where the program is");
    }
    found
}

/// A server, until it is dropped.
pub struct Nats {
    child: Child,
    port: u16,
}

impl Nats {
    pub async fn start(arguments: &[&str]) -> Self {
        Self::at(0, arguments).await
    }

    /// At that port, or with 0 at any.
    async fn at(port: u16, arguments: &[&str]) -> Self {
        let asked = if port == 0 { "-1".into() } else { port.to_string() };
        let mut child = Command::new(binary().expect("a program"))
            .args(["-a", "127.0.0.1", "-p", &asked])
            .args(arguments)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a server");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut port = None;
        while let Some(line) = patient(lines.next_line()).await.unwrap() {
            if let Some((_, at)) = line.split_once("client connections on 127.0.0.1:") {
                port = at.trim().parse().ok();
            }
            if line.contains("Server is ready") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Nats {
            child,
            port: port.expect("a port"),
        }
    }

    pub fn address(&self, subject: &str) -> String {
        format!("nats://127.0.0.1:{}/{subject}", self.port)
    }

    fn place(&self) -> Address {
        self.address("test.kv").parse().unwrap()
    }

    async fn raw(&self) -> Raw {
        let io = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut raw = Raw(BufReader::new(io));
        assert!(raw.line().await.starts_with("INFO"));
        raw.say("CONNECT {\"headers\":true,\"no_responders\":true}").await;
        raw
    }
}

/// A client that says what it likes.
struct Raw(BufReader<TcpStream>);

impl Raw {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        patient(self.0.read_line(&mut line)).await.unwrap();
        line.trim_end().into()
    }

    async fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.say(&format!("PUB {subject} {reply} {}", payload.len()))
            .await;
        self.0.write_all(payload).await.unwrap();
        self.say("").await;
    }

    /// The next message: its reply subject and payload.
    async fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line().await;
            let words: Vec<_> = line.split(' ').collect();
            match words[0] {
                "PING" => self.say("PONG").await,
                "MSG" => {
                    let mut payload = vec![0; words.last().unwrap().parse::<usize>().unwrap() + 2];
                    patient(self.0.read_exact(&mut payload)).await.unwrap();
                    payload.truncate(payload.len() - 2);
                    let reply = if words.len() == 5 { words[3] } else { "" };
                    return (reply.into(), payload);
                }
                _ => {}
            }
        }
    }

    /// Opens a stream; where it is written to.
    async fn open(&mut self, inbox: &str) -> String {
        self.say(&format!("SUB {inbox} 1")).await;
        let open = [&[1, 1][..], &(1u64 << 20).to_le_bytes()].concat();
        self.publish("test.kv", inbox, &open).await;
        let (reply, payload) = self.message().await;
        assert_eq!(payload[0], 2, "an ACCEPT");
        reply
    }

    /// What ends the stream.
    async fn reset(&mut self) -> String {
        loop {
            let (_, payload) = self.message().await;
            if payload[0] == 0x13 {
                return String::from_utf8(payload[1..].to_vec()).unwrap();
            }
        }
    }
}

/// A provider there, and a session with it.
async fn pair(nats: &Nats, options: &Options) -> (loop_wire::Server, Session) {
    let listener = transport::listen(&nats.place(), options).await.unwrap();
    let (service, _) = service(Provider::new().0, Limits::default());
    let server = serve(listener, service);
    let connection = transport::connect(&nats.place(), options).await.unwrap();
    let (session, _) = session(connection, Limits::default()).await;
    patient(session.ready()).await.unwrap();
    (server, session)
}

fn quick() -> Options {
    Options {
        heartbeat: Some(Duration::from_millis(50)),
        ..Options::default()
    }
}

async fn refused(nats: &Nats, options: &Options) -> Failure {
    match patient(transport::connect(&nats.place(), options)).await {
        Ok(_) => panic!("a connection"),
        Err(failure) => failure,
    }
}

macro_rules! nats {
    ($($arguments:expr),*) => {
        match binary() {
            Some(_) => Nats::start(&[$($arguments),*]).await,
            None => return,
        }
    };
}

#[tokio::test]
async fn nobody_listening_is_told_at_once() {
    let nats = nats!();
    let failure = refused(&nats, &Options::default()).await;
    assert_eq!((failure.code, failure.retryable), (Code::ProviderGone, true));
    assert!(failure.message.contains("nobody listens there"), "{failure}");
}

#[tokio::test]
async fn a_server_that_asks_who_one_is_gets_an_answer() {
    let nats = nats!("--user", "kv", "--pass", "secret");
    let failure = refused(&nats, &Options::default()).await;
    assert_eq!(failure.code, Code::Unauthenticated, "{failure}");
    let login = |password: &str| Options {
        login: Some(Login::User {
            name: "kv".into(),
            password: password.into(),
        }),
        ..Options::default()
    };
    let failure = refused(&nats, &login("guess")).await;
    assert_eq!(failure.code, Code::Unauthenticated);
    let said = "refuses this client: Authorization Violation; it was shown the user kv and a password";
    assert!(failure.message.ends_with(said), "{failure}");
    let (_server, session) = pair(&nats, &login("secret")).await;
    assert_eq!(patient(session.call(request(ECHO, "x"))).await.unwrap().root, "x");
}

#[tokio::test]
async fn a_key_proves_who_one_is() {
    // the pair of the server's documentation
    let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    std::fs::write(
        &config,
        format!("authorization {{ users = [{{ nkey: {public} }}] }}\n"),
    )
    .unwrap();
    let nats = nats!("-c", config.to_str().unwrap());
    let with = |text: &str| Options {
        login: Some(Login::Credentials(text.into())),
        ..Options::default()
    };
    let (_server, session) = pair(&nats, &with(seed)).await;
    assert_eq!(patient(session.call(request(ECHO, "x"))).await.unwrap().root, "x");
    let failure = refused(&nats, &with("SUAC")).await;
    assert_eq!(failure.code, Code::BadValue);
    assert!(failure.message.contains("nor a seed"), "{failure}");
    assert_eq!(
        refused(&nats, &Options::default()).await.code,
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn small_messages_of_the_server_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 1000\n").unwrap();
    let nats = nats!("-c", config.to_str().unwrap());
    let (_server, session) = pair(&nats, &Options::default()).await;
    let root = bytes::Bytes::from(vec![3; 300_000]);
    assert_eq!(
        patient(session.call(request(ECHO, root.clone())))
            .await
            .unwrap()
            .root,
        root
    );
}

#[tokio::test]
async fn listeners_of_one_queue_share_its_connections() {
    let nats = nats!();
    let mut servers = vec![];
    for _ in 0..2 {
        let listener = transport::listen(&nats.place(), &Options::default())
            .await
            .unwrap();
        servers.push(serve(listener, service(Provider::new().0, Limits::default()).0));
    }
    let mut sessions = vec![];
    while servers.iter().any(|s| s.sessions().is_empty()) {
        assert!(sessions.len() < 100, "one of them takes all");
        let connection = transport::connect(&nats.place(), &Options::default())
            .await
            .unwrap();
        let (session, _) = session(connection, Limits::default()).await;
        patient(session.ready()).await.unwrap();
        sessions.push(session);
    }
    let all: usize = servers.iter().map(|s| s.sessions().len()).sum();
    assert_eq!(all, sessions.len());
}

#[tokio::test]
async fn a_server_that_dies_ends_its_streams_and_is_found_again() {
    let mut nats = nats!();
    let (mut server, session) = pair(&nats, &quick()).await;
    let call = session.call(request(NEVER, ""));
    let port = nats.port;
    nats.child.kill().await.unwrap();
    let failure = patient(call).await.expect_err("the way is gone");
    assert_eq!(failure.code, Code::ProviderGone, "{failure}");
    let nats = Nats::at(port, &[]).await;
    // the listener comes back by itself
    let (place, options) = (nats.place(), Options::default());
    let connection = patient(async {
        loop {
            tokio::select! {
                ended = server.finished() => panic!("the listener ended: {ended:?}"),
                connected = transport::connect(&place, &options) => match connected {
                    Ok(connection) => break connection,
                    Err(failure) => assert!(failure.retryable, "{failure}"),
                }
            }
        }
    })
    .await;
    let (session, _) = crate::rig::session(connection, Limits::default()).await;
    assert_eq!(patient(session.call(request(ECHO, "x"))).await.unwrap().root, "x");
}

#[tokio::test]
async fn a_frozen_server_is_found() {
    let nats = nats!();
    let (_server, session) = pair(&nats, &quick()).await;
    let id = nats.child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &id])
            .status()
            .await
            .unwrap()
            .success()
    );
    let why = patient(session.closed()).await;
    assert_eq!(why.code, Code::ProviderGone, "{why}");
    // the stream through the server may miss its peer first
    let of = ["nothing is heard of the server", "nothing was heard of the peer"];
    assert!(of.iter().any(|of| why.message.contains(of)), "{why}");
}

#[tokio::test]
async fn a_peer_that_dies_or_falls_silent_is_found() {
    let nats = nats!();
    let mut listener = transport::listen(&nats.place(), &quick()).await.unwrap();
    let mut ends = vec![];
    for dies in [true, false] {
        let mut raw = nats.raw().await;
        let inbox = format!("_INBOX.raw.{dies}");
        let (_, stream) = tokio::join!(raw.open(&inbox), async {
            let Connection::Bytes(stream, _) = listener.accept().await.unwrap().unwrap().await.unwrap()
            else {
                panic!("bytes");
            };
            stream
        });
        ends.push((stream, (!dies).then_some(raw)));
    }
    let whys = ["nobody listens there", "nothing was heard of the peer"];
    for ((mut stream, _raw), why) in ends.into_iter().zip(whys) {
        let error = patient(stream.read_u8()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_reset_and_harms_nobody() {
    let nats = nats!();
    let (server, session) = pair(&nats, &Options::default()).await;
    let position = |kind: u8, n: u64, rest: &[u8]| [&[kind][..], &n.to_le_bytes(), rest].concat();
    let preface = &loop_wire::frame::PREFACE[..];
    for (i, (said, why)) in [
        (position(0x10, 7, preface), "bytes from 7 came where 0 were due"),
        (position(0x14, 9, b""), "9 bytes were lost"),
        (position(0x12, 9, b""), "9 bytes were lost"),
        (b"\x99?".to_vec(), "a message that is none"),
        (vec![], "a message that is none"),
        (position(1, 1, b""), "a message that is none"),
        (position(2, 1, b""), "opened twice"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = nats.raw().await;
        let to = raw.open(&format!("_INBOX.raw.{i}")).await;
        raw.publish(&to, "", &said).await;
        assert!(raw.reset().await.contains(why), "{said:?}");
    }
    // more than the reader allowed
    let mut listener = transport::listen(&nats.address("other").parse().unwrap(), &Options::default())
        .await
        .unwrap();
    let mut raw = nats.raw().await;
    raw.say("SUB _INBOX.raw 1").await;
    raw.publish("other", "_INBOX.raw", &position(1, 1, b"")[..]).await;
    raw.publish("other", "_INBOX.raw", &[&[1, 1][..], &[0; 8]].concat())
        .await;
    let (_, refusal) = raw.message().await;
    assert_eq!(refusal[0], 3, "an OPEN of another version is refused");
    let incoming = patient(listener.accept()).await.unwrap().unwrap();
    let Connection::Bytes(mut stream, _) = incoming.await.unwrap() else {
        panic!("bytes");
    };
    let (to, _) = raw.message().await;
    let block = vec![5; 1 << 18];
    for i in 0..5 {
        raw.publish(&to, "", &position(0x10, i << 18, &block)).await;
    }
    // nothing is read before it is over, or there would be new credit
    let why = "more bytes than were allowed";
    assert!(raw.reset().await.contains(why));
    let mut all = vec![];
    let error = patient(stream.read_to_end(&mut all)).await.unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(all.len() <= 1 << 20);
    // others are as well as before
    assert_eq!(patient(session.call(request(ECHO, "x"))).await.unwrap().root, "x");
    assert_eq!(server.sessions().len(), 1);
}

#[tokio::test]
async fn an_unread_stream_holds_its_writer_and_no_other() {
    let nats = nats!();
    let mut listener = transport::listen(&nats.place(), &Options::default())
        .await
        .unwrap();
    let mut ends = vec![];
    for _ in 0..2 {
        let options = Options::default();
        let place = nats.place();
        let (connection, incoming) = tokio::join!(transport::connect(&place, &options), async {
            listener.accept().await.unwrap().unwrap().await
        });
        ends.push((connection.unwrap(), incoming.unwrap()));
    }
    let [
        (Connection::Bytes(mut stuck, _), unread),
        (Connection::Bytes(io, _), Connection::Bytes(served, _)),
    ] = <[_; 2]>::try_from(ends).ok().unwrap()
    else {
        panic!("bytes");
    };
    let written = tokio::spawn(async move {
        let mut written = 0;
        while let Ok(n) = stuck.write(&[0; 10_000]).await {
            written += n;
        }
        written
    });
    let handler = Arc::new(Provider::new().0);
    let (_held, driver) = Session::accept(served, hello(true, Limits::default()), handler);
    tokio::spawn(driver);
    let (session, driver) = Session::connect(io, hello(false, Limits::default()), Arc::new(Nothing));
    tokio::spawn(driver);
    let root = bytes::Bytes::from(vec![1; 4 << 20]);
    assert_eq!(
        patient(session.call(request(ECHO, root.clone())))
            .await
            .unwrap()
            .root,
        root
    );
    drop(unread);
    assert_eq!(patient(written).await.unwrap(), 1 << 20);
}
