//! The variant `error-code`, and which one an error of the operating system is.

use std::io;

use loop_engine::Value;
use rustix::io::Errno;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    Access,
    FileTooLarge,
    Invalid,
    Io,
    IsDirectory,
    Loop,
    MessageSize,
    NameTooLong,
    NoEntry,
    NotDirectory,
    NotPermitted,
    Unsupported,
    Other(String),
    Busy,
    CrossDevice,
    Exist,
    InsufficientSpace,
    NotEmpty,
    Quota,
    ReadOnly,
}

impl From<io::Error> for ErrorCode {
    fn from(e: io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(&e) else {
            return match e.kind() {
                // cap-std's own refusal of a path that leads out
                io::ErrorKind::PermissionDenied => ErrorCode::NotPermitted,
                io::ErrorKind::NotFound => ErrorCode::NoEntry,
                io::ErrorKind::InvalidInput => ErrorCode::Invalid,
                io::ErrorKind::AlreadyExists => ErrorCode::Exist,
                // the kind only: a message might name a path of the host
                kind => ErrorCode::Other(kind.to_string()),
            };
        };
        match errno {
            Errno::ACCESS | Errno::PERM => ErrorCode::Access,
            Errno::FBIG | Errno::OVERFLOW => ErrorCode::FileTooLarge,
            Errno::INVAL | Errno::ILSEQ => ErrorCode::Invalid,
            Errno::IO => ErrorCode::Io,
            Errno::ISDIR => ErrorCode::IsDirectory,
            Errno::LOOP => ErrorCode::Loop,
            Errno::NAMETOOLONG => ErrorCode::NameTooLong,
            Errno::NOENT => ErrorCode::NoEntry,
            Errno::NOTDIR => ErrorCode::NotDirectory,
            Errno::NXIO | Errno::NODEV | Errno::OPNOTSUPP => ErrorCode::Unsupported,
            Errno::BUSY | Errno::TXTBSY => ErrorCode::Busy,
            Errno::XDEV => ErrorCode::CrossDevice,
            Errno::EXIST => ErrorCode::Exist,
            Errno::NOSPC => ErrorCode::InsufficientSpace,
            Errno::NOTEMPTY => ErrorCode::NotEmpty,
            Errno::DQUOT => ErrorCode::Quota,
            Errno::ROFS => ErrorCode::ReadOnly,
            errno => ErrorCode::Other(io::Error::from(errno).to_string()),
        }
    }
}

impl From<ErrorCode> for Value {
    fn from(code: ErrorCode) -> Self {
        let case = match code {
            ErrorCode::Access => 0,
            ErrorCode::FileTooLarge => 1,
            ErrorCode::Invalid => 2,
            ErrorCode::Io => 3,
            ErrorCode::IsDirectory => 4,
            ErrorCode::Loop => 5,
            ErrorCode::MessageSize => 6,
            ErrorCode::NameTooLong => 7,
            ErrorCode::NoEntry => 8,
            ErrorCode::NotDirectory => 9,
            ErrorCode::NotPermitted => 10,
            ErrorCode::Unsupported => 11,
            ErrorCode::Other(words) => {
                return Value::Case(12, Some(Box::new(Value::some(Value::String(words)))));
            }
            ErrorCode::Busy => 13,
            ErrorCode::CrossDevice => 14,
            ErrorCode::Exist => 15,
            ErrorCode::InsufficientSpace => 16,
            ErrorCode::NotEmpty => 17,
            ErrorCode::Quota => 18,
            ErrorCode::ReadOnly => 19,
        };
        Value::Case(case, None)
    }
}
