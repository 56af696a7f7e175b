//! A session without its connection: bytes in, events out, frames to be written. No clock of its own, no I/O.
//!
//! Whoever drives it reads into an [`Inbox`], takes the [`Event`]s that came of it, and writes what [`Core::take`]
//! gives. The tokio driver and the event loop of Python do so in their own ways.

mod control;
mod credit;
mod events;
mod messages;
mod parts;
mod sharing;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use self::messages::{Called, Event, Meta, Request, Times};
use self::messages::{write_call, write_times};
use self::parts::Part;
use self::sharing::Sharing;
use super::channel::Channel;
use crate::codec::{Cursor, Decode, Encode};
use crate::failure::{Code, Failure};
use crate::frame::{BIG, HEADER, Out, PREFACE, kind};
use crate::hello::{Hello, Limits};

/// Ids are counted up, so their low bits spread them well enough.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only u32 keys");
    }
    fn write_u32(&mut self, i: u32) {
        self.0 = u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type IdMap<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The acceptor waits for preface and HELLO.
    Awaiting,
    /// The acceptor has a HELLO and has not answered.
    Asked,
    /// The initiator waits for WELCOME.
    Offered,
    Open,
}

/// What one byte stream carries.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Carries {
    /// A session with its invocations.
    All,
    /// A session whose invocations have native streams of their own.
    Control,
    /// One invocation, stream 1, without credit of a connection.
    One,
}

/// One invocation, ours or the peer's.
pub(super) struct Open<U> {
    /// The caller's, until it is answered; none for the peer's calls.
    user: Option<U>,
    ours: bool,
    /// Its CALL has been written, or at least begun.
    sent: bool,
    answered: bool,
    /// Its roots may hold streams or futures, so that it goes on after the answer.
    streaming: bool,
    /// It is over once what its channels have to send is sent.
    finishing: bool,
    deadline: Option<(Instant, Duration)>,
    /// The peer says nothing more.
    pub(super) cut: Option<Failure>,
    pub(super) channels: Vec<Channel>,
}

impl<U> Open<U> {
    /// Whether somebody reads a channel that this side writes.
    fn awaits_credit(&self) -> bool {
        self.channels.iter().any(Channel::is_written)
    }
}

/// A call that waits for room.
struct Waiting {
    stream: u32,
    request: Request,
    since: Instant,
}

/// A session's state.
pub struct Core<U> {
    initiator: bool,
    phase: Phase,
    ours: Limits,
    pub(super) theirs: Limits,
    pub(super) out: Out,
    sending: VecDeque<(u32, VecDeque<Part>)>,
    waiting: VecDeque<Waiting>,
    /// A long CALL that has not begun: those after it wait, since numbers are heard of in their order.
    held: Option<u32>,
    next: u32,
    /// The highest stream that the peer has opened.
    highest: u32,
    /// The numbers of our streams, or of the peer's, have gone round; before, none that is new can be in use.
    round: bool,
    their_round: bool,
    /// Streams whose CALL has come in part.
    begun: Vec<u32>,
    pub(super) open: IdMap<Open<U>>,
    calling: u32,
    serving: u32,
    /// Bytes of CALL and DATA that we may still send.
    credit: u64,
    /// Bytes that the peer may still send, and those to be given back to it.
    allowed: u64,
    owed: u32,
    earliest: Option<Instant>,
    leaving: bool,
    /// Someone waits with a chunk until what is ready to be written has been taken.
    pub(super) crowded: bool,
    carries: Carries,
    /// A relay waits to hear that calls of ours are over.
    relayed: bool,
    sharing: Sharing,
}

impl<U> Core<U> {
    /// The side that connected; it says `hello` first.
    pub fn initiator(hello: &Hello) -> Self {
        let mut core = Self::new(true, hello.limits.clone());
        core.sharing.offer(hello);
        core.out.raw(&PREFACE);
        core.out.frame(kind::HELLO, 0, |b| hello.encode(b));
        core
    }

    /// The side that was connected to.
    pub fn acceptor(limits: Limits) -> Self {
        Self::new(false, limits)
    }

    /// One invocation on a native stream: `opener` is the side that calls. It waits for [`Self::start`].
    pub(super) fn one(opener: bool, limits: Limits) -> Self {
        let mut core = Self::new(opener, limits);
        core.carries = Carries::One;
        core
    }

    /// What the byte stream carries, where it is not everything.
    pub(super) fn carry(&mut self, what: Carries) {
        self.carries = what;
    }

    /// The invocation has its native stream, to a peer with these limits.
    pub(super) fn start(&mut self, theirs: &Limits) {
        self.phase = Phase::Open;
        self.theirs = theirs.clone();
        self.credit = u64::MAX;
        self.flush_waiting();
        self.wake_channels();
    }

    fn new(initiator: bool, limits: Limits) -> Self {
        Core {
            carries: Carries::All,
            relayed: false,
            initiator,
            phase: if initiator {
                Phase::Offered
            } else {
                Phase::Awaiting
            },
            allowed: limits.connection.into(),
            ours: limits,
            theirs: Limits::default(),
            out: Out::default(),
            sending: VecDeque::new(),
            waiting: VecDeque::new(),
            held: None,
            next: if initiator { 1 } else { 2 },
            highest: 0,
            round: false,
            their_round: false,
            begun: vec![],
            open: IdMap::default(),
            calling: 0,
            serving: 0,
            credit: 0,
            owed: 0,
            earliest: None,
            leaving: false,
            crowded: false,
            sharing: Sharing::default(),
        }
    }

    /// Answers a HELLO; calls may come from then on.
    pub fn welcome(&mut self, ours: &Hello, theirs: &Hello) {
        debug_assert!(self.phase == Phase::Asked);
        self.sharing.offer(ours);
        self.out.frame(kind::WELCOME, 0, |b| ours.encode(b));
        self.begin(theirs);
    }

    /// Answers a HELLO with a no.
    pub fn refuse(&mut self, failure: &Failure) {
        self.out.frame(kind::REFUSE, 0, |b| failure.encode(b));
    }

    fn begin(&mut self, theirs: &Hello) {
        self.phase = Phase::Open;
        self.theirs = theirs.limits.clone();
        self.credit = self.theirs.connection.into();
        self.sharing.begin(theirs);
        self.relayed = theirs.is_relayed();
        self.flush_waiting();
        self.wake_channels();
    }

    /// Those that write to channels may have room now.
    fn wake_channels(&self) {
        self.open.values().for_each(|o| channel_wakers(&o.channels));
    }

    /// Whether everything that was said is with whoever writes.
    pub(super) fn is_drained(&self) -> bool {
        self.out.is_empty() && self.sending.is_empty()
    }

    /// Bytes that wait for [`Self::take`].
    pub fn unwritten(&self) -> usize {
        self.out.len()
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Calls of either side that are not over.
    pub fn busy(&self) -> usize {
        self.open.len()
    }

    /// Calls by this side that are not answered.
    pub fn calling(&self) -> usize {
        self.calling as usize + self.waiting.len()
    }

    /// Moves what is to be written to `out`, if that is empty: whoever writes need not hold the session meanwhile.
    pub fn take(&mut self, out: &mut Out) {
        if !self.sending.is_empty() {
            self.pump();
        }
        if self.owed > self.ours.connection / 2 {
            self.give_back();
        }
        self.sharing.free(&mut self.out);
        if out.is_empty() && !self.out.is_empty() {
            std::mem::swap(&mut self.out, out);
            if std::mem::take(&mut self.crowded) {
                self.open.values().for_each(|o| channel_wakers(&o.channels));
            }
        }
    }

    // ---- calls ----

    /// Calls the peer; the answer comes with `user`. Returns the number of the invocation's stream.
    pub fn call(&mut self, now: Instant, request: Request, user: U) -> u32 {
        let stream = self.number();
        let deadline = request.meta.deadline.map(|d| (now + d, d));
        self.note_deadline(deadline);
        self.open.insert(
            stream,
            Open {
                user: Some(user),
                ours: true,
                sent: false,
                answered: false,
                streaming: request.streaming,
                finishing: false,
                deadline,
                cut: None,
                channels: vec![],
            },
        );
        if self.waiting.is_empty() && self.room(&request.root) {
            self.send_call(stream, request);
        } else {
            let since = Instant::now();
            self.waiting.push_back(Waiting {
                stream,
                request,
                since,
            });
        }
        stream
    }

    /// The number that the next [`Self::call`] gets. They go round, past those that are still in use.
    pub fn next_stream(&mut self) -> u32 {
        while self.next == 0 || (self.round && self.open.contains_key(&self.next)) {
            self.next = self.next.wrapping_add(2);
        }
        self.next
    }

    fn number(&mut self) -> u32 {
        let stream = self.next_stream();
        self.next = stream.wrapping_add(2);
        self.round |= self.next < stream;
        stream
    }

    /// As if all streams up to `next` had been opened and closed.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, next: u32, peer: &mut Self) {
        self.next = next;
        peer.highest = next.wrapping_sub(2);
    }

    /// Whether another call may go out. A long one has its parts wait for credit.
    fn room(&self, root: &Bytes) -> bool {
        self.phase == Phase::Open
            && self.held.is_none()
            && self.calling < self.theirs.calls
            && (self.is_long(root.len()) || self.credit >= (root.len() + 512) as u64)
    }

    #[inline]
    fn send_call(&mut self, stream: u32, mut request: Request) {
        self.calling += 1;
        if let Some(open) = self.open.get_mut(&stream) {
            open.sent = true;
            channel_wakers(&open.channels);
        }
        let root = std::mem::take(&mut request.root);
        if root.len() < BIG {
            let before = self.out.len();
            self.out.frame(kind::CALL, stream, |b| {
                write_call(b, &request);
                b.extend_from_slice(&root);
            });
            let sent = self.out.len() - before - HEADER;
            return self.spend(sent);
        }
        let mut head = Vec::with_capacity(64);
        write_call(&mut head, &request);
        if !self.is_long(root.len()) {
            self.spend(head.len() + root.len());
            self.out.frame_of(kind::CALL, stream, &head, root);
        } else {
            self.held = Some(stream);
            self.send_parts(stream, kind::CALL, head, root, None);
        }
    }

    fn flush_waiting(&mut self) {
        while let Some(w) = self.waiting.front() {
            if !self.open.contains_key(&w.stream) {
                self.waiting.pop_front(); // cancelled before it was sent
                continue;
            }
            if !self.room(&w.request.root) {
                return;
            }
            if let Some(mut w) = self.waiting.pop_front() {
                if let Some(d) = &mut w.request.meta.deadline {
                    *d = d.saturating_sub(w.since.elapsed());
                }
                self.send_call(w.stream, w.request);
            }
        }
    }

    /// Answers a call of the peer's. With `streaming` it goes on until [`Self::close`]. Harmless where the call is over.
    pub fn respond(
        &mut self,
        stream: u32,
        answer: Result<Bytes, Failure>,
        times: Option<&Times>,
        streaming: bool,
    ) {
        let Some(open) = self.open.get_mut(&stream).filter(|o| !o.ours && !o.answered) else {
            return;
        };
        open.answered = true;
        let root = match answer {
            Ok(root) if root.len() as u64 + 64 <= self.theirs.message => root,
            Ok(root) => {
                let (is, most) = (root.len(), self.theirs.message);
                let failure = Failure::new(Code::Overloaded, format!("the result of {is} bytes is too long"));
                self.fail(stream, &failure.with("limit", most));
                return self.end(stream);
            }
            Err(failure) => {
                self.fail(stream, &failure);
                return self.end(stream);
            }
        };
        if root.len() < BIG {
            self.out.frame(kind::RESULT, stream, |b| {
                write_times(b, times);
                b.extend_from_slice(&root);
            });
        } else {
            let mut head = Vec::with_capacity(41);
            write_times(&mut head, times);
            if !self.is_long(root.len() + head.len()) {
                self.out.frame_of(kind::RESULT, stream, &head, root);
            } else {
                self.send_parts(stream, kind::RESULT, head, root, None);
            }
        }
        if !streaming {
            self.end(stream);
        }
    }

    fn too_long(&self) -> Failure {
        Failure::new(
            Code::Overloaded,
            "a message is longer than this peer takes, or too many are on their way",
        )
        .with("limit", self.ours.message)
    }

    fn fail(&mut self, stream: u32, failure: &Failure) {
        let failure = short(failure);
        self.out.frame(kind::FAIL, stream, |b| failure.encode(b));
    }

    /// Gives a call of ours up; its answer is thrown away. Returns what was kept with it.
    pub fn cancel(&mut self, stream: u32) -> Option<U> {
        let unsent = self.take_back(stream);
        let open = self.open.get_mut(&stream).filter(|o| o.ours)?;
        if unsent {
            open.sent = false;
            self.calling -= 1;
        }
        let user = open.user.take();
        if !open.sent || open.answered {
            // nothing to wait for: the peer has not heard of it, or has answered
            if open.answered {
                self.out.frame(kind::CANCEL, stream, |_| {});
            }
            self.end(stream);
        } else if user.is_some() {
            self.out.frame(kind::CANCEL, stream, |_| {});
        }
        user
    }

    /// Forgets a long CALL of which nothing is written: the peer must not hear of its end before its beginning.
    fn take_back(&mut self, stream: u32) -> bool {
        let call = |(s, parts): &(u32, VecDeque<Part>)| {
            *s == stream && parts.front().is_some_and(|p| p.kind == kind::CALL && !p.begun)
        };
        let Some(at) = self.sending.iter().position(call) else {
            return false;
        };
        self.sending.remove(at);
        self.begun_long(stream);
        true
    }

    /// A long CALL holds those after it no longer.
    pub(super) fn begun_long(&mut self, stream: u32) {
        if self.held == Some(stream) {
            self.held = None;
            self.flush_waiting();
        }
    }

    /// An invocation is over on this side: all its channels have ended, or it is given up. What they still have to send
    /// goes out first, since it takes their credit.
    pub fn close(&mut self, stream: u32) {
        let sending = self.is_sending(stream);
        match self.open.get_mut(&stream) {
            Some(open) if sending && open.awaits_credit() => open.finishing = true,
            _ => self.end(stream),
        }
    }

    /// The same at once.
    fn end(&mut self, stream: u32) {
        let Some(open) = self.open.remove(&stream) else {
            return;
        };
        for channel in &open.channels {
            self.owe(channel.unread());
        }
        channel_wakers(&open.channels);
        if !open.sent {
            self.sending.retain(|(s, _)| *s != stream);
        }
        if !open.ours {
            self.serving -= 1;
        } else if open.sent {
            if self.relayed {
                self.out.frame(kind::DONE, stream, |_| {});
            }
            self.calling -= 1;
            if !self.waiting.is_empty() {
                self.flush_waiting();
            }
        }
    }

    /// The peer says nothing more of that call: what has come can be read, and then it is lost. Returns who waits for
    /// the answer, and whether the call had been sent.
    pub(super) fn cut(&mut self, stream: u32, why: &Failure) -> Option<(U, bool)> {
        let open = self.open.get_mut(&stream)?;
        if !open.answered {
            let user = open.user.take();
            let sent = open.sent;
            self.end(stream);
            return user.map(|user| (user, sent));
        }
        open.channels.iter_mut().for_each(|c| c.cut(why));
        open.cut = Some(why.clone());
        None
    }

    /// Whether the peer has heard of a call, or will before anything that is said of it now.
    pub(super) fn is_begun(&self, stream: u32) -> bool {
        self.held != Some(stream) && self.open.get(&stream).is_none_or(|open| open.sent)
    }

    /// Whether a call is still open here.
    pub fn is_current(&self, stream: u32) -> bool {
        self.open.contains_key(&stream)
    }

    /// Ends everything: the connection is gone. Returns the callers that wait, and whether their call had been sent.
    pub fn abandon(&mut self) -> Vec<(U, bool)> {
        self.waiting.clear();
        self.held = None;
        self.sending.clear();
        let open = std::mem::take(&mut self.open);
        self.calling = 0;
        self.serving = 0;
        open.into_values()
            .filter_map(|o| {
                channel_wakers(&o.channels);
                o.user.map(|u| (u, o.sent))
            })
            .collect()
    }
}

/// What a provider says may be long, and must fit a frame.
pub(super) fn short(failure: &Failure) -> Failure {
    let mut failure = failure.clone();
    shorten(&mut failure.message, 64 << 10);
    failure.fields.truncate(32);
    for (name, value) in &mut failure.fields {
        shorten(name, 256);
        shorten(value, 4 << 10);
    }
    failure
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
}

pub(super) fn channel_wakers(channels: &[Channel]) {
    channels.iter().for_each(Channel::wake);
}

pub(super) fn read_path(from: &mut Cursor<'_>) -> Result<Box<[u32]>, Failure> {
    let n = from.count(1, 0)?;
    if n > 32 {
        return Err(Failure::protocol("a path of more than 32 steps"));
    }
    Ok(u32::decode_items(n, from)?.into())
}

/// An empty buffer with room for what `total` claims, but no more than the bytes will pay for soon.
pub(super) fn gather(total: usize) -> BytesMut {
    BytesMut::with_capacity(total.min(4 << 20))
}
