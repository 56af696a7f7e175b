//! Invocations that have a byte stream of their own: native streams, and connections in plain mode.
//!
//! A [`Session`](super::Session) over such streams routes each invocation by its number to its [`Lane`]; those who call
//! and serve see no difference.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::core::{IdMap, Request, Times};
use super::driver::{Inner, Slot, lock};
use crate::failure::Failure;

/// One invocation on a byte stream of its own.
pub(crate) trait Lane: Send + Sync {
    /// Answers a call of the peer's.
    fn respond(&self, answer: Result<Bytes, Failure>, times: Option<&Times>, streaming: bool);
    /// The caller has lost interest.
    fn cancel(&self);
    /// Nothing more is written to streams and futures.
    fn finish(&self);
    /// The invocation is over on this side.
    fn close(&self);
    fn expect(&self, path: &[u32]);
    fn poll_read(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>>;
    fn taken(&self, path: &[u32]);
    fn stop(&self, path: &[u32]);
    fn poll_open(
        &self,
        within: &[u32],
        paths: &[Box<[u32]>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>>;
    fn poll_write(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<Option<usize>>;
    fn poll_unread(&self, path: &[u32], cx: &mut Context<'_>) -> Poll<()>;
    fn write(&self, path: &[u32], chunk: Bytes);
    fn lose(&self, path: &[u32], failure: &Failure);
    fn done(&self, path: &[u32]);
    /// The session is over.
    fn abandon(&self, why: &Failure);
}

/// A lane and what drives it.
pub(crate) type Begun = (Arc<dyn Lane>, BoxFuture<'static, ()>);

/// How invocations get their streams.
pub(crate) trait Way: Send + Sync {
    /// A lane for a call of this side's, and what drives it.
    fn call(&self, inner: &Arc<Inner>, number: u32, request: Request, slot: Slot) -> Begun;

    /// Whether there is a connection beside the lanes, whose driver ends the session.
    fn has_control(&self) -> bool;

    /// Whether a link needs no binding, or cannot be bound.
    fn link(&self, link: &crate::hello::Link) -> Option<Result<(), Failure>> {
        let _ = link;
        None
    }

    /// The session, which has no control connection, is over.
    fn closed(&self, why: &Failure) {
        let _ = why;
    }
}

/// The invocations of a session that have lanes.
pub(crate) struct Lanes {
    pub(super) way: Box<dyn Way>,
    open: Mutex<IdMap<Arc<dyn Lane>>>,
    next: AtomicU32,
    /// Room for calls of this side's; none before the limits of the peer are known.
    room: Arc<Semaphore>,
    serving: AtomicUsize,
}

impl Lanes {
    pub fn new(way: Box<dyn Way>) -> Self {
        Lanes {
            way,
            open: Mutex::default(),
            next: AtomicU32::new(1),
            room: Arc::new(Semaphore::new(0)),
            serving: AtomicUsize::new(0),
        }
    }

    /// The peer takes so many calls at once.
    pub fn allow(&self, calls: u32) {
        self.room.add_permits(calls as usize);
    }

    /// Waits until the peer takes another call.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_owned().await.ok()
    }

    /// A number for the next invocation, of either side.
    fn number(&self) -> u32 {
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number != 0 && !lock(&self.open).contains_key(&number) {
                return number;
            }
        }
    }

    pub fn get(&self, number: u32) -> Option<Arc<dyn Lane>> {
        lock(&self.open).get(&number).cloned()
    }

    pub fn is_idle(&self) -> bool {
        lock(&self.open).is_empty()
    }

    pub fn call(&self, inner: &Arc<Inner>, request: Request, slot: Slot) -> u32 {
        let number = self.number();
        let (lane, task) = self.way.call(inner, number, request, slot);
        lock(&self.open).insert(number, lane);
        tokio::spawn(task);
        number
    }

    /// An invocation of the peer's: its number, and how many are being served with it.
    pub fn serve(&self, lane: Arc<dyn Lane>) -> (u32, usize) {
        let number = self.number();
        lock(&self.open).insert(number, lane);
        (number, self.serving.fetch_add(1, Relaxed) + 1)
    }

    /// An invocation of the peer's is answered and counts no more.
    pub fn served(&self) {
        self.serving.fetch_sub(1, Relaxed);
    }

    /// An invocation is over.
    pub fn remove(&self, number: u32) {
        lock(&self.open).remove(&number);
    }

    /// The session is over.
    pub fn abandon(&self, why: &Failure) {
        self.room.close();
        let open = std::mem::take(&mut *lock(&self.open));
        open.into_values().for_each(|lane| lane.abandon(why));
    }
}

/// What becomes of `user`'s call when the session or its lane ends with `why`.
pub(crate) fn fail(user: oneshot::Sender<Result<super::Answer, Failure>>, why: &Failure, sent: bool) {
    let _ = user.send(Err(super::driver::ended(why, sent)));
}
