//! Sessions of a host: they run on its own threads, so that no Python is on the path of a component's call.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loop_remote::{Functions, Link};
use loop_wire::plain::{Connector, streams_of};
use loop_wire::session::{Called, Handler, Nothing, Reply, Session, connect_native};
use loop_wire::transport::{self, Connection, Options};
use loop_wire::{Address, Code, Failure, Hello};
use pyo3::prelude::*;
use tokio::runtime::Handle as Runtime;

use super::failures;
use super::net::{self, LoginWords, TlsFiles};
use crate::engine::Engine;
use crate::errors;
use crate::hub::lock;

/// A session with a peer that components call.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Remote {
    /// None once it is closed.
    session: Mutex<Option<Session>>,
    /// Where it speaks plain wRPC.
    functions: Option<Arc<Functions>>,
    runtime: Runtime,
}

/// Serves nothing but the wish of a provider to be exchanged.
struct Exchanges {
    asked: Option<Py<PyAny>>,
    last: Mutex<Option<Instant>>,
}

/// From one wish to the next.
const WISHES: Duration = Duration::from_secs(1);

impl Handler for Exchanges {
    fn call(&self, session: &Session, called: Called) -> Reply {
        Nothing.call(session, called)
    }

    fn reload(&self) -> Result<(), Failure> {
        let Some(asked) = &self.asked else {
            return Err(Failure::new(Code::Provider, "this host does not exchange it"));
        };
        let now = Instant::now();
        if (lock(&self.last).replace(now)).is_some_and(|last| now.duration_since(last) < WISHES) {
            return Err(Failure::new(Code::Overloaded, "it asked a moment ago"));
        }
        Python::attach(|py| match asked.call0(py) {
            Ok(_) => Ok(()),
            Err(e) => Err(Failure::new(Code::Provider, e.to_string())),
        })
    }
}

/// What a provider says of a call: nanoseconds spent waiting, decoding, in the provider, encoding.
type Theirs = (u64, u64, u64, u64);

/// Where the imports of one link go.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Route(pub Arc<loop_remote::Route>);

impl Remote {
    fn session(&self, py: Python<'_>) -> PyResult<Session> {
        let session = lock(&self.session).clone();
        session.ok_or_else(|| failures::raised(py, &Failure::gone("the session was closed", true)))
    }

    fn linked(&self, py: Python<'_>, number: u32, identity: &str) -> PyResult<Arc<Link>> {
        let (session, functions) = (self.session(py)?, self.functions.clone());
        Ok(Link::new(
            session,
            functions,
            number,
            Some(identity.into()),
            self.runtime.clone(),
        ))
    }

    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        work: impl Future<Output = Result<R, Failure>> + Send,
    ) -> PyResult<R> {
        let done = py.detach(|| self.runtime.block_on(work));
        done.map_err(|e| failures::raised(py, &e))
    }
}

#[pymethods]
impl Remote {
    /// Connects to an address, or to descriptors to read and to write, which are owned from here on; blocks until the
    /// handshake is over, for `timeout` seconds at most. With `plain` the peer speaks wRPC: there is no handshake, and
    /// each call makes a connection of its own. `asked` is called, on any thread, when the provider asks to be exchanged:
    /// it is to return at once, and raises where that is not to be.
    ///
    /// Raises what the peer refused it with, ProviderGone where nobody is there, and Unauthenticated where it is not who
    /// it should be.
    #[staticmethod]
    #[pyo3(signature = (engine, where_, *, descriptors = None, identity = "", token = None, tls = None, login = None, plain = false, timeout = 10.0, asked = None))]
    #[allow(clippy::too_many_arguments)]
    fn connect(
        py: Python<'_>,
        engine: &Engine,
        where_: &str,
        descriptors: Option<(RawFd, RawFd)>,
        identity: &str,
        token: Option<&str>,
        tls: Option<TlsFiles>,
        login: Option<LoginWords>,
        plain: bool,
        timeout: f64,
        asked: Option<Py<PyAny>>,
    ) -> PyResult<Remote> {
        let runtime = engine.0.runtime().map_err(|e| errors::of_load(py, &e))?;
        // SAFETY: the caller gives the descriptors away.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        let descriptors = descriptors.map(|(read, write)| (own(read), own(write)));
        let ours = Hello {
            identity: identity.into(),
            token: token.unwrap_or_default().into(),
            ..Hello::default()
        };
        let secured = tls.is_some();
        let options = Options {
            plain,
            ..net::options(tls, token, login, false)
        };
        let functions = plain.then(Arc::<Functions>::default);
        let exchanges = Arc::new(Exchanges {
            asked,
            last: Mutex::default(),
        });
        let work = async {
            let connection = match descriptors {
                Some((read, write)) => transport::from_fds(read, write)?,
                None => transport::connect(&net::address(where_, secured)?, &options).await?,
            };
            let session = match (connection, &functions) {
                (connection, Some(functions)) => {
                    let connector = connector(connection, net::address(where_, secured)?, options);
                    Session::plain(connector, vec![], ours.limits, functions.clone())
                }
                (Connection::Bytes(io, _), None) => {
                    let (session, driver) = Session::connect(io, ours, exchanges);
                    tokio::spawn(driver);
                    session
                }
                (Connection::Native(native, _), None) => {
                    let (session, driver) = connect_native(native.into(), ours, exchanges).await?;
                    tokio::spawn(driver);
                    session
                }
            };
            session.ready().await?;
            Ok(session)
        };
        let limit = Duration::from_secs_f64(timeout.clamp(0.0, 1e6));
        let made = py.detach(|| {
            runtime.block_on(async {
                let late = Failure::gone(format!("{where_}: no session within {timeout} s"), true);
                tokio::time::timeout(limit, work).await.unwrap_or(Err(late))
            })
        });
        let session = made.map_err(|e| failures::raised(py, &e))?;
        Ok(Remote {
            session: Mutex::new(Some(session)),
            functions,
            runtime,
        })
    }

    /// The interfaces that the peer offers, with their functions.
    fn offers(&self, py: Python<'_>) -> PyResult<Vec<(String, Vec<String>)>> {
        let session = self.session(py)?;
        let theirs = session.theirs().map(|t| &t.exports[..]).unwrap_or_default();
        Ok(theirs
            .iter()
            .map(|i| (i.name.clone(), i.functions.clone()))
            .collect())
    }

    /// Binds link `number` at the peer; blocks until it says so. `grant` and `config` are JSON.
    fn link(&self, py: Python<'_>, number: u32, name: String, grant: String, config: String) -> PyResult<()> {
        let session = self.session(py)?;
        let link = loop_wire::Link {
            number,
            name,
            grant,
            config,
        };
        self.wait(py, async move { session.link(link).await })
    }

    /// The route of link `number`. `budget`: seconds that a call should take at most.
    #[pyo3(signature = (number, identity, budget = None))]
    fn route(&self, py: Python<'_>, number: u32, identity: &str, budget: Option<f64>) -> PyResult<Route> {
        let link = self.linked(py, number, identity)?;
        let budget = budget.map(Duration::from_secs_f64);
        Ok(Route(loop_remote::Route::new(link, budget)))
    }

    /// Has a route go to link `number` of this session from now on.
    fn take_over(&self, py: Python<'_>, route: &Route, number: u32, identity: &str) -> PyResult<()> {
        route.0.set(self.linked(py, number, identity)?);
        Ok(())
    }

    /// Asks the peer to read its code anew; blocks until it says so.
    fn reload(&self, py: Python<'_>) -> PyResult<()> {
        let session = self.session(py)?;
        self.wait(py, async move { session.reload().await })
    }

    /// Why the session is over; None while it is not.
    fn over(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let session = lock(&self.session).clone();
        let why = match &session {
            Some(session) => session.over()?.clone(),
            None => Failure::gone("the session was closed", true),
        };
        Some(failures::raised(py, &why).into_value(py).into_any())
    }

    /// Lets calls end that have begun, for `timeout` seconds at most, and closes; blocks meanwhile.
    fn close(&self, py: Python<'_>, timeout: f64) {
        let Some(session) = lock(&self.session).take() else {
            return;
        };
        let why = Failure::gone("the host is closing", true);
        let limit = Duration::from_secs_f64(timeout.clamp(0.0, 1e6));
        py.detach(|| {
            self.runtime.block_on(async {
                let _ = tokio::time::timeout(limit, session.leave(&why)).await;
                session.close();
            });
        });
    }
}

#[pymethods]
impl Route {
    /// That of its link at the provider; 0: it has no grant, and shares what serves all.
    #[getter]
    fn number(&self) -> u32 {
        self.0.link().number()
    }

    /// Whether the provider has an interface, in any version.
    fn offers(&self, interface: &str) -> bool {
        self.0.link().offers(interface)
    }

    /// What the provider has instead of something of an interface: its functions there, or else its interfaces.
    fn offered(&self, interface: &str) -> Vec<String> {
        self.0.link().offered(interface)
    }

    /// Calls made, and those of them that took longer than the budget; counted where there is one.
    fn spent(&self) -> (u64, u64) {
        self.0.spent()
    }

    /// Whether the times of calls are kept from now on, for `times`.
    fn watch(&self, on: bool) {
        self.0.watch.switch(on);
    }

    /// The calls since it was asked last, while they were watched: nanoseconds spent encoding, in the session and
    /// decoding, and what the provider says of it: waiting, decoding, in the provider, encoding.
    fn times(&self) -> Vec<(u64, u64, u64, Option<Theirs>)> {
        let all = self.0.watch.take().into_iter().map(|s| {
            let theirs = s.theirs.map(|t| (t.queue, t.decode, t.provider, t.encode));
            (s.encode, s.session, s.decode, theirs)
        });
        all.collect()
    }
}

/// What makes the connections of plain mode: streams of that one where the transport has them, and else new ones. A server
/// need not wait for what an idle connection may bring, so that the first is not kept.
fn connector(first: Connection, address: Address, options: Options) -> Connector {
    if let Connection::Native(native, _) = first {
        return streams_of(native.into());
    }
    Arc::new(move || {
        let (address, options) = (address.clone(), options.clone());
        Box::pin(async move {
            match transport::connect(&address, &options).await? {
                Connection::Bytes(io, _) => Ok(io),
                Connection::Native(..) => Err(Failure::protocol(format!("{address} is no stream of bytes"))),
            }
        })
    })
}
