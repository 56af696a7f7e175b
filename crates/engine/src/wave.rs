//! Values as WAVE text (WebAssembly Value Encoding), by the wasm-wave crate.

use std::borrow::Cow;

use wasm_wave::untyped::{UntypedFuncCall, UntypedValue};
use wasm_wave::value::{Type, Value as Text};
use wasm_wave::wasm::WasmValue;
use wasmtime::component::Val;
use wasmtime::{Result, format_err};

use crate::convert::each_number;
use crate::types::{FuncTy, Kind, Num, Ty, TyRef};
use crate::value::Value;

impl FuncTy {
    /// The arguments of a call written as WAVE: `"world", {x: 1}`.
    ///
    /// Errors with the parser's words when the text is no WAVE or does not fit the parameters.
    pub fn parse_args(&self, text: &str) -> Result<Vec<Value>> {
        parse_values(self.params.iter().map(|(_, ty)| ty), text)
    }

    /// A result as WAVE.
    ///
    /// Errors when it holds a handle, a stream or a future, which have no text.
    pub fn format_result(&self, v: &Value) -> Result<String> {
        self.result
            .as_ref()
            .map_or(Ok(String::new()), |ty| format_value(ty, v))
    }
}

/// Values of `types` written as WAVE, between commas.
///
/// Errors with the parser's words when the text is no WAVE or does not fit.
pub fn parse_values<'t>(types: impl Iterator<Item = &'t TyRef> + Clone, text: &str) -> Result<Vec<Value>> {
    let readable: Vec<Type> = types.clone().map(|ty| readable(ty)).collect::<Result<_>>()?;
    let source = format!("f({text})");
    let call = UntypedFuncCall::parse(&source).map_err(|e| format_err!("{e}"))?;
    let values = call
        .to_wasm_params::<Text>(&readable)
        .map_err(|e| format_err!("{e}"))?;
    values.iter().zip(types).map(|(v, ty)| from_text(v, ty)).collect()
}

/// A value as WAVE.
///
/// Errors when it holds a handle, a stream or a future, which have no text.
pub fn format_value(ty: &Ty, v: &Value) -> Result<String> {
    to_val(v, ty)?
        .to_wave()
        .map_err(|e| format_err!("{} has no text form: {e}", ty.wit()))
}

/// Whether `text` is one WAVE value.
pub fn is_value(text: &str) -> bool {
    UntypedValue::parse(text).is_ok()
}

/// The type as wasm-wave reads it, to which lists of fixed length are lists as any other.
fn readable(ty: &Ty) -> Result<Type> {
    let all =
        |types: &mut dyn Iterator<Item = &TyRef>| types.map(|t| readable(t)).collect::<Result<Vec<_>>>();
    let maybe = |t: &Option<TyRef>| t.as_ref().map(|t| readable(t)).transpose();
    let made = match &ty.kind {
        Kind::Bool => Some(Type::BOOL),
        Kind::Num(Num::U8) => Some(Type::U8),
        Kind::Num(Num::S8) => Some(Type::S8),
        Kind::Num(Num::U16) => Some(Type::U16),
        Kind::Num(Num::S16) => Some(Type::S16),
        Kind::Num(Num::U32) => Some(Type::U32),
        Kind::Num(Num::S32) => Some(Type::S32),
        Kind::Num(Num::U64) => Some(Type::U64),
        Kind::Num(Num::S64) => Some(Type::S64),
        Kind::Num(Num::F32) => Some(Type::F32),
        Kind::Num(Num::F64) => Some(Type::F64),
        Kind::Char => Some(Type::CHAR),
        Kind::String => Some(Type::STRING),
        Kind::List(t) | Kind::FixedList(t, _) => Some(Type::list(readable(t)?)),
        Kind::Record(fields) => {
            let types = all(&mut fields.iter().map(|f| &f.ty))?;
            Type::record(fields.iter().map(|f| &*f.name).zip(types))
        }
        Kind::Tuple(slots) => Type::tuple(all(&mut slots.iter().map(|s| &s.ty))?),
        Kind::Variant { cases, .. } => {
            let types = cases.iter().map(|c| maybe(&c.ty)).collect::<Result<Vec<_>>>()?;
            Type::variant(cases.iter().map(|c| &*c.name).zip(types))
        }
        Kind::Enum { names, .. } => Type::enum_ty(names.iter().map(|n| &**n)),
        Kind::Option { some, .. } => Some(Type::option(readable(some)?)),
        Kind::Result { ok, err, .. } => Some(Type::result(maybe(ok)?, maybe(err)?)),
        Kind::Flags(names) => Type::flags(names.iter().map(|n| &**n)),
        Kind::Own(_) | Kind::Borrow(_) | Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext => None,
    };
    made.ok_or_else(|| format_err!("{} cannot be written as text", ty.wit()))
}

/// What was read as `readable(ty)`.
fn from_text(v: &Text, ty: &Ty) -> Result<Value> {
    let index_of = |mut names: &mut dyn Iterator<Item = &str>, wanted: &str| {
        (&mut names)
            .position(|n| n == wanted)
            .ok_or_else(|| format_err!("no case {wanted}"))
    };
    let case = |index: usize, payload: Option<Cow<'_, Text>>| -> Result<Value> {
        let payload = match (payload, ty.case(index).flatten()) {
            (Some(v), Some(t)) => Some(Box::new(from_text(&v, t)?)),
            _ => None,
        };
        Ok(Value::Case(index, payload))
    };
    let items = |t: &Ty| {
        v.unwrap_list()
            .map(|v| from_text(&v, t))
            .collect::<Result<Vec<_>>>()
    };
    Ok(match &ty.kind {
        Kind::Bool => Value::Bool(v.unwrap_bool()),
        Kind::Num(n) => Value::Num(
            *n,
            match n {
                Num::U8 => v.unwrap_u8().into(),
                Num::S8 => v.unwrap_s8() as i64 as u64,
                Num::U16 => v.unwrap_u16().into(),
                Num::S16 => v.unwrap_s16() as i64 as u64,
                Num::U32 => v.unwrap_u32().into(),
                Num::S32 => v.unwrap_s32() as i64 as u64,
                Num::U64 => v.unwrap_u64(),
                Num::S64 => v.unwrap_s64() as u64,
                Num::F32 => v.unwrap_f32().to_bits().into(),
                Num::F64 => v.unwrap_f64().to_bits(),
            },
        ),
        Kind::Char => Value::Char(v.unwrap_char()),
        Kind::String => Value::String(v.unwrap_string().into_owned()),
        Kind::List(t) => match t.kind {
            Kind::Num(n) => Value::Nums(n, items(t)?.iter().flat_map(|v| bytes(v, n)).collect()),
            _ => Value::List(items(t)?),
        },
        Kind::FixedList(t, n) => {
            let items = items(t)?;
            if items.len() != *n {
                return Err(format_err!("{} with {} items", ty.wit(), items.len()));
            }
            Value::List(items)
        }
        Kind::Tuple(slots) => {
            let items = v.unwrap_tuple().zip(slots).map(|(v, s)| from_text(&v, &s.ty));
            Value::Fields(items.collect::<Result<_>>()?)
        }
        Kind::Record(fields) => {
            let items = v
                .unwrap_record()
                .zip(fields)
                .map(|((_, v), f)| from_text(&v, &f.ty));
            Value::Fields(items.collect::<Result<_>>()?)
        }
        Kind::Variant { cases, .. } => {
            let (name, payload) = v.unwrap_variant();
            case(index_of(&mut cases.iter().map(|c| &*c.name), &name)?, payload)?
        }
        Kind::Enum { names, .. } => case(index_of(&mut names.iter().map(|n| &**n), &v.unwrap_enum())?, None)?,
        Kind::Option { .. } => match v.unwrap_option() {
            None => case(0, None)?,
            some => case(1, some)?,
        },
        Kind::Result { .. } => match v.unwrap_result() {
            Ok(payload) => case(0, payload)?,
            Err(payload) => case(1, payload)?,
        },
        Kind::Flags(names) => {
            let mut bits = 0;
            for name in v.unwrap_flags() {
                bits |= 1 << index_of(&mut names.iter().map(|n| &**n), &name)?;
            }
            Value::Flags(bits)
        }
        Kind::Own(_) | Kind::Borrow(_) | Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext => {
            return Err(format_err!("{} cannot be written as text", ty.wit()));
        }
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
