//! Keeps responses for as long as they say that they are good.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/wit",
        "../../python/loop_kit/capabilities/core/wit",
        "../../python/loop_kit/capabilities/netx/wit",
        "wit",
    ],
    world: "loop:http-cache/http-cache",
    generate_all,
});

mod control;

use std::cell::RefCell;
use std::collections::BTreeMap;

use control::{first, has};
use exports::loop_::http_cache::statistics::{Counts, Guest as Statistics};
use exports::loop_::netx::http_client::{Guest as Client, Request, Response};
use loop_::core::clock;
use loop_::netx::http_client as below;
use loop_::netx::types::{ErrorCode, Fields};
use loop_::provider::settings;
use serde::Deserialize;

/// The config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Config {
    max_bytes: u64,
    max_entries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_bytes: 16 << 20,
            max_entries: 1024,
        }
    }
}

/// A response that is kept.
struct Kept {
    response: below::Response,
    /// Until when it is good, in nanoseconds of the stopwatch.
    until: u64,
    /// When it was used last, by a count.
    used: u64,
    bytes: u64,
}

struct Cache {
    config: Config,
    /// By URL.
    kept: BTreeMap<String, Kept>,
    turn: u64,
    counts: Counts,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::configured());
}

impl Cache {
    fn configured() -> Self {
        let config = serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
            settings::refuse("config", &e.to_string());
            Config::default()
        });
        if settings::grant() != "{}" {
            let problem = "a cache grants what the client below it is granted; leave it out";
            settings::refuse("grant", problem);
        }
        Cache {
            config,
            kept: BTreeMap::new(),
            turn: 0,
            counts: Counts {
                hits: 0,
                revalidated: 0,
                misses: 0,
                bytes: 0,
            },
        }
    }

    fn forget(&mut self, url: &str) {
        if let Some(kept) = self.kept.remove(url) {
            self.counts.bytes -= kept.bytes;
        }
    }

    fn keep(&mut self, url: String, response: &below::Response, now: u64) {
        self.forget(&url);
        // where a redirect leads today it need not lead tomorrow
        let Some(age) = control::lifetime(response).filter(|_| response.url == url) else {
            return;
        };
        let fields: usize = response.headers.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
        let bytes = (url.len() + response.url.len() + response.body.len() + fields) as u64;
        if bytes > self.config.max_bytes || self.config.max_entries == 0 {
            return;
        }
        while self.counts.bytes + bytes > self.config.max_bytes || self.kept.len() >= self.config.max_entries
        {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(url, _)| url.clone()) else {
                break;
            };
            self.forget(&oldest);
        }
        self.turn += 1;
        self.counts.bytes += bytes;
        let kept = Kept {
            response: copy(response),
            until: now.saturating_add(age.saturating_mul(1_000_000_000)),
            used: self.turn,
            bytes,
        };
        self.kept.insert(url, kept);
    }

    /// What answers the URL: a response that is good, or what to ask its server about it.
    fn find(&mut self, url: &str, now: u64) -> Option<Result<below::Response, Fields>> {
        self.turn += 1;
        let kept = self.kept.get_mut(url)?;
        kept.used = self.turn;
        if now < kept.until {
            return Some(Ok(copy(&kept.response)));
        }
        let condition = |asks: &str, of: &str| {
            let value = first(&kept.response.headers, of)?;
            Some((asks.to_string(), value.to_vec()))
        };
        let asks: Fields = [
            condition("if-none-match", "etag"),
            condition("if-modified-since", "last-modified"),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!asks.is_empty()).then_some(Err(asks))
    }

    /// A kept response that its server says is good, with the fields that it says so with.
    fn renew(&mut self, url: &str, told: &below::Response, now: u64) -> Option<below::Response> {
        let mut response = copy(&self.kept.get(url)?.response);
        for (name, _) in &told.headers {
            response
                .headers
                .retain(|(n, _)| n != name || name == "content-length");
        }
        let news = told
            .headers
            .iter()
            .filter(|(n, _)| n != "content-length")
            .cloned();
        response.headers.extend(news);
        self.keep(url.to_string(), &response, now);
        Some(response)
    }
}

fn copy(r: &below::Response) -> below::Response {
    below::Response {
        status: r.status,
        url: r.url.clone(),
        headers: r.headers.clone(),
        body: r.body.clone(),
        trailers: r.trailers.clone(),
    }
}

fn as_ours(r: below::Response) -> Response {
    Response {
        status: r.status,
        url: r.url,
        headers: r.headers,
        body: r.body,
        trailers: r.trailers,
    }
}

/// Whether what is kept may answer the request, and its answer may be kept.
fn is_plain(request: &Request, body: &Option<Vec<u8>>) -> bool {
    const OWN: [&str; 8] = [
        "authorization",
        "cache-control",
        "cookie",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ];
    let unfolded = request
        .options
        .as_ref()
        .is_none_or(|o| o.decompress && o.redirects.is_none() && o.max_body.is_none());
    request.method == "GET"
        && body.as_ref().is_none_or(Vec::is_empty)
        && unfolded
        && !has(&request.headers, "accept-encoding")
        && !OWN.iter().any(|name| has(&request.headers, name))
}

struct Caching;

impl Client for Caching {
    fn fetch(request: Request, body: Option<Vec<u8>>) -> Result<Response, ErrorCode> {
        let url = request.url.split('#').next().unwrap_or_default().to_string();
        let plain = is_plain(&request, &body);
        let mut asked = below::Request {
            method: request.method,
            url: request.url,
            headers: request.headers,
            options: request.options,
        };
        if !plain {
            let safe = matches!(asked.method.as_str(), "GET" | "HEAD" | "OPTIONS");
            let response = below::fetch(&asked, body.as_deref())?;
            CACHE.with_borrow_mut(|cache| {
                cache.counts.misses += 1;
                if !safe {
                    cache.forget(&url);
                }
            });
            return Ok(as_ours(response));
        }
        let mut conditional = false;
        match CACHE.with_borrow_mut(|cache| cache.find(&url, clock::monotonic_now())) {
            Some(Ok(response)) => {
                CACHE.with_borrow_mut(|cache| cache.counts.hits += 1);
                return Ok(as_ours(response));
            }
            Some(Err(conditions)) => {
                conditional = true;
                asked.headers.extend(conditions);
            }
            None => {}
        }
        // the age counts from before the request: what it took to come is a part of it
        let asked_at = clock::monotonic_now();
        let response = below::fetch(&asked, None)?;
        CACHE.with_borrow_mut(|cache| {
            if conditional && response.status == 304 {
                if let Some(renewed) = cache.renew(&url, &response, asked_at) {
                    cache.counts.revalidated += 1;
                    return Ok(as_ours(renewed));
                }
            }
            cache.counts.misses += 1;
            cache.keep(url, &response, asked_at);
            Ok(as_ours(response))
        })
    }
}

impl Statistics for Caching {
    fn read() -> Counts {
        CACHE.with_borrow(|cache| cache.counts)
    }
}

export!(Caching);
