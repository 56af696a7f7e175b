//! `websocket`: connections, whichever side opened them.
//!
//! One task reads: pings are answered and the close handshake is kept though the component does not ask, until as
//! much waits for it as one message may have. It writes where it sends, on its own thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Request, header};
use loop_engine::{Error, Import, Neutral, Num, Result, Value};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::task::AbortOnDropHandle;

use super::client::Options;
use super::code::{ErrorCode, words};
use super::egress::Target;
use super::pool::{Pool, Stream};
use super::rule::Scheme;
use super::tls::Speaks;
use super::{answer, fields, spawned};
use crate::value::{args, items, option, string};

type Line = WebSocketStream<Stream>;
/// Gone once the connection has ended, so that the other side sees its end.
type Sink = Arc<Turn<Option<SplitSink<Line, Message>>>>;

/// Messages that wait for the component at most, besides the bound on their bytes.
const WAITING: usize = 64;
/// What bytes are counted by: a semaphore has 32 bits.
const UNIT: usize = 1 << 10;
/// Pings that wait for their pongs at most.
const PINGS: usize = 16;
/// How long the other side has to answer a close.
const CLOSING: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Closing {
    code: u16,
    reason: String,
    /// Both sides said so.
    clean: bool,
}

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

type Pings = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// The resource `connection`.
pub(super) struct Socket {
    protocol: Option<String>,
    sink: Sink,
    queue: Turn<mpsc::Receiver<(Message, OwnedSemaphorePermit)>>,
    closing: watch::Receiver<Option<Closing>>,
    pings: Pings,
    next_ping: AtomicU64,
    max: usize,
    io: Handle,
    _reading: AbortOnDropHandle<()>,
}

/// What a connection holds for as long as it is open.
pub(super) type Held = Box<dyn Send>;

pub(super) fn config(max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(64 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(max.saturating_add(1 << 20))
}

impl Socket {
    pub fn new(line: Line, protocol: Option<String>, max: usize, io: &Handle, held: Held) -> Self {
        let (sink, stream) = line.split();
        let sink = Arc::new(Turn::new(Some(sink)));
        let (queued, queue) = mpsc::channel(WAITING);
        let (ended, closing) = watch::channel(None);
        let pings = Pings::default();
        let reading = Reading {
            stream,
            sink: sink.clone(),
            queued,
            room: Arc::new(Semaphore::new(max.div_ceil(UNIT) + 1)),
            pings: pings.clone(),
        };
        let line = sink.clone();
        let reading = io.spawn(async move {
            let end = reading.run().await;
            // whoever still sends gives up
            ended.send_replace(Some(end));
            drop((line.lock().await.take(), held));
        });
        Socket {
            protocol,
            sink,
            queue: Turn::new(queue),
            closing,
            pings,
            next_ping: AtomicU64::new(1),
            max,
            io: io.clone(),
            _reading: AbortOnDropHandle::new(reading),
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
        let line = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config(max))).await;
        Socket::new(line, protocol, max, io, held)
    }

    fn closed(&self) -> SocketError {
        let closing = self.closing.borrow().clone();
        SocketError::Closed(closing.unwrap_or_else(lost))
    }

    async fn ended(&self) -> Closing {
        let mut closing = self.closing.clone();
        match closing.wait_for(Option::is_some).await {
            Ok(closing) => closing.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    async fn send(&self, message: Message) -> Result<(), SocketError> {
        if message.len() > self.max {
            return Err(SocketError::MessageSize(self.max as u64));
        }
        if self.closing.borrow().is_some() {
            return Err(self.closed());
        }
        let mut closing = self.closing.clone();
        let sending = async {
            match &mut *self.sink.lock().await {
                Some(sink) => sink.send(message).await.is_ok(),
                None => false,
            }
        };
        let sent = tokio::select! {
            sent = sending => sent,
            _ = closing.wait_for(Option::is_some) => false,
        };
        if sent {
            return Ok(());
        }
        Err(SocketError::Closed(self.ended().await))
    }

    async fn receive(&self) -> Result<Message, SocketError> {
        match self.queue.lock().await.recv().await {
            Some((message, _room)) => Ok(message),
            None => Err(SocketError::Closed(self.ended().await)),
        }
    }

    async fn ping(&self) -> Result<Duration, SocketError> {
        let (tell, told) = oneshot::channel();
        let id = self.next_ping.fetch_add(1, Relaxed);
        {
            let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
            pings.retain(|_, tell| !tell.is_closed());
            if pings.len() >= PINGS {
                return Err(SocketError::Invalid("too many pings wait for their pongs"));
            }
            pings.insert(id, tell);
        }
        let began = Instant::now();
        self.send(Message::Ping(id.to_be_bytes().to_vec().into())).await?;
        match told.await {
            Ok(()) => Ok(began.elapsed()),
            Err(_) => Err(SocketError::Closed(self.ended().await)),
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
        if self.closing.borrow().is_none() {
            // what waits unread is nobody's any more, and must not keep the answer from being read
            self.queue.lock().await.close();
            let _ = timeout(CLOSING, say(&self.sink, code, reason)).await;
        }
        Ok(timeout(CLOSING, self.ended()).await.unwrap_or_else(|_| lost()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.closing.borrow().is_none() {
            let sink = self.sink.clone();
            // nobody waits for it, so it is brief
            self.io.spawn(async move {
                let _ = timeout(Duration::from_secs(1), say(&sink, 1001, String::new())).await;
            });
        }
    }
}

async fn say(sink: &Sink, code: u16, reason: String) {
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    };
    if let Some(sink) = &mut *sink.lock().await {
        let _ = sink.send(Message::Close(Some(frame))).await;
    }
}

fn lost() -> Closing {
    Closing {
        code: 1006,
        reason: String::new(),
        clean: false,
    }
}

struct Reading {
    stream: SplitStream<Line>,
    sink: Sink,
    queued: mpsc::Sender<(Message, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    pings: Pings,
}

impl Reading {
    async fn run(mut self) -> Closing {
        let mut closing = None;
        loop {
            match self.stream.next().await {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    let units = (message.len() / UNIT + 1) as u32;
                    let room = self.room.clone().acquire_many_owned(units);
                    // a closed queue drops what comes: the component closes, and waits for the answer
                    let Ok(room) = room.await else { continue };
                    let _ = self.queued.send((message, room)).await;
                }
                Some(Ok(Message::Pong(id))) => {
                    if let Ok(id) = <[u8; 8]>::try_from(&id[..]) {
                        let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(tell) = pings.remove(&u64::from_be_bytes(id)) {
                            let _ = tell.send(());
                        }
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    // the next read sends the answer, and finds the end
                    closing = Some(match frame {
                        Some(f) => Closing {
                            code: f.code.into(),
                            reason: f.reason.to_string(),
                            clean: true,
                        },
                        None => Closing {
                            code: 1005,
                            reason: String::new(),
                            clean: true,
                        },
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => return self.fail(e, closing).await,
                None => return closing.unwrap_or_else(lost),
            }
        }
    }

    /// Tells the other side what was wrong with what it sent.
    async fn fail(self, e: WsError, closing: Option<Closing>) -> Closing {
        let (code, reason) = match e {
            WsError::Utf8(_) => (1007, "the text is not UTF-8"),
            WsError::Capacity(_) => (1009, "the message is too long"),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return closing.unwrap_or_else(lost);
            }
            WsError::Protocol(_) | WsError::AttackAttempt => (1002, "what came is no WebSocket frame"),
            _ => return closing.unwrap_or_else(lost),
        };
        let _ = timeout(Duration::from_secs(1), say(&self.sink, code, reason.into())).await;
        Closing {
            code,
            reason: reason.into(),
            clean: false,
        }
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
            let opened = spawned(&io, async move {
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
                let (io, reason) = (socket.io.clone(), string(reason)?);
                // its clock needs the runtime
                let closed = io.spawn(async move { socket.close(code, reason).await });
                told(closed.await.map_err(Error::new)?, |closing| Some(closing.into()))
            }),
        ),
    ]
}
