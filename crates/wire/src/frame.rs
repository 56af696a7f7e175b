//! Frames of a session, and what waits to be written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::arena::Descriptor;

/// The first bytes of a session: `LOOP` and the version.
pub const PREFACE: [u8; 5] = *b"LOOP\x01";
/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// Bytes of payload that one frame may have.
pub const FRAME: usize = 256 << 10;
/// Payloads from here on are queued by reference instead of copied.
pub const BIG: usize = 16 << 10;

/// What a frame is. [`kind::MORE`] is a bit on top of some.
pub mod kind {
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const REFUSE: u8 = 0x03;
    pub const CALL: u8 = 0x10;
    pub const RESULT: u8 = 0x11;
    pub const FAIL: u8 = 0x12;
    pub const CANCEL: u8 = 0x13;
    pub const DATA: u8 = 0x14;
    pub const CREDIT: u8 = 0x15;
    pub const STOP: u8 = 0x16;
    pub const LOST: u8 = 0x17;
    pub const DONE: u8 = 0x18;
    pub const PING: u8 = 0x20;
    pub const PONG: u8 = 0x21;
    pub const GOAWAY: u8 = 0x22;
    pub const RELOAD: u8 = 0x23;
    pub const RELOADED: u8 = 0x24;
    pub const LINK: u8 = 0x25;
    pub const LINKED: u8 = 0x26;
    pub const UNLINK: u8 = 0x27;
    pub const DROP: u8 = 0x28;
    pub const ARENA: u8 = 0x30;
    pub const PLACED: u8 = 0x31;
    pub const FREED: u8 = 0x32;
    /// The message goes on in the next frame of the same stream and kind.
    pub const MORE: u8 = 0x80;
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub length: usize,
    pub kind: u8,
    pub stream: u32,
}

impl Header {
    #[inline]
    pub fn read(b: [u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, s0, s1, s2, s3] = b;
        Header {
            length: u32::from_le_bytes([l0, l1, l2, 0]) as usize,
            kind,
            stream: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }

    #[inline]
    pub fn bytes(self) -> [u8; HEADER] {
        let [l0, l1, l2, _] = (self.length as u32).to_le_bytes();
        let [s0, s1, s2, s3] = self.stream.to_le_bytes();
        [l0, l1, l2, self.kind, s0, s1, s2, s3]
    }
}

/// Frames on their way out: small ones gather in one buffer, large payloads are queued by reference.
#[derive(Default)]
pub struct Out {
    blocks: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// How much of `tail` is written, once `blocks` are.
    written: usize,
    blocked: usize,
    /// Goes with the first byte.
    descriptor: Option<Descriptor>,
}

impl Out {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.blocked + self.tail.len() - self.written
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are no frame: the preface.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// A frame whose payload `write` appends.
    #[inline]
    pub fn frame(&mut self, kind: u8, stream: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.tail.len();
        self.tail.extend_from_slice(&[0; HEADER]);
        write(&mut self.tail);
        let length = self.tail.len() - at - HEADER;
        debug_assert!(length <= FRAME);
        let header = Header { length, kind, stream };
        self.tail[at..at + HEADER].copy_from_slice(&header.bytes());
    }

    /// A frame of `head` and then `body`, which is queued by reference where it is large.
    pub fn frame_of(&mut self, kind: u8, stream: u32, head: &[u8], body: Bytes) {
        let length = head.len() + body.len();
        debug_assert!(length <= FRAME);
        self.tail
            .extend_from_slice(&Header { length, kind, stream }.bytes());
        self.raw_of(head, body);
    }

    /// Bytes that are no frame of a session: `head` and then `body`, which is queued by reference where it is large.
    pub fn raw_of(&mut self, head: &[u8], body: Bytes) {
        self.tail.extend_from_slice(head);
        if body.len() < BIG {
            self.tail.extend_from_slice(&body);
            return;
        }
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.written));
        self.blocked += tail.len() + body.len();
        self.blocks.push_back(tail);
        self.blocks.push_back(body);
    }

    /// Has a descriptor go along, no later than what is appended next.
    pub(crate) fn pass(&mut self, descriptor: Descriptor) {
        self.descriptor = Some(descriptor);
    }

    /// What goes along with the next byte.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// What may be written next, in order; returns how many slices were filled.
    pub fn slices<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for block in self.blocks.iter().take(to.len()) {
            to[n] = IoSlice::new(block);
            n += 1;
        }
        if n < to.len() && self.written < self.tail.len() {
            to[n] = IoSlice::new(&self.tail[self.written..]);
            n += 1;
        }
        n
    }

    /// Takes note that the first `n` bytes were written.
    pub fn advance(&mut self, mut n: usize) {
        if n > 0 {
            self.descriptor = None;
        }
        while let Some(block) = self.blocks.front_mut() {
            if n < block.len() {
                block.advance(n);
                self.blocked -= n;
                return;
            }
            n -= block.len();
            self.blocked -= block.len();
            self.blocks.pop_front();
        }
        self.written += n;
        if self.written == self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_out_in_order_however_it_is_taken() {
        for step in [1, 3, 1000, usize::MAX] {
            let mut out = Out::default();
            out.raw(&PREFACE);
            out.frame(kind::PING, 0, |b| b.extend_from_slice(&[7; 8]));
            out.frame_of(kind::RESULT, 5, &[1, 2], Bytes::from(vec![9; BIG + 1]));
            out.frame_of(kind::RESULT, 7, &[3], Bytes::from(vec![8; 10]));
            let mut want = PREFACE.to_vec();
            want.extend_from_slice(&[8, 0, 0, 0x20, 0, 0, 0, 0]);
            want.extend_from_slice(&[7; 8]);
            want.extend_from_slice(&[3, 0x40, 0, 0x11, 5, 0, 0, 0, 1, 2]);
            want.extend_from_slice(&vec![9; BIG + 1]);
            want.extend_from_slice(&[11, 0, 0, 0x11, 7, 0, 0, 0, 3]);
            want.extend_from_slice(&[8; 10]);
            assert_eq!(out.len(), want.len());
            let mut got = vec![];
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 2];
                let n = out.slices(&mut slices);
                let all: Vec<u8> = slices[..n].iter().flat_map(|s| s.to_vec()).collect();
                let taken = all.len().min(step);
                got.extend_from_slice(&all[..taken]);
                out.advance(taken);
            }
            assert_eq!(got, want);
        }
    }
}
