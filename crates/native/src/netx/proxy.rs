//! Proxies: only where the grant says so.

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use url::Url;

use super::code::{ErrorCode, words};
use super::egress::{Target, dial};

/// How requests leave this machine.
#[derive(Default)]
pub(super) struct Proxies {
    plain: Option<Proxy>,
    secure: Option<Proxy>,
    /// Names that go without, with all below them, as `NO_PROXY` has it.
    without: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Proxy {
    host: String,
    port: u16,
}

/// The key `proxy` of a grant.
#[derive(Deserialize, Default)]
#[serde(untagged)]
pub(super) enum ProxyGrant {
    #[default]
    None,
    /// `"environment"`, or the proxy's address.
    Named(String),
}

impl Proxies {
    /// Errors with what is wrong with the grant or with the variable that it lets in.
    pub fn new(grant: &ProxyGrant, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        match grant {
            ProxyGrant::None => Ok(Proxies::default()),
            ProxyGrant::Named(word) if word == "environment" => {
                let one = |names: [&str; 4]| {
                    let found = names
                        .iter()
                        .find_map(|n| env(n).filter(|v| !v.is_empty()).map(|v| (n, v)));
                    found
                        .map(|(n, v)| parse(&v).map_err(|e| format!("the variable {n}: {e}")))
                        .transpose()
                };
                // a server's clients can set the variable HTTP_PROXY where the server is a CGI program
                let plain = one(["http_proxy", "all_proxy", "ALL_PROXY", "ALL_PROXY"])?;
                let secure = one(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?;
                let without = env("no_proxy").or_else(|| env("NO_PROXY")).unwrap_or_default();
                let without = without
                    .split(',')
                    .map(|n| n.trim().trim_start_matches("*.").trim_start_matches('.'));
                Ok(Proxies {
                    plain,
                    secure,
                    without: without
                        .filter(|n| !n.is_empty())
                        .map(str::to_ascii_lowercase)
                        .collect(),
                })
            }
            ProxyGrant::Named(url) => {
                let proxy = parse(url)?;
                Ok(Proxies {
                    plain: Some(proxy.clone()),
                    secure: Some(proxy),
                    without: vec![],
                })
            }
        }
    }

    /// The proxy that leads to the target.
    pub fn of(&self, target: &Target) -> Option<&Proxy> {
        let proxy = if target.scheme.is_secure() {
            self.secure.as_ref()?
        } else {
            self.plain.as_ref()?
        };
        let host = target.host.to_string();
        let below = |name: &String| {
            name == "*"
                || host == *name
                || host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        (!self.without.iter().any(below)).then_some(proxy)
    }
}

fn parse(url: &str) -> Result<Proxy, String> {
    let form =
        || format!("`{url}` is no proxy; write \"environment\" or a URL such as \"http://proxy.lan:3128\"");
    let parsed = Url::parse(url).map_err(|_| form())?;
    let host = parsed.host_str().ok_or_else(form)?;
    if parsed.scheme() != "http" || !parsed.username().is_empty() || parsed.path() != "/" {
        return Err(form());
    }
    Ok(Proxy {
        host: host.trim_start_matches('[').trim_end_matches(']').to_string(),
        port: parsed.port().unwrap_or(80),
    })
}

/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 8 << 10;

impl Proxy {
    /// A connection to the target by way of the proxy: a tunnel, or, for `http`, to the proxy itself.
    pub async fn connect(&self, target: &Target, end: Instant) -> Result<TcpStream, ErrorCode> {
        let found = lookup_host((self.host.as_str(), self.port)).await?;
        let addresses: Vec<_> = found.collect();
        let mut stream = dial(&addresses, end).await?;
        if target.scheme == super::rule::Scheme::Http {
            return Ok(stream);
        }
        let to = format!("{}:{}", target.host, target.port);
        let ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut head = vec![];
        // a byte at a time: what follows the head is the target's
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(ErrorCode::ProtocolError(words("the proxy's answer is too long")));
            }
            head.push(stream.read_u8().await?);
        }
        let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if !head.starts_with(b"HTTP/1.") || !matches!(status, [b'2', _, _]) {
            return Err(ErrorCode::DestinationUnavailable);
        }
        Ok(stream)
    }
}
