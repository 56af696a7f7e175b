//! Any bytes as the other side of a session.

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use loop_wire::arena::Arena;
use loop_wire::codec::encode;
use loop_wire::frame::{FRAME, Out, PREFACE, kind};
use loop_wire::session::{Core, Event, Inbox, Meta, Request};
use loop_wire::{Code, Failure, Hello, Limits, Link};

use crate::{FOR_EACH, HELD, frame};

/// Kinds of frames, some with the bit that says that more follows.
pub(crate) const KINDS: [u8; 27] = [
    kind::HELLO,
    kind::WELCOME,
    kind::REFUSE,
    kind::CALL,
    kind::CALL | kind::MORE,
    kind::RESULT,
    kind::RESULT | kind::MORE,
    kind::FAIL,
    kind::CANCEL,
    kind::DATA,
    kind::DATA | kind::MORE,
    kind::CREDIT,
    kind::STOP,
    kind::LOST,
    kind::PING,
    kind::PONG,
    kind::GOAWAY,
    kind::RELOAD,
    kind::RELOADED,
    kind::LINK,
    kind::LINKED,
    kind::UNLINK,
    kind::DROP,
    kind::ARENA,
    kind::PLACED,
    kind::FREED,
    0x99,
];

/// A session answers anything with sense or an error, and neither holds nor says more than what it was told is worth.
pub fn session(data: &[u8]) {
    let most = crate::memory::most(|| {
        // what is too short to be a case is none
        let _ = run(&mut Unstructured::new(data));
    });
    assert!(most <= HELD + FOR_EACH * data.len(), "{most} bytes are held");
}

/// Bytes of the other side's arena.
const ARENA: usize = 8192;

/// Half of the times, what is well said of an arena, and how many bytes it stands for.
pub(crate) fn placed(u: &mut Unstructured<'_>, k: u8) -> Result<Option<(Vec<u8>, usize)>> {
    match k {
        kind::ARENA if u.arbitrary()? => Ok(Some((encode(&(ARENA as u64)), 0))),
        kind::PLACED if u.arbitrary()? => {
            let message = *u.choose(&[kind::CALL, kind::RESULT, kind::DATA])?;
            let more = if u.arbitrary()? { kind::MORE } else { 0 };
            let length = u.int_in_range(0..=ARENA as u32)?;
            let at = encode(&(u.int_in_range(0..=ARENA as u32 - length)?, length));
            let n = u.int_in_range(0..=24)?.min(u.len());
            let head = u.bytes(n)?;
            Ok(Some((
                [&[message | more][..], &at, head].concat(),
                length as usize,
            )))
        }
        _ => Ok(None),
    }
}

/// One side of a session, and what it has been told.
struct Side {
    core: Core<()>,
    inbox: Inbox,
    out: Out,
    limits: Limits,
    /// Bytes that came, and those that this side had to say of its own.
    told: usize,
    own: usize,
    now: Instant,
    streams: Vec<u32>,
    /// Of the streams that the other side opens.
    parity: u32,
    hello: Hello,
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = Limits {
        message: 1 << 16,
        calls: 8,
        channels: 4,
        window: 1 << 12,
        connection: 1 << 14,
        idle: 1000,
    };
    let mut hello = Hello {
        limits: limits.clone(),
        ..Hello::default()
    };
    let shares = u.ratio(1, 4)?;
    if shares {
        hello.share();
    }
    let initiator: bool = u.arbitrary()?;
    let mut side = Side {
        core: match initiator {
            true => Core::initiator(&hello),
            false => Core::acceptor(limits.clone()),
        },
        inbox: Inbox::new(limits.message, !initiator),
        out: Out::default(),
        told: 0,
        own: 1 << 10,
        now: Instant::now(),
        streams: vec![],
        parity: u32::from(!initiator),
        limits,
        hello: hello.clone(),
    };
    if shares && let Ok((_, descriptor)) = Arena::new(ARENA) {
        side.inbox.passed(descriptor);
    }
    let opening = |greeting: &[u8]| match initiator {
        true => frame(kind::WELCOME, 0, greeting),
        false => [&PREFACE[..], &frame(kind::HELLO, 0, greeting)].concat(),
    };
    let opens = u.int_in_range(0..=7)?;
    if opens < 5 {
        let greeted = side.hear(u, &opening(&encode(&hello)))?;
        assert!(greeted.is_ok(), "a proper greeting is refused");
    } else if opens < 7 {
        // one that is of somebody else, and not whole
        let mut greeting = encode(&crate::records::hello(u)?);
        for _ in 0..u.int_in_range(0..=3)? {
            let at = u.choose_index(greeting.len())?;
            greeting[at] = u.arbitrary()?;
        }
        greeting.truncate(greeting.len() - u.int_in_range(0..=3)?);
        if side.hear(u, &opening(&greeting))?.is_err() {
            return Ok(());
        }
    }
    while !u.is_empty() {
        if side.turn(u)?.is_err() {
            break;
        }
        side.check();
    }
    side.core.abandon();
    assert_eq!(side.core.busy(), 0);
    Ok(())
}

impl Side {
    /// Something happens.
    fn turn(&mut self, u: &mut Unstructured<'_>) -> Result<std::result::Result<(), Failure>> {
        match u.int_in_range(0..=9)? {
            0 => {
                let n = u.int_in_range(0..=32)?.min(u.len());
                let bytes = u.bytes(n)?.to_vec();
                return self.hear(u, &bytes);
            }
            1..=5 => {
                let kind = *u.choose(&KINDS)?;
                let stream = u.int_in_range(0..=12)?;
                if let Some((payload, placed)) = placed(u, kind)? {
                    self.told += placed;
                    return self.hear(u, &frame(kind, stream, &payload));
                }
                let mut payload = match u.ratio(1, 2)? {
                    true => vec![0; 3],
                    false => vec![],
                };
                let n = u.int_in_range(0..=24)?.min(u.len());
                payload.extend_from_slice(u.bytes(n)?);
                if u.ratio(1, 16)? {
                    payload.resize(u.int_in_range(0..=FRAME + 1)?, 1);
                }
                return self.hear(u, &frame(kind, stream, &payload));
            }
            6 => self.act(u)?,
            7 => {
                self.now += Duration::from_millis(u.int_in_range(0..=5000)?);
                for event in self.core.expire(self.now) {
                    self.deal(u, event)?;
                }
            }
            _ => {
                self.core.take(&mut self.out);
                self.out.advance(self.out.len() / u.int_in_range(1..=3)?);
            }
        }
        Ok(Ok(()))
    }

    /// Takes bytes, in parts, and deals with what comes of them.
    fn hear(&mut self, u: &mut Unstructured<'_>, bytes: &[u8]) -> Result<std::result::Result<(), Failure>> {
        self.told += bytes.len();
        let (first, second) = bytes.split_at(u.int_in_range(0..=bytes.len())?);
        for part in [first, second] {
            self.inbox.feed(part);
            loop {
                match self.core.event(&mut self.inbox) {
                    Ok(Some(event)) => self.deal(u, event)?,
                    Ok(None) => break,
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        }
        Ok(Ok(()))
    }

    fn deal(&mut self, u: &mut Unstructured<'_>, event: Event<()>) -> Result<()> {
        match event {
            Event::Hello(theirs) => self.core.welcome(&self.hello, &theirs),
            Event::Called(called) => {
                assert!(self.core.is_current(called.stream));
                assert!(called.root.len() as u64 <= self.limits.message);
                self.streams.push(called.stream);
                match u.int_in_range(0..=3)? {
                    0 => self.answer(called.stream, Ok(called.root), false),
                    1 => self.answer(called.stream, Err(Failure::new(Code::Provider, "no")), false),
                    2 => self.answer(called.stream, Ok(Bytes::new()), true),
                    _ => {}
                }
            }
            Event::Answered { root, .. } => assert!(root.len() as u64 <= self.limits.message),
            Event::Link(link) => self.core.linked(link.number, None),
            Event::Reload(number) => self.core.reloaded(number, None),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, stream: u32, answer: std::result::Result<Bytes, Failure>, streaming: bool) {
        self.own += 256 + answer.as_ref().map_or(0, Bytes::len);
        self.core.respond(stream, answer, None, streaming);
    }

    /// This side does something of its own.
    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let stream = match self.streams.is_empty() {
            true => 1,
            false => *u.choose(&self.streams)?,
        };
        let path = &[u.int_in_range(0..=3)?, u.int_in_range(0..=2)?][..u.int_in_range(1..=2)?];
        let mut cx = Context::from_waker(Waker::noop());
        self.own += 256;
        match u.int_in_range(0..=13)? {
            0 | 1 => {
                let root = Bytes::from(vec![2; u.int_in_range(0..=200_000)?]);
                self.own += root.len() + 1024;
                let request = Request {
                    meta: Meta {
                        deadline: u
                            .arbitrary::<Option<u16>>()?
                            .map(|ms| Duration::from_millis(ms.into())),
                        ..Meta::default()
                    },
                    root,
                    streaming: u.arbitrary()?,
                    ..Request::default()
                };
                self.streams.push(self.core.call(self.now, request, ()));
            }
            2 => drop(self.core.cancel(stream)),
            3 => self.core.close(stream),
            4 => drop(self.core.poll_read(stream, path, &mut cx)),
            5 => self.core.stop(stream, path),
            6 => {
                if let std::task::Poll::Ready(Some(n)) = self.core.poll_write(stream, path, &mut cx) {
                    assert!((1..=FRAME).contains(&n));
                    self.own += n + 64;
                    self.core.write(stream, path, vec![3; n].into());
                }
            }
            7 => self.core.lose(stream, path, &Failure::protocol("lost")),
            8 => self.answer(stream, Ok(Bytes::new()), false),
            9 => self.core.expect(stream, path),
            10 => self.core.taken(stream, path),
            11 => {
                let nested = [path, &[u.int_in_range(0..=2)?]].concat().into();
                drop(self.core.poll_open(stream, path, &[nested], &mut cx));
            }
            12 => self.core.done(stream, path),
            _ if !self.core.is_open() => {}
            _ => {
                let link = Link {
                    number: 1,
                    name: String::new(),
                    grant: String::new(),
                    config: String::new(),
                };
                assert!(self.core.link(&link).is_ok());
            }
        }
        Ok(())
    }

    fn check(&mut self) {
        let said = self.core.unwritten() + self.out.len();
        let most = self.own + FOR_EACH * self.told;
        assert!(said <= most, "{said} bytes wait to be said, {most} are due");
        let open = |s: &&u32| **s % 2 == self.parity && self.core.is_current(**s);
        let peers = self.streams.iter().filter(open).count();
        assert!(
            peers <= self.limits.calls as usize,
            "{peers} calls of the peer's are open"
        );
    }
}
