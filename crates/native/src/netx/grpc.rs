//! `grpc` and `grpc-streaming`: calls over HTTP/2, their messages as bytes.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use data_encoding::{BASE64_NOPAD, Specification};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use loop_engine::{Chunk, Import, Neutral, Result, Source, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::{Arriving, Outgoing};
use super::client::{Answered, Asked, Options, send};
use super::code::{ErrorCode, words};
use super::egress::Target;
use super::pool::Pool;
use super::rule::Scheme;
use super::{fields, within};
use crate::value::{ValueReader, args, items, string, values_of};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

const UNKNOWN: usize = 2;
const DEADLINE: usize = 4;
const EXHAUSTED: usize = 8;
const UNIMPLEMENTED: usize = 12;
const INTERNAL: usize = 13;
const UNAVAILABLE: usize = 14;

/// How a call went that did not go well.
enum Failed {
    Status(usize, String, Box<HeaderMap>),
    Transport(ErrorCode),
}

impl From<ErrorCode> for Failed {
    fn from(code: ErrorCode) -> Self {
        Failed::Transport(code)
    }
}

impl From<Failed> for Value {
    fn from(failed: Failed) -> Value {
        match failed {
            Failed::Status(code, message, metadata) => {
                let status = vec![
                    Value::Case(code, None),
                    Value::String(message),
                    metadata_of(&metadata),
                ];
                Value::Case(0, Some(Box::new(Value::Fields(status))))
            }
            Failed::Transport(code) => Value::Case(1, Some(Box::new(code.into()))),
        }
    }
}

fn status(code: usize, message: &str) -> Failed {
    Failed::Status(code, message.into(), Box::default())
}

/// The messages that a guest streams, each with its prefix.
pub(super) struct Messages {
    messages: Option<ValueReader>,
    max: usize,
}

impl Messages {
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ErrorCode>>> {
        let Some(messages) = &mut self.messages else {
            return Poll::Ready(None);
        };
        match ready!(messages.poll_next(cx)) {
            Some(Value::Nums(_, raw)) if raw.len() <= self.max => Poll::Ready(Some(Ok(framed(&raw)))),
            Some(_) => Poll::Ready(Some(Err(ErrorCode::RequestBodySize(Some(self.max as u64))))),
            None => {
                self.messages = None;
                Poll::Ready(None)
            }
        }
    }

    pub fn is_over(&self) -> bool {
        self.messages.is_none()
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut all = BytesMut::with_capacity(PREFIX + message.len());
    all.put_u8(0);
    all.put_u32(message.len() as u32);
    all.put_slice(message);
    all.freeze()
}

/// The messages of a response.
struct Answers {
    body: Arriving,
    rest: BytesMut,
    max: usize,
}

impl Answers {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, Failed>>> {
        loop {
            if self.rest.len() >= PREFIX {
                let length = (&self.rest[1..]).get_u32() as usize;
                if self.rest[0] != 0 {
                    return Poll::Ready(Some(Err(status(INTERNAL, "the message is compressed, unasked"))));
                }
                if length > self.max {
                    let words = format!(
                        "the message has {length} bytes; the grant's max-message is {}",
                        self.max
                    );
                    return Poll::Ready(Some(Err(status(EXHAUSTED, &words))));
                }
                if self.rest.len() >= PREFIX + length {
                    self.rest.advance(PREFIX);
                    return Poll::Ready(Some(Ok(self.rest.split_to(length).into())));
                }
            }
            match ready!(self.body.poll_piece(cx)) {
                Some(Ok(piece)) => self.rest.extend_from_slice(&piece),
                Some(Err(code)) => return Poll::Ready(Some(Err(code.into()))),
                None if self.rest.is_empty() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(status(INTERNAL, "the last message is cut short")))),
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Vec<u8>, Failed>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// How the call went: what its trailers say, once there are no more messages.
    fn end(&self) -> Result<HeaderMap, Failed> {
        verdict(self.body.trailers().clone())
            .unwrap_or_else(|| Err(status(UNKNOWN, "the call ended without a status")))
    }
}

/// The status that fields tell, which are left without it; `None` where they tell none.
fn verdict(mut fields: HeaderMap) -> Option<Result<HeaderMap, Failed>> {
    let code = fields.remove("grpc-status")?;
    let message = fields.remove("grpc-message");
    let code = code
        .to_str()
        .ok()
        .and_then(|c| c.parse().ok())
        .filter(|c| *c <= 16)
        .unwrap_or(UNKNOWN);
    if code == 0 {
        return Some(Ok(fields));
    }
    let message = message.map(|m| unescaped(m.as_bytes())).unwrap_or_default();
    Some(Err(Failed::Status(code, message, Box::new(fields))))
}

/// Text in percent form.
fn unescaped(bytes: &[u8]) -> String {
    let mut out = vec![];
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        let hex = |b: u8| (b as char).to_digit(16);
        match (first, more) {
            (b'%', [a, b, after @ ..]) if hex(*a).is_some() && hex(*b).is_some() => {
                out.push((hex(*a).unwrap_or(0) << 4 | hex(*b).unwrap_or(0)) as u8);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Metadata that came, its `-bin` values as the bytes that they stand for.
fn metadata_of(map: &HeaderMap) -> Value {
    let lenient = {
        // padded or not
        let mut spec: Specification = BASE64_NOPAD.specification();
        spec.ignore.push('=');
        spec.encoding().unwrap_or(BASE64_NOPAD)
    };
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        let raw = value.as_bytes();
        let bytes = match name.as_str().ends_with("-bin") {
            true => lenient.decode(raw).unwrap_or_else(|_| raw.to_vec()),
            false => raw.to_vec(),
        };
        Value::Fields(vec![Value::string(name.as_str()), Value::bytes(bytes)])
    };
    Value::List(map.iter().map(field).collect())
}

/// The fields of a call: the guest's metadata, `-bin` values in base64, and gRPC's own.
fn headers(metadata: Value, max: usize) -> Result<Result<HeaderMap, ErrorCode>> {
    let mut pairs = vec![];
    for field in items(metadata)? {
        let [name, value] = args(items(field)?)?;
        let name = string(name)?;
        let value = match (name.to_ascii_lowercase().ends_with("-bin"), value) {
            (true, Value::Nums(_, raw)) => Value::bytes(BASE64_NOPAD.encode(&raw).into_bytes()),
            (_, value) => value,
        };
        pairs.push(Value::Fields(vec![Value::String(name), value]));
    }
    Ok(fields::parse(Value::List(pairs), max)?.and_then(|mut map| {
        let own = |n: &&HeaderName| n.as_str().starts_with("grpc-") || **n == header::CONTENT_TYPE;
        if let Some(name) = map.keys().find(own) {
            return Err(ErrorCode::RequestHeaderInvalid(words(format!(
                "{name}: is the protocol's own; leave it out"
            ))));
        }
        map.remove(header::CONTENT_LENGTH);
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        map.insert(header::TE, HeaderValue::from_static("trailers"));
        Ok(map)
    }))
}

/// The request that the record `call` stands for.
fn asked(call: Value, body: Outgoing, pool: &Pool) -> Result<Result<Asked, ErrorCode>> {
    let [server, method, metadata, options] = args(items(call)?)?;
    let (server, method) = (string(server)?, string(method)?);
    let mut options = Options::parse(options, pool)?;
    options.redirects = 0;
    options.decompress = false;
    let mut headers = match headers(metadata, pool.limits.max_header)? {
        Ok(headers) => headers,
        Err(code) => return Ok(Err(code)),
    };
    let target = || {
        let bad = |what: &str| ErrorCode::RequestUriInvalid(words(what));
        let target = Target::parse(&server)?;
        if target.path() != "/" || !matches!(target.scheme, Scheme::Http | Scheme::Https) {
            return Err(bad("the server is a URL of http or https without a path"));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let parts: Vec<_> = method.split('/').collect();
        match parts[..] {
            ["", service, name]
                if !service.is_empty()
                    && !name.is_empty()
                    && method.chars().all(|c| c == '/' || named(c)) => {}
            _ => return Err(bad("the method is /package.Service/Method")),
        }
        Target::parse(&format!("{}{method}", server.trim_end_matches('/')))
    };
    let target = match target() {
        Ok(target) => target,
        Err(code) => return Ok(Err(code)),
    };
    if let Some(until) = options.until {
        let left = until
            .saturating_duration_since(Instant::now())
            .as_millis()
            .clamp(1, 99_999_999);
        if let Ok(value) = HeaderValue::try_from(format!("{left}m")) {
            headers.insert("grpc-timeout", value);
        }
    }
    Ok(Ok(Asked {
        method: Method::POST,
        target,
        headers,
        body,
        options,
        only_http2: true,
        streams: true,
    }))
}

/// Checks that it is gRPC that was answered, and, where nothing but a status was, that.
fn begun(answered: Answered, max: usize) -> Result<(HeaderMap, Answers), Failed> {
    let Answered { mut head, body, .. } = answered;
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if head.status != StatusCode::OK || !kind.is_some_and(|k| k.starts_with(b"application/grpc")) {
        let code = match head.status.as_u16() {
            400 => INTERNAL,
            401 => 16,
            403 => 7,
            404 => UNIMPLEMENTED,
            429 | 502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        };
        return Err(status(
            code,
            &format!("the server answered HTTP {}, not gRPC", head.status),
        ));
    }
    if head.headers.contains_key("grpc-status")
        && let Some(Err(failed)) = verdict(std::mem::take(&mut head.headers))
    {
        return Err(failed);
    }
    let answers = Answers {
        body,
        rest: BytesMut::new(),
        max,
    };
    Ok((head.headers, answers))
}

/// A call that took too long tells so as a server would.
fn late(failed: Failed) -> Failed {
    match failed {
        Failed::Transport(ErrorCode::ResponseTimeout | ErrorCode::ConnectionReadTimeout) => {
            status(DEADLINE, "the call took too long")
        }
        other => other,
    }
}

fn told(result: Result<Value, Failed>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(Some(v)),
        Err(failed) => Value::err(Some(late(failed).into())),
    }))
}

async fn one(pool: Arc<Pool>, asked: Asked, max: usize) -> Result<Value, Failed> {
    let (metadata, mut answers) = begun(send(&pool, asked).await?, max)?;
    let first = match answers.next().await {
        Some(first) => Some(first?),
        None => None,
    };
    if let Some(second) = answers.next().await {
        second?;
        return Err(status(INTERNAL, "more than one message was answered"));
    }
    let trailers = answers.end()?;
    let message = first.ok_or_else(|| status(INTERNAL, "no message was answered"))?;
    Ok(Value::Fields(vec![
        Value::bytes(message),
        metadata_of(&metadata),
        metadata_of(&trailers),
    ]))
}

pub(super) fn functions(pool: &Arc<Pool>) -> Vec<(&'static str, Import<Neutral>)> {
    let max = pool.limits.max_message;
    let unary = pool.clone();
    let streaming = pool.clone();
    vec![
        (
            "grpc#unary",
            Import::later(move |a| {
                let pool = unary.clone();
                async move {
                    let [call, message] = args(a)?;
                    let message = message.as_bytes()?;
                    if message.len() > max {
                        return told(Err(ErrorCode::RequestBodySize(Some(max as u64)).into()));
                    }
                    let asked = match asked(call, Outgoing::whole(framed(message)), &pool)? {
                        Ok(asked) => asked,
                        Err(code) => return told(Err(code.into())),
                    };
                    let io = pool.io.clone();
                    told(within(&io, one(pool, asked, max)).await)
                }
            }),
        ),
        (
            "grpc-streaming#open",
            Import::later(move |a| {
                let pool = streaming.clone();
                async move {
                    let [call, messages] = args(a)?;
                    let messages = Messages {
                        messages: Some(values_of(messages)?),
                        max,
                    };
                    let asked = match asked(call, Outgoing::Messages(messages), &pool)? {
                        Ok(asked) => asked,
                        Err(code) => return told(Err(code.into())),
                    };
                    let io = pool.io.clone();
                    let begun = within(&io, async move { begun(send(&pool, asked).await?, max) });
                    told(begun.await.map(|(metadata, answers)| {
                        let (stream, end) = streamed(answers);
                        Value::Fields(vec![metadata_of(&metadata), stream, end])
                    }))
                }
            }),
        ),
    ]
}

/// The stream of the answers, and how the call went.
fn streamed(answers: Answers) -> (Value, Value) {
    let (ended, end) = oneshot::channel();
    let stream = Streamed {
        answers,
        ended: Some(ended),
    };
    let end = async move {
        match end.await {
            Ok(Ok(trailers)) => Value::ok(Some(metadata_of(&trailers))),
            Ok(Err(failed)) => Value::err(Some(late(failed).into())),
            // the stream was dropped before its end
            Err(_) => Value::err(Some(status(1, "the answers were not read to their end").into())),
        }
    };
    (crate::value::stream(stream), crate::value::future(end))
}

struct Streamed {
    answers: Answers,
    ended: Option<oneshot::Sender<Result<HeaderMap, Failed>>>,
}

impl Source<Neutral> for Streamed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        if self.ended.is_none() {
            return Poll::Ready(Ok(None));
        }
        let end = match ready!(self.answers.poll_next(cx)) {
            Some(Ok(message)) => return Poll::Ready(Ok(Some(Chunk::Values(vec![Value::bytes(message)])))),
            Some(Err(failed)) => Err(failed),
            None => self.answers.end(),
        };
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(end);
        }
        Poll::Ready(Ok(None))
    }
}
