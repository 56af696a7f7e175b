//! Timers: waiting once, and ticks.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use loop_engine::{Chunk, Error, Import, Neutral, Result, Source};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::quota::{Held, Quota};
use crate::value::{args, stream};

/// The timers of one component.
pub(super) struct Timers {
    quota: Quota,
    /// When the monotonic clock began.
    started: Instant,
    io: Handle,
}

/// One of them.
pub(super) struct Timer {
    _held: Held,
    /// Nothing that a clock can show is later than None.
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    io: Handle,
}

impl Timers {
    pub(super) fn new(quota: Quota, started: Instant, io: Handle) -> Arc<Self> {
        Arc::new(Timers { quota, started, io })
    }

    /// A timer that is due then, or never.
    pub(super) fn start(&self, due: Option<Instant>) -> Result<Timer> {
        Ok(Timer {
            _held: self.quota.take()?,
            due,
            sleep: None,
            io: self.io.clone(),
        })
    }

    /// When the monotonic clock reaches `elapsed`.
    fn at(&self, elapsed: u64) -> Option<Instant> {
        self.started.checked_add(Duration::from_nanos(elapsed))
    }

    pub(super) fn sleep(self: &Arc<Self>) -> Import<Neutral> {
        let timers = self.clone();
        Import::later(move |a| {
            let timers = timers.clone();
            async move {
                let [how_long] = args(a)?;
                let how_long = Duration::from_nanos(how_long.as_u64()?);
                if how_long.is_zero() {
                    yield_now().await;
                    return Ok(None);
                }
                timers.start(Instant::now().checked_add(how_long))?.wait().await;
                Ok(None)
            }
        })
    }

    pub(super) fn sleep_until(self: &Arc<Self>) -> Import<Neutral> {
        let timers = self.clone();
        Import::later(move |a| {
            let timers = timers.clone();
            async move {
                let [when] = args(a)?;
                timers.start(timers.at(when.as_u64()?))?.wait().await;
                Ok(None)
            }
        })
    }

    pub(super) fn every(self: &Arc<Self>) -> Import<Neutral> {
        let timers = self.clone();
        Import::later(move |a| {
            let timers = timers.clone();
            async move {
                let [period] = args(a)?;
                let period = period.as_u64()?;
                if period == 0 {
                    return Err(Error::msg("a timer needs a period above zero"));
                }
                let from = timers.started.elapsed().as_nanos() as u64;
                let ticks = Ticks {
                    timer: timers.start(None)?,
                    started: timers.started,
                    period,
                    last: from,
                    from,
                };
                Ok(Some(stream(ticks)))
            }
        })
    }
}

impl Timer {
    /// Ready once it is due: never earlier.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        while Instant::now() < due {
            let io = &self.io;
            let sleep = self.sleep.get_or_insert_with(|| {
                let _entered = io.enter();
                Box::pin(tokio::time::sleep_until(due.into()))
            });
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    pub(super) async fn wait(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

/// Ticks that are made when they are read, so that none is kept.
struct Ticks {
    timer: Timer,
    started: Instant,
    period: u64,
    /// Where the first period began, and the last tick, by the monotonic clock.
    from: u64,
    last: u64,
}

impl Source<Neutral> for Ticks {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let due = self.last.checked_add(self.period);
        let due = due.and_then(|due| self.started.checked_add(Duration::from_nanos(due)));
        if self.timer.due != due {
            self.timer.due = due;
            self.timer.sleep = None;
        }
        ready!(self.timer.poll(cx));
        let elapsed = self.started.elapsed().as_nanos() as u64;
        self.last = elapsed - (elapsed - self.from) % self.period;
        Poll::Ready(Ok(Some(Chunk::Raw(Box::new(self.last.to_le_bytes())))))
    }
}

/// Lets others have their turn.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
