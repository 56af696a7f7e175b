//! What the two ends of a stream say to each other over NATS. `docs/wire.md` is the specification.

use bytes::{Buf, Bytes};

/// The version of what follows.
const VERSION: u8 = 1;
/// Bytes before those of DATA.
pub const HEAD: usize = 9;

/// A message. Positions count the bytes of one direction from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the subject of a listener, with the opener's inbox to reply to. The acceptor may send up to that position.
    Open(u64),
    /// The answer, with the acceptor's inbox to reply to. The opener may send up to that position.
    Accept(u64),
    /// The other answer, and why.
    Refuse(String),
    /// Bytes, and the position of the first.
    Data(u64, Bytes),
    /// More may be sent, up to that position.
    Credit(u64),
    /// No more bytes follow the position.
    End(u64),
    /// The stream is over in both directions.
    Reset(String),
    /// Still there; the position that was sent up to.
    Beat(u64),
}

impl Message {
    /// The bytes; DATA is written by [`data`] where it is to be sent.
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, position) = match self {
            Message::Open(credit) => return [&[1, VERSION][..], &credit.to_le_bytes()].concat(),
            Message::Accept(credit) => (2, credit),
            Message::Refuse(why) => return [&[3], shown(why)].concat(),
            Message::Data(position, bytes) => return [&data(*position)[..], bytes].concat(),
            Message::Credit(position) => (0x11, position),
            Message::End(position) => (0x12, position),
            Message::Reset(why) => return [&[0x13], shown(why)].concat(),
            Message::Beat(position) => (0x14, position),
        };
        [&[kind][..], &position.to_le_bytes()].concat()
    }

    /// Reads one; none where it is no message of this version.
    pub fn read(mut from: Bytes) -> Option<Self> {
        let kind = from.try_get_u8().ok()?;
        let text = |from: &[u8]| String::from_utf8_lossy(&from[..from.len().min(256)]).into_owned();
        match kind {
            3 => return Some(Message::Refuse(text(&from))),
            0x13 => return Some(Message::Reset(text(&from))),
            1 if from.try_get_u8().ok()? != VERSION => return None,
            _ => {}
        }
        let position = from.try_get_u64_le().ok()?;
        match kind {
            0x10 => return Some(Message::Data(position, from)),
            _ if !from.is_empty() => return None,
            _ => {}
        }
        match kind {
            1 => Some(Message::Open(position)),
            2 => Some(Message::Accept(position)),
            0x11 => Some(Message::Credit(position)),
            0x12 => Some(Message::End(position)),
            0x14 => Some(Message::Beat(position)),
            _ => None,
        }
    }
}

/// What comes before the bytes of DATA.
pub fn data(position: u64) -> [u8; HEAD] {
    let mut head = [0x10; HEAD];
    head[1..].copy_from_slice(&position.to_le_bytes());
    head
}

/// As much of a text as one message takes.
fn shown(why: &str) -> &[u8] {
    &why.as_bytes()[..why.len().min(256)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_of_the_specification() {
        for (message, bytes) in [
            (Message::Open(1 << 20), "01010000100000000000"),
            (Message::Accept(1 << 20), "020000100000000000"),
            (Message::Refuse("full".into()), "0366756c6c"),
            (
                Message::Data(258, Bytes::from_static(b"abc")),
                "100201000000000000616263",
            ),
            (Message::Credit(1_572_864), "110000180000000000"),
            (Message::End(261), "120501000000000000"),
            (Message::Reset("gone".into()), "13676f6e65"),
            (Message::Beat(261), "140501000000000000"),
        ] {
            let hex: String = message.bytes().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, bytes);
            assert_eq!(Message::read(message.bytes().into()), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [
            &b""[..],
            &[1],
            &[1, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x10, 1],
            &[0x11; 10],
            &[9; 9],
        ] {
            assert_eq!(Message::read(Bytes::copy_from_slice(bytes)), None);
        }
    }
}
