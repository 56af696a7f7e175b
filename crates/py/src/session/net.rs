//! Connections of the event loop's sessions: made and taken by the transports of `loop-wire`, and given to the loop as
//! descriptors. What is no socket, or has streams of its own, is handed on by a task.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as Pair;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loop_wire::relay::{each, relay};
use loop_wire::transport::{self, BoxIo, Connection, Login, Options, Pem, Tls, Token, connect};
use loop_wire::{Address, Bounds, Code, Failure, Hello};
use pyo3::prelude::*;
use tokio::net::UnixStream;
use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::contract::Contract;
use super::failures;
use super::plain::{GiveSession, Plain};
use crate::errors;
use crate::hub::{Hub, lock};

/// How a connection is secured, as `loop_kit.manifest.Tls` has it.
#[derive(FromPyObject)]
pub struct TlsFiles {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

/// Whom to be at a NATS server, as `loop_kit.manifest.Login` has it once its secrets are read.
#[derive(FromPyObject)]
pub struct LoginWords {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    credentials: Option<String>,
}

impl LoginWords {
    fn login(self) -> Option<Login> {
        match self {
            LoginWords {
                credentials: Some(text),
                ..
            } => Some(Login::Credentials(text)),
            LoginWords {
                token: Some(token), ..
            } => Some(Login::Token(token)),
            LoginWords { user, password, .. } => Some(Login::User {
                name: user?,
                password: password.unwrap_or_default(),
            }),
        }
    }
}

/// What a connection is made with. `listening`: with `ca`, who connects must have a certificate of theirs.
pub fn options(
    tls: Option<TlsFiles>,
    token: Option<&str>,
    login: Option<LoginWords>,
    listening: bool,
) -> Options {
    let tls = tls.map(|tls| Tls {
        require_client: listening && tls.ca.is_some(),
        authorities: tls.ca.map(Pem::File).into_iter().collect(),
        certificate: tls.certificate.map(Pem::File),
        key: tls.key.map(Pem::File),
        server_name: tls.server_name,
    });
    Options {
        tls,
        token: token.map(|token| Token(token.into())),
        login: login.and_then(LoginWords::login),
        ..Options::default()
    }
}

/// An address; `ws:` with TLS is `wss:`.
pub fn address(text: &str, tls: bool) -> Result<Address, Failure> {
    let mut address = text.parse()?;
    if let Address::Ws { secure, .. } = &mut address {
        *secure |= tls;
    }
    Ok(address)
}

/// A session's end of a connection, and what remains to be done for it.
fn descriptor(connection: &Connection) -> std::io::Result<(OwnedFd, Option<BoxIo>)> {
    if let Some(socket) = connection.socket() {
        return Ok((socket, None));
    }
    let (ours, theirs) = Pair::pair()?;
    theirs.set_nonblocking(true)?;
    Ok((ours.into(), Some(Box::new(UnixStream::from_std(theirs)?))))
}

fn wait<R: Send>(
    py: Python<'_>,
    runtime: &Runtime,
    work: impl Future<Output = Result<R, Failure>> + Send,
) -> PyResult<R> {
    let done = py.detach(|| runtime.block_on(work));
    done.map_err(|e| refused(py, &e))
}

/// Why there is no connection, or nothing to listen with: no call's failure.
fn refused(py: Python<'_>, failure: &Failure) -> PyErr {
    match failure.code {
        Code::Unauthenticated => failures::raised(py, failure),
        _ => errors::raise(py, "PeerError", (&failure.message,)),
    }
}

/// A connection that a session can be begun on. It is closed when dropped.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Socket(Mutex<Option<OwnedFd>>);

#[pymethods]
impl Socket {
    /// Connects to an address; blocks until it has, for `timeout` seconds at most.
    ///
    /// Raises PeerError where nobody is there, Unauthenticated where it is not who it should be.
    #[staticmethod]
    #[pyo3(signature = (hub, where_, *, tls = None, login = None, timeout = 10.0))]
    fn connect(
        py: Python<'_>,
        hub: &Hub,
        where_: &str,
        tls: Option<TlsFiles>,
        login: Option<LoginWords>,
        timeout: f64,
    ) -> PyResult<Socket> {
        let secured = tls.is_some();
        let options = options(tls, None, login, false);
        let limit = Duration::from_secs_f64(timeout.clamp(0.0, 1e6));
        let made = wait(py, &hub.runtime, async {
            let late = || Failure::gone(format!("{where_}: no connection within {timeout} s"), true);
            let address = address(where_, secured)?;
            let made = tokio::time::timeout(limit, connect(&address, &options)).await;
            let connection = made.unwrap_or_else(|_| Err(late()))?;
            let (fd, rest) =
                descriptor(&connection).map_err(|e| Failure::gone(format!("{where_}: {e}"), true))?;
            if let Some(inner) = rest {
                tokio::spawn(relay(connection, inner, true));
            }
            Ok(fd)
        })?;
        Ok(Socket(Mutex::new(Some(made))))
    }

    /// The descriptor, which the caller owns from here on; None the second time.
    fn detach(&self) -> Option<RawFd> {
        lock(&self.0).take().map(IntoRawFd::into_raw_fd)
    }
}

/// Takes connections at an address.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Listener {
    /// With the port that was chosen.
    #[pyo3(get)]
    address: String,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Result<(), Failure>>>>,
    runtime: Runtime,
}

#[pymethods]
impl Listener {
    /// Begins to listen; blocks until it does. On the event loop `accept` is then given, for each connection, a
    /// descriptor, which it owns, and the names in the peer's certificate, or None. `contract`: what people are told
    /// who ask an HTTP/2 listener. `plain`: serves plain mode too, which gets one such descriptor for all; its value
    /// says whether functions may return resources there.
    ///
    /// Raises Unauthenticated where other machines could connect and nothing would tell who they are; PeerError where the
    /// address cannot be used.
    #[staticmethod]
    #[pyo3(signature = (hub, where_, accept, *, contract, token = None, tls = None, login = None, plain = None))]
    #[allow(clippy::too_many_arguments)]
    fn bind(
        py: Python<'_>,
        hub: &Hub,
        where_: &str,
        accept: Py<PyAny>,
        contract: &Contract,
        token: Option<&str>,
        tls: Option<TlsFiles>,
        login: Option<LoginWords>,
        plain: Option<bool>,
    ) -> PyResult<Listener> {
        let event_loop = hub.inner.event_loop(py);
        let given = Arc::new((event_loop, accept));
        let plain = plain.map(|handles| {
            let given = given.clone();
            let give: GiveSession = Arc::new(move |fd| hand_over(&given, fd, None).is_ok());
            let token = token.map(|token| Token(token.into()));
            Arc::new(Plain::new(contract, token, handles, give, hub.runtime.clone()))
        });
        Self::begin(
            py,
            hub.runtime.clone(),
            where_,
            Options {
                plain: plain.is_some(),
                ..options(tls, token, login, true)
            },
            Some(contract),
            move |connection| {
                let (given, plain) = (given.clone(), plain.clone());
                async move {
                    let connection = match &plain {
                        Some(plain) => plain.serve(connection).await,
                        None => Some(connection),
                    };
                    let Some(connection) = connection else { return };
                    let Ok((fd, rest)) = descriptor(&connection) else {
                        return;
                    };
                    let names = connection.peer().certificate.clone();
                    if hand_over(&given, fd, names).is_ok()
                        && let Some(inner) = rest
                    {
                        let _ = relay(connection, inner, false).await;
                    }
                }
            },
        )
    }

    /// Hands each connection on to whoever listens at address `to` on this machine, whose the session is.
    #[staticmethod]
    #[pyo3(signature = (hub, where_, to, *, token = None, tls = None, login = None))]
    fn gateway(
        py: Python<'_>,
        hub: &Hub,
        where_: &str,
        to: &str,
        token: Option<&str>,
        tls: Option<TlsFiles>,
        login: Option<LoginWords>,
    ) -> PyResult<Listener> {
        let to = address(to, false).map_err(|e| refused(py, &e))?;
        Self::begin(
            py,
            hub.runtime.clone(),
            where_,
            options(tls, token, login, true),
            None,
            move |connection| {
                let to = to.clone();
                async move {
                    if let Ok(Connection::Bytes(inner, _)) = connect(&to, &Options::default()).await {
                        let _ = relay(connection, inner, false).await;
                    }
                }
            },
        )
    }

    /// Takes no more connections; blocks until the address is free.
    fn stop(&self, py: Python<'_>) {
        let _ = self.stop.send(true);
        py.detach(|| self.runtime.block_on(self.stop.closed()));
    }

    /// Waits until what was said last is with the peers of sessions that have ended, for `timeout` seconds at most.
    fn finish(&self, py: Python<'_>, timeout: f64) {
        let Some(mut task) = lock(&self.task).take() else {
            return;
        };
        let limit = Duration::from_secs_f64(timeout.clamp(0.0, 1e6));
        py.detach(|| {
            self.runtime.block_on(async {
                if tokio::time::timeout(limit, &mut task).await.is_err() {
                    task.abort();
                }
            });
        });
    }
}

impl Listener {
    fn begin<F: Future<Output = ()> + Send + 'static>(
        py: Python<'_>,
        runtime: Runtime,
        where_: &str,
        mut options: Options,
        contract: Option<&Contract>,
        deal: impl Fn(Connection) -> F + Clone + Send + Sync + 'static,
    ) -> PyResult<Listener> {
        let secured = options.tls.is_some();
        options.about = contract.map(|contract| {
            Arc::new(Hello {
                exports: contract.offered(),
                ..Hello::default()
            })
        });
        let listener = wait(py, &runtime, async {
            let address = address(where_, secured)?;
            if options.plain {
                Plain::check(&address)?;
            }
            transport::listen(&address, &options).await
        })?;
        let address = listener
            .addresses()
            .first()
            .map_or_else(String::new, ToString::to_string);
        let (stop, mut stopped) = watch::channel(false);
        let stopping = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let task = runtime.spawn(each(listener, Bounds::default(), stopping, deal));
        Ok(Listener {
            address,
            stop,
            task: Mutex::new(Some(task)),
            runtime,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Has the event loop begin a session; the descriptor is closed where there is none any more.
fn hand_over(given: &(Py<PyAny>, Py<PyAny>), fd: OwnedFd, names: Option<Vec<String>>) -> PyResult<()> {
    Python::attach(|py| {
        let (event_loop, accept) = given;
        let raw = fd.into_raw_fd();
        let asked = event_loop.call_method1(py, "call_soon_threadsafe", (accept, raw, names));
        if asked.is_err() {
            // SAFETY: nobody has taken it.
            drop(unsafe { OwnedFd::from_raw_fd(raw) });
        }
        asked.map(drop)
    })
}
