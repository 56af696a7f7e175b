//! Who is let in: the page itself, opened by whoever has the token.
//!
//! A browser sends requests for any page that it shows. What tells them apart is the host that they ask for (of another
//! site whose name was pointed here, it is that name), the origin that they come from, and what the browser says of the
//! two. The files of the page hold nothing secret; all that does goes over the WebSocket, which asks for the token too.

//!
//! The token itself is never sent, since whoever listens here while this server does not would have it from a page that
//! comes back by itself: each side shows the other that it knows the token, by a code over what both have made up for
//! this once and over the address.

use std::cell::RefCell;
use std::collections::VecDeque;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::loop_::core::random;
use crate::loop_::netx::http_server::Request;

/// The protocol of the WebSocket.
pub const PROTOCOL: &str = "loop-page.1";
/// What comes before the proof, offered as a second protocol: browsers let pages set no other field.
const PROOF: &str = "proof.";
/// Where the WebSocket is.
const SOCKET: &str = "/socket";
/// Where what is to be proven about is had from.
const CHALLENGE: &str = "/challenge";
/// Challenges that wait to be answered.
const MOST: usize = 64;

pub struct Gate {
    hosts: Vec<String>,
    token: Vec<u8>,
    /// Each is good for one answer.
    challenges: RefCell<VecDeque<String>>,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// For this reason.
    Refused(&'static str),
    File,
    /// What is to be proven about.
    Challenge(String),
    /// By which this side proves itself.
    Socket(String),
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
            challenges: RefCell::default(),
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
        match request.path.as_str() {
            CHALLENGE if request.method == "GET" => return Verdict::Challenge(self.challenge()),
            SOCKET => {}
            _ => return Verdict::File,
        }
        if origin.is_none() {
            return Verdict::Refused("it does not say where it comes from");
        }
        let offered: Vec<&str> = fields(request, "sec-websocket-protocol")
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let host = request.authority.as_deref().unwrap_or_default();
        let proof = offered.iter().find_map(|one| one.strip_prefix(PROOF));
        match proof.and_then(|proof| self.prove(proof, host)) {
            Some(own) if offered.contains(&PROTOCOL) => Verdict::Socket(own),
            _ => Verdict::Refused("it has not the token"),
        }
    }

    fn challenge(&self) -> String {
        let made = HEXLOWER.encode(&random::bytes(16));
        let mut challenges = self.challenges.borrow_mut();
        if challenges.len() >= MOST {
            challenges.pop_front();
        }
        challenges.push_back(made.clone());
        made
    }

    /// Checks `CHALLENGE.NONCE.CODE`, and makes the code of this side.
    fn prove(&self, proof: &str, host: &str) -> Option<String> {
        let mut parts = proof.splitn(3, '.');
        let (challenge, nonce, code) = (parts.next()?, parts.next()?, parts.next()?);
        let mut challenges = self.challenges.borrow_mut();
        let place = challenges.iter().position(|one| one == challenge)?;
        challenges.remove(place);
        let code = HEXLOWER.decode(code.as_bytes()).ok()?;
        // in constant time
        self.code("page", challenge, nonce, host)
            .verify_slice(&code)
            .ok()?;
        let own = self.code("server", challenge, nonce, host).finalize();
        Some(HEXLOWER.encode(&own.into_bytes()))
    }

    fn code(&self, side: &str, challenge: &str, nonce: &str, host: &str) -> Hmac<Sha256> {
        let mut code = Hmac::new_from_slice(&self.token).expect("a key of any length does");
        code.update(format!("{side} {challenge} {nonce} {host}").as_bytes());
        code
    }
}

/// Whether the browser says that another site asks, and not for a link that somebody followed.
fn comes_from_elsewhere(request: &Request) -> bool {
    let told = |name, value: &str| fields(request, name).any(|field| field == value);
    let is_ours = fields(request, "sec-fetch-site").all(|site| matches!(site, "same-origin" | "none"));
    let is_followed = told("sec-fetch-mode", "navigate") && told("sec-fetch-dest", "document");
    !(is_ours || is_followed && request.method == "GET")
}

/// The values of a field that are text; what is none fits nothing.
fn fields<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a str> {
    request
        .headers
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| std::str::from_utf8(value).unwrap_or("\u{fffd}"))
}
