//! QUIC: each invocation is a stream, and a stalled one holds up no other.
//!
//! QUIC has TLS always. Between two ends on this machine without configured certificates the listener makes one up, and
//! who connects to a loopback address takes any.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{BoxIo, Connection, Incoming, Native, Options, Peer, Source, failed, local, tcp, tls};
use crate::address::{Address, Place};
use crate::failure::{Code, Failure};

/// What sessions are told apart by; plain mode has none, as upstream.
const PROTOCOL: &[u8] = b"loop/1";
/// A stream that is given up.
const CANCELLED: VarInt = VarInt::from_u32(1);
/// Streams of the peer at once: as many calls as the default limits have, the control stream, and some that end.
const STREAMS: VarInt = VarInt::from_u32(1100);
/// Time for streams to end before their connection does.
const LINGER: Duration = Duration::from_millis(200);
/// Silence after which a connection is given up. A session pings more often.
const IDLE: Duration = Duration::from_secs(60);

fn transport() -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    config
        .max_concurrent_bidi_streams(STREAMS)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(2 << 20))
        .receive_window(VarInt::from_u32(16 << 20))
        .send_window(16 << 20)
        .keep_alive_interval(Some(IDLE / 3))
        .max_idle_timeout(IDLE.try_into().ok());
    Arc::new(config)
}

pub(super) async fn connect(place: &Place, options: &Options) -> Result<Connection, Failure> {
    let named = Address::Quic(place.clone());
    let to = tokio::net::lookup_host((place.host.as_str(), place.port))
        .await
        .map_err(|e| failed("connect to", &named, &e))?
        .next()
        .ok_or_else(|| Failure::gone(format!("{named} has no address"), true))?;
    let protocols: &[&[u8]] = if options.plain { &[] } else { &[PROTOCOL] };
    let (config, name) = match &options.tls {
        Some(tls) => {
            let name = tls.server_name.clone().unwrap_or_else(|| place.host.clone());
            (tls.client(protocols)?, name)
        }
        None if to.ip().to_canonical().is_loopback() => (local::client(protocols)?, "localhost".into()),
        None => {
            let failure = Failure::new(Code::BadValue, format!("{named} needs tls: QUIC has it always"));
            return Err(failure.with("option", "tls"));
        }
    };
    let crypto = QuicClientConfig::try_from(config).map_err(local::unfit)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(from).map_err(|e| failed("connect to", &named, &e))?;
    let connection = endpoint
        .connect_with(config, to, &name)
        .map_err(|e| Failure::new(Code::BadValue, format!("cannot connect to {named}: {e}")))?
        .await
        .map_err(|e| refused(e, &named))?;
    let peer = peer(&connection, named.to_string());
    Ok(Connection::Native(Box::new(Quic(connection)), peer))
}

/// Why there is no connection, by the code that the handshake ended with.
fn refused(e: quinn::ConnectionError, named: &Address) -> Failure {
    let code = match &e {
        quinn::ConnectionError::TransportError(e) => u64::from(e.code),
        quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => 0,
    };
    let failure = match code {
        // no_application_protocol
        0x178 => Failure::protocol(format!(
            "{named}: one side speaks plain mode and the other sessions, which QUIC tells apart from the start"
        )),
        // the alerts of TLS
        0x100..0x200 => Failure::new(Code::Unauthenticated, format!("{named}: TLS failed: {e}")),
        _ => Failure::gone(format!("cannot connect to {named}: {e}"), true),
    };
    failure.with("address", named)
}

fn peer(connection: &quinn::Connection, address: String) -> Peer {
    let chain = connection.peer_identity();
    let chain = chain.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    Peer {
        address,
        certificate: tls::names(chain.as_deref().map(Vec::as_slice)),
        ..Peer::default()
    }
}

pub(super) async fn listen(place: &Place, options: &Options) -> Result<QuicSource, Failure> {
    let named = Address::Quic(place.clone());
    let found = tcp::resolve(&named, place, options).await?;
    let protocols: &[&[u8]] = if options.plain { &[] } else { &[PROTOCOL] };
    let config = match &options.tls {
        Some(tls) => tls.server(protocols)?,
        None => local::server(protocols)?,
    };
    let crypto = QuicServerConfig::try_from(config).map_err(local::unfit)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    let mut bound = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for at in found {
        bound = Endpoint::server(config.clone(), at);
        if bound.is_ok() {
            break;
        }
    }
    let endpoint = bound.map_err(|e| failed("listen at", &named, &e))?;
    let local = endpoint
        .local_addr()
        .map_err(|e| failed("listen at", &named, &e))?;
    let (streams, invocations) = mpsc::channel(64);
    Ok(QuicSource {
        endpoint,
        local,
        plain: options.plain.then_some((streams, invocations)),
        tasks: JoinSet::new(),
    })
}

type Streams = (mpsc::Sender<(Duplex, Peer)>, mpsc::Receiver<(Duplex, Peer)>);

pub(super) struct QuicSource {
    endpoint: Endpoint,
    local: SocketAddr,
    /// In plain mode every stream is a connection by itself.
    plain: Option<Streams>,
    tasks: JoinSet<()>,
}

/// Hands on the streams of a connection in plain mode.
async fn invocations(incoming: quinn::Incoming, to: mpsc::Sender<(Duplex, Peer)>) {
    let address = Address::Quic(incoming.remote_address().into()).to_string();
    let Ok(connection) = incoming.await else { return };
    let peer = peer(&connection, address);
    while let Ok(stream) = connection.accept_bi().await {
        if to.send((stream.into(), peer.clone())).await.is_err() {
            return;
        }
    }
}

impl Source for QuicSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let Some((to, streams)) = &mut self.plain else {
                return Ok(self.endpoint.accept().await.map(|incoming| {
                    let address = Address::Quic(incoming.remote_address().into());
                    Incoming::new(async move {
                        let connection = incoming.await.map_err(|e| refused(e, &address))?;
                        let peer = peer(&connection, address.to_string());
                        Ok(Connection::Native(Box::new(Quic(connection)), peer))
                    })
                }));
            };
            loop {
                tokio::select! {
                    Some((stream, peer)) = streams.recv() => {
                        return Ok(Some(Incoming::new(async { Ok(Connection::Bytes(Box::new(stream), peer)) })));
                    }
                    incoming = self.endpoint.accept() => match incoming {
                        Some(incoming) => drop(self.tasks.spawn(invocations(incoming, to.clone()))),
                        None => return Ok(None),
                    },
                    Some(_) = self.tasks.join_next() => {}
                }
            }
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![Address::Quic(self.local.into())]
    }
}

/// A connection; its streams are those of QUIC.
struct Quic(quinn::Connection);

impl Quic {
    fn lost(e: &quinn::ConnectionError) -> Failure {
        Failure::gone(format!("the connection is over: {e}"), true)
    }

    /// Closes the connection soon. The streams have ended or are reset, of which the peer hears; at once, the library
    /// would not even send that it is closed where congestion holds such news back, and stop trying.
    fn hang_up(&self) {
        let connection = self.0.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                let _ = tokio::time::timeout(LINGER, connection.closed()).await;
                connection.close(VarInt::from_u32(0), b"");
            })),
            Err(_) => connection.close(VarInt::from_u32(0), b""),
        }
    }
}

impl Native for Quic {
    fn open(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        Box::pin(async {
            let stream = self.0.open_bi().await.map_err(|e| Self::lost(&e))?;
            Ok(Box::new(Duplex::from(stream)) as BoxIo)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        Box::pin(async {
            let stream = self.0.accept_bi().await.map_err(|e| Self::lost(&e))?;
            Ok(Box::new(Duplex::from(stream)) as BoxIo)
        })
    }

    fn close(&self, _: &Failure) {
        self.hang_up();
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.hang_up();
    }
}

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// The two directions of a stream. Dropped before it is shut down, it is reset: nobody takes what was cut for a whole.
struct Duplex {
    send: SendStream,
    receive: RecvStream,
    /// Once it is shut down: until all of it has arrived.
    arrived: Option<Stopped>,
}

impl From<(SendStream, RecvStream)> for Duplex {
    fn from((send, receive): (SendStream, RecvStream)) -> Self {
        Duplex {
            send,
            receive,
            arrived: None,
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, to)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let me = &mut *self;
        let arrived = me.arrived.get_or_insert_with(|| {
            let _ = me.send.finish();
            Box::pin(me.send.stopped())
        });
        // a connection that is closed at once would lose what is on its way
        arrived
            .as_mut()
            .poll(cx)
            .map(|r| r.map(drop).map_err(std::io::Error::other))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        if self.arrived.is_none() {
            let _ = self.send.reset(CANCELLED);
        }
    }
}
