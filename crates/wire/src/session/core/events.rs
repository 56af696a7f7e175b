//! What comes of the frames that were read.

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::messages::{read_meta, read_times};
use super::{Called, Carries, Core, Event, Open, Phase, read_path};
use crate::codec::{Cursor, Decode};
use crate::failure::{Code, Failure};
use crate::frame::kind;
use crate::session::inbox::{Arrived, Inbox, State};

impl<U> Core<U> {
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
            placed,
        } = arrived;
        if placed {
            self.sharing.note_read();
        }
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
                        self.opened(stream);
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
                    self.end(stream);
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
                self.end(stream);
                Ok(user.map(|user| Event::Failed { user, failure }))
            }
            kind::CANCEL => match self.open.get(&stream) {
                Some(open) if !open.ours => {
                    if open.answered {
                        self.end(stream);
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
                if k == kind::STOP {
                    from.end()?;
                    self.reader_gone(stream, &path)?;
                } else {
                    let failure = Failure::decode(&mut from)?;
                    from.end()?;
                    self.writer_lost(stream, &path, failure)?;
                }
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
            kind::FREED => {
                self.sharing.freed(record(&payload)?)?;
                Ok(None)
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
        let round = self.their_round || stream < self.highest;
        if !fits || stream % 2 != parity || stream == 0 || (round && self.open.contains_key(&stream)) {
            return Err(Failure::protocol(format!("stream {stream} cannot be opened")));
        }
        Ok(())
    }

    /// The peer has opened a stream.
    fn opened(&mut self, stream: u32) {
        self.their_round |= stream < self.highest;
        self.highest = stream;
    }

    /// The first part of a long CALL: others may begin and be complete before it is.
    fn begins(&mut self, stream: u32) -> Result<(), Failure> {
        self.check_new(stream)?;
        self.opened(stream);
        if self.begun.len() >= self.ours.calls as usize {
            return Err(Failure::protocol("more unfinished calls than calls at once"));
        }
        self.begun.push(stream);
        Ok(())
    }

    /// Errors unless the stream is one that has been: late frames of a call that is over are no offence.
    pub(in crate::session) fn known_stream(&self, stream: u32) -> Result<(), Failure> {
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
                self.opened(stream);
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
                finishing: false,
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

/// A whole payload as one value.
fn record<T: Decode>(payload: &Bytes) -> Result<T, Failure> {
    crate::codec::decode(payload).map_err(|e| Failure::protocol(format!("a frame cannot be read: {e}")))
}
