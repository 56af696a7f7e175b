//! Small chunks sent as one: a frame for every number would cost more than the number.

use std::task::{Context, Poll, ready};

use loop_engine::{Chunk, Kind, Num, Source, TyRef};
use wasmtime::Result;

use crate::encoded::{Encoded, Wire};
use crate::import::streams;

/// Bytes of a chunk that are not added to any more.
const ENOUGH: usize = 16 << 10;
/// Items of such a chunk: some have no bytes.
const ITEMS: usize = 4096;

type Next = Result<Option<Chunk<Encoded>>>;

/// A source whose chunks are put together, as far as they are there without waiting.
pub(crate) struct Gathered<'s> {
    source: &'s mut dyn Source<Encoded>,
    /// Chunks stay as they are: blocks of bytes, which somebody made to be read so, and values with streams or futures,
    /// of which a call has room for few.
    alone: bool,
    /// What came after the last chunk and did not go with it.
    ahead: Option<Next>,
}

impl<'s> Gathered<'s> {
    pub fn of(source: &'s mut dyn Source<Encoded>, payload: Option<&TyRef>) -> Self {
        Gathered {
            source,
            alone: payload.is_some_and(|t| matches!(t.kind, Kind::Num(Num::U8)) || streams(t)),
            ahead: None,
        }
    }

    /// The next chunk, which is put together of others up to about `room` bytes.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Next> {
        let next = match self.ahead.take() {
            Some(next) => next,
            None => ready!(self.source.poll_next(cx)),
        };
        let chunk = match next {
            Ok(Some(chunk)) if !self.alone => chunk,
            next => return Poll::Ready(next),
        };
        let most = room.min(ENOUGH);
        let mut made = match Made::of(chunk, most) {
            Ok(made) => made,
            Err(large) => return Poll::Ready(Ok(Some(large))),
        };
        while made.takes_more(most) {
            match self.source.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(chunk))) => match Made::of(chunk, most) {
                    Ok(more) => made.add(more),
                    Err(large) => {
                        self.ahead = Some(Ok(Some(large)));
                        break;
                    }
                },
                Poll::Ready(last) => {
                    self.ahead = Some(last);
                    break;
                }
            }
        }
        Poll::Ready(Ok(Some(made.into())))
    }
}

/// A chunk that others can be added to.
enum Made {
    Raw(Vec<u8>),
    /// With the bytes that they have.
    Values(Vec<Wire>, usize),
    Units(usize),
}

impl Made {
    /// Errors with the chunk where it is large enough by itself.
    fn of(chunk: Chunk<Encoded>, most: usize) -> Result<Made, Chunk<Encoded>> {
        match chunk {
            Chunk::Raw(raw) if (*raw).as_ref().len() >= most => Err(Chunk::Raw(raw)),
            Chunk::Raw(raw) => Ok(Made::Raw((*raw).as_ref().to_vec())),
            Chunk::Values(mut values) => {
                let size = values.iter_mut().map(Wire::size).sum();
                match size >= most || values.len() >= ITEMS {
                    true => Err(Chunk::Values(values)),
                    false => Ok(Made::Values(values, size)),
                }
            }
            Chunk::Units(n) if n >= ITEMS => Err(Chunk::Units(n)),
            Chunk::Units(n) => Ok(Made::Units(n)),
        }
    }

    fn takes_more(&self, most: usize) -> bool {
        match self {
            Made::Raw(bytes) => bytes.len() < most,
            Made::Values(values, size) => *size < most && values.len() < ITEMS,
            Made::Units(n) => *n < ITEMS,
        }
    }

    /// Adds what is of the same kind, as all of one source is.
    fn add(&mut self, more: Made) {
        match (self, more) {
            (Made::Raw(bytes), Made::Raw(more)) => bytes.extend_from_slice(&more),
            (Made::Values(values, size), Made::Values(more, by)) => {
                values.extend(more);
                *size += by;
            }
            (Made::Units(n), Made::Units(more)) => *n += more,
            _ => debug_assert!(false, "a source gave chunks of two kinds"),
        }
    }
}

impl From<Made> for Chunk<Encoded> {
    fn from(made: Made) -> Self {
        match made {
            Made::Raw(bytes) => Chunk::Raw(Box::new(bytes)),
            Made::Values(values, _) => Chunk::Values(values),
            Made::Units(n) => Chunk::Units(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives what is listed; `Pending` once where it says so.
    struct Listed(VecDeque<Poll<Next>>);

    impl Source<Encoded> for Listed {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Next> {
            self.0.pop_front().unwrap_or(Poll::Ready(Ok(None)))
        }
    }

    fn raw(bytes: &[u8]) -> Poll<Next> {
        Poll::Ready(Ok(Some(Chunk::Raw(Box::new(bytes.to_vec())))))
    }

    /// What comes of it, chunk by chunk.
    fn gathered(payload: &str, room: usize, chunks: Vec<Poll<Next>>) -> Vec<String> {
        let mut source = Listed(chunks.into());
        let payload = loop_engine::parse_type(payload).unwrap();
        let mut source = Gathered::of(&mut source, Some(&payload));
        let mut told = vec![];
        loop {
            let polled = source.poll_next(&mut Context::from_waker(Waker::noop()), room);
            told.push(match polled {
                Poll::Pending => "pending".into(),
                Poll::Ready(Ok(Some(Chunk::Raw(raw)))) => format!("{:?}", (*raw).as_ref()),
                Poll::Ready(Ok(Some(Chunk::Values(values)))) => format!("{} values", values.len()),
                Poll::Ready(Ok(Some(Chunk::Units(n)))) => format!("{n} units"),
                Poll::Ready(Ok(None)) => return told,
                Poll::Ready(Err(e)) => e.to_string(),
            });
        }
    }

    #[test]
    fn what_is_there_goes_together_and_in_order() {
        let chunks = vec![raw(&[1]), raw(&[2]), Poll::Pending, raw(&[3])];
        assert_eq!(gathered("s8", 100, chunks), ["[1, 2]", "[3]"]);
        let failed = || Poll::Ready(Err(wasmtime::format_err!("it broke")));
        let chunks = vec![raw(&[1]), raw(&[2]), failed()];
        assert_eq!(gathered("s8", 100, chunks), ["[1, 2]", "it broke"]);
        assert_eq!(
            gathered("s8", 100, vec![Poll::Pending, raw(&[1])]),
            ["pending", "[1]"]
        );
        let some = |n| Poll::Ready(Ok(Some(Chunk::Values((0..n).map(|_| Wire::Placed).collect()))));
        assert_eq!(gathered("string", 100, vec![some(2), some(3)]), ["5 values"]);
        assert_eq!(
            gathered("string", 100, vec![some(4095), some(4), some(1)]),
            ["4099 values", "1 values"]
        );
    }

    #[test]
    fn what_is_large_or_has_no_room_goes_by_itself() {
        let chunks = vec![raw(&[1]), raw(&[2; 4]), raw(&[3]), raw(&[4])];
        assert_eq!(gathered("s8", 4, chunks), ["[1]", "[2, 2, 2, 2]", "[3, 4]"]);
        let chunks = vec![raw(&[1, 2]), raw(&[3, 4, 5]), raw(&[6])];
        assert_eq!(gathered("s8", 4, chunks), ["[1, 2, 3, 4, 5]", "[6]"]);
        // blocks of bytes are as their writer made them
        assert_eq!(gathered("u8", 100, vec![raw(&[1]), raw(&[2])]), ["[1]", "[2]"]);
        let one = || Poll::Ready(Ok(Some(Chunk::Values(vec![Wire::Placed]))));
        assert_eq!(
            gathered("option<future>", 100, vec![one(), one()]),
            ["1 values", "1 values"]
        );
    }
}
