//! Arbitrary WIT types, with their layout by the canonical ABI.
//!
//! The layout is a reading of the specification of its own: the fuzzers show where the engine reads it differently.

use std::collections::HashSet;

use arbitrary::{Result, Unstructured};
use loop_engine::Num;
use wasm_encoder::ValType;

/// Most core values that a generated type may take, and most bytes of memory.
const MAX_FLAT: usize = 48;
const MAX_SIZE: usize = 1024;
const DEPTH: usize = 4;

const NUMS: [Num; 10] = [
    Num::U8,
    Num::S8,
    Num::U16,
    Num::S16,
    Num::U32,
    Num::S32,
    Num::U64,
    Num::S64,
    Num::F32,
    Num::F64,
];

/// Words that text forms give a meaning, and ordinary ones.
const NAMES: [&str; 16] = [
    "a",
    "b-c",
    "true",
    "false",
    "none",
    "some",
    "ok",
    "err",
    "nan",
    "inf",
    "x1",
    "record",
    "list",
    "u8",
    "d-2-e",
    "long-name-of-a-member",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Bool,
    Num(Num),
    Char,
    String,
    List(Box<Type>),
    Fixed(Box<Type>, usize),
    Record(Vec<(String, Type)>),
    Tuple(Vec<Type>),
    Variant(Vec<(String, Option<Type>)>),
    Enum(Vec<String>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Flags(Vec<String>),
}

fn aligned(at: usize, align: usize) -> usize {
    at.next_multiple_of(align)
}

impl Type {
    pub fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Self::within(u, DEPTH)
    }

    /// Up to `most` types; more than 16 core values now and then.
    pub fn several(u: &mut Unstructured<'_>, most: usize) -> Result<Vec<Self>> {
        let count = u.int_in_range(0..=most)?;
        (0..count).map(|_| Self::arbitrary(u)).collect()
    }

    fn within(u: &mut Unstructured<'_>, depth: usize) -> Result<Self> {
        let made = Self::some(u, depth)?;
        let small = made.flat().len() <= MAX_FLAT && made.size() <= MAX_SIZE;
        Ok(if small { made } else { Type::Bool })
    }

    fn some(u: &mut Unstructured<'_>, depth: usize) -> Result<Self> {
        let child = |u: &mut Unstructured<'_>| Self::within(u, depth - 1).map(Box::new);
        let maybe = |u: &mut Unstructured<'_>| Ok(if u.arbitrary()? { Some(child(u)?) } else { None });
        // what has children comes last: input that has run out chooses the first
        let last = if depth == 0 { 5 } else { 14 };
        Ok(match u.int_in_range(0..=last)? {
            0 => Type::Bool,
            1 => Type::Num(*u.choose(&NUMS)?),
            2 => Type::Char,
            3 => Type::String,
            4 => Type::Enum({
                let count = enum_size(u)?;
                names(u, count)?
            }),
            5 => Type::Flags({
                let count = u.int_in_range(1..=32)?;
                names(u, count)?
            }),
            6 => Type::List(child(u)?),
            7 => Type::List(Box::new(Type::Num(*u.choose(&NUMS)?))),
            8 => Type::Option(child(u)?),
            9 => Type::Result(maybe(u)?, maybe(u)?),
            10 => Type::Fixed(child(u)?, u.int_in_range(1..=6)?),
            11 => Type::Tuple({
                let count = u.int_in_range(1..=5)?;
                (0..count).map(|_| Ok(*child(u)?)).collect::<Result<_>>()?
            }),
            12 | 13 => {
                let count = u.int_in_range(1..=5)?;
                let members = names(u, count)?.into_iter();
                Type::Record(members.map(|n| Ok((n, *child(u)?))).collect::<Result<_>>()?)
            }
            _ => {
                let count = u.int_in_range(1..=5)?;
                let cases = names(u, count)?.into_iter();
                Type::Variant(
                    cases
                        .map(|n| Ok((n, maybe(u)?.map(|t| *t))))
                        .collect::<Result<_>>()?,
                )
            }
        })
    }

    /// The members of a record, tuple or fixed list, in order.
    pub fn members(&self) -> Vec<&Type> {
        match self {
            Type::Record(fields) => fields.iter().map(|(_, t)| t).collect(),
            Type::Tuple(items) => items.iter().collect(),
            Type::Fixed(t, n) => vec![&**t; *n],
            _ => vec![],
        }
    }

    /// The payloads of what has a discriminant, in order.
    pub fn cases(&self) -> Option<Vec<Option<&Type>>> {
        match self {
            Type::Variant(cases) => Some(cases.iter().map(|(_, t)| t.as_ref()).collect()),
            Type::Enum(names) => Some(vec![None; names.len()]),
            Type::Option(t) => Some(vec![None, Some(t)]),
            Type::Result(ok, err) => Some(vec![ok.as_deref(), err.as_deref()]),
            _ => None,
        }
    }

    /// Bytes of the discriminant, and the offset of the payload.
    pub fn tag(&self) -> (usize, usize) {
        let cases = self.cases().unwrap_or_default();
        let size = if cases.len() <= 1 << 8 { 1 } else { 2 };
        let align = cases.iter().flatten().map(|t| t.align()).max().unwrap_or(1);
        (size, aligned(size, align))
    }

    pub fn align(&self) -> usize {
        match self {
            Type::Bool => 1,
            Type::Num(n) => n.size(),
            Type::Char | Type::String | Type::List(_) => 4,
            Type::Flags(_) => self.size(),
            _ => match self.cases() {
                Some(cases) => {
                    let payload = cases.iter().flatten().map(|t| t.align()).max().unwrap_or(1);
                    self.tag().0.max(payload)
                }
                None => self.members().iter().map(|t| t.align()).max().unwrap_or(1),
            },
        }
    }

    pub fn size(&self) -> usize {
        match self {
            Type::Bool => 1,
            Type::Num(n) => n.size(),
            Type::Char => 4,
            Type::String | Type::List(_) => 8,
            Type::Flags(names) => match names.len() {
                0..=8 => 1,
                9..=16 => 2,
                _ => 4,
            },
            _ => match self.cases() {
                Some(cases) => {
                    let payload = cases.iter().flatten().map(|t| t.size()).max().unwrap_or(0);
                    aligned(self.tag().1 + payload, self.align())
                }
                None => {
                    let end = |at, t: &&Type| aligned(at, t.align()) + t.size();
                    aligned(self.members().iter().fold(0, end), self.align())
                }
            },
        }
    }

    /// Where each member of [`Type::members`] begins.
    pub fn offsets(&self) -> Vec<usize> {
        let mut at = 0;
        let place = |t: &&Type| {
            let start = aligned(at, t.align());
            at = start + t.size();
            start
        };
        self.members().iter().map(place).collect()
    }

    /// The core values that it takes.
    pub fn flat(&self) -> Vec<ValType> {
        match self {
            Type::Num(Num::U64 | Num::S64) => vec![ValType::I64],
            Type::Num(Num::F32) => vec![ValType::F32],
            Type::Num(Num::F64) => vec![ValType::F64],
            Type::Bool | Type::Num(_) | Type::Char | Type::Flags(_) => vec![ValType::I32],
            Type::String | Type::List(_) => vec![ValType::I32; 2],
            _ => match self.cases() {
                Some(cases) => {
                    let mut joined = vec![];
                    for payload in cases.iter().flatten() {
                        for (i, core) in payload.flat().into_iter().enumerate() {
                            match joined.get(i).copied() {
                                None => joined.push(core),
                                Some(had) => joined[i] = join(had, core),
                            }
                        }
                    }
                    joined.insert(0, ValType::I32);
                    joined
                }
                None => self.members().iter().flat_map(|t| t.flat()).collect(),
            },
        }
    }
}

fn join(a: ValType, b: ValType) -> ValType {
    match (a, b) {
        _ if a == b => a,
        (ValType::I32, ValType::F32) | (ValType::F32, ValType::I32) => ValType::I32,
        _ => ValType::I64,
    }
}

/// Mostly few; now and then more than one byte counts.
fn enum_size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(if u.ratio(1, 16)? {
        u.int_in_range(250..=300)?
    } else {
        u.int_in_range(1..=9)?
    })
}

fn names(u: &mut Unstructured<'_>, count: usize) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    (0..count)
        .map(|i| {
            let name = u.choose(&NAMES)?;
            Ok(if i < NAMES.len() && seen.insert(*name) {
                (*name).to_string()
            } else {
                format!("n{i}")
            })
        })
        .collect()
}
