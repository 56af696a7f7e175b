//! Which addresses a component may reach.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderName;
use wasmtime::{Error, Result, bail, format_err};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks, default_hooks,
};

use super::WasiConfig;
use crate::scope::lock;

/// Addresses that are allowed: those that some rule matches. The default matches none.
#[derive(Clone, Debug, Default)]
pub struct Net(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    /// What the rules' names resolved to: a server may answer each lookup with other addresses of its own, so every
    /// one seen stays good.
    resolved: Mutex<HashMap<String, Resolved>>,
}

#[derive(Debug)]
struct Resolved {
    addresses: Vec<IpAddr>,
    at: Instant,
}

/// How long a name that does not resolve to an address is not asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// `HOST:PORT`, where the host is a name, `*.name`, an address, a network like `10.0.0.0/8` or `*`, and the port a
/// number or `*`. IPv6 addresses stand in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Name(String),
    /// A name's children; only `wasi:http` can match it, where the guest says the name.
    Under(String),
    Network(IpAddr, u8),
}

impl Net {
    pub fn new(rules: Vec<Rule>) -> Self {
        Net((!rules.is_empty()).then(|| {
            Arc::new(Inner {
                rules,
                resolved: Mutex::default(),
            })
        }))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn rules(&self) -> &[Rule] {
        self.0.as_ref().map_or(&[], |inner| &inner.rules)
    }

    pub(super) fn has_names(&self) -> bool {
        self.rules().iter().any(|r| !matches!(r.host, Host::Network(..)))
    }

    /// Whether a socket may use the address.
    pub(super) async fn allows(self, addr: SocketAddr, how: SocketAddrUse) -> bool {
        let Some(inner) = &self.0 else { return false };
        // the listening was granted, and who connects is not the component's choice
        if matches!(how, SocketAddrUse::TcpAccept) {
            return true;
        }
        // what the system does before a socket sends: an address of its own choice, that nothing was asked to reach
        if addr.ip().is_unspecified()
            && addr.port() == 0
            && matches!(how, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind)
        {
            return true;
        }
        for rule in inner
            .rules
            .iter()
            .filter(|r| r.port.is_none_or(|p| p == addr.port()))
        {
            let allowed = match &rule.host {
                Host::Any => true,
                Host::Network(net, bits) => within(addr.ip(), *net, *bits),
                Host::Name(name) => inner.resolves(name, addr.ip()).await,
                Host::Under(_) => false,
            };
            if allowed {
                return true;
            }
        }
        false
    }

    /// Whether a request may be sent to the server.
    fn allows_server(&self, host: &str, port: u16) -> bool {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        self.rules()
            .iter()
            .filter(|r| r.port.is_none_or(|p| p == port))
            .any(|r| match (&r.host, ip) {
                (Host::Any, _) => true,
                (Host::Network(net, bits), Some(ip)) => within(ip, *net, *bits),
                (Host::Name(name), None) => *name == host,
                (Host::Under(name), None) => host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.')),
                _ => false,
            })
    }
}

impl Inner {
    async fn resolves(&self, name: &str, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let known = |map: &HashMap<String, Resolved>| {
            map.get(name)
                .map(|r| (r.addresses.contains(&ip), r.at.elapsed() < RETRY))
                .unwrap_or_default()
        };
        let (found, fresh) = known(&lock(&self.resolved));
        if found || fresh {
            return found;
        }
        let answer = tokio::net::lookup_host((name, 0)).await;
        let mut map = lock(&self.resolved);
        let entry = map.entry(name.to_string()).or_insert(Resolved {
            addresses: vec![],
            at: Instant::now(),
        });
        entry.at = Instant::now();
        for a in answer.into_iter().flatten().map(|a| a.ip().to_canonical()) {
            if !entry.addresses.contains(&a) {
                entry.addresses.push(a);
            }
        }
        entry.addresses.contains(&ip)
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let high = |v: u128, width: u32| v.checked_shr(width - u32::from(bits)).unwrap_or(0);
    match (ip.to_canonical(), net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => high(u32::from(a).into(), 32) == high(u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => high(a.into(), 128) == high(b.into(), 128),
        _ => false,
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let Some((host, port)) = s.rsplit_once(':').filter(|(h, _)| !h.is_empty()) else {
            bail!("`{s}` is not HOST:PORT; write * for any port")
        };
        let port = match port {
            "*" => None,
            p => Some(p.parse().map_err(|_| format_err!("`{p}` in `{s}` is no port"))?),
        };
        Ok(Rule {
            host: host.parse().map_err(|e: Error| e.context(format!("in `{s}`")))?,
            port,
        })
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if s == "*" {
            return Ok(Host::Any);
        }
        let (address, bits) = s.split_once('/').map_or((s, None), |(a, b)| (a, Some(b)));
        let bare = address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(address);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            if ip.is_ipv6() && bare == address {
                bail!("write the IPv6 address {ip} in brackets")
            }
            let width = if ip.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(width), |b| b.parse::<u8>())?;
            if bits > width {
                bail!("a network of {bits} bits does not fit an address of {width}")
            }
            return Ok(Host::Network(ip.to_canonical(), bits));
        }
        let name = s.strip_prefix("*.").unwrap_or(s);
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.is_empty() || !name.chars().all(fits) {
            bail!("`{s}` is no host name, address or network")
        }
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(if name.len() == s.len() {
            Host::Name(lower)
        } else {
            Host::Under(lower)
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, "*")?,
            Host::Name(n) => write!(f, "{n}")?,
            Host::Under(n) => write!(f, "*.{n}")?,
            Host::Network(ip @ IpAddr::V4(_), 32) => write!(f, "{ip}")?,
            Host::Network(ip @ IpAddr::V4(_), bits) => write!(f, "{ip}/{bits}")?,
            Host::Network(ip, 128) => write!(f, "[{ip}]")?,
            Host::Network(ip, bits) => write!(f, "[{ip}]/{bits}")?,
        }
        match self.port {
            Some(p) => write!(f, ":{p}"),
            None => write!(f, ":*"),
        }
    }
}

/// wasi:http's questions to its host.
pub(super) struct Hooks(pub Arc<WasiConfig>);

type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ),
    HttpError,
>;

impl WasiHttpHooks for Hooks {
    // the default makes a closure on the heap for every header
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        done: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let uri = request.uri();
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        match uri.host() {
            Some(host) if self.0.http.allows_server(host, port) => {
                default_hooks().send_request(request, options, done)
            }
            _ => Box::new(std::future::ready(Err(HttpError::HttpRequestDenied))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(rules: &[&str]) -> Net {
        Net::new(rules.iter().map(|r| r.parse().unwrap()).collect())
    }

    #[test]
    fn rules_parse_and_print() {
        for text in [
            "a.example:80",
            "*.example:*",
            "*:443",
            "10.0.0.0/8:*",
            "127.0.0.1:1",
            "[::1]:80",
            "[fd00::]/8:*",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for bad in [
            "a",
            ":1",
            "a:x",
            "::1:80",
            "10.0.0.0/40:1",
            "a b:1",
            "a:70000",
            "*.:1",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn servers_match_by_name_or_by_literal_address() {
        let n = net(&["api.example:443", "*.cdn.example:*", "10.0.0.0/8:80", "[::1]:*"]);
        for (host, port) in [
            ("API.example.", 443),
            ("x.cdn.example", 1),
            ("10.1.2.3", 80),
            ("[::1]", 9),
        ] {
            assert!(n.allows_server(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("api.example", 80),
            ("cdn.example", 1),
            ("evilcdn.example", 1),
            ("11.0.0.1", 80),
        ] {
            assert!(!n.allows_server(host, port), "{host}:{port}");
        }
        assert!(!Net::default().allows_server("api.example", 443));
    }

    #[tokio::test]
    async fn sockets_match_by_address_even_when_the_rule_is_a_name() {
        let n = net(&["localhost:80", "192.168.0.0/16:*"]);
        let connect = |a: &str| n.clone().allows(a.parse().unwrap(), SocketAddrUse::TcpConnect);
        assert!(connect("127.0.0.1:80").await);
        assert!(!connect("127.0.0.1:81").await);
        assert!(connect("192.168.7.7:1").await);
        assert!(!connect("8.8.8.8:80").await);
        assert!(
            connect("[::ffff:192.168.7.7]:1").await,
            "an IPv4 address in IPv6 clothes is that address"
        );
    }
}
