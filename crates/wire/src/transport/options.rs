//! What a connection is made with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::failure::{Code, Failure};
use crate::hello::Hello;

/// What a connection, or a listener, is made with. The default serves what stays on this machine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub tls: Option<Tls>,
    /// What peers must show in their HELLO. A listener refuses those that do not; who connects says it in its own
    /// HELLO.
    pub token: Option<Token>,
    /// Users, beside this process's own, that may be at the other end of a unix socket.
    pub users: Vec<u32>,
    /// Origins of web pages that may connect by WebSocket: `https://example.com`.
    pub origins: Vec<String>,
    /// Whom to be at a NATS server.
    pub login: Option<Login>,
    /// Listeners of one subject that share its connections; empty: `loop`.
    pub queue: String,
    /// Time between signs of life over NATS, three of which may be missed; none: 5 s.
    pub heartbeat: Option<Duration>,
    /// To speak plain mode: a WebSocket is asked for without subprotocol, and QUIC has no ALPN on either side.
    pub plain: bool,
    /// What an HTTP/2 listener tells people who `GET /` is served there.
    pub about: Option<Arc<Hello>>,
}

/// Certificates and keys. A peer's certificate is always verified.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// This side's chain, its own certificate first; a listener needs it.
    pub certificate: Option<Pem>,
    /// Its private key.
    pub key: Option<Pem>,
    /// Whom to believe about others. None: the system's, for those that are called.
    pub authorities: Vec<Pem>,
    /// A listener demands a certificate that `authorities` vouch for.
    pub require_client: bool,
    /// The name that the certificate of the peer must have, where it is not the host's.
    pub server_name: Option<String>,
}

/// PEM, in a file or here.
#[derive(Clone)]
pub enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

/// A secret that both sides know.
#[derive(Clone)]
pub struct Token(pub Vec<u8>);

/// Whom to be at a NATS server.
#[derive(Clone)]
pub enum Login {
    User {
        name: String,
        password: String,
    },
    Token(String),
    /// What a file of credentials, or one of an NKey's seed alone, holds.
    Credentials(String),
}

impl Token {
    /// Whether `shown` is the same, in a time that does not tell how much of it is.
    pub fn accepts(&self, shown: &[u8]) -> bool {
        let differs = self.0.iter().zip(shown).fold(0, |d, (a, b)| d | (a ^ b));
        self.0.len() == shown.len() && std::hint::black_box(differs) == 0
    }
}

// secrets stay out of logs

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => f.debug_tuple("File").field(path).finish(),
            Pem::Text(_) => f.write_str("Text(..)"),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::User { name, .. } => write!(f, "User({name}, ..)"),
            Login::Token(_) => f.write_str("Token(..)"),
            Login::Credentials(_) => f.write_str("Credentials(..)"),
        }
    }
}

impl Options {
    /// Errors where other machines could connect to `address` and nothing would tell who they are, or hide what is
    /// said.
    pub(crate) fn check_open(&self, address: &Address) -> Result<(), Failure> {
        // what a NATS server lets in is its own to say
        if address.is_loopback() || matches!(address, Address::Nats { .. }) {
            return Ok(());
        }
        let bare = matches!(address, Address::Ws { secure: false, .. });
        let secret = self.tls.is_some() && !bare;
        let known = self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.require_client);
        let add = match (secret, known) {
            (true, true) => return Ok(()),
            (true, false) => "a token, or tls.require_client with tls.authorities",
            (false, _) if bare && self.tls.is_some() => "TLS, by wss:",
            (false, true) => "tls.certificate and tls.key",
            (false, false) => {
                "tls.certificate and tls.key, and a token or tls.require_client with tls.authorities"
            }
        };
        Err(Failure::new(
            Code::Unauthenticated,
            format!("{address} can be reached from other machines: add {add}, or listen at 127.0.0.1"),
        )
        .with("address", address)
        .with("add", add))
    }
}
