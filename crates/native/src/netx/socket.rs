//! `websocket`: connections, whichever side opened them.
//!
//! What moves their bytes is in [`line`](super::line).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, header};
use loop_engine::{Error, Import, Neutral, Num, Result, Value};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::client::Options;
use super::code::{ErrorCode, words};
use super::egress::Target;
use super::line::{Closing, Held, Line, config, lost};
use super::pool::{Pool, Stream};
use super::rule::Scheme;
use super::tls::Speaks;
use super::{answer, fields, within};
use crate::value::{args, items, option, string};

/// How long the other side has to answer a close.
const CLOSING: Duration = Duration::from_secs(10);

impl From<Closing> for Value {
    fn from(c: Closing) -> Value {
        Value::Fields(vec![
            Value::Num(Num::U16, c.code.into()),
            Value::String(c.reason),
            Value::Bool(c.clean),
        ])
    }
}

enum SocketError {
    Closed(Closing),
    MessageSize(u64),
    Invalid(&'static str),
}

impl From<SocketError> for Value {
    fn from(e: SocketError) -> Value {
        let (index, payload) = match e {
            SocketError::Closed(closing) => (0, closing.into()),
            SocketError::MessageSize(max) => (1, Value::u64(max)),
            SocketError::Invalid(what) => (2, Value::string(what)),
        };
        Value::Case(index, Some(Box::new(payload)))
    }
}

/// The resource `connection`.
pub(super) struct Socket {
    protocol: Option<String>,
    line: Arc<Line>,
    max: usize,
    io: Handle,
}

impl Socket {
    pub fn new(
        stream: WebSocketStream<Stream>,
        protocol: Option<String>,
        max: usize,
        io: &Handle,
        held: Held,
    ) -> Self {
        Socket {
            protocol,
            line: Line::new(stream, max, io, held),
            max,
            io: io.clone(),
        }
    }

    /// The server's end of a connection that was upgraded.
    pub async fn serve(
        stream: Stream,
        protocol: Option<String>,
        max: usize,
        io: &Handle,
        held: Held,
    ) -> Self {
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config(max))).await;
        Socket::new(stream, protocol, max, io, held)
    }

    async fn send(&self, message: Message) -> Result<(), SocketError> {
        if message.len() > self.max {
            return Err(SocketError::MessageSize(self.max as u64));
        }
        self.line.send(message).await.map_err(SocketError::Closed)
    }

    async fn receive(&self) -> Result<Message, SocketError> {
        self.line.receive().await.map_err(SocketError::Closed)
    }

    async fn ping(&self) -> Result<Duration, SocketError> {
        let began = Instant::now();
        match self.line.ping().await {
            Some(Ok(())) => Ok(began.elapsed()),
            Some(Err(closing)) => Err(SocketError::Closed(closing)),
            None => Err(SocketError::Invalid("too many pings wait for their pongs")),
        }
    }

    async fn close(&self, code: u16, reason: String) -> Result<Closing, SocketError> {
        let may = matches!(code, 1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999);
        if !may {
            return Err(SocketError::Invalid(
                "the code must be 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999",
            ));
        }
        if reason.len() > 123 {
            return Err(SocketError::Invalid(
                "the reason must not have more than 123 bytes",
            ));
        }
        let closing = timeout(CLOSING, self.line.close(code, reason)).await;
        Ok(closing.unwrap_or_else(|_| lost()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.line.leave();
    }
}

/// Fields of the handshake itself.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

/// The value of `sec-websocket-protocol`, of names that are tokens.
fn protocols_of(v: Value) -> Result<Result<Vec<String>, ErrorCode>> {
    let mut names = vec![];
    for name in items(v)? {
        let name = string(name)?;
        if HeaderName::from_bytes(name.as_bytes()).is_err() || names.contains(&name) {
            return Ok(Err(ErrorCode::RequestHeaderInvalid(words(format!(
                "sec-websocket-protocol: `{}` is no name, or is named twice",
                name.escape_debug()
            )))));
        }
        names.push(name);
    }
    Ok(Ok(names))
}

pub(super) fn connect(pool: Arc<Pool>) -> Import<Neutral> {
    Import::later(move |a| {
        let pool = pool.clone();
        async move {
            let [url, headers, protocols, options] = args(a)?;
            let url = string(url)?;
            let headers = fields::parse(headers, pool.limits.max_header)?;
            let protocols = protocols_of(protocols)?;
            let options = Options::parse(options, &pool)?;
            let io = pool.io.clone();
            let opened = within(&io, async move {
                open(&pool, &url, headers?, protocols?, options).await
            });
            answer(opened.await.map(Value::host))
        }
    })
}

async fn open(
    pool: &Arc<Pool>,
    url: &str,
    headers: http::HeaderMap,
    protocols: Vec<String>,
    options: Options,
) -> Result<Socket, ErrorCode> {
    let target = Target::parse(url)?;
    if !matches!(target.scheme, Scheme::Ws | Scheme::Wss) {
        return Err(ErrorCode::RequestUriInvalid(words(
            "the scheme must be ws or wss",
        )));
    }
    if let Some(name) = headers.keys().find(|n| is_ours(n)) {
        return Err(ErrorCode::RequestHeaderInvalid(words(format!(
            "{name}: is set by the handshake itself; leave it out"
        ))));
    }
    pool.egress.permit(&target)?;
    let end = options.step(options.connect);
    let permit = pool.slot(end).await?;
    let (stream, _) = pool.open(&target, Speaks::Http1, end).await?;
    let invalid = |e: http::Error| ErrorCode::RequestUriInvalid(words(e.to_string()));
    let mut request = Request::builder()
        .uri(format!(
            "{}://{}{}",
            target.scheme.name(),
            target.authority(),
            target.path()
        ))
        .body(())
        .map_err(invalid)?;
    *request.headers_mut() = headers;
    let mut set = |name: HeaderName, value: String| -> Result<(), ErrorCode> {
        let value = HeaderValue::try_from(value).map_err(|e| invalid(e.into()))?;
        request.headers_mut().insert(name, value);
        Ok(())
    };
    set(header::HOST, target.authority())?;
    set(header::CONNECTION, "Upgrade".into())?;
    set(header::UPGRADE, "websocket".into())?;
    set(header::SEC_WEBSOCKET_VERSION, "13".into())?;
    set(header::SEC_WEBSOCKET_KEY, generate_key())?;
    if !protocols.is_empty() {
        set(header::SEC_WEBSOCKET_PROTOCOL, protocols.join(", "))?;
    }
    let max = pool.limits.max_message;
    let greeted = client_async_with_config(request, stream, Some(config(max)));
    let (line, response) = timeout_at(options.step(options.first_byte), greeted)
        .await
        .map_err(|_| ErrorCode::ResponseTimeout)?
        .map_err(refused)?;
    let protocol = response
        .headers()
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|v| v.to_str().ok())
        .map(str::to_string);
    Ok(Socket::new(line, protocol, max, &pool.io, Box::new(permit)))
}

fn refused(e: WsError) -> ErrorCode {
    match e {
        WsError::Io(e) => e.into(),
        WsError::Http(response) => {
            ErrorCode::UpgradeFailed(words(format!("the server answered {}", response.status())))
        }
        other => ErrorCode::UpgradeFailed(words(other.to_string())),
    }
}

fn message_of(v: Value) -> Result<Message> {
    match v {
        Value::Case(0, Some(text)) => Ok(Message::Text(Utf8Bytes::from(string(*text)?))),
        Value::Case(1, Some(bytes)) => match *bytes {
            Value::Nums(_, raw) => Ok(Message::Binary(raw.into())),
            _ => Err(Error::msg("a binary message is a list of bytes")),
        },
        _ => Err(Error::msg("a message is text or binary")),
    }
}

fn value_of(message: Message) -> Value {
    match message {
        Message::Text(text) => Value::Case(0, Some(Box::new(Value::string(text.as_str())))),
        other => Value::Case(1, Some(Box::new(Value::bytes(other.into_data().into())))),
    }
}

fn told<T>(result: Result<T, SocketError>, f: impl FnOnce(T) -> Option<Value>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(f(v)),
        Err(e) => Value::err(Some(e.into())),
    }))
}

/// The functions of the resource `connection`.
pub(super) fn functions() -> Vec<(&'static str, Import<Neutral>)> {
    vec![
        (
            "websocket#[method]connection.protocol",
            Import::now(|a| {
                let [socket] = args(a)?;
                let socket = socket.as_host::<Socket>()?;
                Ok(Some(option(socket.protocol.clone().map(Value::String))))
            }),
        ),
        (
            "websocket#[method]connection.send",
            Import::later(|a| async move {
                let [socket, message] = args(a)?;
                let (socket, message) = (socket.as_host::<Socket>()?, message_of(message)?);
                told(socket.send(message).await, |()| None)
            }),
        ),
        (
            "websocket#[method]connection.receive",
            Import::later(|a| async move {
                let [socket] = args(a)?;
                let socket = socket.as_host::<Socket>()?;
                told(socket.receive().await, |m| Some(value_of(m)))
            }),
        ),
        (
            "websocket#[method]connection.ping",
            Import::later(|a| async move {
                let [socket] = args(a)?;
                let socket = socket.as_host::<Socket>()?;
                told(socket.ping().await, |took| {
                    Some(Value::u64(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
                })
            }),
        ),
        (
            "websocket#[method]connection.close",
            Import::later(|a| async move {
                let [socket, code, reason] = args(a)?;
                let (socket, code) = (socket.as_host::<Socket>()?, code.as_u64()? as u16);
                let closed = within(&socket.io, socket.close(code, string(reason)?));
                told(closed.await, |closing| Some(closing.into()))
            }),
        ),
    ]
}
