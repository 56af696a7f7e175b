//! Peers that speak plain wRPC, served through a session of the event loop's like any other.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use loop_remote::{Forward, Functions};
use loop_wire::plain::PlainServer;
use loop_wire::session::{Nothing, Session};
use loop_wire::transport::{BoxIo, Connection, Token};
use loop_wire::{Address, Code, Failure, Hello, first_byte};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::contract::Contract;

/// Time until the first byte of a connection.
const BEGIN: Duration = Duration::from_secs(10);

/// Gives the event loop its end of a session.
pub type GiveSession = Arc<dyn Fn(OwnedFd) -> bool + Send + Sync>;

/// Serves connections that begin as an invocation in plain mode.
pub struct Plain {
    server: PlainServer,
    /// Only who has shown a certificate is served: the token that is asked for cannot be shown.
    guarded: bool,
}

impl Plain {
    /// `handles`: whether functions may return resources that nobody can ever drop.
    pub fn new(
        contract: &Contract,
        token: Option<Token>,
        handles: bool,
        give: GiveSession,
        runtime: Runtime,
    ) -> Self {
        let functions: Vec<_> = contract.members.iter().map(|m| m.ty.clone()).collect();
        let guarded = token.is_some();
        let reach =
            Box::new(move || -> loop_remote::Reached { Box::pin(begun(give.clone(), token.clone())) });
        let hello = Hello {
            exports: contract.offered(),
            ..Hello::default()
        };
        let roots = Arc::new(Functions::of(functions.clone()));
        let server = PlainServer::new(hello, Arc::new(Forward::new(functions, reach, runtime)), roots);
        Plain {
            server: if handles { server.with_handles() } else { server },
            guarded,
        }
    }

    /// Errors where the transport has no plain mode.
    pub fn check(address: &Address) -> Result<(), Failure> {
        match address {
            Address::Tcp(_) | Address::Unix(_) | Address::Shm(_) | Address::Quic(_) | Address::Ws { .. } => {
                Ok(())
            }
            _ => Err(Failure::new(
                Code::BadValue,
                format!("{address}: plain mode is served over tcp, unix, quic and ws"),
            )),
        }
    }

    /// Serves a connection to its end, unless it is to be a session, which is given back.
    pub async fn serve(&self, connection: Connection) -> Option<Connection> {
        let (plain, connection) = timeout(BEGIN, sorted(connection)).await.ok()?.ok()?;
        if !plain {
            return Some(connection);
        }
        if let Connection::Bytes(io, peer) = connection
            && (!self.guarded || peer.certificate.is_some())
        {
            // what the peer did wrong it can be told by closing alone
            let _ = self.server.serve(io).await;
        }
        None
    }
}

/// Whether a connection begins in plain mode: what it begins with is still to be read from what is given back.
async fn sorted(connection: Connection) -> io::Result<(bool, Connection)> {
    if let Some(socket) = connection.socket() {
        return Ok((peeked(socket).await? == 0, connection));
    }
    let Connection::Bytes(io, peer) = connection else {
        return Ok((false, connection));
    };
    let (first, io) = first_byte(io).await?;
    Ok((first == Some(0), Connection::Bytes(io, peer)))
}

/// The first byte of a socket, which stays there.
async fn peeked(socket: OwnedFd) -> io::Result<u8> {
    // SAFETY: an owned descriptor stays open, and the same, until it is dropped with what watches it.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    let peek = |socket: &OwnedFd| {
        let mut first = 0_u8;
        // SAFETY: one byte is written to where there is room for one.
        let n = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut first).cast(), 1, libc::MSG_PEEK) };
        match n {
            1 => Ok(first),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    socket.async_io(Interest::READABLE, peek).await
}

/// A session with the event loop, for all that plain peers call.
async fn begun(give: GiveSession, token: Option<Token>) -> Result<Session, Failure> {
    let gone = |e: io::Error| Failure::gone(format!("no session for plain peers: {e}"), true);
    let (ours, theirs) = Pair::pair().map_err(gone)?;
    ours.set_nonblocking(true).map_err(gone)?;
    let io: BoxIo = Box::new(UnixStream::from_std(ours).map_err(gone)?);
    if !give(theirs.into()) {
        return Err(Failure::gone("the provider is leaving", true));
    }
    let hello = Hello {
        token: token.map(|token| token.0).unwrap_or_default(),
        ..Hello::default()
    };
    let (session, driver) = Session::connect(io, hello, Arc::new(Nothing));
    tokio::spawn(driver);
    session.ready().await?;
    Ok(session)
}
