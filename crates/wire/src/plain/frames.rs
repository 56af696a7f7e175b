//! The header and frames of an invocation in plain mode, read under bounds.

use std::mem::MaybeUninit;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{Cursor, Decode, Invalid, put_bytes, put_unsigned};
use crate::failure::Failure;

/// Room that is made for what a frame claims before it has come.
const CLAIMED: usize = (1 << 20) + (64 << 10);
/// Bytes of the name of an instance or a function.
const NAME: usize = 1 << 10;
/// Steps of a path.
const STEPS: u64 = 32;

/// Whom a call is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub instance: String,
    pub function: String,
}

/// Bytes of the root, where `path` is empty, or of a stream or future.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub path: Box<[u32]>,
    pub data: Bytes,
}

pub(super) fn put_header(out: &mut Vec<u8>, instance: &str, function: &str) {
    out.push(0);
    put_bytes(out, instance.as_bytes());
    put_bytes(out, function.as_bytes());
}

/// What comes before the data of a frame.
pub(super) fn put_frame(out: &mut Vec<u8>, path: &[u32], length: usize) {
    put_unsigned(out, path.len() as u64);
    path.iter().for_each(|step| put_unsigned(out, u64::from(*step)));
    put_unsigned(out, length as u64);
}

/// Bytes that were read of a connection.
pub(super) struct Reader {
    buffer: BytesMut,
    /// The frame whose data has not all come.
    begun: Option<(Box<[u32]>, usize)>,
    /// Bytes of data that a frame may have.
    most: u64,
}

impl Reader {
    pub fn new(most: u64) -> Self {
        Reader {
            buffer: BytesMut::new(),
            begun: None,
            most,
        }
    }

    /// Where the next bytes are to be read to; never empty.
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        let missing = match &self.begun {
            Some((_, length)) => length.saturating_sub(self.buffer.len()),
            None => 0,
        };
        // no more is allocated by what is only claimed; then it doubles as it comes
        let room = missing.min(CLAIMED.max(self.buffer.len()));
        if self.buffer.capacity() - self.buffer.len() < room.max(1024) {
            self.buffer.reserve(room.max(4096));
        }
        self.buffer.spare_capacity_mut()
    }

    /// Takes note that bytes were read into [`Self::space`].
    ///
    /// # Safety
    /// The first `n` bytes of [`Self::space`] have been written.
    pub unsafe fn filled(&mut self, n: usize) {
        // SAFETY: the caller has written them.
        unsafe { self.buffer.advance_mut(n) };
    }

    /// Whether the bytes end within something.
    pub fn is_within(&self) -> bool {
        self.begun.is_some() || !self.buffer.is_empty()
    }

    /// The header, if all of it is there.
    pub fn header(&mut self) -> Result<Option<Header>, Failure> {
        let mut from = Cursor::new(&self.buffer);
        let header = match read_header(&mut from) {
            Ok(header) => header,
            Err(Bad::Short) => return Ok(None),
            Err(Bad::Wrong(failure)) => return Err(failure),
        };
        let read = self.buffer.len() - from.rest().len();
        self.buffer.advance(read);
        Ok(Some(header))
    }

    /// The next frame, if all of it is there.
    pub fn frame(&mut self) -> Result<Option<Frame>, Failure> {
        if self.begun.is_none() {
            let mut from = Cursor::new(&self.buffer);
            let (path, length) = match read_head(&mut from) {
                Ok(head) => head,
                Err(Bad::Short) => return Ok(None),
                Err(Bad::Wrong(failure)) => return Err(failure),
            };
            if length > self.most {
                let most = self.most;
                let message = format!("a frame of {length} bytes, more than the {most} that one may have");
                return Err(Failure::protocol(message));
            }
            let read = self.buffer.len() - from.rest().len();
            self.buffer.advance(read);
            self.begun = Some((path, length as usize));
        }
        match self.begun.take() {
            Some((path, length)) if length <= self.buffer.len() => {
                let data = self.buffer.split_to(length).freeze();
                Ok(Some(Frame { path, data }))
            }
            begun => {
                self.begun = begun;
                Ok(None)
            }
        }
    }
}

enum Bad {
    /// More is to come.
    Short,
    Wrong(Failure),
}

impl From<Invalid> for Bad {
    fn from(e: Invalid) -> Self {
        match e {
            Invalid::Truncated => Bad::Short,
            e => Bad::Wrong(Failure::protocol(format!("what came cannot be read: {e}"))),
        }
    }
}

fn read_header(from: &mut Cursor<'_>) -> Result<Header, Bad> {
    match from.byte()? {
        0 => {}
        version => {
            let message = format!("framing version {version:#04x} is not known");
            return Err(Bad::Wrong(Failure::protocol(message)));
        }
    }
    Ok(Header {
        instance: read_name(from)?,
        function: read_name(from)?,
    })
}

fn read_name(from: &mut Cursor<'_>) -> Result<String, Bad> {
    let length = from.unsigned(32)? as usize;
    if length > NAME {
        let message = format!("a name of {length} bytes, more than the {NAME} that one may have");
        return Err(Bad::Wrong(Failure::protocol(message)));
    }
    let name = std::str::from_utf8(from.take(length)?).map_err(|_| Invalid::Utf8)?;
    Ok(name.into())
}

fn read_head(from: &mut Cursor<'_>) -> Result<(Box<[u32]>, u64), Bad> {
    let steps = from.unsigned(32)?;
    if steps > STEPS {
        let message = format!("a path of {steps} steps, more than the {STEPS} that one may have");
        return Err(Bad::Wrong(Failure::protocol(message)));
    }
    let path: Result<Box<[u32]>, Invalid> = (0..steps).map(|_| u32::decode(from)).collect();
    Ok((path?, from.unsigned(32)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(reader: &mut Reader, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = reader.space();
            let n = space.len().min(bytes.len());
            space[..n].write_copy_of_slice(&bytes[..n]);
            // SAFETY: just written.
            unsafe { reader.filled(n) };
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn however_bytes_come_the_frames_are_the_same() {
        let mut bytes = vec![];
        put_header(&mut bytes, "a:b/c@0.1.0", "get");
        put_frame(&mut bytes, &[], 2);
        bytes.extend_from_slice(b"xy");
        put_frame(&mut bytes, &[0, 300], 200_000);
        bytes.resize(bytes.len() + 200_000, 7);
        put_frame(&mut bytes, &[1], 0);
        for step in [1, 7, 70_000, usize::MAX] {
            let (mut reader, mut header, mut frames) = (Reader::new(1 << 20), None, vec![]);
            for part in bytes.chunks(step) {
                feed(&mut reader, part);
                if header.is_none() {
                    header = reader.header().unwrap();
                }
                while header.is_some() {
                    match reader.frame().unwrap() {
                        Some(frame) => frames.push((frame.path.to_vec(), frame.data.len())),
                        None => break,
                    }
                }
            }
            assert_eq!(header.unwrap().function, "get");
            assert_eq!(frames, [(vec![], 2), (vec![0, 300], 200_000), (vec![1], 0)]);
            assert!(!reader.is_within());
        }
    }

    #[test]
    fn what_is_claimed_allocates_little() {
        let mut reader = Reader::new(64 << 20);
        feed(&mut reader, &[0, 0x80, 0x80, 0x80, 0x20]);
        assert_eq!(reader.frame().unwrap(), None);
        assert!(reader.space().len() < 2 << 20);
    }

    #[test]
    fn bounds() {
        let refusal = |bytes: &[u8], header: bool| {
            let mut reader = Reader::new(1000);
            feed(&mut reader, bytes);
            let failure = match header {
                true => reader.header().unwrap_err(),
                false => reader.frame().unwrap_err(),
            };
            failure.message
        };
        for (bytes, header, why) in [
            (&[1, 0, 0][..], true, "framing version 0x01 is not known"),
            (&[0, 0x81, 0x08], true, "a name of 1025 bytes"),
            (&[0, 0xff, 0xff, 0xff, 0xff, 0x1f], true, "does not fit its type"),
            (&[0, 2, 0xff, 0xfe], true, "UTF-8"),
            (&[33], false, "a path of 33 steps"),
            (&[0, 0xe9, 0x07], false, "a frame of 1001 bytes"),
        ] {
            let said = refusal(bytes, header);
            assert!(said.contains(why), "{said}");
        }
    }
}
