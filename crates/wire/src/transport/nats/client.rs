//! As much of a NATS client as streams need: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::{BoxIo, Login, Options, failed, tcp, tls};
use super::key::Key;
use crate::address::Address;
use crate::failure::{Code, Failure};

/// Time for the server to take a client in, and between signs of life.
const HANDSHAKE: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(5);
/// Beats without a sign of life after which a peer or the server is given up.
pub(super) const MISSED: u32 = 3;
/// Bytes that wait to be written before streams wait too, and those after which the client is given up.
const HIGH: usize = 1 << 20;
const FULL: usize = 64 << 20;
/// Bytes of a line of the server's, and of a message.
const LINE: usize = 64 << 10;
const PAYLOAD: usize = 8 << 20;

/// What takes the messages of a subscription. Called from the client's task: it may not wait.
pub(super) trait Sink: Send + Sync {
    fn message(&self, client: &Client, message: Delivery);

    /// Time passed.
    fn beat(&self, client: &Client, now: Instant) {
        let _ = (client, now);
    }

    /// The server forbade something to this client.
    fn denied(&self, why: &str) {
        let _ = why;
    }

    /// The client is at its end.
    fn over(&self, why: &str) {
        let _ = why;
    }
}

/// A message that came.
pub(super) struct Delivery {
    pub reply: Option<String>,
    /// The server itself answers that nobody listens.
    pub nobody: bool,
    pub payload: Bytes,
}

/// A connection to a server.
pub(super) struct Client {
    out: Mutex<Outgoing>,
    written: Notify,
    sinks: Mutex<HashMap<u64, Arc<dyn Sink>>>,
    next: AtomicU64,
    /// When the server was heard last.
    heard: Mutex<Instant>,
    pings: AtomicU64,
    pongs: watch::Sender<u64>,
    denied: Mutex<Option<String>>,
    over: OnceLock<String>,
    pub beat: Duration,
    /// Bytes of one message.
    pub payload: usize,
}

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    wakers: Vec<Waker>,
    closing: bool,
}

/// Keeps a client; the last one that is dropped lets it go, once all is written.
pub(super) struct Kept(pub Arc<Client>);

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.0.out).closing = true;
        self.0.written.notify_one();
    }
}

pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to the server at `named`.
pub(super) async fn connect(named: &Address, options: &Options) -> Result<Arc<Kept>, Failure> {
    let late = || failed("connect to", named, &io::ErrorKind::TimedOut.into());
    let begun = tokio::time::timeout(HANDSHAKE, begin(named, options)).await;
    let (client, io, buffer) = begun.unwrap_or_else(|_| Err(late()))?;
    let client = Arc::new(client);
    tokio::spawn(run(client.clone(), io, buffer));
    Ok(Arc::new(Kept(client)))
}

async fn begin(named: &Address, options: &Options) -> Result<(Client, BoxIo, BytesMut), Failure> {
    let error = |e: io::Error| failed("connect to", named, &e);
    let place = named
        .place()
        .ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
    let mut io: BoxIo = Box::new(tcp::dial(place, named).await?);
    let mut buffer = BytesMut::new();
    let info = match line(&mut io, &mut buffer).await.map_err(error)? {
        line if line.starts_with(b"INFO ") => serde_json::from_slice::<Value>(&line[5..]).ok(),
        _ => None,
    };
    let info = info.ok_or_else(|| Failure::protocol(format!("{named} is no NATS server")))?;
    let says = |key: &str| info[key].as_bool() == Some(true);
    if options.tls.is_some() || says("tls_required") {
        if !says("tls_required") && !says("tls_available") {
            let message = format!("the server at {named} offers no TLS, which the options ask for");
            return Err(Failure::new(Code::Unauthenticated, message));
        }
        let tls = options.tls.clone().unwrap_or_default();
        io = Box::new(tls::connect(io, &tls, &place.host, &[]).await?.0);
    }
    let mut connect = json!({
        "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": "loop-kit",
        "protocol": 1, "headers": true, "no_responders": true,
    });
    let shown = show(options.login.as_ref(), &info, &mut connect)?;
    let hello = format!("CONNECT {connect}\r\nPING\r\n");
    io.write_all(hello.as_bytes()).await.map_err(error)?;
    io.flush().await.map_err(error)?;
    loop {
        let line = line(&mut io, &mut buffer).await.map_err(error)?;
        if line == b"PONG" {
            break;
        }
        if let Some(why) = line.strip_prefix(b"-ERR ") {
            let why = String::from_utf8_lossy(why);
            let why = why.trim_matches('\'');
            let message = format!("the server at {named} refuses this client: {why}; it was shown {shown}");
            return Err(Failure::new(Code::Unauthenticated, message));
        }
    }
    let payload = info["max_payload"].as_u64().unwrap_or(1 << 20);
    let client = Client {
        out: Mutex::default(),
        written: Notify::new(),
        sinks: Mutex::default(),
        next: AtomicU64::new(1),
        heard: Mutex::new(Instant::now()),
        pings: AtomicU64::new(0),
        pongs: watch::channel(0).0,
        denied: Mutex::default(),
        over: OnceLock::new(),
        beat: options.heartbeat.unwrap_or(BEAT),
        payload: payload.clamp(64, PAYLOAD as u64) as usize,
    };
    Ok((client, io, buffer))
}

/// Adds who this is to a CONNECT; returns that in words, without secrets.
fn show(login: Option<&Login>, info: &Value, connect: &mut Value) -> Result<String, Failure> {
    Ok(match login {
        Some(Login::User { name, password }) => {
            connect["user"] = json!(name);
            connect["pass"] = json!(password);
            format!("the user {name} and a password")
        }
        Some(Login::Token(token)) => {
            connect["auth_token"] = json!(token);
            "a token".into()
        }
        Some(Login::Credentials(text)) => {
            let message = "neither credentials of a user of NATS, as `nsc` writes them, nor a seed (SU...)";
            let key = Key::read(text).ok_or_else(|| Failure::new(Code::BadValue, message))?;
            key.show(info["nonce"].as_str().unwrap_or_default(), connect);
            format!("the key {}", key.name())
        }
        None => "no login".into(),
    })
}

/// The next line, without its end.
async fn line(io: &mut BoxIo, buffer: &mut BytesMut) -> io::Result<Vec<u8>> {
    loop {
        if let Some(at) = find_line(buffer)? {
            let line = buffer.split_to(at).to_vec();
            buffer.advance(2);
            return Ok(line);
        }
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Where the first line ends.
fn find_line(buffer: &[u8]) -> io::Result<Option<usize>> {
    let within = &buffer[..buffer.len().min(LINE)];
    match within.windows(2).position(|end| end == b"\r\n") {
        None if buffer.len() >= LINE => Err(invalid("a line without end")),
        found => Ok(found),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

async fn run(client: Arc<Client>, io: BoxIo, buffer: BytesMut) {
    let (read, write) = tokio::io::split(io);
    let why = tokio::select! {
        why = client.read(read, buffer) => why,
        why = client.write(write) => why,
        why = client.tick() => why,
    };
    let _ = client.over.set(why.clone());
    let sinks = std::mem::take(&mut *lock(&client.sinks));
    sinks.values().for_each(|sink| sink.over(&why));
    client.pongs.send_modify(|_| {});
    wake(&client.out);
}

fn wake(out: &Mutex<Outgoing>) {
    let wakers = std::mem::take(&mut lock(out).wakers);
    wakers.into_iter().for_each(Waker::wake);
}

impl Client {
    async fn read(&self, mut io: ReadHalf<BoxIo>, mut buffer: BytesMut) -> String {
        loop {
            match self.take(&mut buffer) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) => return e.to_string(),
            }
            buffer.reserve(64 << 10);
            match io.read_buf(&mut buffer).await {
                Ok(0) => {
                    let denied = lock(&self.denied).take();
                    return denied.unwrap_or_else(|| "the server closed the connection".into());
                }
                Ok(_) => *lock(&self.heard) = Instant::now(),
                Err(e) => return format!("the connection to the server broke: {e}"),
            }
        }
    }

    /// Takes one operation out of the buffer, if all of it is there.
    fn take(&self, buffer: &mut BytesMut) -> io::Result<bool> {
        let Some(end) = find_line(buffer)? else {
            return Ok(false);
        };
        let text = std::str::from_utf8(&buffer[..end]).map_err(|_| invalid("a line that is no UTF-8"))?;
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        match word {
            "MSG" | "HMSG" => {
                let headed = word == "HMSG";
                let message = Line::read(rest, headed).ok_or_else(|| invalid("a message without sizes"))?;
                if message.total > PAYLOAD || message.headers > message.total {
                    return Err(invalid("a message of such sizes"));
                }
                if buffer.len() < end + 2 + message.total + 2 {
                    return Ok(false);
                }
                let (sid, reply, headers) = (message.sid, message.reply.map(Into::into), message.headers);
                let total = message.total;
                buffer.advance(end + 2);
                let mut payload = buffer.split_to(total).freeze();
                buffer.advance(2);
                let headers = payload.split_to(headers);
                let sink = lock(&self.sinks).get(&sid).cloned();
                if let Some(sink) = sink {
                    let delivery = Delivery {
                        reply,
                        nobody: payload.is_empty() && headers.starts_with(b"NATS/1.0 503"),
                        payload,
                    };
                    sink.message(self, delivery);
                }
                return Ok(true);
            }
            "PING" => self.send(b"PONG\r\n"),
            "PONG" => self.pongs.send_modify(|n| *n += 1),
            "-ERR" => {
                let why = format!("the server says {rest}");
                let sinks: Vec<_> = lock(&self.sinks).values().cloned().collect();
                sinks.iter().for_each(|sink| sink.denied(&why));
                *lock(&self.denied) = Some(why);
            }
            "INFO" | "+OK" => {}
            _ => return Err(invalid("an operation that no server sends")),
        }
        buffer.advance(end + 2);
        Ok(true)
    }

    async fn write(&self, mut io: WriteHalf<BoxIo>) -> String {
        loop {
            let (bytes, closing) = {
                let mut out = lock(&self.out);
                (std::mem::take(&mut out.bytes), out.closing)
            };
            wake(&self.out);
            if bytes.is_empty() {
                if closing {
                    let _ = io.shutdown().await;
                    return "this side let it go".into();
                }
                self.written.notified().await;
                continue;
            }
            let done = async {
                io.write_all(&bytes).await?;
                io.flush().await
            };
            if let Err(e) = done.await {
                return format!("the connection to the server broke: {e}");
            }
        }
    }

    async fn tick(&self) -> String {
        let mut ticks = tokio::time::interval(self.beat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            if now - *lock(&self.heard) > self.beat * MISSED {
                return "nothing is heard of the server".into();
            }
            if lock(&self.out).bytes.len() > FULL {
                return "the server does not read".into();
            }
            self.ping();
            let sinks: Vec<_> = lock(&self.sinks).values().cloned().collect();
            sinks.iter().for_each(|sink| sink.beat(self, now));
        }
    }

    fn ping(&self) -> u64 {
        let n = self.pings.fetch_add(1, Relaxed) + 1;
        self.send(b"PING\r\n");
        n
    }

    fn send(&self, bytes: &[u8]) {
        lock(&self.out).bytes.extend_from_slice(bytes);
        self.written.notify_one();
    }

    /// Waits until the server has dealt with all that was sent.
    ///
    /// Errors with what it forbade meanwhile.
    pub async fn settle(&self) -> Result<(), String> {
        let n = self.ping();
        let mut pongs = self.pongs.subscribe();
        let _ = pongs.wait_for(|got| *got >= n || self.over.get().is_some()).await;
        match self.over().or_else(|| lock(&self.denied).take()) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Why it is at its end, if it is.
    pub fn over(&self) -> Option<String> {
        self.over.get().cloned()
    }

    /// Has `sink` take what comes for `subject`, in turn with others of `queue`, where that is not empty.
    pub fn subscribe(&self, subject: &str, queue: &str, sink: Arc<dyn Sink>) -> u64 {
        let sid = self.next.fetch_add(1, Relaxed);
        lock(&self.sinks).insert(sid, sink.clone());
        match queue {
            "" => self.send(format!("SUB {subject} {sid}\r\n").as_bytes()),
            _ => self.send(format!("SUB {subject} {queue} {sid}\r\n").as_bytes()),
        }
        if let Some(why) = self.over() {
            lock(&self.sinks).remove(&sid);
            sink.over(&why);
        }
        sid
    }

    pub fn unsubscribe(&self, sid: u64) {
        lock(&self.sinks).remove(&sid);
        self.send(format!("UNSUB {sid}\r\n").as_bytes());
    }

    /// Sends a message of two parts.
    pub fn publish(&self, subject: &str, reply: Option<&str>, head: &[u8], body: &[u8]) {
        let size = head.len() + body.len();
        let mut out = lock(&self.out);
        for word in ["PUB ", subject, " ", reply.unwrap_or_default(), " "] {
            out.bytes.extend_from_slice(word.as_bytes());
        }
        out.bytes.extend_from_slice(format!("{size}\r\n").as_bytes());
        for part in [head, body, b"\r\n"] {
            out.bytes.extend_from_slice(part);
        }
        drop(out);
        self.written.notify_one();
    }

    /// Whether there is room for more than signs of life.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_below(HIGH, cx)
    }

    /// Whether the writer has taken all there was.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_below(1, cx)
    }

    fn poll_below(&self, n: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut out = lock(&self.out);
        if out.bytes.len() < n || self.over.get().is_some() {
            return Poll::Ready(());
        }
        if !out.wakers.iter().any(|w| w.will_wake(cx.waker())) {
            out.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// The line of a message: `subject sid [reply] [headers] total`.
struct Line<'a> {
    sid: u64,
    reply: Option<&'a str>,
    headers: usize,
    total: usize,
}

impl<'a> Line<'a> {
    fn read(rest: &'a str, headed: bool) -> Option<Self> {
        let words: Vec<_> = rest.split_ascii_whitespace().collect();
        let sizes = if headed { 2 } else { 1 };
        let reply = match words.len().checked_sub(2 + sizes)? {
            0 => None,
            1 => Some(words[2]),
            _ => return None,
        };
        let size = |back: usize| words[words.len() - back].parse().ok();
        Some(Line {
            sid: words[1].parse().ok()?,
            reply,
            headers: if headed { size(2)? } else { 0 },
            total: size(1)?,
        })
    }
}
