//! Values as the bytes of the wire.

use std::sync::{Arc, Mutex, PoisonError};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use loop_engine::{Caller, Import, Limits, Link, Neutral, Ty, TyRef, parse_type};
use loop_remote::{Apart, BadBytes, Encoded, check, decode, encode, receive};
use wasmtime::component::Val;

use crate::component::{Calls, Encoding, Signature, echo};
use crate::hosts::engine;
use crate::types::Type;
use crate::values::{arbitrary, from_engine, to_engine};

/// What is written reads back as the same value; bytes that are made up are read or refused, and what is read is
/// written as bytes that mean the same. A component passes bytes on as the host writes them.
pub fn wire(data: &[u8]) {
    // an input that has too little for a case makes none
    let _ = read_and_write(&mut Unstructured::new(data));
}

fn read_and_write(u: &mut Unstructured<'_>) -> Result<()> {
    let ty = Type::arbitrary(u)?;
    let plan = planned(&ty);
    assert_eq!(
        (plan.size, plan.align, plan.flat),
        (ty.size(), ty.align(), ty.flat().len()),
        "the layout of {ty:?}"
    );
    for _ in 0..u.int_in_range(1..=4)? {
        let value = arbitrary(u, &ty)?;
        let mut bytes = written(&plan, &ty, &value);
        assert_eq!(
            read(&plan, &ty, &bytes).as_ref(),
            Ok(&value),
            "{bytes:02x?} of {ty:?}"
        );
        for _ in 0..u.int_in_range(0..=3)? {
            let at = u.choose_index(bytes.len().max(1))?;
            match u.int_in_range(0..=3)? {
                0 if !bytes.is_empty() => _ = bytes.remove(at),
                1 if !bytes.is_empty() => bytes[at] = u.arbitrary()?,
                2 if !bytes.is_empty() => bytes[at] |= 0x80,
                _ => bytes.insert(at, u.arbitrary()?),
            }
            made_up(&plan, &ty, &bytes);
        }
    }
    if u.ratio(1, 4)? {
        through(u)?;
    }
    made_up(&plan, &ty, u.bytes(u.len())?);
    Ok(())
}

/// The type by its text.
fn planned(ty: &Type) -> TyRef {
    let text = text(ty);
    let plan = parse_type(&text).unwrap_or_else(|e| panic!("`{text}` at {}: {e}", e.at));
    assert_eq!(plan.shape().replace('%', ""), text.replace('%', ""), "of {ty:?}");
    plan
}

fn text(ty: &Type) -> String {
    let all = |types: &[Type]| types.iter().map(text).collect::<Vec<_>>().join(", ");
    let names = |names: &[String]| {
        names
            .iter()
            .map(|n| format!("%{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match ty {
        Type::Bool => "bool".into(),
        Type::Num(n) => n.wit().into(),
        Type::Char => "char".into(),
        Type::String => "string".into(),
        Type::List(t) => format!("list<{}>", text(t)),
        Type::Fixed(t, n) => format!("list<{}, {n}>", text(t)),
        Type::Record(fields) => {
            let fields: Vec<_> = fields.iter().map(|(n, t)| format!("%{n}: {}", text(t))).collect();
            format!("record {{ {} }}", fields.join(", "))
        }
        Type::Tuple(items) => format!("tuple<{}>", all(items)),
        Type::Variant(cases) => {
            let cases: Vec<_> = cases
                .iter()
                .map(|(n, t)| match t {
                    Some(t) => format!("%{n}({})", text(t)),
                    None => format!("%{n}"),
                })
                .collect();
            format!("variant {{ {} }}", cases.join(", "))
        }
        Type::Enum(cases) => format!("enum {{ {} }}", names(cases)),
        Type::Option(t) => format!("option<{}>", text(t)),
        Type::Result(None, None) => "result".into(),
        Type::Result(Some(ok), None) => format!("result<{}>", text(ok)),
        Type::Result(ok, Some(err)) => {
            let ok = ok.as_ref().map_or("_".into(), |t| text(t));
            format!("result<{ok}, {}>", text(err))
        }
        Type::Flags(members) => format!("flags {{ {} }}", names(members)),
    }
}

fn written(plan: &TyRef, ty: &Type, value: &Val) -> Vec<u8> {
    let made = encode::<Neutral>(plan, &&to_engine(ty, value), &Apart);
    let made = made.unwrap_or_else(|e| panic!("{value:?} of {ty:?} has no bytes: {e:?}"));
    assert!(made.pending.is_empty(), "nothing follows {value:?} of {ty:?}");
    made.bytes
}

fn read(plan: &TyRef, ty: &Type, bytes: &[u8]) -> std::result::Result<Val, BadBytes> {
    let read = decode::<Neutral>((), plan, &Bytes::copy_from_slice(bytes), &Apart);
    match read {
        Ok(value) => {
            assert_eq!(check(plan, bytes), Ok(()), "{bytes:02x?} of {ty:?}");
            Ok(from_engine(ty, &value))
        }
        Err(e) => {
            let e = e.downcast::<BadBytes>();
            let e = e.unwrap_or_else(|e| panic!("{bytes:02x?} of {ty:?}: {e:?}"));
            assert_eq!(check(plan, bytes).as_ref(), Err(&e), "{bytes:02x?} of {ty:?}");
            assert!(e.offset <= bytes.len(), "{e} in {bytes:02x?} of {ty:?}");
            Err(e)
        }
    }
}

fn made_up(plan: &TyRef, ty: &Type, bytes: &[u8]) {
    if let Ok(value) = read(plan, ty, bytes) {
        let again = written(plan, ty, &value);
        assert_eq!(
            read(plan, ty, &again),
            Ok(value),
            "{bytes:02x?}, {again:02x?} of {ty:?}"
        );
        assert!(again.len() <= bytes.len(), "{bytes:02x?}, {again:02x?} of {ty:?}");
    }
}

fn tuple(types: &[Type]) -> TyRef {
    Ty::tuple(types.iter().map(planned)).unwrap_or_else(|e| panic!("{types:?}: {e}"))
}

/// Calls a component that passes its parameters to an import, and the import's result back, as bytes on either side.
fn through(u: &mut Unstructured<'_>) -> Result<()> {
    let signature = Signature {
        params: Type::several(u, 3)?,
        result: Type::several(u, 1)?.pop(),
    };
    let encoding: Encoding = u.arbitrary()?;
    let of = |u: &mut Unstructured<'_>, types: &[Type]| -> Result<Vec<u8>> {
        let mut bytes = vec![];
        for t in types {
            let value = arbitrary(u, t)?;
            bytes.extend(written(&planned(t), t, &value));
        }
        Ok(bytes)
    };
    let results: Vec<Type> = signature.result.iter().cloned().collect();
    let (sent, answer) = (of(u, &signature.params)?, of(u, &results)?);
    let result_tuple = tuple(&results);
    let got = Arc::new(Mutex::new(None));

    let wasm = echo(&signature, encoding, Calls::Plain);
    let mut link =
        Link::new(engine(), &wasm, false, |_| false).unwrap_or_else(|e| panic!("{signature:?}: {e:?}"));
    let funcs: Vec<_> = link.imports.iter().flat_map(|i| i.funcs.clone()).collect();
    for func in funcs {
        let (got, answer, result_tuple) = (got.clone(), answer.clone(), result_tuple.clone());
        link.define(
            &func,
            Import::<Encoded>::now(move |mut args| {
                let message = args.pop().map(|args| args.finish(&Apart)).transpose()?;
                let bytes = message.map_or(vec![], |m| m.bytes);
                *got.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
                Ok(receive(&result_tuple, &Bytes::from(answer.clone()), &Apart)?.pop())
            }),
        );
    }
    let program = link.finish(Limits::default(), false);
    let program = program.unwrap_or_else(|e| panic!("{signature:?}: {e:?}"));
    let index = program.find("through").unwrap_or_else(|e| panic!("{e:?}"));
    let args = receive(
        &program.exports[index].ty.param_tuple,
        &Bytes::from(sent.clone()),
        &Apart,
    );
    let args = args.unwrap_or_else(|e| panic!("{sent:02x?} of {signature:?}: {e:?}"));
    // more than the guest's memory holds is no mistake
    if let Ok(result) = program.call::<Encoded>(index, args, Caller::PLAIN) {
        let message = result.map(|r| r.finish(&Apart)).transpose();
        let message = message.unwrap_or_else(|e| panic!("{signature:?}: {e:?}"));
        let show = || format!("{sent:02x?} and {answer:02x?} through {signature:?} in {encoding:?}");
        assert_eq!(
            message.map_or(vec![], |m| m.bytes),
            answer,
            "the result of {}",
            show()
        );
        let got = got.lock().unwrap_or_else(PoisonError::into_inner).take();
        assert_eq!(got.as_ref(), Some(&sent), "what the import got of {}", show());
    }
    program.close();
    Ok(())
}
