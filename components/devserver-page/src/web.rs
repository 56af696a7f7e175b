//! The files of the page.

use std::collections::HashMap;

use crate::loop_::devserver_page::site::{self, File};
use crate::loop_::netx::http_server::{Exchange, Request};

pub struct Web {
    files: HashMap<String, File>,
    policy: String,
    /// Of all the files together: another page has another.
    pub version: String,
}

impl Web {
    pub fn new(address: &str) -> Web {
        let files: HashMap<String, File> = site::files()
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let mut paths: Vec<_> = files.keys().collect();
        paths.sort();
        let all = paths.iter().flat_map(|path| &files[*path].body);
        // FNV-1a: it tells versions apart, and guards nothing
        let version = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        Web {
            version: format!("{version:016x}"),
            // not all browsers take 'self' for the WebSocket
            policy: format!(
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                 connect-src 'self' ws://{address} ws://localhost:{port}; base-uri 'none'; form-action 'none'; \
                 frame-ancestors 'none'; require-trusted-types-for 'script'"
            ),
            files,
        }
    }

    pub fn give(&self, exchange: &Exchange, request: &Request) {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let allow = vec![("allow".to_string(), b"GET, HEAD".to_vec())];
            return self.respond(exchange, 405, "text/plain", b"only GET is answered\n", allow);
        }
        let path = match request.path.as_str() {
            "/" => "/index.html",
            path => path,
        };
        match self.files.get(path) {
            Some(file) => self.respond(exchange, 200, &file.content_type, &file.body, vec![]),
            None => self.respond(exchange, 404, "text/plain", b"there is no such file\n", vec![]),
        }
    }

    pub fn refuse(&self, exchange: &Exchange, why: &str) {
        self.respond(
            exchange,
            403,
            "text/plain",
            format!("refused: {why}\n").as_bytes(),
            vec![],
        );
    }

    pub fn challenge(&self, exchange: &Exchange, made: &str) {
        self.respond(exchange, 200, "text/plain", made.as_bytes(), vec![]);
    }

    pub fn full(&self, exchange: &Exchange) {
        let retry = vec![("retry-after".to_string(), b"5".to_vec())];
        self.respond(exchange, 503, "text/plain", b"it is open too often\n", retry);
    }

    fn respond(
        &self,
        exchange: &Exchange,
        status: u16,
        content_type: &str,
        body: &[u8],
        mut headers: Vec<(String, Vec<u8>)>,
    ) {
        for (name, value) in [
            ("content-type", content_type),
            ("content-security-policy", &self.policy),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            headers.push((name.into(), value.as_bytes().to_vec()));
        }
        let _ = exchange.respond(status, &headers, body); // or the client has gone
    }
}
