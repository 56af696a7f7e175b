//! The streams and futures of an invocation, wherever that is.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::Session;
use crate::failure::Failure;
use crate::session::channel::gone;

impl Session {
    /// Somebody will read that stream or future, and says so by [`Self::taken`] or [`Self::stop`] when that is over.
    pub fn expect(&self, stream: u32, path: &[u32]) {
        match &self.inner().lanes {
            None => self.inner().core().expect(stream, path),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.expect(path))),
        }
    }

    /// The next chunk of a stream of that invocation, or a future's value.
    pub fn poll_read(&self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        if let Some(lanes) = &self.inner().lanes {
            return match lanes.get(stream) {
                Some(lane) => lane.poll_read(path, cx),
                None => Poll::Ready(Err(gone())),
            };
        }
        let polled = self.inner().core().poll_read(stream, path, cx);
        if polled.is_ready() {
            self.inner().driver.wake();
        }
        polled
    }

    /// The reader of a stream or future has read it to its end, or learnt that there is none.
    pub fn taken(&self, stream: u32, path: &[u32]) {
        match &self.inner().lanes {
            None => self.change(|core| core.taken(stream, path)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.taken(path))),
        }
    }

    /// The reader of a stream or future has gone.
    pub fn stop(&self, stream: u32, path: &[u32]) {
        match &self.inner().lanes {
            None => self.change(|core| core.stop(stream, path)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.stop(path))),
        }
    }

    /// Waits until streams and futures may be announced in what is written to the one at `within`, or in a root where
    /// that is empty. False where nobody reads that any more. Each is over at [`Self::done`].
    ///
    /// Errors where the peer never takes so many at once.
    pub fn poll_open(
        &self,
        stream: u32,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        match &self.inner().lanes {
            None => self.inner().core().poll_open(stream, within, paths, cx),
            Some(lanes) => match lanes.get(stream) {
                Some(lane) => lane.poll_open(within, paths, cx),
                None => Poll::Ready(Ok(false)),
            },
        }
    }

    /// Bytes that may be written to a stream or future now; `None`: nobody reads it.
    pub fn poll_write(&self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>> {
        match &self.inner().lanes {
            None => self.inner().core().poll_write(stream, path, cx),
            Some(lanes) => match lanes.get(stream) {
                Some(lane) => lane.poll_write(path, cx),
                None => Poll::Ready(None),
            },
        }
    }

    /// Waits until nobody reads a stream or future any more, for whoever has nothing to write to it yet.
    pub fn poll_unread(&self, stream: u32, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        match &self.inner().lanes {
            None => self.inner().core().poll_unread(stream, path, cx),
            Some(lanes) => match lanes.get(stream) {
                Some(lane) => lane.poll_unread(path, cx),
                None => Poll::Ready(()),
            },
        }
    }

    /// Writes a chunk or a future's value, once [`Self::poll_write`] allows it.
    pub fn write(&self, stream: u32, path: &[u32], chunk: Bytes) {
        match &self.inner().lanes {
            None => self.change(|core| core.write(stream, path, chunk)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.write(path, chunk))),
        }
    }

    /// A stream or future ends without its end.
    pub fn lose(&self, stream: u32, path: &[u32], failure: &Failure) {
        match &self.inner().lanes {
            None => self.change(|core| core.lose(stream, path, failure)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.lose(path, failure))),
        }
    }

    /// Nothing more is written to a stream or future, whether it has ended or not.
    pub fn done(&self, stream: u32, path: &[u32]) {
        match &self.inner().lanes {
            None => self.change(|core| core.done(stream, path)),
            Some(lanes) => drop(lanes.get(stream).map(|lane| lane.done(path))),
        }
    }
}
