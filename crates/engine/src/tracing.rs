//! Which span the call at work belongs to.
//!
//! A call that somebody attached a context to keeps its spans there. One of a synchronous Store runs on its caller's
//! stack, and so its spans are this thread's, for as long as it runs.

use std::cell::RefCell;

use crate::actor::CallContext;
use crate::program::StoreKind;
use crate::scope::{behalf, current_home};

/// A W3C trace context: trace id, span id, flags.
pub type Trace = [u8; 25];

thread_local! {
    /// Those that the synchronous calls on this stack have entered, the current one last.
    static ENTERED: RefCell<Vec<Trace>> = const { RefCell::new(vec![]) };
}

/// The span that the call at work belongs to, as far as the engine knows; none outside of one.
pub fn trace() -> Option<Trace> {
    match behalf()?.context {
        Some(context) => context.trace(),
        None => ENTERED.with_borrow(|entered| entered.last().copied()),
    }
}

/// A span that is the current one of its call until this is dropped.
pub struct EnteredTrace {
    span: Trace,
    /// None: it is on this thread's stack.
    context: Option<CallContext>,
}

/// Makes `span` the current one of the call at work; none outside of one, and where the embedder attached nothing to a
/// call that may move between threads.
pub fn enter_trace(span: Trace) -> Option<EnteredTrace> {
    let context = behalf()?.context;
    match &context {
        Some(context) => context.enter(span),
        None if current_home()?.program.kind == StoreKind::Sync => {
            ENTERED.with_borrow_mut(|entered| entered.push(span));
        }
        None => return None,
    }
    Some(EnteredTrace { span, context })
}

impl Drop for EnteredTrace {
    fn drop(&mut self) {
        match &self.context {
            Some(context) => context.leave(self.span),
            None => {
                // a thread that ends has let go of all
                let _ = ENTERED.try_with(|entered| forget(&mut entered.borrow_mut(), self.span));
            }
        }
    }
}

/// Takes a span out of those that were entered, wherever it is.
fn forget(entered: &mut Vec<Trace>, span: Trace) {
    if let Some(at) = entered.iter().rposition(|known| *known == span) {
        entered.remove(at);
    }
}

/// Runs a synchronous call: what it entered and did not leave is left with it.
pub(crate) fn within<R>(f: impl FnOnce() -> R) -> R {
    struct Truncate(usize);
    impl Drop for Truncate {
        fn drop(&mut self) {
            ENTERED.with_borrow_mut(|entered| entered.truncate(self.0));
        }
    }
    let _truncate = Truncate(ENTERED.with_borrow(Vec::len));
    f()
}

/// The spans of one call, for an [`crate::Attached`].
#[derive(Default)]
pub struct Spans(std::sync::Mutex<Vec<Trace>>);

impl Spans {
    /// The current one, if the call has entered any.
    pub fn last(&self) -> Option<Trace> {
        crate::scope::lock(&self.0).last().copied()
    }

    pub fn enter(&self, span: Trace) {
        crate::scope::lock(&self.0).push(span);
    }

    pub fn leave(&self, span: Trace) {
        forget(&mut crate::scope::lock(&self.0), span);
    }
}
