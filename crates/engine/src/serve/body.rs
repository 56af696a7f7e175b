//! Bodies on their way in and out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::Exchange;

/// A request's body, up to the longest allowed.
pub(super) struct Inbound {
    body: Incoming,
    left: u64,
    limit: u64,
}

impl Inbound {
    /// `None` where the request says that it is longer than `limit`.
    pub fn new(body: Incoming, limit: u64) -> Option<Self> {
        (body.size_hint().lower() <= limit).then_some(Inbound {
            body,
            left: limit,
            limit,
        })
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            let len = frame.data_ref().map_or(0, |d| d.len() as u64);
            self.left = self
                .left
                .checked_sub(len)
                .ok_or(Error::HttpRequestBodySize(Some(self.limit)))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body.
pub(super) enum Outbound {
    /// All of it, or what is left: sent with its length, in one write with the head.
    Full(Option<Bytes>),
    /// What the guest writes while it is sent.
    Stream {
        ready: VecDeque<Frame<Bytes>>,
        body: WasiBody,
        exchange: Arc<Exchange>,
    },
}

impl Outbound {
    pub fn full(bytes: Bytes) -> Self {
        Outbound::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// The body of a guest that has finished: most are all there by now.
    pub fn finished(mut body: WasiBody, exchange: &Arc<Exchange>) -> Self {
        let mut ready = VecDeque::new();
        let mut next = || poll_now(&mut body);
        match next() {
            None => return Outbound::Full(None),
            Some(Ok(first)) => match (first.into_data(), next()) {
                (Ok(data), None) => return Outbound::full(data),
                (Ok(data), Some(Ok(second))) => ready.extend([Frame::data(data), second]),
                (Err(first), Some(Ok(second))) => ready.extend([first, second]),
                (Err(first), None) => ready.push_back(first),
                (_, Some(Err(_))) => exchange.fail(),
            },
            Some(Err(_)) => exchange.fail(),
        }
        Outbound::Stream {
            ready,
            body,
            exchange: exchange.clone(),
        }
    }

    pub fn streaming(body: WasiBody, exchange: &Arc<Exchange>) -> Self {
        Outbound::Stream {
            ready: VecDeque::new(),
            body,
            exchange: exchange.clone(),
        }
    }
}

/// The next frame if it is there: at the end, or where its guest would have to run for more, `None`.
fn poll_now(body: &mut WasiBody) -> Option<Result<Frame<Bytes>, Error>> {
    // tokio makes a channel look empty to a task that has done much already
    let poll = tokio::task::unconstrained(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
    match std::pin::pin!(poll).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame,
        Poll::Pending => None,
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let (ready, body, exchange) = match self.get_mut() {
            Outbound::Full(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Outbound::Stream {
                ready,
                body,
                exchange,
            } => (ready, body, exchange),
        };
        if let Some(frame) = ready.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                exchange.watch(cx.waker());
                if !exchange.is_over() {
                    return Poll::Pending;
                }
                // a guest that is over and has not closed its body never will
                poll_now(body)
            }
        };
        match frame {
            // a guest that died closes its body too: the client must not take what it got for the whole
            None if exchange.has_failed() => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Full(bytes) => bytes.is_none(),
            Outbound::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Outbound::Stream { .. } => SizeHint::default(),
        }
    }
}
