//! A wall-clock limit on a future.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use wasmtime::Result;

use crate::error::Fault;

pin_project_lite::pin_project! {
    /// A future that fails with [`Fault::Deadline`] where it takes longer than the limit. What answers at once never
    /// pays for a timer.
    pub(crate) struct Timed<F> {
        limit: Option<Duration>,
        sleep: Option<Pin<Box<Sleep>>>,
        #[pin]
        inner: F,
    }
}

impl<F> Timed<F> {
    pub fn new(limit: Option<Duration>, inner: F) -> Self {
        Timed {
            limit,
            sleep: None,
            inner,
        }
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Timed<F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        if let ready @ Poll::Ready(_) = this.inner.poll(cx) {
            return ready;
        }
        let Some(limit) = *this.limit else {
            return Poll::Pending;
        };
        // a limit too far off for the clock is none
        let Some(end) = Instant::now().checked_add(limit) else {
            return Poll::Pending;
        };
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        sleep.as_mut().poll(cx).map(|()| {
            Err(Fault::Deadline {
                seconds: limit.as_secs_f64(),
            }
            .into())
        })
    }
}
