//! What a provider is told of calls and links.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loop_wire::codec::{Cursor, Decode, Encode, Invalid};
use loop_wire::session::Meta;
use loop_wire::{Code, Failure};
use serde_json::Value;

/// A link: one component's import of an interface, with what it may touch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// 0 where calls are served without one.
    pub number: u32,
    /// `component/interface`, for messages.
    pub name: String,
    /// As the manifest has it; none where it grants nothing in particular.
    pub grant: Option<Value>,
    pub config: Option<Value>,
}

impl Link {
    /// Errors with `bad-value` where grant or config are no JSON.
    pub(crate) fn read(link: loop_wire::Link) -> Result<Self, Failure> {
        let json = |path: &str, text: &str| match text {
            "" => Ok(None),
            text => serde_json::from_str(text).map(Some).map_err(|e| {
                let failure = Failure::new(Code::BadValue, format!("the link's {path} is no JSON: {e}"));
                failure.with("path", path).with("expected", "JSON")
            }),
        };
        Ok(Link {
            grant: json("grant", &link.grant)?,
            config: json("config", &link.config)?,
            number: link.number,
            name: link.name,
        })
    }

    /// Why a provider refuses to serve this link.
    pub fn refuse(&self, why: impl Into<String>) -> Failure {
        Failure::new(Code::NotGranted, why).with("link", &self.name)
    }
}

/// A call, beside its arguments. The default is what tests give to functions that they call themselves.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub link: Arc<Link>,
    /// When it is late: what answers it is dropped then.
    pub deadline: Option<Instant>,
    /// W3C trace context: trace id, span id, flags.
    pub trace: Option<[u8; 25]>,
    /// Who the caller says it is; empty: nobody.
    pub identity: Arc<str>,
    /// Empty where the caller gave none.
    pub idempotency_key: Arc<[u8]>,
}

impl Call {
    pub(crate) fn of(link: Arc<Link>, meta: Meta, at: Instant) -> Self {
        Call {
            link,
            deadline: meta.deadline.map(|left| at + left),
            trace: meta.trace,
            identity: meta.identity.unwrap_or_default(),
            idempotency_key: meta.key.into(),
        }
    }

    /// Time left until the deadline, if there is one.
    pub fn left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }
}

/// WIT's `error-context`: its debug message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorContext(pub String);

impl Encode for ErrorContext {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for ErrorContext {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        String::decode(from).map(ErrorContext)
    }
}
