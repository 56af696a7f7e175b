//! TLS 1.3 over a stream, with a certificate of either side.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::options::{Pem, Tls};
use crate::failure::{Code, Failure};
use crate::session::Io;

pub(crate) type Acceptor = TlsAcceptor;

impl Pem {
    fn bytes(&self, what: &str) -> Result<Vec<u8>, Failure> {
        match self {
            Pem::Text(bytes) => Ok(bytes.clone()),
            Pem::File(path) => std::fs::read(path)
                .map_err(|e| wrong(what, format!("{} cannot be read: {e}", path.display()))),
        }
    }

    fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let bytes = self.bytes(what)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match chain {
            Ok(chain) if chain.is_empty() => Err(wrong(what, "it holds no certificate in PEM")),
            Ok(chain) => Ok(chain),
            Err(e) => Err(wrong(what, e)),
        }
    }
}

fn wrong(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::BadValue, format!("{what} cannot be used: {why}")).with("option", what)
}

impl Tls {
    /// This side's chain and key, if it has them.
    fn own(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Failure> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let key =
                    PrivateKeyDer::from_pem_slice(&key.bytes("tls.key")?).map_err(|e| wrong("tls.key", e))?;
                Ok(Some((certificate.certificates("tls.certificate")?, key)))
            }
            (None, Some(_)) => Err(wrong("tls.key", "tls.certificate is missing")),
            (Some(_), None) => Err(wrong("tls.certificate", "tls.key is missing")),
        }
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        for pem in &self.authorities {
            for certificate in pem.certificates("tls.authorities")? {
                roots.add(certificate).map_err(|e| wrong("tls.authorities", e))?;
            }
        }
        if self.authorities.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Ok(roots)
    }

    /// For those that connect.
    pub(crate) fn client(&self, protocols: &[&[u8]]) -> Result<ClientConfig, Failure> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| wrong("tls", e))?
            .with_root_certificates(self.roots()?);
        let mut config = match self.own()? {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| wrong("tls.certificate", e))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }

    /// For those that are connected to.
    pub(crate) fn server(&self, protocols: &[&[u8]]) -> Result<ServerConfig, Failure> {
        let (chain, key) = self
            .own()?
            .ok_or_else(|| wrong("tls", "a listener needs tls.certificate and tls.key"))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| wrong("tls", e))?;
        let builder = match self.require_client {
            // the system's authorities vouch for half the world
            true if self.authorities.is_empty() => {
                return Err(wrong("tls.require_client", "tls.authorities is missing"));
            }
            true => {
                let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?.into(), provider())
                    .build()
                    .map_err(|e| wrong("tls.authorities", e))?;
                builder.with_client_cert_verifier(verifier)
            }
            false => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|e| wrong("tls.certificate", e))?;
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }

    /// The name that the certificate of a peer at `host` must have.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Failure> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|e| wrong("tls.server_name", e))
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn acceptor(tls: &Tls, protocols: &[&[u8]]) -> Result<Acceptor, Failure> {
    Ok(Arc::new(tls.server(protocols)?).into())
}

/// Secures a connection that this side made; the names of the peer's certificate too.
pub(crate) async fn connect<S: Io>(
    io: S,
    tls: &Tls,
    host: &str,
    protocols: &[&[u8]],
) -> Result<(Secured<S>, Option<Vec<String>>), Failure> {
    let name = tls.name(host)?;
    let io = TlsConnector::from(Arc::new(tls.client(protocols)?))
        .connect(name, io)
        .await
        .map_err(|e| refused(&e, host))?;
    let names = names(io.get_ref().1.peer_certificates());
    Ok((Secured(io.into()), names))
}

/// The same for a connection that was made to this side.
pub(crate) async fn accept<S: Io>(
    io: S,
    acceptor: &Acceptor,
) -> Result<(Secured<S>, Option<Vec<String>>), Failure> {
    let io = acceptor.accept(io).await.map_err(|e| refused(&e, "the peer"))?;
    let names = names(io.get_ref().1.peer_certificates());
    Ok((Secured(io.into()), names))
}

/// The names, of hosts and URIs, in the first certificate of a verified chain; none without a certificate.
pub(crate) fn names(chain: Option<&[CertificateDer<'_>]>) -> Option<Vec<String>> {
    let certificate = webpki::EndEntityCert::try_from(chain?.first()?).ok()?;
    let names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
    Some(names.map(Into::into).collect())
}

/// What an error of the handshake means, in words that say what to do; and whether the peer is not who it should be.
pub(crate) fn explain(error: &Error, whose: &str) -> Option<String> {
    use CertificateError as Bad;
    let of = |what: &str| Some(format!("the certificate of {whose} {what}"));
    match error {
        Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => of("has expired"),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => of("is not valid yet"),
            Bad::UnknownIssuer => of("is of an issuer that is not among tls.authorities"),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                of("has another name; tls.server_name says which to look for")
            }
            Bad::Revoked => of("was revoked"),
            other => of(&format!("is refused: {other}")),
        },
        Error::NoCertificatesPresented => Some(format!(
            "{whose} showed no client certificate, and tls.require_client asks for one"
        )),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                Some("the peer asks for a client certificate: add tls.certificate and tls.key".into())
            }
            AlertDescription::CertificateExpired => {
                Some("the peer says that this side's certificate has expired".into())
            }
            AlertDescription::UnknownCA => {
                Some("the peer does not know the issuer of this side's certificate".into())
            }
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                Some("the peer refuses this side's certificate".into())
            }
            _ => None,
        },
        _ => None,
    }
}

fn cause(e: &io::Error) -> Option<&Error> {
    e.get_ref()?.downcast_ref()
}

fn refused(e: &io::Error, whose: &str) -> Failure {
    match cause(e) {
        Some(error) => match explain(error, whose) {
            Some(why) => Failure::new(Code::Unauthenticated, why),
            None if matches!(error, Error::InvalidMessage(_)) => {
                Failure::protocol(format!("{whose} does not speak TLS"))
            }
            None => Failure::protocol(format!("TLS with {whose} failed: {error}")),
        },
        None => Failure::gone(format!("{whose} ended the TLS handshake: {e}"), true),
    }
}

/// A stream over TLS. What the peer thinks of this side's certificate comes with the first read.
pub(crate) struct Secured<S>(TlsStream<S>);

impl<S: Io> AsyncRead for Secured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to).map_err(|e| {
            match cause(&e).and_then(|error| explain(error, "the peer")) {
                Some(why) => io::Error::new(e.kind(), why),
                None => e,
            }
        })
    }
}

impl<S: Io> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
