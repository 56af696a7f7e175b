//! Peers that break the rules, against a listener that others use at the same time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loop_wire::codec::{decode, encode, put_unsigned};
use loop_wire::frame::{FRAME, HEADER, Header, PREFACE, kind};
use loop_wire::session::Session;
use loop_wire::transport::{self, Options};
use loop_wire::{Bounds, Code, Failure, Limits, Server, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::{ECHO, NEVER, Provider, hello};
use crate::rig::{Refusals, patient, request, service, session};

/// A provider with one who uses it as is right.
struct Prey {
    server: Server,
    session: Session,
    refusals: Arc<Refusals>,
}

impl Prey {
    async fn new(limits: Limits, bounds: Bounds) -> Self {
        let (mut service, refusals) = service(Provider::new().0, limits);
        service.bounds = bounds;
        let address = "tcp://127.0.0.1:0".parse().unwrap();
        let listener = transport::listen(&address, &Options::default()).await.unwrap();
        let server = serve(listener, service);
        let connection = transport::connect(&server.addresses()[0], &Options::default())
            .await
            .unwrap();
        let (session, _) = session(connection, Limits::default()).await;
        patient(session.ready()).await.unwrap();
        Prey {
            server,
            session,
            refusals,
        }
    }

    async fn raw(&self) -> Raw {
        let place = self.server.addresses()[0].place().unwrap().clone();
        Raw(TcpStream::connect((place.host.as_str(), place.port))
            .await
            .unwrap())
    }

    /// The other session still works, and is the only one left.
    async fn unharmed(&self) {
        let echo = || async { patient(self.session.call(request(ECHO, "x"))).await.unwrap().root };
        assert_eq!(echo().await, "x");
        patient(async {
            while self.server.sessions().len() > 1 {
                echo().await;
            }
        })
        .await;
    }
}

fn quick(limits: Limits) -> Limits {
    Limits { idle: 1000, ..limits }
}

struct Raw(TcpStream);

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        length: payload.len(),
        kind,
        stream,
    };
    [&header.bytes()[..], payload].concat()
}

/// A call: function, link 0, no flags, and that root.
fn call(stream: u32, function: u32, root: &[u8]) -> Vec<u8> {
    frame(kind::CALL, stream, &[&[function as u8, 0, 0][..], root].concat())
}

fn greeting() -> Vec<u8> {
    let hello = encode(&hello(false, Limits::default()));
    [&PREFACE[..], &frame(kind::HELLO, 0, &hello)].concat()
}

impl Raw {
    async fn say(&mut self, bytes: &[u8]) {
        // whoever was cut off already hears the rest no more
        let _ = self.0.write_all(bytes).await;
    }

    async fn frame(&mut self) -> (Header, Vec<u8>) {
        let mut header = [0; HEADER];
        patient(self.0.read_exact(&mut header)).await.unwrap();
        let header = Header::read(header);
        let mut payload = vec![0; header.length];
        patient(self.0.read_exact(&mut payload)).await.unwrap();
        (header, payload)
    }

    async fn greet(&mut self) {
        self.say(&greeting()).await;
        assert_eq!(self.frame().await.0.kind, kind::WELCOME);
    }

    /// The reason that comes before the connection is closed.
    async fn cut(&mut self) -> Failure {
        let mut all = vec![];
        // a reset that overtakes the end is one too
        let _ = patient(self.0.read_to_end(&mut all)).await;
        let mut rest = &all[..];
        let mut why = None;
        while let Some((head, after)) = rest.split_first_chunk::<HEADER>() {
            let header = Header::read(*head);
            let (payload, after) = after.split_at(header.length);
            if matches!(header.kind, kind::GOAWAY | kind::REFUSE) {
                why = decode(payload).ok();
            }
            rest = after;
        }
        why.expect("a reason")
    }
}

#[tokio::test]
async fn whoever_breaks_a_rule_is_told_and_cut_off() {
    let limits = Limits {
        window: 16 << 10,
        channels: 4,
        ..Limits::default()
    };
    let prey = Prey::new(limits, Bounds::default()).await;
    let never = call(1, NEVER, b"");
    let header = |length, kind, stream| Header { length, kind, stream }.bytes().to_vec();
    let on = |then: &[u8]| [&never[..], then].concat();
    let channels = (0..5)
        .flat_map(|i| frame(kind::CREDIT, 1, &[1, i, 1]))
        .collect::<Vec<_>>();
    let part = |stream, size: u64, payload: &[u8]| {
        let mut head = vec![];
        put_unsigned(&mut head, size);
        frame(kind::CALL | kind::MORE, stream, &[&head[..], payload].concat())
    };
    for (name, bytes) in [
        ("a frame above the limit", header(FRAME + 1, kind::CALL, 1)),
        ("the longest frame there is", header((1 << 24) - 1, 0x70, 0)),
        ("an unknown kind", frame(0x99, 0, b"")),
        (
            "a second hello",
            frame(kind::HELLO, 0, &greeting()[PREFACE.len() + HEADER..]),
        ),
        ("a second greeting", greeting()),
        ("a welcome", frame(kind::WELCOME, 0, b"")),
        ("a call on a stream of the other side", call(2, ECHO, b"")),
        ("a call on the connection", call(0, ECHO, b"")),
        ("a stream used twice", [never.clone(), never.clone()].concat()),
        ("a stream that was never opened", frame(kind::CANCEL, 7, b"")),
        ("an answer to nothing", frame(kind::RESULT, 2, &[0])),
        ("a call cut short", frame(kind::CALL, 1, &[0])),
        ("a call with unknown flags", frame(kind::CALL, 1, &[0, 0, 0xff])),
        ("a ping of one byte", frame(kind::PING, 0, &[1])),
        ("credit that is no number", frame(kind::CREDIT, 0, &[0, 0xff])),
        (
            "a path of 33 steps",
            on(&frame(kind::DATA, 1, &[&[33][..], &[0; 33]].concat())),
        ),
        (
            "more than a channel's credit",
            on(&frame(kind::DATA, 1, &[0; (16 << 10) + 1])),
        ),
        ("more channels than allowed", on(&channels)),
        (
            "a message of another size than told",
            [part(1, 9, &[0; 3]), call(1, ECHO, b"")].concat(),
        ),
        (
            "more unfinished calls than calls",
            (0..2000).flat_map(|i| part(2 * i + 1, 9, b"")).collect(),
        ),
        (
            "more unfinished messages than can be",
            (0..5000)
                .flat_map(|i| frame(kind::RESULT | kind::MORE, 2 * i + 2, &[9]))
                .collect(),
        ),
    ] {
        let mut raw = prey.raw().await;
        raw.greet().await;
        raw.say(&bytes).await;
        let why = raw.cut().await;
        assert_eq!(why.code, Code::Protocol, "{name}: {why}");
        prey.unharmed().await;
    }
}

#[tokio::test]
async fn what_begins_as_nothing_known_is_closed() {
    let prey = Prey::new(Limits::default(), Bounds::default()).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"\0\0\0", b""] {
        let mut raw = prey.raw().await;
        raw.say(bytes).await;
        raw.0.shutdown().await.unwrap();
        let mut all = vec![];
        let _ = patient(raw.0.read_to_end(&mut all)).await;
        assert!(all.is_empty());
        prey.refusals.next().await;
    }
    for bytes in [&b"LOOP\x02"[..], b"LOAD", b"LOOP\x01\0\0\0\x10\0\0\0\0"] {
        let mut raw = prey.raw().await;
        raw.say(bytes).await;
        assert_eq!(raw.cut().await.code, Code::Protocol);
    }
    prey.unharmed().await;
}

#[tokio::test]
async fn whatever_ends_in_its_midst_is_forgotten() {
    let prey = Prey::new(Limits::default(), Bounds::default()).await;
    let opening = greeting();
    let more = [call(1, ECHO, b"root"), frame(kind::PING, 0, &[1; 8])].concat();
    let all = [&opening[..], &more].concat();
    for n in (0..all.len()).filter(|n| n % 7 == 0 || *n > opening.len()) {
        let mut raw = prey.raw().await;
        raw.say(&all[..n]).await;
    }
    prey.unharmed().await;
}

#[tokio::test]
async fn slow_handshakes_run_out_of_time() {
    let bounds = Bounds {
        handshake: Duration::from_millis(150),
        ..Bounds::default()
    };
    let prey = Prey::new(Limits::default(), bounds).await;
    let opening = greeting();
    for n in [0, 1, 3, PREFACE.len(), PREFACE.len() + HEADER, opening.len() - 1] {
        let mut raw = prey.raw().await;
        raw.say(&opening[..n]).await;
        let why = prey.refusals.next().await;
        assert!(why.message.contains("did not begin in time"), "{n}: {why}");
        let mut all = vec![];
        let _ = patient(raw.0.read_to_end(&mut all)).await;
    }
    // a byte at a time, for as long as it is taken
    let mut raw = prey.raw().await;
    let header = Header {
        length: FRAME,
        kind: kind::HELLO,
        stream: 0,
    };
    raw.say(&[&PREFACE[..], &header.bytes()].concat()).await;
    patient(async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while raw.0.write_all(&[0]).await.is_ok() {
            ticks.tick().await;
        }
    })
    .await;
    prey.unharmed().await;
}

#[tokio::test]
async fn half_open_connections_take_no_more_than_their_places() {
    let bounds = Bounds {
        handshakes: 4,
        handshake: Duration::from_millis(200),
        ..Bounds::default()
    };
    let prey = Prey::new(Limits::default(), bounds).await;
    let mut silent = vec![];
    for _ in 0..12 {
        silent.push(prey.raw().await);
    }
    prey.unharmed().await;
    // and one who means it gets his turn
    let mut raw = prey.raw().await;
    raw.greet().await;
    assert_eq!(prey.server.sessions().len(), 2);
}

#[tokio::test]
async fn who_has_not_begun_holds_up_no_end() {
    let forever = Duration::from_secs(100_000);
    let bounds = Bounds {
        handshake: forever,
        ..Bounds::default()
    };
    let prey = Prey::new(Limits::default(), bounds).await;
    let mut ends = vec![];
    for n in [0, 1, PREFACE.len() + HEADER] {
        let mut raw = prey.raw().await;
        raw.say(&greeting()[..n]).await;
        ends.push(raw);
    }
    prey.unharmed().await;
    patient(prey.server.close(forever)).await;
    for mut raw in ends {
        let _ = patient(raw.0.read_to_end(&mut vec![])).await;
    }
}

#[tokio::test]
async fn a_flood_of_calls_is_refused_above_the_limit() {
    let limits = Limits {
        calls: 8,
        ..Limits::default()
    };
    let prey = Prey::new(limits, Bounds::default()).await;
    let mut raw = prey.raw().await;
    raw.greet().await;
    let flood: Vec<_> = (0..1000).flat_map(|i| call(2 * i + 1, NEVER, b"")).collect();
    raw.say(&flood).await;
    for i in 8..1000 {
        let (header, payload) = raw.frame().await;
        assert_eq!((header.kind, header.stream), (kind::FAIL, 2 * i + 1));
        assert_eq!(decode::<Failure>(&payload).unwrap().code, Code::Overloaded);
    }
    drop(raw);
    prey.unharmed().await;
}

#[tokio::test]
async fn a_message_too_long_is_skipped_and_not_kept() {
    let limits = Limits {
        message: 1 << 20,
        ..Limits::default()
    };
    let prey = Prey::new(limits, Bounds::default()).await;
    let mut raw = prey.raw().await;
    raw.greet().await;
    let mut head = vec![];
    put_unsigned(&mut head, u64::MAX);
    raw.say(&frame(kind::CALL | kind::MORE, 1, &head)).await;
    let (header, payload) = raw.frame().await;
    assert_eq!((header.kind, header.stream), (kind::FAIL, 1));
    assert_eq!(decode::<Failure>(&payload).unwrap().code, Code::Overloaded);
    raw.say(&frame(kind::CALL, 1, &[0; 1000])).await;
    raw.say(&call(3, ECHO, b"next")).await;
    let (header, payload) = raw.frame().await;
    assert_eq!(
        (header.kind, header.stream, &payload[1..]),
        (kind::RESULT, 3, &b"next"[..])
    );
    drop(raw);
    prey.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_not_listened_to_and_then_given_up() {
    let prey = Prey::new(quick(Limits::default()), Bounds::default()).await;
    let mut raw = prey.raw().await;
    raw.greet().await;
    // each ping is owed an answer that nobody takes
    let pings = frame(kind::PING, 0, &[1; 8]).repeat(1 << 14);
    let mut taken = 0;
    patient(async {
        while taken < 512 << 20 {
            match raw.0.write(&pings[taken % 16..]).await {
                Ok(n) => taken += n,
                Err(_) => return,
            }
        }
    })
    .await;
    assert!(taken < 128 << 20, "{} MiB of pings were taken", taken >> 20);
    prey.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_answers_unread_and_errs_is_given_up_too() {
    let prey = Prey::new(quick(Limits::default()), Bounds::default()).await;
    let mut raw = prey.raw().await;
    raw.greet().await;
    let root = Bytes::from(vec![1; 200 << 10]);
    // more answers than the sockets hold, then nonsense
    for i in 0..64 {
        raw.say(&call(2 * i + 1, ECHO, &root)).await;
    }
    raw.say(&frame(0x99, 0, b"")).await;
    prey.unharmed().await;
}
