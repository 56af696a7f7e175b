//! A stream of bytes between two inboxes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::client::{Client, Delivery, Kept, MISSED, Sink, lock};
use super::message::{HEAD, Message, data};

/// Bytes that may be on their way to a reader.
pub(super) const WINDOW: u64 = 1 << 20;
/// Bytes of one message, where the server takes as many.
const CHUNK: usize = 64 << 10;

/// What both the stream and its subscription know.
pub(super) struct Channel {
    own: String,
    state: Mutex<State>,
}

struct State {
    /// The peer's inbox, once it is known.
    peer: Option<String>,
    received: BytesMut,
    /// Positions in what comes: up to where it came, was taken, and may come.
    came: u64,
    taken: u64,
    granted: u64,
    /// Positions in what goes: up to where it went and may go.
    sent: u64,
    allowed: u64,
    /// The peer sends no more; this side sends no more.
    ended: bool,
    ending: bool,
    broken: Option<String>,
    heard: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    /// Wakes whoever waits; returns what there is to answer.
    fn breaks(&mut self, why: impl Into<String>) {
        self.broken.get_or_insert(why.into());
        self.wake();
    }

    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Deals with a message of the peer's; errors when it broke the rules or something was lost.
    fn take(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Data(position, _) if position != self.came => {
                Err(format!("bytes from {position} came where {} were due", self.came))
            }
            Message::Data(_, _) if self.ended => Err("bytes after the end".into()),
            Message::Data(_, bytes) => {
                self.came += bytes.len() as u64;
                if self.came > self.granted {
                    return Err("more bytes than were allowed".into());
                }
                self.received.extend_from_slice(&bytes);
                Ok(())
            }
            Message::Credit(position) if position < self.sent => Err("less credit than before".into()),
            Message::Credit(position) => {
                self.allowed = self.allowed.max(position);
                Ok(())
            }
            Message::End(position) | Message::Beat(position) if position != self.came => Err(format!(
                "{} bytes were lost on the way",
                position.saturating_sub(self.came)
            )),
            Message::End(_) => {
                self.ended = true;
                Ok(())
            }
            Message::Beat(_) => Ok(()),
            Message::Reset(why) => {
                self.broken
                    .get_or_insert(format!("the peer ended the stream: {why}"));
                Ok(())
            }
            Message::Refuse(why) => {
                self.broken
                    .get_or_insert(format!("the peer refused the stream: {why}"));
                Ok(())
            }
            Message::Open(_) | Message::Accept(_) => Err("a stream opened twice".into()),
        }
    }
}

impl Sink for Channel {
    fn message(&self, client: &Client, delivery: Delivery) {
        let mut state = lock(&self.state);
        state.heard = Instant::now();
        if delivery.nobody {
            return state.breaks("nobody listens there");
        }
        let reply = delivery.reply.filter(|reply| super::is_inbox(reply));
        let taken = match (Message::read(delivery.payload), reply) {
            (None, _) => Err("a message that is none".into()),
            (Some(Message::Accept(credit)), Some(peer)) if state.peer.is_none() => {
                state.peer = Some(peer);
                state.allowed = credit;
                Ok(())
            }
            // another group listens at the same subject; one is enough
            (Some(Message::Accept(_)), Some(other)) => {
                let reset = Message::Reset("somebody else was faster".into());
                return client.publish(&other, None, &reset.bytes(), &[]);
            }
            (Some(message), _) => state.take(message),
        };
        if let Err(why) = taken {
            if let Some(peer) = &state.peer {
                client.publish(peer, None, &Message::Reset(why.clone()).bytes(), &[]);
            }
            state.broken.get_or_insert(why);
        }
        state.wake();
    }

    fn beat(&self, client: &Client, now: Instant) {
        let mut state = lock(&self.state);
        let silent = now.saturating_duration_since(state.heard);
        if silent > client.beat * MISSED {
            state.breaks(format!(
                "nothing was heard of the peer for {} s",
                silent.as_secs_f64()
            ));
        }
        if let Some(peer) = state.peer.as_ref().filter(|_| state.broken.is_none()) {
            // with a reply, so that the server tells when the peer's inbox has gone
            let beat = Message::Beat(state.sent);
            client.publish(peer, Some(&self.own), &beat.bytes(), &[]);
        }
    }

    fn denied(&self, why: &str) {
        let mut state = lock(&self.state);
        if state.peer.is_none() {
            state.breaks(why);
        }
    }

    fn over(&self, why: &str) {
        lock(&self.state).breaks(why);
    }
}

/// One end. It is reset when dropped before its end.
pub(super) struct Stream {
    client: Arc<Kept>,
    sid: u64,
    channel: Arc<Channel>,
}

impl Stream {
    /// An end with an inbox of its own; `peer` and what may be sent to it are known where it has opened.
    pub fn new(client: Arc<Kept>, own: String, opened: Option<(String, u64)>) -> Self {
        let (peer, allowed) = opened.unzip();
        let channel = Arc::new(Channel {
            state: Mutex::new(State {
                peer,
                received: BytesMut::new(),
                came: 0,
                taken: 0,
                granted: WINDOW,
                sent: 0,
                allowed: allowed.unwrap_or(0),
                ended: false,
                ending: false,
                broken: None,
                heard: Instant::now(),
                reader: None,
                writer: None,
            }),
            own: own.clone(),
        });
        let sid = client.0.subscribe(&own, "", channel.clone());
        Stream { client, sid, channel }
    }

    /// The subject where this end is written to.
    pub fn own(&self) -> &str {
        &self.channel.own
    }

    /// Waits until the other end has accepted.
    pub async fn opened(&self) -> Result<(), String> {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.channel.state);
            match (&state.broken, &state.peer) {
                (Some(why), _) => Poll::Ready(Err(why.clone())),
                (None, Some(_)) => Poll::Ready(Ok(())),
                _ => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.channel.state);
        let n = state.received.len().min(to.remaining());
        if n == 0 && to.remaining() > 0 {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(why) = &state.broken {
                return Poll::Ready(Err(broken(why)));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        to.put_slice(&state.received[..n]);
        state.received.advance(n);
        state.taken += n as u64;
        if state.granted - state.taken < WINDOW / 2 {
            state.granted = state.taken + WINDOW;
            if let Some(peer) = state.peer.as_ref().filter(|_| !state.ended) {
                let credit = Message::Credit(state.granted);
                self.client.0.publish(peer, None, &credit.bytes(), &[]);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let client = &self.client.0;
        ready!(client.poll_room(cx));
        let mut state = lock(&self.channel.state);
        if let Some(why) = &state.broken {
            return Poll::Ready(Err(broken(why)));
        }
        if state.ending {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = CHUNK.min(client.payload - HEAD) as u64;
        let room = (state.allowed - state.sent).min(most) as usize;
        let total = from.iter().map(|s| s.len()).sum::<usize>().min(room);
        let Some(peer) = state.peer.clone().filter(|_| room > 0) else {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let head = data(state.sent);
        match from.iter().find(|s| !s.is_empty()) {
            None => {}
            Some(first) if first.len() >= total => client.publish(&peer, None, &head, &first[..total]),
            Some(_) => {
                let mut all = Vec::with_capacity(total);
                for slice in from {
                    let n = slice.len().min(total - all.len());
                    all.extend_from_slice(&slice[..n]);
                }
                client.publish(&peer, None, &head, &all);
            }
        }
        state.sent += total as u64;
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.0.poll_drained(cx).map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.channel.state);
        if !std::mem::replace(&mut state.ending, true)
            && let Some(peer) = state.peer.as_ref().filter(|_| state.broken.is_none())
        {
            let end = Message::End(state.sent);
            self.client.0.publish(peer, None, &end.bytes(), &[]);
        }
        drop(state);
        self.poll_flush(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = lock(&self.channel.state);
        let over = state.broken.is_some() || (state.ended && state.ending);
        if let Some(peer) = state.peer.as_ref().filter(|_| !over) {
            let reset = Message::Reset("its end was dropped".into());
            self.client.0.publish(peer, None, &reset.bytes(), &[]);
        }
        drop(state);
        self.client.0.unsubscribe(self.sid);
    }
}
