//! Values as WAVE text (WebAssembly Value Encoding), by the wasm-wave crate.

use wasm_wave::untyped::{UntypedFuncCall, UntypedValue};
use wasmtime::component::Val;
use wasmtime::component::types::Type;
use wasmtime::{Result, format_err};

use crate::convert::each_number;
use crate::program::Export;
use crate::types::{Kind, Num, Ty};
use crate::value::Value;

impl Export {
    /// The arguments of a call written as WAVE: `"world", {x: 1}`.
    ///
    /// Errors with the parser's words when the text is no WAVE or does not fit the parameters.
    pub fn parse_args(&self, text: &str) -> Result<Vec<Value>> {
        let types: Vec<Type> = self.func.params().map(|(_, t)| t).collect();
        let source = format!("f({text})");
        let call = UntypedFuncCall::parse(&source).map_err(|e| format_err!("{e}"))?;
        let vals = call
            .to_wasm_params::<Val>(&types)
            .map_err(|e| format_err!("{e}"))?;
        vals.iter()
            .zip(&self.ty.params)
            .map(|(v, (_, ty))| from_val(v, ty))
            .collect()
    }

    /// A result as WAVE.
    ///
    /// Errors when it holds a handle, a stream or a future, which have no text.
    pub fn format_result(&self, v: &Value) -> Result<String> {
        let (Some(ty), Some(public)) = (&self.ty.result, self.func.results().next()) else {
            return Ok(String::new());
        };
        to_val(v, ty)?
            .to_wave()
            .map_err(|e| format_err!("{} has no text form: {e}", describe(&public)))
    }
}

fn describe(t: &Type) -> String {
    format!("{t:?}")
        .split('(')
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

/// Whether `text` is one WAVE value.
pub fn is_value(text: &str) -> bool {
    UntypedValue::parse(text).is_ok()
}

fn from_val(v: &Val, ty: &Ty) -> Result<Value> {
    let index_of = |mut names: &mut dyn Iterator<Item = &str>, wanted: &str| {
        (&mut names)
            .position(|n| n == wanted)
            .ok_or_else(|| format_err!("no case {wanted}"))
    };
    let payload = |v: &Option<Box<Val>>, ty: &Ty, index: usize| -> Result<Option<Box<Value>>> {
        match (v, ty.case(index).flatten()) {
            (Some(v), Some(t)) => Ok(Some(Box::new(from_val(v, t)?))),
            _ => Ok(None),
        }
    };
    Ok(match (&ty.kind, v) {
        (_, Val::Bool(b)) => Value::Bool(*b),
        (_, Val::S8(n)) => Value::Num(Num::S8, *n as i64 as u64),
        (_, Val::U8(n)) => Value::Num(Num::U8, (*n).into()),
        (_, Val::S16(n)) => Value::Num(Num::S16, *n as i64 as u64),
        (_, Val::U16(n)) => Value::Num(Num::U16, (*n).into()),
        (_, Val::S32(n)) => Value::Num(Num::S32, *n as i64 as u64),
        (_, Val::U32(n)) => Value::Num(Num::U32, (*n).into()),
        (_, Val::S64(n)) => Value::Num(Num::S64, *n as u64),
        (_, Val::U64(n)) => Value::Num(Num::U64, *n),
        (_, Val::Float32(n)) => Value::Num(Num::F32, n.to_bits().into()),
        (_, Val::Float64(n)) => Value::Num(Num::F64, n.to_bits()),
        (_, Val::Char(c)) => Value::Char(*c),
        (_, Val::String(s)) => Value::String(s.to_string()),
        (Kind::List(t), Val::List(items)) => {
            let items: Vec<Value> = items.iter().map(|v| from_val(v, t)).collect::<Result<_>>()?;
            match t.kind {
                Kind::Num(n) => Value::Nums(n, items.iter().flat_map(|v| bytes(v, n)).collect()),
                _ => Value::List(items),
            }
        }
        (Kind::FixedList(t, _), Val::FixedLengthList(items) | Val::List(items)) => {
            Value::List(items.iter().map(|v| from_val(v, t)).collect::<Result<_>>()?)
        }
        (Kind::Tuple(slots), Val::Tuple(items)) => Value::Fields(
            items
                .iter()
                .zip(slots)
                .map(|(v, s)| from_val(v, &s.ty))
                .collect::<Result<_>>()?,
        ),
        (Kind::Record(fields), Val::Record(items)) => Value::Fields(
            items
                .iter()
                .zip(fields)
                .map(|((_, v), f)| from_val(v, &f.ty))
                .collect::<Result<_>>()?,
        ),
        (Kind::Variant { cases, .. }, Val::Variant(name, v)) => {
            let index = index_of(&mut cases.iter().map(|c| &*c.name), name)?;
            Value::Case(index, payload(v, ty, index)?)
        }
        (Kind::Enum { names, .. }, Val::Enum(name)) => {
            Value::Case(index_of(&mut names.iter().map(|n| &**n), name)?, None)
        }
        (Kind::Option { .. }, Val::Option(v)) => Value::Case(v.is_some().into(), payload(v, ty, 1)?),
        (Kind::Result { .. }, Val::Result(Ok(v))) => Value::Case(0, payload(v, ty, 0)?),
        (Kind::Result { .. }, Val::Result(Err(v))) => Value::Case(1, payload(v, ty, 1)?),
        (Kind::Flags(names), Val::Flags(set)) => {
            let mut bits = 0;
            for name in set {
                bits |= 1 << index_of(&mut names.iter().map(|n| &**n), name)?;
            }
            Value::Flags(bits)
        }
        _ => return Err(format_err!("{} cannot be written as text", ty.wit())),
    })
}

fn bytes(v: &Value, n: Num) -> Vec<u8> {
    match v {
        Value::Num(_, bits) => bits.to_le_bytes()[..n.size()].to_vec(),
        _ => vec![],
    }
}

fn num(n: Num, bits: u64) -> Val {
    match n {
        Num::U8 => Val::U8(bits as u8),
        Num::S8 => Val::S8(bits as i8),
        Num::U16 => Val::U16(bits as u16),
        Num::S16 => Val::S16(bits as i16),
        Num::U32 => Val::U32(bits as u32),
        Num::S32 => Val::S32(bits as i32),
        Num::U64 => Val::U64(bits),
        Num::S64 => Val::S64(bits as i64),
        Num::F32 => Val::Float32(f32::from_bits(bits as u32)),
        Num::F64 => Val::Float64(f64::from_bits(bits)),
    }
}

fn to_val(v: &Value, ty: &Ty) -> Result<Val> {
    let payload = |v: &Option<Box<Value>>, index: usize| -> Result<Option<Box<Val>>> {
        match (v, ty.case(index).flatten()) {
            (Some(v), Some(t)) => Ok(Some(Box::new(to_val(v, t)?))),
            _ => Ok(None),
        }
    };
    Ok(match (&ty.kind, v) {
        (_, Value::Bool(b)) => Val::Bool(*b),
        (_, Value::Num(n, bits)) => num(*n, *bits),
        (_, Value::Char(c)) => Val::Char(*c),
        (_, Value::String(s)) => Val::String(s.as_str().into()),
        (_, Value::Nums(n, raw)) => Val::List(each_number(*n, raw).map(|bits| num(*n, bits)).collect()),
        (Kind::List(t) | Kind::FixedList(t, _), Value::List(items)) => {
            Val::List(items.iter().map(|v| to_val(v, t)).collect::<Result<_>>()?)
        }
        (Kind::Tuple(slots), Value::Fields(items)) => Val::Tuple(
            items
                .iter()
                .zip(slots)
                .map(|(v, s)| to_val(v, &s.ty))
                .collect::<Result<_>>()?,
        ),
        (Kind::Record(fields), Value::Fields(items)) => {
            let named = items
                .iter()
                .zip(fields)
                .map(|(v, f)| Ok((f.name.to_string(), to_val(v, &f.ty)?)));
            Val::Record(named.collect::<Result<_>>()?)
        }
        (Kind::Variant { cases, .. }, Value::Case(i, p)) => {
            Val::Variant(cases[*i].name.to_string(), payload(p, *i)?)
        }
        (Kind::Enum { names, .. }, Value::Case(i, _)) => Val::Enum(names[*i].to_string()),
        (Kind::Option { .. }, Value::Case(0, _)) => Val::Option(None),
        (Kind::Option { .. }, Value::Case(_, p)) => Val::Option(payload(p, 1)?),
        (Kind::Result { .. }, Value::Case(0, p)) => Val::Result(Ok(payload(p, 0)?)),
        (Kind::Result { .. }, Value::Case(_, p)) => Val::Result(Err(payload(p, 1)?)),
        (Kind::Flags(names), Value::Flags(bits)) => {
            let set = names.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            Val::Flags(set.map(|(_, n)| n.to_string()).collect())
        }
        _ => return Err(format_err!("{} cannot be written as text", ty.wit())),
    })
}
