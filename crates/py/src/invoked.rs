//! What a provider may ask of the call that it answers. Nothing is made for it before somebody asks.

use std::any::Any;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use loop_engine::{Attached, Behalf, EnteredTrace, Spans, Trace};
use loop_wire::session::Meta;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::hub::{HubInner, lock};
use crate::program::Shell;
use crate::session::Wire;

/// What Python attaches to its calls of components.
pub struct Carried {
    /// That of `contextvars`.
    pub python: Py<PyAny>,
    pub shell: Arc<Shell>,
    /// What the caller belongs to.
    pub trace: Option<Trace>,
    /// What the call has entered itself.
    pub spans: Spans,
}

impl Attached for Carried {
    fn trace(&self) -> Option<Trace> {
        self.spans.last().or(self.trace)
    }

    fn enter(&self, span: Trace) {
        self.spans.enter(span);
    }

    fn leave(&self, span: Trace) {
        self.spans.leave(span);
    }
}

impl Carried {
    pub fn of(behalf: &Behalf) -> Option<&Carried> {
        let context = behalf.context.as_deref()?;
        (context as &dyn Any).downcast_ref()
    }
}

/// A call that Python answers.
pub enum Invoked {
    /// That of a component in this process, between two steps of its provider's coroutine.
    Component(Behalf),
    Peer(PeerCall),
}

/// A call of a peer's.
pub struct PeerCall {
    pub wire: Py<Wire>,
    pub meta: Meta,
    /// When it was read.
    pub at: Instant,
    /// As whoever bound the link calls it.
    pub link: Option<Arc<str>>,
}

thread_local! {
    static NOW: Cell<Option<NonNull<Invoked>>> = const { Cell::new(None) };
}

impl Invoked {
    /// Runs `f`, which is Python's doing for this call.
    pub fn during<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<NonNull<Invoked>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                NOW.set(self.0);
            }
        }
        if let Invoked::Peer(call) = self
            && call.meta.trace.is_some()
        {
            note_trace();
        }
        let _restore = Restore(NOW.replace(Some(NonNull::from(self))));
        f()
    }

    pub fn told(&self, py: Python<'_>) -> Told {
        match self {
            Invoked::Component(behalf) => Told::of_component(behalf),
            Invoked::Peer(call) => call.told(py),
        }
    }
}

/// Seconds left, `traceparent`, who calls, the link, and the session.
#[derive(IntoPyObject)]
pub struct Told(
    Option<f64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<Py<Wire>>,
);

impl Told {
    pub fn of_component(behalf: &Behalf) -> Told {
        let context = Carried::of(behalf);
        let left = context.and_then(|c| c.shell.inner.time_left(behalf.deadline));
        Told::within(left, context.and_then(Attached::trace))
    }

    /// Of a call within this process, which has neither an identity nor a link.
    fn within(left: Option<Duration>, trace: Option<Trace>) -> Told {
        Told(
            left.map(|d| d.as_secs_f64()),
            trace.map(traceparent),
            None,
            None,
            None,
        )
    }
}

impl PeerCall {
    fn told(&self, py: Python<'_>) -> Told {
        let left = self.meta.deadline.map(|d| d.saturating_sub(self.at.elapsed()));
        let said = self.meta.identity.as_deref().map(str::to_owned);
        Told(
            left.map(|d| d.as_secs_f64()),
            self.meta.trace.map(traceparent),
            said.or_else(|| self.wire.get().their_identity()),
            self.link.as_deref().map(str::to_owned),
            Some(self.wire.clone_ref(py)),
        )
    }
}

fn traceparent(trace: Trace) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (id, span, flags) = (&trace[..16], &trace[16..24], &trace[24..]);
    format!("00-{}-{}-{}", hex(id), hex(span), hex(flags))
}

/// The span that the call at work on this thread belongs to, as far as that costs little: tasks of providers are not
/// looked at.
pub fn current() -> Option<Trace> {
    if let Some(behalf) = loop_engine::behalf() {
        return match behalf.context {
            Some(context) => context.trace(),
            None => loop_engine::trace().or_else(attached),
        };
    }
    match NOW.get() {
        // SAFETY: as in `invoked`.
        Some(now) => match unsafe { now.as_ref() } {
            Invoked::Component(behalf) => Carried::of(behalf).and_then(Attached::trace),
            Invoked::Peer(call) => call.meta.trace,
        },
        None => attached(),
    }
}

fn attached() -> Option<Trace> {
    IS_TRACED
        .load(Relaxed)
        .then(|| Python::attach(of_variable))
        .flatten()
}

/// Notes that something is traced in this process; before that nobody looks.
pub fn note_trace() {
    if !IS_TRACED.load(Relaxed) {
        IS_TRACED.store(true, Relaxed);
    }
}

/// A span of a Python provider that is the current one of the call at work, until it is left.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Entered(Mutex<Option<EnteredTrace>>);

#[pymethods]
impl Entered {
    fn leave(&self) {
        lock(&self.0).take();
    }
}

/// Makes a span, 25 bytes, the current one of the call that a component makes of Python now; None outside of one.
#[pyfunction]
pub fn enter_span(span: [u8; 25]) -> Option<Entered> {
    note_trace();
    loop_engine::enter_trace(span).map(|entered| Entered(Mutex::new(Some(entered))))
}

/// The hubs that there are, whose tasks run for calls.
static HUBS: Mutex<Vec<Weak<HubInner>>> = Mutex::new(vec![]);

/// Takes note of a hub.
pub fn note(hub: &Arc<HubInner>) {
    let mut hubs = lock(&HUBS);
    hubs.retain(|hub| hub.strong_count() > 0);
    hubs.push(Arc::downgrade(hub));
}

/// The call that Python answers on this thread now, or in `task`; None: it answers none.
#[pyfunction]
pub fn invoked(py: Python<'_>, task: Option<Bound<'_, PyAny>>) -> Option<Told> {
    // a component's import is the innermost of all that may be on this stack
    if let Some(behalf) = loop_engine::behalf() {
        let trace = match &behalf.context {
            Some(context) => context.trace(),
            None => loop_engine::trace().or_else(|| of_variable(py)), // its caller is on the stack
        };
        return Some(Told::within(behalf.time_left(), trace));
    }
    if let Some(now) = NOW.get() {
        // SAFETY: `during` borrows it for as long as the pointer is set, and the pointer never leaves its thread.
        return Some(unsafe { now.as_ref() }.told(py));
    }
    let (task, hubs) = (task?, lock(&HUBS).clone());
    let mut hubs = hubs.iter().filter_map(Weak::upgrade);
    hubs.find_map(|hub| hub.behalf_of(&task))
        .map(|behalf| Told::of_component(&behalf))
}

/// The context variable, and what tells the trace that the running code belongs to.
static TRACE: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
/// Whether anything is traced in this process.
static IS_TRACED: AtomicBool = AtomicBool::new(false);

/// Has calls from now on carry the trace context, 25 bytes, that `current()` gives; the context variable alone has what
/// was set by hand.
#[pyfunction]
pub fn trace_by(py: Python<'_>, variable: Py<PyAny>, current: Py<PyAny>) {
    let _ = TRACE.set(py, (variable, current));
}

/// Notes that something is traced by hand.
#[pyfunction]
pub fn tracing() {
    note_trace();
}

/// The trace context that calls of the running code belong to. Costs nothing until there is one.
pub fn traced(py: Python<'_>) -> Option<Trace> {
    if !IS_TRACED.load(Relaxed) {
        return None;
    }
    let Some((_, current)) = TRACE.get(py) else {
        return self::current();
    };
    read(&current.call0(py).ok()?.into_bound(py))
}

/// That of the context variable.
fn of_variable(py: Python<'_>) -> Option<Trace> {
    let (variable, _) = TRACE.get(py)?;
    let value = variable.call_method1(py, intern!(py, "get"), (py.None(),)).ok()?;
    read(&value.into_bound(py))
}

fn read(value: &Bound<'_, PyAny>) -> Option<Trace> {
    value.extract::<&[u8]>().ok()?.try_into().ok()
}
