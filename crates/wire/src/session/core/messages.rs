//! What calls and their answers say beside values, and its bytes.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use crate::codec::{Cursor, Decode, Encode, put_unsigned};
use crate::failure::Failure;
use crate::hello::{Hello, Link};

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

mod flag {
    pub const DEADLINE: u8 = 1;
    pub const TRACE: u8 = 2;
    pub const IDENTITY: u8 = 4;
    pub const KEY: u8 = 8;
    pub const TIMED: u8 = 16;
    pub const ALL: u8 = 31;
}

pub(super) fn write_call(b: &mut Vec<u8>, request: &Request) {
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

pub(super) fn read_meta(from: &mut Cursor<'_>) -> Result<Meta, Failure> {
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

pub(super) fn write_times(b: &mut Vec<u8>, times: Option<&Times>) {
    match times {
        None => b.push(0),
        Some(t) => {
            b.push(1);
            (t.queue, t.decode, t.provider, t.encode).encode(b);
        }
    }
}

pub(super) fn read_times(payload: &mut Bytes) -> Result<Option<Times>, Failure> {
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
