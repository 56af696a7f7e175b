//! Types of functions in the canonical form that their digest is of; `docs/wire.md` defines it.

use sha2::{Digest, Sha256};
use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind};

/// SHA-256 of a function's type, with every type in it written out.
pub fn digest(resolve: &Resolve, f: &Function) -> [u8; 32] {
    Sha256::digest(function(resolve, f)).into()
}

/// `async func(u32) -> string`: the names of parameters are no part of it.
pub fn function(resolve: &Resolve, f: &Function) -> String {
    let params: Vec<_> = f.params.iter().map(|p| ty(resolve, &p.ty)).collect();
    let result = f
        .result
        .as_ref()
        .map_or(String::new(), |t| format!(" -> {}", ty(resolve, t)));
    let kind = if f.kind.is_async() { "async func" } else { "func" };
    format!("{kind}({}){result}", params.join(", "))
}

fn ty(resolve: &Resolve, of: &Type) -> String {
    let Type::Id(id) = of else {
        return primitive(of).into();
    };
    let part = |t: &Type| ty(resolve, t);
    let maybe =
        |word: &str, t: &Option<Type>| t.as_ref().map_or(word.into(), |t| format!("{word}<{}>", part(t)));
    let joined = |parts: Vec<String>| parts.join(", ");
    match &resolve.types[*id].kind {
        TypeDefKind::Type(t) => part(t),
        TypeDefKind::Record(r) => {
            let fields = r.fields.iter().map(|f| format!("{}: {}", f.name, part(&f.ty)));
            format!("record {{ {} }}", joined(fields.collect()))
        }
        TypeDefKind::Tuple(t) => format!("tuple<{}>", joined(t.types.iter().map(part).collect())),
        TypeDefKind::Variant(v) => {
            let cases = v.cases.iter().map(|c| match &c.ty {
                Some(t) => format!("{}({})", c.name, part(t)),
                None => c.name.clone(),
            });
            format!("variant {{ {} }}", joined(cases.collect()))
        }
        TypeDefKind::Enum(e) => {
            let names = e.cases.iter().map(|c| c.name.clone());
            format!("enum {{ {} }}", joined(names.collect()))
        }
        TypeDefKind::Flags(f) => {
            let names = f.flags.iter().map(|f| f.name.clone());
            format!("flags {{ {} }}", joined(names.collect()))
        }
        TypeDefKind::Option(t) => format!("option<{}>", part(t)),
        TypeDefKind::Result(r) => match (&r.ok, &r.err) {
            (None, None) => "result".into(),
            (Some(ok), None) => format!("result<{}>", part(ok)),
            (ok, Some(err)) => {
                let ok = ok.as_ref().map_or("_".into(), part);
                format!("result<{ok}, {}>", part(err))
            }
        },
        TypeDefKind::List(t) => format!("list<{}>", part(t)),
        TypeDefKind::FixedLengthList(t, n) => format!("list<{}, {n}>", part(t)),
        TypeDefKind::Handle(Handle::Own(r)) => ty(resolve, &Type::Id(*r)),
        TypeDefKind::Handle(Handle::Borrow(r)) => format!("borrow<{}>", ty(resolve, &Type::Id(*r))),
        TypeDefKind::Resource => resolve.types[*id].name.clone().unwrap_or_default(),
        TypeDefKind::Stream(t) => maybe("stream", t),
        TypeDefKind::Future(t) => maybe("future", t),
        other => other.as_str().into(),
    }
}

fn primitive(of: &Type) -> &'static str {
    match of {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::S8 => "s8",
        Type::U16 => "u16",
        Type::S16 => "s16",
        Type::U32 => "u32",
        Type::S32 => "s32",
        Type::U64 => "u64",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "",
    }
}
