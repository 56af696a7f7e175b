//! A component's import, answered by a peer.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use loop_engine::{FuncTy, Handle, HostObject, Import, Kind, Mismatch, Resource, Ty};
use loop_wire::session::{Meta, Request, Session};
use loop_wire::{Code, Failure};
use wasmtime::{Error, Result};

use crate::encoded::{Encoded, Wire};
use crate::flow::{Ends, Failed, Handles, Pump, SessionCall, follow};
use crate::incoming::receive;

/// A link over a session: where an import's calls go, and what they carry.
pub struct Link {
    pub session: Session,
    /// As it was bound; 0: without a grant.
    pub number: u32,
    /// Who calls, for the provider's log.
    pub identity: Option<Arc<str>>,
    /// Time that each call may take at most.
    pub deadline: Option<Duration>,
    /// The numbers of resources at the peer, by interface and name.
    resources: HashMap<(Arc<str>, Arc<str>), u32>,
    runtime: tokio::runtime::Handle,
    pub spent: Spent,
}

/// What the calls of a link have taken, for those who look at it.
#[derive(Default)]
pub struct Spent {
    pub calls: AtomicU64,
    /// Nanoseconds, all calls together.
    pub nanoseconds: AtomicU64,
    /// Calls over the link's budget.
    pub over: AtomicU64,
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

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether values of the type hold streams or futures.
pub fn streams(ty: &Ty) -> bool {
    ty.any(&|t| matches!(t.kind, Kind::Stream(_) | Kind::Future(_)))
}

impl Link {
    /// `resources`: numbers at the peer, by interface and name as the component imports them.
    pub fn new(
        session: Session,
        number: u32,
        identity: Option<Arc<str>>,
        deadline: Option<Duration>,
        resources: HashMap<(Arc<str>, Arc<str>), u32>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Link {
            session,
            number,
            identity,
            deadline,
            resources,
            runtime,
            spent: Spent::default(),
        })
    }

    /// The import that calls function number `function` of the peer.
    pub fn import(self: &Arc<Self>, f: &Arc<FuncTy>, function: u32) -> Import<Encoded> {
        let (link, f) = (self.clone(), f.clone());
        let streaming = streams(&f.param_tuple) || streams(&f.result_tuple);
        Import::later(move |mut args: Vec<Wire>| {
            let (link, f) = (link.clone(), f.clone());
            // all parameters together are one value, made as the guest's memory was walked
            let made = args.pop().unwrap_or(Wire::Placed);
            async move { link.call(&f, function, streaming, made).await }
        })
    }

    async fn call(
        self: Arc<Self>,
        f: &FuncTy,
        function: u32,
        streaming: bool,
        args: Wire,
    ) -> Result<Option<Wire>> {
        let handles: Arc<dyn Handles> = Arc::new(LinkHandles(self.clone()));
        let mut ends = Ends {
            invocation: None,
            handles,
        };
        let message = args.finish(&ends)?;
        let request = Request {
            function,
            link: self.number,
            meta: Meta {
                deadline: self.deadline,
                identity: self.identity.clone(),
                ..Meta::default()
            },
            root: Bytes::from(message.bytes),
            streaming,
        };
        let pending = self.session.call(request);
        if streaming {
            ends.invocation = Some(Arc::new(SessionCall {
                session: self.session.clone(),
                stream: pending.stream(),
            }));
            let runtime = self.runtime.clone();
            let spawn: Arc<dyn Fn(Pump) + Send + Sync> = Arc::new(move |pump| drop(runtime.spawn(pump)));
            follow(&ends, &[], message.pending, &spawn);
        }
        let answer = pending.await.map_err(|e| failed(f, e))?;
        let mut values = receive(&f.result_tuple, &answer.root, &ends)?;
        Ok(values.pop())
    }
}

/// What went wrong at the peer, as the caller's error.
fn failed(f: &FuncTy, failure: Failure) -> Error {
    let failure = match failure.code {
        Code::Provider | Code::BadValue if failure.field("function").is_none() => failure
            .with("interface", &f.interface)
            .with("function", &f.name),
        _ => failure,
    };
    Error::new(Failed(failure))
}

struct LinkHandles(Arc<Link>);

impl Handles for LinkHandles {
    fn give(&self, resource: &Arc<Resource>, own: bool, handle: Handle) -> Result<Vec<u8>> {
        let proxy = match &handle {
            Handle::Host(object) => object.downcast_ref::<Proxy>(),
            Handle::Guest(_) => None,
        };
        let Some(proxy) = proxy.filter(|p| p.link.ptr_eq(&Arc::downgrade(&self.0))) else {
            let wanted = format!("a resource {} of this link", resource.name);
            return Err(Mismatch::new(wanted, "one of another provider").into());
        };
        let mut bytes = lock(&proxy.bytes);
        let there = if own { bytes.take() } else { bytes.clone() };
        there.ok_or_else(|| Mismatch::new(&*resource.name, "a resource that was given away").into())
    }

    fn take(&self, resource: &Arc<Resource>, own: bool, bytes: &[u8]) -> Result<Handle> {
        let key = (resource.interface.clone(), resource.name.clone());
        let Some(number) = self.0.resources.get(&key).filter(|_| own) else {
            let failure = Failure::new(Code::BadHandle, format!("the peer sent a {} that it cannot have", resource.name));
            return Err(Error::new(Failed(failure)));
        };
        let proxy: HostObject = Arc::new(Proxy {
            link: Arc::downgrade(&self.0),
            resource: *number,
            bytes: Mutex::new(Some(bytes.to_vec())),
        });
        Ok(Handle::Host(proxy))
    }
}
