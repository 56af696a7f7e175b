//! What a watch has to tell: events, merged until they are read, as the native provider merges them.

use std::collections::BTreeMap;

use crate::exports::loop_::fsx::watching::{Event, Renaming};
use crate::loop_::core::clock;

/// How often a debounced watch is told at the latest, in its debounce times.
const AT_LATEST: u64 = 10;

/// The events that nobody has read yet.
pub struct Changes {
    events: Vec<Option<Event>>,
    /// Where the last event of a path is.
    last: BTreeMap<String, usize>,
    count: usize,
    max: usize,
    /// Nanoseconds.
    debounce: Option<u64>,
    /// When the first and the last of them came, by the monotonic clock.
    times: Option<(u64, u64)>,
}

impl Changes {
    pub fn new(max: usize, debounce: Option<u64>) -> Self {
        Changes {
            events: vec![],
            last: BTreeMap::new(),
            count: 0,
            max,
            debounce,
            times: None,
        }
    }

    pub fn push(&mut self, event: Event) {
        if self.debounce.is_some() {
            let now = clock::monotonic_now();
            self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        }
        // after an overflow all is to be looked at anew, whatever else happens
        if matches!(self.events[..], [Some(Event::Overflow)]) {
            return;
        }
        match &event {
            Event::Created(path) => match self.last_of(path) {
                Some(Event::Created(_)) => return,
                // to whom it is told late it was there all the time
                Some(Event::Removed(_)) if self.debounce.is_some() => {
                    let path = path.clone();
                    self.forget(&path);
                    return self.add(Event::Modified(path));
                }
                _ => {}
            },
            Event::Modified(path) => {
                if let Some(Event::Created(_) | Event::Modified(_)) = self.last_of(path) {
                    return;
                }
            }
            Event::Removed(path) => match self.last_of(path) {
                Some(Event::Removed(_)) => return,
                // nobody was told of it
                Some(Event::Created(_)) => return self.forget(&path.clone()),
                Some(Event::Modified(_)) => self.forget(&path.clone()),
                _ => {}
            },
            Event::Renamed(_) => {}
            Event::Overflow => return self.overflow(),
        }
        self.add(event);
    }

    fn last_of(&self, path: &str) -> Option<&Event> {
        self.last.get(path).and_then(|&at| self.events[at].as_ref())
    }

    fn forget(&mut self, path: &str) {
        if let Some(at) = self.last.remove(path)
            && self.events[at].take().is_some()
        {
            self.count -= 1;
        }
    }

    fn add(&mut self, event: Event) {
        if self.count == self.max {
            return self.overflow();
        }
        let at = self.events.len();
        match &event {
            Event::Created(path) | Event::Modified(path) | Event::Removed(path) => {
                self.last.insert(path.clone(), at);
            }
            Event::Renamed(Renaming { old, new }) => {
                self.last.insert(old.clone(), at);
                self.last.insert(new.clone(), at);
            }
            Event::Overflow => {}
        }
        self.events.push(Some(event));
        self.count += 1;
        // those that were taken out again must not pile up
        if self.events.len() > 2 * self.max {
            self.pack();
        }
    }

    fn pack(&mut self) {
        let mut to = vec![usize::MAX; self.events.len()];
        let mut kept = 0;
        for (from, event) in self.events.iter().enumerate() {
            if event.is_some() {
                to[from] = kept;
                kept += 1;
            }
        }
        self.events.retain(Option::is_some);
        self.last.retain(|_, at| {
            *at = to[*at];
            *at != usize::MAX
        });
    }

    fn overflow(&mut self) {
        self.events = vec![Some(Event::Overflow)];
        self.last.clear();
        self.count = 1;
    }

    /// When they are to be told, by the monotonic clock; none: there is nothing.
    pub fn due(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let (Some(debounce), Some((first, last))) = (self.debounce, self.times) else {
            return Some(0);
        };
        Some((last + debounce).min(first + debounce * AT_LATEST))
    }

    pub fn take(&mut self) -> Vec<Event> {
        self.last.clear();
        self.count = 0;
        self.times = None;
        std::mem::take(&mut self.events).into_iter().flatten().collect()
    }
}
