//! NATS: a stream of bytes over a pair of subjects. `docs/wire.md` says how.

mod client;
mod key;
mod message;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::client::{Client, Delivery, Kept, Sink};
use self::message::Message;
use self::stream::{Stream, WINDOW};
use super::{Connection, Incoming, Options, Peer, Source};
use crate::address::Address;
use crate::failure::{Code, Failure};

/// Time for a listener to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Streams that were opened and are not taken yet; more are refused.
const WAITING: usize = 256;
/// Listeners of one subject share its streams, where nothing else is said.
const QUEUE: &str = "loop";
/// Time before the server is tried again, at first and at most.
const AGAIN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(5);

/// A subject that nobody guesses.
fn inbox() -> Result<String, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|e| Failure::new(Code::Provider, format!("no random numbers: {e}")))?;
    Ok(format!("_INBOX.loop.{:032x}", u128::from_le_bytes(random)))
}

/// Whether a peer may be written to there: who names a subject of others would have them written to by this side.
fn is_inbox(subject: &str) -> bool {
    subject.len() <= 256 && subject.starts_with("_INBOX.") && !subject.contains(['*', '>'])
}

fn peer(named: &Address) -> Peer {
    Peer {
        address: named.to_string(),
        ..Peer::default()
    }
}

pub(super) async fn connect(
    named: &Address,
    subject: &str,
    options: &Options,
) -> Result<Connection, Failure> {
    let client = client::connect(named, options).await?;
    let stream = Stream::new(client.clone(), inbox()?, None);
    let open = Message::Open(WINDOW).bytes();
    client.0.publish(subject, Some(stream.own()), &open, &[]);
    let opened = tokio::time::timeout(ANSWER, stream.opened()).await;
    opened
        .unwrap_or_else(|_| Err("nobody answers".into()))
        .map_err(|why| {
            Failure::gone(format!("cannot connect to {named}: {why}"), true).with("address", named)
        })?;
    Ok(Connection::Bytes(Box::new(stream), peer(named)))
}

/// Takes the OPENs of a subject.
struct Door(mpsc::Sender<(String, u64)>);

impl Sink for Door {
    fn message(&self, client: &Client, delivery: Delivery) {
        let Some(from) = delivery.reply.filter(|from| is_inbox(from)) else {
            return;
        };
        let refusal = match Message::read(delivery.payload) {
            Some(Message::Open(credit)) if self.0.try_send((from.clone(), credit)).is_ok() => return,
            Some(Message::Open(_)) => "too many streams wait",
            _ => "streams are opened with version 1",
        };
        client.publish(&from, None, &Message::Refuse(refusal.into()).bytes(), &[]);
    }
}

/// A subscription at work.
struct Open {
    client: Arc<Kept>,
    streams: mpsc::Receiver<(String, u64)>,
}

impl Open {
    async fn new(named: &Address, subject: &str, options: &Options) -> Result<Self, Failure> {
        let queue = match options.queue.as_str() {
            "" => QUEUE,
            queue if queue.bytes().all(|b| b.is_ascii_graphic()) => queue,
            queue => {
                let message = format!("`{queue}` cannot name a queue: it is one word of ASCII");
                return Err(Failure::new(Code::BadValue, message).with("option", "queue"));
            }
        };
        let client = client::connect(named, options).await?;
        let (door, streams) = mpsc::channel(WAITING);
        client.0.subscribe(subject, queue, Arc::new(Door(door)));
        client.0.settle().await.map_err(|why| {
            Failure::new(Code::Unauthenticated, format!("cannot listen at {named}: {why}"))
                .with("address", named)
        })?;
        Ok(Open { client, streams })
    }
}

pub(super) async fn listen(named: &Address, subject: &str, options: &Options) -> Result<NatsSource, Failure> {
    Ok(NatsSource {
        open: Some(Open::new(named, subject, options).await?),
        again: AGAIN,
        named: named.clone(),
        subject: subject.into(),
        options: options.clone(),
    })
}

pub(super) struct NatsSource {
    /// None while the server is away.
    open: Option<Open>,
    again: Duration,
    named: Address,
    subject: String,
    options: Options,
}

impl Source for NatsSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            loop {
                let Some(open) = &mut self.open else {
                    tokio::time::sleep(self.again).await;
                    match Open::new(&self.named, &self.subject, &self.options).await {
                        Ok(open) => {
                            self.open = Some(open);
                            self.again = AGAIN;
                        }
                        Err(_) => self.again = (self.again * 2).min(SELDOM),
                    }
                    continue;
                };
                let Some((from, credit)) = open.streams.recv().await else {
                    self.open = None;
                    continue;
                };
                let client = open.client.clone();
                let peer = peer(&self.named);
                return Ok(Some(Incoming::new(async move {
                    let stream = Stream::new(client.clone(), inbox()?, Some((from.clone(), credit)));
                    let accept = Message::Accept(WINDOW).bytes();
                    client.0.publish(&from, Some(stream.own()), &accept, &[]);
                    Ok(Connection::Bytes(Box::new(stream), peer))
                })));
            }
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![self.named.clone()]
    }
}
