//! Connections handed on to a session that somebody else has over bytes: another process, or an event loop with
//! descriptors of its own.
//!
//! Bytes are handed on as they are. A transport's own streams become the frames of one connection and the other way
//! round: what `docs/wire.md` calls native sessions has the same frames in other places. No value is looked at, and no
//! type known: an invocation is over when the peer has ended its direction of it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, copy_bidirectional_with_sizes,
    split,
};
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::codec::{self, Encode};
use crate::failure::{Code, Failure};
use crate::frame::{BIG, FRAME, HEADER, Header, Out, PREFACE, kind};
use crate::hello::{Hello, SHM};
use crate::serve::Bounds;
use crate::session::driver::HANDSHAKE;
use crate::transport::{BoxIo, Connection, Listener, Native};

/// Bytes that peers leave untaken before the session is read no longer.
const QUEUED: usize = 256 << 20;
/// Time for what was said to reach the peer once the session is over.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The number that the one invocation of a native stream has there.
const STREAM: u32 = 1;

/// Hands a connection on to `session`, the bytes of whoever has the session, until either ends. `dialled`: this side
/// made the connection, so that the session's side begins. Memory is not shared through a relay: descriptors stay behind.
///
/// Errors with what ended it, where it was not one of the two.
pub async fn relay(connection: Connection, session: BoxIo, dialled: bool) -> Result<(), Failure> {
    match connection {
        Connection::Bytes(mut io, peer) => {
            let mut session = session;
            let ended = |e| Failure::gone(format!("{}: {e}", peer.address), false);
            if !dialled {
                let begun = timeout(HANDSHAKE, begin(&mut io, &mut session)).await;
                begun.unwrap_or_else(|_| Err(Failure::gone("did not begin in time", false)))?;
            }
            let copied = copy_bidirectional_with_sizes(&mut io, &mut session, FRAME, FRAME).await;
            copied.map(drop).map_err(ended)
        }
        Connection::Native(native, peer) => {
            let native: Arc<dyn Native> = native.into();
            let control = match dialled {
                true => native.open().await,
                false => timeout(HANDSHAKE, native.accept()).await.unwrap_or_else(|_| {
                    Err(Failure::gone(
                        format!("{}: did not begin in time", peer.address),
                        false,
                    ))
                }),
            }?;
            let ended = bridge(&native, control, session, dialled).await;
            let quietly = Failure::gone("the session is over", true);
            native.close(ended.as_ref().err().unwrap_or(&quietly));
            ended
        }
    }
}

/// Hands the handshake on, without the offers to share memory that are in it.
async fn begin(io: &mut BoxIo, session: &mut BoxIo) -> Result<(), Failure> {
    let broke = |e| broken(&e);
    let mut said = vec![io.read_u8().await.map_err(broke)?];
    if said[0] == PREFACE[0] {
        said.resize(PREFACE.len(), 0);
        io.read_exact(&mut said[1..]).await.map_err(broke)?;
    }
    if said != PREFACE {
        session.write_all(&said).await.map_err(broke)?;
        return Ok(()); // an invocation in plain mode, or what whoever has the session says is wrong
    }
    if let Some(first) = frame(io).await? {
        said.extend(unshared(first));
    }
    session.write_all(&said).await.map_err(broke)?;
    session.flush().await.map_err(broke)?;
    if let Some(answer) = frame(session).await? {
        io.write_all(&unshared(answer)).await.map_err(broke)?;
        io.flush().await.map_err(broke)?;
    }
    Ok(())
}

/// A frame's bytes, without the offer to share memory where it is one of the handshake.
fn unshared(frame: Frame) -> Vec<u8> {
    match hello(&frame) {
        Ok(Some(mut hello)) if hello.transports.iter().any(|t| t == SHM) => {
            hello.transports.retain(|t| t != SHM);
            written(frame.header().kind, 0, |b| hello.encode(b))
        }
        _ => frame.0,
    }
}

/// A frame's bytes.
fn written(kind: u8, stream: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Out::default();
    out.frame(kind, stream, write);
    let mut slices = [io::IoSlice::new(&[]); 1];
    out.slices(&mut slices);
    slices[0].to_vec()
}

/// Takes connections until `stop` or no more can come, `bounds` at once, and has `deal` see to each; then waits until all
/// have been seen to.
///
/// Errors when it cannot listen any longer.
pub async fn each<F: Future<Output = ()> + Send + 'static>(
    mut listener: Listener,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
    deal: impl Fn(Connection) -> F + Clone + Send + Sync + 'static,
) -> Result<(), Failure> {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut tasks = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let ended = loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            listener.accept().await.map(|incoming| incoming.zip(place.ok()))
        };
        let (incoming, place) = tokio::select! {
            () = &mut stop => break Ok(()),
            Some(_) = tasks.join_next() => continue,
            next = next => match next {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            },
        };
        let (deal, limit) = (deal.clone(), bounds.handshake);
        tasks.spawn(async move {
            // a slow handshake of the transport's holds up nobody else
            if let Ok(Ok(connection)) = timeout(limit, incoming).await {
                deal(connection).await;
            }
            drop(place);
        });
    };
    drop(listener);
    while tasks.join_next().await.is_some() {}
    ended
}

/// A frame with its header, and the room that it takes among those that wait.
struct Frame(Vec<u8>, Option<OwnedSemaphorePermit>);

impl Frame {
    fn header(&self) -> Header {
        self.0.first_chunk().map_or(
            Header {
                length: 0,
                kind: 0,
                stream: 0,
            },
            |b| Header::read(*b),
        )
    }

    fn on_stream(mut self, stream: u32) -> Self {
        self.0[4..HEADER].copy_from_slice(&stream.to_le_bytes());
        self
    }
}

/// What all tasks of a bridge share.
struct Shared {
    native: Arc<dyn Native>,
    /// Where the session's own calls are odd.
    dialled: bool,
    session: Turn<Writer>,
    /// What is handed to each invocation's stream, by the number that it has in the session.
    lanes: Mutex<HashMap<u32, mpsc::UnboundedSender<Frame>>>,
    /// Bytes that the session's side lets be sent in all channels together.
    credit: Semaphore,
    /// Bytes of the peer's that it allows in the same way, in its HELLO; it never gives them back, so that is done here.
    window: OnceLock<u32>,
    /// Room for what waits for the peer.
    queue: Arc<Semaphore>,
}

struct Writer {
    io: WriteHalf<BoxIo>,
    /// The number of the peer's next invocation.
    next: u32,
}

async fn bridge(
    native: &Arc<dyn Native>,
    control: BoxIo,
    session: BoxIo,
    dialled: bool,
) -> Result<(), Failure> {
    let (from_session, to_session) = split(session);
    let (from_control, to_control) = split(control);
    let shared = Arc::new(Shared {
        native: native.clone(),
        dialled,
        session: Turn::new(Writer {
            io: to_session,
            next: if dialled { 2 } else { 1 },
        }),
        lanes: Mutex::default(),
        credit: Semaphore::new(0),
        window: OnceLock::new(),
        queue: Arc::new(Semaphore::new(QUEUED)),
    });
    let (sender, receiver) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write_all(to_control, receiver));
    let mut control = std::pin::pin!(shared.read_control(BufReader::new(from_control)));
    let mut theirs = JoinSet::new();
    let mut ours = JoinSet::new();
    let mut from_session = BufReader::with_capacity(FRAME, from_session);
    let first = {
        let reading = shared.read_session(&mut from_session, &sender, &mut ours);
        let taking = async {
            while let Ok(io) = native.accept().await {
                theirs.spawn(shared.clone().serve(io));
                while theirs.try_join_next().is_some() {}
            }
            // the control stream notices by itself that the connection is gone
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = reading => First::Session(ended),
            ended = &mut control => First::Control(ended),
            () = taking => First::Session(Ok(())),
        }
    };
    let ended = match first {
        First::Session(ended) => ended,
        First::Control(ended) => {
            let rest = async {
                // answers that are on their way come before the end of the bytes, which tells the session's side
                while ours.join_next().await.is_some() {}
                let _ = shared.session.lock().await.io.shutdown().await;
                // what it still says is for nobody, but it must not fail for saying it: it may have an answer to read
                let _ = tokio::io::copy(&mut from_session, &mut tokio::io::sink()).await;
            };
            let _ = timeout(LAST_WORDS, rest).await;
            return ended;
        }
    };
    // What was said last is to reach the peer: answers, and why it ends.
    shared.lanes().clear();
    let rest = async {
        while ours.join_next().await.is_some() {}
        while theirs.join_next().await.is_some() {}
        // the end of the control stream is the session's
        drop(sender);
        let _ = writing.await;
        let _ = control.await;
    };
    let _ = timeout(LAST_WORDS, rest).await;
    ended
}

/// Which of the two ended first.
enum First {
    Session(Result<(), Failure>),
    Control(Result<(), Failure>),
}

impl Shared {
    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<u32, mpsc::UnboundedSender<Frame>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the control stream's frames on.
    async fn read_control(&self, mut from: BufReader<ReadHalf<BoxIo>>) -> Result<(), Failure> {
        if !self.dialled {
            let mut preface = PREFACE;
            if let Err(e) = from.read_exact(&mut preface).await {
                return Err(broken(&e));
            }
            self.write(&preface).await?;
        }
        while let Some(frame) = frame(&mut from).await? {
            let header = frame.header();
            if header.stream != 0 || header.kind & !kind::MORE == kind::CREDIT {
                return Err(Failure::protocol(format!(
                    "frame {:#04x} of stream {} on the control stream",
                    header.kind, header.stream
                )));
            }
            let Some(mut hello) = hello(&frame)? else {
                self.write(&frame.0).await?;
                continue;
            };
            let _ = self.window.set(hello.limits.connection);
            hello.relayed();
            self.write(&written(header.kind, 0, |b| hello.encode(b))).await?;
        }
        Ok(())
    }

    /// Hands what the session's side says to the streams that it belongs on.
    async fn read_session(
        self: &Arc<Self>,
        from: &mut BufReader<ReadHalf<BoxIo>>,
        control: &mpsc::UnboundedSender<Frame>,
        lanes: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        if self.dialled {
            let mut preface = PREFACE;
            if let Err(e) = from.read_exact(&mut preface).await {
                return Err(broken(&e));
            }
            let _ = control.send(Frame(preface.to_vec(), None));
        }
        let mut owed = 0;
        while let Some(mut frame) = frame(from).await? {
            let Header {
                length,
                kind: k,
                stream,
            } = frame.header();
            let what = k & !kind::MORE;
            if stream == 0 && what == kind::CREDIT {
                self.credited(&frame)?;
                continue;
            }
            if what == kind::DONE {
                // nothing more is said there: with the last of it, this side's direction ends
                self.lanes().remove(&stream);
                continue;
            }
            if let Some(hello) = hello(&frame)? {
                if (hello.limits.connection as usize) < 2 * FRAME {
                    return Err(Failure::protocol("a connection window of less than two frames"));
                }
                self.credit.add_permits(hello.limits.connection as usize);
            }
            frame.1 = self.queue.clone().acquire_many_owned(length as u32).await.ok();
            if stream == 0 {
                let _ = control.send(frame);
                continue;
            }
            if matches!(what, kind::CALL | kind::DATA) {
                owed += length as u32;
                if owed > self.window.get().map_or(0, |w| w / 4) {
                    self.say(kind::CREDIT, 0, |b| {
                        (Vec::<u32>::new(), std::mem::take(&mut owed)).encode(b)
                    })
                    .await?;
                }
            }
            let known = self.lanes().get(&stream).cloned();
            if let Some(lane) = known {
                let _ = lane.send(frame.on_stream(STREAM));
            } else if what == kind::CALL && stream % 2 == u32::from(self.dialled) {
                let (sender, receiver) = mpsc::unbounded_channel();
                let _ = sender.send(frame.on_stream(STREAM));
                self.lanes().insert(stream, sender);
                lanes.spawn(self.clone().call(stream, receiver));
                while lanes.try_join_next().is_some() {}
            }
        }
        Ok(())
    }

    fn credited(&self, frame: &Frame) -> Result<(), Failure> {
        let (path, n) = codec::decode::<(Vec<u32>, u32)>(&Bytes::copy_from_slice(&frame.0[HEADER..]))
            .map_err(|e| Failure::protocol(format!("a frame cannot be read: {e}")))?;
        if !path.is_empty() {
            return Err(Failure::protocol("credit of the connection has no path"));
        }
        let room = Semaphore::MAX_PERMITS - self.credit.available_permits();
        self.credit.add_permits((n as usize).min(room));
        Ok(())
    }

    /// An invocation by the session's side, on a stream of its own.
    async fn call(self: Arc<Self>, stream: u32, frames: mpsc::UnboundedReceiver<Frame>) {
        match self.native.open().await {
            Ok(io) => self.lane(io, stream, frames, true).await,
            Err(failure) => {
                self.lanes().remove(&stream);
                let _ = self.say(kind::FAIL, stream, |b| failure.encode(b)).await;
            }
        }
    }

    /// An invocation by the peer.
    async fn serve(self: Arc<Self>, mut io: BoxIo) {
        // one that arrives early waits for the handshake, and one that says nothing is given up
        let first = timeout(HANDSHAKE, frame(&mut io)).await;
        let Ok(Ok(Some(first))) = first else { return };
        if first.header().kind & !kind::MORE != kind::CALL || first.header().stream != STREAM {
            let failure = Failure::protocol("an invocation that does not begin with a CALL");
            return self.native.close(&failure);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        self.spend(&first).await;
        let stream = {
            let mut writer = self.session.lock().await;
            let stream = self.enter(&mut writer.next, sender);
            // numbers go up in the order in which they are written
            if writer.io.write_all(&first.on_stream(stream).0).await.is_err() {
                return;
            }
            stream
        };
        self.lane(io, stream, receiver, false).await;
    }

    /// The number of the peer's next invocation in the session; past those that are still in use.
    fn enter(&self, next: &mut u32, frames: mpsc::UnboundedSender<Frame>) -> u32 {
        let mut lanes = self.lanes();
        while *next == 0 || lanes.contains_key(next) {
            *next = next.wrapping_add(2);
        }
        let stream = *next;
        *next = stream.wrapping_add(2);
        lanes.insert(stream, frames);
        stream
    }

    /// Hands the frames of one invocation to and fro.
    async fn lane(&self, io: BoxIo, stream: u32, frames: mpsc::UnboundedReceiver<Frame>, called: bool) {
        let (from, to) = split(io);
        let writing = tokio::spawn(write_all(to, frames));
        let mut from = BufReader::new(from);
        let mut answered = false;
        let ended = loop {
            match frame(&mut from).await {
                Ok(Some(frame)) if frame.header().stream == STREAM => {
                    answered |= matches!(frame.header().kind, kind::RESULT | kind::FAIL);
                    self.spend(&frame).await;
                    if self.write(&frame.on_stream(stream).0).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(Some(_)) => break Err(Failure::protocol("frames of another invocation's stream")),
                Ok(None) if answered || !called => break Ok(()),
                Ok(None) => break Err(Failure::gone("the peer ended the invocation", false)),
                Err(failure) => break Err(failure),
            }
        };
        // with it ends this side's direction, once what it still has is written
        self.lanes().remove(&stream);
        match ended {
            Ok(()) => drop(writing.await),
            Err(failure) => {
                writing.abort();
                match failure.code {
                    Code::Protocol => self.native.close(&failure),
                    _ if called => drop(self.say(kind::FAIL, stream, |b| failure.encode(b)).await),
                    _ => drop(self.say(kind::CANCEL, stream, |_| {}).await),
                }
            }
        }
    }

    /// Waits until the session's side lets so much be sent.
    async fn spend(&self, frame: &Frame) {
        let Header { length, kind: k, .. } = frame.header();
        if matches!(k & !kind::MORE, kind::CALL | kind::DATA)
            && let Ok(permits) = self.credit.acquire_many(length as u32).await
        {
            permits.forget();
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut writer = self.session.lock().await;
        writer.io.write_all(bytes).await.map_err(|e| broken(&e))
    }

    async fn say(&self, kind: u8, stream: u32, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        self.write(&written(kind, stream, write)).await
    }
}

/// Writes frames until there are no more, and ends the direction. Small ones that wait leave together.
async fn write_all(mut to: WriteHalf<BoxIo>, mut frames: mpsc::UnboundedReceiver<Frame>) {
    while let Some(mut frame) = frames.recv().await {
        while frame.0.len() < BIG
            && let Ok(mut next) = frames.try_recv()
        {
            frame.0.append(&mut next.0);
        }
        if to.write_all(&frame.0).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// The next frame; none at the end.
///
/// Errors where it is too long, or the connection breaks.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, Failure> {
    let mut bytes = vec![0; HEADER];
    match from.read(&mut bytes).await.map_err(|e| broken(&e))? {
        0 => return Ok(None),
        n => from.read_exact(&mut bytes[n..]).await.map_err(|e| broken(&e))?,
    };
    let length = Frame(bytes.clone(), None).header().length;
    if length > FRAME {
        return Err(Failure::protocol(format!(
            "a frame of {length} bytes: {FRAME} are the most"
        )));
    }
    bytes.resize(HEADER + length, 0);
    from.read_exact(&mut bytes[HEADER..])
        .await
        .map_err(|e| broken(&e))?;
    Ok(Some(Frame(bytes, None)))
}

/// What a HELLO or WELCOME says.
fn hello(frame: &Frame) -> Result<Option<Hello>, Failure> {
    if !matches!(frame.header().kind, kind::HELLO | kind::WELCOME) {
        return Ok(None);
    }
    let mut payload = Bytes::copy_from_slice(&frame.0);
    payload.advance(HEADER);
    let read = codec::decode(&payload).map(Some);
    read.map_err(|e| Failure::protocol(format!("a frame cannot be read: {e}")))
}

fn broken(e: &io::Error) -> Failure {
    Failure::gone(format!("the connection broke: {e}"), false)
}
