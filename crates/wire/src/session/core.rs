//! A session without its connection: bytes in, events out, frames to be written. No clock of its own, no I/O.
//!
//! Whoever drives it reads into an [`Inbox`], takes the [`Event`]s that came of it, and writes what [`Core::take`]
//! gives. The tokio driver and the event loop of Python do so in their own ways.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::channel::Channel;
use super::inbox::{Arrived, Inbox, State};
use crate::codec::{Cursor, Decode, Encode, put_unsigned};
use crate::failure::{Code, Failure};
use crate::frame::{BIG, FRAME, HEADER, Out, PREFACE, kind};
use crate::hello::{Hello, Limits, Link};

/// Bytes of frames that are made ready before they are asked for, where messages are written in parts.
const AHEAD: usize = 512 << 10;
/// Calls of one deadline scan apart, at least.
const TICK: Duration = Duration::from_millis(1);

/// What the caller says with a call beside its arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Time left.
    pub deadline: Option<Duration>,
    /// W3C trace context: trace id, span id, flags.
    pub trace: Option<[u8; 25]>,
    pub identity: Option<std::sync::Arc<str>>,
    /// Idempotency key; empty: none.
    pub key: Vec<u8>,
    /// The caller wants the provider's times.
    pub timed: bool,
}

/// A call to make.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Through all interfaces that the peer exports, in their order.
    pub function: u32,
    pub link: u32,
    pub meta: Meta,
    /// The parameters, one after another.
    pub root: Bytes,
    /// Parameters or result hold streams or futures; such a call is over at [`Core::close`].
    pub streaming: bool,
}

/// How long a provider took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub queue: u64,
    pub decode: u64,
    pub provider: u64,
    pub encode: u64,
}

/// A call of the peer's.
#[derive(Debug)]
pub struct Called {
    pub stream: u32,
    /// Through all exported interfaces, in their order.
    pub function: u32,
    pub link: u32,
    pub meta: Meta,
    /// The parameters, one after another.
    pub root: Bytes,
    /// When its last byte was read.
    pub at: Instant,
}

/// What came of bytes that were read, or of time that passed.
#[derive(Debug)]
pub enum Event<U> {
    /// The other side begins; answer with [`Core::welcome`] or [`Core::refuse`].
    Hello(Hello),
    Welcome(Hello),
    Called(Called),
    Answered {
        user: U,
        stream: u32,
        times: Option<Times>,
        root: Bytes,
    },
    Failed {
        user: U,
        failure: Failure,
    },
    /// The caller has lost interest, or time is up: stop what can be stopped.
    Cancelled {
        stream: u32,
    },
    Link(Link),
    Linked(u32, Option<Failure>),
    Unlink(u32),
    /// The peer let go of a handle: link, number of the resource, handle.
    Dropped(u32, u32, Bytes),
    Reload(u32),
    Reloaded(u32, Option<Failure>),
    GoingAway(Failure),
}

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
    deadline: Option<(Instant, Duration)>,
    /// The peer says nothing more.
    pub(super) cut: Option<Failure>,
    pub(super) channels: Vec<Channel>,
}

/// A call that waits for room.
struct Waiting {
    stream: u32,
    request: Request,
    since: Instant,
}

/// A message that is written in parts.
struct Part {
    kind: u8,
    /// What comes before `body` and is not written yet.
    head: Vec<u8>,
    body: Bytes,
    begun: bool,
    /// Of DATA: whose credit it uses.
    path: Option<Box<[u32]>>,
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
    next: u32,
    /// The highest stream that the peer has opened.
    highest: u32,
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
    carries: Carries,
}

impl<U> Core<U> {
    /// The side that connected; it says `hello` first.
    pub fn initiator(hello: &Hello) -> Self {
        let mut core = Self::new(true, hello.limits.clone());
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
            next: if initiator { 1 } else { 2 },
            highest: 0,
            begun: vec![],
            open: IdMap::default(),
            calling: 0,
            serving: 0,
            credit: 0,
            owed: 0,
            earliest: None,
            leaving: false,
        }
    }

    /// Answers a HELLO; calls may come from then on.
    pub fn welcome(&mut self, ours: &Hello, theirs: &Hello) {
        debug_assert!(self.phase == Phase::Asked);
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
        if out.is_empty() && !self.out.is_empty() {
            std::mem::swap(&mut self.out, out);
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

    /// The number of the next stream. They go round, past those that are still in use.
    fn number(&mut self) -> u32 {
        loop {
            let stream = self.next;
            self.next = stream.wrapping_add(2);
            if stream != 0 && !self.open.contains_key(&stream) {
                return stream;
            }
        }
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
            && self.calling < self.theirs.calls
            && (root.len() > FRAME / 2 || self.credit >= (root.len() + 512) as u64)
    }

    #[inline]
    fn send_call(&mut self, stream: u32, mut request: Request) {
        self.calling += 1;
        if let Some(open) = self.open.get_mut(&stream) {
            open.sent = true;
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
        if root.len() <= FRAME / 2 {
            self.spend(head.len() + root.len());
            self.out.frame_of(kind::CALL, stream, &head, root);
        } else {
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
                return self.close(stream);
            }
            Err(failure) => {
                self.fail(stream, &failure);
                return self.close(stream);
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
            if root.len() + head.len() <= FRAME / 2 {
                self.out.frame_of(kind::RESULT, stream, &head, root);
            } else {
                self.send_parts(stream, kind::RESULT, head, root, None);
            }
        }
        if !streaming {
            self.close(stream);
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
        // what a provider says may be long, and must fit a frame
        let mut failure = failure.clone();
        shorten(&mut failure.message, 64 << 10);
        failure.fields.truncate(32);
        for (name, value) in &mut failure.fields {
            shorten(name, 256);
            shorten(value, 4 << 10);
        }
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
            self.close(stream);
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
        match self.sending.iter().position(call) {
            Some(at) => self.sending.remove(at).is_some(),
            None => false,
        }
    }

    /// An invocation is over on this side: all its channels have ended, or it is given up.
    pub fn close(&mut self, stream: u32) {
        let Some(open) = self.open.remove(&stream) else {
            return;
        };
        for channel in &open.channels {
            self.owe(channel.unread());
        }
        channel_wakers(&open.channels);
        if !open.ours {
            self.serving -= 1;
        } else if open.sent {
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
            self.close(stream);
            return user.map(|user| (user, sent));
        }
        open.channels.iter_mut().for_each(|c| c.cut(why));
        open.cut = Some(why.clone());
        None
    }

    /// Whether a call is still open here.
    pub fn is_current(&self, stream: u32) -> bool {
        self.open.contains_key(&stream)
    }

    /// Ends everything: the connection is gone. Returns the callers that wait, and whether their call had been sent.
    pub fn abandon(&mut self) -> Vec<(U, bool)> {
        self.waiting.clear();
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

    // ---- time ----

    fn note_deadline(&mut self, deadline: Option<(Instant, Duration)>) {
        if let Some((at, _)) = deadline
            && self.earliest.is_none_or(|e| at < e)
        {
            self.earliest = Some(at);
        }
    }

    /// When [`Self::expire`] is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the calls whose time is up.
    pub fn expire(&mut self, now: Instant) -> Vec<Event<U>> {
        if self.earliest.is_none_or(|e| now < e) {
            return vec![];
        }
        let late = |o: &Open<U>| !o.answered && o.deadline.is_some_and(|(at, _)| at <= now);
        let over: Vec<_> = self
            .open
            .iter()
            .filter(|(_, o)| late(o))
            .map(|(s, _)| *s)
            .collect();
        let mut events = vec![];
        for stream in over {
            let Some(open) = self.open.get_mut(&stream) else {
                continue;
            };
            let seconds = open.deadline.take().map_or(0.0, |(_, d)| d.as_secs_f64());
            let failure = Failure::new(
                Code::DeadlineExceeded,
                format!("the call ran past its deadline of {seconds} s"),
            )
            .with("seconds", seconds);
            if open.ours {
                if let Some(user) = self.cancel(stream) {
                    events.push(Event::Failed { user, failure });
                }
            } else {
                self.respond(stream, Err(failure), None, false);
                events.push(Event::Cancelled { stream });
            }
        }
        let next = self
            .open
            .values()
            .filter(|o| !o.answered)
            .filter_map(|o| o.deadline);
        self.earliest = next.map(|(at, _)| at.max(now + TICK)).min();
        events
    }

    // ---- what has no stream ----

    pub fn ping(&mut self, payload: [u8; 8]) {
        self.out.frame(kind::PING, 0, |b| b.extend_from_slice(&payload));
    }

    /// No new calls from here on; those on their way may end.
    pub fn go_away(&mut self, reason: &Failure) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.out.frame(kind::GOAWAY, 0, |b| reason.encode(b));
        }
    }

    pub fn link(&mut self, link: &Link) -> Result<(), Failure> {
        let size = link.name.len() + link.grant.len() + link.config.len();
        if size + 64 > FRAME {
            return Err(
                Failure::new(Code::BadValue, "grant and config of a link are too long").with("limit", FRAME),
            );
        }
        self.out.frame(kind::LINK, 0, |b| link.encode(b));
        Ok(())
    }

    pub fn linked(&mut self, number: u32, failure: Option<Failure>) {
        self.out.frame(kind::LINKED, 0, |b| (number, failure).encode(b));
    }

    pub fn unlink(&mut self, number: u32) {
        self.out.frame(kind::UNLINK, 0, |b| number.encode(b));
    }

    /// Lets go of a handle that the peer made.
    pub fn drop_handle(&mut self, link: u32, resource: u32, handle: &[u8]) {
        self.out
            .frame(kind::DROP, 0, |b| (link, resource, handle).encode(b));
    }

    pub fn reload(&mut self, number: u32) {
        self.out.frame(kind::RELOAD, 0, |b| number.encode(b));
    }

    pub fn reloaded(&mut self, number: u32, failure: Option<Failure>) {
        self.out.frame(kind::RELOADED, 0, |b| (number, failure).encode(b));
    }

    // ---- credit ----

    /// Bytes that were taken, to be allowed again.
    pub(super) fn owe(&mut self, n: usize) {
        if self.carries != Carries::One {
            self.owed += n as u32;
        }
    }

    fn give_back(&mut self) {
        let n = std::mem::take(&mut self.owed);
        self.allowed += u64::from(n);
        self.out.frame(kind::CREDIT, 0, |b| {
            b.push(0);
            put_unsigned(b, n.into());
        });
    }

    /// Counts bytes that the peer sent against what it may.
    fn charge(&mut self, n: usize) -> Result<(), Failure> {
        if self.carries == Carries::One {
            return Ok(());
        }
        match self.allowed.checked_sub(n as u64) {
            Some(left) => {
                self.allowed = left;
                Ok(())
            }
            None => Err(Failure::protocol("the peer sent more than its credit")),
        }
    }

    // ---- long messages ----

    pub(super) fn send_parts(
        &mut self,
        stream: u32,
        kind: u8,
        head: Vec<u8>,
        body: Bytes,
        path: Option<Box<[u32]>>,
    ) {
        let part = Part {
            kind,
            head,
            body,
            begun: false,
            path,
        };
        match self.sending.iter_mut().find(|(s, _)| *s == stream) {
            Some((_, parts)) => parts.push_back(part),
            None => self.sending.push_back((stream, VecDeque::from([part]))),
        }
    }

    /// Whether a message of that channel, or anything before it, is not written yet.
    pub(super) fn is_sending(&self, stream: u32) -> bool {
        self.sending.iter().any(|(s, _)| *s == stream)
    }

    /// Moves parts of long messages to the output, one of each stream in turn.
    fn pump(&mut self) {
        let mut stuck = 0;
        while self.out.len() < AHEAD && stuck < self.sending.len() {
            let Some((stream, mut parts)) = self.sending.pop_front() else {
                return;
            };
            let moved = match parts.front_mut() {
                // given up meanwhile: what has begun must be ended all the same, or the peer waits for the rest
                Some(part) => self.send_part(stream, part),
                None => continue,
            };
            if parts.front().is_some_and(|p| p.body.is_empty() && p.begun) {
                parts.pop_front();
                if let Some(open) = self.open.get_mut(&stream) {
                    channel_wakers(&open.channels);
                }
            }
            stuck = if moved { 0 } else { stuck + 1 };
            if !parts.is_empty() {
                self.sending.push_back((stream, parts));
            }
        }
    }

    fn send_part(&mut self, stream: u32, part: &mut Part) -> bool {
        let most = match part.kind {
            kind::RESULT => FRAME as u64,
            _ => self.credit.min(FRAME as u64),
        };
        let most = match &part.path {
            Some(path) => most.min(self.channel_credit(stream, path).unwrap_or(FRAME as u32).into()),
            None => most,
        };
        let total = part.head.len() + part.body.len();
        let whole = !part.begun && total as u64 <= most;
        let mut head = vec![];
        if !part.begun && !whole {
            put_unsigned(&mut head, total as u64);
        }
        if most <= (head.len() + part.head.len()) as u64 && !whole {
            return false; // not enough credit yet
        }
        head.append(&mut part.head);
        let body = part
            .body
            .split_to(part.body.len().min(most as usize - head.len()));
        let n = head.len() + body.len();
        part.begun = true;
        let more = if part.body.is_empty() { 0 } else { kind::MORE };
        self.out.frame_of(part.kind | more, stream, &head, body);
        if part.kind != kind::RESULT {
            self.credit = self.credit.saturating_sub(n as u64);
        }
        if let Some(path) = &part.path {
            self.spend_channel(stream, path, n as u32);
        }
        true
    }

    pub(super) fn spend(&mut self, n: usize) {
        self.credit = self.credit.saturating_sub(n as u64);
    }

    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    pub(super) fn our_limits(&self) -> &Limits {
        &self.ours
    }

    // ---- events ----

    /// The next event of the bytes that were read.
    ///
    /// Errors when the peer broke the rules or refused the session: the connection is to be closed then, after what is
    /// left to be written, which says why.
    pub fn event(&mut self, inbox: &mut Inbox) -> Result<Option<Event<U>>, Failure> {
        loop {
            let Some(arrived) = inbox.frame().map_err(broken)? else {
                return Ok(None);
            };
            if let Some(event) = self.arrived(arrived).map_err(broken)? {
                return Ok(Some(event));
            }
        }
    }

    fn arrived(&mut self, arrived: Arrived) -> Result<Option<Event<U>>, Failure> {
        let Arrived {
            kind: k,
            stream,
            mut payload,
            charged,
            state,
            path,
        } = arrived;
        if self.carries == Carries::One && (stream != 1 || !(kind::CALL..kind::PING).contains(&k)) {
            return Err(Failure::protocol(format!(
                "frame {k:#04x} of stream {stream} on the stream of one invocation"
            )));
        }
        if self.phase != Phase::Open {
            return self.handshake(k, stream, payload).map(Some);
        }
        match k {
            kind::CALL => {
                self.charge(charged)?;
                // a long message's bytes were paid back as they came in, which this stands for
                self.owe(charged);
                match state {
                    State::Whole => self.called(stream, payload),
                    State::Part if !after(stream, self.highest) => Ok(None),
                    State::Part => self.begins(stream).map(|()| None),
                    State::TooLong => {
                        self.check_new(stream)?;
                        self.highest = stream;
                        self.fail(stream, &self.too_long());
                        Ok(None)
                    }
                }
            }
            kind::RESULT if state == State::Part => Ok(None),
            kind::RESULT if state == State::TooLong => Ok(self.cancel(stream).map(|user| Event::Failed {
                user,
                failure: self.too_long(),
            })),
            kind::RESULT => {
                let Some(open) = self.open.get_mut(&stream).filter(|o| o.ours && !o.answered) else {
                    return self.known_stream(stream).map(|()| None);
                };
                let times = read_times(&mut payload)?;
                open.answered = true;
                let streaming = open.streaming;
                let user = open.user.take();
                if !streaming || user.is_none() {
                    self.close(stream);
                }
                Ok(user.map(|user| Event::Answered {
                    user,
                    stream,
                    times,
                    root: payload,
                }))
            }
            kind::FAIL => {
                let failure: Failure = record(&payload)?;
                let Some(open) = self.open.get_mut(&stream).filter(|o| o.ours) else {
                    return self.known_stream(stream).map(|()| None);
                };
                let user = open.user.take();
                self.close(stream);
                Ok(user.map(|user| Event::Failed { user, failure }))
            }
            kind::CANCEL => match self.open.get(&stream) {
                Some(open) if !open.ours => {
                    if open.answered {
                        self.close(stream);
                    }
                    Ok(Some(Event::Cancelled { stream }))
                }
                _ => self.known_stream(stream).map(|()| None),
            },
            kind::DATA => {
                self.charge(charged)?;
                self.data(stream, path, payload, charged, state)?;
                Ok(None)
            }
            kind::CREDIT => {
                let mut from = Cursor::new(&payload);
                let path = read_path(&mut from)?;
                let n: u32 = Decode::decode(&mut from)?;
                from.end()?;
                if stream == 0 {
                    self.credit = self.credit.saturating_add(n.into());
                    self.flush_waiting();
                    self.wake_channels();
                } else {
                    self.granted(stream, &path, n)?;
                }
                Ok(None)
            }
            kind::STOP | kind::LOST => {
                let mut from = Cursor::new(&payload);
                let path = read_path(&mut from)?;
                let failure = match k {
                    kind::LOST => Some(Failure::decode(&mut from)?),
                    _ => None,
                };
                from.end()?;
                self.channel_over(stream, path, failure)?;
                Ok(None)
            }
            kind::PING => {
                if payload.len() != 8 {
                    return Err(Failure::protocol("a ping is not of 8 bytes"));
                }
                self.out.frame(kind::PONG, 0, |b| b.extend_from_slice(&payload));
                Ok(None)
            }
            kind::GOAWAY => Ok(Some(Event::GoingAway(record(&payload)?))),
            kind::RELOAD => Ok(Some(Event::Reload(record(&payload)?))),
            kind::RELOADED => {
                let (number, failure) = record(&payload)?;
                Ok(Some(Event::Reloaded(number, failure)))
            }
            kind::LINK => Ok(Some(Event::Link(record(&payload)?))),
            kind::LINKED => {
                let (number, failure) = record(&payload)?;
                Ok(Some(Event::Linked(number, failure)))
            }
            kind::UNLINK => Ok(Some(Event::Unlink(record(&payload)?))),
            kind::DROP => {
                let mut from = Cursor::new(&payload);
                let (link, resource) = Decode::decode(&mut from)?;
                let handle = from.bytes()?;
                from.end()?;
                Ok(Some(Event::Dropped(link, resource, payload.slice_ref(handle))))
            }
            kind::HELLO | kind::WELCOME | kind::REFUSE => {
                Err(Failure::protocol("a handshake within a session"))
            }
            _ if k >= kind::MORE => Err(Failure::protocol(format!("unknown kind of frame {k:#04x}"))),
            _ => Ok(None),
        }
    }

    fn handshake(&mut self, k: u8, stream: u32, payload: Bytes) -> Result<Event<U>, Failure> {
        match (self.phase, k, stream) {
            (Phase::Awaiting, kind::HELLO, 0) => {
                let hello = record(&payload)?;
                self.phase = Phase::Asked;
                Ok(Event::Hello(hello))
            }
            (Phase::Offered, kind::WELCOME, 0) => {
                let hello = record(&payload)?;
                self.begin(&hello);
                Ok(Event::Welcome(hello))
            }
            (Phase::Offered, kind::REFUSE, 0) => Err(record(&payload)?),
            _ => Err(Failure::protocol(format!(
                "frame {k:#04x} before the handshake is over"
            ))),
        }
    }

    /// Errors unless the peer may open `stream` now.
    fn check_new(&self, stream: u32) -> Result<(), Failure> {
        let parity = if self.initiator { 0 } else { 1 };
        let fits = match self.carries {
            Carries::All => after(stream, self.highest),
            Carries::Control => false,
            Carries::One => stream == 1 && self.highest == 0,
        };
        if !fits || stream % 2 != parity || stream == 0 || self.open.contains_key(&stream) {
            return Err(Failure::protocol(format!("stream {stream} cannot be opened")));
        }
        Ok(())
    }

    /// The first part of a long CALL: others may begin and be complete before it is.
    fn begins(&mut self, stream: u32) -> Result<(), Failure> {
        self.check_new(stream)?;
        self.highest = stream;
        if self.begun.len() >= self.ours.calls as usize {
            return Err(Failure::protocol("more unfinished calls than calls at once"));
        }
        self.begun.push(stream);
        Ok(())
    }

    /// Errors unless the stream is one that has been: late frames of a call that is over are no offence.
    pub(super) fn known_stream(&self, stream: u32) -> Result<(), Failure> {
        let ours = stream % 2 == u32::from(self.initiator);
        let been = if ours {
            after(self.next, stream)
        } else {
            !after(stream, self.highest)
        };
        if stream != 0 && been {
            Ok(())
        } else {
            Err(Failure::protocol(format!("stream {stream} was never opened")))
        }
    }

    fn called(&mut self, stream: u32, mut payload: Bytes) -> Result<Option<Event<U>>, Failure> {
        match self.begun.iter().position(|s| *s == stream) {
            Some(at) => drop(self.begun.swap_remove(at)),
            None => {
                self.check_new(stream)?;
                self.highest = stream;
            }
        }
        let mut from = Cursor::new(&payload);
        let function = from.unsigned(32)? as u32;
        let link = from.unsigned(32)? as u32;
        let meta = read_meta(&mut from)?;
        let head = payload.len() - from.rest().len();
        payload.advance(head);
        if self.serving >= self.ours.calls || self.leaving {
            let failure = match self.leaving {
                true => Failure::gone("the provider is leaving", true),
                false => Failure::new(Code::Overloaded, "more calls at once than this peer takes")
                    .with("limit", self.ours.calls),
            };
            self.fail(stream, &failure);
            return Ok(None);
        }
        let at = Instant::now();
        let deadline = meta.deadline.map(|d| (at + d, d));
        self.note_deadline(deadline);
        self.serving += 1;
        self.open.insert(
            stream,
            Open {
                user: None,
                ours: false,
                sent: true,
                answered: false,
                streaming: false,
                deadline,
                cut: None,
                channels: vec![],
            },
        );
        Ok(Some(Event::Called(Called {
            stream,
            function,
            link,
            meta,
            root: payload,
            at,
        })))
    }
}

/// A frame that cannot be read breaks the rules; values are for others to judge.
fn broken(failure: Failure) -> Failure {
    match failure.code {
        Code::BadValue if failure.field("cause").is_some() => Failure {
            code: Code::Protocol,
            ..failure
        },
        _ => failure,
    }
}

/// Whether a stream's number comes after another's, on a circle that is gone round for ever.
fn after(stream: u32, other: u32) -> bool {
    (stream.wrapping_sub(other) as i32) > 0
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

/// A whole payload as one value.
fn record<T: Decode>(payload: &Bytes) -> Result<T, Failure> {
    crate::codec::decode(payload).map_err(|e| Failure::protocol(format!("a frame cannot be read: {e}")))
}

pub(super) fn read_path(from: &mut Cursor<'_>) -> Result<Box<[u32]>, Failure> {
    let n = from.count(1, 0)?;
    if n > 32 {
        return Err(Failure::protocol("a path of more than 32 steps"));
    }
    Ok(u32::decode_items(n, from)?.into())
}

mod flag {
    pub const DEADLINE: u8 = 1;
    pub const TRACE: u8 = 2;
    pub const IDENTITY: u8 = 4;
    pub const KEY: u8 = 8;
    pub const TIMED: u8 = 16;
    pub const ALL: u8 = 31;
}

fn write_call(b: &mut Vec<u8>, request: &Request) {
    put_unsigned(b, request.function.into());
    put_unsigned(b, request.link.into());
    let meta = &request.meta;
    let set = |on: bool, f: u8| if on { f } else { 0 };
    b.push(
        set(meta.deadline.is_some(), flag::DEADLINE)
            | set(meta.trace.is_some(), flag::TRACE)
            | set(meta.identity.is_some(), flag::IDENTITY)
            | set(!meta.key.is_empty(), flag::KEY)
            | set(meta.timed, flag::TIMED),
    );
    if let Some(d) = meta.deadline {
        put_unsigned(b, d.as_micros().min(u64::MAX.into()) as u64);
    }
    if let Some(trace) = &meta.trace {
        b.extend_from_slice(trace);
    }
    if let Some(identity) = &meta.identity {
        (**identity).encode(b);
    }
    if !meta.key.is_empty() {
        meta.key.encode(b);
    }
}

fn read_meta(from: &mut Cursor<'_>) -> Result<Meta, Failure> {
    let flags = from.byte()?;
    if flags == 0 {
        return Ok(Meta::default());
    }
    if flags & !flag::ALL != 0 {
        return Err(Failure::protocol(format!("unknown flags {flags:#04x} of a call")));
    }
    let mut meta = Meta {
        timed: flags & flag::TIMED != 0,
        ..Meta::default()
    };
    if flags & flag::DEADLINE != 0 {
        // no clock reaches further than this
        let most = u64::from(u32::MAX) * 1_000_000;
        meta.deadline = Some(Duration::from_micros(from.unsigned(64)?.min(most)));
    }
    if flags & flag::TRACE != 0 {
        meta.trace = Some(from.array()?);
    }
    if flags & flag::IDENTITY != 0 {
        let identity = from.string()?;
        if identity.len() > 256 {
            return Err(Failure::protocol("an identity of more than 256 bytes"));
        }
        meta.identity = Some(identity.into());
    }
    if flags & flag::KEY != 0 {
        let key = from.bytes()?;
        if key.len() > 64 {
            return Err(Failure::protocol("an idempotency key of more than 64 bytes"));
        }
        meta.key = key.to_vec();
    }
    Ok(meta)
}

fn write_times(b: &mut Vec<u8>, times: Option<&Times>) {
    match times {
        None => b.push(0),
        Some(t) => {
            b.push(1);
            (t.queue, t.decode, t.provider, t.encode).encode(b);
        }
    }
}

fn read_times(payload: &mut Bytes) -> Result<Option<Times>, Failure> {
    let mut from = Cursor::new(payload);
    let times = match from.byte()? {
        0 => None,
        1 => {
            let (queue, decode, provider, encode) = Decode::decode(&mut from)?;
            Some(Times {
                queue,
                decode,
                provider,
                encode,
            })
        }
        flags => {
            return Err(Failure::protocol(format!(
                "unknown flags {flags:#04x} of a result"
            )));
        }
    };
    let head = payload.len() - from.rest().len();
    payload.advance(head);
    Ok(times)
}

/// An empty buffer with room for what `total` claims, but no more than the bytes will pay for soon.
pub(super) fn gather(total: usize) -> BytesMut {
    BytesMut::with_capacity(total.min(4 << 20))
}
