//! WebSocket: the bytes travel as binary messages, whose bounds mean nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use super::{BoxIo, Connection, Incoming, Options, Peer, Source, tcp, tls};
use crate::address::{Address, Place};
use crate::failure::{Code, Failure};

/// What both sides speak over the messages.
const SUBPROTOCOL: &str = "loop.v1";
/// Bytes of a message that is taken, and of one that is sent.
const MESSAGE: usize = 1 << 20;
const SENT: usize = 256 << 10;

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        .write_buffer_size(64 << 10)
        .max_write_buffer_size(SENT + (128 << 10))
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
}

pub(super) async fn connect(
    named: &Address,
    place: &Place,
    secure: bool,
    options: &Options,
) -> Result<Connection, Failure> {
    let wrong = |e: Error| Failure::new(Code::BadValue, format!("{named}: {e}"));
    let mut request = named.to_string().into_client_request().map_err(wrong)?;
    if !options.plain {
        let ours = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, ours);
    }
    let io = tcp::dial(place, named).await?;
    let (io, certificate): (BoxIo, _) = match secure {
        false => (Box::new(io), None),
        true => {
            let tls = options.tls.clone().unwrap_or_default();
            let (io, certificate) = tls::connect(io, &tls, &place.host, &[]).await?;
            (Box::new(io), certificate)
        }
    };
    let (io, _) = client_async_with_config(request, io, Some(config()))
        .await
        .map_err(|e| refused(named, &e))?;
    let peer = Peer {
        address: named.to_string(),
        certificate,
        ..Peer::default()
    };
    Ok(Connection::Bytes(Box::new(Messages::new(io)), peer))
}

/// Why a listener did not become a WebSocket.
fn refused(named: &Address, error: &Error) -> Failure {
    match error {
        Error::Http(response) => {
            let why = response.body().as_deref().unwrap_or_default();
            let why = String::from_utf8_lossy(&why[..why.len().min(256)]);
            let code = match response.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::Unauthenticated,
                _ => Code::Protocol,
            };
            Failure::new(code, format!("{named} answered {}: {why}", response.status()))
        }
        Error::Io(e) => super::failed("connect to", named, e),
        other => Failure::protocol(format!("{named} is no WebSocket of a loop-kit peer: {other}")),
    }
}

pub(super) async fn listen(
    named: &Address,
    place: &Place,
    path: &str,
    secure: bool,
    options: &Options,
) -> Result<WsSource, Failure> {
    let tls = match (secure, &options.tls) {
        (true, None) => {
            let message = "wss: needs tls.certificate and tls.key";
            return Err(Failure::new(Code::BadValue, message).with("option", "tls"));
        }
        (true, Some(tls)) => Some(tls::acceptor(tls, &[b"http/1.1"])?),
        (false, _) => None,
    };
    Ok(WsSource {
        acceptor: tcp::bind(named, place, options).await?,
        tls,
        path: path.into(),
        origins: options.origins.clone(),
    })
}

pub(super) struct WsSource {
    acceptor: tcp::Acceptor,
    tls: Option<tls::Acceptor>,
    path: String,
    origins: Vec<String>,
}

impl Source for WsSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let (io, from) = self.acceptor.accept().await;
            let (tls, path, origins) = (self.tls.clone(), self.path.clone(), self.origins.clone());
            Ok(Some(Incoming::new(async move {
                let address = Address::Tcp(from.into());
                let (io, certificate): (BoxIo, _) = match tls {
                    None => (Box::new(io), None),
                    Some(tls) => {
                        let (io, certificate) = tls::accept(io, &tls).await?;
                        (Box::new(io), certificate)
                    }
                };
                let check = Check { path, origins };
                let io = accept_hdr_async_with_config(io, check, Some(config()))
                    .await
                    .map_err(|e| refused(&address, &e))?;
                let peer = Peer {
                    address: address.to_string(),
                    certificate,
                    ..Peer::default()
                };
                Ok(Connection::Bytes(Box::new(Messages::new(io)), peer))
            })))
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![Address::Ws {
            place: self.acceptor.local.into(),
            path: self.path.clone(),
            secure: self.tls.is_some(),
        }]
    }
}

/// Whether an upgrade is for this listener.
struct Check {
    path: String,
    origins: Vec<String>,
}

impl tokio_tungstenite::tungstenite::handshake::server::Callback for Check {
    // the type of the error is the library's
    #[allow(clippy::result_large_err)]
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let no = |status: StatusCode, why: String| {
            let mut response = ErrorResponse::new(Some(why));
            *response.status_mut() = status;
            Err(response)
        };
        let asked = request.uri().path_and_query().map_or("/", |p| p.as_str());
        if asked != self.path {
            return no(StatusCode::NOT_FOUND, format!("nothing listens at {asked}"));
        }
        // a browser always says where its page is from; who is no browser says nothing
        if let Some(origin) = request.headers().get(header::ORIGIN)
            && !self.origins.iter().any(|o| o.as_bytes() == origin.as_bytes())
        {
            let shown = String::from_utf8_lossy(origin.as_bytes()).into_owned();
            return no(
                StatusCode::FORBIDDEN,
                format!("origin {shown} is not among `origins`"),
            );
        }
        let offered = subprotocols(request.headers());
        if offered.iter().any(|p| p == SUBPROTOCOL) {
            let ours = HeaderValue::from_static(SUBPROTOCOL);
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, ours);
        } else if !offered.is_empty() {
            return no(
                StatusCode::BAD_REQUEST,
                format!("the subprotocol here is {SUBPROTOCOL}"),
            );
        }
        Ok(response)
    }
}

fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(|p| p.trim().to_owned()))
        .collect()
}

/// A WebSocket as a stream of bytes.
struct Messages {
    io: WebSocketStream<BoxIo>,
    /// What is left of the message that is being read.
    rest: Bytes,
    /// The peer, or this side, has said that nothing more comes.
    ended: bool,
    shut: bool,
}

impl Messages {
    fn new(io: WebSocketStream<BoxIo>) -> Self {
        Messages {
            io,
            rest: Bytes::new(),
            ended: false,
            shut: false,
        }
    }
}

fn broken(e: Error) -> io::Error {
    match e {
        Error::Io(e) => e,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => io::ErrorKind::UnexpectedEof.into(),
        e => io::Error::new(io::ErrorKind::InvalidData, e),
    }
}

impl AsyncRead for Messages {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.io).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // answered by the library
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(end))) if end.is_empty() => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(Message::Text(_))) => {
                    let why = "a message of text, where bytes are spoken";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
            }
        }
        let n = self.rest.len().min(to.remaining());
        to.put_slice(&self.rest[..n]);
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Messages {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.io).poll_ready(cx)).map_err(broken)?;
        let total = from.iter().map(|s| s.len()).sum::<usize>().min(SENT);
        let mut message = BytesMut::with_capacity(total);
        for slice in from {
            let n = slice.len().min(total - message.len());
            message.extend_from_slice(&slice[..n]);
        }
        if total > 0 {
            Pin::new(&mut self.io)
                .start_send(Message::Binary(message.freeze()))
                .map_err(broken)?;
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // WebSocket has no half-closed connection: the peer is told as wRPC does, by an empty message of text
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_ready(cx)).map_err(broken)?;
            Pin::new(&mut self.io)
                .start_send(Message::text(""))
                .map_err(broken)?;
            self.shut = true;
        }
        Pin::new(&mut self.io).poll_flush(cx).map_err(broken)
    }
}
