//! What is served, to whom, and by which objects.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context as Task, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use loop_wire::session::{Called, Handler, Reply, Session, Times};
use loop_wire::transport::{self, Options, Token};
use loop_wire::{Address, Code, Failure, Hello, Limits, Service as Wire};

use crate::answer::{Answer, Context, Interface, Message, Request};
use crate::call::{Call, Link};
use crate::invocation::Invocation;
use crate::links::{Bound, Services};
use crate::pumps;

/// Links that one session may have.
const LINKS: usize = 4096;

type Hook = dyn Fn() -> Result<(), Failure> + Send + Sync;

/// A provider, before it is served.
#[derive(Default)]
pub struct Provider {
    interfaces: Vec<Interface>,
    open: bool,
    reload: Option<Box<Hook>>,
    identity: String,
    limits: Limits,
    pub(crate) options: Options,
}

impl Provider {
    pub fn new() -> Self {
        Provider::default()
    }

    /// Serves this interface too.
    pub fn with(mut self, interface: Interface) -> Self {
        self.interfaces.push(interface);
        self
    }

    /// Serves calls without a link too, so without a grant; what answers them is made for link 0.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Calls `hook` when the host asks for a reload, or on SIGHUP, to read configuration anew. Then what serves each
    /// link is made once more; where either fails, everything stays as it was.
    pub fn on_reload(mut self, hook: impl Fn() -> Result<(), Failure> + Send + Sync + 'static) -> Self {
        self.reload = Some(Box::new(hook));
        self
    }

    /// Who this provider says it is.
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        self
    }

    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// TLS and the like.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Asks whoever connects for a secret.
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.options.token = Some(Token(token.into()));
        self
    }

    /// Serves at an address, on the runtime that this is called in.
    ///
    /// Errors where the address cannot be used, or what serves link 0 cannot be made.
    pub async fn serve(self, address: &Address) -> Result<Server, Failure> {
        let mut instance = [0; 8];
        getrandom::fill(&mut instance).map_err(|e| Failure::gone(format!("no random numbers: {e}"), true))?;
        let hello = Hello {
            identity: self.identity,
            instance: instance.iter().map(|b| format!("{b:02x}")).collect(),
            exports: self.interfaces.iter().map(|i| i.wire.clone()).collect(),
            limits: self.limits,
            ..Hello::default()
        };
        let shared = Arc::new(Shared {
            interfaces: self.interfaces,
            open: self.open,
            reload: self.reload,
            sessions: Mutex::default(),
        });
        if shared.open {
            // it fails here, not when somebody connects
            shared.services(&Link::default())?;
        }
        let listener = transport::listen(address, &self.options).await?;
        let handlers = shared.clone();
        let mut service = Wire::new(hello, move |_| handlers.session());
        service.token = self.options.token;
        Ok(Server {
            server: loop_wire::serve(listener, service),
            shared,
        })
    }
}

/// A provider at work. Dropping it ends all its sessions at once.
pub struct Server {
    server: loop_wire::Server,
    shared: Arc<Shared>,
}

impl Server {
    /// Where it is reached.
    pub fn addresses(&self) -> &[Address] {
        self.server.addresses()
    }

    /// Waits until no more calls can come, as on `stdio:` when the host has gone.
    ///
    /// Errors when it cannot go on listening.
    pub async fn finished(&mut self) -> Result<(), Failure> {
        self.server.finished().await
    }

    /// Reloads, as when the host asks for it.
    pub fn reload(&self) -> Result<(), Failure> {
        self.shared.reload()
    }

    /// Asks whoever is connected to exchange this provider for another one of its kind; what has begun ends here.
    ///
    /// Errors where somebody does not, and goes on with this one, and where nobody is connected.
    pub async fn ask_exchange(&self) -> Result<(), Failure> {
        let sessions = self.server.sessions();
        if sessions.is_empty() {
            return Err(Failure::gone("nobody is connected who could exchange it", true));
        }
        for session in sessions {
            session.reload().await?;
        }
        Ok(())
    }

    /// Takes nothing new, lets what has begun end within `grace`, and closes.
    pub async fn close(self, grace: Duration) {
        self.server.close(grace).await;
    }
}

struct Shared {
    interfaces: Vec<Interface>,
    open: bool,
    reload: Option<Box<Hook>>,
    sessions: Mutex<Vec<Weak<Links>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn services(&self, link: &Link) -> Result<Services, Failure> {
        self.interfaces.iter().map(|i| (i.make)(link)).collect()
    }

    fn session(self: &Arc<Self>) -> Arc<dyn Handler> {
        let links = Arc::new(Links::default());
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&links));
        Arc::new(Served {
            shared: self.clone(),
            links,
        })
    }

    fn reload(&self) -> Result<(), Failure> {
        let hook = self.reload.as_ref();
        hook.ok_or_else(|| Failure::new(Code::Provider, "this provider cannot reload; restart it"))?()?;
        let sessions: Vec<_> = lock(&self.sessions).iter().filter_map(Weak::upgrade).collect();
        let bound = sessions
            .iter()
            .flat_map(|links| lock(&links.0).values().cloned().collect::<Vec<_>>());
        let made = bound.map(|bound| self.services(&bound.link).map(|services| (bound, services)));
        for (bound, services) in made.collect::<Result<Vec<_>, _>>()? {
            bound.exchange(services);
        }
        Ok(())
    }
}

/// The links of a session.
#[derive(Default)]
struct Links(Mutex<HashMap<u32, Arc<Bound>>>);

/// Serves one session.
struct Served {
    shared: Arc<Shared>,
    links: Arc<Links>,
}

impl Served {
    fn bind(&self, link: Link) -> Result<(), Failure> {
        let services = self.shared.services(&link)?;
        let number = link.number;
        lock(&self.links.0).insert(number, Arc::new(Bound::new(Arc::new(link), services)));
        Ok(())
    }

    /// Which interface a function is of, and its number there.
    fn find(&self, function: u32) -> Option<(usize, usize)> {
        let mut number = function as usize;
        for (at, interface) in self.shared.interfaces.iter().enumerate() {
            match number.checked_sub(interface.wire.functions.len()) {
                None => return Some((at, number)),
                Some(left) => number = left,
            }
        }
        None
    }
}

impl Handler for Served {
    fn call(&self, session: &Session, called: Called) -> Reply {
        let Some((interface, function)) = self.find(called.function) else {
            let message = format!("there is no function number {}", called.function);
            let failure = Failure::new(Code::NoSuchFunction, message);
            return Reply::Now(Err(failure.with("function", called.function)));
        };
        let bound = lock(&self.links.0).get(&called.link).cloned();
        let Some((bound, service)) = bound.and_then(|b| b.service(interface).map(|service| (b, service)))
        else {
            let message = match called.link {
                0 => "this provider serves only links with a grant: bind one first".into(),
                link => format!("link {link} was not bound"),
            };
            return Reply::Now(Err(
                Failure::new(Code::NotGranted, message).with("link", called.link)
            ));
        };
        let streaming = service.is_streaming(function);
        let invocation = streaming.then(|| Arc::new(Invocation::new(session.clone(), called.stream)));
        let cx = Context::new(bound.clone(), invocation.clone());
        let (at, timed) = (called.at, called.meta.timed);
        let request = Request {
            call: Call::of(bound.link.clone(), called.meta, called.at),
            root: called.root,
            cx: cx.clone(),
        };
        let began = Instant::now();
        let name = (&self.shared.interfaces[interface].wire, function);
        let mut answer = guarded(service.call(function, request), name);
        let Some(invocation) = invocation else {
            // what is answered at once leaves together with the other answers of its turn
            return match answer.as_mut().poll(&mut Task::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Reply::Now(answer.map(|message| message.root)),
                Poll::Pending => Reply::Later(Box::pin(answer.map(|a| a.map(|message| message.root)))),
            };
        };
        Reply::Task(Box::pin(async move {
            let answer = answer.await;
            let times = timed.then(|| Times {
                queue: began.duration_since(at).as_nanos() as u64,
                provider: began.elapsed().as_nanos() as u64,
                ..Times::default()
            });
            let announced = match answer {
                Ok(message) => invocation.open(&[], &message.paths).await.map(|_| message),
                Err(failure) => Err(failure),
            };
            match announced {
                Ok(Message { root, pumps, .. }) => {
                    invocation.respond(Ok(root), times.as_ref());
                    // what still reads a stream holds the invocation by itself
                    drop(invocation);
                    pumps::All::new(cx, pumps).await;
                }
                Err(failure) => invocation.respond(Err(failure), None),
            }
        }))
    }

    fn accept(&self, _: &Hello) -> Result<(), Failure> {
        match self.shared.open {
            true => self.bind(Link::default()),
            false => Ok(()),
        }
    }

    fn link(&self, link: loop_wire::Link) -> Result<(), Failure> {
        if link.number == 0 {
            return Err(Failure::new(Code::BadValue, "link 0 is bound by nobody"));
        }
        if lock(&self.links.0).len() >= LINKS + usize::from(self.shared.open) {
            let message = format!("a session may have {LINKS} links, and has");
            return Err(Failure::new(Code::Overloaded, message).with("limit", LINKS));
        }
        self.bind(Link::read(link)?)
    }

    fn unlink(&self, number: u32) {
        let gone = lock(&self.links.0).remove(&number);
        drop(gone);
    }

    fn dropped(&self, link: u32, _: u32, handle: &[u8]) {
        let bound = lock(&self.links.0).get(&link).cloned();
        if let Some(bound) = bound {
            bound.handles.dropped(handle);
        }
    }

    fn reload(&self) -> Result<(), Failure> {
        self.shared.reload()
    }

    fn closed(&self, _: &Failure) {
        let gone = std::mem::take(&mut *lock(&self.links.0));
        drop(gone);
    }
}

/// A provider's failures name the function, and its panics are failures.
fn guarded(answer: Answer, (interface, function): (&loop_wire::Interface, usize)) -> Answer {
    let (interface, function) = (interface.name.clone(), interface.functions[function].clone());
    Box::pin(async move {
        let failure = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::new(Code::Provider, "the provider panicked").with("type", "panic"),
        };
        match failure.code {
            Code::Provider | Code::BadValue => {
                Err(failure.with("interface", interface).with("function", function))
            }
            _ => Err(failure),
        }
    })
}
