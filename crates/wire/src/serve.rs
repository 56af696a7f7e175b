//! Serving whoever connects: sessions here, everything else where it belongs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::failure::{Code, Failure};
use crate::frame::PREFACE;
use crate::hello::{Hello, Link};
use crate::replay::Replay;
use crate::session::{Called, Handler, Reply, Session, accept_native};
use crate::transport::{BoxIo, Connection, Incoming, Listener, Native, Peer, Token};

/// Makes what serves one session of that peer.
pub type MakeHandler = dyn Fn(&Peer) -> Arc<dyn Handler> + Send + Sync;

/// What a listener serves.
#[derive(Clone)]
pub struct Service {
    /// What this side says of itself.
    pub hello: Hello,
    /// One for each session, since links and handles are a session's own.
    pub handler: Arc<MakeHandler>,
    pub others: Arc<dyn Others>,
    /// What peers must show.
    pub token: Option<Token>,
    pub bounds: Bounds,
}

impl Service {
    pub fn new(hello: Hello, handler: impl Fn(&Peer) -> Arc<dyn Handler> + Send + Sync + 'static) -> Self {
        Service {
            hello,
            handler: Arc::new(handler),
            others: Arc::new(Sessions),
            token: None,
            bounds: Bounds::default(),
        }
    }
}

/// What peers may cost that have not proven anything yet.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Connections at once; more wait where the transport lets them.
    pub connections: usize,
    /// Of these, such as have not begun a session or an invocation.
    pub handshakes: usize,
    /// Time until a session or an invocation has begun, with all that the transport says before.
    pub handshake: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections: 1024,
            handshakes: 256,
            handshake: Duration::from_secs(10),
        }
    }
}

/// Takes the connections that are no session over bytes. Each method may answer none: the connection is closed then.
pub trait Others: Send + Sync + 'static {
    /// A connection that begins as an invocation in plain mode. Where a token is asked for, only peers with a verified
    /// certificate come here, since plain mode can show none.
    fn plain(&self, io: BoxIo, peer: Peer) -> Option<BoxFuture<'static, ()>> {
        let _ = (io, peer);
        None
    }

    /// A connection came to nothing.
    fn refused(&self, why: &Failure) {
        let _ = why;
    }
}

/// Serves sessions over bytes alone.
struct Sessions;

impl Others for Sessions {}

/// Whether `theirs` is who it says and shows what it must: the token, and an identity that its certificate has.
///
/// Errors with `unauthenticated`.
pub fn admit(token: Option<&Token>, peer: &Peer, theirs: &Hello) -> Result<(), Failure> {
    let no = |message: String| Err(Failure::new(Code::Unauthenticated, message));
    match token {
        Some(_) if theirs.token.is_empty() => return no("a token is asked for, and none was shown".into()),
        Some(token) if !token.accepts(&theirs.token) => return no("the token is not the right one".into()),
        _ => {}
    }
    match &peer.certificate {
        Some(names) if !theirs.identity.is_empty() && !names.contains(&theirs.identity) => no(format!(
            "the peer says that it is {}, its certificate is for {}",
            theirs.identity,
            names.join(", ")
        )),
        _ => Ok(()),
    }
}

/// A handler that is reached only by those whom [`admit`] lets in.
pub struct Guarded {
    pub handler: Arc<dyn Handler>,
    pub token: Option<Token>,
    pub peer: Peer,
}

impl Handler for Guarded {
    fn call(&self, session: &Session, called: Called) -> Reply {
        self.handler.call(session, called)
    }

    fn accept(&self, theirs: &Hello) -> Result<(), Failure> {
        admit(self.token.as_ref(), &self.peer, theirs)?;
        self.handler.accept(theirs)
    }

    fn link(&self, link: Link) -> Result<(), Failure> {
        self.handler.link(link)
    }

    fn unlink(&self, number: u32) {
        self.handler.unlink(number);
    }

    fn dropped(&self, link: u32, resource: u32, handle: &[u8]) {
        self.handler.dropped(link, resource, handle);
    }

    fn reload(&self) -> Result<(), Failure> {
        self.handler.reload()
    }

    fn closed(&self, why: &Failure) {
        self.handler.closed(why);
    }
}

/// Serves what `listener` takes, until it is closed or dropped.
pub fn serve(listener: Listener, service: Service) -> Server {
    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        sessions: Mutex::new(Some(HashMap::new())),
        next: AtomicU64::new(0),
        service,
    });
    Server {
        addresses: listener.addresses(),
        task: tokio::spawn(accept(listener, shared.clone(), stopping)),
        shared,
        stop,
    }
}

/// A listener at work. Dropping it ends all its connections at once.
pub struct Server {
    addresses: Vec<Address>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Failure>>,
}

struct Shared {
    /// None once it is being closed.
    sessions: Mutex<Option<HashMap<u64, Session>>>,
    next: AtomicU64,
    service: Service,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Option<HashMap<u64, Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Where it is reached.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The sessions that have begun.
    pub fn sessions(&self) -> Vec<Session> {
        let sessions = self.shared.sessions();
        let all = sessions.iter().flat_map(HashMap::values);
        all.filter(|s| s.theirs().is_some()).cloned().collect()
    }

    /// Waits until no more connections can come and those that are there have ended, as with `stdio:`.
    ///
    /// Errors when the listener cannot go on.
    pub async fn finished(&mut self) -> Result<(), Failure> {
        (&mut self.task).await.unwrap_or(Ok(()))
    }

    /// Takes no more connections, lets the calls of sessions and of plain mode end within `grace`, and cuts what is
    /// left.
    pub async fn close(mut self, grace: Duration) {
        let sessions = self.shared.sessions().take().unwrap_or_default();
        let _ = self.stop.send(true);
        let why = Failure::gone("the provider is leaving", true);
        let left = join_all(sessions.values().map(|session| async {
            match session.theirs() {
                Some(_) => session.leave(&why).await,
                None => session.close(),
            }
        }));
        let task = &mut self.task;
        let _ = tokio::time::timeout(grace, futures::future::join(left, task)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // with it go the tasks of all connections
        self.task.abort();
    }
}

async fn accept(
    mut listener: Listener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let bounds = &shared.service.bounds;
    let connections = Arc::new(Semaphore::new(bounds.connections));
    let handshakes = Arc::new(Semaphore::new(bounds.handshakes));
    let mut tasks = JoinSet::new();
    let told = stopping.clone();
    let mut next = async || {
        let places = [&connections, &handshakes].map(|s| s.clone().acquire_owned());
        let places = futures::future::try_join_all(places).await;
        listener.accept().await.map(|incoming| incoming.zip(places.ok()))
    };
    let ended = loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break Ok(()),
            Some(_) = tasks.join_next() => {}
            taken = next() => match taken {
                Ok(Some((incoming, places))) => {
                    tasks.spawn(connection(incoming, shared.clone(), places, told.clone()));
                }
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            },
        }
    };
    drop(listener);
    while tasks.join_next().await.is_some() {}
    ended
}

/// One connection from its first byte to its last.
async fn connection(
    incoming: Incoming,
    shared: Arc<Shared>,
    mut places: Vec<OwnedSemaphorePermit>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = &shared.service;
    let until = Instant::now() + service.bounds.handshake;
    let began = tokio::select! {
        began = timeout_at(until, begin(incoming)) => began.unwrap_or_else(|_| Err(late())),
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let task = match began {
        Ok(Begun::Session(io, peer)) => return session(io, peer, &shared, places, until).await,
        Ok(Begun::Plain(io, peer)) if service.token.is_none() || peer.certificate.is_some() => {
            let refusal = format!("{}: plain mode is not served", peer.address);
            service
                .others
                .plain(Box::new(io), peer)
                .ok_or_else(|| Failure::protocol(refusal))
        }
        Ok(Begun::Plain(_, peer)) => Err(Failure::new(
            Code::Unauthenticated,
            format!(
                "{}: plain mode cannot show the token that is asked for",
                peer.address
            ),
        )),
        Ok(Begun::Native(native, peer)) => {
            return native_session(native, peer, &shared, places, until, stopping).await;
        }
        Err(failure) => Err(failure),
    };
    // the place among the handshakes
    places.truncate(1);
    match task {
        Ok(task) => task.await,
        Err(failure) => service.others.refused(&failure),
    }
}

async fn session(io: Replay, peer: Peer, shared: &Shared, places: Vec<OwnedSemaphorePermit>, until: Instant) {
    let handler = guarded(peer, shared);
    let (session, driver) = accepted(io, shared.service.hello.clone(), handler);
    drive(session, driver, shared, places, until).await;
}

/// A session on a connection of which a byte was read.
fn accepted(io: Replay, ours: Hello, handler: Arc<dyn Handler>) -> (Session, BoxFuture<'static, Failure>) {
    let (session, mut driver) = Session::accept(io.io, ours, handler);
    driver.replay(io.first.as_slice());
    (session, Box::pin(driver))
}

/// A session of a transport that multiplexes by itself, whose control stream has not been opened yet.
async fn native_session(
    native: Box<dyn Native>,
    peer: Peer,
    shared: &Shared,
    places: Vec<OwnedSemaphorePermit>,
    until: Instant,
    mut stopping: watch::Receiver<bool>,
) {
    let (hello, handler) = (shared.service.hello.clone(), guarded(peer, shared));
    let begun = tokio::select! {
        begun = timeout_at(until, accept_native(native.into(), hello, handler)) => begun,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    match begun.unwrap_or_else(|_| Err(late())) {
        Ok((session, driver)) => drive(session, driver, shared, places, until).await,
        Err(failure) => shared.service.others.refused(&failure),
    }
}

fn guarded(peer: Peer, shared: &Shared) -> Arc<dyn Handler> {
    Arc::new(Guarded {
        handler: (shared.service.handler)(&peer),
        token: shared.service.token.clone(),
        peer,
    })
}

async fn drive(
    session: Session,
    driver: impl Future<Output = Failure>,
    shared: &Shared,
    mut places: Vec<OwnedSemaphorePermit>,
    until: Instant,
) {
    let id = shared.next.fetch_add(1, Relaxed);
    match &mut *shared.sessions() {
        Some(sessions) => sessions.insert(id, session.clone()),
        None => return,
    };
    let greeted = async {
        let ready = timeout_at(until, session.ready()).await;
        places.truncate(1);
        match ready {
            Ok(ready) => ready.map(drop),
            Err(_) => {
                session.close();
                Err(late())
            }
        }
    };
    let (_, ready) = tokio::join!(driver, greeted);
    if let Some(sessions) = &mut *shared.sessions() {
        sessions.remove(&id);
    }
    if let Err(failure) = ready {
        shared.service.others.refused(&failure);
    }
}

fn late() -> Failure {
    Failure::gone("the peer did not begin in time", false)
}

enum Begun {
    Session(Replay, Peer),
    Plain(Replay, Peer),
    Native(Box<dyn Native>, Peer),
}

/// Waits for the transport's handshake and the first byte.
async fn begin(incoming: Incoming) -> Result<Begun, Failure> {
    let (mut io, peer) = match incoming.await? {
        Connection::Bytes(io, peer) => (io, peer),
        Connection::Native(connection, peer) => return Ok(Begun::Native(connection, peer)),
    };
    let mut first = [0];
    let read = io.read(&mut first).await;
    let replay = Replay {
        first: Some(first[0]),
        io,
    };
    match read {
        Ok(1) if first[0] == PREFACE[0] => Ok(Begun::Session(replay, peer)),
        Ok(1) if first[0] == 0 => Ok(Begun::Plain(replay, peer)),
        Ok(1) => Err(Failure::protocol(format!(
            "{}: neither a session nor plain mode begins with {:#04x}",
            peer.address, first[0]
        ))),
        Ok(_) => Err(Failure::gone(
            format!("{}: closed before it began", peer.address),
            false,
        )),
        Err(e) => Err(Failure::gone(format!("{}: {e}", peer.address), false)),
    }
}
