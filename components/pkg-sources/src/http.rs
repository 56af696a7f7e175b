//! The config, and questions to the servers that it names; what they answered is not asked again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;

use crate::exports::loop_::pkg::resolver::Error;
use crate::loop_::netx::http_client::{self, Request};
use crate::loop_::netx::types::ErrorCode;
use crate::loop_::provider::settings;

/// Bytes of answers that are kept.
const KEPT: usize = 64 << 20;

/// The config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `npm`, `pypi`, `crates`, `go`, `github`, `oci` or `url`.
    pub kind: String,
    /// Where the source is; of `url`, the template of a file; of `oci` empty.
    pub base: String,
    /// The value of `authorization` for what lies at `base`.
    #[serde(default)]
    authorization: Option<String>,
    /// Of `oci`: the tags of the repository.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Of `go`: the name of the database of checksums.
    #[serde(default)]
    pub sums: Option<String>,
    /// Of `url`: a list of versions, in JSON or lines.
    #[serde(default)]
    pub versions: Option<String>,
    /// Of `url`: the template of a file with the checksum.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Of `url`: what `{os}`, `{arch}` and `{libc}` are for this source.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
    /// Of `url`: folders that are left off.
    #[serde(default)]
    pub strip: Option<u32>,
    /// Of `url`, `github` and `oci`: the programs; those that may be run, if absent.
    #[serde(default)]
    pub bins: Option<Vec<String>>,
}

impl Config {
    /// The base without a slash at its end.
    pub fn base(&self) -> &str {
        self.base.trim_end_matches('/')
    }

    /// The login for a URL: none but where the base is.
    pub fn login(&self, url: &str) -> Vec<(String, String)> {
        let own = origin(url) == origin(&self.base);
        let value = self.authorization.iter().filter(|_| own);
        value
            .map(|value| ("authorization".into(), value.clone()))
            .collect()
    }
}

/// Scheme, host and port of a URL.
pub fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

type Kept = BTreeMap<String, Result<Rc<Vec<u8>>, Error>>;

thread_local! {
    static CONFIG: Config = serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
        settings::refuse("config", &e.to_string());
        unreachable!()
    });
    static ANSWERS: RefCell<(Kept, usize)> = RefCell::default();
}

/// What `f` makes of the config.
pub fn config<T>(f: impl FnOnce(&Config) -> T) -> T {
    CONFIG.with(f)
}

/// What a server answers; `what` is what is asked for, in words.
pub fn get(config: &Config, url: &str, accept: &str, what: &str) -> Result<Rc<Vec<u8>>, Error> {
    let key = format!("{accept} {url}");
    if let Some(kept) = ANSWERS.with_borrow(|(kept, _)| kept.get(&key).cloned()) {
        return kept;
    }
    let found = ask(config, url, accept, what).map(Rc::new);
    if !matches!(found, Err(Error::Unreachable(_))) {
        ANSWERS.with_borrow_mut(|(kept, bytes)| {
            *bytes += key.len() + found.as_ref().map_or(0, |body| body.len());
            if *bytes > KEPT {
                kept.clear();
                *bytes = 0;
            }
            kept.insert(key, found.clone());
        });
    }
    found
}

/// The same in JSON.
pub fn json(config: &Config, url: &str, accept: &str, what: &str) -> Result<Value, Error> {
    let body = get(config, url, accept, what)?;
    serde_json::from_slice(&body).map_err(|e| Error::Protocol(format!("{url} is no JSON: {e}")))
}

fn ask(config: &Config, url: &str, accept: &str, what: &str) -> Result<Vec<u8>, Error> {
    let mut headers = vec![("user-agent".to_string(), b"loop-kit".to_vec())];
    headers.push(("accept".into(), accept.into()));
    headers.extend(
        config
            .login(url)
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes())),
    );
    let request = Request {
        method: "GET".into(),
        url: url.into(),
        headers,
        options: None,
    };
    let response =
        http_client::fetch(&request, None).map_err(|code| Error::Unreachable(words(url, &code)))?;
    match response.status {
        200 => Ok(response.body),
        404 | 410 => Err(Error::NotFound(format!("there is no {what} at {}", origin(url)))),
        401 | 403 => Err(Error::Denied(format!(
            "{} answers {} to {what}",
            origin(url),
            response.status
        ))),
        status => Err(Error::Unreachable(format!(
            "{} answers {status} to {what}",
            origin(url)
        ))),
    }
}

fn words(url: &str, code: &ErrorCode) -> String {
    let said = format!("{code:?}");
    let case = said.rsplit("::").next().unwrap_or_default();
    format!("{} cannot be asked: {case}", origin(url))
}
