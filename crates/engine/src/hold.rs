//! Calls that wait while what a provider knows is handed over to the one that takes its place.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Counts the calls at work of one provider, and has those to come wait for as long as it is on.
#[derive(Default)]
pub struct Hold {
    on: AtomicBool,
    at_work: AtomicUsize,
    changed: Notify,
}

/// A call at work.
pub(crate) struct AtWork(Arc<Hold>);

impl Drop for AtWork {
    fn drop(&mut self) {
        // what `quiet` reads it reads after it has said that calls are to wait
        if self.0.at_work.fetch_sub(1, SeqCst) == 1 && self.0.on.load(SeqCst) {
            self.0.changed.notify_waiters();
        }
    }
}

impl Hold {
    /// Has the calls to come wait, or go on.
    pub fn set(&self, on: bool) {
        self.on.store(on, SeqCst);
        self.changed.notify_waiters();
    }

    /// Begins a call; none where it is to wait.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<AtWork> {
        self.at_work.fetch_add(1, SeqCst);
        let at_work = AtWork(self.clone());
        (!self.on.load(SeqCst)).then_some(at_work)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Waits until no call is at work.
    pub async fn quiet(self: Arc<Self>) {
        self.until(|hold| hold.at_work.load(SeqCst) == 0).await;
    }

    /// Waits until calls go on.
    pub(crate) async fn over(self: Arc<Self>) {
        self.until(|hold| !hold.is_on()).await;
    }

    async fn until(&self, so: impl Fn(&Self) -> bool) {
        let mut changed = pin!(self.changed.notified());
        loop {
            // a notice that comes from here on is not lost
            changed.as_mut().enable();
            if so(self) {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }
}
