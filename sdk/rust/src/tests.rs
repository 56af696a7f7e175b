use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures::StreamExt;
use loop_wire::codec::{decode, encode};
use loop_wire::session::{Called, Handler, Nothing, Reply, Request, Session};
use loop_wire::transport::{Connection, Options, connect};
use loop_wire::{Address, Code, Failure, Hello};

use crate::parts::{self as p, put_flags};
use crate::{Interface, Link, Provider, Stream};

/// What the build script would write of `add: func(a: u32, b: u32) -> u32; panics: func(); numbers: func() -> stream<u32>;`
struct Sums(u32);

impl p::Service for Sums {
    fn call(&self, function: usize, cx: p::Request) -> p::Answer {
        let more = self.0;
        match function {
            0 => cx.answer(move |cx| async move {
                let (a, b): (u32, u32) = cx.params(|cx| cx.value())?;
                cx.root(|cx| cx.value(&(a + b + more)))
            }),
            1 => cx.answer(|_| async { panic!("on purpose") }),
            2 => cx.answer(|cx| async move {
                let numbers = Stream::of(0..1000u32);
                cx.root(|cx| cx.at(0, numbers, |cx, v| cx.stream(v, |cx, v| cx.value(&v))))
            }),
            _ => cx.unknown(),
        }
    }

    fn is_streaming(&self, function: usize) -> bool {
        function == 2
    }
}

static MORE: AtomicU32 = AtomicU32::new(0);

fn sums() -> Interface {
    let make = |_: &Link| Ok(Arc::new(Sums(MORE.load(SeqCst))) as Arc<dyn p::Service>);
    let functions = ["add", "panics", "numbers"].map(|name| (name, [0; 32]));
    Interface::new("test:sums/sums", &functions, &[], make)
}

async fn session(address: &Address, token: &[u8]) -> Result<Session, Failure> {
    session_of(address, token, Nothing).await
}

async fn session_of(address: &Address, token: &[u8], host: impl Handler) -> Result<Session, Failure> {
    let Connection::Bytes(io, _) = connect(address, &Options::default()).await? else {
        unreachable!("a unix socket is one stream of bytes");
    };
    let hello = Hello {
        token: token.into(),
        ..Hello::default()
    };
    let (session, driver) = Session::connect(io, hello, Arc::new(host));
    tokio::spawn(driver);
    session.ready().await?;
    Ok(session)
}

fn call(function: u32, root: Vec<u8>, streaming: bool) -> Request {
    Request {
        function,
        root: root.into(),
        streaming,
        ..Request::default()
    }
}

fn socket() -> (tempfile::TempDir, Address) {
    let folder = tempfile::tempdir().expect("a folder");
    let address = Address::Unix(folder.path().join("socket"));
    (folder, address)
}

#[tokio::test]
async fn calls_without_a_link_are_served_where_the_provider_is_open() -> Result<(), Failure> {
    for open in [false, true] {
        let (_folder, address) = socket();
        let provider = Provider::new().with(sums());
        let provider = if open { provider.open() } else { provider };
        let server = provider.serve(&address).await?;
        let session = session(&address, b"").await?;
        let answer = session.call(call(0, encode(&(1u32, 2u32)), false)).await;
        match open {
            true => assert_eq!(decode::<u32>(&answer?.root)?, 3),
            false => assert_eq!(answer.expect_err("no link is bound").code, Code::NotGranted),
        }
        server.close(Duration::ZERO).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_is_a_failure_and_the_next_call_is_answered() -> Result<(), Failure> {
    let (_folder, address) = socket();
    let _server = Provider::new().with(sums()).open().serve(&address).await?;
    let session = session(&address, b"").await?;
    let failure = session.call(call(1, vec![], false)).await.expect_err("it panics");
    assert_eq!(
        (failure.code, failure.field("function")),
        (Code::Provider, Some("panics"))
    );
    let answer = session.call(call(0, encode(&(1u32, 2u32)), false)).await?;
    assert_eq!(decode::<u32>(&answer.root)?, 3);
    Ok(())
}

#[tokio::test]
async fn a_stream_comes_in_chunks_and_ends() -> Result<(), Failure> {
    let (_folder, address) = socket();
    let _server = Provider::new().with(sums()).open().serve(&address).await?;
    let session = session(&address, b"").await?;
    let pending = session.call(call(2, vec![], true));
    let stream = pending.stream();
    assert_eq!(pending.await?.root[..], [0]);
    let chunks = futures::stream::unfold(session.clone(), |session| async move {
        let chunk = std::future::poll_fn(|cx| session.poll_read(stream, &[0], cx)).await;
        let items: Vec<u32> = decode(&chunk.expect("it does not break")).expect("it is a list");
        (!items.is_empty()).then_some((items, session))
    });
    let items = chunks.collect::<Vec<_>>().await.concat();
    assert_eq!(items, (0..1000).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_token_is_asked_for() -> Result<(), Failure> {
    let (_folder, address) = socket();
    let _server = Provider::new()
        .with(sums())
        .token("secret")
        .serve(&address)
        .await?;
    for wrong in [&b""[..], b"secre", b"secrets"] {
        let refused = session(&address, wrong)
            .await
            .map(|_| ())
            .expect_err("it is the wrong one");
        assert_eq!(refused.code, Code::Unauthenticated);
    }
    session(&address, b"secret").await.map(drop)
}

#[tokio::test]
async fn a_reload_makes_what_serves_each_link_anew() -> Result<(), Failure> {
    let (_folder, address) = socket();
    let provider = Provider::new().with(sums()).open();
    let server = provider
        .on_reload(|| match MORE.fetch_add(10, SeqCst) {
            0 => Ok(()),
            _ => Err(Failure::new(Code::Provider, "once is enough")),
        })
        .serve(&address)
        .await?;
    let session = session(&address, b"").await?;
    let sum = async || {
        let answer = session.call(call(0, encode(&(1u32, 2u32)), false)).await?;
        Ok::<_, Failure>(decode::<u32>(&answer.root)?)
    };
    assert_eq!(sum().await?, 3);
    session.reload().await?;
    assert_eq!(sum().await?, 13);
    assert_eq!(server.reload().expect_err("it fails").message, "once is enough");
    assert_eq!(sum().await?, 13);
    MORE.store(0, SeqCst);
    Ok(())
}

/// A host that exchanges the provider, or does not.
struct Host(bool);

impl Handler for Host {
    fn call(&self, session: &Session, called: Called) -> Reply {
        Nothing.call(session, called)
    }

    fn reload(&self) -> Result<(), Failure> {
        match self.0 {
            true => Ok(()),
            false => Err(Failure::new(Code::Provider, "it is not exchanged")),
        }
    }
}

#[tokio::test]
async fn a_provider_asks_all_hosts_to_be_exchanged() -> Result<(), Failure> {
    let (_folder, address) = socket();
    let server = Provider::new().with(sums()).open().serve(&address).await?;
    let nobody = server.ask_exchange().await.expect_err("nobody is there");
    assert_eq!(nobody.code, Code::ProviderGone);
    let _one = session_of(&address, b"", Host(true)).await?;
    server.ask_exchange().await?;
    let _other = session_of(&address, b"", Host(false)).await?;
    let refused = server.ask_exchange().await.expect_err("one does not");
    assert_eq!(refused.message, "it is not exchanged");
    Ok(())
}

#[test]
fn flags_fill_bytes_from_the_lowest_bit() {
    let mut out = vec![];
    let mut flags = [false; 9];
    (flags[0], flags[7], flags[8]) = (true, true, true);
    put_flags(&mut out, &flags);
    assert_eq!(out, [0x81, 0x01]);
}
