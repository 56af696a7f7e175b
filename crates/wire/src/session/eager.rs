//! How long whoever drives a session goes on looking for more before its thread sleeps.

use std::time::{Duration, Instant};

/// The longest look. To be woken on another core takes a thread longer than most calls take, and its waker's time too.
const MOST: Duration = Duration::from_micros(100);

/// Decides after each wait whether the next one is begun awake, as a hypervisor does with idle guests: only where the
/// last was short enough. Who is called seldom never looks, and nobody looks for longer than [`MOST`] in vain.
#[derive(Debug, Default)]
pub struct Eager {
    /// Since when there has been nothing to do.
    idle: Option<Instant>,
    awake: bool,
}

impl Eager {
    /// Something has come.
    pub fn read(&mut self, now: Instant) {
        if let Some(since) = self.idle.take() {
            self.awake = now.saturating_duration_since(since) < MOST;
        }
    }

    /// Something was written, to which an answer may come.
    pub fn wrote(&mut self) {
        self.idle = None;
    }

    /// There is nothing to do; whether to look again at once.
    pub fn looks(&mut self, now: Instant) -> bool {
        let since = *self.idle.get_or_insert(now);
        self.awake && now.saturating_duration_since(since) < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_has_the_next_begun_awake_and_a_long_one_does_not() {
        let mut eager = Eager::default();
        let mut now = Instant::now();
        assert!(!eager.looks(now), "nothing is known yet");
        now += MOST / 2;
        eager.read(now);
        assert!(eager.looks(now));
        now += MOST / 2;
        assert!(eager.looks(now));
        // what is written has its answer waited for from then on
        eager.wrote();
        assert!(eager.looks(now));
        now += MOST - Duration::from_nanos(1);
        assert!(eager.looks(now));
        now += Duration::from_nanos(1);
        assert!(!eager.looks(now), "long enough");
        eager.read(now);
        assert!(!eager.looks(now), "it was too long");
        eager.read(now);
        assert!(eager.looks(now));
    }
}
