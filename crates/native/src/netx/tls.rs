//! TLS by rustls: the system's roots, and those that the config adds. Certificates are always checked.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::code::{ErrorCode, words};
use super::rule::Host;
use crate::ProviderError;

pub(super) struct Tls {
    ca: Vec<CertificateDer<'static>>,
    /// Made when it is first needed: reading the system's roots takes milliseconds.
    clients: [OnceLock<Arc<ClientConfig>>; 3],
}

/// What a connection speaks, as ALPN says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    /// Whichever of HTTP/2 and HTTP/1.1 the server prefers.
    Either,
    Http1,
    Http2,
}

impl Tls {
    /// Errors where a file of `ca` holds no certificate.
    pub fn new(ca: &[PathBuf]) -> Result<Self, ProviderError> {
        let mut all = vec![];
        for (i, path) in ca.iter().enumerate() {
            all.extend(certificates(&format!("config.ca[{i}]"), path)?);
        }
        Ok(Tls {
            ca: all,
            clients: Default::default(),
        })
    }

    fn client(&self, speaks: Speaks) -> Result<&Arc<ClientConfig>, ErrorCode> {
        let slot = &self.clients[speaks as usize];
        if let Some(made) = slot.get() {
            return Ok(made);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.ca.iter().cloned());
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| ErrorCode::TlsProtocolError(words(e.to_string())))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match speaks {
            Speaks::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Speaks::Http1 => vec![b"http/1.1".to_vec()],
            Speaks::Http2 => vec![b"h2".to_vec()],
        };
        Ok(slot.get_or_init(|| Arc::new(config)))
    }

    pub async fn connect(
        &self,
        stream: TcpStream,
        host: &Host,
        speaks: Speaks,
    ) -> Result<TlsStream<TcpStream>, ErrorCode> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|e| ErrorCode::TlsCertificateError(words(e.to_string())))?,
            Host::Address(ip) => ServerName::from(*ip),
        };
        Ok(TlsConnector::from(self.client(speaks)?.clone())
            .connect(name, stream)
            .await?)
    }
}

/// The certificates of a PEM file.
fn certificates(key: &str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ProviderError> {
    let refuse = |why: String| ProviderError::new(key, format!("`{}` {why}", path.display()));
    let text = std::fs::read(path).map_err(|e| refuse(format!("cannot be read ({e})")))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(refuse("holds no certificate; it must be a PEM file".into())),
    }
}

/// What serves TLS with the certificate and key of two PEM files.
pub(super) fn acceptor(
    key: &str,
    certificate: &PathBuf,
    private: &PathBuf,
) -> Result<TlsAcceptor, ProviderError> {
    let chain = certificates(&format!("{key}.certificate"), certificate)?;
    let refuse =
        |why: String| ProviderError::new(format!("{key}.key"), format!("`{}` {why}", private.display()));
    let private =
        PrivateKeyDer::from_pem_file(private).map_err(|e| refuse(format!("is no private key ({e})")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| refuse(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| refuse(format!("does not fit the certificate ({e})")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
