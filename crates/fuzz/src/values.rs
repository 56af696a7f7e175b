//! Arbitrary values as wasmtime's `Val`, and the same as the engine's.

use arbitrary::{Result, Unstructured};
use loop_engine::{Num, Value, each_number};
use wasmtime::component::Val;

use crate::types::Type;

/// A value of a type. NaNs are canonical: what becomes of others is for the host to say.
pub fn arbitrary(u: &mut Unstructured<'_>, ty: &Type) -> Result<Val> {
    let boxed = |u: &mut Unstructured<'_>, t: &Type| arbitrary(u, t).map(Box::new);
    let maybe = |u: &mut Unstructured<'_>, t: Option<&Type>| t.map(|t| boxed(u, t)).transpose();
    Ok(match ty {
        Type::Bool => Val::Bool(u.arbitrary()?),
        Type::Num(n) => number(*n, u.arbitrary()?),
        Type::Char => Val::Char(character(u)?),
        Type::String => Val::String({
            let count = length(u)?;
            (0..count).map(|_| character(u)).collect::<Result<_>>()?
        }),
        Type::List(t) => Val::List({
            let count = length(u)?;
            (0..count).map(|_| arbitrary(u, t)).collect::<Result<_>>()?
        }),
        Type::Fixed(t, n) => Val::FixedLengthList((0..*n).map(|_| arbitrary(u, t)).collect::<Result<_>>()?),
        Type::Record(fields) => {
            let each = fields.iter().map(|(n, t)| Ok((n.clone(), arbitrary(u, t)?)));
            Val::Record(each.collect::<Result<_>>()?)
        }
        Type::Tuple(items) => Val::Tuple(items.iter().map(|t| arbitrary(u, t)).collect::<Result<_>>()?),
        Type::Variant(cases) => {
            let (name, t) = u.choose(cases)?;
            Val::Variant(name.clone(), maybe(u, t.as_ref())?)
        }
        Type::Enum(names) => Val::Enum(u.choose(names)?.clone()),
        Type::Option(t) => Val::Option(if u.arbitrary()? { Some(boxed(u, t)?) } else { None }),
        Type::Result(ok, err) => Val::Result(if u.arbitrary()? {
            Ok(maybe(u, ok.as_deref())?)
        } else {
            Err(maybe(u, err.as_deref())?)
        }),
        Type::Flags(names) => {
            let bits: u32 = u.arbitrary()?;
            Val::Flags(chosen(names, bits))
        }
    })
}

pub fn length(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(if u.ratio(1, 16)? {
        u.int_in_range(5..=70)?
    } else {
        u.int_in_range(0..=4)?
    })
}

/// From each of the ranges that encodings treat differently.
fn character(u: &mut Unstructured<'_>) -> Result<char> {
    let v = match u.int_in_range(0..=4)? {
        0 | 1 => u.int_in_range(0..=0x7f)?,
        2 => u.int_in_range(0x80..=0xff)?,
        3 => u.int_in_range(0x100..=0xffff)?,
        _ => u.int_in_range(0x1_0000..=0x10_ffff)?,
    };
    Ok(char::from_u32(v).unwrap_or('\u{fffd}'))
}

/// A number of its bits, as the canonical ABI would read them.
fn number(n: Num, bits: u64) -> Val {
    match n {
        Num::U8 => Val::U8(bits as u8),
        Num::S8 => Val::S8(bits as i8),
        Num::U16 => Val::U16(bits as u16),
        Num::S16 => Val::S16(bits as i16),
        Num::U32 => Val::U32(bits as u32),
        Num::S32 => Val::S32(bits as i32),
        Num::U64 => Val::U64(bits),
        Num::S64 => Val::S64(bits as i64),
        Num::F32 => match f32::from_bits(bits as u32) {
            f if f.is_nan() => Val::Float32(f32::from_bits(0x7fc0_0000)),
            f => Val::Float32(f),
        },
        Num::F64 => match f64::from_bits(bits) {
            f if f.is_nan() => Val::Float64(f64::from_bits(0x7ff8_0000_0000_0000)),
            f => Val::Float64(f),
        },
    }
}

fn chosen(names: &[String], bits: u32) -> Vec<String> {
    let set = names.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    set.map(|(_, n)| n.clone()).collect()
}

/// The value as the engine takes it. Panics where it is not of the type.
pub fn to_engine(ty: &Type, v: &Val) -> Value {
    let all = |t: &Type, items: &[Val]| Value::List(items.iter().map(|v| to_engine(t, v)).collect());
    let case = |i: usize, t: Option<&Type>, v: &Option<Box<Val>>| {
        Value::Case(i, v.as_ref().zip(t).map(|(v, t)| Box::new(to_engine(t, v))))
    };
    match (ty, v) {
        (Type::Bool, Val::Bool(b)) => Value::Bool(*b),
        (Type::Num(n), v) => Value::Num(*n, bits(v)),
        (Type::Char, Val::Char(c)) => Value::Char(*c),
        (Type::String, Val::String(s)) => Value::String(s.clone()),
        (Type::List(t), Val::List(items)) => match **t {
            Type::Num(n) => {
                let raw = items
                    .iter()
                    .flat_map(|v| bits(v).to_le_bytes().into_iter().take(n.size()));
                Value::Nums(n, raw.collect())
            }
            _ => all(t, items),
        },
        (Type::Fixed(t, _), Val::FixedLengthList(items)) => all(t, items),
        (Type::Record(fields), Val::Record(items)) => Value::Fields(
            fields
                .iter()
                .zip(items)
                .map(|((_, t), (_, v))| to_engine(t, v))
                .collect(),
        ),
        (Type::Tuple(types), Val::Tuple(items)) => {
            Value::Fields(types.iter().zip(items).map(|(t, v)| to_engine(t, v)).collect())
        }
        (Type::Variant(cases), Val::Variant(name, v)) => {
            let i = cases
                .iter()
                .position(|(n, _)| n == name)
                .expect("a case of the variant");
            case(i, cases[i].1.as_ref(), v)
        }
        (Type::Enum(names), Val::Enum(name)) => Value::Case(
            names.iter().position(|n| n == name).expect("a case of the enum"),
            None,
        ),
        (Type::Option(t), Val::Option(v)) => case(v.is_some().into(), Some(t), v),
        (Type::Result(ok, _), Val::Result(Ok(v))) => case(0, ok.as_deref(), v),
        (Type::Result(_, err), Val::Result(Err(v))) => case(1, err.as_deref(), v),
        (Type::Flags(names), Val::Flags(set)) => {
            let each = names.iter().enumerate().filter(|(_, n)| set.contains(n));
            Value::Flags(each.fold(0, |bits, (i, _)| bits | 1 << i))
        }
        _ => panic!("{v:?} is no {ty:?}"),
    }
}

fn bits(v: &Val) -> u64 {
    match *v {
        Val::U8(n) => n.into(),
        Val::S8(n) => n as i64 as u64,
        Val::U16(n) => n.into(),
        Val::S16(n) => n as i64 as u64,
        Val::U32(n) => n.into(),
        Val::S32(n) => n as i64 as u64,
        Val::U64(n) => n,
        Val::S64(n) => n as u64,
        Val::Float32(n) => n.to_bits().into(),
        Val::Float64(n) => n.to_bits(),
        _ => panic!("{v:?} is no number"),
    }
}

/// What the engine made, as wasmtime would show it. Panics where it is not of the type: the engine's mistake.
pub fn from_engine(ty: &Type, v: &Value) -> Val {
    let payload = |t: Option<&Type>, v: &Option<Box<Value>>| {
        assert_eq!(
            t.is_some(),
            v.is_some(),
            "a case of {ty:?} with the wrong payload"
        );
        t.zip(v.as_ref()).map(|(t, v)| Box::new(from_engine(t, v)))
    };
    let all = |types: &[&Type], items: &[Value]| -> Vec<Val> {
        assert_eq!(types.len(), items.len(), "members of {ty:?}");
        types.iter().zip(items).map(|(t, v)| from_engine(t, v)).collect()
    };
    match (ty, v) {
        (Type::Bool, Value::Bool(b)) => Val::Bool(*b),
        (Type::Num(n), Value::Num(m, raw)) if n == m => {
            let made = number(*n, *raw);
            assert_eq!(bits(&made), *raw, "the bits of a {n:?}");
            made
        }
        (Type::Char, Value::Char(c)) => Val::Char(*c),
        (Type::String, Value::String(s)) => Val::String(s.clone()),
        (Type::List(t), Value::Nums(n, raw)) if **t == Type::Num(*n) => {
            assert_eq!(raw.len() % n.size(), 0, "the bytes of a list of {n:?}");
            Val::List(each_number(*n, raw).map(|bits| number(*n, bits)).collect())
        }
        (Type::List(t), Value::List(items)) if !matches!(**t, Type::Num(_)) => {
            Val::List(items.iter().map(|v| from_engine(t, v)).collect())
        }
        (Type::Fixed(..), Value::List(items)) => Val::FixedLengthList(all(&ty.members(), items)),
        (Type::Record(fields), Value::Fields(items)) => {
            let names = fields.iter().map(|(n, _)| n.clone());
            Val::Record(names.zip(all(&ty.members(), items)).collect())
        }
        (Type::Tuple(_), Value::Fields(items)) => Val::Tuple(all(&ty.members(), items)),
        (Type::Variant(cases), Value::Case(i, v)) => {
            Val::Variant(cases[*i].0.clone(), payload(cases[*i].1.as_ref(), v))
        }
        (Type::Enum(names), Value::Case(i, None)) => Val::Enum(names[*i].clone()),
        (Type::Option(_), Value::Case(0, None)) => Val::Option(None),
        (Type::Option(t), Value::Case(1, v)) => Val::Option(payload(Some(t), v)),
        (Type::Result(ok, _), Value::Case(0, v)) => Val::Result(Ok(payload(ok.as_deref(), v))),
        (Type::Result(_, err), Value::Case(1, v)) => Val::Result(Err(payload(err.as_deref(), v))),
        (Type::Flags(names), Value::Flags(bits)) => {
            assert_eq!(
                u64::from(*bits) >> names.len(),
                0,
                "flags that {ty:?} does not have"
            );
            Val::Flags(chosen(names, *bits))
        }
        _ => panic!("the engine made {v:?} of {ty:?}"),
    }
}
