//! Ways to reach a peer. Each yields streams of bytes, for a session or a plain invocation, or streams without end of
//! its own.

mod http2;
mod local;
mod nats;
mod options;
#[cfg(windows)]
mod pipe;
mod quic;
#[cfg(target_os = "linux")]
mod shm;
#[cfg(unix)]
mod stdio;
mod tcp;
pub(crate) mod tls;
#[cfg(unix)]
mod unix;
mod ws;

#[cfg(unix)]
use std::any::Any;
use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
#[cfg(unix)]
use tokio::net::{TcpStream, UnixStream};

pub use self::options::{Login, Options, Pem, Tls, Token};
#[cfg(target_os = "linux")]
pub use self::shm::Sharing;
#[cfg(unix)]
pub use self::stdio::from_fds;
use crate::address::Address;
use crate::failure::{Code, Failure};
pub use crate::session::Io;

/// A connection of any transport.
pub type BoxIo = Box<dyn Io>;

/// A connection to a peer, or of one.
pub enum Connection {
    /// One stream of bytes.
    Bytes(BoxIo, Peer),
    /// As many streams of bytes as are opened.
    Native(Box<dyn Native>, Peer),
}

impl Connection {
    /// A descriptor of the connection's socket, where it is nothing else: for whoever reads and writes it in another
    /// way, and drops this. None where bytes would be missing, as with TLS.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<OwnedFd> {
        let Connection::Bytes(io, _) = self else {
            return None;
        };
        let any: &dyn Any = &**io;
        let tcp = any.downcast_ref::<TcpStream>().map(AsFd::as_fd);
        let socket = tcp.or_else(|| any.downcast_ref::<UnixStream>().map(AsFd::as_fd));
        #[cfg(target_os = "linux")]
        let socket = socket.or_else(|| Sharing::socket(io).map(AsFd::as_fd));
        socket?.try_clone_to_owned().ok()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        let (Connection::Bytes(_, peer) | Connection::Native(_, peer)) = self;
        peer
    }
}

/// A transport's own multiplexed connection. It is closed when dropped.
pub trait Native: Send + Sync + 'static {
    /// Opens a stream to the peer.
    fn open(&self) -> BoxFuture<'_, Result<BoxIo, Failure>>;

    /// Waits for a stream of the peer's; errors when the connection is over.
    fn accept(&self) -> BoxFuture<'_, Result<BoxIo, Failure>>;

    /// Ends the connection and all its streams.
    fn close(&self, why: &Failure);
}

/// Who is at the other end, as the transport knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where from, for messages: `tcp://127.0.0.1:50000`, `unix: process 12 of user 1000`.
    pub address: String,
    /// The names, of hosts and URIs, in its certificate, where it showed one; that was verified.
    pub certificate: Option<Vec<String>>,
    /// The process at the other end of a unix socket.
    pub process: Option<Process>,
}

/// A process of this machine, as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub user: u32,
    pub group: u32,
    /// Not known on every system.
    pub id: Option<i32>,
}

/// A connection that came in. What is left of its handshake is awaited apart, so that a slow peer holds up no other.
pub struct Incoming(BoxFuture<'static, Result<Connection, Failure>>);

impl Incoming {
    pub(crate) fn new(rest: impl Future<Output = Result<Connection, Failure>> + Send + 'static) -> Self {
        Incoming(Box::pin(rest))
    }
}

impl Future for Incoming {
    type Output = Result<Connection, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// What a transport listens with. Dropping it stops listening.
pub(crate) trait Source: Send + 'static {
    /// The next connection; none when no more can come. To drop the future loses no connection.
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>>;

    /// Where it is reached, with the port that was chosen.
    fn addresses(&self) -> Vec<Address>;
}

/// Takes connections at an address until it is dropped.
pub struct Listener(Box<dyn Source>);

impl Listener {
    /// The next connection; none when no more can come. Cancel-safe.
    ///
    /// Errors when it cannot listen any longer; what befalls one connection is that connection's error.
    pub async fn accept(&mut self) -> Result<Option<Incoming>, Failure> {
        self.0.accept().await
    }

    /// Where it is reached, with the port that was chosen.
    pub fn addresses(&self) -> Vec<Address> {
        self.0.addresses()
    }
}

impl Listener {
    /// A listener whose only connection is there already, as with inherited descriptors.
    pub fn of(connection: Connection, address: Address) -> Self {
        Listener(Box::new(Only {
            connection: Some(connection),
            address,
        }))
    }
}

struct Only {
    connection: Option<Connection>,
    address: Address,
}

impl Source for Only {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        let only = self.connection.take();
        Box::pin(async { Ok(only.map(|it| Incoming::new(async { Ok(it) }))) })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.addresses()).finish()
    }
}

/// Connects to `address`.
///
/// Errors with `provider-gone`, retryable, where nobody answers, and with `unauthenticated` where the peer is not who
/// it should be.
pub async fn connect(address: &Address, options: &Options) -> Result<Connection, Failure> {
    match address {
        Address::Tcp(place) => tcp::connect(place, options).await,
        Address::Quic(place) => quic::connect(place, options).await,
        Address::Http2(place) => http2::connect(place, options).await,
        Address::Nats { subject, .. } => nats::connect(address, subject, options).await,
        Address::Ws { place, secure, .. } => ws::connect(address, place, *secure, options).await,
        #[cfg(unix)]
        Address::Unix(path) => unix::connect(address, path, options)
            .await
            .map(|(io, peer)| Connection::Bytes(Box::new(io), peer)),
        #[cfg(target_os = "linux")]
        Address::Shm(path) => unix::connect(address, path, options)
            .await
            .map(|(io, peer)| Connection::Bytes(Box::new(Sharing(io)), peer)),
        #[cfg(unix)]
        Address::Stdio => stdio::connect(),
        #[cfg(windows)]
        Address::Pipe(name) => pipe::connect(name).await,
        _ => Err(unsupported(address)),
    }
}

/// Listens at `address`.
///
/// Errors with `unauthenticated` where other machines could connect and nothing would tell who they are.
pub async fn listen(address: &Address, options: &Options) -> Result<Listener, Failure> {
    options.check_open(address)?;
    let source: Box<dyn Source> = match address {
        Address::Tcp(place) => Box::new(tcp::listen(place, options).await?),
        Address::Quic(place) => Box::new(quic::listen(place, options).await?),
        Address::Http2(place) => Box::new(http2::listen(place, options).await?),
        Address::Nats { subject, .. } => Box::new(nats::listen(address, subject, options).await?),
        Address::Ws { place, path, secure } => {
            Box::new(ws::listen(address, place, path, *secure, options).await?)
        }
        #[cfg(unix)]
        Address::Unix(path) => Box::new(unix::listen(address, path, options).await?),
        #[cfg(target_os = "linux")]
        Address::Shm(path) => Box::new(unix::listen(address, path, options).await?),
        #[cfg(unix)]
        Address::Stdio => return Ok(Listener::of(stdio::connect()?, Address::Stdio)),
        #[cfg(windows)]
        Address::Pipe(name) => Box::new(pipe::listen(name)?),
        _ => return Err(unsupported(address)),
    };
    Ok(Listener(source))
}

fn unsupported(address: &Address) -> Failure {
    Failure::new(
        Code::BadValue,
        format!("{}: is not supported on this system", address.scheme()),
    )
    .with("address", address)
}

/// That nobody can be reached, or listened for, at `address`.
pub(crate) fn failed(what: &str, address: impl fmt::Display, error: &io::Error) -> Failure {
    Failure::gone(format!("cannot {what} {address}: {error}"), true).with("address", address)
}
