//! From bytes to frames, and from the frames of a long message to the message.

use std::mem::MaybeUninit;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::core::{IdMap, gather, read_path};
use crate::codec::Cursor;
use crate::failure::Failure;
use crate::frame::{BIG, FRAME, HEADER, Header, PREFACE, kind};

/// Bytes that are read at once, where nothing longer is on its way.
const BLOCK: usize = 64 << 10;
/// What the first frame of a long message must show before the rest is read: its size, and the path of DATA.
const SHOWN: usize = 10 + 1 + 32 * 5;
/// Unfinished messages at once; a peer has no more than its calls, each way.
const UNFINISHED: usize = 4096;
/// Bytes of unfinished messages together.
const GATHERED: usize = 256 << 20;

/// How much of a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Whole,
    /// A part; it is put together here.
    Part,
    /// The first part of a message that is too long: it is skipped.
    TooLong,
}

/// A frame, or the last one of a message with all of it.
#[derive(Debug)]
pub struct Arrived {
    pub kind: u8,
    pub stream: u32,
    /// The whole message; empty where it is not whole.
    pub payload: Bytes,
    /// Bytes of payload of this frame, which count against credit.
    pub charged: usize,
    pub state: State,
    /// Of DATA in parts: the channel.
    pub path: Option<Box<[u32]>>,
}

/// A message of which parts have come.
struct Partial {
    kind: u8,
    bytes: BytesMut,
    total: usize,
    path: Option<Box<[u32]>>,
    skipped: bool,
    /// That it is skipped was said.
    told: bool,
}

/// A payload that is read into a buffer of its own.
struct Body {
    header: Header,
    bytes: BytesMut,
    need: usize,
}

/// What has been read of a connection.
pub struct Inbox {
    buffer: BytesMut,
    body: Option<Body>,
    partial: IdMap<Partial>,
    gathered: usize,
    message: usize,
    preface: bool,
}

impl Inbox {
    /// `message`: bytes that one message may have. `preface`: the connection begins with one.
    pub fn new(message: u64, preface: bool) -> Self {
        Inbox {
            buffer: BytesMut::new(),
            body: None,
            partial: IdMap::default(),
            gathered: 0,
            message: message.try_into().unwrap_or(usize::MAX),
            preface,
        }
    }

    /// Where the next bytes are to be read to; never empty.
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        if let Some(body) = self.body.as_mut().filter(|b| b.need > 0) {
            let need = body.need;
            body.bytes.reserve(need);
            return &mut body.bytes.spare_capacity_mut()[..need];
        }
        if self.buffer.capacity() - self.buffer.len() < BLOCK / 16 {
            self.buffer.reserve(BLOCK);
        }
        self.buffer.spare_capacity_mut()
    }

    /// Takes note that bytes were read into [`Self::space`].
    ///
    /// # Safety
    /// The first `n` bytes of [`Self::space`] have been written.
    pub unsafe fn filled(&mut self, n: usize) {
        match self.body.as_mut().filter(|b| b.need > 0) {
            Some(body) => {
                // SAFETY: the caller has written them.
                unsafe { body.bytes.advance_mut(n) };
                body.need -= n;
            }
            // SAFETY: as above.
            None => unsafe { self.buffer.advance_mut(n) },
        }
    }

    /// Copies bytes in that were read to somewhere else.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let n = space.len().min(bytes.len());
            space[..n].write_copy_of_slice(&bytes[..n]);
            // SAFETY: just written.
            unsafe { self.filled(n) };
            bytes = &bytes[n..];
        }
    }

    /// The next frame, if all of it is there.
    pub fn frame(&mut self) -> Result<Option<Arrived>, Failure> {
        if self.preface && !self.take_preface()? {
            return Ok(None);
        }
        if let Some(body) = self.body.take() {
            if body.need > 0 {
                self.body = Some(body);
                return Ok(None);
            }
            return self.whole(body.header, body.bytes).map(Some);
        }
        let Some(head) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = Header::read(*head);
        if header.length > FRAME {
            return Err(Failure::protocol(format!(
                "a frame of {} bytes, more than the {FRAME} that one may have",
                header.length
            )));
        }
        // between the parts of a message, anything else of its stream may come
        let plain = header.kind < kind::MORE
            && (self.partial.is_empty()
                || !matches!(header.kind, kind::CALL | kind::RESULT | kind::DATA)
                || !self.partial.contains_key(&header.stream));
        if plain && self.buffer.len() >= HEADER + header.length {
            self.buffer.advance(HEADER);
            return Ok(Some(Arrived {
                kind: header.kind,
                stream: header.stream,
                payload: self.buffer.split_to(header.length).freeze(),
                charged: header.length,
                state: State::Whole,
                path: None,
            }));
        }
        if plain && header.length < BIG {
            return Ok(None);
        }
        if plain {
            self.begin(header, gather(header.length), header.length);
        } else if !self.begin_part(header)? {
            return Ok(None);
        }
        self.frame()
    }

    /// Reads on into a buffer of its own.
    fn begin(&mut self, header: Header, mut bytes: BytesMut, length: usize) {
        self.buffer.advance(HEADER);
        let there = self.buffer.len().min(length);
        bytes.extend_from_slice(&self.buffer[..there]);
        self.buffer.advance(there);
        self.body = Some(Body {
            header,
            bytes,
            need: length - there,
        });
    }

    /// A frame of a long message; false where not enough of it is there yet.
    fn begin_part(&mut self, header: Header) -> Result<bool, Failure> {
        let k = header.kind & !kind::MORE;
        if !matches!(k, kind::CALL | kind::RESULT | kind::DATA) {
            return Err(Failure::protocol(format!(
                "frame {:#04x} within a message in parts",
                header.kind
            )));
        }
        if let Some(partial) = self.partial.get_mut(&header.stream) {
            if partial.kind != k {
                return Err(Failure::protocol("two unfinished messages on one stream"));
            }
            let bytes = std::mem::take(&mut partial.bytes);
            self.begin(header, bytes, header.length);
            return Ok(true);
        }
        if self.partial.len() >= UNFINISHED {
            return Err(Failure::protocol(format!(
                "more than {UNFINISHED} unfinished messages"
            )));
        }
        let payload = &self.buffer[HEADER..];
        if payload.len() < header.length.min(SHOWN) {
            return Ok(false);
        }
        let mut from = Cursor::new(&payload[..payload.len().min(header.length)]);
        let total = from.unsigned(64)?;
        let size = payload.len().min(header.length) - from.rest().len();
        let path = match k {
            kind::DATA => Some(read_path(&mut from)?),
            _ => None,
        };
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let skipped = total > self.message || self.gathered.saturating_add(total) > GATHERED;
        if !skipped {
            self.gathered += total;
        }
        let bytes = if skipped { BytesMut::new() } else { gather(total) };
        self.partial.insert(
            header.stream,
            Partial {
                kind: k,
                bytes: BytesMut::new(),
                total,
                path,
                skipped,
                told: false,
            },
        );
        // the size itself is no part of the message
        self.buffer.advance(size);
        self.buffer.as_mut()[..HEADER].copy_from_slice(&header.bytes());
        self.begin(header, bytes, header.length - size);
        Ok(true)
    }

    /// A payload that was read into a buffer of its own is all there.
    fn whole(&mut self, header: Header, bytes: BytesMut) -> Result<Arrived, Failure> {
        let mut arrived = Arrived {
            kind: header.kind & !kind::MORE,
            stream: header.stream,
            payload: Bytes::new(),
            charged: header.length,
            state: State::Whole,
            path: None,
        };
        let message = matches!(arrived.kind, kind::CALL | kind::RESULT | kind::DATA);
        let Some(partial) = self.partial.get_mut(&header.stream).filter(|_| message) else {
            arrived.payload = bytes.freeze();
            return Ok(arrived);
        };
        arrived.path.clone_from(&partial.path);
        let last = header.kind < kind::MORE;
        if partial.skipped {
            let first = !std::mem::replace(&mut partial.told, true);
            arrived.state = if first { State::TooLong } else { State::Part };
        } else if bytes.len() > partial.total || (last && bytes.len() != partial.total) {
            return Err(Failure::protocol(
                "a message is not of the size that was announced",
            ));
        } else if last {
            self.gathered -= partial.total;
            arrived.payload = bytes.freeze();
        } else {
            partial.bytes = bytes;
            arrived.state = State::Part;
        }
        if last {
            self.partial.remove(&header.stream);
        }
        Ok(arrived)
    }

    /// Whether the preface has come.
    fn take_preface(&mut self) -> Result<bool, Failure> {
        let n = self.buffer.len().min(PREFACE.len());
        if self.buffer[..n] != PREFACE[..n] {
            return Err(Failure::protocol(
                "this is no session: it does not begin with LOOP and version 1",
            ));
        }
        if n < PREFACE.len() {
            return Ok(false);
        }
        self.buffer.advance(n);
        self.preface = false;
        Ok(true)
    }
}
