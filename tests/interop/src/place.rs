//! Where a wRPC peer listens, and the official crates' way to listen and connect there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use tokio::net::{TcpListener, UnixListener};

/// An address: `tcp://127.0.0.1:7000`, `unix:/run/kv.sock`, `quic://127.0.0.1:7000`.
#[derive(Clone, Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Quic(SocketAddr),
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        match s.split_once(':') {
            Some(("tcp", at)) => Ok(Place::Tcp(at.trim_start_matches('/').parse()?)),
            Some(("quic", at)) => Ok(Place::Quic(at.trim_start_matches('/').parse()?)),
            Some(("unix", path)) => Ok(Place::Unix(path.into())),
            _ => bail!("`{s}` is no address: tcp://127.0.0.1:7000, unix:/run/kv.sock, quic://127.0.0.1:7000"),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(at) => write!(f, "tcp://{at}"),
            Place::Quic(at) => write!(f, "quic://{at}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the official server accepts from, with the self-signed certificate of a QUIC one.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Quic(quinn::Endpoint, CertificateDer<'static>),
}

/// Listens; also where, with the port that was chosen.
pub async fn listen(place: &Place) -> anyhow::Result<(Listener, Place)> {
    Ok(match place {
        Place::Tcp(at) => {
            let listener = TcpListener::bind(at).await?;
            let at = listener.local_addr()?;
            (Listener::Tcp(listener), Place::Tcp(at))
        }
        Place::Unix(path) => (Listener::Unix(UnixListener::bind(path)?), place.clone()),
        Place::Quic(at) => {
            let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
            let certificate = made.cert.der().clone();
            let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
            let config = rustls::ServerConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())?;
            let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
            let endpoint = quinn::Endpoint::server(config, *at)?;
            let at = endpoint.local_addr()?;
            (Listener::Quic(endpoint, certificate), Place::Quic(at))
        }
    })
}

/// A QUIC connection as upstream's examples make it, to a peer with that certificate.
pub async fn connect_quic(
    at: SocketAddr,
    certificate: CertificateDer<'static>,
) -> anyhow::Result<quinn::Connection> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    endpoint
        .connect_with(config, at, "localhost")?
        .await
        .context("no connection")
}
