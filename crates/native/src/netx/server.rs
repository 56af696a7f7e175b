//! `http-server`: addresses that a grant lets a component listen on, and the requests that come there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use loop_engine::{Import, Neutral, Result, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::body::Outgoing;
use super::code::{ErrorCode, words};
use super::exchange::{self, Exchange};
use super::patient::{Patient, Seat};
use super::pool::Stream;
use super::route::{Missed, Routes};
use super::{Limits, ListenGrant, answer, fields, within};
use crate::ProviderError;
use crate::error::Table;
use crate::value::{args, string};

/// Requests on one connection at once, and bytes that the body of each may be ahead of its reader. There is room for all of
/// them: those that nobody reads yet must not keep the one that is read from going on.
const STREAMS: u32 = 64;
const WINDOW: u32 = 64 << 10;

/// Where a component may listen.
struct Place {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// The resource `listener`.
pub(super) struct Listener {
    address: SocketAddr,
    waiting: Turn<mpsc::Receiver<Exchange>>,
    /// Ends the connections with it.
    _accepting: AbortOnDropHandle<()>,
}

/// What the connections of a listener share.
struct Serving {
    routes: Routes,
    tls: Option<TlsAcceptor>,
    limits: Arc<Limits>,
    io: Handle,
    waiting: mpsc::Sender<Exchange>,
    open: Arc<Semaphore>,
}

pub(super) fn functions(
    grants: BTreeMap<String, Table<ListenGrant>>,
    limits: Arc<Limits>,
    io: Handle,
) -> Result<Vec<(&'static str, Import<Neutral>)>, ProviderError> {
    let mut places = BTreeMap::new();
    for (name, Table(grant)) in grants {
        let key = format!("grant.listen.{name}");
        let tls = match (&grant.certificate, &grant.key) {
            (None, None) => None,
            (Some(certificate), Some(private)) => Some(super::tls::acceptor(&key, certificate, private)?),
            (Some(_), None) => return Err(ProviderError::new(key, "`certificate` needs `key` beside it")),
            (None, Some(_)) => return Err(ProviderError::new(key, "`key` needs `certificate` beside it")),
        };
        places.insert(
            name,
            Place {
                address: grant.address,
                tls,
            },
        );
    }
    let places = Arc::new(places);
    let mut functions = vec![
        (
            "http-server#listen",
            Import::later(move |a| {
                let (places, limits, io) = (places.clone(), limits.clone(), io.clone());
                async move {
                    let [name, routes] = args(a)?;
                    let name = string(name)?;
                    let routes = Routes::parse(routes)?;
                    let serving = async move {
                        let Some(place) = places.get(&name) else {
                            return Err(ErrorCode::RequestDenied(words(format!(
                                "the grant has no `{name}` to listen on; add `listen.{name}.address`"
                            ))));
                        };
                        Listener::open(&name, place, routes?, limits, Handle::current())
                    };
                    answer(within(&io, serving).await.map(Value::host))
                }
            }),
        ),
        (
            "http-server#[method]listener.address",
            Import::now(|a| {
                let [listener] = args(a)?;
                let address = listener.as_host::<Listener>()?.address;
                Ok(Some(Value::string(address.to_string())))
            }),
        ),
        (
            "http-server#[method]listener.accept",
            Import::later(|a| async move {
                let [listener] = args(a)?;
                let listener = listener.as_host::<Listener>()?;
                let next = listener.waiting.lock().await.recv().await;
                answer(next.map(Value::host).ok_or(ErrorCode::ConnectionTerminated))
            }),
        ),
    ];
    functions.extend(exchange::functions());
    Ok(functions)
}

impl Listener {
    fn open(
        name: &str,
        place: &Place,
        routes: Routes,
        limits: Arc<Limits>,
        io: Handle,
    ) -> Result<Self, ErrorCode> {
        let listener = loop_engine::listen(place.address).map_err(|e| {
            let why = match e.kind() {
                std::io::ErrorKind::AddrInUse => "its address is in use",
                std::io::ErrorKind::PermissionDenied => "the system denies its address",
                _ => "its address cannot be listened on",
            };
            ErrorCode::InternalError(words(format!("`{name}`: {why}")))
        })?;
        let address = listener.local_addr()?;
        let (waiting, taken) = mpsc::channel(limits.max_connections.min(1024));
        let open = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        let serving = Arc::new(Serving {
            routes,
            tls: place.tls.clone(),
            limits,
            io: io.clone(),
            waiting,
            open,
        });
        Ok(Listener {
            address,
            waiting: Turn::new(taken),
            _accepting: AbortOnDropHandle::new(io.spawn(accept(listener, serving))),
        })
    }
}

async fn accept(listener: TcpListener, serving: Arc<Serving>) {
    let mut connections = JoinSet::new();
    loop {
        // those above the bound wait in the system's queue
        let Ok(permit) = serving.open.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // the client gave up, or there are too many files open: the next one may do better
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let serving = serving.clone();
        // for as long as the connection is open, or what it became
        let seat = Seat::new(permit);
        connections.spawn(serving.connection(stream, peer, seat));
    }
}

impl Serving {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, seat: Arc<Seat>) {
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, self.limits.between_bytes_timeout, seat.clone());
        let secure = self.tls.is_some();
        let (stream, http2): (Stream, bool) = match &self.tls {
            None => (Box::new(stream), false),
            Some(tls) => match timeout(self.limits.connect_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    (Box::new(stream), http2)
                }
                _ => return,
            },
        };
        let limits = &self.limits;
        let this = self.clone();
        let service = service_fn(move |request| {
            let (this, seat) = (this.clone(), seat.clone());
            async move { Ok::<_, Infallible>(this.respond(request, peer, secure, seat).await) }
        });
        let io = TokioIo::new(stream);
        // what goes wrong on a connection is its client's affair
        if http2 {
            let _ = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(limits.max_header.min(u32::MAX as usize) as u32)
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(STREAMS * WINDOW)
                .keep_alive_interval(limits.idle_timeout)
                .keep_alive_timeout(limits.connect_timeout)
                .serve_connection(io, service)
                .await;
        } else {
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                // the time between two requests counts too
                .header_read_timeout(limits.connect_timeout.max(limits.idle_timeout))
                .max_header_size(limits.max_header)
                .max_headers(limits.max_fields)
                .serve_connection(io, service)
                .with_upgrades()
                .await;
        }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        secure: bool,
        seat: Arc<Seat>,
    ) -> Response<Outgoing> {
        let headers = request.headers();
        if fields::ambiguous(headers).is_some() || request.method() == http::Method::CONNECT {
            return refused(StatusCode::BAD_REQUEST);
        }
        if let Some(coding) = headers.get(header::TRANSFER_ENCODING)
            && !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        {
            return refused(StatusCode::NOT_IMPLEMENTED);
        }
        if fields::size(headers) > self.limits.max_header {
            return refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        let matched = match self.routes.find(request.method(), request.uri().path()) {
            Ok(matched) => matched,
            Err(Missed::Path) => return refused(StatusCode::NOT_FOUND),
            Err(Missed::Method(allow)) => {
                let mut response = refused(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().remove(header::CONNECTION);
                if let Ok(allow) = HeaderValue::try_from(allow) {
                    response.headers_mut().insert(header::ALLOW, allow);
                }
                return response;
            }
        };
        // hyper drops a content-length beside it unseen: who counts by that must not find what follows taken for a
        // request of its own
        let ambiguous = headers.contains_key(header::TRANSFER_ENCODING);
        let (responder, response) = oneshot::channel();
        let exchange = Exchange::new(
            request,
            matched,
            peer,
            secure,
            responder,
            seat,
            self.limits.clone(),
            self.io.clone(),
        );
        // while the component has as many waiting as it may, this one waits here
        if self.waiting.send(exchange).await.is_err() {
            return refused(StatusCode::SERVICE_UNAVAILABLE);
        }
        // an exchange that is dropped unanswered
        let mut response = response
            .await
            .unwrap_or_else(|_| refused(StatusCode::INTERNAL_SERVER_ERROR));
        if ambiguous {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A response of this side's own; the connection ends with it.
fn refused(status: StatusCode) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::Whole(None));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
