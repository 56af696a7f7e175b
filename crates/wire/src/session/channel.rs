//! Streams and futures of an invocation: chunks by path, with credit.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use super::core::{Core, read_path, short};
use super::inbox::State;
use crate::codec::{Cursor, Encode, put_unsigned};
use crate::failure::{Code, Failure};
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
    /// It was announced in another channel: it is forgotten once its reader has said STOP and its writer LOST, so that
    /// there may be any number of them one after the other.
    nested: bool,
    /// Readers or writers on this side that are not done. What a future's value is may go on in the same channel.
    users: u32,
    /// LOST has come, or was said.
    lost: bool,
    /// Outward: its writer waits until there are fewer channels.
    crowded: bool,
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

    fn is(&self, path: &[u32], inward: bool) -> bool {
        self.inward == inward && *self.path == *path
    }

    /// Announced in the channel at that path, or in one that was.
    fn is_within(&self, path: &[u32], inward: bool) -> bool {
        self.inward == inward && is_prefix(path, &self.path)
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

fn is_prefix(short: &[u32], path: &[u32]) -> bool {
    short.len() < path.len() && path.starts_with(short)
}

pub(super) fn gone() -> Failure {
    Failure::gone("the call that this stream or future belongs to is over", false)
}

impl<U> Core<U> {
    fn found(&mut self, stream: u32, path: &[u32], inward: bool) -> Option<&mut Channel> {
        let open = self.open.get_mut(&stream)?;
        open.channels.iter_mut().find(|c| c.is(path, inward))
    }

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
        // what this side announced itself is as many as the peer takes
        let counts = |c: &Channel| c.inward == inward && (inward || c.users == 0);
        let found = open.channels.iter().position(|c| c.is(path, inward));
        let at = match found {
            Some(at) => at,
            None if open.channels.iter().filter(|c| counts(c)).count() >= most => {
                return Err(Failure::protocol(format!(
                    "more than {most} streams and futures in one call at once"
                )));
            }
            None => {
                let around = |c: &Channel| c.inward == inward && is_prefix(&c.path, path);
                let mut channel = Channel {
                    path: path.into(),
                    inward,
                    queue: VecDeque::new(),
                    credit,
                    taken: 0,
                    partial: 0,
                    over: None,
                    stopped: false,
                    nested: open.channels.iter().any(around),
                    users: 0,
                    lost: false,
                    crowded: false,
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
        self.refuse_unread(stream, &path)?;
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
                    Code::Overloaded,
                    "an item of a stream is longer than this peer takes",
                )));
                channel.wake();
                self.out.frame(kind::STOP, stream, |b| path.encode(b));
            }
        }
        // a channel that was stopped gets no credit any more: its writer may have forgotten it
        self.owe(charged);
        Ok(())
    }

    /// Stops a channel that is new here and was announced in one that was stopped: nobody will come to read it.
    fn refuse_unread(&mut self, stream: u32, path: &[u32]) -> Result<(), Failure> {
        let Some(open) = self.open.get(&stream) else {
            return Ok(());
        };
        let mut unread = false;
        for c in &open.channels {
            if c.is(path, true) {
                return Ok(());
            }
            unread |= c.inward && c.stopped && is_prefix(&c.path, path);
        }
        if unread {
            self.channel(stream, path, true)?;
            self.stop(stream, path);
        }
        Ok(())
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

    pub(super) fn reader_gone(&mut self, stream: u32, path: &[u32]) -> Result<(), Failure> {
        match self.channel(stream, path, false)? {
            Some(channel) => {
                channel.over = Some(None);
                channel.wake();
                self.settle(stream, path);
                Ok(())
            }
            None => self.known_stream(stream),
        }
    }

    pub(super) fn writer_lost(&mut self, stream: u32, path: &[u32], failure: Failure) -> Result<(), Failure> {
        self.refuse_unread(stream, path)?;
        match self.channel(stream, path, true)? {
            Some(channel) => {
                channel.lost = true;
                // why it was stopped here is what its reader is to learn
                if !channel.stopped {
                    channel.over = Some(Some(failure));
                }
                channel.wake();
                self.forget_read(stream, path);
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

    /// Somebody will read that stream or future, and says so by [`Self::taken`] or [`Self::stop`] when that is over.
    pub fn expect(&mut self, stream: u32, path: &[u32]) {
        // where there are too many, whoever reads is told
        if let Ok(Some(channel)) = self.channel(stream, path, true) {
            channel.users += 1;
        }
    }

    /// The reader of a stream or future has read it to its end, or learnt that there is none.
    pub fn taken(&mut self, stream: u32, path: &[u32]) {
        let Some(channel) = self.found(stream, path, true) else {
            return;
        };
        channel.users = channel.users.saturating_sub(1);
        if channel.users > 0 || !channel.nested {
            return;
        }
        match channel.stopped {
            true => self.forget_read(stream, path),
            false => self.stop(stream, path),
        }
    }

    /// The reader of a stream or future has gone.
    pub fn stop(&mut self, stream: u32, path: &[u32]) {
        let Ok(Some(channel)) = self.channel(stream, path, true) else {
            return;
        };
        channel.users = 0;
        if !std::mem::replace(&mut channel.stopped, true) {
            let unread = channel.unread();
            channel.queue.clear();
            channel.partial = 0;
            self.owe(unread);
            self.out.frame(kind::STOP, stream, |b| path.encode(b));
            // what it announced and nobody has come for
            while let Some(unread) = self.unread_within(stream, path) {
                self.stop(stream, &unread);
            }
        }
        self.forget_read(stream, path);
    }

    fn unread_within(&self, stream: u32, path: &[u32]) -> Option<Box<[u32]>> {
        let channels = &self.open.get(&stream)?.channels;
        let unread = |c: &&Channel| c.is_within(path, true) && c.users == 0 && !c.stopped;
        channels.iter().find(unread).map(|c| c.path.clone())
    }

    /// Forgets a channel that both sides are done with.
    fn forget_read(&mut self, stream: u32, path: &[u32]) {
        if let Some(open) = self.open.get_mut(&stream) {
            let over = |c: &Channel| c.is(path, true) && c.nested && c.stopped && c.lost && c.users == 0;
            open.channels.retain(|c| !over(c));
        }
    }

    // ---- for those who write ----

    /// Waits until streams and futures may be announced in what is written to the one at `within`, or in a root where
    /// that is empty. False where nobody reads that any more. Each is over at [`Self::done`].
    ///
    /// Errors where the peer never takes so many at once.
    pub fn poll_open(
        &mut self,
        stream: u32,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        let most = self.theirs.channels as usize;
        if !within.is_empty() {
            // it may not have been written to yet
            match self.channel(stream, within, false) {
                Ok(Some(channel)) if channel.over.is_none() => {}
                _ => return Poll::Ready(Ok(false)),
            }
        }
        let Some(open) = self.open.get_mut(&stream) else {
            return Poll::Ready(Ok(false));
        };
        let ours = || open.channels.iter().filter(|c| !c.inward);
        let new = paths.iter().filter(|p| !ours().any(|c| c.path == **p)).count();
        if ours().count() + new > most && !paths.is_empty() {
            // what a root announces stays to the end of the call
            if within.is_empty() || ours().filter(|c| !c.nested).count() + new > most {
                let message = format!("more than {most} streams and futures in one call at once");
                return Poll::Ready(Err(Failure::new(Code::Overloaded, message).with("limit", most)));
            }
            let Some(channel) = open.channels.iter_mut().find(|c| c.is(within, false)) else {
                return Poll::Ready(Ok(false));
            };
            channel.crowded = true;
            channel.wait(cx);
            return Poll::Pending;
        }
        for path in paths {
            if let Ok(Some(channel)) = self.channel(stream, path, false) {
                channel.users += 1;
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Nothing more is written to a stream or future, whether it has ended or not.
    pub fn done(&mut self, stream: u32, path: &[u32]) {
        if let Some(channel) = self.found(stream, path, false) {
            channel.users = channel.users.saturating_sub(1);
            self.settle(stream, path);
        }
    }

    /// Forgets a channel that both sides are done with, after the last of what was announced in it.
    pub(super) fn settle(&mut self, stream: u32, path: &[u32]) {
        if self.is_queued(stream, path) {
            return;
        }
        let Some(open) = self.open.get_mut(&stream) else {
            return;
        };
        let over = |c: &Channel| c.is(path, false) && c.nested && c.users == 0 && c.over.is_some();
        let Some(at) = open.channels.iter().position(over) else {
            return;
        };
        if open.channels.iter().any(|c| c.is_within(path, false)) {
            return;
        }
        let forgotten = open.channels.swap_remove(at);
        for channel in &mut open.channels {
            if std::mem::take(&mut channel.crowded) {
                channel.wake();
            }
        }
        if !forgotten.lost {
            let failure = Failure::new(Code::Cancelled, "its reader has gone");
            self.say_lost(stream, path, &failure);
        }
        for n in (1..path.len()).rev() {
            self.settle(stream, &path[..n]);
        }
    }

    /// Bytes that may be written now; at least 1. `None`: the reader has gone.
    pub fn poll_write(&mut self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let all = self.credit();
        let crowded = self.out.len() > CROWD;
        // nothing is said of a call before the call itself
        let busy = crowded || !self.is_begun(stream) || self.is_sending(stream);
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

    /// Waits until nobody reads any more, for whoever has nothing to write yet.
    pub fn poll_unread(&mut self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        match self.channel(stream, path, false) {
            Ok(Some(channel)) if channel.over.is_none() => {
                channel.wait(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
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
        if !self.is_current(stream) {
            return;
        }
        if let Some(channel) = self.found(stream, path, false)
            && std::mem::replace(&mut channel.lost, true)
        {
            return;
        }
        self.say_lost(stream, path, failure);
    }

    /// Says LOST, after what is still to be written to the channel.
    fn say_lost(&mut self, stream: u32, path: &[u32], failure: &Failure) {
        let failure = short(failure);
        if !self.is_begun(stream) || self.is_queued(stream, path) {
            let mut head = vec![];
            path.encode(&mut head);
            failure.encode(&mut head);
            return self.send_parts(stream, kind::LOST, head, Bytes::new(), Some(path.into()));
        }
        self.out.frame(kind::LOST, stream, |b| {
            path.encode(b);
            failure.encode(b);
        });
    }

    #[cfg(test)]
    pub(super) fn channels(&self, stream: u32) -> usize {
        self.open.get(&stream).map_or(0, |open| open.channels.len())
    }

    pub(super) fn channel_credit(&mut self, stream: u32, path: &[u32]) -> Option<u32> {
        let channel = self.found(stream, path, false)?;
        channel.over.is_none().then_some(channel.credit)
    }

    pub(super) fn spend_channel(&mut self, stream: u32, path: &[u32], n: u32) {
        if let Some(channel) = self.found(stream, path, false) {
            channel.credit = channel.credit.saturating_sub(n);
        }
    }
}
