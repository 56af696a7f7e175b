//! From bytes to frames, and from the frames of a long message to the message.

use std::mem::MaybeUninit;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::core::{IdMap, gather, read_path};
use crate::arena::{Descriptor, View};
use crate::codec::Cursor;
use crate::failure::Failure;
use crate::frame::{BIG, FRAME, HEADER, Header, PREFACE, kind};

/// Bytes that are read at once, where nothing longer is on its way.
const BLOCK: usize = 64 << 10;
/// The same between the parts of a message: the next one is to be read to where it belongs, and not copied there.
const BETWEEN: usize = 4 << 10;
/// What the first frame of a long message must show before the rest is read: its size, and the path of DATA.
const SHOWN: usize = 10 + 1 + 32 * 5;
/// Bytes of a frame that tells of an arena: what comes before a payload is never longer.
const TOLD: usize = 1 << 10;
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
    /// It was in the peer's arena, and was copied out of it.
    pub placed: bool,
}

impl Arrived {
    /// All of a frame.
    fn new(header: Header, payload: Bytes) -> Self {
        Arrived {
            kind: header.kind & !kind::MORE,
            stream: header.stream,
            payload,
            charged: header.length,
            state: State::Whole,
            path: None,
            placed: false,
        }
    }
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
    /// What came along with the bytes, until the ARENA that it is for.
    descriptor: Option<Descriptor>,
    /// The peer's arena.
    view: Option<View>,
    /// There were descriptors that nobody asked for.
    flooded: bool,
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
            descriptor: None,
            view: None,
            flooded: false,
        }
    }

    /// A descriptor came along with the bytes that are taken note of next. A peer has one arena, and no use for more.
    pub fn passed(&mut self, descriptor: Descriptor) {
        self.flooded |= self.view.is_some() || self.descriptor.is_some();
        if !self.flooded {
            self.descriptor = Some(descriptor);
        }
    }

    /// More descriptors came along than could be taken.
    pub fn flooded(&mut self) {
        self.flooded = true;
    }

    /// Where the next bytes are to be read to; never empty.
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        if let Some(body) = self.body.as_mut().filter(|b| b.need > 0) {
            let need = body.need;
            body.bytes.reserve(need);
            return &mut body.bytes.spare_capacity_mut()[..need];
        }
        if self.buffer.capacity() - self.buffer.len() < BETWEEN {
            self.buffer.reserve(BLOCK);
        }
        let space = self.buffer.spare_capacity_mut();
        let most = if self.partial.is_empty() { BLOCK } else { BETWEEN };
        let most = most.min(space.len());
        &mut space[..most]
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
        if self.flooded {
            return Err(Failure::protocol("descriptors that nobody asked for"));
        }
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
        if matches!(header.kind, kind::ARENA | kind::PLACED) {
            if header.length > TOLD {
                return Err(Failure::protocol("what tells of an arena is too long"));
            }
            return match self.buffer.len() >= HEADER + header.length {
                true => self.shared(header).map(Some),
                false => Ok(None),
            };
        }
        // between the parts of a message, anything else of its stream may come
        let plain = header.kind < kind::MORE
            && (self.partial.is_empty()
                || !matches!(header.kind, kind::CALL | kind::RESULT | kind::DATA)
                || !self.partial.contains_key(&header.stream));
        if plain && self.buffer.len() >= HEADER + header.length {
            self.buffer.advance(HEADER);
            let payload = self.buffer.split_to(header.length).freeze();
            return Ok(Some(self.single(header, payload)));
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

    /// A message in one frame, which may be longer than messages may be. A chunk's credit bounds it.
    fn single(&self, header: Header, payload: Bytes) -> Arrived {
        match header.kind {
            kind::CALL | kind::RESULT if header.length > self.message => Arrived {
                state: State::TooLong,
                ..Arrived::new(header, Bytes::new())
            },
            _ => Arrived::new(header, payload),
        }
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
        if let Some(bytes) = self.unfinished(k, header.stream)? {
            self.begin(header, bytes, header.length);
            return Ok(true);
        }
        let mut shown = [0; SHOWN];
        let shown = &mut shown[..header.length.min(SHOWN)];
        match self.buffer.get(HEADER..HEADER + shown.len()) {
            Some(there) => shown.copy_from_slice(there),
            None => return Ok(false),
        }
        let (size, total) = self.begin_message(k, header.stream, shown)?;
        // the size itself is no part of the message
        self.buffer.advance(size);
        self.buffer.as_mut()[..HEADER].copy_from_slice(&header.bytes());
        self.begin(header, gather(total), header.length - size);
        Ok(true)
    }

    /// The bytes so far of the message that goes on in a frame of that kind, if it does.
    fn unfinished(&mut self, k: u8, stream: u32) -> Result<Option<BytesMut>, Failure> {
        match self.partial.get_mut(&stream) {
            Some(partial) if partial.kind != k => {
                Err(Failure::protocol("two unfinished messages on one stream"))
            }
            Some(partial) => Ok(Some(std::mem::take(&mut partial.bytes))),
            None => Ok(None),
        }
    }

    /// A long message begins with a frame of that payload, or its first bytes: how many of these say its size, and the
    /// size that is to be gathered.
    fn begin_message(&mut self, k: u8, stream: u32, payload: &[u8]) -> Result<(usize, usize), Failure> {
        if self.partial.len() >= UNFINISHED {
            return Err(Failure::protocol(format!(
                "more than {UNFINISHED} unfinished messages"
            )));
        }
        let mut from = Cursor::new(payload);
        let total = from.unsigned(64)?;
        let size = payload.len() - from.rest().len();
        let path = match k {
            kind::DATA => Some(read_path(&mut from)?),
            _ => None,
        };
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let skipped = total > self.message || self.gathered.saturating_add(total) > GATHERED;
        if !skipped {
            self.gathered += total;
        }
        self.partial.insert(
            stream,
            Partial {
                kind: k,
                bytes: BytesMut::new(),
                total,
                path,
                skipped,
                told: false,
            },
        );
        Ok((size, if skipped { 0 } else { total }))
    }

    /// ARENA or PLACED, all of which is there.
    fn shared(&mut self, header: Header) -> Result<Arrived, Failure> {
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(header.length).freeze();
        let mut from = Cursor::new(&payload);
        if header.kind == kind::ARENA {
            let size = from.unsigned(64)?;
            from.end()?;
            let Some(descriptor) = self.descriptor.take() else {
                return Err(Failure::protocol("an arena without its descriptor"));
            };
            self.view = Some(View::open(&descriptor, size)?);
            return Ok(Arrived::new(header, Bytes::new()));
        }
        let (k, offset, length) = (from.byte()?, from.unsigned(32)?, from.unsigned(32)?);
        let mut arrived = self.placed(k, header.stream, from.rest(), offset as usize, length as usize)?;
        arrived.placed = true;
        Ok(arrived)
    }

    /// A frame whose payload is `head` and, after it, what is in the peer's arena.
    fn placed(
        &mut self,
        k: u8,
        stream: u32,
        mut head: &[u8],
        offset: usize,
        length: usize,
    ) -> Result<Arrived, Failure> {
        let message = k & !kind::MORE;
        if !matches!(message, kind::CALL | kind::RESULT | kind::DATA) {
            return Err(Failure::protocol(format!("frame {k:#04x} in an arena")));
        }
        let header = Header {
            length: head.len() + length,
            kind: k,
            stream,
        };
        let mut bytes = match self.unfinished(message, stream)? {
            Some(bytes) => bytes,
            None if k >= kind::MORE => {
                let (size, total) = self.begin_message(message, stream, head)?;
                head = &head[size..];
                BytesMut::with_capacity(total)
            }
            None if header.length > self.message => {
                return Ok(Arrived {
                    state: State::TooLong,
                    ..Arrived::new(header, Bytes::new())
                });
            }
            None => BytesMut::with_capacity(header.length),
        };
        let Some(view) = self.view.as_ref().filter(|v| v.holds(offset, length)) else {
            return Err(Failure::protocol("what is placed is not within an arena"));
        };
        if self.partial.get(&stream).is_none_or(|p| !p.skipped) {
            bytes.extend_from_slice(head);
            bytes.reserve(length);
            view.copy(offset, &mut bytes.spare_capacity_mut()[..length]);
            // SAFETY: just copied.
            unsafe { bytes.advance_mut(length) };
        }
        self.whole(header, bytes)
    }

    /// A payload that was read into a buffer of its own is all there.
    fn whole(&mut self, header: Header, bytes: BytesMut) -> Result<Arrived, Failure> {
        let mut arrived = Arrived::new(header, Bytes::new());
        let message = matches!(arrived.kind, kind::CALL | kind::RESULT | kind::DATA);
        let Some(partial) = self.partial.get_mut(&header.stream).filter(|_| message) else {
            return Ok(self.single(header, bytes.freeze()));
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
