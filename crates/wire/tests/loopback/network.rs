//! Sessions over a network that delays, loses and parts.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use loop_wire::session::{Nothing, Request, Session};
use loop_wire::transport::{self, Connection, Options, Token};
use loop_wire::{Address, Code, Limits, Place, Server, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::certificates::Authority;
use crate::nats::{Nats, binary};
use crate::peer::{ECHO, NEVER, Provider, STREAMS, hello};
use crate::proxy::Proxy;
use crate::rig::{patient, request, service, session};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Tcp,
    Quic,
    Nats,
}

/// What there is to run over: NATS where its server is.
fn ways() -> Vec<Over> {
    match binary() {
        Some(_) => vec![Over::Tcp, Over::Quic, Over::Nats],
        None => vec![Over::Tcp, Over::Quic],
    }
}

/// A provider, and a session with it through a proxy.
struct Far {
    session: Session,
    server: Server,
    heard: UnboundedReceiver<String>,
    proxy: Proxy,
    _nats: Option<Nats>,
}

fn socket(address: &Address) -> SocketAddr {
    let place = address.place().unwrap();
    SocketAddr::new(place.host.parse().unwrap(), place.port)
}

impl Far {
    async fn new(over: Over, limits: Limits) -> Self {
        let nats = match over {
            Over::Nats => Some(Nats::start(&[]).await),
            _ => None,
        };
        let address: Address = match (over, &nats) {
            (Over::Nats, Some(nats)) => nats.address("test.far"),
            (Over::Quic, _) => "quic://127.0.0.1:0".into(),
            _ => "tcp://127.0.0.1:0".into(),
        }
        .parse()
        .unwrap();
        let options = Options {
            heartbeat: Some(Duration::from_millis((limits.idle / 3).into())),
            ..Options::default()
        };
        let (provider, heard) = Provider::new();
        let listener = transport::listen(&address, &options).await.unwrap();
        let server = serve(listener, service(provider, limits.clone()).0);
        let address = &server.addresses()[0];
        let proxy = match over {
            Over::Quic => Proxy::udp(socket(address)).await,
            _ => Proxy::tcp(socket(address)).await,
        };
        let through = address.clone().at(Place::from(proxy.address));
        let connection = patient(transport::connect(&through, &options)).await.unwrap();
        let (session, _) = session(connection, limits).await;
        patient(session.ready()).await.unwrap();
        Far {
            session,
            server,
            heard,
            proxy,
            _nats: nats,
        }
    }

    async fn echo(&self, n: usize) {
        let root = Bytes::from((0..n).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
        let answer = patient(self.session.call(request(ECHO, root.clone())))
            .await
            .unwrap();
        assert!(answer.root == root);
    }

    async fn heard(&mut self) -> String {
        patient(self.heard.recv()).await.unwrap()
    }
}

fn idle(idle: u32) -> Limits {
    Limits {
        idle,
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_arrives_all_the_same() {
    for over in ways() {
        let far = Far::new(over, Limits::default()).await;
        let delay = Duration::from_millis(20);
        far.proxy.network.delay(delay);
        let began = Instant::now();
        far.echo(10).await;
        assert!(began.elapsed() >= 2 * delay, "{over:?}");
        // many at once wait as long as one
        let began = Instant::now();
        let calls = (0..64).map(|_| far.session.call(request(ECHO, "x")));
        patient(try_join_all(calls)).await.unwrap();
        assert!(began.elapsed() < 64 * delay, "{over:?}: one after another");
        far.echo(4 << 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_sent_again() {
    let far = Far::new(Over::Quic, Limits::default()).await;
    far.proxy.network.lose(100);
    for n in [10, 1000, 1 << 20] {
        far.echo(n).await;
    }
    let calls = (0..64).map(|_| far.session.call(request(ECHO, "x")));
    patient(try_join_all(calls)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_parted_for_long_is_given_up_on_both_sides() {
    for over in ways() {
        let limits = idle(900);
        let mut far = Far::new(over, limits).await;
        let never = far.session.call(request(NEVER, ""));
        let endless = far.session.call(Request {
            streaming: true,
            ..request(STREAMS, "endless")
        });
        let stream = endless.stream();
        patient(endless).await.unwrap();
        assert_eq!(far.heard().await, "began");
        far.proxy.network.part();
        let failure = patient(never).await.expect_err("nobody is there");
        assert_eq!(
            (failure.code, failure.retryable),
            (Code::ProviderGone, false),
            "{over:?}: {failure}"
        );
        let lost = patient(async {
            loop {
                if let Err(lost) = poll_fn(|cx| far.session.poll_read(stream, &[0], cx)).await {
                    return lost;
                }
            }
        });
        assert_eq!(lost.await.code, Code::ProviderGone, "{over:?}");
        assert_eq!(far.heard().await, "stopped", "{over:?}");
        patient(async {
            while !far.server.sessions().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_parted_for_a_while_goes_on() {
    for over in ways() {
        let far = Far::new(over, idle(30_000)).await;
        far.echo(10).await;
        for _ in 0..3 {
            far.proxy.network.part();
            let healed = async {
                far.proxy.network.held().await;
                far.proxy.network.heal();
            };
            let ((), ()) = tokio::join!(far.echo(100_000), healed);
        }
    }
}

/// A listener for those who have a token, over TLS, and one of them who has called through a proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_under_tls_cannot_be_said_again() {
    for scheme in ["tcp", "quic"] {
        let authority = Authority::new();
        let token = Token(b"secret".to_vec());
        let mut options = Options {
            tls: Some(authority.issue("localhost")),
            token: Some(token.clone()),
            ..Options::default()
        };
        let address = format!("{scheme}://127.0.0.1:0").parse().unwrap();
        let listener = transport::listen(&address, &options).await.unwrap();
        let (provider, mut heard) = Provider::new();
        let (mut service, refusals) = service(provider, Limits::default());
        service.token = Some(token);
        let server = serve(listener, service);
        let at = server.addresses()[0].clone();
        let proxy = match scheme {
            "quic" => Proxy::udp(socket(&at)).await,
            _ => Proxy::tcp(socket(&at)).await,
        };
        let mut believed = authority.believed();
        believed.server_name = Some("localhost".into());
        options.tls = Some(believed);
        let through = at.clone().at(Place::from(proxy.address));
        let connection = patient(transport::connect(&through, &options)).await.unwrap();
        let mut hello = hello(false, Limits::default());
        hello.token = b"secret".to_vec();
        let session = match connection {
            Connection::Bytes(io, _) => {
                let (session, driver) = Session::connect(io, hello, Arc::new(Nothing));
                tokio::spawn(driver);
                session
            }
            Connection::Native(native, _) => {
                let begun = loop_wire::session::connect_native(native.into(), hello, Arc::new(Nothing));
                let (session, driver) = begun.await.unwrap();
                tokio::spawn(driver);
                session
            }
        };
        patient(session.ready()).await.unwrap();
        let call = session.call(request(NEVER, ""));
        assert_eq!(patient(heard.recv()).await.unwrap(), "began");
        drop(call);
        assert_eq!(patient(heard.recv()).await.unwrap(), "stopped");
        let said = proxy.network.said();
        if scheme == "tcp" {
            let mut io = TcpStream::connect(socket(&at)).await.unwrap();
            let _ = io.write_all(&said.concat()).await;
            io.shutdown().await.ok();
            let _ = patient(io.read_to_end(&mut vec![])).await;
            refusals.next().await;
        } else {
            let io = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for datagram in &said {
                io.send_to(datagram, socket(&at)).await.unwrap();
            }
        }
        // nobody has called again, and the one who may still can
        let answer = patient(session.call(request(ECHO, "x"))).await.unwrap();
        assert_eq!(answer.root, "x");
        assert_eq!(server.sessions().len(), 1);
        assert!(heard.try_recv().is_err());
    }
}
