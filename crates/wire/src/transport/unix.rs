//! Unix sockets, for the processes of one user on one machine.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
#[cfg(target_os = "linux")]
use rustix::fs::Mode;
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::{Connection, Incoming, Options, Peer, Process, Source, failed};
use crate::address::Address;
use crate::failure::{Code, Failure};

/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;
/// Time for the system to find room for another connection.
const FULL: Duration = Duration::from_millis(100);
/// Tries to have the folder to oneself, and the time between them.
const TRIES: u32 = 50;
const TRY: Duration = Duration::from_millis(20);

pub(super) async fn connect(
    named: &Address,
    path: &Path,
    options: &Options,
) -> Result<(UnixStream, Peer), Failure> {
    let io = UnixStream::connect(path)
        .await
        .map_err(|e| failed("connect to", named, &e))?;
    let peer = known(&io, &options.users, path)?;
    Ok((io, peer))
}

/// Who is at the other end.
///
/// Errors where that is a user who may not be.
fn known(io: &UnixStream, users: &[u32], path: &Path) -> Result<Peer, Failure> {
    let shown = path.display();
    let of = io
        .peer_cred()
        .map_err(|e| Failure::gone(format!("unix:{shown}: the peer is not known: {e}"), false))?;
    let process = Process {
        user: of.uid(),
        group: of.gid(),
        id: of.pid(),
    };
    let address = match process.id {
        Some(id) => format!("unix:{shown} (process {id} of user {})", process.user),
        None => format!("unix:{shown} (user {})", process.user),
    };
    let own = rustix::process::geteuid().as_raw();
    if process.user != own && !users.contains(&process.user) {
        return Err(Failure::new(
            Code::Unauthenticated,
            format!("{address} is neither this user, {own}, nor among `users`"),
        )
        .with("user", process.user));
    }
    Ok(Peer {
        address,
        process: Some(process),
        ..Peer::default()
    })
}

/// Listens at `path`; `named` is the address of it.
pub(super) async fn listen(named: &Address, path: &Path, options: &Options) -> Result<UnixSource, Failure> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let error = |e: io::Error| failed("listen at", named, &e);
    // whoever looks whether a socket is stale must not meet one that is about to listen; a lock of the folder goes
    // with its descriptor, and leaves no file
    let folder = std::fs::File::open(folder).map_err(error)?;
    let mut tries = 0;
    while let Err(e) = flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        tries += 1;
        if tries > TRIES {
            return Err(error(e.into()));
        }
        tokio::time::sleep(TRY).await;
    }
    let others = !options.users.is_empty();
    let listener = match bind(path, others) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            clear(path).map_err(error)?;
            bind(path, others)
        }
        bound => bound,
    }
    .map_err(error)?;
    let made = std::fs::symlink_metadata(path).map_err(error)?;
    Ok(UnixSource {
        listener,
        address: named.clone(),
        path: path.into(),
        made: (made.dev(), made.ino()),
        users: options.users.clone(),
    })
}

/// Listens at a path where nothing is.
fn bind(path: &Path, others: bool) -> io::Result<UnixListener> {
    let mode = if others { 0o666 } else { 0o600 };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the mode of the socket, so that it never has another. Elsewhere it has for a moment,
    // in which another user may connect and is refused as every other user is.
    #[cfg(target_os = "linux")]
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    if cfg!(not(target_os = "linux")) || others {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Removes the socket of a listener that is dead.
///
/// Errors where it lives, and where there is something else.
fn clear(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "somebody listens there already",
        )),
    }
}

pub(super) struct UnixSource {
    listener: UnixListener,
    address: Address,
    path: PathBuf,
    /// Device and inode of the socket.
    made: (u64, u64),
    users: Vec<u32>,
}

impl Source for UnixSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let io = loop {
                match self.listener.accept().await {
                    Ok((io, _)) => break io,
                    Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_) => tokio::time::sleep(FULL).await,
                }
            };
            let peer = known(&io, &self.users, &self.path);
            Ok(Some(Incoming::new(async move {
                // who connects says whether memory is shared
                #[cfg(target_os = "linux")]
                let io = super::Sharing(io);
                Ok(Connection::Bytes(Box::new(io), peer?))
            })))
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

impl Drop for UnixSource {
    fn drop(&mut self) {
        // unless it is another's by now
        let is = std::fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino()));
        if is.is_ok_and(|is| is == self.made) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
