//! A call whose parameters or result hold streams or futures: open until the last of them is dropped.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use loop_wire::session::{Session, Times};
use loop_wire::{Code, Failure};

pub(crate) struct Invocation {
    session: Session,
    stream: u32,
    answered: AtomicBool,
}

impl Invocation {
    pub fn new(session: Session, stream: u32) -> Self {
        Invocation {
            session,
            stream,
            answered: AtomicBool::new(false),
        }
    }

    pub fn respond(&self, answer: Result<Bytes, Failure>, times: Option<&Times>) {
        self.answered.store(true, Relaxed);
        self.session.respond(self.stream, answer, times, true);
    }

    /// Somebody will read that stream or future.
    pub fn expect(&self, path: &[u32]) {
        self.session.expect(self.stream, path);
    }

    /// The next chunk of a stream, or a future's value.
    pub fn poll_read(
        &self,
        path: &[u32],
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Bytes, Failure>> {
        self.session.poll_read(self.stream, path, cx)
    }

    /// It was read to its end, or there is none.
    pub fn taken(&self, path: &[u32]) {
        self.session.taken(self.stream, path);
    }

    /// Nobody reads that stream or future here any more.
    pub fn stop(&self, path: &[u32]) {
        self.session.stop(self.stream, path);
    }

    /// Waits until streams and futures may be announced in what is written to `within`; false where nobody reads that.
    ///
    /// Errors where the peer never takes so many at once.
    pub async fn open(&self, within: &[u32], paths: &[Box<[u32]>]) -> Result<bool, Failure> {
        poll_fn(|cx| self.session.poll_open(self.stream, within, paths, cx)).await
    }

    /// Waits until so many bytes may be written, one at least; none where the reader has gone.
    pub async fn room(&self, path: &[u32]) -> Option<usize> {
        poll_fn(|cx| self.session.poll_write(self.stream, path, cx)).await
    }

    /// Waits until nobody reads any more.
    pub fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()> {
        self.session.poll_unread(self.stream, path, cx)
    }

    pub fn write(&self, path: &[u32], chunk: Bytes) {
        self.session.write(self.stream, path, chunk);
    }

    /// A stream or future ends without its end.
    pub fn lose(&self, path: &[u32], why: &Failure) {
        self.session.lose(self.stream, path, why);
    }

    /// Nothing more is written to that stream or future.
    pub fn done(&self, path: &[u32]) {
        self.session.done(self.stream, path);
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if !self.answered.load(Relaxed) {
            // whoever called waits for an answer, which is harmless where there was one
            let why = match std::thread::panicking() {
                true => Failure::new(Code::Provider, "the provider panicked"),
                false => Failure::new(Code::Cancelled, "the call was cancelled"),
            };
            self.session.respond(self.stream, Err(why), None, false);
        }
        self.session.close_call(self.stream);
    }
}
