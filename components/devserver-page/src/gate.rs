//! Who is let in: the page itself, opened by whoever has the token.
//!
//! A browser sends requests for any page that it shows. What tells them apart is the host that they ask for (of another
//! site whose name was pointed here, it is that name), the origin that they come from, and what the browser says of the
//! two. The files of the page hold nothing secret; all that does goes over the WebSocket, which asks for the token too.

use subtle::ConstantTimeEq;

use crate::loop_::netx::http_server::Request;

/// The protocol of the WebSocket.
pub const PROTOCOL: &str = "loop-page.1";
/// What comes before the token, offered as a second protocol: browsers let pages set no other field.
const TOKEN: &str = "token.";
/// Where the WebSocket is.
const SOCKET: &str = "/socket";

pub struct Gate {
    hosts: Vec<String>,
    token: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// For this reason.
    Refused(&'static str),
    File,
    Socket,
}

impl Gate {
    /// `address`: where it listens, `127.0.0.1:7080`.
    pub fn new(address: &str, token: &str) -> Gate {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let mut hosts = vec![address.to_string(), format!("localhost:{port}")];
        if port == "80" {
            // which browsers leave out
            hosts.extend(hosts.clone().iter().filter_map(|host| {
                let (name, _) = host.rsplit_once(':')?;
                Some(name.to_string())
            }));
        }
        Gate {
            hosts,
            token: token.as_bytes().to_vec(),
        }
    }

    pub fn verdict(&self, request: &Request) -> Verdict {
        let is_own = |host: &str| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        if !request.authority.as_deref().is_some_and(is_own) {
            return Verdict::Refused("it is for another host");
        }
        let mut origins = fields(request, "origin");
        let origin = origins.next();
        let is_ours = |origin: &str| origin.strip_prefix("http://") == request.authority.as_deref();
        if origins.next().is_some() || origin.is_some_and(|origin| !is_ours(origin)) {
            return Verdict::Refused("it comes from another site");
        }
        let is_socket = request.path == SOCKET;
        if !is_socket && comes_from_elsewhere(request) {
            return Verdict::Refused("it comes from another site");
        }
        if !is_socket {
            return Verdict::File;
        }
        if origin.is_none() {
            return Verdict::Refused("it does not say where it comes from");
        }
        let offered: Vec<&str> = fields(request, "sec-websocket-protocol")
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let token = offered.iter().find_map(|one| one.strip_prefix(TOKEN));
        let is_known = token.is_some_and(|token| self.token.ct_eq(token.as_bytes()).into());
        if !is_known || !offered.contains(&PROTOCOL) {
            return Verdict::Refused("it has not the token");
        }
        Verdict::Socket
    }
}

/// Whether the browser says that another site asks, and not for a link that somebody followed.
fn comes_from_elsewhere(request: &Request) -> bool {
    let told = |name, value: &str| fields(request, name).any(|field| field == value);
    let is_ours = fields(request, "sec-fetch-site").all(|site| matches!(site, "same-origin" | "none"));
    let is_followed = told("sec-fetch-mode", "navigate") && told("sec-fetch-dest", "document");
    !is_ours && !(is_followed && request.method == "GET")
}

/// The values of a field that are text; what is none fits nothing.
fn fields<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a str> {
    request
        .headers
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| std::str::from_utf8(value).unwrap_or("\u{fffd}"))
}
