//! Values of arbitrary types into a guest, out of it into a host function, and all the way back.

use arbitrary::{Result, Unstructured};
use loop_engine::{Instances, Num};
use wasmtime::component::Val;

use crate::component::{Calls, Encoding, Signature, echo};
use crate::hosts::{Answers, Judge, Ours, exchange};
use crate::types::Type;
use crate::values::{arbitrary, to_engine};

/// Sends values through an echo in both hosts: what the host function gets, what the caller gets, and each byte and
/// core value that the guest sees must be the same, and be what was sent. The engine may run an asynchronous twin of
/// the component that wasmtime runs. At last the engine gets a value of another type, which it may refuse.
pub fn values(data: &[u8]) {
    // an input that has too little for a case makes none
    let _ = transfer(&mut Unstructured::new(data));
}

fn transfer(u: &mut Unstructured<'_>) -> Result<()> {
    let encoding: Encoding = u.arbitrary()?;
    let instances = *u.choose(&[Instances::PerCall, Instances::Shared, Instances::Pool(1)])?;
    let mut answers = *u.choose(&[Answers::Now, Answers::Now, Answers::Later])?;
    let mut calls = *u.choose(&[Calls::Plain, Calls::Plain, Calls::Waiting, Calls::Async])?;
    let most = if u.ratio(1, 8)? { 20 } else { 3 };
    let signature = Signature {
        params: Type::several(u, most)?,
        result: Type::several(u, 1)?.pop(),
    };
    if calls == Calls::Async {
        answers = Answers::Now;
        if !signature.lowers_async() {
            calls = Calls::Waiting;
        }
    }
    let seen = Signature {
        params: signature.params.clone(),
        result: Some(Type::List(Box::new(Type::Num(Num::U8)))),
    };
    let about = || format!("{signature:?} in {encoding:?}, {instances:?}, {calls:?}, {answers:?}");
    let ours = Ours::new(&echo(&signature, encoding, calls), &signature, instances, answers);
    let ours = ours.unwrap_or_else(|e| panic!("{}: {e:?}", about()));
    let judge = Judge::new(&echo(&signature, encoding, Calls::Plain), "through", instances);
    let mut judge = judge.unwrap_or_else(|e| panic!("{}: {e:?}", about()));
    let mut sent = vec![];
    for _ in 0..u.int_in_range(1..=6)? {
        let args: Vec<Val> = signature
            .params
            .iter()
            .map(|t| arbitrary(u, t))
            .collect::<Result<_>>()?;
        let answer = signature.result.as_ref().map(|t| arbitrary(u, t)).transpose()?;
        for shared in [&ours.shared, &judge.shared] {
            exchange(shared, |e| {
                e.got = None;
                e.answer = signature.result.clone().zip(answer.clone());
            });
        }
        let show = || format!("{} {args:?} {answer:?}", about());
        let result = ours.call("through", &signature, &args);
        let judged = judge.call("through", &signature, &args);
        match (result, judged) {
            (Ok(result), Ok(judged)) => {
                assert_eq!(result, answer, "the result of {}", show());
                assert_eq!(judged, answer, "wasmtime's result of {}", show());
                let got = exchange(&ours.shared, |e| e.got.take());
                assert_eq!(got.as_ref(), Some(&args), "what the import got of {}", show());
                let got = exchange(&judge.shared, |e| e.got.take());
                assert_eq!(
                    got.as_ref(),
                    Some(&args),
                    "what wasmtime's import got of {}",
                    show()
                );
            }
            // more than the guest's memory holds
            (Err(_), Err(_)) => return Ok(()),
            (a, b) => panic!("the engine made {a:?}, wasmtime {b:?} of {}", show()),
        }
        let result = ours.call("seen", &seen, &args);
        let judged = judge.call("seen", &seen, &args);
        match (result, judged) {
            (Ok(result), Ok(judged)) => assert_eq!(result, judged, "what the guest sees of {}", show()),
            (Err(_), Err(_)) => return Ok(()),
            (a, b) => panic!("the engine made {a:?}, wasmtime {b:?} of {}", show()),
        }
        sent.push(args);
    }
    // last, since wasmtime's component has no such function, and its memory would differ from here on
    if let Some(back) = signature.back().filter(|_| calls != Calls::Plain) {
        for args in sent {
            let result = ours.call("back", &back, &args[..1]);
            let result = result.unwrap_or_else(|e| panic!("{e:?} of {} {args:?}", about()));
            assert_eq!(result.as_ref(), args.first(), "what comes back of {}", about());
        }
    }
    misfit(u, &signature, &ours)
}

/// Arguments and an answer of which one may be of another type than it should.
fn misfit(u: &mut Unstructured<'_>, signature: &Signature, ours: &Ours) -> Result<()> {
    let wrong = u.int_in_range(0..=signature.params.len())?;
    let other = Type::arbitrary(u)?;
    let mut args = vec![];
    for (i, t) in signature.params.iter().enumerate() {
        let t = if i == wrong { &other } else { t };
        args.push(to_engine(t, &arbitrary(u, t)?));
    }
    let answer = match &signature.result {
        Some(t) if wrong < signature.params.len() => Some(t.clone()),
        _ => Some(other),
    };
    let answer = answer.map(|t| Ok((arbitrary(u, &t)?, t))).transpose()?;
    exchange(&ours.shared, |e| e.answer = answer.map(|(v, t)| (t, v)));
    // whether it is refused depends on what the value looks like; that nothing breaks does not
    let _ = ours.call_with("through", args);
    Ok(())
}
