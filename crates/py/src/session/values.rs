//! Arguments and results between Python and the bytes of a session.

use std::sync::Arc;

use bytes::Bytes;
use loop_engine::{Domain, FuncTy, Mismatch, convert};
use loop_remote::{BadBytes, Encoded, Ends, Failed, Message, Pump, Spawn, Wire as Value, follow, receive};
use loop_wire::Failure;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wasmtime::Error;

use super::conn::{Waiter, Wire};
use super::contract::Member;
use super::failures;
use super::futures::settle;
use super::pumps::{Later, WireInvocation};
use crate::domain::{PyFailure, Python_};
use crate::errors;
use crate::hub;
use crate::values::Ok as OkValue;

/// The bytes of a call's arguments.
///
/// Raises ArgumentError where they do not fit.
pub fn arguments(wire: &Wire, f: &FuncTy, args: &Bound<'_, PyTuple>, ends: &Ends) -> PyResult<Message> {
    let py = args.py();
    counted(f, args)?;
    hub::within(&wire.hub, || {
        let made = Encoded::enter(|cx| {
            Encoded::all(cx, f.params.len(), |i| {
                let item = args.get_borrowed_item(i).map_err(crate::domain::failure)?;
                convert::<Python_, Encoded>(cx, &f.params[i].1, &item.to_owned()).map_err(|e| named(e, i))
            })
        });
        made.and_then(|mut v| v.pop().map_or_else(|| Ok(Message::default()), |v| v.finish(ends)))
    })
    .map_err(|e| bad_argument(py, f, &e))
}

/// Raises ArgumentError where a call has more or fewer arguments than `f` takes.
pub fn counted(f: &FuncTy, args: &Bound<'_, PyTuple>) -> PyResult<()> {
    let py = args.py();
    if args.len() != f.params.len() {
        let text = format!(
            "{} takes {} arguments, got {}",
            f.path(),
            f.params.len(),
            args.len()
        );
        let count = f.params.len().to_string();
        return Err(errors::raise(
            py,
            "ArgumentError",
            (
                text,
                &*f.interface,
                &*f.name,
                "",
                "",
                count,
                args.len().to_string(),
            ),
        ));
    }
    Ok(())
}

/// Puts the number of a parameter before the path of a mismatch.
pub fn named(e: Error, i: usize) -> Error {
    match e.downcast::<Mismatch>() {
        Ok(mut m) => {
            m.path.insert_str(0, &format!("{i}"));
            m.into()
        }
        Err(e) => e,
    }
}

/// What arguments that do not fit raise.
pub fn bad_argument(py: Python<'_>, f: &FuncTy, e: &Error) -> PyErr {
    let Some(m) = e.downcast_ref::<Mismatch>() else {
        return raised(py, f, e);
    };
    let digits = m.path.find(|c: char| !c.is_ascii_digit()).unwrap_or(m.path.len());
    let (number, path) = m.path.split_at(digits);
    let parameter = number
        .parse()
        .ok()
        .and_then(|i: usize| f.params.get(i))
        .map_or("", |(n, _)| n);
    let m = Mismatch {
        path: path.into(),
        ..m.clone()
    };
    let text = format!("{}: parameter `{parameter}`: {m}", f.path());
    let args = (
        text,
        &*f.interface,
        &*f.name,
        parameter,
        path,
        &m.expected,
        &m.got,
    );
    errors::raise(py, "ArgumentError", args)
}

/// The arguments that bytes are.
pub fn parameters(
    py: Python<'_>,
    wire: &Wire,
    f: &FuncTy,
    root: &Bytes,
    ends: &Ends,
) -> Result<Vec<Py<PyAny>>, Error> {
    hub::within(&wire.hub, || {
        let values = receive(&f.param_tuple, root, ends)?;
        let made = values.iter().zip(&f.params).map(|(v, (_, t))| object(py, t, v));
        made.collect()
    })
}

fn object(py: Python<'_>, t: &loop_engine::TyRef, v: &Value) -> Result<Py<PyAny>, Error> {
    Encoded::enter(|cx| convert::<Encoded, Python_>(py, t, &Encoded::view(cx, v)))
}

/// The bytes of what a provider gave for `member`'s result.
pub fn result(
    wire: &Wire,
    member: &Member,
    value: Option<Bound<'_, PyAny>>,
    ends: &Ends,
) -> Result<Message, Error> {
    let (Some(t), Some(value)) = (&member.ty.result, value) else {
        return Ok(Message::default());
    };
    hub::within(&wire.hub, || {
        let made = Encoded::enter(|cx| Encoded::all(cx, 1, |_| convert::<Python_, Encoded>(cx, t, &value)))?;
        made.into_iter()
            .next()
            .map_or_else(|| Ok(Message::default()), |v| v.finish(ends))
    })
}

/// An answer has come.
pub fn answered(wire: &Bound<'_, Wire>, waiter: Waiter, root: &Bytes) -> PyResult<()> {
    let (me, py) = (wire.get(), wire.py());
    let f = &waiter.member.ty;
    let read = hub::within(&me.hub, || {
        let values = receive(&f.result_tuple, root, &waiter.ends)?;
        let value = values.first().zip(f.result.as_ref());
        value.map(|(v, t)| object(py, t, v)).transpose()
    });
    let outcome = match read {
        Err(e) => Err(raised(py, f, &e)),
        Ok(None) => Ok(py.None()),
        Ok(Some(v)) => unfolded(py, waiter.member.fallible, v),
    };
    settle(py, &waiter.future, outcome)
}

/// The value of a WIT `result`, whose error is raised; any other value as it is.
pub fn unfolded(py: Python<'_>, fallible: bool, v: Py<PyAny>) -> PyResult<Py<PyAny>> {
    match v.cast_bound::<OkValue>(py) {
        _ if !fallible => Ok(v),
        Ok(ok) => Ok(ok.get().value.clone_ref(py)),
        Err(_) => Err(PyErr::from_value(v.into_bound(py))),
    }
}

/// An engine error of values as an exception.
pub fn raised(py: Python<'_>, f: &FuncTy, e: &Error) -> PyErr {
    if let Some(Failed(failure)) = e.downcast_ref() {
        return failures::raised(py, failure);
    }
    if let Some(bad) = e.downcast_ref::<BadBytes>() {
        let text = format!("{}: the peer sent what is no value: {bad}", f.path());
        return failures::raised(py, &Failure::protocol(text));
    }
    errors::of_call(py, &f.path(), e)
}

/// What a provider's failure is on the wire.
pub fn failed(py: Python<'_>, f: &FuncTy, e: &Error) -> Failure {
    match e.downcast_ref() {
        Some(PyFailure(e)) => failures::told(py, e, &f.interface, &f.name),
        None => loop_remote::failure(e)
            .with("interface", &*f.interface)
            .with("function", &*f.name),
    }
}

/// The other side of an invocation; with channels where its types have any.
pub fn ends(
    wire: &Bound<'_, Wire>,
    stream: u32,
    streaming: bool,
    handles: Arc<dyn loop_remote::Handles>,
) -> Ends {
    let invocation = streaming.then(|| {
        let made: Arc<dyn loop_remote::Invocation> = Arc::new(WireInvocation {
            wire: wire.clone().unbind(),
            queue: wire.get().queue.clone(),
            stream,
        });
        made
    });
    Ends { invocation, handles }
}

/// Sends what follows the values of an invocation.
///
/// Errors where that is more than the peer takes.
pub fn send_rest(wire: &Wire, ends: &Ends, message: &mut Message) -> Result<(), Failure> {
    let pending = std::mem::take(&mut message.pending);
    if pending.is_empty() {
        return Ok(());
    }
    let (queue, hub) = (wire.queue.clone(), wire.hub.clone());
    let spawn: Spawn = Arc::new(move |pump| {
        queue.spawn(Box::pin(Hubbed {
            hub: hub.clone(),
            pump,
        }));
    });
    follow(ends, pending, &spawn).map_err(|e| loop_remote::failure(&e))
}

/// A pump whose values know their event loop.
struct Hubbed {
    hub: Arc<hub::HubInner>,
    pump: Pump,
}

impl Future for Hubbed {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let hub = self.hub.clone();
        hub::within(&hub, || self.pump.as_mut().poll(cx))
    }
}

/// Does what was left for this turn of the loop.
pub fn run(wire: &Wire) {
    for later in wire.queue.begin() {
        let mut state = crate::hub::lock(&wire.state);
        match later {
            Later::Close(stream) => state.core.close(stream),
            Later::LetGo(link, resource, handle) => state.core.drop_handle(link, resource, &handle),
        }
    }
    wire.queue.run();
}
