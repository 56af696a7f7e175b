//! What a grant's `allow` says: `https://api.example.com:443`, `http://10.0.0.0/8:8080`, `wss://*.example.com`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// The schemes of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Ws,
    Wss,
    /// Only to resolve names.
    Dns,
}

const SCHEMES: [(&str, Scheme); 5] = [
    ("http", Scheme::Http),
    ("https", Scheme::Https),
    ("ws", Scheme::Ws),
    ("wss", Scheme::Wss),
    ("dns", Scheme::Dns),
];

impl Scheme {
    pub fn name(self) -> &'static str {
        SCHEMES[self as usize].0
    }

    /// The scheme of that name; no `dns`, which is none of URLs.
    pub fn of_url(name: &str) -> Option<Self> {
        let found = SCHEMES.iter().find(|(n, s)| *n == name && *s != Scheme::Dns);
        found.map(|(_, s)| *s)
    }

    pub fn port(self) -> u16 {
        match self {
            Scheme::Http | Scheme::Ws => 80,
            Scheme::Https | Scheme::Wss => 443,
            Scheme::Dns => 53,
        }
    }

    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Wss)
    }
}

/// A network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn new(address: IpAddr, bits: u8) -> Self {
        Network { address, bits }
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        let high = |v: u128, width: u32| v.checked_shr(width - u32::from(self.bits)).unwrap_or(0);
        match (ip.to_canonical(), self.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => high(u32::from(a).into(), 32) == high(u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => high(a.into(), 128) == high(b.into(), 128),
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// Every name, and every public address.
    Any,
    Name(String),
    /// The names below this one, at any depth.
    Under(String),
    Network(Network),
}

/// A server that is asked for: whom its URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// One entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    scheme: Scheme,
    who: Who,
    /// `None`: any.
    port: Option<u16>,
}

impl Rule {
    fn is_for(&self, scheme: Scheme, port: u16) -> bool {
        self.scheme == scheme && self.port.is_none_or(|p| p == port)
    }

    /// Whether the rule lets a URL of this scheme, host and port be asked for. Where its host is a name, its
    /// addresses are looked at once they are known.
    pub fn allows(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        self.is_for(scheme, port)
            && match host {
                Host::Name(name) => self.names(name),
                Host::Address(ip) => match &self.who {
                    Who::Any => super::address::is_public(*ip),
                    Who::Network(net) => net.contains(*ip),
                    _ => false,
                },
            }
    }

    /// Whether the rule names this very address, so that it may be connected to though it is not public.
    pub fn allows_address(&self, scheme: Scheme, host: &Host, ip: IpAddr, port: u16) -> bool {
        self.is_for(scheme, port)
            && match (&self.who, host) {
                (Who::Network(net), _) => net.contains(ip),
                // who grants `localhost` means this machine
                (Who::Name(granted), Host::Name(asked)) => {
                    granted == "localhost" && asked == granted && ip.to_canonical().is_loopback()
                }
                _ => false,
            }
    }

    /// Whether the rule, of whatever scheme, is for the name.
    pub fn names(&self, name: &str) -> bool {
        match &self.who {
            Who::Any => true,
            Who::Name(granted) => granted == name,
            Who::Under(parent) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            Who::Network(_) => false,
        }
    }

    /// Whether the rule names this address under any scheme and port.
    pub fn names_address(&self, name: &str, ip: IpAddr) -> bool {
        match &self.who {
            Who::Network(net) => net.contains(ip),
            Who::Name(granted) => {
                granted == "localhost" && name == granted && ip.to_canonical().is_loopback()
            }
            _ => false,
        }
    }
}

const FORM: &str = "write SCHEME://HOST:PORT, such as \"https://api.example.com:443\"";

impl FromStr for Rule {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("`{s}`: {what}");
        let (scheme, rest) = s.split_once("://").ok_or_else(|| bad(FORM))?;
        let Some(&(_, scheme)) = SCHEMES.iter().find(|(name, _)| *name == scheme) else {
            let known: Vec<_> = SCHEMES.iter().map(|(name, _)| *name).collect();
            return Err(bad(&format!("the scheme must be one of {}", known.join(", "))));
        };
        if !rest.contains('[') && rest.matches(':').count() > 1 {
            return Err(bad("an IPv6 address stands in brackets"));
        }
        let (host, port) = split(rest).ok_or_else(|| bad(FORM))?;
        let port = match (port, scheme) {
            (Some(_), Scheme::Dns) => return Err(bad("a name that is only resolved has no port")),
            (None, Scheme::Dns) | (Some("*"), _) => None,
            (None, scheme) => Some(scheme.port()),
            (Some(port), _) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let number = port.parse().ok().filter(|n| digits && *n != 0);
                Some(number.ok_or_else(|| bad(&format!("`{port}` is no port; write * for any")))?)
            }
        };
        let who = who(host).map_err(|e| bad(&e))?;
        if scheme == Scheme::Dns && matches!(who, Who::Network(_)) {
            return Err(bad("only names are resolved"));
        }
        Ok(Rule { scheme, who, port })
    }
}

/// Host and port; `None` where neither a name nor an address can be meant.
fn split(rest: &str) -> Option<(&str, Option<&str>)> {
    if rest.is_empty() || rest.contains(['@', '?', '#', ' ']) {
        return None;
    }
    // behind the brackets of an IPv6 address, and in any network behind its `/`
    let from = rest.rfind(']').map_or(0, |i| i + 1);
    match rest[from..].split_once(':') {
        Some((host, port)) => Some((&rest[..from + host.len()], Some(port))),
        None => Some((rest, None)),
    }
}

fn who(host: &str) -> Result<Who, String> {
    if host == "*" {
        return Ok(Who::Any);
    }
    let (address, bits) = match host.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (host, None),
    };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    // `[fd00::/8]` too: both ways are in use
    let (bare, bits) = match (
        bare,
        bits,
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')),
    ) {
        (None, Some(_), Some(inside)) => match inside.split_once('/') {
            Some((address, bits)) => (Some(address), Some(bits)),
            None => (None, bits),
        },
        (bare, bits, _) => (bare, bits),
    };
    if let Ok(ip) = bare.unwrap_or(address).parse::<IpAddr>() {
        if ip.to_canonical() != ip {
            return Err(format!("write the address as IPv4: {}", ip.to_canonical()));
        }
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(b) => b
                .parse()
                .ok()
                .filter(|b| *b <= width)
                .ok_or_else(|| format!("`/{b}` is no network's size; it has 0 to {width} bits"))?,
        };
        return Ok(Who::Network(Network::new(ip, bits)));
    }
    if bits.is_some() {
        return Err("a rule ends with its port: which paths are asked for is not its matter".into());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.chars().all(fits);
    if !lower.split('.').all(label) || lower.len() > 253 {
        return Err(format!("`{host}` is no host name (in ASCII), address or network"));
    }
    // such a name would be taken for an address somewhere
    if lower.rsplit('.').next().is_some_and(is_numeric) {
        return Err(format!(
            "`{host}` is no address; write four decimal numbers, such as 127.0.0.1"
        ));
    }
    Ok(if name.len() == host.len() {
        Who::Name(lower)
    } else {
        Who::Under(lower)
    })
}

/// Whether a label makes whoever reads it take the name for an IPv4 address.
pub(super) fn is_numeric(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(s: &str) -> Rule {
        s.parse().unwrap()
    }

    fn name(s: &str) -> Host {
        Host::Name(s.into())
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn names_match_in_their_scheme_and_port() {
        let r = rule("https://API.example.com");
        assert!(r.allows(Scheme::Https, &name("api.example.com"), 443));
        assert!(!r.allows(Scheme::Https, &name("api.example.com"), 8443));
        assert!(!r.allows(Scheme::Http, &name("api.example.com"), 443));
        assert!(!r.allows(Scheme::Wss, &name("api.example.com"), 443));
        assert!(!r.allows(Scheme::Https, &name("x.api.example.com"), 443));
        assert!(rule("ws://a:*").allows(Scheme::Ws, &name("a"), 9));
    }

    #[test]
    fn a_star_stands_for_what_is_below_a_name() {
        let r = rule("https://*.example.com:*");
        assert!(r.allows(Scheme::Https, &name("a.example.com"), 1));
        assert!(r.allows(Scheme::Https, &name("a.b.example.com"), 1));
        for other in [
            "example.com",
            ".example.com",
            "evilexample.com",
            "example.com.evil.org",
        ] {
            assert!(!r.allows(Scheme::Https, &name(other), 1), "{other}");
        }
    }

    #[test]
    fn a_star_alone_is_any_name_but_no_private_address() {
        let r = rule("http://*:80");
        assert!(r.allows(Scheme::Http, &name("x.org"), 80));
        assert!(r.allows(Scheme::Http, &Host::Address(ip("1.1.1.1")), 80));
        assert!(!r.allows(Scheme::Http, &Host::Address(ip("10.0.0.1")), 80));
        assert!(!r.allows_address(Scheme::Http, &name("x.org"), ip("10.0.0.1"), 80));
    }

    #[test]
    fn networks_name_addresses_not_names() {
        let r = rule("http://10.0.0.0/8:8080");
        assert!(r.allows(Scheme::Http, &Host::Address(ip("10.9.8.7")), 8080));
        assert!(!r.allows(Scheme::Http, &Host::Address(ip("11.9.8.7")), 8080));
        assert!(!r.allows(Scheme::Http, &name("printer.lan"), 8080));
        assert!(r.allows_address(Scheme::Http, &name("printer.lan"), ip("10.1.1.1"), 8080));
        assert!(r.allows_address(Scheme::Http, &name("printer.lan"), ip("::ffff:10.1.1.1"), 8080));
        assert!(!r.allows_address(Scheme::Http, &name("printer.lan"), ip("10.1.1.1"), 80));
        let r = rule("https://[fd00::]/8:*");
        assert!(r.allows(Scheme::Https, &Host::Address(ip("fd12::1")), 5));
        assert_eq!(rule("https://[fd00::/8]:*"), r);
    }

    #[test]
    fn localhost_is_this_machine_and_no_other_name_is() {
        let r = rule("http://localhost:80");
        assert!(r.allows_address(Scheme::Http, &name("localhost"), ip("127.0.0.1"), 80));
        assert!(r.allows_address(Scheme::Http, &name("localhost"), ip("::1"), 80));
        assert!(!r.allows_address(Scheme::Http, &name("localhost"), ip("10.0.0.1"), 80));
        assert!(!r.allows_address(Scheme::Http, &name("evil.org"), ip("127.0.0.1"), 80));
        assert!(!r.allows(Scheme::Http, &Host::Address(ip("127.0.0.1")), 80));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_words() {
        for (bad, says) in [
            ("api.example.com:443", "SCHEME://HOST:PORT"),
            ("ftp://a", "must be one of http, https"),
            ("http://", "SCHEME"),
            ("http://a:0", "no port"),
            ("http://a:70000", "no port"),
            ("http://a:+8", "no port"),
            ("http://a b", "SCHEME"),
            ("http://u@a", "SCHEME"),
            ("http://a/path", "paths"),
            ("http://10.0.0.0/33", "0 to 32"),
            ("http://fd00::1", "brackets"),
            ("http://[::ffff:10.0.0.1]", "as IPv4: 10.0.0.1"),
            ("http://2130706433", "four decimal"),
            ("http://0x7f.1", "four decimal"),
            ("http://*.", "no host"),
            ("http://a..b", "no host"),
            ("http://é.org", "ASCII"),
            ("dns://10.0.0.0/8", "only names"),
            ("dns://a:53", "has no port"),
        ] {
            let e = bad.parse::<Rule>().unwrap_err();
            assert!(e.contains(says), "{bad}: {e}");
        }
    }
}
