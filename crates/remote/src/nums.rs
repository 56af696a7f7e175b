//! Lists of numbers: little-endian blocks on the host's side, LEB128 on the wire but for bytes and floats.

use std::borrow::Cow;

use loop_engine::Num;
use loop_wire::codec::{Cursor, Invalid, canonical32, canonical64, put_signed, put_unsigned};

/// Appends one number from its bits, as [`loop_engine::Domain::num`] takes them.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, kind: Num, bits: u64) {
    match kind {
        Num::U8 | Num::S8 => out.push(bits as u8),
        Num::U16 | Num::U32 | Num::U64 => put_unsigned(out, bits),
        Num::S16 | Num::S32 | Num::S64 => put_signed(out, bits as i64),
        Num::F32 => out.extend_from_slice(&canonical32(f32::from_bits(bits as u32)).to_le_bytes()),
        Num::F64 => out.extend_from_slice(&canonical64(f64::from_bits(bits)).to_le_bytes()),
    }
}

/// Reads one number; its bits, zero- or sign-extended.
#[inline]
pub(crate) fn take(from: &mut Cursor<'_>, kind: Num) -> Result<u64, Invalid> {
    Ok(match kind {
        Num::U8 => from.byte()?.into(),
        Num::S8 => from.byte()? as i8 as i64 as u64,
        Num::U16 => from.unsigned(16)?,
        Num::U32 => from.unsigned(32)?,
        Num::U64 => from.unsigned(64)?,
        Num::S16 => from.signed(16)? as u64,
        Num::S32 => from.signed(32)? as u64,
        Num::S64 => from.signed(64)? as u64,
        Num::F32 => canonical32(f32::from_le_bytes(from.array()?)).into(),
        Num::F64 => canonical64(f64::from_le_bytes(from.array()?)),
    })
}

/// Appends the numbers of a block with their count.
pub(crate) fn put_list(out: &mut Vec<u8>, kind: Num, raw: &[u8]) {
    put_unsigned(out, (raw.len() / kind.size()) as u64);
    out.reserve(match kind {
        Num::U8 | Num::S8 | Num::F32 | Num::F64 => raw.len(),
        _ => raw.len() / kind.size(),
    });
    macro_rules! each {
        ($t:ty, $put:expr) => {
            raw.as_chunks()
                .0
                .iter()
                .for_each(|b| $put(<$t>::from_le_bytes(*b)))
        };
    }
    match kind {
        Num::U8 | Num::S8 => out.extend_from_slice(raw),
        Num::F32 | Num::F64 => out.extend_from_slice(&canonical(kind, raw)),
        Num::U16 => each!(u16, |v| put_unsigned(out, u64::from(v))),
        Num::U32 => each!(u32, |v| put_unsigned(out, u64::from(v))),
        Num::U64 => each!(u64, |v| put_unsigned(out, v)),
        Num::S16 => each!(i16, |v| put_signed(out, i64::from(v))),
        Num::S32 => each!(i32, |v| put_signed(out, i64::from(v))),
        Num::S64 => each!(i64, |v| put_signed(out, v)),
    }
}

/// Reads `n` numbers into a block: as it is where the wire has one already.
pub(crate) fn take_items<'b>(from: &mut Cursor<'b>, kind: Num, n: usize) -> Result<Cow<'b, [u8]>, Invalid> {
    match kind {
        Num::U8 | Num::S8 => return from.take(n).map(Cow::Borrowed),
        Num::F32 | Num::F64 => {
            let size = n.checked_mul(kind.size()).ok_or(Invalid::Truncated)?;
            return Ok(canonical(kind, from.take(size)?));
        }
        _ => {}
    }
    if n > from.rest().len() {
        return Err(Invalid::Truncated);
    }
    let mut raw = Vec::with_capacity(n * kind.size());
    macro_rules! each {
        ($t:ty, $($get:tt)*) => {
            for _ in 0..n {
                raw.extend_from_slice(&(from.$($get)*? as $t).to_le_bytes());
            }
        };
    }
    match kind {
        Num::U16 => each!(u16, unsigned(16)),
        Num::U32 => each!(u32, unsigned(32)),
        Num::U64 => each!(u64, unsigned(64)),
        Num::S16 => each!(i16, signed(16)),
        Num::S32 => each!(i32, signed(32)),
        _ => each!(i64, signed(64)),
    }
    Ok(Cow::Owned(raw))
}

/// Skips `n` numbers.
pub(crate) fn skip_items(from: &mut Cursor<'_>, kind: Num, n: usize) -> Result<(), Invalid> {
    match kind {
        Num::U8 | Num::S8 | Num::F32 | Num::F64 => {
            let size = n.checked_mul(kind.size()).ok_or(Invalid::Truncated)?;
            from.take(size).map(|_| ())
        }
        _ if n > from.rest().len() => Err(Invalid::Truncated),
        _ => (0..n).try_for_each(|_| take(from, kind).map(|_| ())),
    }
}

/// A block of floats without any but the canonical NaN; copied only where there is another.
fn canonical(kind: Num, raw: &[u8]) -> Cow<'_, [u8]> {
    macro_rules! floats {
        ($t:ty, $canonical:path) => {{
            let odd = |b: &[u8; size_of::<$t>()]| <$t>::from_le_bytes(*b).is_nan();
            if !raw.as_chunks().0.iter().any(odd) {
                return Cow::Borrowed(raw);
            }
            let mut made = raw.to_vec();
            for b in made.as_chunks_mut().0 {
                *b = $canonical(<$t>::from_le_bytes(*b)).to_le_bytes();
            }
            Cow::Owned(made)
        }};
    }
    match kind {
        Num::F32 => floats!(f32, canonical32),
        _ => floats!(f64, canonical64),
    }
}
