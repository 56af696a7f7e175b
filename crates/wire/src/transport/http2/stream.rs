//! A request as a stream of bytes.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) fn broken(e: h2::Error) -> Error {
    match e.into_io() {
        Some(e) => e,
        None => Error::new(ErrorKind::ConnectionReset, "the stream was reset"),
    }
}

pub(super) enum Receive {
    /// The peer has not answered.
    Awaited(BoxFuture<'static, Result<RecvStream, Error>>),
    Body(RecvStream),
}

/// The two bodies of a request. Dropped before it is shut down, it is reset.
pub(super) struct Duplex {
    send: SendStream<Bytes>,
    receive: Receive,
    rest: Bytes,
    shut: bool,
}

impl Duplex {
    pub fn new(send: SendStream<Bytes>, receive: Receive) -> Self {
        Duplex {
            send,
            receive,
            rest: Bytes::new(),
            shut: false,
        }
    }

    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut RecvStream, Error>> {
        if let Receive::Awaited(answer) = &mut self.receive {
            self.receive = Receive::Body(ready!(answer.as_mut().poll(cx))?);
        }
        match &mut self.receive {
            Receive::Body(body) => Poll::Ready(Ok(body)),
            Receive::Awaited(_) => Poll::Pending,
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let me = &mut *self;
        while me.rest.is_empty() {
            match ready!(ready!(me.poll_answer(cx))?.poll_data(cx)) {
                Some(Ok(bytes)) => me.rest = bytes,
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = me.rest.len().min(to.remaining());
        to.put_slice(&me.rest[..n]);
        me.rest.advance(n);
        if let Receive::Body(body) = &mut me.receive {
            let _ = body.flow_control().release_capacity(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize, Error>> {
        self.send.reserve_capacity(from.len());
        let n = loop {
            match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Poll::Ready(Err(broken(e))),
                    None => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
                },
                n => break n.min(from.len()),
            }
        };
        let sent = self.send.send_data(Bytes::copy_from_slice(&from[..n]), false);
        Poll::Ready(sent.map(|()| n).map_err(broken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !std::mem::replace(&mut self.shut, true) {
            let _ = self.send.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        if !self.shut {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
