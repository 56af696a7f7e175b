//! Each side calls the other, over each transport that both have.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use loop_interop::ours::{self, Shape, Types, call, read, write};
use loop_interop::place::{Place, connect_quic, listen};
use loop_interop::official::{self, all_by_official};
use loop_interop::{place, some_bytes};
use loop_wire::codec;
use loop_wire::plain::{Connector, PlainServer, streams_of};
use loop_wire::session::{Request, Session};
use loop_wire::transport::{self, Connection, Options, Pem, Tls};
use loop_wire::{Failure, Hello, Limits, Server, Service, serve};

const MIB: usize = 1 << 20;

fn places() -> Vec<(Place, tempfile::TempDir)> {
    let folder = || tempfile::tempdir().unwrap();
    let unix = folder();
    let path = unix.path().join("socket");
    vec![
        ("tcp://127.0.0.1:0".parse().unwrap(), folder()),
        (Place::Unix(path), unix),
        ("quic://127.0.0.1:0".parse().unwrap(), folder()),
    ]
}

async fn patient<T>(f: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), f)
        .await
        .expect("it hangs")
}

/// Our client's way to that place.
async fn connector(place: &Place) -> Connector {
    let options = Options {
        plain: true,
        ..Options::default()
    };
    let address: loop_wire::Address = place.to_string().parse().unwrap();
    if let Place::Quic(_) = place {
        let Connection::Native(native, _) = transport::connect(&address, &options).await.unwrap() else {
            panic!("quic is native");
        };
        return streams_of(native.into());
    }
    Arc::new(move || {
        let (address, options) = (address.clone(), options.clone());
        Box::pin(async move {
            match transport::connect(&address, &options).await? {
                Connection::Bytes(io, _) => Ok(io),
                Connection::Native(..) => Err(Failure::protocol("bytes were expected")),
            }
        })
    })
}

fn polygon() -> Shape {
    Shape::Polygon(vec![(-3, "a".into()), (i32::MAX, "ünï".into())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_calls_official() {
    for (place, _folder) in places() {
        let (listener, place) = listen(&place).await.unwrap();
        tokio::spawn(official::serve(listener));
        let session = Session::plain(
            connector(&place).await,
            vec![ours::interface()],
            Limits::default(),
            Arc::new(Types),
        );
        patient(all_by_ours(&session))
            .await
            .unwrap_or_else(|e| panic!("{place}: {e}"));
    }
}

async fn all_by_ours(session: &Session) -> Result<(), Failure> {
    assert_eq!(call::<u32>(session, ours::SMALL, (40u32, 2u32)).await?, 42);
    let numbers: ours::Numbers = (
        (255, -128, 65535, -32768),
        (u32::MAX, i32::MIN, u64::MAX, i64::MIN),
        (1.5, -0.0, true, '☃'),
    );
    assert_eq!(
        call::<ours::Numbers>(session, ours::NUMBERS, numbers).await?,
        numbers
    );
    let compound: ours::Compound = (
        polygon(),
        (2, 0b101),
        (Some("some".into()), Err("bad".into())),
        vec![("k".into(), 1), (String::new(), u64::MAX)],
    );
    let got: ours::Compound = call(session, ours::COMPOUND, &compound).await?;
    assert_eq!(got, compound);
    let large = some_bytes(MIB);
    assert!(call::<Vec<u8>>(session, ours::BYTES, &large).await? == large);
    call::<()>(session, ours::NOTHING, ()).await?;
    let failed: Result<(), String> = call(session, ours::FAILS, ()).await?;
    assert_eq!(failed, Err("it failed".into()));
    for (function, params) in [
        (ours::NEW, codec::encode(&7u64)),
        (ours::OPEN, codec::encode("seven77")),
    ] {
        let request = Request {
            function,
            root: params.into(),
            ..Request::default()
        };
        let handle: Vec<u8> = codec::decode(&session.call(request).await?.root)?;
        assert_eq!(handle, b"7");
        assert_eq!(call::<u64>(session, ours::ADD, (handle, 5u64)).await?, 12);
    }
    let pending = session.call(Request {
        function: ours::STREAMS,
        root: Bytes::from_static(&[0, 0]),
        streaming: true,
        ..Request::default()
    });
    let stream = pending.stream();
    let chunks: Vec<Vec<u8>> = [1, 100_000, 3].map(some_bytes).to_vec();
    let numbers = vec![vec![1u64, u64::MAX], vec![300]];
    let send = async {
        for chunk in &chunks {
            write(session, stream, &[0], codec::encode(chunk)).await;
        }
        for chunk in &numbers {
            write(session, stream, &[1], codec::encode(chunk)).await;
        }
        write(session, stream, &[0], vec![0]).await;
        write(session, stream, &[1], vec![0]).await;
        session.finish(stream);
    };
    let take = async {
        let ready: ours::Streams = codec::decode(&pending.await?.root)?;
        let bytes = all(session, stream, ready.0, &[0, 0]).await?;
        let got = all(session, stream, ready.1, &[0, 1]).await?;
        assert!(bytes == chunks.concat());
        assert_eq!(got, numbers.concat());
        Ok::<_, Failure>(())
    };
    let ((), taken) = futures::join!(send, take);
    taken?;
    session.close_call(stream);
    let pending = session.call(Request {
        function: ours::LATER,
        root: Bytes::from_static(&[0]),
        streaming: true,
        ..Request::default()
    });
    let stream = pending.stream();
    write(session, stream, &[0], codec::encode("hello")).await;
    session.finish(stream);
    let value: String = match codec::decode(&pending.await?.root)? {
        Some(value) => value,
        None => codec::decode(&read(session, stream, &[0]).await?)?,
    };
    assert_eq!(value, "hello, world");
    session.close_call(stream);
    Ok(())
}

/// The items of a stream, which came at once or come in chunks.
async fn all<T>(
    session: &Session,
    stream: u32,
    ready: Option<Vec<T>>,
    path: &[u32],
) -> Result<Vec<T>, Failure>
where
    Vec<T>: codec::Decode,
{
    if let Some(all) = ready {
        return Ok(all);
    }
    let mut all = vec![];
    loop {
        let chunk: Vec<T> = codec::decode(&read(session, stream, path).await?)?;
        if chunk.is_empty() {
            return Ok(all);
        }
        all.extend(chunk);
    }
}

/// Our server at that place; for QUIC with a certificate that the official client can be told.
async fn our_server(place: &Place) -> (Server, Place, Option<rustls::pki_types::CertificateDer<'static>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let options = Options {
        plain: true,
        tls: matches!(place, Place::Quic(_)).then(|| Tls {
            certificate: Some(Pem::Text(made.cert.pem().into())),
            key: Some(Pem::Text(made.signing_key.serialize_pem().into())),
            ..Tls::default()
        }),
        ..Options::default()
    };
    let hello = Hello {
        exports: vec![ours::interface()],
        ..Hello::default()
    };
    let plain = PlainServer::new(hello.clone(), Arc::new(ours::Kinds), Arc::new(Types)).with_handles();
    let mut service = Service::new(hello, |_| Arc::new(ours::Kinds));
    service.others = Arc::new(plain);
    let address = place.to_string().parse().unwrap();
    let server = serve(transport::listen(&address, &options).await.unwrap(), service);
    let place = server.addresses()[0].to_string().parse().unwrap();
    (server, place, Some(made.cert.der().clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_calls_ours() {
    for (place, _folder) in places() {
        let (_server, place, certificate) = our_server(&place).await;
        patient(official_at(&place, certificate)).await.unwrap_or_else(|e| panic!("{place}: {e:?}"));
    }
}

/// The official client against the official server: what the cases expect is what upstream does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_calls_official() {
    for (place, _folder) in places() {
        let (listener, place) = listen(&place).await.unwrap();
        let certificate = match &listener {
            place::Listener::Quic(_, certificate) => Some(certificate.clone()),
            _ => None,
        };
        tokio::spawn(official::serve(listener));
        patient(official_at(&place, certificate)).await.unwrap_or_else(|e| panic!("{place}: {e:?}"));
    }
}

/// All cases by the official client of a place.
async fn official_at(
    place: &Place,
    certificate: Option<rustls::pki_types::CertificateDer<'static>>,
) -> anyhow::Result<()> {
    match place {
        Place::Tcp(at) => all_by_official(&wrpc_transport::frame::tcp::Client::from(*at)).await,
        Place::Unix(path) => all_by_official(&wrpc_transport::frame::unix::Client::from(path.clone())).await,
        Place::Quic(at) => {
            let connection = connect_quic(*at, certificate.context("QUIC needs a certificate")?).await?;
            all_by_official(&wrpc_quic::Client::from(connection)).await
        }
    }
}
