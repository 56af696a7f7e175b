//! Header fields between guests and `http`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use loop_engine::{Result, Value};

use super::code::{ErrorCode, words};
use crate::value::{items, string};

/// Fields that belong to the connection, or that say where a message goes or ends: they are this side's.
const OURS: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Bytes that a field counts for, as HTTP/2 counts them.
const EACH: usize = 32;

/// The fields of a message that a guest sends, of at most `max` bytes. Errors within: what the guest is told.
pub(super) fn parse(fields: Value, max: usize) -> Result<Result<HeaderMap, ErrorCode>> {
    let mut map = HeaderMap::new();
    let mut size = 0;
    for field in items(fields)? {
        let mut pair = items(field)?.into_iter();
        let (Some(name), Some(value)) = (pair.next(), pair.next()) else {
            return Err(loop_engine::Error::msg("a field is a name and a value"));
        };
        let (name, value) = (string(name)?, value.as_bytes()?);
        size += name.len() + value.len() + EACH;
        if size > max {
            return Ok(Err(ErrorCode::RequestHeaderSectionSize(u32::try_from(max).ok())));
        }
        match field_of(&name, value) {
            Ok((name, value)) => map.append(name, value),
            Err(e) => return Ok(Err(e)),
        };
    }
    Ok(Ok(map))
}

fn field_of(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), ErrorCode> {
    let bad = |what: &str| ErrorCode::RequestHeaderInvalid(words(format!("{}: {what}", name.escape_debug())));
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("is no field name"))?;
    if OURS.contains(&name.as_str()) {
        return Err(bad("is set by the connection itself; leave it out"));
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| bad("its value holds a control character"))?;
    if value.as_bytes().trim_ascii() != value.as_bytes() {
        return Err(bad("its value begins or ends with a blank"));
    }
    Ok((name, value))
}

/// How many bytes a head's fields are.
pub(super) fn size(map: &HeaderMap) -> usize {
    map.iter().map(|(n, v)| n.as_str().len() + v.len() + EACH).sum()
}

pub(super) fn value(map: &HeaderMap) -> Value {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        Value::Fields(vec![
            Value::string(name.as_str()),
            Value::bytes(value.as_bytes().to_vec()),
        ])
    };
    Value::List(map.iter().map(field).collect())
}

/// The length that a message's own `content-length` states. Errors on what is none, and on several that differ.
pub(super) fn content_length(map: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut length = None;
    for value in map.get_all(header::CONTENT_LENGTH) {
        let bytes = value.as_bytes();
        let number = (!bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit))
            .then(|| value.to_str().ok()?.parse::<u64>().ok())
            .flatten()
            .ok_or("content-length is no number")?;
        if length.is_some_and(|l| l != number) {
            return Err("several content-lengths differ");
        }
        length = Some(number);
    }
    Ok(length)
}

/// What about a received head could be read in two ways: how long its body is.
pub(super) fn ambiguous(map: &HeaderMap) -> Option<&'static str> {
    let length = match content_length(map) {
        Ok(length) => length,
        Err(e) => return Some(e),
    };
    let coded = map.contains_key(header::TRANSFER_ENCODING);
    (coded && length.is_some()).then_some("both transfer-encoding and content-length")
}
