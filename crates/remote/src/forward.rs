//! Invocations of plain peers, answered by a provider that speaks sessions.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use loop_engine::{Domain, FuncTy, Handle, Resource, TyRef, convert};
use loop_wire::codec::{Cursor, put_unsigned};
use loop_wire::session::{Called, Handler, Meta, Reply, Session};
use loop_wire::{Code, Failure};
use tokio::runtime::Handle as Runtime;
use wasmtime::{Error, Result};

use crate::encoded::{Encoded, Wire};
use crate::flow::{Ends, Failed, Handles, SessionCall, Spawn, failure, follow};
use crate::import::{Link, lock, streams};
use crate::incoming::receive;
use crate::outgoing::Message;
use crate::times::Watch;

/// Resources that plain peers may hold, who can never say that they let go of one.
const MOST: usize = 1 << 16;

/// Begins a session with the provider.
pub type Reach = Box<dyn Fn() -> Reached + Send + Sync>;
pub type Reached = Pin<Box<dyn Future<Output = Result<Session, Failure>> + Send>>;

/// Answers calls by a provider's session, which is begun with the first call, and anew where it has ended. Calls are
/// made without a link.
pub struct Forward(Arc<Inner>);

struct Inner {
    /// In the order of their numbers.
    functions: Vec<Arc<FuncTy>>,
    reach: Reach,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    kept: Arc<Kept>,
    runtime: Runtime,
}

impl Forward {
    pub fn new(functions: Vec<Arc<FuncTy>>, reach: Reach, runtime: Runtime) -> Self {
        Forward(Arc::new(Inner {
            functions,
            reach,
            link: tokio::sync::Mutex::default(),
            kept: Arc::default(),
            runtime,
        }))
    }
}

impl Handler for Forward {
    fn call(&self, session: &Session, called: Called) -> Reply {
        let Some(f) = self.0.functions.get(called.function as usize).cloned() else {
            let failure = Failure::new(Code::NoSuchFunction, "there is no function of that number");
            return Reply::Now(Err(failure.with("function", called.function)));
        };
        let (inner, session, stream) = (self.0.clone(), session.clone(), called.stream);
        Reply::Task(Box::pin(async move {
            let streaming = streams(&f.param_tuple) || streams(&f.result_tuple);
            let ends = Ends {
                invocation: Some(Arc::new(SessionCall {
                    session: session.clone(),
                    stream,
                })),
                handles: inner.kept.clone(),
            };
            match inner.answer(&f, streaming, &called.root, &ends).await {
                Ok(message) => {
                    session.respond(stream, Ok(message.bytes.into()), None, streaming);
                    let runtime = inner.runtime.clone();
                    let spawn: Spawn = Arc::new(move |pump| drop(runtime.spawn(pump)));
                    // plain mode announces nothing, and so refuses nothing here
                    let _ = follow(&ends, message.pending, &spawn);
                }
                Err(e) => session.respond(stream, Err(failure(&e)), None, false),
            }
        }))
    }
}

impl Inner {
    async fn link(&self) -> Result<Arc<Link>> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        let session = (self.reach)().await.map_err(|e| Error::new(Failed(e)))?;
        let made = Link::new(session, None, 0, None, self.runtime.clone());
        *link = Some(made.clone());
        Ok(made)
    }

    async fn answer(&self, f: &Arc<FuncTy>, streaming: bool, root: &Bytes, ends: &Ends) -> Result<Message> {
        let link = self.link().await?;
        let number = link.function(f).map_err(|e| Error::new(Failed(e)))?;
        let values = receive(&f.param_tuple, root, ends)?;
        let args = copied(f.params.iter().map(|(_, t)| t), &values)?;
        let unwatched = Watch::default();
        let answer = link.call(f, number, streaming, args, Meta::default(), &unwatched);
        let values: Vec<_> = answer.await?.into_iter().collect();
        copied(f.result.iter(), &values)?.finish(ends)
    }
}

/// Received values, to be sent to another peer.
fn copied<'t>(types: impl Iterator<Item = &'t TyRef>, values: &[Wire]) -> Result<Wire> {
    let types: Vec<_> = types.collect();
    Encoded::enter(|cx| {
        let made = Encoded::all(cx, types.len(), |i| {
            convert::<Encoded, Encoded>(cx, types[i], &Encoded::view(cx, &values[i]))
        });
        Ok(made?.pop().unwrap_or(Wire::Placed))
    })
}

/// The resources that plain peers hold, of all their invocations: each has a connection of its own.
#[derive(Default)]
struct Kept(Mutex<Held>);

/// The number of the last, and what they are.
type Held = (u64, HashMap<u64, (Arc<Resource>, Handle)>);

impl Handles for Kept {
    fn give(&self, resource: &Arc<Resource>, _own: bool, handle: Handle) -> Result<Vec<u8>> {
        let mut held = lock(&self.0);
        if held.1.len() >= MOST {
            let failure = Failure::new(Code::Overloaded, "more resources than plain peers may hold");
            return Err(Error::new(Failed(failure.with("limit", MOST))));
        }
        held.0 += 1;
        let id = held.0;
        held.1.insert(id, (resource.clone(), handle));
        let mut bytes = vec![];
        put_unsigned(&mut bytes, id);
        Ok(bytes)
    }

    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        let found = Cursor::new(bytes).unsigned(64).ok().and_then(|id| {
            let mut held = lock(&self.0);
            let of = |(known, _): &(Arc<Resource>, Handle)| {
                known.interface == resource.interface && known.name == resource.name
            };
            let fits = held.1.get(&id).is_some_and(of);
            match own && fits {
                true => held.1.remove(&id),
                false => held.1.get(&id).filter(|_| fits).cloned(),
            }
        });
        found.map(|(_, handle)| handle).ok_or_else(|| {
            let text = format!("no such {}", resource.name);
            Error::new(Failed(Failure::new(Code::BadHandle, text)))
        })
    }
}
