//! Components that are none.

use arbitrary::{Result, Unstructured};
use loop_engine::{Import, Limits, Link, Neutral, inspect};

use crate::component::{Calls, Encoding, Signature, echo, signature};
use crate::hosts::engine;
use crate::types::Type;

/// Links, plans and describes bytes that begin as WebAssembly does, or a component with a few bytes changed: all that
/// may come of it is an error.
pub fn link(data: &[u8]) {
    if data.starts_with(b"\0asm") {
        load(data);
        return;
    }
    if let Ok(wasm) = mutated(&mut Unstructured::new(data)) {
        load(&wasm);
    }
}

fn mutated(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let sig = Signature {
        params: Type::several(u, 3)?,
        result: Type::several(u, 1)?.pop(),
    };
    let mut wasm = match u.int_in_range(0..=2)? {
        0 => signature(&sig),
        1 => echo(&sig, Encoding::Utf8, Calls::Plain),
        _ => echo(&sig, Encoding::Utf8, Calls::Waiting),
    };
    for _ in 0..u.int_in_range(0..=4)? {
        let at = u.choose_index(wasm.len())?;
        match u.int_in_range(0..=5)? {
            0 => wasm.truncate(at.max(8)),
            1 => _ = wasm.remove(at),
            2 => wasm.insert(at, u.arbitrary()?),
            3 => wasm[at] = wasm[at].wrapping_add(*u.choose(&[1, 255, 128])?),
            _ => wasm[at] = u.arbitrary()?,
        }
    }
    Ok(wasm)
}

fn load(wasm: &[u8]) {
    let _ = inspect(wasm);
    let Ok(mut link) = Link::new(engine(), wasm, false, |_| false) else {
        return;
    };
    let funcs: Vec<_> = link.imports.iter().flat_map(|i| i.funcs.clone()).collect();
    for func in funcs {
        let _ = (func.path(), func.wit());
        link.define(&func, Import::<Neutral>::now(|_| Ok(None)));
    }
    let resources: Vec<_> = link.imports.iter().flat_map(|i| i.resources.clone()).collect();
    for resource in resources {
        link.define_resource::<Neutral>(&resource);
    }
    if let Ok(program) = link.finish(Limits::default(), false) {
        for export in &program.exports {
            let _ = (export.ty.path(), export.ty.wit());
        }
    }
}
