//! What responses say of themselves.

use crate::loop_::netx::http_client::Response;
use crate::loop_::netx::types::Fields;

/// The first value of a field. Names that come from servers are in lower case.
pub fn first<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| &v[..])
}

pub fn has(fields: &Fields, name: &str) -> bool {
    first(fields, name).is_some()
}

/// The directives of `cache-control`.
#[derive(Default)]
struct Control {
    no_store: bool,
    no_cache: bool,
    max_age: Option<u64>,
}

impl Control {
    fn of(fields: &Fields) -> Self {
        let mut control = Control::default();
        for (_, value) in fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("cache-control"))
        {
            for directive in String::from_utf8_lossy(value).split(',') {
                let (name, value) = match directive.split_once('=') {
                    Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
                    None => (directive.trim(), ""),
                };
                match name.to_ascii_lowercase().as_str() {
                    "no-store" => control.no_store = true,
                    "no-cache" => control.no_cache = true,
                    // what is no number is stale
                    "max-age" => control.max_age = Some(value.parse().unwrap_or(0)),
                    _ => {}
                }
            }
        }
        control
    }
}

/// For how many seconds a response is good; `None`: it is not to be kept.
pub fn lifetime(response: &Response) -> Option<u64> {
    let control = Control::of(&response.headers);
    let varies = response
        .headers
        .iter()
        .filter(|(n, _)| n == "vary")
        .any(|(_, v)| !v.eq_ignore_ascii_case(b"accept-encoding"));
    if response.status != 200 || control.no_store || varies || !response.trailers.is_empty() {
        return None;
    }
    let age = first(&response.headers, "age")
        .and_then(|v| std::str::from_utf8(v).ok()?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let good = match control {
        Control { no_cache: true, .. } => 0,
        Control { max_age, .. } => max_age.unwrap_or(0).saturating_sub(age),
    };
    let can_be_asked = has(&response.headers, "etag") || has(&response.headers, "last-modified");
    (good > 0 || can_be_asked).then_some(good)
}
