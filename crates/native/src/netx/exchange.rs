//! A request that came, and the response that a component gives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use loop_engine::{Import, Neutral, Result, Value};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::body::{Arriving, Outgoing, Patience};
use super::code::{ErrorCode, words};
use super::patient::Seat;
use super::route::Matched;
use super::socket::Socket;
use super::{Limits, answer, fields, within};
use crate::value::{args, bytes_of, option, optional, settled, string};

/// The resource `exchange`.
pub(super) struct Exchange {
    head: http::request::Parts,
    matched: Matched,
    peer: SocketAddr,
    secure: bool,
    body: Mutex<Option<Arriving>>,
    upgrade: Mutex<Option<OnUpgrade>>,
    responder: Mutex<Option<oneshot::Sender<Response<Outgoing>>>>,
    seat: Arc<Seat>,
    limits: Arc<Limits>,
    io: Handle,
}

impl Exchange {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        mut request: Request<Incoming>,
        matched: Matched,
        peer: SocketAddr,
        secure: bool,
        responder: oneshot::Sender<Response<Outgoing>>,
        seat: Arc<Seat>,
        limits: Arc<Limits>,
        io: Handle,
    ) -> Self {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let patience = Patience {
            between: limits.between_bytes_timeout,
            until: None,
            decoded: limits.max_decoded,
            fields: limits.max_header,
        };
        Exchange {
            head,
            matched,
            peer,
            secure,
            body: Mutex::new(Some(Arriving::new(body, None, patience, io.clone()))),
            upgrade: Mutex::new(Some(upgrade)),
            responder: Mutex::new(Some(responder)),
            seat,
            limits,
            io,
        }
    }

    /// The record `request`.
    fn request(&self) -> Value {
        let uri = &self.head.uri;
        let authority = uri.authority().map(|a| a.as_str()).or_else(|| {
            let host = self.head.headers.get(header::HOST)?;
            host.to_str().ok()
        });
        let length = fields::content_length(&self.head.headers).ok().flatten();
        let pair = |(name, value): &(String, String)| {
            Value::Fields(vec![Value::string(name.as_str()), Value::string(value.as_str())])
        };
        Value::Fields(vec![
            Value::string(self.head.method.as_str()),
            Value::string(if self.secure { "https" } else { "http" }),
            option(authority.map(Value::string)),
            Value::string(uri.path()),
            option(uri.query().map(Value::string)),
            fields::value(&self.head.headers),
            option(length.map(Value::u64)),
            Value::string(self.peer.to_string()),
            Value::string(self.matched.route.as_str()),
            Value::List(self.matched.params.iter().map(pair).collect()),
        ])
    }

    fn take_body(&self) -> Result<Arriving, ErrorCode> {
        let taken = || ErrorCode::InternalError(words("the body was taken already"));
        take(&self.body).ok_or_else(taken)
    }

    fn answer(&self, response: Response<Outgoing>) -> Result<(), ErrorCode> {
        let responder = take(&self.responder)
            .ok_or_else(|| ErrorCode::InternalError(words("the request was answered already")))?;
        // whoever asked has gone
        responder
            .send(response)
            .map_err(|_| ErrorCode::ConnectionTerminated)
    }

    fn respond(&self, status: u64, headers: HeaderMap, body: Outgoing) -> Result<(), ErrorCode> {
        let status = u16::try_from(status)
            .ok()
            .and_then(|s| StatusCode::from_u16(s).ok());
        let Some(status) = status.filter(|s| !s.is_informational()) else {
            return Err(ErrorCode::ProtocolError(words("the status must be 200 to 999")));
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.answer(response)
    }

    /// What a WebSocket's handshake is answered with. Errors where the request is none.
    fn accept(&self, protocol: Option<&str>, extra: HeaderMap) -> Result<Response<Outgoing>, ErrorCode> {
        let bad = |what: &str| ErrorCode::UpgradeFailed(words(what));
        let has = |name: header::HeaderName, token: &str| {
            self.head
                .headers
                .get_all(name)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .flat_map(|v| v.split(','))
                .any(|t| t.trim().eq_ignore_ascii_case(token))
        };
        let whole = self.head.method == Method::GET
            && self.head.version == Version::HTTP_11
            && has(header::CONNECTION, "upgrade")
            && has(header::UPGRADE, "websocket");
        if !whole {
            return Err(bad("the request asks for no WebSocket"));
        }
        if !has(header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(bad("the version of WebSocket must be 13"));
        }
        let keys: Vec<_> = self
            .head
            .headers
            .get_all(header::SEC_WEBSOCKET_KEY)
            .iter()
            .collect();
        let [key] = keys[..] else {
            return Err(bad("there must be one sec-websocket-key"));
        };
        // sixteen bytes in base64
        if key.len() != 24 || !key.as_bytes().ends_with(b"==") {
            return Err(bad("the sec-websocket-key is none"));
        }
        if let Some(name) = extra.keys().find(|n| n.as_str().starts_with("sec-websocket-")) {
            return Err(ErrorCode::RequestHeaderInvalid(words(format!(
                "{name}: is set by the handshake itself; leave it out"
            ))));
        }
        let mut response = Response::new(Outgoing::Whole(None));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = extra;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| bad("no key"))?;
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            if !has(header::SEC_WEBSOCKET_PROTOCOL, protocol) {
                return Err(bad("the client did not offer that protocol"));
            }
            let value = HeaderValue::try_from(protocol).map_err(|_| bad("the protocol is no name"))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        Ok(response)
    }

    async fn upgrade(&self, protocol: Option<String>, extra: HeaderMap) -> Result<Socket, ErrorCode> {
        let response = self.accept(protocol.as_deref(), extra)?;
        let gone = || ErrorCode::UpgradeFailed(words("the connection was upgraded already"));
        let upgrade = take(&self.upgrade).ok_or_else(gone)?;
        self.answer(response)?;
        self.seat.upgrade();
        let upgraded = upgrade.await.map_err(|e| ErrorCode::of_hyper(&e))?;
        let stream = Box::new(TokioIo::new(upgraded));
        Ok(Socket::serve(
            stream,
            protocol,
            self.limits.max_message,
            &self.io,
            Box::new(self.seat.clone()),
        )
        .await)
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The fields of a response, their `content-length` read out where the body is a stream.
fn response_fields(v: Value, max: usize) -> Result<Result<HeaderMap, ErrorCode>> {
    Ok(
        fields::parse(v, max)?.and_then(|headers| match fields::content_length(&headers) {
            Ok(_) => Ok(headers),
            Err(e) => Err(ErrorCode::RequestHeaderInvalid(words(e))),
        }),
    )
}

fn respond(a: Vec<Value>) -> Result<Option<Value>> {
    let [exchange, status, headers, body] = args(a)?;
    let exchange = exchange.as_host::<Exchange>()?;
    let Value::Nums(_, body) = body else {
        return Err(loop_engine::Error::msg("the body is a list of bytes"));
    };
    let headers = response_fields(headers, exchange.limits.max_header)?;
    let done = headers.and_then(|headers| {
        let stated = fields::content_length(&headers).ok().flatten();
        // what a HEAD is answered with may state the length of a body that is not there
        if stated.is_some_and(|n| n != body.len() as u64) && exchange.head.method != Method::HEAD {
            return Err(ErrorCode::RequestHeaderInvalid(words(
                "content-length: is not the body's; leave it out",
            )));
        }
        exchange.respond(status.as_u64().unwrap_or(0), headers, Outgoing::whole(body))
    });
    answer_unit(done)
}

fn respond_streaming(a: Vec<Value>) -> Result<Option<Value>> {
    let [exchange, status, headers, body, trailers] = args(a)?;
    let exchange = exchange.as_host::<Exchange>()?;
    let (body, trailers) = (bytes_of(body)?, optional(trailers)?.map(settled).transpose()?);
    let headers = response_fields(headers, exchange.limits.max_header)?;
    let done = headers.and_then(|mut headers| {
        let declared = fields::content_length(&headers).ok().flatten();
        headers.remove(header::CONTENT_LENGTH);
        let body = Outgoing::guest(body, trailers, declared, exchange.limits.max_header);
        exchange.respond(status.as_u64().unwrap_or(0), headers, body)
    });
    answer_unit(done)
}

fn answer_unit(done: Result<(), ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match done {
        Ok(()) => Value::ok(None),
        Err(code) => Value::err(Some(code.into())),
    }))
}

/// The functions of the resource `exchange`.
pub(super) fn functions() -> Vec<(&'static str, Import<Neutral>)> {
    vec![
        (
            "http-server#[method]exchange.request",
            Import::now(|a| {
                let [exchange] = args(a)?;
                Ok(Some(exchange.as_host::<Exchange>()?.request()))
            }),
        ),
        (
            "http-server#[method]exchange.read",
            Import::later(|a| async move {
                let [exchange] = args(a)?;
                let exchange = exchange.as_host::<Exchange>()?;
                let max = exchange.limits.max_body;
                let body = match exchange.take_body() {
                    Ok(mut body) => body.collect(max).await.map_err(incoming),
                    Err(code) => Err(code),
                };
                answer(body.map(Value::bytes))
            }),
        ),
        (
            "http-server#[method]exchange.body",
            Import::now(|a| {
                let [exchange] = args(a)?;
                let body = exchange.as_host::<Exchange>()?.take_body();
                answer(body.map(|body| {
                    let (bytes, end) = body.into_values();
                    Value::Fields(vec![bytes, end])
                }))
            }),
        ),
        ("http-server#[method]exchange.respond", Import::now(respond)),
        (
            "http-server#[method]exchange.respond-streaming",
            Import::now(respond_streaming),
        ),
        (
            "http-server#[method]exchange.upgrade",
            Import::later(|a| async move {
                let [exchange, protocol, headers] = args(a)?;
                let exchange = exchange.as_host::<Exchange>()?;
                let protocol = optional(protocol)?.map(string).transpose()?;
                let headers = fields::parse(headers, exchange.limits.max_header)?;
                let io = exchange.io.clone();
                let upgraded = async move { exchange.upgrade(protocol, headers?).await };
                answer(within(&io, upgraded).await.map(Value::host))
            }),
        ),
    ]
}

/// The names of what goes wrong are those of the side that sends.
fn incoming(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ResponseBodySize(n) => ErrorCode::RequestBodySize(n),
        ErrorCode::ResponseIncomplete => ErrorCode::ConnectionTerminated,
        other => other,
    }
}
