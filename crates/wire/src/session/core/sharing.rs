//! Long payloads by memory that both processes see.
//!
//! Each side writes to an arena of its own, made when the first long payload comes: places of one size, used in turn and
//! given back by the reader in that order.

use bytes::Bytes;

use super::{Core, Phase};
use crate::arena::Arena;
use crate::codec::put_unsigned;
use crate::failure::Failure;
use crate::frame::{FRAME, Out, kind};
use crate::hello::Hello;

/// Bytes of one place: few enough to be in the cache still when they are copied out, enough for few wake-ups.
const PLACE: usize = 1 << 20;
/// Places of an arena, so that one is written while others are read.
const PLACES: u32 = 4;
/// Payloads from here on go by the arena; shorter ones are no slower by the socket.
const LONG: usize = 64 << 10;

/// What of memory is shared in a session.
#[derive(Default)]
pub(super) struct Sharing {
    /// This side said that it takes arenas, and can pass one.
    offered: bool,
    /// So did the other, and there is an arena or one can be made.
    on: bool,
    arena: Option<Arena>,
    /// The next place to write to, and how many the peer has not given back.
    next: u32,
    used: u32,
    /// Places of the peer that were read and not given back yet.
    read: u32,
}

impl Sharing {
    pub fn offer(&mut self, ours: &Hello) {
        self.offered = ours.shares();
    }

    pub fn begin(&mut self, theirs: &Hello) {
        self.on = self.offered && theirs.shares();
    }

    /// Whether payloads of that size go by the arena.
    pub fn takes(&self, length: usize) -> bool {
        self.on && length >= LONG
    }

    /// Bytes that can be placed at once; none while the peer has all places.
    pub fn room(&self) -> usize {
        if self.used < PLACES { PLACE } else { 0 }
    }

    /// The peer's payload was copied.
    pub fn note_read(&mut self) {
        self.read += 1;
    }

    /// Makes the arena if there is none; false where it cannot be made, and everything goes the other way.
    pub fn prepare(&mut self, out: &mut Out) -> bool {
        if self.on && self.arena.is_none() {
            let size = PLACE * PLACES as usize;
            match Arena::new(size) {
                Ok((arena, descriptor)) => {
                    self.arena = Some(arena);
                    out.pass(descriptor);
                    out.frame(kind::ARENA, 0, |b| put_unsigned(b, size as u64));
                }
                // no descriptor is free, or no memory
                Err(_) => self.on = false,
            }
        }
        self.on
    }

    /// A frame of `head` and `body`, which is put into the next place.
    pub fn place(&mut self, out: &mut Out, kind: u8, stream: u32, head: &[u8], body: &Bytes) {
        let offset = self.next as usize * PLACE;
        if let Some(arena) = &mut self.arena {
            arena.write(offset, body);
        }
        self.next = (self.next + 1) % PLACES;
        self.used += 1;
        out.frame(kind::PLACED, stream, |b| {
            b.push(kind);
            put_unsigned(b, offset as u64);
            put_unsigned(b, body.len() as u64);
            b.extend_from_slice(head);
        });
    }

    /// Gives back what was read.
    pub fn free(&mut self, out: &mut Out) {
        if self.read > 0 {
            let n = std::mem::take(&mut self.read);
            out.frame(kind::FREED, 0, |b| put_unsigned(b, n.into()));
        }
    }

    /// The peer gives places back.
    ///
    /// Errors where it had not so many.
    pub fn freed(&mut self, n: u32) -> Result<(), Failure> {
        self.used = self
            .used
            .checked_sub(n)
            .ok_or_else(|| Failure::protocol("more of an arena is given back than was used"))?;
        Ok(())
    }
}

impl<U> Core<U> {
    /// Whether a descriptor may come along with what is read next; read by `passing` then.
    pub fn may_be_passed(&self) -> bool {
        match self.phase {
            Phase::Open => self.sharing.on,
            // the WELCOME may be followed by one at once
            Phase::Offered => self.sharing.offered,
            Phase::Awaiting | Phase::Asked => false,
        }
    }

    /// Whether a payload of that size goes by shared memory.
    pub(in crate::session) fn is_shared(&self, length: usize) -> bool {
        self.sharing.takes(length)
    }

    /// Whether the root of a call or a result goes in parts.
    pub(super) fn is_long(&self, length: usize) -> bool {
        length > FRAME / 2 || self.is_shared(length)
    }
}
