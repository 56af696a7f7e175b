//! The line of a WebSocket, moved by whoever waits for it: no other thread has to wake for a message.
//!
//! While nobody waits a keeper looks in now and then: pings are answered and the close handshake is kept though the
//! component does not ask, until as much waits for it as one message may have.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::task::AbortOnDropHandle;

use super::pool::Stream;

/// Messages that wait for the component at most, besides the bound on their bytes.
const WAITING: usize = 64;
/// Pings that wait for their pongs at most.
const PINGS: usize = 16;
/// Frames that are read in one turn at most.
const TURN: usize = 256;
/// How often the keeper looks in.
const KEEP: Duration = Duration::from_millis(500);
/// A message this soon after the last goes out with the next ones: when the component waits for an answer, when `BUFFER`
/// bytes have come together, or after `LINGER`.
const BURST: Duration = Duration::from_micros(100);
const LINGER: Duration = Duration::from_millis(1);
const BUFFER: usize = 64 << 10;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    pub code: u16,
    pub reason: String,
    /// Both sides said so.
    pub clean: bool,
}

pub(super) fn lost() -> Closing {
    Closing {
        code: 1006,
        reason: String::new(),
        clean: false,
    }
}

/// What a connection holds for as long as it is open.
pub(super) type Held = Box<dyn Send>;

pub(super) fn config(max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(64 << 10)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(max.saturating_add(1 << 20))
}

pub(super) struct Line {
    state: Mutex<State>,
    waiting: Arc<Waiting>,
    max: usize,
    io: Handle,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct State {
    /// With what it holds; gone once the connection has ended, so that the other side sees its end.
    open: Option<(WebSocketStream<Stream>, Held)>,
    queue: VecDeque<Message>,
    /// Bytes in the queue.
    queued: usize,
    /// Pings that wait, and whether their pongs have come.
    pings: HashMap<u64, bool>,
    next_ping: u64,
    /// What the other side said of its end.
    closing: Option<Closing>,
    ended: Option<Closing>,
    /// The component closes: what comes is nobody's.
    dropping: bool,
    last_sent: Option<Instant>,
    unflushed: bool,
    /// A task will flush.
    lingers: bool,
    /// Goes up with all that somebody may wait for.
    news: u64,
}

/// Everybody who waits for the line, which knows one waker alone.
#[derive(Default)]
struct Waiting(Mutex<Vec<Waker>>);

impl Waiting {
    fn all(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waker: &Waker) {
        let mut all = self.all();
        if !all.iter().any(|w| w.will_wake(waker)) {
            all.push(waker.clone());
        }
    }

    fn remove(&self, waker: &Waker) {
        self.all().retain(|w| !w.will_wake(waker));
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let all = std::mem::take(&mut *self.all());
        all.into_iter().for_each(Waker::wake);
    }
}

impl Line {
    pub fn new(stream: WebSocketStream<Stream>, max: usize, io: &Handle, held: Held) -> Arc<Self> {
        let line = Arc::new(Line {
            state: Mutex::new(State {
                open: Some((stream, held)),
                queue: VecDeque::new(),
                queued: 0,
                pings: HashMap::new(),
                next_ping: 0,
                closing: None,
                ended: None,
                dropping: false,
                last_sent: None,
                unflushed: false,
                lingers: false,
                news: 0,
            }),
            waiting: Arc::default(),
            max,
            io: io.clone(),
            keeper: Mutex::new(None),
        });
        let keeper = AbortOnDropHandle::new(io.spawn(keep(Arc::downgrade(&line))));
        *line.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        line
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Closing> {
        self.state().ended.clone()
    }

    /// Moves the line until `done` gives something.
    async fn until<T>(&self, mut done: impl FnMut(&mut State) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut state = self.state();
            if let Some(out) = done(&mut state) {
                return Poll::Ready(out);
            }
            // before the line is asked: what comes meanwhile must find it
            self.waiting.add(cx.waker());
            let news = self.pump(&mut state);
            let out = done(&mut state);
            if out.is_some() {
                self.waiting.remove(cx.waker());
            }
            if news {
                self.waiting.wake_by_ref();
            }
            out.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Writes what waits, and reads what is there, as far as there is room; whether somebody may have waited for it.
    fn pump(&self, state: &mut State) -> bool {
        let waker = Waker::from(self.waiting.clone());
        let cx = &mut Context::from_waker(&waker);
        let before = state.news;
        state.flush(cx);
        let mut read = 0;
        while state.dropping || state.queue.len() < WAITING && state.queued < self.max {
            // a flood of pings, or of what is dropped, must not keep the thread: whoever waits is woken to go on
            if read == TURN {
                state.news += 1;
                break;
            }
            read += 1;
            let Some((stream, _)) = &mut state.open else { break };
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => state.take(message),
                Poll::Ready(Some(Err(e))) => state.fail(&e, cx),
                Poll::Ready(None) => state.end(None),
                Poll::Pending => break,
            }
        }
        state.news != before
    }

    /// Takes a message to be sent; waits while the other side does not take what was sent before. Errors with how the
    /// connection ended.
    pub async fn send(self: &Arc<Self>, message: Message) -> Result<(), Closing> {
        let mut message = Some(message);
        poll_fn(|cx| {
            let mut state = self.state();
            self.waiting.add(cx.waker());
            let waker = Waker::from(self.waiting.clone());
            let sent = state.send(&mut message, &mut Context::from_waker(&waker));
            // the other side may wait until what it sent is read, or say why it takes no more
            let news = sent != Poll::Ready(true) && self.pump(&mut state);
            let out = match sent {
                Poll::Ready(true) => Poll::Ready(Ok(())),
                Poll::Pending if state.ended.is_none() => Poll::Pending,
                _ => {
                    let how = state.ended.as_ref().or(state.closing.as_ref());
                    Poll::Ready(Err(how.cloned().unwrap_or_else(lost)))
                }
            };
            if out.is_ready() {
                self.waiting.remove(cx.waker());
            }
            if news {
                self.waiting.wake_by_ref();
            }
            if out.is_ready() && state.unflushed && !std::mem::replace(&mut state.lingers, true) {
                self.io.spawn(linger(Arc::downgrade(self)));
            }
            out
        })
        .await
    }

    /// The next message, or how the connection ended.
    pub async fn receive(&self) -> Result<Message, Closing> {
        self.until(|state| match state.queue.pop_front() {
            Some(message) => {
                state.queued -= message.len();
                Some(Ok(message))
            }
            None => state.ended.clone().map(Err),
        })
        .await
    }

    /// Waits for the pong of a ping, or for the end of the connection; `None` where too many wait already.
    pub async fn ping(self: &Arc<Self>) -> Option<Result<(), Closing>> {
        let id = {
            let mut state = self.state();
            if state.pings.len() >= PINGS {
                return None;
            }
            let id = state.next_ping;
            state.next_ping += 1;
            state.pings.insert(id, false);
            id
        };
        let _waits = Forget(self, id);
        let ping = Message::Ping(id.to_be_bytes().to_vec().into());
        if let Err(closing) = self.send(ping).await {
            return Some(Err(closing));
        }
        let answered = self.until(|state| match state.pings.get(&id) {
            Some(true) => Some(Ok(())),
            _ => state.ended.clone().map(Err),
        });
        Some(answered.await)
    }

    /// Says that this side closes, drops what comes, and waits for the other side's end.
    pub async fn close(self: &Arc<Self>, code: u16, reason: String) -> Closing {
        {
            let mut state = self.state();
            state.dropping = true;
            state.queue.clear();
            state.queued = 0;
        }
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        let _ = self.send(Message::Close(Some(frame))).await;
        self.until(|state| state.ended.clone()).await
    }

    /// Nobody will ask for anything any more.
    pub fn leave(self: &Arc<Self>) {
        if self.ended().is_some() {
            return;
        }
        let line = self.clone();
        // nobody waits for it, so it is brief
        self.io.spawn(async move {
            let frame = CloseFrame {
                code: CloseCode::Away,
                reason: "".into(),
            };
            let _ = timeout(Duration::from_secs(1), line.send(Message::Close(Some(frame)))).await;
            line.state().end(None);
            line.waiting.wake_by_ref();
        });
    }
}

impl State {
    fn flush(&mut self, cx: &mut Context<'_>) {
        if let Some((stream, _)) = &mut self.open
            && self.unflushed
            && let Poll::Ready(done) = stream.poll_flush_unpin(cx)
        {
            self.unflushed = false;
            // a connection that broke says so when it is read, with what came before
            let _ = done;
        }
    }

    fn send(&mut self, message: &mut Option<Message>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some((stream, _)) = &mut self.open else {
            return Poll::Ready(false);
        };
        let Some(next) = message.take() else {
            return stream.poll_flush_unpin(cx).map(|flushed| {
                self.unflushed = false;
                flushed.is_ok()
            });
        };
        match stream.poll_ready_unpin(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => {
                *message = Some(next);
                return Poll::Pending;
            }
        }
        let now = Instant::now();
        let follows = self.last_sent.replace(now).is_some_and(|last| now - last < BURST);
        let waits = follows && next.len() < BUFFER && (next.is_text() || next.is_binary());
        if stream.start_send_unpin(next).is_err() {
            return Poll::Ready(false);
        }
        self.unflushed = true;
        if waits {
            return Poll::Ready(true);
        }
        self.send(message, cx)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(_) | Message::Binary(_) if !self.dropping => {
                self.queued += message.len();
                self.queue.push_back(message);
                self.news += 1;
            }
            Message::Pong(id) => {
                if let Ok(id) = <[u8; 8]>::try_from(&id[..])
                    && let Some(came) = self.pings.get_mut(&u64::from_be_bytes(id))
                {
                    *came = true;
                    self.news += 1;
                }
            }
            // the next read sends the answer, and finds the end
            Message::Close(frame) => {
                self.closing = Some(Closing {
                    code: frame.as_ref().map_or(1005, |f| f.code.into()),
                    reason: frame.map(|f| f.reason.to_string()).unwrap_or_default(),
                    clean: true,
                });
            }
            _ => {}
        }
    }

    /// Tells the other side what was wrong with what it sent.
    fn fail(&mut self, e: &WsError, cx: &mut Context<'_>) {
        let (code, reason) = match e {
            WsError::Utf8(_) => (1007, "the text is not UTF-8"),
            WsError::Capacity(_) => (1009, "the message is too long"),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return self.end(None),
            WsError::Protocol(_) | WsError::AttackAttempt => (1002, "what came is no WebSocket frame"),
            _ => return self.end(None),
        };
        if let Some((stream, _)) = &mut self.open {
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: reason.into(),
            };
            let _ = stream.start_send_unpin(Message::Close(Some(frame)));
            let _ = stream.poll_flush_unpin(cx);
        }
        self.end(Some(Closing {
            code,
            reason: reason.into(),
            clean: false,
        }));
    }

    fn end(&mut self, how: Option<Closing>) {
        self.open = None;
        self.news += 1;
        let said = self.closing.take();
        self.ended
            .get_or_insert_with(|| how.or(said).unwrap_or_else(lost));
    }
}

/// Lets go of a ping for which nobody waits any more.
struct Forget<'l>(&'l Line, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.state().pings.remove(&self.1);
    }
}

async fn keep(line: Weak<Line>) {
    let mut ticks = interval(KEEP);
    loop {
        ticks.tick().await;
        let Some(line) = line.upgrade() else { return };
        let mut state = line.state();
        if state.ended.is_some() {
            return;
        }
        if line.waiting.all().is_empty() && line.pump(&mut state) {
            line.waiting.wake_by_ref();
        }
    }
}

async fn linger(line: Weak<Line>) {
    sleep(LINGER).await;
    let Some(line) = line.upgrade() else { return };
    poll_fn(|cx| {
        let mut state = line.state();
        line.waiting.add(cx.waker());
        let waker = Waker::from(line.waiting.clone());
        state.flush(&mut Context::from_waker(&waker));
        if state.unflushed && state.ended.is_none() {
            return Poll::Pending;
        }
        line.waiting.remove(cx.waker());
        state.lingers = false;
        Poll::Ready(())
    })
    .await
}
