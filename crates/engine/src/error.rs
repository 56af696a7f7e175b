//! Errors that carry fields; whoever embeds the engine maps them to its own tree.

use std::fmt;
use std::sync::Arc;

/// A host value that does not fit its WIT type. The walker fills `path` on the way out.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// Where in the value: `point.x`, `[3]`; empty at the top.
    pub path: String,
    /// The WIT type asked for.
    pub expected: String,
    /// What was there instead.
    pub got: String,
}

impl Mismatch {
    /// A mismatch at the top of a value; `expected` is filled in by the walker where it is empty.
    pub fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Mismatch {
            path: String::new(),
            expected: expected.into(),
            got: got.into(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "expected {}, got {}", self.expected, self.got)
    }
}

impl std::error::Error for Mismatch {}

/// What failed in a component that serves another's import, with the path of its export.
#[derive(Debug)]
pub struct Within {
    pub path: String,
    pub error: wasmtime::Error,
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.error)
    }
}

impl std::error::Error for Within {}

/// An error that ended an instance, shared by those who learn of it.
#[derive(Debug)]
pub struct Ended(pub Arc<wasmtime::Error>);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Ended {}

/// The fault that an error is, here or in a component below.
pub(crate) fn fault_of(e: &wasmtime::Error) -> Option<&Fault> {
    if let Some(Within { error, .. }) = e.downcast_ref() {
        return fault_of(error);
    }
    if let Some(Ended(error)) = e.downcast_ref() {
        return fault_of(error);
    }
    e.downcast_ref()
}

/// Why a call ended without a result.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Wall-clock deadline of the call, seconds.
    Deadline { seconds: f64 },
    /// CPU time of the call, seconds.
    Cpu { seconds: f64 },
    /// More calls at once than the component's limit.
    Overloaded { limit: usize },
    /// The instance is gone: it trapped, or was retired; a new one serves the next call.
    Gone(String),
    /// A provider was exchanged for another, and what it still had to do was not done in time.
    Exchanged,
    /// A shared instance was called from within its own call.
    Reentered,
    /// Too little native stack left to enter another instance.
    Stack,
    /// A result that an import gave back does not fit.
    BadResult {
        interface: String,
        function: String,
        mismatch: Mismatch,
    },
    /// An argument does not fit.
    BadArgument {
        interface: String,
        function: String,
        parameter: String,
        mismatch: Mismatch,
    },
    /// Wrong number of arguments.
    Arity {
        interface: String,
        function: String,
        expected: usize,
        got: usize,
    },
    /// The memory limit stopped an allocation before the guest failed; bytes.
    Memory { limit: usize },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |i: &str, n: &str| {
            if i.is_empty() {
                n.to_string()
            } else {
                format!("{i}#{n}")
            }
        };
        match self {
            Fault::Deadline { seconds } => write!(f, "the call ran past its deadline of {seconds} s"),
            Fault::Cpu { seconds } => write!(f, "the call used up its {seconds} s of CPU time"),
            Fault::Overloaded { limit } => {
                write!(f, "{limit} calls are running already, the component's limit")
            }
            Fault::Gone(why) => write!(f, "the component instance is gone: {why}"),
            Fault::Exchanged => write!(
                f,
                "the provider was exchanged for another, and its time to finish is over"
            ),
            Fault::Reentered => write!(f, "a shared instance was called from within its own call"),
            Fault::Stack => write!(
                f,
                "too little native stack is left for another nested component call"
            ),
            Fault::BadResult {
                interface,
                function,
                mismatch,
            } => {
                write!(
                    f,
                    "the provider of {} returned a wrong value: {mismatch}",
                    path(interface, function)
                )
            }
            Fault::BadArgument {
                interface,
                function,
                parameter,
                mismatch,
            } => {
                write!(
                    f,
                    "{}: parameter `{parameter}`: {mismatch}",
                    path(interface, function)
                )
            }
            Fault::Arity {
                interface,
                function,
                expected,
                got,
            } => {
                write!(
                    f,
                    "{} takes {expected} arguments, got {got}",
                    path(interface, function)
                )
            }
            Fault::Memory { limit } => write!(f, "the component's memory limit of {limit} bytes was reached"),
        }
    }
}

impl std::error::Error for Fault {}
