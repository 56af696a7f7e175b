//! Where a peer is found, as a URL.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::failure::{Code, Failure};

/// Where a peer listens, or is to be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `stdio:`, this process's own standard input and output.
    Stdio,
    /// `unix:/run/kv.sock` or, from the working directory, `unix:kv.sock`.
    Unix(PathBuf),
    /// `shm:/run/kv.sock`, a unix socket, with long payloads by shared memory.
    Shm(PathBuf),
    /// `tcp://host:port`.
    Tcp(Place),
    /// `quic://host:port`.
    Quic(Place),
    /// `http2://host:port`, over TLS where the options have it.
    Http2(Place),
    /// `ws://host:port/path`; `secure`: `wss:`.
    Ws {
        place: Place,
        path: String,
        secure: bool,
    },
    /// `nats://server:port/subject`.
    Nats { place: Place, subject: String },
    /// `pipe:NAME`, a named pipe of Windows.
    Pipe(String),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

/// Every scheme with an address as it should look.
const EXAMPLES: [(&str, &str); 10] = [
    ("stdio", "stdio:"),
    ("unix", "unix:/run/kv.sock"),
    ("shm", "shm:/run/kv.sock"),
    ("tcp", "tcp://127.0.0.1:7000"),
    ("quic", "quic://kv.example.com:7000"),
    ("http2", "http2://kv.example.com:7000"),
    ("ws", "ws://127.0.0.1:7000/loop"),
    ("wss", "wss://kv.example.com/loop"),
    ("nats", "nats://127.0.0.1:4222/acme.kv"),
    ("pipe", "pipe:kv"),
];
/// Bytes of a subject; a server takes 4096 for a line that holds two.
const SUBJECT: usize = 256;

impl Place {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Place {
            host: host.into(),
            port,
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn parse(s: &str, default: Option<u16>) -> Result<Self, String> {
        let (host, port) = match s.strip_prefix('[') {
            Some(rest) => {
                let (ip, port) = rest.split_once(']').ok_or("the bracket is not closed")?;
                ip.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{ip}` is no IPv6 address"))?;
                let port = match port {
                    "" => None,
                    _ => Some(port.strip_prefix(':').ok_or("`:` and a port are to follow `]`")?),
                };
                (ip, port)
            }
            None => match s.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err("an IPv6 address stands in brackets: `[::1]:7000`".into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (s, None),
            },
        };
        if host.is_empty() {
            return Err("the host is missing".into());
        }
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !host.contains(':') && !host.bytes().all(named) {
            return Err(format!("`{host}` is no host"));
        }
        let port = match port {
            Some(port) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().map_err(|_| format!("port {port} is above 65535"))?
            }
            Some(port) => return Err(format!("`{port}` is no port")),
            None => default.ok_or("the port is missing")?,
        };
        Ok(Place::new(host, port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl From<std::net::SocketAddr> for Place {
    fn from(a: std::net::SocketAddr) -> Self {
        Place::new(a.ip().to_string(), a.port())
    }
}

impl Address {
    /// The word before the colon.
    pub fn scheme(&self) -> &'static str {
        match self {
            Address::Stdio => "stdio",
            Address::Unix(_) => "unix",
            Address::Shm(_) => "shm",
            Address::Tcp(_) => "tcp",
            Address::Quic(_) => "quic",
            Address::Http2(_) => "http2",
            Address::Ws { secure: false, .. } => "ws",
            Address::Ws { secure: true, .. } => "wss",
            Address::Nats { .. } => "nats",
            Address::Pipe(_) => "pipe",
        }
    }

    /// Host and port, of those that have one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Address::Tcp(place) | Address::Quic(place) | Address::Http2(place) => Some(place),
            Address::Ws { place, .. } | Address::Nats { place, .. } => Some(place),
            Address::Stdio | Address::Unix(_) | Address::Shm(_) | Address::Pipe(_) => None,
        }
    }

    /// The same at another host or port; as it is where it has none.
    pub fn at(mut self, other: Place) -> Self {
        match &mut self {
            Address::Tcp(place) | Address::Quic(place) | Address::Http2(place) => *place = other,
            Address::Ws { place, .. } | Address::Nats { place, .. } => *place = other,
            Address::Stdio | Address::Unix(_) | Address::Shm(_) | Address::Pipe(_) => {}
        }
        self
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.place().is_none_or(Place::is_loopback)
    }

    fn parse(scheme: &str, rest: &str) -> Result<Self, String> {
        let opaque = ["stdio", "unix", "shm", "pipe"].contains(&scheme);
        let local = ["unix", "shm"].contains(&scheme);
        let rest = match rest.strip_prefix("//") {
            Some(rest) if !opaque => rest,
            None if !opaque => return Err(format!("`//` is to follow `{scheme}:`")),
            // unix:///run/kv.sock is common
            Some(path) if local && path.starts_with('/') => path,
            Some(_) if local => return Err("a path has no host".into()),
            _ => rest,
        };
        let bare = |default| Place::parse(rest.strip_suffix('/').unwrap_or(rest), default);
        let split = |default| -> Result<(Place, &str), String> {
            let at = rest.find('/').unwrap_or(rest.len());
            Ok((Place::parse(&rest[..at], default)?, &rest[at..]))
        };
        match scheme {
            "stdio" if rest.is_empty() => Ok(Address::Stdio),
            "stdio" => Err(format!("nothing may follow `stdio:`, not `{rest}`")),
            "unix" | "shm" if rest.is_empty() => Err("the path is missing".into()),
            "unix" | "shm" if rest.contains('\0') => Err("a path cannot hold NUL".into()),
            "unix" => Ok(Address::Unix(rest.into())),
            "shm" => Ok(Address::Shm(rest.into())),
            "pipe" if rest.is_empty() => Err("the name is missing".into()),
            "pipe" if rest.contains(['\\', '/', '\0']) => Err("a name holds no slash".into()),
            "pipe" => Ok(Address::Pipe(rest.into())),
            "tcp" => bare(None).map(Address::Tcp),
            "quic" => bare(None).map(Address::Quic),
            "http2" => bare(None).map(Address::Http2),
            "ws" | "wss" => {
                let secure = scheme == "wss";
                let (place, path) = split(Some(if secure { 443 } else { 80 }))?;
                if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
                    return Err(format!("`{path}` is no path: write other characters as %XX"));
                }
                let path = if path.is_empty() { "/" } else { path }.into();
                Ok(Address::Ws { place, path, secure })
            }
            "nats" => {
                let (place, subject) = split(Some(4222))?;
                let subject = subject.strip_prefix('/').unwrap_or_default();
                check_subject(subject)?;
                Ok(Address::Nats {
                    place,
                    subject: subject.into(),
                })
            }
            _ => Err(format!("there is no transport `{scheme}`")),
        }
    }
}

fn check_subject(subject: &str) -> Result<(), String> {
    let token = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic() && !b"*>/".contains(&b));
    if subject.is_empty() {
        Err("the subject is missing".into())
    } else if subject.len() > SUBJECT {
        Err(format!("the subject is longer than {SUBJECT} bytes"))
    } else if subject.starts_with(['$', '_']) {
        Err(format!("subject `{subject}` belongs to the server"))
    } else if !subject.split('.').all(token) {
        Err(format!("`{subject}` is no subject that can be listened to"))
    } else {
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match self {
            Address::Stdio => f.write_str("stdio:"),
            Address::Unix(path) | Address::Shm(path) => write!(f, "{scheme}:{}", path.display()),
            Address::Pipe(name) => write!(f, "pipe:{name}"),
            Address::Tcp(place) | Address::Quic(place) | Address::Http2(place) => {
                write!(f, "{scheme}://{place}")
            }
            Address::Ws { place, path, .. } => write!(f, "{scheme}://{place}{path}"),
            Address::Nats { place, subject } => write!(f, "{scheme}://{place}/{subject}"),
        }
    }
}

impl FromStr for Address {
    type Err = Failure;

    /// Errors with `bad-value`, which says what is wrong and shows an address of that kind.
    fn from_str(s: &str) -> Result<Self, Failure> {
        if let Some((scheme, rest)) = s.split_once("://")
            && let Some((_, host)) = rest
                .split(['/', '?', '#'])
                .next()
                .unwrap_or(rest)
                .rsplit_once('@')
        {
            // what stands before the host is a secret, and not repeated
            let message = format!(
                "an address of {host} is `{scheme}://{host}...`: who one is does not stand in it, but in the options"
            );
            return Err(Failure::new(Code::BadValue, message).with("expected", "an address without a login"));
        }
        let (scheme, parsed) = match s.split_once(':') {
            Some((scheme, rest)) => (scheme, Address::parse(scheme, rest)),
            None => ("", Err("it names no transport".into())),
        };
        parsed.map_err(|why| {
            let example = match EXAMPLES.iter().find(|(known, _)| *known == scheme) {
                Some((_, example)) => format!("`{example}`"),
                None => EXAMPLES.map(|(_, example)| format!("`{example}`")).join(", "),
            };
            Failure::new(
                Code::BadValue,
                format!("`{s}` is no address: {why}; an example: {example}"),
            )
            .with("expected", example)
            .with("got", s)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(s: &str) -> Address {
        s.parse().expect(s)
    }

    #[test]
    fn examples_are_addresses_and_print_as_they_were_written() {
        for (scheme, example) in EXAMPLES {
            let address = parse(example);
            assert_eq!(address.scheme(), scheme);
            assert_eq!(
                address.to_string().replace(":443/", "/"),
                example,
                "only a port may be added"
            );
        }
        assert_eq!(parse("unix:///run/kv.sock"), parse("unix:/run/kv.sock"));
        assert_eq!(parse("unix:run/kv.sock"), Address::Unix("run/kv.sock".into()));
        assert_eq!(parse("tcp://[::1]:80"), Address::Tcp(Place::new("::1", 80)));
        assert_eq!(parse("ws://h"), parse("ws://h:80/"));
        assert_eq!(parse("nats://h/a.b"), parse("nats://h:4222/a.b"));
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for (address, local) in [
            ("stdio:", true),
            ("unix:a", true),
            ("tcp://127.3.2.1:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("ws://LOCALHOST:1", true),
            ("tcp://0.0.0.0:1", false),
            ("quic://[::]:1", false),
            ("http2://localhost.example.com:1", false),
        ] {
            assert_eq!(parse(address).is_loopback(), local, "{address}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_show_an_example() {
        for (address, why, example) in [
            ("kv.sock", "names no transport", "unix:/run/kv.sock"),
            ("smtp://a", "no transport `smtp`", "tcp://"),
            ("stdio:x", "nothing may follow", "`stdio:`"),
            ("unix:", "the path is missing", "unix:/run"),
            ("unix://host/path", "a path has no host", "unix:/run"),
            ("shm:", "the path is missing", "shm:/run"),
            ("tcp:localhost:1", "`//` is to follow", "tcp://127.0.0.1:7000"),
            ("tcp://localhost", "the port is missing", "tcp://"),
            ("tcp://:1", "the host is missing", "tcp://"),
            ("tcp://::1:80", "stands in brackets", "tcp://"),
            ("tcp://[::1:80", "bracket is not closed", "tcp://"),
            ("tcp://[kv]:80", "`kv` is no IPv6 address", "tcp://"),
            ("tcp://a:+1", "`+1` is no port", "tcp://"),
            ("tcp://a:65536", "above 65535", "tcp://"),
            ("ws://a/b#c", "is no path", "ws://"),
            ("nats://a", "the subject is missing", "nats://"),
            ("nats://a/b..c", "no subject", "nats://"),
            ("nats://a/b.*", "no subject", "nats://"),
            ("nats://a/$SYS.x", "belongs to the server", "nats://"),
            ("pipe:a\\b", "holds no slash", "pipe:kv"),
        ] {
            let failure = address.parse::<Address>().expect_err(address);
            assert_eq!(failure.code, Code::BadValue);
            assert!(failure.message.contains(why), "{failure}");
            assert!(failure.message.contains(example), "{failure}");
        }
    }

    #[test]
    fn a_login_has_no_place_in_an_address_and_is_not_repeated() {
        for address in [
            "nats://kv:sesame@h:4222/a",
            "tcp://sesame@h:1",
            "ws://a:sesame@b@h",
        ] {
            let failure = address.parse::<Address>().expect_err(address);
            assert_eq!(failure.code, Code::BadValue);
            assert!(!format!("{failure:?}").contains("sesame"), "{failure}");
            assert!(failure.message.contains("in the options"), "{failure}");
        }
        assert!("ws://h:1/a@b".parse::<Address>().is_ok());
    }

    fn places() -> impl Strategy<Value = Place> {
        let host = prop_oneof![
            "[a-z0-9][a-z0-9.-]{0,20}",
            any::<std::net::Ipv4Addr>().prop_map(|a| a.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|a| a.to_string()),
        ];
        (host, any::<u16>()).prop_map(|(host, port)| Place::new(host, port))
    }

    fn addresses() -> impl Strategy<Value = Address> {
        prop_oneof![
            Just(Address::Stdio),
            "/?[a-z.]{1,9}(/[^/\0]{1,9}){0,3}".prop_map(|p| Address::Unix(p.into())),
            "/?[a-z.]{1,9}(/[^/\0]{1,9}){0,3}".prop_map(|p| Address::Shm(p.into())),
            places().prop_map(Address::Tcp),
            places().prop_map(Address::Quic),
            places().prop_map(Address::Http2),
            (places(), "/[!-\"$-~]{0,20}", any::<bool>()).prop_map(|(place, path, secure)| Address::Ws {
                place,
                path,
                secure
            }),
            (places(), "[a-zA-Z0-9-]{1,9}(\\.[!-)+-.0-=?-~]{1,9}){0,3}")
                .prop_filter("an empty token", |(_, s)| !s.split('.').any(str::is_empty))
                .prop_map(|(place, subject)| Address::Nats { place, subject }),
            "[^/\\\\\0]{1,20}".prop_map(Address::Pipe),
        ]
    }

    proptest! {
        #[test]
        fn every_address_reads_back(address in addresses()) {
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }

        #[test]
        fn what_reads_at_all_reads_back(s in "(stdio|unix|shm|tcp|ws|nats|pipe):(//)?[ -~]{0,30}") {
            if let Ok(address) = s.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }
}
