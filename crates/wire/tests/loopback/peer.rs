//! A provider that does what the cases need, and tells what it saw.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use loop_wire::session::{Called, Handler, Reply, Session};
use loop_wire::{Code, Failure, Hello, Interface, Limits, Link};
use tokio::sync::{Barrier, Notify, mpsc};

/// Functions of the provider, by their numbers.
pub const FUNCTIONS: [&str; 6] = ["echo", "fail", "never", "meet", "gate", "streams"];
pub const ECHO: u32 = 0;
/// Fails with fields.
pub const FAIL: u32 = 1;
/// Never answers.
pub const NEVER: u32 = 2;
/// Answers when `MEETING` calls wait.
pub const MEET: u32 = 3;
/// Answers when the gate opens.
pub const GATE: u32 = 4;
/// Sends back what comes in the stream of its parameter; with a root of `endless` it sends until nobody reads, with one
/// of `futures` a stream of [`FUTURES`] futures, of which each is its number.
pub const STREAMS: u32 = 5;
pub const MEETING: usize = 1000;
pub const FUTURES: u32 = 3000;
/// Bytes of a chunk of an endless stream.
pub const CHUNK: usize = 4000;

pub struct Seen {
    pub said: mpsc::UnboundedSender<String>,
    pub gate: Notify,
    meeting: Barrier,
    /// Bytes written to endless streams.
    pub written: AtomicUsize,
}

pub struct Provider(pub Arc<Seen>);

impl Provider {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (said, heard) = mpsc::unbounded_channel();
        let seen = Seen {
            said,
            gate: Notify::new(),
            meeting: Barrier::new(MEETING),
            written: AtomicUsize::new(0),
        };
        (Provider(Arc::new(seen)), heard)
    }
}

pub fn interface() -> Interface {
    Interface {
        name: "test:wire/provider@0.1.0".into(),
        types: vec![vec![7; 32]; FUNCTIONS.len()],
        functions: FUNCTIONS.map(Into::into).to_vec(),
        resources: vec!["thing".into()],
    }
}

/// What a provider, or else a caller, says of itself.
pub fn hello(provider: bool, limits: Limits) -> Hello {
    let mut hello = Hello {
        limits,
        ..Hello::default()
    };
    match provider {
        true => hello.exports.push(interface()),
        false => hello.imports.push(interface()),
    }
    hello
}

/// Says when it is dropped.
struct Dropped(Arc<Seen>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.said.send("stopped".into());
    }
}

impl Handler for Provider {
    fn call(&self, session: &Session, called: Called) -> Reply {
        let seen = self.0.clone();
        match called.function {
            ECHO => Reply::Now(Ok(called.root)),
            FAIL => Reply::Now(Err(Failure::new(Code::Provider, "it failed")
                .with("type", "ValueError")
                .with("interface", "test:wire/provider@0.1.0")
                .with("function", "fail"))),
            NEVER => {
                let _ = seen.said.send("began".into());
                let guard = Dropped(seen);
                Reply::Later(Box::pin(async move {
                    let _guard = guard;
                    std::future::pending().await
                }))
            }
            MEET => Reply::Later(Box::pin(async move {
                seen.meeting.wait().await;
                Ok(called.root)
            })),
            GATE => Reply::Later(Box::pin(async move {
                let _ = seen.said.send("began".into());
                seen.gate.notified().await;
                Ok(called.root)
            })),
            _ if called.root[..] == b"endless"[..] => {
                let (session, stream) = (session.clone(), called.stream);
                Reply::Task(Box::pin(async move {
                    session.respond(stream, Ok(Bytes::new()), None, true);
                    while let Some(n) = poll_fn(|cx| session.poll_write(stream, &[0], cx)).await {
                        let chunk = Bytes::from(vec![1; n.min(CHUNK)]);
                        seen.written.fetch_add(chunk.len(), SeqCst);
                        session.write(stream, &[0], chunk);
                    }
                    let _ = seen.said.send("stopped".into());
                    session.close_call(stream);
                }))
            }
            _ if called.root[..] == b"futures"[..] => {
                let (session, stream) = (session.clone(), called.stream);
                Reply::Task(Box::pin(async move {
                    session.respond(stream, Ok(Bytes::new()), None, true);
                    for i in 0..FUTURES {
                        let paths = [[0, i].into()];
                        let open = poll_fn(|cx| session.poll_open(stream, &[0], &paths, cx)).await;
                        assert!(open.expect("room for one"), "the reader has gone");
                        write(&session, stream, Bytes::from_static(&[1, 0])).await;
                        session.write(stream, &paths[0], Bytes::copy_from_slice(&i.to_le_bytes()));
                        session.done(stream, &paths[0]);
                    }
                    write(&session, stream, Bytes::new()).await;
                    session.close_call(stream);
                }))
            }
            _ => {
                let (session, stream) = (session.clone(), called.stream);
                Reply::Task(Box::pin(async move {
                    session.respond(stream, Ok(Bytes::new()), None, true);
                    while let Ok(chunk) = poll_fn(|cx| session.poll_read(stream, &[0], cx)).await {
                        let last = chunk.is_empty();
                        write(&session, stream, chunk).await;
                        if last {
                            break;
                        }
                    }
                    session.close_call(stream);
                }))
            }
        }
    }

    fn link(&self, link: Link) -> Result<(), Failure> {
        let _ = self.0.said.send(format!("link {} {}", link.number, link.grant));
        match link.grant.as_str() {
            "{}" => Err(Failure::new(Code::NotGranted, "an empty grant").with("link", link.name)),
            _ => Ok(()),
        }
    }

    fn unlink(&self, number: u32) {
        let _ = self.0.said.send(format!("unlink {number}"));
    }

    fn dropped(&self, link: u32, resource: u32, handle: &[u8]) {
        let handle = String::from_utf8_lossy(handle);
        let _ = self.0.said.send(format!("drop {link} {resource} {handle}"));
    }
}

/// Writes all of a chunk as one, or as many as credit allows; an empty one ends the stream.
pub async fn write(session: &Session, stream: u32, mut chunk: Bytes) {
    loop {
        let Some(n) = poll_fn(|cx| session.poll_write(stream, &[0], cx)).await else {
            return;
        };
        let part = chunk.split_to(n.min(chunk.len()));
        session.write(stream, &[0], part);
        if chunk.is_empty() {
            return;
        }
    }
}
