//! `watching`: streams of events.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter, spawn_local};

use crate::Memory;
use crate::exports::loop_::fsx::files::{DirBorrow, ErrorCode};
use crate::exports::loop_::fsx::watching::{Event, Guest, WatchOptions};
use crate::loop_::core::{clock, timers};
use crate::path;
use crate::state::{self, with};
use crate::store::Result;
use crate::watches::Watch;
use crate::{wit_future, wit_stream};

/// Milliseconds that a debounce may have.
const MAX_DEBOUNCE: u32 = 60_000;

impl Guest for Memory {
    async fn watch(
        dir: DirBorrow<'_>,
        path: String,
        options: WatchOptions,
    ) -> Result<(StreamReader<Event>, FutureReader<Result<()>>)> {
        let root = state::root(&dir);
        if options.debounce.is_some_and(|debounce| debounce > MAX_DEBOUNCE) {
            return Err(ErrorCode::Invalid);
        }
        with(|state| state.store.directory(&root, &path))?;
        let parts = path::parts(&path);
        // `a/..` says nothing of where things are
        if parts.contains(&"..") {
            return Err(ErrorCode::Invalid);
        }
        if with(|state| state.store.watches.is_full()) {
            sweep().await;
        }
        let watch = with(|state| {
            let top = state.store.directory(&root, &path)?;
            let debounce = options.debounce.map(|ms| u64::from(ms) * 1_000_000);
            state
                .store
                .watch(top, parts.join("/"), options.recursive, debounce)
        })?;
        let (mut events, stream) = wit_stream::new();
        let (end, ended) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            let registered = Registered(watch);
            let result = tell(&registered.0, &mut events).await;
            drop(registered);
            drop(events);
            let _ = end.write(result).await; // or nobody wants to know
        });
        Ok((stream, ended))
    }
}

/// A watch, which is one of those that there may be for as long as this is there.
struct Registered(Rc<Watch>);

impl Drop for Registered {
    fn drop(&mut self) {
        with(|state| state.store.watches.remove(&self.0));
        // whoever asks has the answer
        self.0.telling.borrow_mut().asked = false;
    }
}

/// Tells what happens, until nobody reads it any more or there is no more.
async fn tell(watch: &Watch, events: &mut StreamWriter<Event>) -> Result<()> {
    loop {
        match next(watch).await {
            Next::Events(some) => {
                watch.telling.borrow_mut().writing = true;
                let left = events.write_all(some).await;
                watch.telling.borrow_mut().writing = false;
                if !left.is_empty() {
                    return Ok(());
                }
            }
            Next::Asked => {
                if is_dropped(events).await {
                    return Ok(());
                }
                watch.telling.borrow_mut().asked = false;
            }
            Next::End(code) => return Err(code),
        }
    }
}

enum Next {
    Events(Vec<Event>),
    Asked,
    End(ErrorCode),
}

type Sleep = Pin<Box<dyn Future<Output = ()>>>;

async fn next(watch: &Watch) -> Next {
    let mut timer: Option<(u64, Sleep)> = None;
    poll_fn(|cx| {
        loop {
            let mut telling = watch.telling.borrow_mut();
            if telling.asked {
                return Poll::Ready(Next::Asked);
            }
            telling.waker = Some(cx.waker().clone());
            let due = telling.changes.due();
            match (due, &telling.end) {
                // what is left is told at once
                (Some(_), Some(_)) => return Poll::Ready(Next::Events(telling.changes.take())),
                (None, Some(code)) => return Poll::Ready(Next::End(code.clone())),
                (None, None) => return Poll::Pending,
                (Some(0), None) => return Poll::Ready(Next::Events(telling.changes.take())),
                (Some(_), None) => {}
            }
            let due = due.unwrap_or_default();
            if clock::monotonic_now() >= due {
                return Poll::Ready(Next::Events(telling.changes.take()));
            }
            drop(telling);
            let (_, sleep) = match timer.take() {
                Some((until, sleep)) if until == due => timer.insert((until, sleep)),
                _ => timer.insert((due, Box::pin(timers::sleep_until(due)))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer = None;
        }
    })
    .await
}

/// Whether the other end of a stream that nothing is written to is gone, which it does not tell by itself.
async fn is_dropped(events: &mut StreamWriter<Event>) -> bool {
    let mut write = pin!(events.write(vec![]));
    let polled = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
    let (result, _) = match polled {
        Poll::Ready(done) => done,
        Poll::Pending => write.as_mut().cancel(),
    };
    result == StreamResult::Dropped
}

/// Has every watch look whether it is still read.
async fn sweep() {
    let idle = with(|state| state.store.watches.idle());
    for watch in &idle {
        let mut telling = watch.telling.borrow_mut();
        telling.asked = true;
        telling.wake();
    }
    while idle.iter().any(|watch| watch.telling.borrow().asked) {
        wit_bindgen::yield_async().await;
    }
}
