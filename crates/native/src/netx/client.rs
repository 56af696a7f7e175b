//! `http-client` and `http-streaming`: requests, redirects, and what comes back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version, response};
use loop_engine::{Import, Neutral, Num, Result, Value};
use tokio::time::{Instant, timeout_at};

use super::body::{Arriving, Outgoing, Patience};
use super::code::{ErrorCode, words};
use super::egress::Target;
use super::fields;
use super::inflate::{self, Inflate};
use super::pool::{Lease, Pool};
use super::rule::Scheme;
use super::{answer, within};
use crate::value::{args, bytes_of, items, optional, settled, string};

/// `request-options`, with the grant's word for what is not said.
#[derive(Clone)]
pub(super) struct Options {
    pub connect: Duration,
    pub first_byte: Duration,
    pub between: Duration,
    pub until: Option<Instant>,
    pub redirects: u32,
    pub decompress: bool,
    pub max_body: u64,
}

impl Options {
    pub fn parse(v: Value, pool: &Pool) -> Result<Self> {
        let limits = &pool.limits;
        let mut all = Options {
            connect: limits.connect_timeout,
            first_byte: limits.first_byte_timeout,
            between: limits.between_bytes_timeout,
            until: None,
            redirects: limits.max_redirects,
            decompress: true,
            max_body: limits.max_body,
        };
        let total = limits.total_timeout;
        let mut until = total;
        if let Some(record) = optional(v)? {
            let [connect, first, between, whole, redirects, decompress, max_body] = args(items(record)?)?;
            // a component may ask for less than the grant gives
            let less = |v: Value, most: Duration| -> Result<Duration> {
                Ok(optional(v)?
                    .map(|v| v.as_u64())
                    .transpose()?
                    .map_or(most, |ns| most.min(Duration::from_nanos(ns))))
            };
            all.connect = less(connect, all.connect)?;
            all.first_byte = less(first, all.first_byte)?;
            all.between = less(between, all.between)?;
            if let Some(v) = optional(whole)? {
                let asked = Duration::from_nanos(v.as_u64()?);
                until = Some(total.map_or(asked, |t| t.min(asked)));
            }
            if let Some(v) = optional(redirects)? {
                all.redirects = all.redirects.min(v.as_u64()? as u32);
            }
            all.decompress = matches!(decompress, Value::Bool(true));
            if let Some(v) = optional(max_body)? {
                all.max_body = all.max_body.min(v.as_u64()?);
            }
        }
        all.until = until.map(|limit| Instant::now() + limit);
        Ok(all)
    }

    /// The earlier of the end of the whole request, and of a step that begins now.
    pub fn step(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        self.until.map_or(end, |u| u.min(end))
    }
}

/// A request that a guest makes.
pub(super) struct Asked {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Outgoing,
    pub options: Options,
    /// Nothing but HTTP/2 will do.
    pub only_http2: bool,
    /// Body and response may go both ways at once.
    pub streams: bool,
}

pub(super) struct Answered {
    pub head: response::Parts,
    pub body: Arriving,
    pub target: Target,
}

/// Method, URL and fields of the record `request`.
fn head(record: Value, max: usize) -> Result<Result<(Method, Target, HeaderMap, Value), ErrorCode>> {
    let [method, url, headers, options] = args(items(record)?)?;
    let Ok(method) = Method::from_bytes(method.as_str()?.as_bytes()) else {
        return Ok(Err(ErrorCode::RequestMethodInvalid));
    };
    // a tunnel, and an echo of what this side adds: as in the Fetch standard
    if method == Method::CONNECT || method == Method::TRACE || method.as_str().len() > 32 {
        return Ok(Err(ErrorCode::RequestMethodInvalid));
    }
    let target = match Target::parse(&string(url)?) {
        Ok(target) if matches!(target.scheme, Scheme::Http | Scheme::Https) => target,
        Ok(_) => {
            return Ok(Err(ErrorCode::RequestUriInvalid(words(
                "the scheme must be http or https; `websocket` is for the others",
            ))));
        }
        Err(code) => return Ok(Err(code)),
    };
    Ok(fields::parse(headers, max)?.map(|headers| (method, target, headers, options)))
}

pub(super) fn fetch(pool: Arc<Pool>) -> Import<Neutral> {
    Import::later(move |a| {
        let pool = pool.clone();
        async move {
            let [request, body] = args(a)?;
            let (method, target, headers, options) = match head(request, pool.limits.max_header)? {
                Ok(head) => head,
                Err(code) => return answer(Err(code)),
            };
            let body = match optional(body)? {
                Some(Value::Nums(_, raw)) => raw,
                _ => vec![],
            };
            if body.len() as u64 > pool.limits.max_body {
                return answer(Err(ErrorCode::RequestBodySize(Some(pool.limits.max_body))));
            }
            let asked = Asked {
                method,
                target,
                headers,
                options: Options::parse(options, &pool)?,
                body: Outgoing::whole(body),
                only_http2: false,
                streams: false,
            };
            let max = asked.options.max_body;
            let io = pool.io.clone();
            let done = async move {
                let mut answered = send(&pool, asked).await?;
                let body = answered.body.collect(max).await?;
                Ok(Value::Fields(vec![
                    Value::Num(Num::U16, answered.head.status.as_u16().into()),
                    Value::string(answered.target.url.as_str()),
                    fields::value(&answered.head.headers),
                    Value::bytes(body),
                    fields::value(answered.body.trailers()),
                ]))
            };
            answer(within(&io, done).await)
        }
    })
}

pub(super) fn send_streaming(pool: Arc<Pool>) -> Import<Neutral> {
    Import::later(move |a| {
        let pool = pool.clone();
        async move {
            let [request, body, trailers] = args(a)?;
            let (method, target, mut headers, options) = match head(request, pool.limits.max_header)? {
                Ok(head) => head,
                Err(code) => return answer(Err(code)),
            };
            let trailers = optional(trailers)?.map(settled).transpose()?;
            let declared = match fields::content_length(&headers) {
                Ok(n) => n,
                Err(e) => return answer(Err(ErrorCode::RequestHeaderInvalid(words(e)))),
            };
            let body = match optional(body)? {
                Some(stream) => {
                    headers.remove(header::CONTENT_LENGTH);
                    Outgoing::guest(bytes_of(stream)?, trailers, declared, pool.limits.max_header)
                }
                None => Outgoing::Whole(None),
            };
            let asked = Asked {
                method,
                target,
                headers,
                options: Options::parse(options, &pool)?,
                body,
                only_http2: false,
                streams: true,
            };
            let io = pool.io.clone();
            let sent = within(&io, async move { send(&pool, asked).await }).await;
            answer(sent.map(|answered| {
                let head = Value::Fields(vec![
                    Value::Num(Num::U16, answered.head.status.as_u16().into()),
                    Value::string(answered.target.url.as_str()),
                    fields::value(&answered.head.headers),
                ]);
                let (bytes, end) = answered.body.into_values();
                Value::Fields(vec![head, bytes, end])
            }))
        }
    })
}

/// Sends a request and follows where its answer leads.
pub(super) async fn send(pool: &Arc<Pool>, mut asked: Asked) -> Result<Answered, ErrorCode> {
    let length =
        fields::content_length(&asked.headers).map_err(|e| ErrorCode::RequestHeaderInvalid(words(e)))?;
    if let (Some(stated), Outgoing::Whole(bytes)) = (length, &asked.body)
        && stated != bytes.as_ref().map_or(0, |b| b.len() as u64)
    {
        return Err(ErrorCode::RequestHeaderInvalid(words(
            "content-length: is not the body's; leave it out",
        )));
    }
    let decompress = asked.options.decompress
        && !asked.headers.contains_key(header::ACCEPT_ENCODING)
        && !asked.headers.contains_key(header::RANGE);
    if decompress {
        asked.headers.insert(header::ACCEPT_ENCODING, inflate::ACCEPT);
    }
    let mut hops = 0;
    loop {
        pool.egress.permit(&asked.target)?;
        let again = asked.body.again();
        let mut answered = once(pool, &mut asked, decompress).await?;
        let Some(next) = next_hop(&answered, asked.options.redirects)? else {
            return Ok(answered);
        };
        let status = answered.head.status;
        let rewritten = status == StatusCode::SEE_OTHER && asked.method != Method::HEAD
            || asked.method == Method::POST
                && (status == StatusCode::FOUND || status == StatusCode::MOVED_PERMANENTLY);
        if rewritten {
            asked.method = Method::GET;
            asked.body = Outgoing::Whole(None);
            for name in [
                header::CONTENT_LENGTH,
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LOCATION,
            ] {
                asked.headers.remove(name);
            }
        } else if let Some(body) = again {
            asked.body = body;
        } else {
            // the bytes have been streamed once; who has them may send them again
            return Ok(answered);
        }
        if hops >= asked.options.redirects {
            return Err(ErrorCode::LoopDetected);
        }
        hops += 1;
        if !next.is_same_origin(&asked.target) {
            for name in [header::AUTHORIZATION, header::COOKIE] {
                asked.headers.remove(name);
            }
        }
        asked.target = next;
        let _ = answered.body.collect(DRAIN).await;
    }
}

/// Bytes of a redirect's body that are read, so that its connection can be used again.
const DRAIN: u64 = 16 << 10;

/// Where a redirect leads; `None` where it is none, or not to be followed.
fn next_hop(answered: &Answered, follow: u32) -> Result<Option<Target>, ErrorCode> {
    let redirects = matches!(answered.head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = answered.head.headers.get(header::LOCATION) else {
        return Ok(None);
    };
    if !redirects || follow == 0 {
        return Ok(None);
    }
    let bad = || ErrorCode::ProtocolError(words("the redirect's location is no URL"));
    let location = location.to_str().map_err(|_| bad())?;
    let joined = answered.target.url.join(location).map_err(|_| bad())?;
    // as strictly as what the component itself asks for
    let next = if location.contains("://") || location.starts_with("//") {
        let absolute = if location.starts_with("//") {
            format!("{}:{location}", answered.target.url.scheme())
        } else {
            location.to_string()
        };
        Target::parse(&absolute)?
    } else {
        Target::of(joined)?
    };
    if !matches!(next.scheme, Scheme::Http | Scheme::Https) {
        return Err(bad());
    }
    Ok(Some(next))
}

async fn once(pool: &Arc<Pool>, asked: &mut Asked, decompress: bool) -> Result<Answered, ErrorCode> {
    let options = asked.options.clone();
    let mut body = std::mem::replace(&mut asked.body, Outgoing::Whole(None));
    let mut fresh = false;
    loop {
        let limit = options
            .step(options.connect)
            .saturating_duration_since(Instant::now());
        let mut lease = pool.lease(&asked.target, asked.only_http2, fresh, limit).await?;
        if asked.streams {
            lease.run_apart();
        }
        let request = build(asked, body, &lease)?;
        let sent = timeout_at(options.step(options.first_byte), lease.send(request))
            .await
            .map_err(|_| ErrorCode::ResponseTimeout)?;
        let response = match sent {
            Ok(response) => response,
            Err(mut e) => match e.take_message() {
                // the connection had ended before anything was sent
                Some(request) if lease.reused => {
                    body = request.into_body();
                    fresh = true;
                    continue;
                }
                _ => return Err(ErrorCode::of_hyper(e.error())),
            },
        };
        return receive(pool, asked, response, lease, decompress);
    }
}

fn receive(
    pool: &Arc<Pool>,
    asked: &Asked,
    response: http::Response<hyper::body::Incoming>,
    lease: Lease,
    decompress: bool,
) -> Result<Answered, ErrorCode> {
    let (mut head, body) = response.into_parts();
    let max = pool.limits.max_header;
    if fields::size(&head.headers) > max || head.headers.len() > pool.limits.max_fields {
        return Err(ErrorCode::ResponseHeaderSectionSize(u32::try_from(max).ok()));
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ErrorCode::UpgradeFailed(words(
            "the server switched protocols unasked",
        )));
    }
    // dropping the lease ends the connection: nothing that follows on it can be trusted
    if let Some(what) = fields::ambiguous(&head.headers) {
        return Err(ErrorCode::ProtocolError(words(what)));
    }
    if let Some(coding) = head.headers.get(header::TRANSFER_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        let name = coding.to_str().ok().map(str::to_string);
        return Err(ErrorCode::ResponseTransferCoding(name));
    }
    let mut coding = None;
    if decompress && let Some(name) = head.headers.get(header::CONTENT_ENCODING) {
        let name = name.to_str().unwrap_or_default().to_ascii_lowercase();
        coding = Inflate::new(&name);
        if coding.is_none() && name != "identity" {
            return Err(ErrorCode::ResponseContentCoding(Some(name)));
        }
        if coding.is_some() && (asked.method == Method::HEAD || no_body(head.status)) {
            coding = None;
        } else if coding.is_some() {
            // they were said of the compressed bytes
            head.headers.remove(header::CONTENT_ENCODING);
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }
    let patience = Patience {
        between: asked.options.between,
        until: asked.options.until,
        decoded: pool.limits.max_decoded,
        fields: max,
    };
    Ok(Answered {
        head,
        body: Arriving::new(body, coding, patience, pool.io.clone()).on(lease),
        target: asked.target.clone(),
    })
}

fn no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn build(asked: &Asked, body: Outgoing, lease: &Lease) -> Result<Request<Outgoing>, ErrorCode> {
    let target = &asked.target;
    let uri = if lease.is_http2() || lease.absolute {
        format!(
            "{}://{}{}",
            target.scheme.name(),
            target.authority(),
            target.path()
        )
    } else {
        target.path().to_string()
    };
    let invalid = |e: http::Error| ErrorCode::RequestUriInvalid(words(e.to_string()));
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(uri)
        .body(body)
        .map_err(invalid)?;
    *request.headers_mut() = asked.headers.clone();
    if lease.is_http2() {
        *request.version_mut() = Version::HTTP_2;
    } else {
        let host = HeaderValue::try_from(target.authority()).map_err(|e| invalid(e.into()))?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}
