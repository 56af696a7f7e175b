//! Values as WAVE text.

use arbitrary::{Result, Unstructured};
use loop_engine::{Export, Limits, Link, Value, is_value};

use crate::component::{Signature, signature};
use crate::hosts::engine;
use crate::types::Type;
use crate::values::{arbitrary, from_engine, to_engine};

/// What is formatted reads back as the same value; text that is made up is read or refused, and what is read formats
/// to text that means the same.
pub fn text(data: &[u8]) {
    // an input that has too little for a case makes none
    let _ = read_and_write(&mut Unstructured::new(data));
}

fn read_and_write(u: &mut Unstructured<'_>) -> Result<()> {
    let ty = Type::arbitrary(u)?;
    let sig = Signature {
        params: vec![ty.clone()],
        result: Some(ty.clone()),
    };
    let link = Link::new(engine(), &signature(&sig), false, |_| false);
    let program = link.and_then(|l| l.finish(Limits::default(), false));
    let program = program.unwrap_or_else(|e| panic!("{ty:?}: {e:?}"));
    let export = &program.exports[0];
    for _ in 0..u.int_in_range(1..=4)? {
        let value = arbitrary(u, &ty)?;
        let text = same(export, &ty, &to_engine(&ty, &value));
        if u.arbitrary()? {
            let mut bytes = text.into_bytes();
            for _ in 0..u.int_in_range(1..=3)? {
                let at = u.choose_index(bytes.len().max(1))?;
                match u.int_in_range(0..=2)? {
                    0 if !bytes.is_empty() => _ = bytes.remove(at),
                    1 if !bytes.is_empty() => bytes[at] = u.arbitrary()?,
                    _ => bytes.insert(at, *u.choose(b"%\"'\\{}[](),:-_.0aen\n u")?),
                }
            }
            made_up(export, &ty, &String::from_utf8_lossy(&bytes));
        }
    }
    made_up(export, &ty, &String::from_utf8_lossy(u.bytes(u.len())?));
    Ok(())
}

/// The text of a value, which reads back as the same.
fn same(export: &Export, ty: &Type, value: &Value) -> String {
    let expected = from_engine(ty, value);
    let text = export
        .ty
        .format_result(value)
        .unwrap_or_else(|e| panic!("{expected:?} of {ty:?} has no text: {e:?}"));
    assert!(is_value(&text), "`{text}` of {expected:?} is no value");
    let read = export
        .ty
        .parse_args(&text)
        .unwrap_or_else(|e| panic!("`{text}` of {expected:?} of {ty:?} cannot be read: {e:?}"));
    let [read] = &read[..] else {
        panic!("`{text}` reads as {} values", read.len())
    };
    assert_eq!(from_engine(ty, read), expected, "`{text}` of {ty:?}");
    text
}

fn made_up(export: &Export, ty: &Type, text: &str) {
    is_value(text);
    if let Ok(values) = export.ty.parse_args(text) {
        let [value] = &values[..] else {
            panic!("`{text}` reads as {} values", values.len())
        };
        same(export, ty, value);
    }
}
