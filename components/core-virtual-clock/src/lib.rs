//! A clock that stands still until it is moved, and the timers that wait for it.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/wit", "../../python/loop_kit/capabilities/core/wit", "wit"],
    world: "loop:virtual-clock/virtual-clock",
    generate_all,
});

mod time;

use wit_bindgen::{StreamReader, spawn_local};

use exports::loop_::core::clock::{Guest as Clock, Instant};
use exports::loop_::core::timers::Guest as Timers;
use exports::loop_::virtual_clock::control::Guest as Control;

struct Virtual;

impl Clock for Virtual {
    fn now() -> Instant {
        let now = time::with(|time| time.now());
        Instant {
            seconds: now.div_euclid(time::SECOND) as i64,
            nanoseconds: now.rem_euclid(time::SECOND) as u32,
        }
    }

    fn monotonic_now() -> u64 {
        time::with(|time| time.elapsed)
    }

    fn resolution() -> u64 {
        1
    }
}

impl Timers for Virtual {
    async fn sleep(how_long: u64) {
        let due = time::with(|time| time.elapsed.saturating_add(how_long));
        time::wait(due).await;
    }

    async fn sleep_until(when: u64) {
        time::wait(when).await;
    }

    async fn every(period: u64) -> StreamReader<u64> {
        assert!(period > 0, "a timer needs a period above zero");
        let (mut ticks, stream) = wit_stream::new();
        let started = time::with(|time| time.elapsed);
        spawn_local(async move {
            let mut last = started;
            while let Some(next) = last.checked_add(period) {
                time::wait(next).await;
                let elapsed = time::with(|time| time.elapsed);
                last = elapsed - (elapsed - started) % period;
                if ticks.write_one(last).await.is_some() {
                    return; // nobody reads any more
                }
            }
        });
        stream
    }
}

impl Control for Virtual {
    async fn advance(by: u64) {
        let end = time::with(|time| time.elapsed.saturating_add(by));
        time::settle().await;
        while let Some(due) = time::with(|time| time.next()).filter(|due| *due <= end) {
            time::with(|time| time.reach(due));
            time::settle().await;
        }
        time::with(|time| time.reach(end));
    }

    fn set(now: Instant) {
        let now = i128::from(now.seconds) * time::SECOND + i128::from(now.nanoseconds);
        time::with(|time| time.set(now));
    }

    fn run(by_itself: bool) {
        time::with(|time| time.run(by_itself));
    }

    fn waiting() -> u32 {
        time::with(|time| time.waiting())
    }

    fn next() -> Option<u64> {
        time::with(|time| time.next())
    }
}

export!(Virtual);
