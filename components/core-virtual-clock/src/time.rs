//! The time that it is, and who waits for which.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use serde::Deserialize;

use crate::loop_::core::{clock, timers};
use crate::loop_::provider::settings;

pub const SECOND: i128 = 1_000_000_000;

/// Turns that others get until they are taken to wait. One wakes a caller, whose own instance needs some to go on.
const TURNS: usize = 8;

pub struct Time {
    /// Nanoseconds by the monotonic clock.
    pub elapsed: u64,
    /// Nanoseconds from 1970 to where the monotonic clock began; None: nobody has asked yet.
    began: Option<i128>,
    by_itself: bool,
    /// Those who wait, by when they are due and a number of their own.
    timers: BTreeMap<(u64, u64), Option<Waker>>,
    numbers: u64,
}

thread_local! {
    static TIME: RefCell<Time> = RefCell::new(Time::configured());
}

/// The config.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    run: bool,
    now: Option<i64>,
}

pub fn with<R>(f: impl FnOnce(&mut Time) -> R) -> R {
    TIME.with_borrow_mut(f)
}

impl Time {
    fn configured() -> Time {
        let config: Config = serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
            settings::refuse("config", &e.to_string());
            Config::default()
        });
        if settings::grant() != "{}" {
            settings::refuse(
                "grant",
                "a virtual clock grants what the one below it is granted; leave it out",
            );
        }
        Time {
            elapsed: 0,
            began: config.now.map(|seconds| i128::from(seconds) * SECOND),
            by_itself: config.run,
            timers: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// Nanoseconds since 1970.
    pub fn now(&mut self) -> i128 {
        let elapsed = i128::from(self.elapsed);
        elapsed
            + *self.began.get_or_insert_with(|| {
                let now = clock::now();
                i128::from(now.seconds) * SECOND + i128::from(now.nanoseconds) - elapsed
            })
    }

    pub fn set(&mut self, now: i128) {
        self.began = Some(now - i128::from(self.elapsed));
    }

    /// Moves on to `elapsed`, unless time is there already.
    pub fn reach(&mut self, elapsed: u64) {
        self.elapsed = self.elapsed.max(elapsed);
        self.wake();
    }

    pub fn run(&mut self, by_itself: bool) {
        self.by_itself = by_itself;
        self.wake();
    }

    pub fn waiting(&self) -> u32 {
        self.timers.len() as u32
    }

    pub fn next(&self) -> Option<u64> {
        self.timers.keys().next().map(|(due, _)| *due)
    }

    /// Wakes who is due, and the earliest of all others where it has to move time.
    fn wake(&mut self) {
        for ((due, _), waker) in &mut self.timers {
            let is_due = *due <= self.elapsed;
            if (is_due || self.by_itself)
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
            if !is_due {
                break;
            }
        }
    }
}

/// A place among those who wait, which it leaves when it is dropped.
struct Timer {
    due: u64,
    number: u64,
}

impl Timer {
    fn new(due: u64) -> Timer {
        with(|time| {
            let number = time.numbers;
            time.numbers += 1;
            time.timers.insert((due, number), None);
            Timer { due, number }
        })
    }

    fn moves_time(&self) -> bool {
        with(|time| {
            let first = time.timers.keys().next() == Some(&(self.due, self.number));
            time.by_itself && first && time.elapsed < self.due
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        with(|time| {
            time.timers.remove(&(self.due, self.number));
            time.wake();
        });
    }
}

/// Waits until the monotonic clock has reached `due`.
pub async fn wait(due: u64) {
    if with(|time| time.elapsed >= due) {
        return;
    }
    let timer = Timer::new(due);
    loop {
        if timer.moves_time() {
            settle().await;
            if timer.moves_time() {
                with(|time| time.reach(due));
            }
        }
        let mut asked = false;
        let reached = poll_fn(|cx| {
            with(|time| {
                if time.elapsed >= due {
                    return Poll::Ready(true);
                }
                if std::mem::replace(&mut asked, true) {
                    return Poll::Ready(false); // woken for another reason
                }
                time.timers
                    .insert((timer.due, timer.number), Some(cx.waker().clone()));
                Poll::Pending
            })
        });
        if reached.await {
            return;
        }
    }
}

/// Lets everybody else go on until all of them wait.
pub async fn settle() {
    for _ in 0..TURNS {
        timers::sleep(0).await;
    }
}
