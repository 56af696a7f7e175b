//! Calls of a peer, answered by Python.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_remote::Ends;
use loop_wire::session::{Called, Times};
use loop_wire::{Code, Failure, Link};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use super::conn::Wire;
use super::contract::Member;
use super::failures;
use super::jobs::Job;
use super::links::{Bound as Bindings, Served, Target};
use super::values;
use crate::hub::lock;
use crate::invoked::{Invoked, PeerCall};
use crate::offer;

/// Answers a call: at once, or later where its provider gives a coroutine.
pub fn called(wire: &Bound<'_, Wire>, called: Called) -> PyResult<()> {
    let (me, py) = (wire.get(), wire.py());
    let Called {
        stream,
        function,
        link,
        meta,
        root,
        at,
    } = called;
    let begun = meta.timed.then(Instant::now);
    let member = me
        .exports
        .as_ref()
        .and_then(|c| c.get().members.get(function as usize).cloned());
    let Some(member) = member else {
        let failure = Failure::new(
            Code::NoSuchFunction,
            format!("there is no function number {function}"),
        );
        return refuse(wire, stream, failure.with("function", function));
    };
    let Some(bound) = me.links.get(link) else {
        let text = match link {
            0 => "this provider serves only links with a grant: bind one first".into(),
            _ => format!("link {link} was not bound"),
        };
        return refuse(
            wire,
            stream,
            Failure::new(Code::NotGranted, text).with("link", link),
        );
    };
    let ends = values::ends(wire, stream, member.streaming, Arc::new(Served(bound.clone())));
    let args = match values::parameters(py, me, &member.ty, &root, &ends) {
        Ok(args) => args,
        Err(e) => return refuse(wire, stream, values::failed(py, &member.ty, &e)),
    };
    let answer = Answer {
        stream,
        member,
        ends,
        clock: begun.map(|begun| Clock {
            queue: begun.duration_since(at),
            decode: begun.elapsed(),
            entered: Instant::now(),
        }),
    };
    let Some((target, waits)) = bound.targets.get(function as usize).and_then(Option::as_ref) else {
        let path = answer.member.ty.path();
        let failure = Failure::new(Code::NoSuchFunction, format!("{path} is not implemented here"));
        return refuse(wire, stream, failure.with("function", path));
    };
    let invoked = Invoked::Peer(PeerCall {
        wire: wire.clone().unbind(),
        meta,
        at,
        link: bound.name.clone(),
    });
    let out = invoked.during(|| match target {
        Target::Callable(c) => PyTuple::new(py, args).and_then(|args| c.bind(py).call1(args)),
        Target::Method(name) => {
            let mut args = args.into_iter();
            match args.next() {
                Some(this) => {
                    PyTuple::new(py, args).and_then(|args| this.bind(py).call_method1(name.bind(py), args))
                }
                None => Err(pyo3::exceptions::PyTypeError::new_err(
                    "a method without its object",
                )),
            }
        }
    });
    match out {
        Ok(coroutine) if *waits => me
            .links
            .later(Py::new(py, Job::new(wire, invoked, coroutine, answer))?),
        // it wants the process to end, and whoever called learns it by that
        Err(e) if leaves(py, &e) => Err(e),
        out => answer.give(wire, out),
    }
}

pub(super) fn leaves(py: Python<'_>, e: &PyErr) -> bool {
    e.is_instance_of::<PySystemExit>(py) || e.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// A call that is being answered.
pub struct Answer {
    pub(super) stream: u32,
    member: Arc<Member>,
    ends: Ends,
    /// Where whoever called wants to know it.
    clock: Option<Clock>,
}

/// Where the time of a call went until the provider was entered.
struct Clock {
    queue: Duration,
    decode: Duration,
    entered: Instant,
}

impl Clock {
    fn times(&self, left: Instant) -> Times {
        Times {
            queue: self.queue.as_nanos() as u64,
            decode: self.decode.as_nanos() as u64,
            provider: left.duration_since(self.entered).as_nanos() as u64,
            encode: left.elapsed().as_nanos() as u64,
        }
    }
}

impl Answer {
    /// The provider is entered only now.
    pub(super) fn enter(&mut self) {
        if let Some(clock) = &mut self.clock {
            let now = Instant::now();
            clock.queue += now.duration_since(clock.entered);
            clock.entered = now;
        }
    }

    /// Answers with what the provider gave or raised.
    pub(super) fn give(self, wire: &Bound<'_, Wire>, out: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let (me, py) = (wire.get(), wire.py());
        let left = self.clock.as_ref().map(|_| Instant::now());
        let f = &self.member.ty;
        let made = offer::settle(py, f, self.member.fallible, out)
            .and_then(|v| values::result(me, &self.member, v.map(|v| v.into_bound(py)), &self.ends));
        let mut message = match made {
            Ok(message) => message,
            Err(e) => return refuse(wire, self.stream, values::failed(py, f, &e)),
        };
        let times = self
            .clock
            .as_ref()
            .zip(left)
            .map(|(clock, left)| clock.times(left));
        let root = Bytes::from(std::mem::take(&mut message.bytes));
        // it goes in the loop's next turn, after the answer
        if let Err(why) = values::send_rest(me, &self.ends, &mut message) {
            return refuse(wire, self.stream, why);
        }
        lock(&me.state)
            .core
            .respond(self.stream, Ok(root), times.as_ref(), self.member.streaming);
        Ok(())
    }
}

fn refuse(wire: &Bound<'_, Wire>, stream: u32, failure: Failure) -> PyResult<()> {
    lock(&wire.get().state)
        .core
        .respond(stream, Err(failure), None, false);
    Ok(())
}

/// Binds a link to what the provider makes for its grant.
pub fn bind(wire: &Bound<'_, Wire>, link: &Link) -> PyResult<()> {
    let (me, py) = (wire.get(), wire.py());
    let bound = me.ask(py, "bind", (link.number, &link.name, &link.grant, &link.config));
    let failure = match bound.and_then(|targets| targets_of(&targets)) {
        Ok(targets) => {
            let name = Some(link.name.as_str().into());
            me.links.bind(link.number, Bindings::of(targets, name));
            None
        }
        Err(e) => Some(failures::told(py, &e, "", "")),
    };
    lock(&me.state).core.linked(link.number, failure);
    Ok(())
}

/// From `[(callable | name | None, waits), ...]`, one for each function.
pub fn targets_of(list: &Bound<'_, PyAny>) -> PyResult<Vec<Option<(Target, bool)>>> {
    let list = list.cast::<PyList>()?;
    let made = list.iter().map(|item| {
        let (target, waits): (Bound<'_, PyAny>, bool) = item.extract()?;
        Ok(if target.is_none() {
            None
        } else if let Ok(name) = target.cast::<PyString>() {
            Some((Target::Method(name.clone().unbind()), waits))
        } else {
            Some((Target::Callable(target.unbind()), waits))
        })
    });
    made.collect()
}
