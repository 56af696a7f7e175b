//! Connections of one component's grant: those at work, and those kept for the next request.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use http::Request;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::body::Outgoing;
use super::code::{ErrorCode, words};
use super::egress::Target;
use super::proxy::Proxies;
use super::tls::{Speaks, Tls};
use super::{Egress, Limits};

/// Bytes that the body of a response may be ahead of its reader over HTTP/2, and such bodies for which there is room: those
/// that nobody reads yet must not keep the one that is read from going on.
const WINDOW: u32 = 512 << 10;
const STREAMS: u32 = 128;

/// Whom a connection leads to, and what it speaks.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    secure: bool,
    host: String,
    port: u16,
    only_http2: bool,
}

pub(super) struct Pool {
    pub egress: Arc<Egress>,
    pub tls: Tls,
    pub proxies: Proxies,
    pub limits: Arc<Limits>,
    pub io: Handle,
    open: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    idle: HashMap<Key, Vec<(Http1, Instant)>>,
    shared: HashMap<Key, (http2::SendRequest<Outgoing>, Instant)>,
    sweeping: bool,
}

/// A connection for one request.
pub(super) struct Lease {
    key: Key,
    sender: Sender,
    pool: Arc<Pool>,
    /// Whether it was used before, so that it may have ended unseen.
    pub reused: bool,
    /// Whether requests name the whole URL: they go to a proxy.
    pub absolute: bool,
}

enum Sender {
    Http1(Http1),
    Http2(http2::SendRequest<Outgoing>),
}

/// A connection that serves one request at a time. Whoever waits for its response moves its bytes, so that no other
/// thread has to wake for it.
struct Http1 {
    sender: http1::SendRequest<Outgoing>,
    /// `None` once it has ended, or runs in a task of its own.
    line: Option<Line>,
}

struct Line {
    connection: Pin<Box<http1::Connection<TokioIo<Stream>, Outgoing>>>,
    permit: OwnedSemaphorePermit,
}

fn drive(line: &mut Option<Line>, cx: &mut Context<'_>) {
    if let Some(moving) = line
        && moving.connection.as_mut().poll(cx).is_ready()
    {
        *line = None;
    }
}

impl Http1 {
    /// Whether another request may be sent, as far as can be known.
    fn is_ready(&mut self) -> bool {
        drive(&mut self.line, &mut Context::from_waker(Waker::noop()));
        self.sender.is_ready() && !self.sender.is_closed()
    }
}

impl Pool {
    pub fn new(egress: Arc<Egress>, tls: Tls, proxies: Proxies, limits: Arc<Limits>, io: Handle) -> Self {
        let open = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        Pool {
            egress,
            tls,
            proxies,
            limits,
            io,
            open,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to have one more connection open.
    pub async fn slot(&self, end: Instant) -> Result<OwnedSemaphorePermit, ErrorCode> {
        if let Ok(permit) = self.open.clone().try_acquire_owned() {
            return Ok(permit);
        }
        self.make_room();
        match timeout_at(end, self.open.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ErrorCode::ConnectionLimitReached),
        }
    }

    /// Lets go of one connection that nobody uses.
    fn make_room(&self) {
        let mut kept = self.kept();
        let longest = kept
            .idle
            .values_mut()
            .filter(|all| !all.is_empty())
            .min_by_key(|all| all[0].1);
        if let Some(all) = longest {
            all.remove(0);
        } else if let Some(key) = kept
            .shared
            .iter()
            .min_by_key(|(_, v)| v.1)
            .map(|(k, _)| k.clone())
        {
            kept.shared.remove(&key);
        }
    }

    /// A connection to the target: one that is there, or a new one. `fresh`: a new one in any case.
    pub async fn lease(
        self: &Arc<Self>,
        target: &Target,
        only_http2: bool,
        fresh: bool,
        limit: Duration,
    ) -> Result<Lease, ErrorCode> {
        let key = Key {
            secure: target.scheme.is_secure(),
            host: target.host.to_string(),
            port: target.port,
            only_http2,
        };
        let absolute = !key.secure && self.proxies.of(target).is_some();
        let lease = |sender, reused| Lease {
            key: key.clone(),
            sender,
            pool: self.clone(),
            reused,
            absolute,
        };
        if !fresh && let Some(sender) = self.take(&key) {
            return Ok(lease(sender, true));
        }
        let end = Instant::now() + limit;
        let permit = self.slot(end).await?;
        let speaks = match only_http2 {
            true => Speaks::Http2,
            false => Speaks::Either,
        };
        let (stream, http2) = self.open(target, speaks, end).await?;
        let sender = timeout_at(end, self.greet(stream, http2 || only_http2, permit))
            .await
            .map_err(|_| ErrorCode::ConnectionTimeout)??;
        if let Sender::Http2(sender) = &sender {
            self.kept()
                .shared
                .insert(key.clone(), (sender.clone(), Instant::now()));
            self.sweep();
        }
        Ok(lease(sender, false))
    }

    fn take(&self, key: &Key) -> Option<Sender> {
        let mut kept = self.kept();
        if let Some((sender, used)) = kept.shared.get_mut(key) {
            if sender.is_ready() {
                *used = Instant::now();
                return Some(Sender::Http2(sender.clone()));
            }
            kept.shared.remove(key);
        }
        let idle = kept.idle.get_mut(key)?;
        while let Some((mut connection, _)) = idle.pop() {
            if connection.is_ready() {
                return Some(Sender::Http1(connection));
            }
        }
        None
    }

    /// A stream to the target, TLS included where its scheme has it, and whether it speaks HTTP/2.
    pub async fn open(
        &self,
        target: &Target,
        speaks: Speaks,
        end: Instant,
    ) -> Result<(Stream, bool), ErrorCode> {
        let opened = async {
            let tcp = match self.proxies.of(target) {
                Some(proxy) => proxy.connect(target, end).await?,
                None => {
                    let left = end.saturating_duration_since(Instant::now());
                    self.egress.connect(target, left).await?
                }
            };
            if !target.scheme.is_secure() {
                return Ok((Box::new(tcp) as Stream, false));
            }
            let stream = self.tls.connect(tcp, &target.host, speaks).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if speaks == Speaks::Http2 && !http2 {
                return Err(ErrorCode::ProtocolError(words(
                    "the server does not speak HTTP/2",
                )));
            }
            Ok((Box::new(stream) as Stream, http2))
        };
        timeout_at(end, opened)
            .await
            .map_err(|_| ErrorCode::ConnectionTimeout)?
    }

    async fn greet(
        &self,
        stream: Stream,
        http2: bool,
        permit: OwnedSemaphorePermit,
    ) -> Result<Sender, ErrorCode> {
        let limits = &self.limits;
        let io = TokioIo::new(stream);
        if http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(limits.max_header.min(u32::MAX as usize) as u32)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(STREAMS * WINDOW)
                .handshake(io)
                .await
                .map_err(|e| ErrorCode::of_hyper(&e))?;
            self.io.spawn(async move {
                let _ = connection.await;
                drop(permit);
            });
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::Builder::new()
            .max_header_size(limits.max_header)
            .max_headers(limits.max_fields)
            .handshake(io)
            .await
            .map_err(|e| ErrorCode::of_hyper(&e))?;
        Ok(Sender::Http1(Http1 {
            sender,
            line: Some(Line {
                connection: Box::pin(connection),
                permit,
            }),
        }))
    }

    fn put(self: &Arc<Self>, key: Key, connection: Http1) {
        let mut kept = self.kept();
        let idle = kept.idle.entry(key).or_default();
        idle.push((connection, Instant::now()));
        if idle.len() > self.limits.max_idle {
            idle.remove(0);
        }
        drop(kept);
        self.sweep();
    }

    /// Sees to it that nothing is kept for longer than `idle-timeout`.
    fn sweep(self: &Arc<Self>) {
        if std::mem::replace(&mut self.kept().sweeping, true) {
            return;
        }
        let (pool, limit) = (Arc::downgrade(self), self.limits.idle_timeout);
        self.io.spawn(async move {
            while sweep_once(&pool, limit) {
                tokio::time::sleep(limit / 2).await;
            }
        });
    }
}

/// Whether there is anything left to sweep later.
fn sweep_once(pool: &Weak<Pool>, limit: Duration) -> bool {
    let Some(pool) = pool.upgrade() else { return false };
    let mut kept = pool.kept();
    let now = Instant::now();
    for all in kept.idle.values_mut() {
        all.retain_mut(|(connection, since)| connection.is_ready() && now.duration_since(*since) < limit);
    }
    kept.idle.retain(|_, all| !all.is_empty());
    kept.shared
        .retain(|_, (sender, since)| !sender.is_closed() && now.duration_since(*since) < limit);
    kept.sweeping = !(kept.idle.is_empty() && kept.shared.is_empty());
    kept.sweeping
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection, with TLS or without.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) type SendError = TrySendError<Request<Outgoing>>;

impl Lease {
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Sends the request. Where the connection had ended unseen, the error holds the request, unsent.
    pub async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<http::Response<hyper::body::Incoming>, Box<SendError>> {
        match &mut self.sender {
            Sender::Http1(http1) => {
                let mut sent = pin!(http1.sender.try_send_request(request));
                let line = &mut http1.line;
                poll_fn(|cx| {
                    drive(line, cx);
                    sent.as_mut().poll(cx)
                })
                .await
                .map_err(Box::new)
            }
            Sender::Http2(sender) => sender.try_send_request(request).await.map_err(Box::new),
        }
    }

    /// Moves bytes for whoever waits for the response's.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Sender::Http1(http1) = &mut self.sender {
            drive(&mut http1.line, cx);
        }
    }

    /// Has the bytes move whoever waits: what is sent may go on while nobody reads what comes.
    pub fn run_apart(&mut self) {
        if let Sender::Http1(http1) = &mut self.sender
            && let Some(line) = http1.line.take()
        {
            let Line { connection, permit } = line;
            self.pool.io.spawn(async move {
                let _ = connection.await;
                drop(permit);
            });
        }
    }

    /// Keeps the connection for later: its response is over.
    pub fn give_back(self) {
        let Sender::Http1(mut http1) = self.sender else {
            return;
        };
        if http1.is_ready() {
            return self.pool.put(self.key, http1);
        }
        if http1.sender.is_closed() {
            return;
        }
        let (pool, key) = (self.pool, self.key);
        let io = pool.io.clone();
        io.spawn(async move {
            let ready = poll_fn(|cx| {
                drive(&mut http1.line, cx);
                http1.sender.poll_ready(cx)
            });
            if ready.await.is_ok() {
                pool.put(key, http1);
            }
        });
    }
}
