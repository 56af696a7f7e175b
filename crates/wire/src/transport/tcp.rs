//! TCP, with TLS where the options have it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::{Connection, Incoming, Options, Peer, Source, failed, tls};
use crate::address::{Address, Place};
use crate::failure::Failure;

/// Silence after which the kernel asks whether the peer is still there, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time for the system to find room for another connection.
const FULL: Duration = Duration::from_millis(100);

/// A stream to `place`.
pub(crate) async fn dial(place: &Place, named: &Address) -> Result<TcpStream, Failure> {
    let io = TcpStream::connect((place.host.as_str(), place.port))
        .await
        .map_err(|e| failed("connect to", named, &e))?;
    tune(&io);
    Ok(io)
}

/// Small frames leave at once, and a peer whose machine is gone is found. A stream that refuses works all the same.
fn tune(io: &TcpStream) {
    let _ = io.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = SockRef::from(io).set_tcp_keepalive(&keepalive);
}

/// The socket addresses of `place`.
///
/// Errors where a name that stands for this machine alone leads to another's.
pub(crate) async fn resolve(
    named: &Address,
    place: &Place,
    options: &Options,
) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host((place.host.as_str(), place.port))
        .await
        .map_err(|e| failed("listen at", named, &e))?;
    let found: Vec<_> = found.collect();
    found
        .iter()
        .try_for_each(|at| options.check_open(&named.clone().at((*at).into())))?;
    Ok(found)
}

/// Listens at the first of the addresses of `place` that can be had.
pub(crate) async fn bind(named: &Address, place: &Place, options: &Options) -> Result<Acceptor, Failure> {
    let found = resolve(named, place, options).await?;
    let listener = TcpListener::bind(&found[..])
        .await
        .map_err(|e| failed("listen at", named, &e))?;
    let local = listener
        .local_addr()
        .map_err(|e| failed("listen at", named, &e))?;
    Ok(Acceptor { listener, local })
}

/// A listening socket, for the transports that stand on TCP.
pub(crate) struct Acceptor {
    listener: TcpListener,
    pub local: SocketAddr,
}

impl Acceptor {
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((io, from)) => {
                    tune(&io);
                    return (io, from);
                }
                // the connection broke before it was taken
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => {}
                // no descriptors are left; some come back as connections end
                Err(_) => tokio::time::sleep(FULL).await,
            }
        }
    }
}

pub(super) async fn connect(place: &Place, options: &Options) -> Result<Connection, Failure> {
    let named = Address::Tcp(place.clone());
    let io = dial(place, &named).await?;
    let peer = Peer {
        address: named.to_string(),
        ..Peer::default()
    };
    match &options.tls {
        None => Ok(Connection::Bytes(Box::new(io), peer)),
        Some(tls) => {
            let (io, certificate) = tls::connect(io, tls, &place.host, &[]).await?;
            Ok(Connection::Bytes(Box::new(io), Peer { certificate, ..peer }))
        }
    }
}

pub(super) async fn listen(place: &Place, options: &Options) -> Result<TcpSource, Failure> {
    let named = Address::Tcp(place.clone());
    let tls = options
        .tls
        .as_ref()
        .map(|tls| tls::acceptor(tls, &[]))
        .transpose()?;
    Ok(TcpSource {
        acceptor: bind(&named, place, options).await?,
        tls,
    })
}

pub(super) struct TcpSource {
    acceptor: Acceptor,
    tls: Option<tls::Acceptor>,
}

impl Source for TcpSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let (io, from) = self.acceptor.accept().await;
            let tls = self.tls.clone();
            Ok(Some(Incoming::new(async move {
                let peer = Peer {
                    address: Address::Tcp(from.into()).to_string(),
                    ..Peer::default()
                };
                match tls {
                    None => Ok(Connection::Bytes(Box::new(io), peer)),
                    Some(tls) => {
                        let (io, certificate) = tls::accept(io, &tls).await?;
                        Ok(Connection::Bytes(Box::new(io), Peer { certificate, ..peer }))
                    }
                }
            })))
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![Address::Tcp(self.acceptor.local.into())]
    }
}
