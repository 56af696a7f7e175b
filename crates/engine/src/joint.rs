//! Stores polled side by side.
//!
//! A component's import that another component serves must not poll that one's Store from within its own: wasmtime
//! refuses to nest them. It hands the call over here instead, and whoever polls the caller polls it next, with no
//! channel or thread in between.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

type Side = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// Calls handed over by the poll that runs on this thread.
    static HANDED: RefCell<Option<Vec<Side>>> = const { RefCell::new(None) };
}

/// Runs `call` beside the instance at work; the receiver gets its result.
///
/// Without an instance at work the receiver ends empty.
pub(crate) fn beside<R: Send + 'static>(
    call: impl Future<Output = R> + Send + 'static,
) -> oneshot::Receiver<R> {
    let (tx, rx) = oneshot::channel();
    HANDED.with_borrow_mut(|handed| {
        if let Some(handed) = handed {
            handed.push(Box::pin(async move {
                let _ = tx.send(call.await);
            }));
        }
    });
    rx
}

pin_project_lite::pin_project! {
    /// A Store's future, polled together with the calls that it hands over.
    pub(crate) struct Joint<F> {
        #[pin]
        inner: F,
        sides: Vec<Side>,
    }
}

impl<F> Joint<F> {
    pub fn new(inner: F) -> Self {
        Joint { inner, sides: vec![] }
    }
}

impl<F: Future> Future for Joint<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        loop {
            let outer = HANDED.replace(Some(vec![]));
            let polled = this.inner.as_mut().poll(cx);
            let handed = HANDED.replace(outer).unwrap_or_default();
            if polled.is_ready() {
                return polled;
            }
            this.sides.extend(handed);
            let before = this.sides.len();
            this.sides.retain_mut(|side| side.as_mut().poll(cx).is_pending());
            if this.sides.len() == before {
                return Poll::Pending;
            }
        }
    }
}
