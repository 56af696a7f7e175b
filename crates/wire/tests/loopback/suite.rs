//! The cases that hold over every transport.

use std::future::poll_fn;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use loop_wire::session::{Meta, Request};
use loop_wire::{Code, Failure, Limits, Link};

use crate::peer::{CHUNK, ECHO, FAIL, FUTURES, GATE, MEET, MEETING, NEVER, STREAMS, write};
use crate::rig::{Rig, Way, patient, request, rig, rig_of};

const MIB: usize = 1 << 20;

/// Bytes that are nowhere the same.
fn bytes(n: usize) -> Bytes {
    let words = (0..n.div_ceil(4) as u32).map(|i| i.wrapping_mul(0x9e37_79b9));
    Bytes::from(words.flat_map(u32::to_le_bytes).take(n).collect::<Vec<_>>())
}

async fn echo(rig: &Rig, root: Bytes) {
    let answer = patient(rig.session.call(request(ECHO, root.clone())))
        .await
        .expect("an answer");
    assert!(
        answer.root == root,
        "{} bytes came back as {}",
        root.len(),
        answer.root.len()
    );
}

pub async fn small_calls(way: Way) {
    let rig = rig(way).await;
    for n in [0, 1, 3, 1000, 16 << 10, (16 << 10) + 1] {
        echo(&rig, bytes(n)).await;
    }
}

pub async fn one_mebibyte(way: Way) {
    let rig = rig(way).await;
    for _ in 0..3 {
        echo(&rig, bytes(MIB)).await;
    }
}

pub async fn sixty_four_mebibytes(way: Way) {
    echo(&rig(way).await, bytes(64 * MIB)).await;
}

/// More than a transport has streams for: each is given back.
pub async fn thousands_of_calls_in_a_row(way: Way) {
    let rig = rig(way).await;
    patient(async {
        for i in 0..3000_u32 {
            let root = i.to_le_bytes().to_vec();
            let answer = rig
                .session
                .call(request(ECHO, root.clone()))
                .await
                .expect("an answer");
            assert_eq!(answer.root, root);
        }
    })
    .await;
}

pub async fn a_thousand_calls_in_flight(way: Way) {
    let rig = rig(way).await;
    // nobody is answered before all are there
    let calls = (0..MEETING as u32).map(async |i| {
        let root = i.to_le_bytes().to_vec();
        let answer = rig.session.call(request(MEET, root.clone())).await?;
        assert_eq!(answer.root, root);
        Ok::<_, Failure>(())
    });
    patient(try_join_all(calls)).await.expect("answers");
}

pub async fn streams_both_ways(way: Way) {
    let rig = rig(way).await;
    let sent = bytes(8 * MIB);
    let call = rig.session.call(Request {
        streaming: true,
        ..request(STREAMS, "")
    });
    let stream = call.stream();
    let writing = async {
        write(&rig.session, stream, sent.clone()).await;
        write(&rig.session, stream, Bytes::new()).await;
    };
    let reading = async {
        call.await.expect("an answer");
        let mut got = Vec::with_capacity(sent.len());
        loop {
            let chunk = poll_fn(|cx| rig.session.poll_read(stream, &[0], cx))
                .await
                .expect("a chunk");
            if chunk.is_empty() {
                return got;
            }
            got.extend_from_slice(&chunk);
        }
    };
    let ((), got) = patient(async { tokio::join!(writing, reading) }).await;
    assert!(got == sent);
    rig.session.close_call(stream);
}

/// As a stream of numbers is that are sent one by one.
pub async fn many_small_chunks(way: Way) {
    const CHUNKS: u32 = 50_000;
    let rig = rig(way).await;
    let call = rig.session.call(Request {
        streaming: true,
        ..request(STREAMS, "")
    });
    let stream = call.stream();
    let writing = async {
        for i in 0..CHUNKS {
            write(&rig.session, stream, Bytes::copy_from_slice(&i.to_le_bytes())).await;
        }
        write(&rig.session, stream, Bytes::new()).await;
    };
    let reading = async {
        call.await.expect("an answer");
        let mut got = vec![];
        loop {
            let chunk = poll_fn(|cx| rig.session.poll_read(stream, &[0], cx))
                .await
                .expect("a chunk");
            if chunk.is_empty() {
                return got;
            }
            got.extend_from_slice(&chunk);
        }
    };
    let ((), got) = patient(async { tokio::join!(writing, reading) }).await;
    assert!(got.chunks(4).eq((0..CHUNKS).map(u32::to_le_bytes)));
    rig.session.close_call(stream);
}

pub async fn unread_streams_hold_their_writer(way: Way) {
    let mut rig = rig(way).await;
    let call = rig.session.call(Request {
        streaming: true,
        ..request(STREAMS, "endless")
    });
    let stream = call.stream();
    patient(call).await.expect("an answer");
    let window = Limits::default().window as usize;
    let settled = async |rig: &Rig| {
        let (mut before, mut same) = (0, 0);
        while same < 50 {
            echo(rig, Bytes::new()).await;
            let now = rig.seen.written.load(SeqCst);
            same = if now == before && now > 0 { same + 1 } else { 0 };
            before = now;
        }
        before
    };
    let written = settled(&rig).await;
    assert!(
        written <= window,
        "{written} bytes on their way, {window} allowed"
    );
    assert!(written > window / 2, "{written} bytes of {window}");
    // as much comes again as is taken
    let mut taken = 0;
    while taken < 4 * window {
        let chunk = poll_fn(|cx| rig.session.poll_read(stream, &[0], cx));
        taken += patient(chunk).await.expect("a chunk").len();
        let ahead = rig.seen.written.load(SeqCst) - taken;
        assert!(ahead <= window + CHUNK, "{ahead} bytes on their way");
    }
    rig.session.stop(stream, &[0]);
    assert_eq!(rig.heard().await, "stopped");
    rig.session.close_call(stream);
    echo(&rig, Bytes::new()).await;
}

/// Many more than there may be at once; of some nobody wants the value.
pub async fn thousands_of_futures_in_a_stream(way: Way) {
    let rig = rig(way).await;
    let call = rig.session.call(Request {
        streaming: true,
        ..request(STREAMS, "futures")
    });
    let stream = call.stream();
    patient(call).await.expect("an answer");
    let session = &rig.session;
    let read = async |path: &[u32]| patient(poll_fn(|cx| session.poll_read(stream, path, cx))).await;
    let mut seen = 0;
    while !read(&[0]).await.expect("an item, or the end").is_empty() {
        let path = [0, seen];
        session.expect(stream, &path);
        if seen % 5 == 0 {
            session.stop(stream, &path);
        } else {
            assert_eq!(read(&path).await.expect("a value")[..], seen.to_le_bytes());
            session.taken(stream, &path);
        }
        seen += 1;
    }
    assert_eq!(seen, FUTURES);
    session.close_call(stream);
    echo(&rig, Bytes::new()).await;
}

pub async fn cancelling(way: Way) {
    let mut rig = rig(way).await;
    let call = rig.session.call(request(NEVER, ""));
    assert_eq!(rig.heard().await, "began");
    drop(call);
    assert_eq!(rig.heard().await, "stopped");
    echo(&rig, Bytes::new()).await;
}

pub async fn deadlines(way: Way) {
    let mut rig = rig(way).await;
    let deadline = Duration::from_millis(30);
    let began = Instant::now();
    let failure = patient(rig.session.call(Request {
        meta: Meta {
            deadline: Some(deadline),
            ..Meta::default()
        },
        ..request(NEVER, "")
    }))
    .await
    .expect_err("it never answers");
    assert_eq!(failure.code, Code::DeadlineExceeded);
    assert_eq!(failure.field("seconds"), Some("0.03"));
    assert!(began.elapsed() >= deadline);
    // the provider stops by itself
    assert_eq!(rig.heard().await, "began");
    assert_eq!(rig.heard().await, "stopped");
    echo(&rig, Bytes::new()).await;
}

pub async fn failures_keep_their_fields(way: Way) {
    let rig = rig(way).await;
    let failure = patient(rig.session.call(request(FAIL, "")))
        .await
        .expect_err("it fails");
    let mut want = Failure::new(Code::Provider, "it failed");
    for (field, value) in [
        ("type", "ValueError"),
        ("interface", "test:wire/provider@0.1.0"),
        ("function", "fail"),
    ] {
        want = want.with(field, value);
    }
    assert_eq!(failure, want);
}

pub async fn pings_keep_it_alive(way: Way) {
    let limits = Limits {
        idle: 300,
        ..Limits::default()
    };
    let rig = rig_of(way, limits).await;
    let failure = patient(rig.session.call(Request {
        meta: Meta {
            deadline: Some(Duration::from_millis(900)),
            ..Meta::default()
        },
        ..request(NEVER, "")
    }))
    .await
    .expect_err("it never answers");
    assert_eq!(failure.code, Code::DeadlineExceeded, "{failure}");
    echo(&rig, Bytes::new()).await;
}

pub async fn going_away(way: Way) {
    let mut rig = rig(way).await;
    let call = rig.session.call(request(GATE, "late"));
    assert_eq!(rig.heard().await, "began");
    let (seen, session) = (rig.seen.clone(), rig.session.clone());
    let closing = tokio::spawn(rig.server.close(Duration::from_secs(60)));
    // a peer that is told calls no more
    patient(async {
        while let Ok(answer) = session.call(request(ECHO, "")).await {
            assert!(answer.root.is_empty());
        }
    })
    .await;
    let refused = patient(session.call(request(ECHO, "")))
        .await
        .expect_err("no new calls");
    assert_eq!(
        (refused.code, refused.retryable),
        (Code::ProviderGone, true),
        "{refused}"
    );
    seen.gate.notify_one();
    assert_eq!(
        patient(call).await.expect("what had begun is answered").root,
        "late"
    );
    patient(closing).await.unwrap();
    assert_eq!(patient(rig.driver).await.unwrap().code, Code::ProviderGone);
}

pub async fn links_and_handles(way: Way) {
    let mut rig = rig(way).await;
    let link = |number, grant: &str| Link {
        number,
        name: "app/kv".into(),
        grant: grant.into(),
        config: String::new(),
    };
    patient(rig.session.link(link(1, "{\"read\":true}")))
        .await
        .expect("a link");
    let failure = patient(rig.session.link(link(2, "{}")))
        .await
        .expect_err("no link");
    assert_eq!(
        (failure.code, failure.field("link")),
        (Code::NotGranted, Some("app/kv"))
    );
    rig.session.drop_handle(1, 0, b"thing 1");
    rig.session.unlink(1);
    for said in [
        "link 1 {\"read\":true}",
        "link 2 {}",
        "drop 1 0 thing 1",
        "unlink 1",
    ] {
        assert_eq!(rig.heard().await, said);
    }
}

pub async fn cut_within_a_call(way: Way) {
    let mut rig = rig(way).await;
    let call = rig.session.call(request(NEVER, ""));
    assert_eq!(rig.heard().await, "began");
    drop(rig.server);
    let failure = patient(call).await.expect_err("nobody is there");
    assert_eq!(
        (failure.code, failure.retryable),
        (Code::ProviderGone, false),
        "{failure}"
    );
    // native streams may break before their session does
    patient(rig.session.closed()).await;
    let later = patient(rig.session.call(request(ECHO, "")))
        .await
        .expect_err("nobody is there");
    assert_eq!(
        (later.code, later.retryable),
        (Code::ProviderGone, true),
        "{later}"
    );
    assert_eq!(patient(rig.driver).await.unwrap().code, Code::ProviderGone);
}

pub async fn cut_within_a_stream(way: Way) {
    let rig = rig(way).await;
    let call = rig.session.call(Request {
        streaming: true,
        ..request(STREAMS, "endless")
    });
    let stream = call.stream();
    patient(call).await.expect("an answer");
    let read = || poll_fn(|cx| rig.session.poll_read(stream, &[0], cx));
    patient(read()).await.expect("a chunk");
    drop(rig.server);
    let failure = patient(async {
        loop {
            if let Err(failure) = read().await {
                break failure;
            }
        }
    })
    .await;
    assert_eq!(failure.code, Code::ProviderGone, "{failure}");
    assert!(
        patient(poll_fn(|cx| rig.session.poll_write(stream, &[0], cx)))
            .await
            .is_none()
    );
}
