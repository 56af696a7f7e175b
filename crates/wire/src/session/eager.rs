//! How long whoever drives a session goes on looking for more before its thread sleeps.

use std::time::{Duration, Instant};

/// The longest look. To be woken on another core takes a thread longer than most calls take, and its waker's time too.
const MOST: Duration = Duration::from_micros(100);
/// What a wait is shorter by, begun awake.
const WON: i64 = 20_000;
/// What is allowed, to try it anew, for each wait that would have been short enough.
const ALLOWED: i64 = 1_000;
/// The most that is won in advance, and lost for good.
const RICH: i64 = 2_000_000;
const POOR: i64 = -10_000_000;

/// Decides after each wait whether the next one is begun awake, as a hypervisor does with idle guests: only where the
/// last was short enough. Who is called seldom never looks, and nobody looks for longer than [`MOST`] in vain.
///
/// What looking wins and loses is accounted for. Where a core is wanted by others, to give it to them while looking
/// costs a time slice, which to be woken does not.
#[derive(Debug, Default)]
pub struct Eager {
    /// Since when there has been nothing to do.
    idle: Option<Instant>,
    awake: bool,
    /// Nanoseconds.
    balance: i64,
}

impl Eager {
    /// Something has come.
    pub fn read(&mut self, now: Instant) {
        let Some(since) = self.idle.take() else { return };
        let waited = now.saturating_duration_since(since);
        let short = waited < MOST;
        match (self.awake, short) {
            (true, true) => self.book(WON),
            (false, true) => self.book(ALLOWED),
            (true, false) => self.lose(waited),
            (false, false) => {}
        }
        self.awake = short && self.balance >= 0;
    }

    /// Something was written, to which an answer may come.
    pub fn wrote(&mut self) {
        self.idle = None;
    }

    /// There is nothing to do; whether to look again at once.
    pub fn looks(&mut self, now: Instant) -> bool {
        let since = *self.idle.get_or_insert(now);
        let looked = now.saturating_duration_since(since);
        if self.awake && looked >= MOST {
            self.lose(looked);
            self.awake = false;
        }
        self.awake
    }

    fn lose(&mut self, time: Duration) {
        self.book(-i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    }

    fn book(&mut self, nanoseconds: i64) {
        self.balance = self.balance.saturating_add(nanoseconds).clamp(POOR, RICH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(10);
    const SLICE: Duration = Duration::from_millis(3);

    /// A wait of that length; whether the next is begun awake.
    fn wait(eager: &mut Eager, now: &mut Instant, length: Duration) -> bool {
        eager.looks(*now);
        *now += length;
        eager.read(*now);
        eager.looks(*now)
    }

    #[test]
    fn a_short_wait_has_the_next_begun_awake_and_a_long_one_does_not() {
        let (mut eager, mut now) = (Eager::default(), Instant::now());
        assert!(!eager.looks(now), "nothing is known yet");
        assert!(wait(&mut eager, &mut now, SHORT));
        assert!(!wait(&mut eager, &mut now, MOST));
    }

    #[test]
    fn a_look_ends() {
        let (mut eager, mut now) = (Eager::default(), Instant::now());
        assert!(wait(&mut eager, &mut now, SHORT));
        now += MOST - Duration::from_nanos(1);
        assert!(eager.looks(now));
        // what is written has its answer waited for from then on
        eager.wrote();
        assert!(eager.looks(now));
        now += MOST;
        assert!(!eager.looks(now));
        assert!(!eager.looks(now));
    }

    #[test]
    fn who_loses_by_it_stops_and_tries_it_anew_by_and_by() {
        let (mut eager, mut now) = (Eager::default(), Instant::now());
        let mut lost = 0;
        for _ in 0..10_000 {
            // another has the core whenever it is given away
            let length = if eager.looks(now) { SLICE } else { SHORT };
            lost += u32::from(length == SLICE);
            wait(&mut eager, &mut now, length);
        }
        assert!((2..=4).contains(&lost), "{lost}");
        // and it is alone again
        let tries = (0..).take_while(|_| !wait(&mut eager, &mut now, SHORT)).count();
        assert!(tries < 10_000, "{tries}");
        assert!((0..1_000).all(|_| wait(&mut eager, &mut now, SHORT)));
    }
}
