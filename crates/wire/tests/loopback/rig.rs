//! A provider and a caller with one transport between them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loop_wire::plain::{Connector, streams_of};
use loop_wire::relay::{each, relay};
use loop_wire::session::{Nothing, Request, Session, connect_native};
use loop_wire::transport::{self, Connection, Listener, Options, Peer, from_fds};
use loop_wire::{Address, Bounds, Failure, Limits, Others, Server, Service, serve};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::certificates::Authority;
use crate::nats::Nats;
use crate::peer::{Provider, Seen, hello};

/// Time for anything at all; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Unix,
    Shm,
    Tcp,
    Tls,
    Ws,
    Wss,
    Pipes,
    Quic,
    Http2,
    Http2Tls,
    Nats,
    /// Taken over that transport, and handed on to a session over bytes.
    Taken(Native),
    /// A session over bytes, handed on over that transport.
    Dialled(Native),
    /// Both: neither side knows of the transport.
    Between(Native),
}

/// Transports with streams of their own.
#[derive(Clone, Copy, PartialEq)]
pub enum Native {
    Quic,
    Http2,
}

/// Why connections came to nothing.
#[derive(Default)]
pub struct Refusals(Mutex<Vec<Failure>>, tokio::sync::Notify);

impl Others for Refusals {
    fn refused(&self, why: &Failure) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(why.clone());
        self.1.notify_one();
    }
}

impl Refusals {
    pub async fn next(&self) -> Failure {
        loop {
            if let Some(failure) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                return failure;
            }
            patient(self.1.notified()).await;
        }
    }
}

pub struct Rig {
    pub session: Session,
    pub server: Server,
    pub seen: Arc<Seen>,
    pub heard: UnboundedReceiver<String>,
    pub driver: JoinHandle<Failure>,
    _folder: TempDir,
    _nats: Option<Nats>,
}

pub async fn patient<T>(f: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, f).await.expect("it hangs")
}

/// Where that transport listens in tests, with the options of the listener and of who connects.
pub fn place(way: Way, folder: &TempDir) -> (String, Options, Options) {
    let path = folder.path().join("socket");
    let mut options = (Options::default(), Options::default());
    if matches!(way, Way::Tls | Way::Wss | Way::Http2Tls) {
        let authority = Authority::new();
        options.0.tls = Some(authority.issue("localhost"));
        options.1.tls = Some(authority.believed());
    }
    let address = match way {
        Way::Unix => format!("unix:{}", path.display()),
        Way::Shm => format!("shm:{}", path.display()),
        Way::Tcp | Way::Tls => "tcp://127.0.0.1:0".into(),
        Way::Ws => "ws://127.0.0.1:0/loop".into(),
        Way::Wss => "wss://127.0.0.1:0/loop".into(),
        Way::Quic | Way::Taken(Native::Quic) | Way::Dialled(Native::Quic) | Way::Between(Native::Quic) => {
            "quic://127.0.0.1:0".into()
        }
        Way::Http2
        | Way::Http2Tls
        | Way::Taken(Native::Http2)
        | Way::Dialled(Native::Http2)
        | Way::Between(Native::Http2) => "http2://127.0.0.1:0".into(),
        Way::Pipes => "stdio:".into(),
        Way::Nats => unreachable!("it depends on its server"),
    };
    for tls in [&mut options.0.tls, &mut options.1.tls].into_iter().flatten() {
        tls.server_name = Some("localhost".into());
    }
    (address, options.0, options.1)
}

/// Two ends of two pipes.
fn pipes() -> (Connection, Connection) {
    let (one, two) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let end =
        |read: std::io::PipeReader, write: std::io::PipeWriter| from_fds(read.into(), write.into()).unwrap();
    (end(one.0, two.1), end(two.0, one.1))
}

pub fn service(provider: Provider, limits: Limits) -> (Service, Arc<Refusals>) {
    let provider = Arc::new(provider);
    let refusals = Arc::new(Refusals::default());
    let mut service = Service::new(hello(true, limits), move |_| provider.clone());
    service.others = refusals.clone();
    (service, refusals)
}

/// A session over that connection.
pub async fn session(connection: Connection, limits: Limits) -> (Session, JoinHandle<Failure>) {
    let (hello, handler) = (hello(false, limits), Arc::new(Nothing));
    match connection {
        Connection::Bytes(io, _) => {
            let (session, driver) = Session::connect(io, hello, handler);
            (session, tokio::spawn(driver))
        }
        Connection::Native(native, _) => {
            let (session, driver) = connect_native(native.into(), hello, handler).await.unwrap();
            (session, tokio::spawn(driver))
        }
    }
}

/// Serves at `socket`, which is reached at `address`; and where that is.
async fn taken(address: &Address, socket: Address, service: Service) -> (Server, Address) {
    let options = Options::default();
    let server = serve(transport::listen(&socket, &options).await.unwrap(), service);
    let listener = transport::listen(address, &options).await.unwrap();
    let at = listener.addresses().remove(0);
    let never = std::future::pending();
    tokio::spawn(each(listener, Bounds::default(), never, move |connection| {
        let socket = socket.clone();
        async move {
            let inner = transport::connect(&socket, &Options::default()).await.unwrap();
            let Connection::Bytes(inner, _) = inner else {
                panic!("a unix socket")
            };
            let _ = relay(connection, inner, false).await;
        }
    }));
    (server, at)
}

/// The bytes of a session that is handed on over a connection.
fn dialled(connection: Connection) -> Connection {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(relay(connection, Box::new(theirs), true));
    Connection::Bytes(Box::new(ours), Peer::default())
}

pub async fn rig_of(way: Way, limits: Limits) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let (provider, heard) = Provider::new();
    let seen = provider.0.clone();
    let (service, _) = service(provider, limits.clone());
    let nats = match way {
        Way::Nats => Some(Nats::start(&[]).await),
        _ => None,
    };
    let (address, listening, connecting) = match &nats {
        Some(nats) => (nats.address("test.kv"), Options::default(), Options::default()),
        None => place(way, &folder),
    };
    let address: Address = address.parse().unwrap();
    let (server, connection) = match way {
        Way::Pipes => {
            let (ours, theirs) = pipes();
            (serve(Listener::of(ours, address), service), theirs)
        }
        Way::Taken(_) | Way::Between(_) => {
            let socket = format!("unix:{}", folder.path().join("inner").display());
            let (server, at) = taken(&address, socket.parse().unwrap(), service).await;
            let connection = transport::connect(&at, &connecting).await.unwrap();
            match way {
                Way::Taken(_) => (server, connection),
                _ => (server, dialled(connection)),
            }
        }
        Way::Dialled(_) => {
            let listener = transport::listen(&address, &listening).await.unwrap();
            let address = listener.addresses().remove(0);
            let server = serve(listener, service);
            let connection = transport::connect(&address, &connecting).await.unwrap();
            (server, dialled(connection))
        }
        _ => {
            let listener = transport::listen(&address, &listening).await.unwrap();
            let address = listener.addresses().remove(0);
            let server = serve(listener, service);
            (server, transport::connect(&address, &connecting).await.unwrap())
        }
    };
    let (session, driver) = session(connection, limits).await;
    patient(session.ready()).await.expect("a session");
    Rig {
        session,
        server,
        seen,
        heard,
        driver,
        _folder: folder,
        _nats: nats,
    }
}

pub async fn rig(way: Way) -> Rig {
    rig_of(way, Limits::default()).await
}

impl Rig {
    pub async fn heard(&mut self) -> String {
        patient(self.heard.recv()).await.expect("something")
    }
}

pub fn request(function: u32, root: impl Into<bytes::Bytes>) -> Request {
    Request {
        function,
        root: root.into(),
        ..Request::default()
    }
}

/// What makes the connections of plain mode to that address.
pub async fn connector(address: &Address, options: &Options) -> Connector {
    if let Connection::Native(native, _) = transport::connect(address, options).await.unwrap() {
        return streams_of(native.into());
    }
    let (address, options) = (address.clone(), options.clone());
    Arc::new(move || {
        let (address, options) = (address.clone(), options.clone());
        Box::pin(async move {
            match transport::connect(&address, &options).await? {
                Connection::Bytes(io, _) => Ok(io),
                Connection::Native(..) => panic!("a stream of bytes"),
            }
        })
    })
}
