//! Calls that wait for their answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::Session;
use crate::failure::Failure;
use crate::session::handler::Answer;

/// A call that is not answered yet. Dropping it cancels the call.
pub struct Pending {
    pub(super) session: Session,
    pub(super) stream: u32,
    pub(super) answer: oneshot::Receiver<Result<Answer, Failure>>,
    pub(super) done: bool,
}

impl Pending {
    /// Names the invocation, for its streams and futures.
    pub fn stream(&self) -> u32 {
        self.stream
    }
}

impl Future for Pending {
    type Output = Result<Answer, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        self.done = true;
        Poll::Ready(answer.unwrap_or_else(|_| Err(self.session.inner().gone())))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done && self.stream != 0 {
            self.session.cancel(self.stream);
        }
    }
}
