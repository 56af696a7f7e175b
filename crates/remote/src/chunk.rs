//! What travels on the paths of streams and futures.

use bytes::Bytes;
use loop_engine::{Chunk, Kind, Num, TyRef};
use loop_wire::codec::{Cursor, Invalid, ZERO_SIZED, put_unsigned};
use wasmtime::{Error, Result, bail};

use crate::check::{BadBytes, is_empty};
use crate::encoded::{Encoded, Wire};
use crate::incoming::{nothing, one, split};
use crate::nums;
use crate::outgoing::Message;
use crate::peer::Peer;

/// A chunk of a stream as a `list<T>`. The paths of what follows begin with the number of an item, the first of which
/// is `first`; the path of the stream comes before them.
///
/// Errors where the peer cannot take a resource.
pub fn write_chunk(
    payload: Option<&TyRef>,
    chunk: Chunk<Encoded>,
    first: u32,
    peer: &dyn Peer,
) -> Result<Message> {
    let mut made = Message::default();
    match (chunk, payload.map(|t| &t.kind)) {
        (Chunk::Raw(raw), Some(Kind::Num(n))) => nums::put_list(&mut made.bytes, *n, (*raw).as_ref()),
        (Chunk::Units(n), None) => put_unsigned(&mut made.bytes, n as u64),
        (Chunk::Values(values), Some(_)) => {
            put_unsigned(&mut made.bytes, values.len() as u64);
            for (i, value) in values.into_iter().enumerate() {
                let item = value.finish(peer)?;
                made.bytes.extend_from_slice(&item.bytes);
                made.pending.extend(item.pending.into_iter().map(|mut p| {
                    p.path.insert(0, first.wrapping_add(i as u32));
                    p
                }));
            }
        }
        _ => bail!("a stream was fed something else"),
    }
    Ok(made)
}

/// A chunk of the stream at `path`, whose first item has the number `first`.
///
/// Errors with a [`BadBytes`], or with the peer's error.
pub fn read_chunk(
    payload: Option<&TyRef>,
    bytes: &Bytes,
    path: &[u32],
    first: u32,
    peer: &dyn Peer,
) -> Result<Chunk<Encoded>> {
    let bad = |at: usize, cause| {
        Error::new(BadBytes {
            cause,
            offset: at,
            path: String::new(),
            expected: payload.map_or("a count".into(), |t| format!("list<{}>", t.wit())),
        })
    };
    let mut from = Cursor::new(bytes);
    let n = from.unsigned(32).map_err(|e| bad(0, e))? as usize;
    let start = bytes.len() - from.rest().len();
    let Some(t) = payload else {
        from.end().map_err(|e| bad(start, e))?;
        return Ok(Chunk::Units(n));
    };
    if let Kind::Num(kind) = t.kind {
        let block: Box<dyn AsRef<[u8]> + Send> = match kind {
            Num::U8 | Num::S8 if n <= from.rest().len() => {
                from.take(n).map_err(|e| bad(start, e))?;
                Box::new(bytes.slice(start..start + n))
            }
            _ => {
                let items = nums::take_items(&mut from, kind, n).map_err(|e| bad(start, e))?;
                Box::new(items.into_owned())
            }
        };
        from.end().map_err(|e| bad(bytes.len() - from.rest().len(), e))?;
        return Ok(Chunk::Raw(block));
    }
    let most = if is_empty(t) {
        ZERO_SIZED
    } else {
        from.rest().len()
    };
    if n > most {
        return Err(bad(
            start,
            if is_empty(t) {
                Invalid::Limit("a list's length")
            } else {
                Invalid::Truncated
            },
        ));
    }
    let types = (0..n as u32).map(|i| (Some(first.wrapping_add(i)), &**t));
    split(types, bytes, start, path, peer).map(Chunk::Values)
}

/// The value of the future at `path`.
///
/// Errors with a [`BadBytes`], or with the peer's error.
pub fn read_settled(payload: Option<&TyRef>, bytes: &Bytes, path: &[u32], peer: &dyn Peer) -> Result<Wire> {
    match payload {
        Some(t) => one(t, bytes, path, peer),
        None if bytes.is_empty() => Ok(nothing()),
        None => Err(Error::new(BadBytes::trailing(0))),
    }
}
