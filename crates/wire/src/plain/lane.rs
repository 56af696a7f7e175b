//! What users of an invocation in plain mode reach of it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;
use tokio::task::AbortHandle;

use super::frames::{Frame, put_frame, put_header};
use super::{Extent, Part, Roots};
use crate::failure::{Code, Failure};
use crate::frame::Out;
use crate::hello::Limits;
use crate::session::driver::{Slot, lock};
use crate::session::lane::{Lane, fail};
use crate::session::{Request, Times};

/// Bytes that wait to be written before those who write wait too.
const AHEAD: usize = 1 << 20;
/// Bytes that one chunk should have at most.
const CHUNK: usize = 64 << 10;
/// Streams and futures of an invocation, of both directions.
const PATHS: usize = 1024;
/// Bytes that may be measured in vain before a value is whole, beside some for each of its own.
const VAIN: usize = 64 << 20;

/// Bytes of a value that comes in pieces.
#[derive(Default)]
pub(super) struct Gather {
    first: Bytes,
    /// Once there is a second piece.
    all: BytesMut,
    measured: usize,
}

impl Gather {
    pub fn push(&mut self, piece: Bytes) {
        if self.all.is_empty() && self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all = BytesMut::from(&std::mem::take(&mut self.first)[..]);
        }
        self.all.extend_from_slice(&piece);
    }

    pub fn bytes(&self) -> &[u8] {
        if self.all.is_empty() {
            &self.first
        } else {
            &self.all
        }
    }

    /// Takes the first `n` bytes, which were a value.
    pub fn take(&mut self, n: usize) -> Bytes {
        self.measured = 0;
        match self.all.is_empty() {
            true => self.first.split_to(n),
            false => self.all.split_to(n).freeze(),
        }
    }

    /// Takes note that the bytes were measured in vain; errors where that is done too often, since each time costs.
    pub fn in_vain(&mut self, limits: &Limits) -> Result<(), Failure> {
        let n = self.bytes().len();
        self.measured += n;
        if n as u64 > limits.message {
            let failure = Failure::new(Code::Overloaded, "a value is longer than this peer takes");
            return Err(failure.with("limit", limits.message));
        }
        match self.measured <= VAIN + 32 * n {
            true => Ok(()),
            false => Err(Failure::protocol("a value comes in too many pieces")),
        }
    }
}

struct Channel {
    path: Box<[u32]>,
    inward: bool,
    /// Chunks that nobody has taken.
    queue: VecDeque<Bytes>,
    /// What is no whole chunk yet.
    rest: Gather,
    /// The reader has gone: what comes is thrown away.
    stopped: bool,
    waker: Option<Waker>,
}

impl Channel {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Why the driver is to end.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Closing {
    No,
    /// When what there is has been written.
    Properly,
    /// At once, which tells the peer that something is wrong.
    Cut,
}

pub(super) struct State {
    user: Option<Slot>,
    pub out: Out,
    /// The connection is there.
    pub sent: bool,
    pub streaming: bool,
    pub answered: bool,
    /// Nothing more is written by the users.
    pub finished: bool,
    pub closing: Closing,
    /// The peer says nothing more.
    ended: Option<Failure>,
    /// The peer takes nothing more.
    pub deaf: bool,
    channels: Vec<Channel>,
    unread: usize,
    limits: Limits,
}

impl State {
    fn channel(&mut self, path: &[u32], inward: bool) -> Result<&mut Channel, Failure> {
        let found = self
            .channels
            .iter()
            .position(|c| c.inward == inward && *c.path == *path);
        let at = match found {
            Some(at) => at,
            None if self.channels.len() >= PATHS => {
                return Err(Failure::protocol(format!(
                    "more than {PATHS} streams and futures in one call"
                )));
            }
            None => {
                self.channels.push(Channel {
                    path: path.into(),
                    inward,
                    queue: VecDeque::new(),
                    rest: Gather::default(),
                    stopped: false,
                    waker: None,
                });
                self.channels.len() - 1
            }
        };
        Ok(&mut self.channels[at])
    }

    /// Whether more is to be read: not while much is unread, unless somebody waits for what may be behind it.
    pub fn listens(&self) -> bool {
        let starved = |c: &Channel| c.inward && c.queue.is_empty() && c.waker.is_some();
        self.unread <= self.limits.window as usize
            || (self.unread <= self.limits.connection as usize && self.channels.iter().any(starved))
    }

    /// Wakes those who write, where there is room.
    pub fn written(&mut self, waiting: usize) {
        if waiting + self.out.len() <= AHEAD {
            self.channels
                .iter_mut()
                .filter(|c| !c.inward)
                .for_each(Channel::wake);
        }
    }

    /// Bytes of a stream or future have come.
    pub fn data(
        &mut self,
        frame: Frame,
        roots: &dyn Roots,
        function: u32,
        result: bool,
    ) -> Result<(), Failure> {
        let limits = self.limits.clone();
        let channel = self.channel(&frame.path, true)?;
        if channel.stopped {
            return Ok(());
        }
        channel.rest.push(frame.data);
        let part = match result {
            true => Part::ResultChannel(&frame.path),
            false => Part::ParamsChannel(&frame.path),
        };
        let mut more = 0;
        while !channel.rest.bytes().is_empty() {
            match roots.extent(function, part, channel.rest.bytes(), false) {
                Extent::Complete(n @ 1..) if n <= channel.rest.bytes().len() => {
                    channel.queue.push_back(channel.rest.take(n));
                    more += n;
                }
                Extent::Truncated => {
                    channel.rest.in_vain(&limits)?;
                    break;
                }
                Extent::Complete(_) => return Err(Failure::protocol("a chunk of a stream without bytes")),
                Extent::Invalid(e) => return Err(Failure::from(e).with("path", format!("{:?}", frame.path))),
            }
        }
        if more > 0 {
            channel.wake();
        }
        self.unread += more;
        Ok(())
    }

    /// The peer says nothing more.
    pub fn end(&mut self, why: &Failure) {
        self.ended.get_or_insert_with(|| why.clone());
        self.channels.iter_mut().for_each(Channel::wake);
    }

    /// Answers who waits, if someone does.
    pub fn answer(&mut self, root: Bytes) {
        self.answered = true;
        if let Some(user) = self.user.take() {
            let _ = user.send(Ok(crate::session::Answer { times: None, root }));
        }
    }

    /// Fails who waits, if someone does, with just that.
    pub fn fail(&mut self, failure: Failure) {
        if let Some(user) = self.user.take() {
            let _ = user.send(Err(failure));
        }
    }

    /// The invocation ends by `why`: nobody waits any longer.
    pub fn lose(&mut self, why: &Failure) {
        if let Some(user) = self.user.take() {
            fail(user, why, self.sent);
        }
        self.end(why);
        self.deaf = true;
    }
}

pub(super) struct PlainLane {
    pub state: Mutex<State>,
    pub driver: AtomicWaker,
    /// What serves the call.
    pub task: Mutex<Option<AbortHandle>>,
}

impl PlainLane {
    fn new(limits: &Limits, user: Option<Slot>, streaming: bool) -> Self {
        PlainLane {
            state: Mutex::new(State {
                user,
                out: Out::default(),
                sent: false,
                streaming,
                answered: false,
                finished: false,
                closing: Closing::No,
                ended: None,
                deaf: false,
                channels: vec![],
                unread: 0,
                limits: limits.clone(),
            }),
            driver: AtomicWaker::new(),
            task: Mutex::default(),
        }
    }

    /// A call of this side's, which fails at once where the function has no name.
    pub fn calling(request: &Request, name: Option<(String, String)>, slot: Slot, limits: &Limits) -> Self {
        let lane = Self::new(limits, Some(slot), request.streaming);
        let mut state = lock(&lane.state);
        match name {
            Some((instance, function)) => {
                let mut head = Vec::with_capacity(instance.len() + function.len() + 16);
                put_header(&mut head, &instance, &function);
                put_frame(&mut head, &[], request.root.len());
                state.out.raw_of(&head, request.root.clone());
                state.finished = !request.streaming;
            }
            None => {
                let failure = Failure::new(Code::NoSuchFunction, "the peer has no function of that number");
                state.fail(failure.with("function", request.function));
                state.closing = Closing::Cut;
            }
        }
        drop(state);
        lane
    }

    /// A call of the peer's.
    pub fn serving(limits: &Limits) -> Self {
        Self::new(limits, None, true)
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let r = f(&mut lock(&self.state));
        self.driver.wake();
        r
    }

    /// Stops what serves the call.
    pub fn abort(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Lane for PlainLane {
    fn respond(&self, answer: Result<Bytes, Failure>, _: Option<&Times>, streaming: bool) {
        self.change(|state| {
            if std::mem::replace(&mut state.answered, true) {
                return;
            }
            match answer {
                Ok(root) => {
                    let mut head = Vec::with_capacity(8);
                    put_frame(&mut head, &[], root.len());
                    state.out.raw_of(&head, root);
                    if !streaming {
                        state.closing = Closing::Properly;
                    }
                }
                // there is no way to say why
                Err(_) => state.closing = Closing::Cut,
            }
        });
    }

    fn cancel(&self) {
        self.change(|state| {
            state.user = None;
            state.closing = Closing::Cut;
        });
    }

    fn finish(&self) {
        self.change(|state| state.finished = true);
    }

    fn close(&self) {
        self.change(|state| {
            if state.closing == Closing::No {
                state.closing = Closing::Properly;
            }
        });
    }

    // nothing tells the peer that a path is over, so that each counts to the end of the invocation
    fn expect(&self, _: &[u32]) {}

    fn taken(&self, _: &[u32]) {}

    fn done(&self, _: &[u32]) {}

    fn poll_open(&self, _: &[u32], _: &[Box<[u32]>], _: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        Poll::Ready(Ok(true))
    }

    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        let mut state = lock(&self.state);
        let ended = state.ended.clone();
        let channel = match state.channel(path, true) {
            Ok(channel) => channel,
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        let polled = match (channel.queue.pop_front(), ended) {
            (Some(chunk), _) => {
                state.unread -= chunk.len();
                Poll::Ready(Ok(chunk))
            }
            (None, Some(why)) => Poll::Ready(Err(why)),
            (None, None) => {
                channel.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        };
        drop(state);
        // there is room, or somebody waits for more
        self.driver.wake();
        polled
    }

    fn stop(&self, path: &[u32]) {
        self.change(|state| {
            if let Ok(channel) = state.channel(path, true) {
                channel.stopped = true;
                channel.rest = Gather::default();
                let unread: usize = channel.queue.drain(..).map(|chunk| chunk.len()).sum();
                state.unread -= unread;
            }
        });
    }

    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.deaf || state.finished || state.closing != Closing::No {
            return Poll::Ready(());
        }
        match state.channel(path, false) {
            Ok(channel) => {
                channel.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Err(_) => Poll::Ready(()),
        }
    }

    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut state = lock(&self.state);
        if state.deaf || state.finished || state.closing != Closing::No {
            return Poll::Ready(None);
        }
        if state.out.len() <= AHEAD {
            return Poll::Ready(Some(CHUNK));
        }
        match state.channel(path, false) {
            Ok(channel) => {
                channel.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Err(_) => Poll::Ready(None),
        }
    }

    fn write(&self, path: &[u32], chunk: Bytes) {
        self.change(|state| {
            if state.deaf || state.finished || state.closing != Closing::No {
                return;
            }
            let mut head = Vec::with_capacity(16);
            put_frame(&mut head, path, chunk.len());
            state.out.raw_of(&head, chunk);
        });
    }

    fn lose(&self, _: &[u32], _: &Failure) {
        // the peer can only be told by the connection's end
        self.change(|state| state.closing = Closing::Cut);
    }

    fn abandon(&self, why: &Failure) {
        self.change(|state| {
            state.lose(why);
            state.closing = Closing::Cut;
        });
        self.abort();
    }
}
