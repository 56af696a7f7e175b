//! Writes of many connections, made one after another.
//!
//! A write wakes whoever reads at the other end, and waking a sleeping thread or virtual core costs as much as the
//! rest of the request. So a thread that has several requests at hand answers them all before it writes: the first
//! write wakes the reader, who finds the rest without another wake.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A batch that took longer than this to gather held its first response back for too long: its guests compute, and
/// wakes are the least of the cost. (Shorter, and a thread that the system interrupts would look busy.)
const SLOW: Duration = Duration::from_millis(10);

/// For how many times as long nothing is held back after that.
const REST: u32 = 10;

/// Larger writes cost more than a wake.
pub(super) const SMALL: usize = 16 << 10;

#[derive(Default)]
struct Batch {
    waiting: Vec<Waker>,
    flusher: Option<Waker>,
    first: Option<Instant>,
    resting: Option<Instant>,
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

/// Puts a write off until the tasks that are ready now have run; the task is woken for it then. `false`: write at
/// once.
pub(super) fn hold(cx: &mut Context<'_>) -> bool {
    BATCH.with_borrow_mut(|batch| {
        let Some(flusher) = &batch.flusher else {
            return false;
        };
        if batch.first.is_none() {
            let now = Instant::now();
            if batch.resting.is_some_and(|end| now < end) {
                return false;
            }
            batch.first = Some(now);
            // it goes to the end of the queue of tasks
            flusher.wake_by_ref();
        }
        batch.waiting.push(cx.waker().clone());
        true
    })
}

/// The task of each thread that lets the writes go.
pub(super) async fn flush() {
    poll_fn(|cx| {
        BATCH.with_borrow_mut(|batch| {
            match &batch.flusher {
                Some(own) if own.will_wake(cx.waker()) => {}
                _ => batch.flusher = Some(cx.waker().clone()),
            }
            batch.waiting.drain(..).for_each(Waker::wake);
            if let Some(first) = batch.first.take() {
                let now = Instant::now();
                let took = now - first;
                batch.resting = (took > SLOW).then(|| now + took * REST);
            }
        });
        Poll::Pending
    })
    .await
}
