//! What Python asks of a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_remote::Ends;
use loop_wire::session::{Meta, Request};
use loop_wire::{Code, Failure, Link};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::conn::{Waiter, Wire};
use super::contract::Contract;
use super::failures;
use super::links::{self, Bound as Bindings};
use super::pending::WireCall;
use super::values;
use crate::hub::lock;
use crate::invoked::traced;

#[pymethods]
impl Wire {
    /// Calls function number `index` of the imported contract; awaited, it gives the result. `deadline` in seconds.
    #[pyo3(signature = (index, args, *, deadline = None, link = 0, trace = None, identity = None))]
    #[allow(clippy::too_many_arguments)]
    fn call(
        slf: &Bound<'_, Self>,
        index: usize,
        args: &Bound<'_, PyTuple>,
        deadline: Option<f64>,
        link: u32,
        trace: Option<[u8; 25]>,
        identity: Option<String>,
    ) -> PyResult<WireCall> {
        let (me, py) = (slf.get(), slf.py());
        if let Some(why) = me.over.get() {
            return Err(failures::raised(py, &Failure::gone(why.message.clone(), true)));
        }
        let contract = me
            .imports
            .as_ref()
            .ok_or_else(|| PyRuntimeError::new_err("nothing is imported"))?;
        let member = contract.get().member(index)?;
        let function = match me.numbers.get().and_then(|n| n.get(index)) {
            Some(&number) if number != u32::MAX => number,
            Some(_) => {
                let failure = Failure::new(
                    Code::NoSuchFunction,
                    format!("the peer has no {}", member.ty.path()),
                );
                return Err(failures::raised(py, &failure));
            }
            None => return Err(PyRuntimeError::new_err("the handshake is not over")),
        };
        let future = me.event_loop.call_method0(py, intern!(py, "create_future"))?;
        let handles = Arc::new(links::Called {
            wire: slf.clone().unbind(),
            link,
        });
        let mut ends = Ends {
            invocation: None,
            handles,
        };
        let mut message = values::arguments(me, &member.ty, args, &ends)?;
        let request = Request {
            function,
            link,
            meta: Meta {
                deadline: deadline.map(|s| Duration::from_secs_f64(s.clamp(0.0, 1e9))),
                trace: trace.or_else(|| traced(py)),
                identity: identity.map(Into::into),
                ..Meta::default()
            },
            root: Bytes::from(std::mem::take(&mut message.bytes)),
            streaming: member.streaming,
        };
        let stream = {
            let mut state = lock(&me.state);
            let stream = state.core.next_stream();
            if member.streaming {
                ends = values::ends(slf, stream, true, ends.handles);
            }
            let waiter = Waiter {
                future: future.clone_ref(py),
                lent: member.ty.lends.then(|| args.clone().unbind()),
                member,
                ends: ends.clone(),
            };
            let now = Instant::now();
            state.core.call(now, request, waiter)
        };
        if let Err(why) = values::send_rest(me, &ends, &mut message) {
            let waiter = lock(&me.state).core.cancel(stream);
            drop(waiter);
            return Err(failures::raised(py, &why));
        }
        me.queue.schedule(py);
        Ok(WireCall::new(slf.clone().unbind(), stream, future))
    }

    /// Binds a link at the peer; a future.
    fn link(
        slf: &Bound<'_, Self>,
        number: u32,
        name: String,
        grant: String,
        config: String,
    ) -> PyResult<Py<PyAny>> {
        let (me, py) = (slf.get(), slf.py());
        let future = me.event_loop.call_method0(py, intern!(py, "create_future"))?;
        let said = {
            let mut state = lock(&me.state);
            state.linking.push((number, future.clone_ref(py)));
            state.core.link(&Link {
                number,
                name,
                grant,
                config,
            })
        };
        said.map_err(|e| failures::raised(py, &e))?;
        me.queue.schedule(py);
        Ok(future)
    }

    fn unlink(slf: &Bound<'_, Self>, number: u32) {
        lock(&slf.get().state).core.unlink(number);
        slf.get().queue.schedule(slf.py());
    }

    /// Serves link `number` (0: calls without a grant) by `targets`, `[(callable | method's name | None, waits), ...]`,
    /// from the next call on. Resources of the link that the peer holds stay.
    fn serve(&self, number: u32, targets: &Bound<'_, PyAny>) -> PyResult<()> {
        self.links
            .replace(number, Bindings::of(super::serve::targets_of(targets)?, None));
        Ok(())
    }

    /// Asks the peer to read its code anew; a future.
    fn reload(slf: &Bound<'_, Self>, number: u32) -> PyResult<Py<PyAny>> {
        let (me, py) = (slf.get(), slf.py());
        let future = me.event_loop.call_method0(py, intern!(py, "create_future"))?;
        let mut state = lock(&me.state);
        state.reloading.push((number, future.clone_ref(py)));
        state.core.reload(number);
        drop(state);
        me.queue.schedule(py);
        Ok(future)
    }

    /// Answers the peer's RELOAD; with an error where it could not be done.
    #[pyo3(signature = (number, error = None))]
    fn reloaded(slf: &Bound<'_, Self>, number: u32, error: Option<Bound<'_, PyAny>>) {
        let failure = error.map(|e| failures::told(slf.py(), &PyErr::from_value(e), "", ""));
        lock(&slf.get().state).core.reloaded(number, failure);
        slf.get().queue.schedule(slf.py());
    }

    /// Leaves: no new calls, and the end once those on their way are over.
    fn leave(slf: &Bound<'_, Self>, why: &str) -> PyResult<()> {
        {
            let mut state = lock(&slf.get().state);
            state.core.go_away(&Failure::gone(why, true));
            state.leaving = true;
        }
        Self::flush_now(slf)
    }

    /// Ends the session now.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end(slf, Failure::gone("the session was closed", true))
    }

    /// What of the peer is called.
    #[getter]
    fn imports(&self, py: Python<'_>) -> Option<Py<Contract>> {
        self.imports.as_ref().map(|contract| contract.clone_ref(py))
    }

    /// Calls of either side that are not over.
    #[getter]
    fn busy(&self) -> usize {
        lock(&self.state).core.busy()
    }
}
