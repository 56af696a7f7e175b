//! Streams and futures of an invocation: chunks by path, with credit.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use super::core::{Core, read_path};
use super::inbox::State;
use crate::codec::{Cursor, Encode, put_unsigned};
use crate::failure::Failure;
use crate::frame::{FRAME, kind};

/// Bytes that are ready to be written, beyond which streams wait.
const CROWD: usize = 1 << 20;

/// One direction of one path.
pub(super) struct Channel {
    path: Box<[u32]>,
    /// From the peer to us.
    inward: bool,
    /// Inward: chunks that nobody has taken, and the credit to be given back when someone does.
    queue: VecDeque<(Bytes, u32)>,
    /// Inward: how much the peer may still send; outward: how much we may.
    credit: u32,
    /// Inward: bytes taken since credit was last given.
    taken: u32,
    /// Inward: bytes of an unfinished message that were not paid back.
    partial: u32,
    /// Inward: the writer is lost; outward: the reader has gone (without a failure).
    over: Option<Option<Failure>>,
    /// Inward: the reader has gone, what comes is thrown away.
    stopped: bool,
    waker: Option<Waker>,
}

impl Channel {
    pub fn unread(&self) -> usize {
        self.queue.iter().map(|(_, due)| *due as usize).sum::<usize>() + self.partial as usize
    }

    /// From us to a peer that reads it.
    pub fn is_written(&self) -> bool {
        !self.inward && self.over.is_none()
    }

    pub fn wake(&self) {
        if let Some(w) = &self.waker {
            w.wake_by_ref();
        }
    }

    /// The peer says nothing more.
    pub fn cut(&mut self, why: &Failure) {
        if self.over.is_none() {
            self.over = Some(self.inward.then(|| why.clone()));
        }
        self.wake();
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        match &mut self.waker {
            Some(w) => w.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

pub(super) fn gone() -> Failure {
    Failure::gone("the call that this stream or future belongs to is over", false)
}

impl<U> Core<U> {
    /// The channel, made where it is new. None where the call is over.
    fn channel(&mut self, stream: u32, path: &[u32], inward: bool) -> Result<Option<&mut Channel>, Failure> {
        let credit = if inward {
            self.our_limits().window
        } else {
            self.theirs.window
        };
        let most = self.our_limits().channels as usize;
        let Some(open) = self.open.get_mut(&stream) else {
            return Ok(None);
        };
        let found = open
            .channels
            .iter()
            .position(|c| c.inward == inward && *c.path == *path);
        let at = match found {
            Some(at) => at,
            None if open.channels.len() >= most => {
                return Err(Failure::protocol(format!(
                    "more than {most} streams and futures in one call"
                )));
            }
            None => {
                let mut channel = Channel {
                    path: path.into(),
                    inward,
                    queue: VecDeque::new(),
                    credit,
                    taken: 0,
                    partial: 0,
                    over: None,
                    stopped: false,
                    waker: None,
                };
                if let Some(why) = &open.cut {
                    channel.cut(why);
                }
                open.channels.push(channel);
                open.channels.len() - 1
            }
        };
        Ok(Some(&mut open.channels[at]))
    }

    // ---- what comes in ----

    pub(super) fn data(
        &mut self,
        stream: u32,
        path: Option<Box<[u32]>>,
        mut payload: Bytes,
        charged: usize,
        state: State,
    ) -> Result<(), Failure> {
        let path = match path {
            Some(path) => path,
            None => read_path(&mut Cursor::new(&payload))?,
        };
        let Some(channel) = self.channel(stream, &path, true)? else {
            // late: the call is over
            self.owe(charged);
            return self.known_stream(stream);
        };
        channel.credit = match channel.credit.checked_sub(charged as u32) {
            Some(left) => left,
            // the rest of a message that had begun when its reader left
            None if channel.stopped => 0,
            None => return Err(Failure::protocol("a stream sent more than its credit")),
        };
        match state {
            _ if channel.stopped => {}
            State::Whole => {
                let mut from = Cursor::new(&payload);
                read_path(&mut from)?;
                let head = payload.len() - from.rest().len();
                payload.advance(head);
                let due = charged as u32 + std::mem::take(&mut channel.partial);
                channel.queue.push_back((payload, due));
                channel.wake();
                return Ok(());
            }
            State::Part => {
                channel.partial += charged as u32;
                // nobody can take it before it is whole: with nothing else to take, its writer would wait for ever
                if channel.queue.is_empty() {
                    self.pay_partial(stream, &path)?;
                }
                return Ok(());
            }
            State::TooLong => {
                channel.stopped = true;
                channel.over = Some(Some(Failure::new(
                    crate::failure::Code::Overloaded,
                    "an item of a stream is longer than this peer takes",
                )));
                channel.wake();
                self.out.frame(kind::STOP, stream, |b| path.encode(b));
            }
        }
        self.owe(charged);
        self.pay(stream, &path, charged as u32)
    }

    /// Gives credit back for an unfinished message, with all that was taken before it.
    fn pay_partial(&mut self, stream: u32, path: &[u32]) -> Result<(), Failure> {
        let Some(channel) = self.channel(stream, path, true)? else {
            return Ok(());
        };
        let partial = std::mem::take(&mut channel.partial);
        let all = partial + std::mem::take(&mut channel.taken);
        self.owe(partial as usize);
        self.pay(stream, path, all)
    }

    /// Gives credit back to a channel, at once.
    fn pay(&mut self, stream: u32, path: &[u32], n: u32) -> Result<(), Failure> {
        if let Some(channel) = self.channel(stream, path, true)? {
            channel.credit += n;
            self.out.frame(kind::CREDIT, stream, |b| {
                path.encode(b);
                put_unsigned(b, n.into());
            });
        }
        Ok(())
    }

    pub(super) fn granted(&mut self, stream: u32, path: &[u32], n: u32) -> Result<(), Failure> {
        match self.channel(stream, path, false)? {
            Some(channel) => {
                channel.credit = channel
                    .credit
                    .checked_add(n)
                    .ok_or_else(|| Failure::protocol("more credit than can be"))?;
                channel.wake();
                Ok(())
            }
            None => self.known_stream(stream),
        }
    }

    /// STOP and LOST.
    pub(super) fn channel_over(
        &mut self,
        stream: u32,
        path: Box<[u32]>,
        failure: Option<Failure>,
    ) -> Result<(), Failure> {
        let inward = failure.is_some();
        match self.channel(stream, &path, inward)? {
            Some(channel) => {
                channel.over = Some(failure);
                channel.wake();
                Ok(())
            }
            None => self.known_stream(stream),
        }
    }

    // ---- for those who read ----

    /// The next chunk of a stream, or a future's value, without waiting longer than there is one.
    ///
    /// Errors when the writer is lost, or the call is over.
    pub fn poll_read(
        &mut self,
        stream: u32,
        path: &[u32],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Failure>> {
        let window = self.our_limits().window;
        let channel = match self.channel(stream, path, true) {
            Ok(Some(channel)) => channel,
            Ok(None) => return Poll::Ready(Err(gone())),
            Err(e) => return Poll::Ready(Err(e)),
        };
        let Some((chunk, due)) = channel.queue.pop_front() else {
            if let Some(failure) = channel.over.clone() {
                return Poll::Ready(Err(failure.unwrap_or_else(gone)));
            }
            channel.wait(cx);
            return Poll::Pending;
        };
        channel.taken += due;
        let waited_for = channel.partial > 0 && channel.queue.is_empty();
        let pay = (channel.taken > window / 2).then(|| std::mem::take(&mut channel.taken));
        self.owe(due as usize);
        if waited_for {
            self.pay_partial(stream, path).ok();
        }
        if let Some(n) = pay {
            self.pay(stream, path, n).ok();
        }
        Poll::Ready(Ok(chunk))
    }

    /// The reader of a stream or future has gone.
    pub fn stop(&mut self, stream: u32, path: &[u32]) {
        if let Ok(Some(channel)) = self.channel(stream, path, true)
            && !std::mem::replace(&mut channel.stopped, true)
        {
            let unread = channel.unread();
            channel.queue.clear();
            self.owe(unread);
            self.out.frame(kind::STOP, stream, |b| path.encode(b));
        }
    }

    // ---- for those who write ----

    /// Bytes that may be written now; at least 1. `None`: the reader has gone.
    pub fn poll_write(&mut self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let all = self.credit();
        let crowded = self.out.len() > CROWD;
        let busy = crowded || self.is_sending(stream);
        let Ok(Some(channel)) = self.channel(stream, path, false) else {
            return Poll::Ready(None);
        };
        if channel.over.is_some() {
            return Poll::Ready(None);
        }
        let room = u64::from(channel.credit).min(all).min(FRAME as u64 - 256) as usize;
        if room > 256 && !busy {
            return Poll::Ready(Some(room - 192));
        }
        channel.wait(cx);
        self.crowded |= crowded;
        Poll::Pending
    }

    /// Writes a chunk of a stream, or a future's value. One that is longer than [`Self::poll_write`] allowed goes in
    /// parts.
    pub fn write(&mut self, stream: u32, path: &[u32], chunk: Bytes) {
        let mut head = Vec::with_capacity(8);
        path.encode(&mut head);
        let n = head.len() + chunk.len();
        let all = self.credit();
        let sending = self.is_sending(stream);
        let long = n > FRAME || self.is_shared(chunk.len());
        let Ok(Some(channel)) = self.channel(stream, path, false) else {
            return;
        };
        if long || n as u64 > all.min(channel.credit.into()) || sending {
            self.send_parts(stream, kind::DATA, head, chunk, Some(path.into()));
            return;
        }
        channel.credit -= n as u32;
        self.spend(n);
        self.out.frame_of(kind::DATA, stream, &head, chunk);
    }

    /// The writer gives up without an end.
    pub fn lose(&mut self, stream: u32, path: &[u32], failure: &Failure) {
        if self.is_current(stream) {
            self.out.frame(kind::LOST, stream, |b| {
                path.encode(b);
                failure.encode(b);
            });
        }
    }

    pub(super) fn channel_credit(&mut self, stream: u32, path: &[u32]) -> Option<u32> {
        let channel = self.channel(stream, path, false).ok()??;
        channel.over.is_none().then_some(channel.credit)
    }

    pub(super) fn spend_channel(&mut self, stream: u32, path: &[u32], n: u32) {
        if let Ok(Some(channel)) = self.channel(stream, path, false) {
            channel.credit = channel.credit.saturating_sub(n);
        }
    }
}
