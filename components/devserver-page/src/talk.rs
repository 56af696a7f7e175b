//! One page that looks: what is there at first, then what happens, and answers to what it asks.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_util::future::select;
use serde_json::{Value, json};
use wit_bindgen::{StreamReader, StreamResult, spawn_local};

use crate::loop_::core::timers;
use crate::loop_::devserver::events::{self, Event, Topics};
use crate::loop_::netx::websocket::{Connection, Message, SocketError};
use crate::{ask, json};

/// Pages that may be open at once. Each subscribes, and there may be so many subscriptions.
const MOST_OPEN: usize = 8;
/// Requests of one page that may be waited for at once.
const MOST_ASKED: usize = 16;
/// Lines of the past that a page is given.
const HISTORY: u32 = 5_000;
/// Events that wait for being sent, before no more are read.
const MOST_WAITING: usize = 4_096;
/// Events are sent together for as long as a page shows one picture, in nanoseconds.
const PAUSE: u64 = 16_000_000;

/// How many pages are open.
#[derive(Default)]
pub struct Places(Rc<Cell<usize>>);

/// One of them; gone when it is dropped.
pub struct Place(Rc<Cell<usize>>);

impl Places {
    pub fn take(&self) -> Option<Place> {
        let open = self.0.get();
        (open < MOST_OPEN).then(|| {
            self.0.set(open + 1);
            Place(self.0.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Talks until the page has gone. `version`: of the files that are served; `proof`: that the token is known here.
pub async fn talk(connection: Rc<Connection>, version: &str, proof: &str) {
    let mut hello = ask::state();
    hello["hello"] = json!(version);
    hello["proof"] = json!(proof);
    if send(&connection, &hello).await.is_err() {
        return;
    }
    // Whichever ends first, the other is dropped with all that it waits for.
    select(pin!(tell(&connection)), pin!(hear(&connection))).await;
}

async fn send(connection: &Connection, value: &Value) -> Result<(), SocketError> {
    connection.send(Message::Text(value.to_string())).await
}

/// Events that were read and not yet sent.
#[derive(Default)]
struct Waiting {
    events: RefCell<Vec<Event>>,
    has_ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiting {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until `ready`; only one waits at a time, since one fills what the other takes.
    async fn until(&self, ready: impl Fn(usize) -> bool) {
        poll_fn(|cx| {
            if self.has_ended.get() || ready(self.events.borrow().len()) {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Sends what happens, until it is no longer told.
async fn tell(connection: &Connection) {
    let stream = events::subscribe(Topics::all(), HISTORY).await;
    let waiting = Waiting::default();
    select(pin!(read(stream, &waiting)), pin!(write(connection, &waiting))).await;
}

async fn read(mut stream: StreamReader<Event>, waiting: &Waiting) {
    loop {
        let (result, some) = stream.read(Vec::with_capacity(512)).await;
        waiting.events.borrow_mut().extend(some);
        if matches!(result, StreamResult::Dropped) {
            waiting.has_ended.set(true);
        }
        waiting.wake();
        if waiting.has_ended.get() {
            // what was read is still to be written
            return std::future::pending().await;
        }
        waiting.until(|count| count < MOST_WAITING).await;
    }
}

async fn write(connection: &Connection, waiting: &Waiting) {
    loop {
        waiting.until(|count| count > 0).await;
        let some = waiting.events.take();
        waiting.wake();
        if some.is_empty() {
            return; // it has ended
        }
        let values: Vec<Value> = some.iter().map(json::event).collect();
        match send(connection, &json!({ "events": values })).await {
            Ok(()) => {}
            Err(SocketError::MessageSize(_)) => {
                let lost = json!({ "events": [{ "is": "lost", "count": some.len() }] });
                if send(connection, &lost).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
        timers::sleep(PAUSE).await;
    }
}

/// Answers what the page asks, until it has gone.
async fn hear(connection: &Rc<Connection>) {
    let asked = Rc::new(Cell::new(0));
    loop {
        let text = match connection.receive().await {
            Ok(Message::Text(text)) => text,
            Ok(Message::Binary(_)) => continue,
            Err(_) => return,
        };
        let Ok(request) = serde_json::from_str::<ask::Request>(&text) else {
            let _ = connection.close(1008, "that is no request".into()).await;
            return;
        };
        if asked.get() >= MOST_ASKED {
            let busy = json!({ "id": request.id, "error": "too much is asked at once" });
            if send(connection, &busy).await.is_err() {
                return;
            }
            continue;
        }
        asked.set(asked.get() + 1);
        let (connection, asked) = (connection.clone(), asked.clone());
        // What was begun is done even if the page goes meanwhile: a restart is not half of one.
        spawn_local(async move {
            let answer = match ask::answer(request.what).await {
                Ok(value) => json!({ "id": request.id, "ok": value }),
                Err(why) => json!({ "id": request.id, "error": why }),
            };
            asked.set(asked.get() - 1);
            let _ = send(&connection, &answer).await; // or the page has gone
        });
    }
}
