//! Plain mode: wRPC `0.0.1-draft.1`, one connection or native stream for each invocation.
//!
//! A [`Session`] whose calls each open a connection, and a [`PlainServer`] that gives the invocations of connections
//! to the same [`Handler`] that serves sessions.

mod driver;
mod frames;
mod lane;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use self::driver::{LaneDriver, Server};
use self::lane::PlainLane;
use crate::codec::Invalid;
use crate::failure::{Code, Failure};
use crate::hello::{Hello, Interface, Limits, Link, serves};
use crate::serve::Others;
use crate::session::driver::{Inner, Slot};
use crate::session::lane::{Begun, Way};
use crate::session::{Handler, Io, Request, Session};
use crate::transport::{BoxIo, Native, Peer};

/// How much of what has come is a whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The first so many bytes are.
    Complete(usize),
    /// More is to come.
    Truncated,
    /// It can never be one.
    Invalid(Invalid),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// All parameters, one after another.
    Params,
    Result,
    /// A chunk of a stream, or a future's value, of the parameters.
    ParamsChannel(&'a [u32]),
    /// The same of the result.
    ResultChannel(&'a [u32]),
}

/// Where values end. wRPC may split a value over frames and put several into one, so that only who knows their types
/// can tell.
pub trait Roots: Send + Sync + 'static {
    /// How much of `bytes` is the whole of `part`. `ended`: nothing more comes; then what is still truncated is lost.
    fn extent(&self, function: u32, part: Part<'_>, bytes: &[u8], ended: bool) -> Extent;

    /// The interface and the name of a function that this side calls, where the peer's exports do not say it.
    fn name(&self, function: u32) -> Option<(String, String)> {
        let _ = function;
        None
    }

    /// Whether the result has no bytes: peers may then say nothing before they end, as the official servers do, which
    /// is told from a failure by nothing.
    fn is_silent(&self, function: u32) -> bool {
        let _ = function;
        false
    }

    /// Whether the function returns handles that are owned, which nobody could ever drop.
    fn owns(&self, function: u32) -> bool {
        let _ = function;
        false
    }
}

/// Takes a root to the end of its direction, and each frame of a stream or future as a whole: good for functions without
/// streams or futures.
pub struct ToTheEnd;

impl Roots for ToTheEnd {
    fn extent(&self, _: u32, part: Part<'_>, bytes: &[u8], ended: bool) -> Extent {
        match part {
            Part::Params | Part::Result if !ended => Extent::Truncated,
            _ => Extent::Complete(bytes.len()),
        }
    }
}

/// Makes the connection of one invocation.
pub type Connector = Arc<dyn Fn() -> BoxFuture<'static, Result<BoxIo, Failure>> + Send + Sync>;

/// A connector whose connections are the streams of one native connection.
pub fn streams_of(native: Arc<dyn Native>) -> Connector {
    Arc::new(move || {
        let native = native.clone();
        Box::pin(async move { native.open().await })
    })
}

impl Session {
    /// A session to a peer that speaks plain wRPC. `exports`: what the peer serves, in the order of function numbers,
    /// since it does not say.
    pub fn plain(
        connector: Connector,
        exports: Vec<Interface>,
        limits: Limits,
        roots: Arc<dyn Roots>,
    ) -> Session {
        let ours = Hello {
            limits: limits.clone(),
            ..Hello::default()
        };
        let theirs = Hello {
            software: "wrpc/0.0.1-draft.1".into(),
            exports,
            limits,
            ..Hello::default()
        };
        Session::without_control(ours, theirs, Box::new(PlainWay { connector, roots }))
    }
}

struct PlainWay {
    connector: Connector,
    roots: Arc<dyn Roots>,
}

impl Way for PlainWay {
    fn call(&self, inner: &Arc<Inner>, number: u32, request: Request, slot: Slot) -> Begun {
        let exports = inner.theirs().map(|theirs| &theirs.exports[..]);
        let listed = || exports.and_then(|exports| name_of(exports, request.function));
        let named = self.roots.name(request.function);
        let name = named.map(|(i, f)| (i, spoken(&f).into())).or_else(listed);
        let lane = Arc::new(PlainLane::calling(&request, name, slot, &inner.ours.limits));
        let mut driver = LaneDriver::new(lane.clone(), inner.clone(), number, self.roots.clone());
        driver.calls(&request, self.connector.clone());
        (lane, Box::pin(driver.map(drop)))
    }

    fn has_control(&self) -> bool {
        false
    }

    fn link(&self, link: &Link) -> Option<Result<(), Failure>> {
        let empty = ["", "{}", "null"].contains(&link.grant.as_str());
        Some(match empty {
            true => Ok(()),
            false => Err(Failure::new(
                Code::NotGranted,
                "a peer in plain mode cannot be told a grant, and so enforces none",
            )
            .with("link", &link.name)),
        })
    }
}

/// The name of a function as wRPC peers say it: `bucket.get` for `[method]bucket.get`, `bucket` for its constructor.
fn spoken(name: &str) -> &str {
    let kinds = ["[constructor]", "[method]", "[static]"];
    kinds
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name)
}

/// Whether a function makes a resource, by its number.
fn constructs(exports: &[Interface], function: u32) -> bool {
    let mut names = exports.iter().flat_map(|interface| &interface.functions);
    names
        .nth(function as usize)
        .is_some_and(|name| name.starts_with("[constructor]"))
}

/// Interface and name of a function by its number.
fn name_of(exports: &[Interface], function: u32) -> Option<(String, String)> {
    let mut number = function as usize;
    for interface in exports {
        match interface.functions.get(number) {
            Some(name) => return Some((interface.name.clone(), spoken(name).into())),
            None => number -= interface.functions.len(),
        }
    }
    None
}

/// The number of a function by its interface and name.
fn number_of(exports: &[Interface], instance: &str, function: &str) -> Result<u32, Failure> {
    let mut first = 0;
    let mut known = false;
    for interface in exports {
        if serves(&interface.name, instance) {
            known = true;
            let named = |name: &String| spoken(name) == spoken(function);
            if let Some(at) = interface.functions.iter().position(named) {
                return Ok(first + at as u32);
            }
        }
        first += interface.functions.len() as u32;
    }
    let (code, message) = match known {
        true => (
            Code::NoSuchFunction,
            format!("{instance} has no function {function}"),
        ),
        false => (Code::NoSuchInterface, format!("{instance} is not offered here")),
    };
    let failure = Failure::new(code, message).with("interface", instance);
    Err(failure.with("function", function))
}

/// Serves invocations in plain mode; each connection brings one.
pub struct PlainServer {
    session: Session,
    handler: Arc<dyn Handler>,
    roots: Arc<dyn Roots>,
    handles: bool,
}

impl PlainServer {
    /// `hello`: what is served, in the order of function numbers, and its limits.
    pub fn new(hello: Hello, handler: Arc<dyn Handler>, roots: Arc<dyn Roots>) -> Self {
        let way = Box::new(ServerWay(handler.clone()));
        PlainServer {
            session: Session::without_control(hello, Hello::default(), way),
            handler,
            roots,
            handles: false,
        }
    }

    /// Serves functions that return handles which are owned too. They live as long as the handler keeps them.
    pub fn with_handles(self) -> Self {
        PlainServer {
            handles: true,
            ..self
        }
    }

    /// Serves the invocation of a connection to its end.
    ///
    /// Errors where the peer broke the rules, or called what is not here; the peer itself can only be told by closing.
    pub fn serve<S: Io>(&self, io: S) -> impl Future<Output = Result<(), Failure>> + Send + use<S> {
        let inner = self.session.shared().clone();
        let lane = Arc::new(PlainLane::serving(&inner.ours.limits));
        let begun = self
            .handler
            .accept(&Hello::default())
            .and_then(|()| match &inner.lanes {
                Some(lanes) if !inner.is_leaving() => Ok(lanes.serve(lane.clone())),
                _ => Err(inner.gone()),
            });
        let (handler, roots) = (self.handler.clone(), self.roots.clone());
        let (session, handles) = (self.session.downgrade(), self.handles);
        async move {
            let (number, served) = begun?;
            let mut driver = LaneDriver::new(lane, inner.clone(), number, roots);
            let most = inner.ours.limits.calls;
            if served > most as usize {
                let failure = Failure::new(Code::Overloaded, "more calls at once than are taken here");
                return Err(failure.with("limit", most));
            }
            let server = Server {
                session,
                handler,
                handles,
            };
            driver.serves(Box::new(io), server);
            driver.await
        }
    }

    /// Takes no more invocations, and waits until those that have begun are over.
    pub async fn leave(&self) {
        self.session
            .leave(&Failure::gone("the provider is leaving", true))
            .await;
    }
}

impl Others for PlainServer {
    fn plain(&self, io: BoxIo, _: Peer) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(self.serve(io).map(drop)))
    }
}

struct ServerWay(Arc<dyn Handler>);

impl Way for ServerWay {
    fn call(&self, inner: &Arc<Inner>, number: u32, request: Request, slot: Slot) -> Begun {
        // a connection in plain mode carries no calls back
        let lane = PlainLane::calling(&request, None, slot, &inner.ours.limits);
        let inner = inner.clone();
        (Arc::new(lane), Box::pin(async move { inner.lane_over(number) }))
    }

    fn has_control(&self) -> bool {
        false
    }

    fn closed(&self, why: &Failure) {
        self.0.closed(why);
    }
}
