//! What a watch has to tell: events, merged until they are read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use loop_engine::Value;

/// In the order of the WIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Created(String),
    Modified(String),
    Removed(String),
    Renamed(String, String),
    Overflow,
}

impl From<Event> for Value {
    fn from(event: Event) -> Self {
        let (case, payload) = match event {
            Event::Created(path) => (0, Some(Value::String(path))),
            Event::Modified(path) => (1, Some(Value::String(path))),
            Event::Removed(path) => (2, Some(Value::String(path))),
            Event::Renamed(old, new) => (
                3,
                Some(Value::Fields(vec![Value::String(old), Value::String(new)])),
            ),
            Event::Overflow => (4, None),
        };
        Value::Case(case, payload.map(Box::new))
    }
}

/// How often a debounced watch is told at the latest, in its debounce times.
const AT_LATEST: u32 = 10;

/// The events that nobody has read yet.
pub(super) struct Changes {
    events: Vec<Option<Event>>,
    /// Where the last event of a path is.
    last: HashMap<String, usize>,
    count: usize,
    max: usize,
    debounce: Option<Duration>,
    /// When the first and the last of them came.
    times: Option<(Instant, Instant)>,
}

impl Changes {
    pub fn new(max: usize, debounce: Option<Duration>) -> Self {
        Changes {
            events: vec![],
            last: HashMap::new(),
            count: 0,
            max,
            debounce,
            times: None,
        }
    }

    pub fn push(&mut self, event: Event) {
        if self.debounce.is_some() {
            let now = Instant::now();
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
            Event::Renamed(..) => {}
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
            Event::Renamed(old, new) => {
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

    /// When they are to be told; none: there is nothing.
    pub fn due(&self) -> Option<Due> {
        if self.count == 0 {
            return None;
        }
        let (Some(debounce), Some((first, last))) = (self.debounce, self.times) else {
            return Some(Due::Now);
        };
        let at = (last + debounce).min(first + debounce * AT_LATEST);
        Some(if at <= Instant::now() {
            Due::Now
        } else {
            Due::At(at)
        })
    }

    pub fn take(&mut self) -> Vec<Event> {
        self.last.clear();
        self.count = 0;
        self.times = None;
        std::mem::take(&mut self.events).into_iter().flatten().collect()
    }
}

pub(super) enum Due {
    Now,
    At(Instant),
}
