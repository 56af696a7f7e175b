//! Whom a component may reach: rules on what it asks for, and on every address that a connection is made to.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::address::is_public;
use super::code::{ErrorCode, words};
use super::rule::{Host, Rule, Scheme, is_numeric};

/// The longest URL.
const MAX_URL: usize = 64 << 10;

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    pub url: Url,
}

impl Target {
    /// Reads a URL, or refuses it: what could be read in another way too is none.
    pub fn parse(text: &str) -> Result<Self, ErrorCode> {
        let bad = |what: &str| ErrorCode::RequestUriInvalid(words(what));
        if text.len() > MAX_URL {
            return Err(ErrorCode::RequestUriTooLong);
        }
        if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
            return Err(bad(
                "a URL has no blanks, control characters or backslashes; write them in percent form",
            ));
        }
        let url = Url::parse(text).map_err(|e| bad(&format!("not an absolute URL: {e}")))?;
        let written = text.split_once("://").map_or("", |(_, rest)| rest);
        let written = written.split(['/', '?', '#']).next().unwrap_or_default();
        if written.contains('@') {
            return Err(bad("a URL carries no login; send an authorization field"));
        }
        let target = Target::of(url)?;
        if let Host::Address(ip) = target.host {
            // decimal, octal, hexadecimal, shortened and mapped forms: who writes them so hides them from somebody
            let bare = match ip {
                IpAddr::V4(_) => written.split(':').next().unwrap_or_default(),
                IpAddr::V6(_) => written
                    .strip_prefix('[')
                    .and_then(|rest| rest.split(']').next())
                    .unwrap_or_default(),
            };
            if bare.parse::<IpAddr>().ok() != Some(ip) {
                return Err(bad(&format!("write the address as {}", target.host)));
            }
        }
        Ok(target)
    }

    /// The target of a URL that was read already, such as a redirect's.
    pub fn of(url: Url) -> Result<Self, ErrorCode> {
        let bad = |what: &str| ErrorCode::RequestUriInvalid(words(what));
        let scheme = Scheme::of_url(url.scheme())
            .ok_or_else(|| bad("the scheme must be one of http, https, ws, wss"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("a URL carries no login; send an authorization field"));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => host_of(name).map_err(|e| bad(&e))?,
            Some(url::Host::Ipv4(ip)) => Host::Address(ip.into()),
            Some(url::Host::Ipv6(ip)) => Host::Address(IpAddr::V6(ip).to_canonical()),
            None => return Err(bad("there is no host")),
        };
        let port = url.port().unwrap_or(scheme.port());
        if port == 0 {
            return Err(bad("0 is no port"));
        }
        Ok(Target {
            scheme,
            host,
            port,
            url,
        })
    }

    /// The origin as a rule: what a grant would say.
    pub fn rule(&self) -> String {
        format!("{}://{}:{}", self.scheme.name(), self.host, self.port)
    }

    pub fn is_same_origin(&self, other: &Target) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// The value of `host`: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

/// A name as it is matched: in lower case, without the dot of the root.
pub(super) fn host_of(name: &str) -> Result<Host, String> {
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.chars().all(fits);
    if !lower.split('.').all(label) || lower.len() > 253 {
        return Err("the host is no name".into());
    }
    if lower.rsplit('.').next().is_some_and(is_numeric) {
        return Err("the host is neither a name nor an address".into());
    }
    Ok(Host::Name(lower))
}

type Lookup = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// What resolves names.
pub(crate) type Resolver = Arc<dyn Fn(String) -> Lookup + Send + Sync>;

/// The system's resolver: its hosts file and what else it is set up with count.
pub(super) fn system() -> Resolver {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|a| a.ip()).collect())
        })
    })
}

/// What a component may reach.
pub(super) struct Egress {
    pub rules: Vec<Rule>,
    pub resolver: Resolver,
}

impl Egress {
    /// Whether a request may be made; its addresses are looked at by [`Egress::connect`].
    pub fn permit(&self, target: &Target) -> Result<(), ErrorCode> {
        if self
            .rules
            .iter()
            .any(|r| r.allows(target.scheme, &target.host, target.port))
        {
            return Ok(());
        }
        Err(ErrorCode::RequestDenied(words(format!(
            "the grant does not reach {0}; add \"{0}\" to its `allow`",
            target.rule()
        ))))
    }

    /// The addresses of a target that may be connected to. A name is resolved once, and what was looked at is what
    /// is used: its server cannot answer otherwise later.
    pub async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, ErrorCode> {
        let found = match &target.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => self.lookup(name).await?,
        };
        let good: Vec<_> = found
            .into_iter()
            .map(|ip| ip.to_canonical())
            .filter(|ip| is_public(*ip) || self.is_named(target, *ip))
            .map(|ip| SocketAddr::new(ip, target.port))
            .collect();
        if good.is_empty() {
            return Err(ErrorCode::DestinationIpProhibited(words(format!(
                "{} has no public address; a rule such as \"{}://NETWORK:{}\" in `allow` names those that are not",
                target.host,
                target.scheme.name(),
                target.port
            ))));
        }
        Ok(good)
    }

    fn is_named(&self, target: &Target, ip: IpAddr) -> bool {
        let Target {
            scheme, host, port, ..
        } = target;
        self.rules
            .iter()
            .any(|r| r.allows_address(*scheme, host, ip, *port))
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ErrorCode> {
        let found = (self.resolver)(name.to_string())
            .await
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::TimedOut => ErrorCode::DnsTimeout,
                _ => ErrorCode::DnsError(words(format!("{name} does not resolve"))),
            })?;
        if found.is_empty() {
            return Err(ErrorCode::DestinationNotFound);
        }
        Ok(found)
    }

    /// Connects to one of the target's addresses, within `limit` all in all.
    pub async fn connect(&self, target: &Target, limit: Duration) -> Result<TcpStream, ErrorCode> {
        let end = Instant::now() + limit;
        let addresses = timeout_at(end, self.addresses(target))
            .await
            .map_err(|_| ErrorCode::DnsTimeout)??;
        dial(&addresses, end).await
    }

    /// The addresses of a name, as `dns` answers them: those that some rule lets be reached.
    pub async fn resolve(&self, name: &str, limit: Duration) -> Result<Vec<IpAddr>, ErrorCode> {
        let Host::Name(name) = host_of(name).map_err(|e| ErrorCode::RequestUriInvalid(words(e)))? else {
            return Err(ErrorCode::RequestUriInvalid(None));
        };
        if !self.rules.iter().any(|r| r.names(&name)) {
            return Err(ErrorCode::RequestDenied(words(format!(
                "the grant does not name {name}; add \"dns://{name}\" to its `allow`"
            ))));
        }
        let found = tokio::time::timeout(limit, self.lookup(&name))
            .await
            .map_err(|_| ErrorCode::DnsTimeout)??;
        let mut good: Vec<IpAddr> = vec![];
        for ip in found.into_iter().map(|ip| ip.to_canonical()) {
            let may = is_public(ip) || self.rules.iter().any(|r| r.names_address(&name, ip));
            if may && !good.contains(&ip) {
                good.push(ip);
            }
        }
        if good.is_empty() {
            return Err(ErrorCode::DestinationIpProhibited(words(format!(
                "{name} has no public address, and no rule of `allow` names those that it has"
            ))));
        }
        Ok(good)
    }
}

/// How long an address has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// The first connection that comes about; addresses are tried in order, each with a head start.
pub(super) async fn dial(addresses: &[SocketAddr], end: Instant) -> Result<TcpStream, ErrorCode> {
    use futures::stream::{FuturesUnordered, StreamExt};
    let mut waiting = addresses.iter();
    let mut tries = FuturesUnordered::new();
    let mut last = ErrorCode::DestinationNotFound;
    loop {
        match waiting.next() {
            Some(address) => tries.push(TcpStream::connect(*address)),
            None if tries.is_empty() => return Err(last),
            None => {}
        }
        let until = if waiting.len() == 0 {
            end
        } else {
            end.min(Instant::now() + HEAD_START)
        };
        match timeout_at(until, tries.next()).await {
            Ok(Some(Ok(stream))) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Some(Err(e))) => last = e.into(),
            Ok(None) => {}
            Err(_) if Instant::now() >= end => return Err(ErrorCode::ConnectionTimeout),
            Err(_) => {}
        }
    }
}
