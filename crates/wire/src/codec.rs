//! The bytes of values: the primitives that every walker over types stands on, and traits for Rust's own types.
//!
//! The encoding is the component model's for value definitions with wRPC's additions; `docs/wire.md` has the table.

use std::fmt;

/// Why bytes are not the value that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// They end before the value does.
    Truncated,
    /// A number does not fit its type.
    Overflow,
    /// A number takes more bytes than its type may.
    TooLong,
    /// Text is not UTF-8.
    Utf8,
    /// A byte is none of the values that its type has.
    Value,
    /// There is no case of that number.
    Discriminant,
    /// Bytes are left after the value.
    Trailing,
    /// A bound of the decoder is passed.
    Limit(&'static str),
}

impl Invalid {
    /// The word that names the cause: `truncated`, `overflow`, `too-long`, `invalid-utf8`, …
    pub const fn word(self) -> &'static str {
        match self {
            Invalid::Truncated => "truncated",
            Invalid::Overflow => "overflow",
            Invalid::TooLong => "too-long",
            Invalid::Utf8 => "invalid-utf8",
            Invalid::Value => "invalid-value",
            Invalid::Discriminant => "invalid-discriminant",
            Invalid::Trailing => "trailing-bytes",
            Invalid::Limit(_) => "limit",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::Truncated => "the bytes end before the value does",
            Invalid::Overflow => "a number does not fit its type",
            Invalid::TooLong => "a number takes more bytes than its type may",
            Invalid::Utf8 => "text is not UTF-8",
            Invalid::Value => "a byte is none of the values of its type",
            Invalid::Discriminant => "there is no case of that number",
            Invalid::Trailing => "bytes are left after the value",
            Invalid::Limit(what) => return write!(f, "{what} is beyond the limit"),
        })
    }
}

impl std::error::Error for Invalid {}

/// Appends an unsigned number as LEB128.
#[inline]
pub fn put_unsigned(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed number as LEB128.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, mut v: i64) {
    loop {
        let low = v as u8 & 0x7f;
        v >>= 7;
        let sign = low & 0x40 != 0;
        if (v == 0 && !sign) || (v == -1 && sign) {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Appends bytes with their count.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, v: &[u8]) {
    put_unsigned(out, v.len() as u64);
    out.extend_from_slice(v);
}

/// Bytes being read from the front.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// The bytes not read yet.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Errors where bytes are left.
    pub fn end(&self) -> Result<(), Invalid> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Invalid::Trailing)
        }
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Invalid> {
        let (&b, rest) = self.rest.split_first().ok_or(Invalid::Truncated)?;
        self.rest = rest;
        Ok(b)
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Invalid::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Invalid::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned number of at most `bits` (1 to 64).
    #[inline]
    pub fn unsigned(&mut self, bits: u32) -> Result<u64, Invalid> {
        match self.rest {
            // by far the most are small
            [b, rest @ ..] if *b < 0x80 && bits > 6 => {
                self.rest = rest;
                Ok(u64::from(*b))
            }
            _ => self.long_unsigned(bits),
        }
    }

    fn long_unsigned(&mut self, bits: u32) -> Result<u64, Invalid> {
        let most = bits.div_ceil(7);
        let mut v = 0u64;
        for i in 0..most {
            let b = self.byte()?;
            let low = u64::from(b & 0x7f);
            let shift = 7 * i;
            // the last byte may hold more than is left of the type
            if shift + 7 > bits && low >> (bits - shift) != 0 {
                return Err(Invalid::Overflow);
            }
            v |= low << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Invalid::TooLong)
    }

    /// A signed number of at most `bits` (8 to 64).
    #[inline]
    pub fn signed(&mut self, bits: u32) -> Result<i64, Invalid> {
        let most = bits.div_ceil(7);
        let mut v = 0i64;
        for i in 0..most {
            let b = self.byte()?;
            let shift = 7 * i;
            if shift + 7 > bits {
                // what is beyond the type must repeat its sign
                let beyond = ((b << 1) as i8 >> 1) >> (bits - shift - 1);
                if b < 0x80 && beyond != 0 && beyond != -1 {
                    return Err(Invalid::Overflow);
                }
            }
            v |= i64::from(b & 0x7f) << shift;
            if b < 0x80 {
                let used = shift + 7;
                return Ok(if used < 64 && b & 0x40 != 0 {
                    v | -1 << used
                } else {
                    v
                });
            }
        }
        Err(Invalid::TooLong)
    }

    /// Bytes with their count.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Invalid> {
        let n = self.unsigned(32)?;
        self.take(n as usize)
    }

    #[inline]
    pub fn string(&mut self) -> Result<&'a str, Invalid> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Invalid::Utf8)
    }

    pub fn bool(&mut self) -> Result<bool, Invalid> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Invalid::Value),
        }
    }

    pub fn char(&mut self) -> Result<char, Invalid> {
        let len = match self.rest.first().ok_or(Invalid::Truncated)? {
            0..0x80 => 1,
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => return Err(Invalid::Utf8),
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Invalid::Utf8)?;
        text.chars().next().ok_or(Invalid::Utf8)
    }

    /// The number of a case, below `cases`.
    #[inline]
    pub fn case(&mut self, cases: usize) -> Result<usize, Invalid> {
        let i = self.unsigned(32)? as usize;
        if i < cases {
            Ok(i)
        } else {
            Err(Invalid::Discriminant)
        }
    }

    /// How many items follow, each of `least` bytes or more; with `least` of 0, at most `most`.
    ///
    /// Nothing that is allocated by this count can be larger than what the bytes pay for.
    #[inline]
    pub fn count(&mut self, least: usize, most: usize) -> Result<usize, Invalid> {
        let n = self.unsigned(32)? as usize;
        if least == 0 {
            return if n <= most {
                Ok(n)
            } else {
                Err(Invalid::Limit("a list's length"))
            };
        }
        match n.checked_mul(least) {
            Some(bytes) if bytes <= self.rest.len() => Ok(n),
            _ => Err(Invalid::Truncated),
        }
    }
}

/// A Rust type that is written as the WIT type of the same shape.
pub trait Encode {
    fn encode(&self, out: &mut Vec<u8>);

    /// The items of a list, without their count.
    fn encode_items(items: &[Self], out: &mut Vec<u8>)
    where
        Self: Sized,
    {
        for item in items {
            item.encode(out);
        }
    }
}

/// A Rust type that is read as the WIT type of the same shape.
pub trait Decode: Sized {
    /// Bytes that every value takes at least.
    const LEAST: usize = 1;

    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid>;

    fn decode_items(n: usize, from: &mut Cursor<'_>) -> Result<Vec<Self>, Invalid> {
        // the count was checked against the bytes, which a value of many small parts may still outgrow
        let mut items = Vec::with_capacity(n.min(1 << 12));
        for _ in 0..n {
            items.push(Self::decode(from)?);
        }
        Ok(items)
    }
}

/// Reads exactly one value.
pub fn decode<T: Decode>(bytes: &[u8]) -> Result<T, Invalid> {
    let mut from = Cursor::new(bytes);
    let v = T::decode(&mut from)?;
    from.end()?;
    Ok(v)
}

/// The bytes of one value.
pub fn encode<T: Encode + ?Sized>(v: &T) -> Vec<u8> {
    let mut out = Vec::new();
    v.encode(&mut out);
    out
}

macro_rules! integers {
    ($($t:ident $put:ident $get:ident $wide:ident;)*) => { $(
        impl Encode for $t {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $put(out, $wide::from(*self));
            }
        }
        impl Decode for $t {
            #[inline]
            fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
                Ok(from.$get($t::BITS)? as $t)
            }
        }
    )* };
}
integers! {
    u16 put_unsigned unsigned u64;
    u32 put_unsigned unsigned u64;
    u64 put_unsigned unsigned u64;
    i16 put_signed signed i64;
    i32 put_signed signed i64;
    i64 put_signed signed i64;
}

impl Encode for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn encode_items(items: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
}

impl Decode for u8 {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        from.byte()
    }
    fn decode_items(n: usize, from: &mut Cursor<'_>) -> Result<Vec<u8>, Invalid> {
        from.take(n).map(<[u8]>::to_vec)
    }
}

impl Encode for i8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for i8 {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        from.byte().map(|b| b as i8)
    }
}

/// The bits of a float as they are written: every NaN is the canonical one.
pub fn canonical32(v: f32) -> u32 {
    if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }
}

/// The same for 64 bits.
pub fn canonical64(v: f64) -> u64 {
    if v.is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        v.to_bits()
    }
}

impl Encode for f32 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&canonical32(*self).to_le_bytes());
    }
}

impl Decode for f32 {
    const LEAST: usize = 4;
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let bits = u32::from_le_bytes(from.array()?);
        Ok(f32::from_bits(canonical32(f32::from_bits(bits))))
    }
}

impl Encode for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&canonical64(*self).to_le_bytes());
    }
}

impl Decode for f64 {
    const LEAST: usize = 8;
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let bits = u64::from_le_bytes(from.array()?);
        Ok(f64::from_bits(canonical64(f64::from_bits(bits))))
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        from.bool()
    }
}

impl Encode for char {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl Decode for char {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        from.char()
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl Decode for String {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        from.string().map(str::to_owned)
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_unsigned(out, self.len() as u64);
        T::encode_items(self, out);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

/// Items without size that one list may have.
pub const ZERO_SIZED: usize = 1 << 16;

impl<T: Decode> Decode for Vec<T> {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let n = from.count(T::LEAST, ZERO_SIZED)?;
        T::decode_items(n, from)
    }
}

impl<T: Encode, const N: usize> Encode for [T; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_items(self, out);
    }
}

impl<T: Decode, const N: usize> Decode for [T; N] {
    const LEAST: usize = N * T::LEAST;
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let items = T::decode_items(N, from)?;
        // as many as were asked for
        items.try_into().map_err(|_| Invalid::Truncated)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(v) => {
                out.push(1);
                v.encode(out);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        Ok(match from.case(2)? {
            0 => None,
            _ => Some(T::decode(from)?),
        })
    }
}

impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Ok(v) => {
                out.push(0);
                v.encode(out);
            }
            Err(e) => {
                out.push(1);
                e.encode(out);
            }
        }
    }
}

impl<T: Decode, E: Decode> Decode for Result<T, E> {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        Ok(match from.case(2)? {
            0 => Ok(T::decode(from)?),
            _ => Err(E::decode(from)?),
        })
    }
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),*))*) => { $(
        impl<$($t: Encode),*> Encode for ($($t,)*) {
            #[allow(unused_variables)]
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$i.encode(out);)*
            }
        }
        impl<$($t: Decode),*> Decode for ($($t,)*) {
            const LEAST: usize = 0 $(+ $t::LEAST)*;
            #[allow(unused_variables)]
            fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
                Ok(($($t::decode(from)?,)*))
            }
        }
    )* };
}
tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
