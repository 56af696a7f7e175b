//! `error-code` of `loop:netx/types`.

use std::io;

use loop_engine::{Num, Value};

/// Why a request failed. The words name what to change; none tells of an address or a file of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    DnsTimeout,
    DnsError(Words),
    DestinationNotFound,
    DestinationUnavailable,
    DestinationIpProhibited(Words),
    DestinationIpUnroutable,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    ConnectionReadTimeout,
    ConnectionLimitReached,
    TlsProtocolError(Words),
    TlsCertificateError(Words),
    RequestDenied(Words),
    RequestBodySize(Option<u64>),
    RequestMethodInvalid,
    RequestUriInvalid(Words),
    RequestUriTooLong,
    RequestHeaderSectionSize(Option<u32>),
    RequestHeaderInvalid(Words),
    ResponseIncomplete,
    ResponseHeaderSectionSize(Option<u32>),
    ResponseBodySize(Option<u64>),
    ResponseTransferCoding(Words),
    ResponseContentCoding(Words),
    ResponseTimeout,
    UpgradeFailed(Words),
    ProtocolError(Words),
    LoopDetected,
    InternalError(Words),
}

pub(super) type Words = Option<String>;

pub(super) fn words(w: impl Into<String>) -> Words {
    Some(w.into())
}

impl From<ErrorCode> for Value {
    fn from(code: ErrorCode) -> Value {
        use ErrorCode::*;
        let text = |w: Words| Some(crate::value::option(w.map(Value::String)));
        let long = |n: Option<u64>| Some(crate::value::option(n.map(Value::u64)));
        let short = |n: Option<u32>| Some(crate::value::option(n.map(|n| Value::Num(Num::U32, n.into()))));
        // in the order of the WIT
        let (index, payload) = match code {
            DnsTimeout => (0, None),
            DnsError(w) => (1, text(w)),
            DestinationNotFound => (2, None),
            DestinationUnavailable => (3, None),
            DestinationIpProhibited(w) => (4, text(w)),
            DestinationIpUnroutable => (5, None),
            ConnectionRefused => (6, None),
            ConnectionTerminated => (7, None),
            ConnectionTimeout => (8, None),
            ConnectionReadTimeout => (9, None),
            ConnectionLimitReached => (10, None),
            TlsProtocolError(w) => (11, text(w)),
            TlsCertificateError(w) => (12, text(w)),
            RequestDenied(w) => (13, text(w)),
            RequestBodySize(n) => (14, long(n)),
            RequestMethodInvalid => (15, None),
            RequestUriInvalid(w) => (16, text(w)),
            RequestUriTooLong => (17, None),
            RequestHeaderSectionSize(n) => (18, short(n)),
            RequestHeaderInvalid(w) => (19, text(w)),
            ResponseIncomplete => (20, None),
            ResponseHeaderSectionSize(n) => (21, short(n)),
            ResponseBodySize(n) => (22, long(n)),
            ResponseTransferCoding(w) => (23, text(w)),
            ResponseContentCoding(w) => (24, text(w)),
            ResponseTimeout => (25, None),
            UpgradeFailed(w) => (26, text(w)),
            ProtocolError(w) => (27, text(w)),
            LoopDetected => (28, None),
            InternalError(w) => (29, text(w)),
        };
        Value::Case(index, payload.map(Box::new))
    }
}

impl From<io::Error> for ErrorCode {
    fn from(e: io::Error) -> Self {
        use io::ErrorKind::*;
        if let Some(inner) = e.get_ref() {
            if let Some(code) = inner.downcast_ref::<Carried>() {
                return code.0.clone();
            }
            if let Some(tls) = inner.downcast_ref::<tokio_rustls::rustls::Error>() {
                return tls.into();
            }
        }
        match e.kind() {
            ConnectionRefused => ErrorCode::ConnectionRefused,
            HostUnreachable | NetworkUnreachable => ErrorCode::DestinationIpUnroutable,
            AddrNotAvailable | NetworkDown => ErrorCode::DestinationUnavailable,
            TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::ConnectionTerminated,
        }
    }
}

impl From<&tokio_rustls::rustls::Error> for ErrorCode {
    fn from(e: &tokio_rustls::rustls::Error) -> Self {
        use tokio_rustls::rustls::Error::*;
        match e {
            InvalidCertificate(_) | NoCertificatesPresented => {
                ErrorCode::TlsCertificateError(words(e.to_string()))
            }
            _ => ErrorCode::TlsProtocolError(words(e.to_string())),
        }
    }
}

/// An error code on its way through what knows other errors only.
#[derive(Debug)]
pub(super) struct Carried(pub ErrorCode);

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Carried {}

impl ErrorCode {
    /// What a request of hyper's ended by.
    pub fn of_hyper(e: &hyper::Error) -> Self {
        let mut source = std::error::Error::source(e);
        while let Some(cause) = source {
            if let Some(code) = cause.downcast_ref::<Carried>() {
                return code.0.clone();
            }
            if let Some(io) = cause.downcast_ref::<io::Error>()
                && let Some(code) = io.get_ref().and_then(|i| i.downcast_ref::<Carried>())
            {
                return code.0.clone();
            }
            source = cause.source();
        }
        if e.is_parse_too_large() {
            ErrorCode::ResponseHeaderSectionSize(None)
        } else if e.is_incomplete_message() {
            ErrorCode::ResponseIncomplete
        } else if e.is_parse() || e.is_parse_status() {
            ErrorCode::ProtocolError(words(e.to_string()))
        } else if e.is_timeout() {
            ErrorCode::ResponseTimeout
        } else if e.is_body_write_aborted() || e.is_closed() || e.is_canceled() {
            ErrorCode::ConnectionTerminated
        } else {
            let mut source = std::error::Error::source(e);
            while let Some(cause) = source {
                if let Some(h2) = cause.downcast_ref::<h2::Error>()
                    && !h2.is_io()
                {
                    return ErrorCode::ProtocolError(words(h2.to_string()));
                }
                if let Some(io) = cause.downcast_ref::<io::Error>() {
                    return match io.kind() {
                        io::ErrorKind::UnexpectedEof => ErrorCode::ResponseIncomplete,
                        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                            ErrorCode::ProtocolError(words(io.to_string()))
                        }
                        _ => ErrorCode::ConnectionTerminated,
                    };
                }
                source = cause.source();
            }
            ErrorCode::ProtocolError(words(e.to_string()))
        }
    }
}
