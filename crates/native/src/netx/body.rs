//! Bodies: what a guest sends, and what comes for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use loop_engine::{Chunk, Neutral, Result, Source, Value};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::code::{Carried, ErrorCode, words};
use super::fields;
use super::grpc::Messages;
use super::inflate::Inflate;
use super::pool::Lease;
use crate::value::{ByteReader, Settled};

/// A body on its way out.
pub(super) enum Outgoing {
    Whole(Option<Bytes>),
    Guest(GuestBody),
    /// The messages of a gRPC call.
    Messages(Messages),
}

pub(super) struct GuestBody {
    bytes: Option<ByteReader>,
    trailers: Option<Settled>,
    /// What `content-length` said.
    declared: Option<u64>,
    sent: u64,
    max_fields: usize,
}

impl Outgoing {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Outgoing::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// The bytes of a stream, then the fields of a future.
    pub fn guest(
        bytes: ByteReader,
        trailers: Option<Settled>,
        declared: Option<u64>,
        max_fields: usize,
    ) -> Self {
        Outgoing::Guest(GuestBody {
            bytes: Some(bytes),
            trailers,
            declared,
            sent: 0,
            max_fields,
        })
    }

    /// The same body once more; `None` where it was a stream.
    pub fn again(&self) -> Option<Self> {
        match self {
            Outgoing::Whole(bytes) => Some(Outgoing::Whole(bytes.clone())),
            Outgoing::Guest(_) | Outgoing::Messages(_) => None,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Carried;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Carried>>> {
        match self.get_mut() {
            Outgoing::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Outgoing::Guest(body) => body.poll(cx).map(|f| f.map(|f| f.map_err(Carried))),
            Outgoing::Messages(all) => all
                .poll(cx)
                .map(|m| m.map(|m| m.map(Frame::data).map_err(Carried))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(bytes) => bytes.is_none(),
            Outgoing::Guest(body) => body.bytes.is_none() && body.trailers.is_none(),
            Outgoing::Messages(all) => all.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Outgoing::Guest(body) => body
                .declared
                .map_or_else(SizeHint::default, |n| SizeHint::with_exact(n - body.sent)),
            Outgoing::Messages(_) => SizeHint::default(),
        }
    }
}

impl GuestBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        if let Some(bytes) = &self.bytes {
            match ready!(bytes.poll_next(cx, 256 << 10)) {
                Some(chunk) => {
                    self.sent += chunk.len() as u64;
                    if self.declared.is_some_and(|n| self.sent > n) {
                        self.sent = self.declared.unwrap_or_default();
                        return Poll::Ready(Some(Err(ErrorCode::RequestBodySize(self.declared))));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                None => {
                    let failed = bytes.failed();
                    self.bytes = None;
                    if failed || self.declared.is_some_and(|n| self.sent < n) {
                        return Poll::Ready(Some(Err(ErrorCode::RequestBodySize(Some(self.sent)))));
                    }
                }
            }
        }
        let Some(trailers) = &mut self.trailers else {
            return Poll::Ready(None);
        };
        let value = ready!(trailers.as_mut().poll(cx));
        self.trailers = None;
        let parsed = value.and_then(|v| fields::parse(v, self.max_fields));
        Poll::Ready(match parsed {
            Ok(Ok(map)) if map.is_empty() => None,
            Ok(Ok(map)) => Some(Ok(Frame::trailers(map))),
            Ok(Err(code)) => Some(Err(code)),
            Err(_) => Some(Err(ErrorCode::InternalError(words("the trailers never came")))),
        })
    }
}

/// What a body of the other side may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Between two pieces.
    pub between: Duration,
    /// For all of it.
    pub until: Option<Instant>,
    /// Bytes that it may unfold to where it is compressed.
    pub decoded: u64,
    /// Bytes of trailers.
    pub fields: usize,
}

/// A body on its way in.
pub(super) struct Arriving {
    body: Incoming,
    inflate: Option<Inflate>,
    /// The input of `inflate` is over.
    drained: bool,
    decoded: u64,
    patience: Patience,
    timer: Option<Pin<Box<Sleep>>>,
    io: Handle,
    trailers: HeaderMap,
    /// The connection that it comes on, to be given back once it has ended well.
    lease: Option<Lease>,
    over: bool,
}

impl Arriving {
    pub fn new(body: Incoming, inflate: Option<Inflate>, patience: Patience, io: Handle) -> Self {
        Arriving {
            body,
            inflate,
            drained: false,
            decoded: 0,
            patience,
            timer: None,
            io,
            trailers: HeaderMap::new(),
            lease: None,
            over: false,
        }
    }

    /// The same, on a connection that whoever reads keeps going.
    pub fn on(self, lease: Lease) -> Self {
        Arriving {
            lease: Some(lease),
            ..self
        }
    }

    pub fn length(&self) -> Option<u64> {
        if self.inflate.is_some() {
            return None;
        }
        self.body.size_hint().exact()
    }

    /// What came after the body.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// The next piece; `None` is the end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ErrorCode>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_open(cx));
        match &piece {
            Some(Ok(_)) => {}
            None => {
                self.over = true;
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
            Some(Err(_)) => {
                self.over = true;
                self.lease = None;
            }
        }
        Poll::Ready(piece)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ErrorCode>>> {
        loop {
            if let Some(inflate) = &mut self.inflate {
                match inflate.pull() {
                    Ok(Some(piece)) if !piece.is_empty() => {
                        self.decoded += piece.len() as u64;
                        if self.decoded > self.patience.decoded {
                            return Poll::Ready(Some(Err(ErrorCode::ResponseBodySize(Some(
                                self.patience.decoded,
                            )))));
                        }
                        return Poll::Ready(Some(Ok(piece)));
                    }
                    Ok(Some(_)) if self.drained => return Poll::Ready(None),
                    // the coding has ended, the body not yet: what follows is nobody's
                    Ok(_) => {}
                    Err(_) => {
                        return Poll::Ready(Some(Err(ErrorCode::ResponseContentCoding(words(
                            "the body is not what its content-encoding says",
                        )))));
                    }
                }
            }
            let mut frame = Pin::new(&mut self.body).poll_frame(cx);
            if frame.is_pending()
                && let Some(lease) = &mut self.lease
            {
                lease.drive(cx);
                frame = Pin::new(&mut self.body).poll_frame(cx);
            }
            match frame {
                Poll::Pending => {
                    ready!(self.poll_timer(cx));
                    return Poll::Ready(Some(Err(ErrorCode::ConnectionReadTimeout)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer = None;
                    match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => match &self.inflate {
                            Some(inflate) => inflate.push(data),
                            None => return Poll::Ready(Some(Ok(data))),
                        },
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                if fields::size(&trailers) > self.patience.fields {
                                    return Poll::Ready(Some(Err(ErrorCode::ResponseHeaderSectionSize(
                                        u32::try_from(self.patience.fields).ok(),
                                    ))));
                                }
                                self.trailers = trailers;
                            }
                        }
                    }
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(ErrorCode::of_hyper(&e)))),
                Poll::Ready(None) => match &self.inflate {
                    Some(_) if self.drained => return Poll::Ready(None),
                    Some(inflate) => {
                        inflate.end();
                        self.drained = true;
                    }
                    None => return Poll::Ready(None),
                },
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (patience, io) = (self.patience, &self.io);
        let timer = self.timer.get_or_insert_with(|| {
            let _entered = io.enter();
            let next = Instant::now() + patience.between;
            Box::pin(tokio::time::sleep_until(
                patience.until.map_or(next, |u| u.min(next)),
            ))
        });
        timer.as_mut().poll(cx)
    }

    pub async fn piece(&mut self) -> Option<Result<Bytes, ErrorCode>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// All of it, unless it is longer than `max` bytes.
    pub async fn collect(&mut self, max: u64) -> Result<Vec<u8>, ErrorCode> {
        if self.length().is_some_and(|n| n > max) {
            return Err(ErrorCode::ResponseBodySize(self.length()));
        }
        let mut all = Vec::with_capacity(self.length().unwrap_or(0) as usize);
        while let Some(piece) = self.piece().await {
            let piece = piece?;
            if (all.len() + piece.len()) as u64 > max {
                return Err(ErrorCode::ResponseBodySize(None));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The stream of its bytes, and the future of how it ended: its trailers, or an error.
    pub fn into_values(self) -> (Value, Value) {
        let (ended, end) = oneshot::channel();
        let bytes = Streamed {
            body: self,
            ended: Some(ended),
        };
        let end = async move {
            match end.await {
                Ok(Ok(trailers)) => Value::ok(Some(fields::value(&trailers))),
                Ok(Err(code)) => Value::err(Some(ErrorCode::into(code))),
                // the stream was dropped before its end
                Err(_) => Value::ok(Some(Value::List(vec![]))),
            }
        };
        (crate::value::stream(bytes), crate::value::future(end))
    }
}

struct Streamed {
    body: Arriving,
    ended: Option<oneshot::Sender<Result<HeaderMap, ErrorCode>>>,
}

impl Source<Neutral> for Streamed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let end = match ready!(self.body.poll_piece(cx)) {
            Some(Ok(piece)) => return Poll::Ready(Ok(Some(Chunk::Raw(Box::new(piece))))),
            Some(Err(code)) => Err(code),
            None => Ok(std::mem::take(&mut self.body.trailers)),
        };
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(end);
        }
        Poll::Ready(Ok(None))
    }
}
