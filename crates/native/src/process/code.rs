//! The variant `error-code`, and which one an error of the operating system is.

use std::io;

use loop_engine::Value;
use rustix::io::Errno;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    Access,
    Busy,
    Invalid,
    MessageSize,
    NoEntry,
    NotDirectory,
    /// With the key of the grant that would allow it.
    NotPermitted(String),
    Pipe,
    Quota,
    Unsupported,
    Other(String),
}

impl From<io::Error> for ErrorCode {
    fn from(e: io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(&e) else {
            return match e.kind() {
                // cap-std's own refusal of a path that leads out
                io::ErrorKind::PermissionDenied => {
                    ErrorCode::NotPermitted("the path leads out of its root".into())
                }
                io::ErrorKind::NotFound => ErrorCode::NoEntry,
                io::ErrorKind::InvalidInput => ErrorCode::Invalid,
                // the kind only: a message might name a path of the host
                kind => ErrorCode::Other(kind.to_string()),
            };
        };
        match errno {
            Errno::ACCESS | Errno::PERM => ErrorCode::Access,
            // `E2BIG`: more arguments and variables than the system takes
            Errno::INVAL | Errno::ILSEQ | Errno::NAMETOOLONG | Errno::LOOP | Errno::TOOBIG => {
                ErrorCode::Invalid
            }
            Errno::NOENT => ErrorCode::NoEntry,
            Errno::NOTDIR => ErrorCode::NotDirectory,
            Errno::PIPE => ErrorCode::Pipe,
            errno => ErrorCode::Other(io::Error::from(errno).to_string()),
        }
    }
}

impl From<Errno> for ErrorCode {
    fn from(e: Errno) -> Self {
        io::Error::from(e).into()
    }
}

impl From<ErrorCode> for Value {
    fn from(code: ErrorCode) -> Self {
        let case = match code {
            ErrorCode::Access => 0,
            ErrorCode::Busy => 1,
            ErrorCode::Invalid => 2,
            ErrorCode::MessageSize => 3,
            ErrorCode::NoEntry => 4,
            ErrorCode::NotDirectory => 5,
            ErrorCode::NotPermitted(key) => return Value::Case(6, Some(Box::new(Value::String(key)))),
            ErrorCode::Pipe => 7,
            ErrorCode::Quota => 8,
            ErrorCode::Unsupported => 9,
            ErrorCode::Other(words) => {
                return Value::Case(10, Some(Box::new(Value::some(Value::String(words)))));
            }
        };
        Value::Case(case, None)
    }
}
