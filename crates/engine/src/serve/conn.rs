//! One connection, and the service that hyper asks for responses.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::uri::Authority;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use hyper::server::conn::http1;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use wasmtime::{Error, Result, format_err};

use super::ServeOptions;
use super::batch;
use super::body::{Inbound, Outbound};
use super::exchange::{App, Exchange, Refusal};
use super::page::{page, status_of};
use super::server::Tally;
use crate::hold::Hold;
use crate::timed::Timed;

/// What hyper calls for each request of a connection.
#[derive(Clone)]
pub(super) struct Responder {
    /// What serves the requests to come.
    pub app: Arc<ArcSwap<App>>,
    /// Whether they are to wait.
    pub hold: Arc<Hold>,
    pub tally: Arc<Tally>,
    /// Connections of this thread.
    pub load: Arc<AtomicUsize>,
}

pub(super) type Connection = http1::Connection<Io, Responder>;

pub(super) fn connection(stream: TcpStream, responder: Responder) -> Connection {
    let app = responder.app.load();
    let ServeOptions {
        header_timeout,
        header_bytes,
        header_fields,
        ..
    } = app.options;
    drop(app);
    http1::Builder::new()
        .timer(Clock)
        .header_read_timeout(header_timeout)
        .max_header_size(header_bytes)
        .max_headers(header_fields)
        .serve_connection(
            Io {
                stream,
                load: responder.load.clone(),
                held: false,
            },
            responder,
        )
}

impl Service<Request<Incoming>> for Responder {
    type Response = Response<Outbound>;
    type Error = Infallible;
    type Future = Responding;

    fn call(&self, request: Request<Incoming>) -> Responding {
        if self.hold.is_on() {
            let this = self.clone();
            return Responding::Held(Box::pin(async move {
                this.hold.clone().over().await;
                this.start(request)
            }));
        }
        begun(self.start(request))
    }
}

fn begun(started: Result<Guest, StatusCode>) -> Responding {
    match started {
        Ok(guest) => Responding::Guest(Some(guest)),
        Err(status) => Responding::Now(status),
    }
}

impl Responder {
    fn start(&self, request: Request<Incoming>) -> Result<Guest, StatusCode> {
        let authority = authority(&request).map_err(|_| StatusCode::BAD_REQUEST)?;
        let app = self.app.load_full();
        let (parts, body) = request.into_parts();
        let body = Inbound::new(body, app.options.body).ok_or(StatusCode::PAYLOAD_TOO_LARGE)?;
        let running = app.program.enter().map_err(|e| status_of(&e))?;
        let exchange = Arc::new(Exchange::default());
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let run = app.clone().run(
            Request::from_parts(parts, body),
            authority,
            exchange.clone(),
            running,
        );
        Ok(Guest {
            run: Box::pin(Timed::new(app.program.limits.deadline, run)),
            exchange,
            app,
            tally: self.tally.clone(),
            method,
            uri,
        })
    }
}

/// Whom the request is for: its address where it has a whole one, else its `host` field.
fn authority(request: &Request<Incoming>) -> Result<Authority> {
    if let Some(a) = request.uri().authority() {
        return Ok(a.clone());
    }
    let host = request
        .headers()
        .get(header::HOST)
        .ok_or_else(|| format_err!("the request has no host field"))?;
    Ok(Authority::try_from(host.as_bytes())?)
}

/// A guest at work on a request. It runs in its connection's task until it has answered; what it does after that,
/// or after its client has gone, in a task of its own.
pub(super) struct Guest {
    run: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
    exchange: Arc<Exchange>,
    app: Arc<App>,
    tally: Arc<Tally>,
    method: http::Method,
    uri: http::Uri,
}

impl Guest {
    fn report(&self, e: &Error) {
        self.app
            .report(&format!("{} {}", self.method, self.uri.path()), e);
    }

    /// What the client gets for an error that the guest answered with; the host hears of the server's own.
    fn refused(&self, refusal: &Refusal) -> Response<Outbound> {
        if let Some(reason) = &refusal.reason {
            self.report(&Error::msg(reason.clone()));
        }
        page(refusal.status)
    }

    fn detach(mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let counted = Tally::count(&self.tally);
        runtime.spawn(async move {
            if let Err(e) = (&mut self.run).await {
                self.exchange.fail();
                self.report(&e);
            }
            drop(counted);
        });
    }
}

/// The wait for a response.
pub(super) enum Responding {
    /// It waits until requests go on.
    Held(Pin<Box<dyn Future<Output = Result<Guest, StatusCode>> + Send>>),
    Now(StatusCode),
    Guest(Option<Guest>),
}

impl Future for Responding {
    type Output = Result<Response<Outbound>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Responding::Held(held) = &mut *self {
            let Poll::Ready(started) = held.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            *self = begun(started);
        }
        let slot = match &mut *self {
            Responding::Held(_) => return Poll::Pending,
            Responding::Now(status) => return Poll::Ready(Ok(page(*status))),
            Responding::Guest(slot) => slot,
        };
        let Some(guest) = slot.as_mut() else {
            return Poll::Pending;
        };
        let done = guest.run.as_mut().poll(cx);
        if done.is_pending() {
            guest.exchange.watch(cx.waker());
        }
        let answer = guest.exchange.take();
        if done.is_pending() && answer.is_none() {
            return Poll::Pending;
        }
        let Some(guest) = slot.take() else {
            return Poll::Pending;
        };
        let exchange = guest.exchange.clone();
        let response = match (done, answer) {
            (Poll::Ready(Err(e)), _) => {
                guest.report(&e);
                page(status_of(&e))
            }
            (Poll::Ready(Ok(())), Some(Ok(r))) if exchange.is_over() => {
                r.map(|body| Outbound::finished(body, &exchange))
            }
            // a shared instance goes on writing the body
            (Poll::Ready(Ok(())), Some(Ok(r))) => r.map(|body| Outbound::streaming(body, &exchange)),
            (Poll::Ready(Ok(())), None) => {
                guest.report(&format_err!("the handler returned without a response"));
                page(StatusCode::INTERNAL_SERVER_ERROR)
            }
            (Poll::Ready(Ok(())), Some(Err(refusal))) => guest.refused(&refusal),
            (Poll::Pending, answer) => {
                let refused = answer.as_ref().and_then(|a| a.as_ref().err());
                let refused = refused.map(|refusal| guest.refused(refusal));
                guest.detach();
                match (answer, refused) {
                    (Some(Ok(r)), _) => r.map(|body| Outbound::streaming(body, &exchange)),
                    (_, Some(page)) => page,
                    _ => page(StatusCode::INTERNAL_SERVER_ERROR),
                }
            }
        };
        Poll::Ready(Ok(response))
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        // The client has gone. The guest may be halfway through a change of something, so it goes on to its end or
        // its deadline.
        if let Responding::Guest(slot) = self
            && let Some(guest) = slot.take()
        {
            guest.detach();
        }
    }
}

/// hyper's reads and writes on a socket.
pub(super) struct Io {
    stream: TcpStream,
    load: Arc<AtomicUsize>,
    /// The write at hand has been put off once.
    held: bool,
}

impl Io {
    fn hold(&mut self, cx: &mut Context<'_>, size: usize) -> bool {
        let hold = !self.held && size <= batch::SMALL && self.load.load(Relaxed) > 1;
        self.held = hold && batch::hold(cx);
        self.held
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: tokio's buffer starts out empty and says how much of it was filled; no more is claimed.
        unsafe {
            let mut read = ReadBuf::uninit(buf.as_mut());
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let n = read.filled().len();
            buf.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.hold(cx, buf.len()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hold(cx, bufs.iter().map(|b| b.len()).sum()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// hyper's timers, by tokio.
#[derive(Clone, Copy)]
struct Clock;

struct Nap(Pin<Box<tokio::time::Sleep>>);

impl Timer for Clock {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}

impl Sleep for Nap {}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
