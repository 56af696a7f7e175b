//! What has no stream: time, and frames of the connection itself.

use std::time::{Duration, Instant};

use super::{Core, Event, Open};
use crate::codec::Encode;
use crate::failure::{Code, Failure};
use crate::frame::{FRAME, kind};
use crate::hello::Link;

/// Scans for calls that are late are this far apart, at least.
const TICK: Duration = Duration::from_millis(1);

impl<U> Core<U> {
    pub(super) fn note_deadline(&mut self, deadline: Option<(Instant, Duration)>) {
        if let Some((at, _)) = deadline
            && self.earliest.is_none_or(|e| at < e)
        {
            self.earliest = Some(at);
        }
    }

    /// When [`Self::expire`] is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the calls whose time is up.
    pub fn expire(&mut self, now: Instant) -> Vec<Event<U>> {
        if self.earliest.is_none_or(|e| now < e) {
            return vec![];
        }
        let late = |o: &Open<U>| !o.answered && o.deadline.is_some_and(|(at, _)| at <= now);
        let over: Vec<_> = self
            .open
            .iter()
            .filter(|(_, o)| late(o))
            .map(|(s, _)| *s)
            .collect();
        let mut events = vec![];
        for stream in over {
            let Some(open) = self.open.get_mut(&stream) else {
                continue;
            };
            let seconds = open.deadline.take().map_or(0.0, |(_, d)| d.as_secs_f64());
            let failure = Failure::new(
                Code::DeadlineExceeded,
                format!("the call ran past its deadline of {seconds} s"),
            )
            .with("seconds", seconds);
            if open.ours {
                if let Some(user) = self.cancel(stream) {
                    events.push(Event::Failed { user, failure });
                }
            } else {
                self.respond(stream, Err(failure), None, false);
                events.push(Event::Cancelled { stream });
            }
        }
        let next = self
            .open
            .values()
            .filter(|o| !o.answered)
            .filter_map(|o| o.deadline);
        self.earliest = next.map(|(at, _)| at.max(now + TICK)).min();
        events
    }

    // ---- what has no stream ----

    pub fn ping(&mut self, payload: [u8; 8]) {
        self.out.frame(kind::PING, 0, |b| b.extend_from_slice(&payload));
    }

    /// No new calls from here on; those on their way may end.
    pub fn go_away(&mut self, reason: &Failure) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.out.frame(kind::GOAWAY, 0, |b| reason.encode(b));
        }
    }

    pub fn link(&mut self, link: &Link) -> Result<(), Failure> {
        let size = link.name.len() + link.grant.len() + link.config.len();
        if size + 64 > FRAME {
            return Err(
                Failure::new(Code::BadValue, "grant and config of a link are too long").with("limit", FRAME),
            );
        }
        self.out.frame(kind::LINK, 0, |b| link.encode(b));
        Ok(())
    }

    pub fn linked(&mut self, number: u32, failure: Option<Failure>) {
        self.out.frame(kind::LINKED, 0, |b| (number, failure).encode(b));
    }

    pub fn unlink(&mut self, number: u32) {
        self.out.frame(kind::UNLINK, 0, |b| number.encode(b));
    }

    /// Lets go of a handle that the peer made.
    pub fn drop_handle(&mut self, link: u32, resource: u32, handle: &[u8]) {
        self.out
            .frame(kind::DROP, 0, |b| (link, resource, handle).encode(b));
    }

    pub fn reload(&mut self, number: u32) {
        self.out.frame(kind::RELOAD, 0, |b| number.encode(b));
    }

    pub fn reloaded(&mut self, number: u32, failure: Option<Failure>) {
        self.out.frame(kind::RELOADED, 0, |b| (number, failure).encode(b));
    }
}
