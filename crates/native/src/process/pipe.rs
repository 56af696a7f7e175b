//! Ends of pipes and terminals on the host's side: none of them ever blocks a thread.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use loop_engine::{Chunk, Neutral, Num, Reader, Result, Source, Value};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::code::ErrorCode;

/// Bytes moved at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

pub(super) struct Pipe(AsyncFd<OwnedFd>);

impl Pipe {
    /// Must be called within the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        watched(fd).map(Pipe)
    }

    /// What there is now, at most a chunk; empty at the end.
    pub fn try_read(&self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            match rustix::io::read(self.0.get_ref(), rustix::buffer::spare_capacity(&mut chunk)) {
                Ok(_) => return Ok(chunk),
                Err(Errno::INTR) => {}
                // A terminal that no program has open any more.
                Err(Errno::IO) => return Ok(vec![]),
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(read) = guard.try_io(|_| self.try_read()) {
                return Poll::Ready(read);
            }
        }
    }

    /// Writes all, waiting where the other side does.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            let write = |fd: &AsyncFd<OwnedFd>| Ok(rustix::io::write(fd.get_ref(), bytes)?);
            if let Ok(written) = guard.try_io(write) {
                match written {
                    Ok(n) => bytes = &bytes[n..],
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Writes all that a stream brings.
    pub async fn write_all_of(&self, reader: Reader<Neutral>) -> Result<(), ErrorCode> {
        loop {
            match poll_fn(|cx| reader.poll_next(cx, CHUNK)).await {
                Some(Chunk::Raw(block)) => self.write((*block).as_ref()).await?,
                Some(Chunk::Values(values)) => {
                    for value in values {
                        match value {
                            Value::Nums(Num::U8, bytes) => self.write(&bytes).await?,
                            _ => return Err(ErrorCode::Invalid),
                        }
                    }
                }
                Some(Chunk::Units(_)) => return Err(ErrorCode::Invalid),
                None => {
                    return match reader.take_error() {
                        Some(e) => Err(ErrorCode::Other(e.to_string())),
                        None => Ok(()),
                    };
                }
            }
        }
    }
}

/// A descriptor whose readiness can be awaited; within the runtime.
pub(super) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the same open descriptor for as long as it is there.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The pipe as a stream of bytes.
impl Source<Neutral> for Pipe {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let chunk = ready!(self.poll_read(cx))?;
        Poll::Ready(Ok((!chunk.is_empty()).then(|| Chunk::Raw(Box::new(chunk) as _))))
    }
}

/// Collects what a pipe brings, up to a limit.
pub(super) struct Collected {
    pipe: Option<Pipe>,
    pub bytes: Vec<u8>,
    limit: usize,
}

impl Collected {
    pub fn new(pipe: Pipe, limit: usize) -> Self {
        Collected {
            pipe: Some(pipe),
            bytes: vec![],
            limit,
        }
    }

    /// Reads to the end. Nothing is lost if it is given up.
    pub async fn fill(&mut self) -> Result<(), ErrorCode> {
        while let Some(pipe) = &self.pipe {
            let chunk = poll_fn(|cx| pipe.poll_read(cx)).await?;
            self.take(chunk)?;
        }
        Ok(())
    }

    /// Takes what is there without waiting for more.
    pub fn drain(&mut self) -> Result<(), ErrorCode> {
        while let Some(pipe) = &self.pipe {
            match pipe.try_read() {
                Ok(chunk) => self.take(chunk)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: Vec<u8>) -> Result<(), ErrorCode> {
        if chunk.is_empty() {
            self.pipe = None;
        } else if self.bytes.len() + chunk.len() > self.limit {
            return Err(ErrorCode::MessageSize);
        } else {
            self.bytes.extend_from_slice(&chunk);
        }
        Ok(())
    }
}
