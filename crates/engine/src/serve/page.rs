//! Responses that the server itself writes. They name the failure's kind and no detail of it.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use wasmtime::Error;
use wasmtime_wasi_http::{p2::bindings::http::types as p2, p3::bindings::http::types as p3};

use super::body::Outbound;
use crate::error::Fault;

/// A short plain-text response.
pub(super) fn page(status: StatusCode) -> Response<Outbound> {
    let text = format!(
        "{} {}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error")
    );
    let mut response = Response::new(Outbound::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What an instance's failure is to its client.
pub(super) fn status_of(e: &Error) -> StatusCode {
    match e.downcast_ref::<Fault>() {
        Some(Fault::Overloaded { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Fault::Deadline { .. }) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status for the `error-code` that a handler answered with.
macro_rules! status_of_code {
    ($name:ident, $types:ident) => {
        pub(super) fn $name(code: &$types::ErrorCode) -> StatusCode {
            use $types::ErrorCode as E;
            match code {
                E::HttpRequestDenied => StatusCode::FORBIDDEN,
                E::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
                E::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
                E::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
                E::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
                E::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
                E::HttpRequestHeaderSectionSize(_) | E::HttpRequestHeaderSize(_) => {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                }
                E::DnsTimeout
                | E::ConnectionTimeout
                | E::ConnectionReadTimeout
                | E::ConnectionWriteTimeout
                | E::HttpResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
                E::DnsError(_)
                | E::DestinationNotFound
                | E::DestinationUnavailable
                | E::DestinationIpProhibited
                | E::DestinationIpUnroutable
                | E::ConnectionRefused
                | E::ConnectionTerminated
                | E::ConnectionLimitReached
                | E::TlsProtocolError
                | E::TlsCertificateError
                | E::TlsAlertReceived(_)
                | E::HttpResponseIncomplete
                | E::HttpResponseHeaderSectionSize(_)
                | E::HttpResponseHeaderSize(_)
                | E::HttpResponseBodySize(_)
                | E::HttpResponseTrailerSectionSize(_)
                | E::HttpResponseTrailerSize(_)
                | E::HttpResponseTransferCoding(_)
                | E::HttpResponseContentCoding(_)
                | E::HttpUpgradeFailed => StatusCode::BAD_GATEWAY,
                E::LoopDetected => StatusCode::LOOP_DETECTED,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            }
        }
    };
}

status_of_code!(status_of_p2, p2);
status_of_code!(status_of_p3, p3);
