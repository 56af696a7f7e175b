//! HTTP/2: an invocation is a request, and people get readable answers.
//!
//! The control stream is `POST /loop/control`, a call `POST /loop/call`. A server of HTTP/2 cannot begin streams: for
//! calls of its own it takes one of the `POST /loop/back` requests that the other side keeps waiting.

mod stream;

use std::future::poll_fn;
use std::io::Error;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use self::stream::{Duplex, Receive, broken};
use super::{BoxIo, Connection, Incoming, Native, Options, Peer, Source, tcp, tls};
use crate::address::{Address, Place};
use crate::failure::{Code, Failure};
use crate::hello::Hello;

const PROTOCOL: &[u8] = b"h2";
const CONTROL: &str = "/loop/control";
const CALL: &str = "/loop/call";
const BACK: &str = "/loop/back";
const FRAMES: HeaderValue = HeaderValue::from_static("application/vnd.loop.frames");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Streams of the peer at once: as many calls as the default limits have, those for calls back, and some that end.
const STREAMS: u32 = 1100;
/// Requests that wait for calls back.
const SPARE: usize = 8;
const WINDOW: u32 = 1 << 20;
const CONNECTION: u32 = 16 << 20;
const FRAME: u32 = 64 << 10;
/// Bytes of bookkeeping that small frames may cost which wait to be read: what a window holds of the smallest.
const SMALL: usize = 64 << 20;
/// Time for what was said last to leave.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a stream that wait to be sent.
const AHEAD: usize = 1 << 20;

fn lost(e: impl std::fmt::Display) -> Failure {
    Failure::gone(format!("the connection is over: {e}"), true)
}

pub(super) async fn connect(place: &Place, options: &Options) -> Result<Connection, Failure> {
    let named = Address::Http2(place.clone());
    let io = tcp::dial(place, &named).await?;
    let (io, certificate): (BoxIo, _) = match &options.tls {
        None => (Box::new(io), None),
        Some(tls) => {
            let (io, certificate) = tls::connect(io, tls, &place.host, &[PROTOCOL]).await?;
            (Box::new(io), certificate)
        }
    };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION)
        .max_frame_size(FRAME)
        .max_send_buffer_size(AHEAD)
        .data_frame_budget(SMALL)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(lost)?;
    let closing = Arc::new(Notify::new());
    let driver = tokio::spawn({
        let closing = closing.clone();
        async move {
            let mut connection = pin!(connection);
            tokio::select! {
                _ = &mut connection => {}
                () = closing.notified() => drop(tokio::time::timeout(LINGER, connection).await),
            }
        }
    })
    .abort_handle();
    let peer = Peer {
        address: named.to_string(),
        certificate,
        ..Peer::default()
    };
    let client = Client {
        requests,
        base: format!("{scheme}://{place}"),
        begun: OnceLock::new(),
        back: Mutex::new(JoinSet::new()),
        closing,
        driver,
    };
    Ok(Connection::Native(Box::new(client), peer))
}

/// The side that connected.
struct Client {
    requests: SendRequest<Bytes>,
    base: String,
    /// The control stream is there.
    begun: OnceLock<()>,
    /// Requests that wait until the peer calls.
    back: Mutex<JoinSet<Result<Duplex, Failure>>>,
    closing: Arc<Notify>,
    driver: AbortHandle,
}

/// A request whose bodies are the two directions of a stream. The answer is waited for by whoever reads first.
async fn request(requests: SendRequest<Bytes>, uri: String) -> Result<Duplex, Failure> {
    let mut requests = requests.ready().await.map_err(lost)?;
    let request = Request::post(uri)
        .header(CONTENT_TYPE, FRAMES)
        .body(())
        .map_err(|e| Failure::new(Code::BadValue, format!("the address cannot be asked: {e}")))?;
    let (response, send) = requests.send_request(request, false).map_err(lost)?;
    let response = async move {
        let response = response.await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(Error::other(format!("the peer answers {status}"))),
        }
    };
    Ok(Duplex::new(send, Receive::Awaited(Box::pin(response))))
}

impl Native for Client {
    fn open(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        let path = match self.begun.set(()) {
            Ok(()) => CONTROL,
            Err(()) => CALL,
        };
        let opened = request(self.requests.clone(), format!("{}{path}", self.base));
        Box::pin(async move { Ok(Box::new(opened.await?) as BoxIo) })
    }

    fn accept(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        Box::pin(async {
            let mut back = self.back.lock().await;
            loop {
                while back.len() < SPARE {
                    let (requests, uri) = (self.requests.clone(), format!("{}{BACK}", self.base));
                    back.spawn(async move {
                        let mut stream = request(requests, uri).await?;
                        // the answer comes when the peer has a call
                        poll_fn(|cx| stream.poll_answer(cx).map_ok(drop))
                            .await
                            .map_err(lost)?;
                        Ok(stream)
                    });
                }
                match back.join_next().await {
                    Some(Ok(Ok(stream))) => return Ok(Box::new(stream) as BoxIo),
                    Some(Ok(Err(failure))) => return Err(failure),
                    _ => {}
                }
            }
        })
    }

    fn close(&self, _: &Failure) {
        self.closing.notify_one();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) async fn listen(place: &Place, options: &Options) -> Result<Http2Source, Failure> {
    let named = Address::Http2(place.clone());
    let tls = options.tls.as_ref().map(|tls| tls::acceptor(tls, &[PROTOCOL]));
    let acceptor = tcp::bind(&named, place, options).await?;
    let at = Address::Http2(acceptor.local.into());
    Ok(Http2Source {
        tls: tls.transpose()?,
        acceptor,
        about: options.about.as_ref().map(|hello| about(hello, &at).into()),
    })
}

pub(super) struct Http2Source {
    acceptor: tcp::Acceptor,
    tls: Option<tls::Acceptor>,
    about: Option<Arc<str>>,
}

impl Source for Http2Source {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let (io, from) = self.acceptor.accept().await;
            let (tls, about) = (self.tls.clone(), self.about.clone());
            Ok(Some(Incoming::new(async move {
                let (io, certificate): (BoxIo, _) = match tls {
                    None => (Box::new(io), None),
                    Some(tls) => {
                        let (io, certificate) = tls::accept(io, &tls).await?;
                        (Box::new(io), certificate)
                    }
                };
                let peer = Peer {
                    address: Address::Http2(from.into()).to_string(),
                    certificate,
                    ..Peer::default()
                };
                Ok(Connection::Native(Box::new(serve(io, about).await?), peer))
            })))
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![Address::Http2(self.acceptor.local.into())]
    }
}

/// The side that was connected to.
struct Server {
    /// Requests of the peer's: the control stream first.
    streams: Mutex<mpsc::Receiver<Duplex>>,
    back: Mutex<mpsc::Receiver<(RecvStream, SendResponse<Bytes>)>>,
    closing: Arc<Notify>,
    driver: AbortHandle,
}

async fn serve(io: BoxIo, about: Option<Arc<str>>) -> Result<Server, Failure> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .max_send_buffer_size(AHEAD)
        .data_frame_budget(SMALL)
        .max_header_list_size(16 << 10)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(lost)?;
    let (stream, streams) = mpsc::channel(STREAMS as usize);
    let (spare, back) = mpsc::channel(2 * SPARE);
    let closing = Arc::new(Notify::new());
    let driver = tokio::spawn({
        let closing = closing.clone();
        async move {
            let mut requests = Requests {
                begun: false,
                stream,
                spare,
                about,
            };
            loop {
                tokio::select! {
                    next = connection.accept() => match next {
                        Some(Ok((request, respond))) => {
                            if !requests.take(request, respond) {
                                return;
                            }
                        }
                        _ => return,
                    },
                    () = closing.notified() => break,
                }
            }
            connection.graceful_shutdown();
            let rest = async { while let Some(Ok(_)) = connection.accept().await {} };
            let _ = tokio::time::timeout(LINGER, rest).await;
        }
    });
    Ok(Server {
        streams: Mutex::new(streams),
        back: Mutex::new(back),
        closing,
        driver: driver.abort_handle(),
    })
}

/// Where requests go.
struct Requests {
    /// The control stream is there.
    begun: bool,
    stream: mpsc::Sender<Duplex>,
    spare: mpsc::Sender<(RecvStream, SendResponse<Bytes>)>,
    about: Option<Arc<str>>,
}

impl Requests {
    /// Errors, by false, where there are more than anybody takes.
    fn take(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> bool {
        let path = request.uri().path();
        if ![CONTROL, CALL, BACK].contains(&path) || request.method() != Method::POST {
            read_by_people(&request, respond, self.about.as_deref());
            return true;
        }
        // a call before the control stream, or a second of those
        if self.begun == (path == CONTROL) {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return true;
        }
        self.begun = true;
        let back = path == BACK;
        let body = request.into_body();
        if back {
            return self.spare.try_send((body, respond)).is_ok();
        }
        match answer(respond, body) {
            Some(duplex) => self.stream.try_send(duplex).is_ok(),
            None => true,
        }
    }
}

/// Takes a request for a stream; none where the peer has gone.
fn answer(mut respond: SendResponse<Bytes>, body: RecvStream) -> Option<Duplex> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, FRAMES);
    let send = respond.send_response(response, false).ok()?;
    Some(Duplex::new(send, Receive::Body(body)))
}

/// Answers those who look with a browser or curl.
fn read_by_people(request: &Request<RecvStream>, mut respond: SendResponse<Bytes>, about: Option<&str>) {
    let (path, method) = (request.uri().path(), request.method());
    let (status, text) = match path {
        "/" if [Method::GET, Method::HEAD].contains(method) => (
            StatusCode::OK,
            about.unwrap_or("A loop-kit provider.\n").to_owned(),
        ),
        "/" | CONTROL | CALL | BACK => (
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{path} does not take {method}; GET / tells what is served here.\n"),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            format!("There is nothing at {path}; GET / tells what is served here.\n"),
        ),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = if path == "/" { "GET, HEAD" } else { "POST" };
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Ok(mut send) = respond.send_response(response, method == Method::HEAD)
        && method != Method::HEAD
    {
        let _ = send.send_data(text.into(), true);
    }
}

/// What `GET /` says of a provider: its name, its interfaces with their functions, and how to call it.
fn about(hello: &Hello, address: &Address) -> String {
    let name = match hello.identity.as_str() {
        "" => "A provider",
        identity => identity,
    };
    let mut text = format!("{name}, {}\n", hello.software);
    for interface in &hello.exports {
        text += &format!("\n{}\n", interface.name);
        for function in &interface.functions {
            text += &format!("  {function}\n");
        }
    }
    text + &format!(
        "\nCall it from a host by naming its address, {address}, as the provider of these interfaces. Calls are\n\
         requests POST {CALL} with bodies of application/vnd.loop.frames, after POST {CONTROL}.\n"
    )
}

impl Native for Server {
    fn open(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        Box::pin(async {
            let gone = || Failure::gone("the connection is over", true);
            let (body, respond) = self.back.lock().await.recv().await.ok_or_else(gone)?;
            let duplex = answer(respond, body).ok_or_else(gone)?;
            Ok(Box::new(duplex) as BoxIo)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<BoxIo, Failure>> {
        Box::pin(async {
            let gone = || Failure::gone("the connection is over", true);
            let duplex = self.streams.lock().await.recv().await.ok_or_else(gone)?;
            Ok(Box::new(duplex) as BoxIo)
        })
    }

    fn close(&self, _: &Failure) {
        self.closing.notify_one();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
