//! Pipes, above all this process's own standard input and output.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixStream, unix::pipe};

use super::{BoxIo, Connection, Peer};
use crate::address::Address;
use crate::failure::{Code, Failure};

/// Takes standard input and output for a connection. From then on the process reads nothing from its input, and what
/// it prints goes to its standard error, so that no stray line breaks into the session.
fn take() -> io::Result<BoxIo> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let (read, write) = (input.try_clone_to_owned()?, output.try_clone_to_owned()?);
    let io = join(read, write)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(io)
}

/// A connection of two descriptors, one to read and one to write; both may be the same socket.
///
/// Errors where one is neither a pipe nor a socket.
pub fn from_fds(read: OwnedFd, write: OwnedFd) -> Result<Connection, Failure> {
    let io = join(read, write).map_err(|e| {
        Failure::new(
            Code::BadValue,
            format!("a connection cannot be made of these descriptors: {e}"),
        )
    })?;
    Ok(Connection::Bytes(io, peer()))
}

fn peer() -> Peer {
    Peer {
        address: Address::Stdio.to_string(),
        ..Peer::default()
    }
}

fn join(read: OwnedFd, write: OwnedFd) -> io::Result<BoxIo> {
    let read: Box<dyn AsyncRead + Send + Unpin> = match kind(&read, "input")? {
        FileType::Socket => Box::new(socket(read)?),
        _ => Box::new(pipe::Receiver::from_owned_fd(read)?),
    };
    let write: Box<dyn AsyncWrite + Send + Unpin> = match kind(&write, "output")? {
        FileType::Socket => Box::new(socket(write)?),
        _ => Box::new(pipe::Sender::from_owned_fd(write)?),
    };
    Ok(Box::new(Joined { read, write }))
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let io = std::os::unix::net::UnixStream::from(fd);
    io.set_nonblocking(true)?;
    UnixStream::from_std(io)
}

/// A terminal and a file cannot be waited for without a thread, and hold no session.
fn kind(fd: impl AsFd, what: &str) -> io::Result<FileType> {
    match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
        kind @ (FileType::Fifo | FileType::Socket) => Ok(kind),
        kind => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the {what} is neither a pipe nor a socket, but {kind:?}"),
        )),
    }
}

pub(super) fn connect() -> Result<Connection, Failure> {
    let io = take().map_err(|e| super::failed("use", Address::Stdio, &e))?;
    Ok(Connection::Bytes(io, peer()))
}

/// Two directions as one.
struct Joined {
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl AsyncRead for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, to)
    }
}

impl AsyncWrite for Joined {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
