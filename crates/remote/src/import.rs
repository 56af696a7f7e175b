//! Imports of components, answered by a peer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_engine::{FuncTy, Handle, HostObject, Import, Kind, Mismatch, Resource, Ty};
use loop_wire::session::{Meta, Request, Session};
use loop_wire::{Code, Failure, Interface};
use tokio::runtime::Handle as Runtime;
use wasmtime::{Error, Result};

use crate::encoded::{Encoded, Wire};
use crate::flow::{Ends, Failed, Handles, SessionCall, Spawn, follow};
use crate::incoming::receive;
use crate::plain::Functions;
use crate::times::{Spent, Watch};

/// A link in one session.
pub struct Link {
    session: Session,
    /// Where the peer speaks plain wRPC: it is asked for functions by their names alone.
    plain: Option<Arc<Functions>>,
    /// As it was bound; 0: without a grant.
    number: u32,
    /// Tells links apart that one route goes to in turn.
    generation: u32,
    identity: Option<Arc<str>>,
    runtime: Runtime,
}

/// A resource that the peer implements.
struct Proxy {
    link: Weak<Link>,
    resource: u32,
    bytes: Mutex<Option<Vec<u8>>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let bytes = lock(&self.bytes).take();
        if let (Some(link), Some(bytes)) = (self.link.upgrade(), bytes) {
            link.session.drop_handle(link.number, self.resource, &bytes);
        }
    }
}

pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether values of the type hold streams or futures.
pub fn streams(ty: &Ty) -> bool {
    ty.any(&|t| matches!(t.kind, Kind::Stream(_) | Kind::Future(_)))
}

impl Link {
    /// `plain`: the functions of a session in plain mode. `number`: as it was bound at the peer. `identity`: who calls,
    /// as the provider is told with each call.
    pub fn new(
        session: Session,
        plain: Option<Arc<Functions>>,
        number: u32,
        identity: Option<Arc<str>>,
        runtime: Runtime,
    ) -> Arc<Self> {
        static GENERATION: AtomicU32 = AtomicU32::new(1);
        Arc::new(Link {
            session,
            plain,
            number,
            generation: GENERATION.fetch_add(1, Relaxed),
            identity,
            runtime,
        })
    }

    /// The peer's number of a function.
    ///
    /// Errors where it offers no such interface, lacks the function, or has one of another type.
    pub fn function(&self, f: &Arc<FuncTy>) -> Result<u32, Failure> {
        if let Some(plain) = &self.plain {
            return Ok(plain.number(f));
        }
        let (interface, name) = (&*f.interface, &*f.name);
        let wanted = Interface {
            name: interface.into(),
            functions: vec![],
            types: vec![],
            resources: vec![],
        };
        let Some(theirs) = self.session.theirs() else {
            return Err(Failure::gone("there is no session yet", true));
        };
        let (first, offered) = theirs.offers(&wanted)?;
        let refused = |code, why: String| {
            let failure = Failure::new(code, why).with("interface", interface);
            Err(failure.with("function", name))
        };
        match offered.position(name) {
            Some(at) if offered.differs(at, Some(&f.digest().to_vec())) => refused(
                Code::VersionMismatch,
                format!(
                    "{interface}#{name} is of another type at the peer than {}",
                    f.wit()
                ),
            ),
            Some(at) => Ok(first + at as u32),
            None => refused(
                Code::NoSuchFunction,
                format!("the peer has no {interface}#{name}"),
            ),
        }
    }

    /// What the peer has instead of something of `interface`: its functions there, or else its interfaces.
    pub fn offered(&self, interface: &str) -> Vec<String> {
        let exports = self.session.theirs().map_or(&[][..], |theirs| &theirs.exports);
        match exports.iter().find(|i| loop_wire::serves(&i.name, interface)) {
            Some(found) => found.functions.clone(),
            None => exports.iter().map(|i| i.name.clone()).collect(),
        }
    }

    /// Whether the peer has an interface, in any version.
    pub fn offers(&self, interface: &str) -> bool {
        let exports = self.session.theirs().map_or(&[][..], |theirs| &theirs.exports);
        exports
            .iter()
            .any(|i| i.name.split('@').next() == Some(interface))
    }

    /// The peer's number of a resource.
    fn resource(&self, resource: &Resource) -> Option<u32> {
        if self.plain.is_some() {
            return Some(0); // its handles are never let go of, and so need no number
        }
        let all = self.session.theirs()?.exports.iter();
        let mut all = all.flat_map(|i| i.resources.iter().map(move |r| (i, r)));
        let found =
            all.position(|(i, r)| **r == *resource.name && loop_wire::serves(&i.name, &resource.interface));
        found.map(|n| n as u32)
    }

    /// As it was bound at the peer.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.session.over().is_none()
    }

    pub(crate) async fn call(
        self: Arc<Self>,
        f: &FuncTy,
        function: u32,
        streaming: bool,
        args: Wire,
        meta: Meta,
        watch: &Watch,
    ) -> Result<Option<Wire>> {
        let timed = watch.is_on();
        let begun = timed.then(Instant::now);
        let mut ends = Ends {
            invocation: None,
            handles: Arc::new(LinkHandles(self.clone())),
        };
        let message = args.finish(&ends)?;
        let made = timed.then(Instant::now);
        let pending = self.session.call(Request {
            function,
            link: self.number,
            meta: Meta {
                identity: self.identity.clone(),
                timed,
                ..meta
            },
            root: Bytes::from(message.bytes),
            streaming,
        });
        if streaming {
            ends.invocation = Some(Arc::new(SessionCall {
                session: self.session.clone(),
                stream: pending.stream(),
            }));
            let runtime = self.runtime.clone();
            let spawn: Spawn = Arc::new(move |pump| drop(runtime.spawn(pump)));
            follow(&ends, message.pending, &spawn)?;
        }
        let answer = pending.await.map_err(|e| failed(f, e))?;
        let answered = timed.then(Instant::now);
        let mut values = receive(&f.result_tuple, &answer.root, &ends)?;
        if let (Some(begun), Some(made), Some(answered)) = (begun, made, answered) {
            watch.keep(Spent {
                encode: made.duration_since(begun).as_nanos() as u64,
                session: answered.duration_since(made).as_nanos() as u64,
                decode: answered.elapsed().as_nanos() as u64,
                theirs: answer.times,
            });
        }
        Ok(values.pop())
    }
}

/// What went wrong at the peer, as the caller's error.
fn failed(f: &FuncTy, failure: Failure) -> Error {
    let failure = match failure.code {
        Code::Provider | Code::BadValue if failure.field("function").is_none() => failure
            .with("interface", &*f.interface)
            .with("function", &*f.name),
        _ => failure,
    };
    Error::new(Failed(failure))
}

/// Where the imports of one link go: to a link of some session, which may be exchanged for another at any time.
pub struct Route {
    link: RwLock<Arc<Link>>,
    /// Time that a call should take at most.
    budget: Option<Duration>,
    calls: AtomicU64,
    over: AtomicU64,
    /// Where the time of its calls goes.
    pub watch: Watch,
}

impl Route {
    pub fn new(link: Arc<Link>, budget: Option<Duration>) -> Arc<Self> {
        Arc::new(Route {
            link: RwLock::new(link),
            budget,
            calls: AtomicU64::new(0),
            over: AtomicU64::new(0),
            watch: Watch::default(),
        })
    }

    /// Has the calls to come go to another link; those on their way end where they began.
    pub fn set(&self, link: Arc<Link>) {
        let old = std::mem::replace(
            &mut *self.link.write().unwrap_or_else(PoisonError::into_inner),
            link,
        );
        drop(old);
    }

    pub fn link(&self) -> Arc<Link> {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls made, and those of them that took longer than the budget.
    pub fn spent(&self) -> (u64, u64) {
        (self.calls.load(Relaxed), self.over.load(Relaxed))
    }

    /// The import that calls `f` at the peer.
    pub fn import(self: &Arc<Self>, f: &Arc<FuncTy>) -> Import<Encoded> {
        let streaming = streams(&f.param_tuple) || streams(&f.result_tuple);
        let shared = Arc::new((self.clone(), f.clone(), AtomicU64::new(0)));
        Import::later(move |mut args: Vec<Wire>| {
            let shared = shared.clone();
            // all parameters together are one value, made as the guest's memory was walked
            let made = args.pop().unwrap_or(Wire::Placed);
            let meta = told();
            async move {
                let (route, f, known) = &*shared;
                let link = route.link();
                let function = number(&link, f, known).map_err(|e| Error::new(Failed(e)))?;
                let Some(budget) = route.budget else {
                    return link.call(f, function, streaming, made, meta, &route.watch).await;
                };
                let begun = Instant::now();
                let answer = link.call(f, function, streaming, made, meta, &route.watch).await;
                route.calls.fetch_add(1, Relaxed);
                if begun.elapsed() > budget {
                    route.over.fetch_add(1, Relaxed);
                }
                answer
            }
        })
    }
}

/// What the peer is told of the call that makes an import now.
fn told() -> Meta {
    let Some(call) = loop_engine::behalf() else {
        return Meta::default();
    };
    Meta {
        deadline: call.time_left(),
        trace: loop_engine::trace(),
        ..Meta::default()
    }
}

/// The number of `f` at the link's peer, which is looked up once a link: `known` has it with the link's generation.
fn number(link: &Link, f: &Arc<FuncTy>, known: &AtomicU64) -> Result<u32, Failure> {
    let was = known.load(Relaxed);
    if (was >> 32) as u32 == link.generation {
        return Ok(was as u32);
    }
    let number = link.function(f)?;
    known.store(u64::from(link.generation) << 32 | u64::from(number), Relaxed);
    Ok(number)
}

struct LinkHandles(Arc<Link>);

impl Handles for LinkHandles {
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        let proxy = match &handle {
            Handle::Host(object) => object.downcast_ref::<Proxy>(),
            Handle::Guest(_) => None,
        };
        let Some(proxy) = proxy.filter(|p| p.link.ptr_eq(&Arc::downgrade(&self.0))) else {
            let failure = Failure::gone(
                format!("the {} is of a session that is over", resource.name),
                false,
            );
            return Err(Error::new(Failed(failure)));
        };
        let mut bytes = lock(&proxy.bytes);
        let there = if own { bytes.take() } else { bytes.clone() };
        there.ok_or_else(|| Mismatch::new(&*resource.name, "a resource that was given away").into())
    }

    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        let Some(number) = self.0.resource(resource).filter(|_| own) else {
            let text = format!("the peer sent a {} that is not its own", resource.name);
            return Err(Error::new(Failed(Failure::new(Code::BadHandle, text))));
        };
        let proxy: HostObject = Arc::new(Proxy {
            link: Arc::downgrade(&self.0),
            resource: number,
            bytes: Mutex::new(Some(bytes.to_vec())),
        });
        Ok(Handle::Host(proxy))
    }
}
