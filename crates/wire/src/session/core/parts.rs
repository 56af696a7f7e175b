//! Messages that are longer than a frame, written in parts, one of each stream in turn.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Core, channel_wakers};
use crate::codec::put_unsigned;
use crate::frame::{FRAME, kind};

/// Bytes of frames that are made ready before they are asked for.
const AHEAD: usize = 512 << 10;

/// A message that is written in parts.
pub(super) struct Part {
    pub(super) kind: u8,
    /// What comes before `body` and is not written yet.
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) begun: bool,
    /// Of DATA and LOST: the channel, whose credit DATA uses.
    pub(super) path: Option<Box<[u32]>>,
}

impl<U> Core<U> {
    pub(in crate::session) fn send_parts(
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

    /// Whether anything of that channel is not written yet.
    pub(in crate::session) fn is_queued(&self, stream: u32, path: &[u32]) -> bool {
        let parts = self.sending.iter().filter(|(s, _)| *s == stream);
        parts
            .flat_map(|(_, parts)| parts)
            .any(|p| p.path.as_deref() == Some(path))
    }

    /// Whether a message of that channel, or anything before it, is not written yet.
    pub(in crate::session) fn is_sending(&self, stream: u32) -> bool {
        self.sending.iter().any(|(s, _)| *s == stream)
    }

    /// Moves parts of long messages to the output, one of each stream in turn.
    pub(super) fn pump(&mut self) {
        let (mut stuck, mut placed) = (0, 0);
        // what is placed is to be read while the next is, so that it is not all of one go either
        while self.out.len() + placed < AHEAD && stuck < self.sending.len() {
            let Some((stream, mut parts)) = self.sending.pop_front() else {
                return;
            };
            let moved = match parts.front_mut() {
                // it waits for room, and what is said of it waits too
                Some(_) if self.open.get(&stream).is_some_and(|open| !open.sent) => false,
                // given up meanwhile: what has begun must be ended all the same, or the peer waits for the rest
                Some(part) => self.send_part(stream, part, &mut placed),
                None => continue,
            };
            let mut written = None;
            if parts.front().is_some_and(|p| p.body.is_empty() && p.begun) {
                written = parts.pop_front().and_then(|part| part.path);
                if let Some(open) = self.open.get_mut(&stream) {
                    channel_wakers(&open.channels);
                }
            }
            stuck = if moved { 0 } else { stuck + 1 };
            if moved {
                self.begun_long(stream);
            }
            if !parts.is_empty() {
                self.sending.push_back((stream, parts));
            } else if self.open.get(&stream).is_some_and(|open| open.finishing) {
                self.end(stream);
            }
            if let Some(path) = written {
                self.settle(stream, &path);
            }
        }
    }

    fn send_part(&mut self, stream: u32, part: &mut Part, placed: &mut usize) -> bool {
        let shared = self.sharing.takes(part.body.len()) && self.sharing.prepare(&mut self.out);
        let frame = match shared {
            true if self.sharing.room() == 0 => return false,
            true => part.head.len() + self.sharing.room(),
            false => FRAME,
        };
        let free = matches!(part.kind, kind::RESULT | kind::LOST);
        let most = match free {
            true => frame as u64,
            false => self.credit.min(frame as u64),
        };
        let most = match &part.path {
            Some(path) if !free => most.min(self.channel_credit(stream, path).unwrap_or(frame as u32).into()),
            _ => most,
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
        if shared {
            *placed += body.len();
            self.sharing
                .place(&mut self.out, part.kind | more, stream, &head, &body);
        } else {
            self.out.frame_of(part.kind | more, stream, &head, body);
        }
        if free {
            return true;
        }
        self.credit = self.credit.saturating_sub(n as u64);
        if let Some(path) = &part.path {
            self.spend_channel(stream, path, n as u32);
        }
        true
    }
}
