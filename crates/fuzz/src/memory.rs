//! Values lifted from whatever a guest left in its memory.

use arbitrary::{Result, Unstructured};
use loop_engine::Instances;

use crate::component::{Encoding, Signature, guest};
use crate::hosts::{Answers, Judge, Ours, exchange};
use crate::plant::plant;
use crate::types::Type;

/// Lifts parameters and a result from core values and memory that are right for the most part: both hosts must make
/// the same values of them, or both refuse.
pub fn memory(data: &[u8]) {
    // an input that has too little for a case makes none
    let _ = lift(&mut Unstructured::new(data));
}

fn lift(u: &mut Unstructured<'_>) -> Result<()> {
    let encoding: Encoding = u.arbitrary()?;
    let most = if u.ratio(1, 8)? { 20 } else { 3 };
    let signature = Signature {
        params: Type::several(u, most)?,
        result: Type::several(u, 1)?.pop(),
    };
    let planted = plant(u, &signature)?;
    let wasm = guest(&signature, encoding, &planted);
    let ours = Ours::new(&wasm, &signature, Instances::PerCall, Answers::Now)
        .unwrap_or_else(|e| panic!("{signature:?}: {e:?}"));
    let mut judge =
        Judge::new(&wasm, "take", Instances::PerCall).unwrap_or_else(|e| panic!("{signature:?}: {e:?}"));
    let nothing = Signature {
        params: vec![],
        result: None,
    };
    let given = Signature {
        params: vec![],
        result: signature.result.clone(),
    };
    for (name, called) in [("take", &nothing), ("give", &given)] {
        let result = ours.call(name, called, &[]);
        let judged = judge.call(name, called, &[]);
        let show = || format!("{name} of {signature:?} in {encoding:?}, {planted:?}");
        let got = exchange(&ours.shared, |e| e.got.take());
        let expected = exchange(&judge.shared, |e| e.got.take());
        match (result, judged) {
            (Ok(result), Ok(judged)) => {
                assert_eq!(result, judged, "{}", show());
                assert_eq!(got, expected, "{}", show());
            }
            (Err(_), Err(_)) => {}
            (Err(e), _) | (_, Err(e)) if exhausted(&e) => {}
            (a, b) => panic!("the engine made {a:?}, wasmtime {b:?}: {}", show()),
        }
    }
    Ok(())
}

/// The hosts charge what they make differently.
fn exhausted(e: &wasmtime::Error) -> bool {
    format!("{e:?}").contains("fuel allocated for hostcalls has been exhausted")
}
