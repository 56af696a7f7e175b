//! How a call or a session fails: one record, the same in every language.

use std::fmt;

use crate::codec::{Cursor, Decode, Encode, Invalid, put_unsigned};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Provider,
    NotGranted,
    NoSuchInterface,
    NoSuchFunction,
    VersionMismatch,
    BadValue,
    BadHandle,
    DeadlineExceeded,
    Cancelled,
    ProviderGone,
    Overloaded,
    Protocol,
    GuestTrap,
    Unauthenticated,
}

const CODES: [(Code, &str); 14] = [
    (Code::Provider, "provider"),
    (Code::NotGranted, "not-granted"),
    (Code::NoSuchInterface, "no-such-interface"),
    (Code::NoSuchFunction, "no-such-function"),
    (Code::VersionMismatch, "version-mismatch"),
    (Code::BadValue, "bad-value"),
    (Code::BadHandle, "bad-handle"),
    (Code::DeadlineExceeded, "deadline-exceeded"),
    (Code::Cancelled, "cancelled"),
    (Code::ProviderGone, "provider-gone"),
    (Code::Overloaded, "overloaded"),
    (Code::Protocol, "protocol"),
    (Code::GuestTrap, "guest-trap"),
    (Code::Unauthenticated, "unauthenticated"),
];

impl Code {
    /// The name in WIT.
    pub fn word(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The code of that name.
    pub fn of(word: &str) -> Option<Code> {
        CODES.iter().find(|(_, w)| *w == word).map(|(c, _)| *c)
    }
}

/// A failure with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// Nothing was done, or it may be done again.
    pub retryable: bool,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure {
            code,
            retryable: false,
            message: message.into(),
            fields: vec![],
        }
    }

    /// The peer, or the way to it, has gone.
    pub fn gone(message: impl Into<String>, retryable: bool) -> Self {
        Failure {
            retryable,
            ..Failure::new(Code::ProviderGone, message)
        }
    }

    pub fn protocol(message: impl Into<String>) -> Self {
        Failure::new(Code::Protocol, message)
    }

    /// The same with one more field.
    pub fn with(mut self, field: &str, value: impl ToString) -> Self {
        self.fields.push((field.into(), value.to_string()));
        self
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }
}

impl From<Invalid> for Failure {
    fn from(e: Invalid) -> Self {
        Failure::new(Code::BadValue, e.to_string()).with("cause", e.word())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.message)
    }
}

impl std::error::Error for Failure {}

impl Encode for Failure {
    fn encode(&self, out: &mut Vec<u8>) {
        put_unsigned(out, self.code as u64);
        self.retryable.encode(out);
        self.message.encode(out);
        self.fields.encode(out);
    }
}

impl Decode for Failure {
    fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
        Ok(Failure {
            code: CODES[from.case(CODES.len())?].0,
            retryable: bool::decode(from)?,
            message: String::decode(from)?,
            fields: Vec::decode(from)?,
        })
    }
}
