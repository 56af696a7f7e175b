//! Deadlines, signs of life, and the turn of the loop in which they are due.

use std::time::{Duration, Instant};

use loop_wire::Failure;
use pyo3::intern;
use pyo3::prelude::*;

use super::{HANDSHAKE, Wire};
use crate::hub::lock;

impl Wire {
    /// Deals with time: what is late, and whether the peer is still there.
    pub(super) fn on_time(slf: &Bound<'_, Self>) -> PyResult<()> {
        let me = slf.get();
        let now = Instant::now();
        let idle = Duration::from_millis(me.ours.limits.idle.max(3).into());
        let (events, gone) = {
            let mut state = lock(&me.state);
            state.tick = None;
            let silent = now.duration_since(state.heard);
            let gone = match (state.core.is_open(), state.pinged) {
                (false, _) => {
                    (silent >= HANDSHAKE).then(|| "the peer did not begin a session in time".to_owned())
                }
                (true, true) => (silent >= idle)
                    .then(|| format!("nothing was heard of the peer for {} s", idle.as_secs_f64())),
                (true, false) => {
                    if silent >= idle / 3 {
                        state.pinged = true;
                        state.core.ping([0; 8]);
                    }
                    None
                }
            };
            (state.core.expire(now), gone)
        };
        for event in events {
            Self::event(slf, event)?;
        }
        if let Some(why) = gone {
            return Self::end(slf, Failure::gone(why, false));
        }
        Self::flush_now(slf)?;
        Self::plan_tick(slf)
    }

    /// Has [`Self::on_time`] called when something is due.
    pub(super) fn plan_tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        let (next, old) = {
            let mut state = lock(&me.state);
            if state.fds.is_none() {
                return Ok(());
            }
            let idle = Duration::from_millis(me.ours.limits.idle.max(3).into());
            let alive = match (state.core.is_open(), state.pinged) {
                (false, _) => state.heard + HANDSHAKE,
                (true, false) => state.heard + idle / 3,
                (true, true) => state.heard + idle,
            };
            let next = state.core.next_deadline().map_or(alive, |d| d.min(alive));
            if state.tick.as_ref().is_some_and(|(at, _)| *at <= next) {
                return Ok(());
            }
            (next, state.tick.take())
        };
        if let Some((_, old)) = old {
            old.call_method0(py, intern!(py, "cancel"))?;
        }
        let wait = next.saturating_duration_since(Instant::now()).as_secs_f64();
        let tick = slf.getattr(intern!(py, "_tick"))?;
        let handle = me
            .event_loop
            .call_method1(py, intern!(py, "call_later"), (wait, tick))?;
        lock(&me.state).tick = Some((next, handle));
        Ok(())
    }

    /// Has the loop look for more in its next turn, where that is likely, instead of sleeping until it is woken.
    pub(super) fn look_again(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        {
            let mut state = lock(&me.state);
            if state.looking || state.fds.is_none() || !state.eager.looks(Instant::now()) {
                return Ok(());
            }
            state.looking = true;
        }
        let look = slf.getattr(intern!(py, "_look"))?;
        me.event_loop
            .call_method1(py, intern!(py, "call_soon"), (look,))?;
        Ok(())
    }
}
