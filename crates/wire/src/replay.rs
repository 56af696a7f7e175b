//! Reading a byte ahead.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::transport::BoxIo;

/// A connection whose first byte was read and is read again.
pub(crate) struct Replay {
    pub first: Option<u8>,
    pub io: BoxIo,
}

/// Waits for the first byte, which is read again from what is given back; none: there is no more.
pub async fn first_byte(mut io: BoxIo) -> io::Result<(Option<u8>, BoxIo)> {
    let mut first = [0];
    let first = (io.read(&mut first).await? > 0).then_some(first[0]);
    Ok((first, Box::new(Replay { first, io })))
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.take_if(|_| to.remaining() > 0) {
            to.put_slice(&[first]);
            // what followed may be there; if not, the byte alone is an answer
            if to.remaining() > 0
                && let Poll::Ready(r) = Pin::new(&mut self.io).poll_read(cx, to)
            {
                r?;
            }
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, to))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
