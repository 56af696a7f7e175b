//! Files as streams of bytes, both ways.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use loop_engine::{Block, Chunk, Error, Neutral, Result, Source, Value};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::atomic::Atomic;
use super::code::ErrorCode;
use super::quota::{Count, Streamed};
use super::root::Root;
use super::write::At;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Bytes that a guest must ask for to get them without a chunk between: for fewer a call of the system is too much.
const LEAST: usize = 4 << 10;

/// Chunks that are read ahead.
const AHEAD: usize = 4;

/// Bytes that are gathered while others are written.
const GATHERED: usize = 1 << 20;

type End = Result<(), ErrorCode>;

/// A stream and the future that tells how it ended, as every stream of this package is given.
pub(super) fn with_end(source: impl FnOnce(oneshot::Sender<End>) -> Value) -> Value {
    let (ended, end) = oneshot::channel::<End>();
    let stream = source(ended);
    let end = async move {
        match end.await {
            Ok(Err(code)) => Value::err(Some(code.into())),
            Ok(Ok(())) | Err(_) => Value::ok(None),
        }
    };
    Value::Fields(vec![stream, crate::value::future(end)])
}

/// The stream and the future of `read-stream`: the bytes of `file` from where it stands, and how it ended. No file
/// gives no bytes.
///
/// What the system has in memory goes straight to the guest's. The rest is read ahead on a blocking thread, which is given
/// back as soon as there are enough chunks: a stream that nobody reads holds no thread. Dropping the stream ends it well.
pub(super) fn read_ahead(io: Handle, file: Option<File>, permit: OwnedSemaphorePermit) -> Value {
    with_end(|ended| {
        let (tx, rx) = mpsc::channel(AHEAD);
        let ahead = file.map(|file| {
            Arc::new(Ahead {
                io,
                tx,
                idle: Mutex::new(Some(file)),
                spare: Arc::default(),
            })
        });
        crate::value::stream(Reading {
            ahead,
            rx,
            ended: Some(ended),
            _permit: permit,
        })
    })
}

/// What reads ahead.
struct Ahead {
    io: Handle,
    tx: mpsc::Sender<io::Result<Buffer>>,
    /// The file while no thread reads it.
    idle: Mutex<Option<File>>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A chunk, whose memory serves again once it was read.
struct Buffer {
    bytes: Vec<u8>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = self.spare.lock().expect("nothing panics here");
        if spare.len() < AHEAD {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Ahead {
    fn take(&self) -> Option<File> {
        self.idle.lock().expect("nothing panics here").take()
    }

    fn put(&self, file: File) {
        *self.idle.lock().expect("nothing panics here") = Some(file);
    }

    /// Begins to read ahead if nobody does and there is room.
    fn go_on(self: &Arc<Self>) {
        if self.tx.capacity() * 2 < AHEAD {
            return;
        }
        if let Some(file) = self.take() {
            let ahead = self.clone();
            self.io.spawn_blocking(move || ahead.run(file));
        }
    }

    fn run(&self, mut file: File) {
        loop {
            match self.tx.try_reserve() {
                Ok(permit) => {
                    let mut bytes = self
                        .spare
                        .lock()
                        .expect("nothing panics here")
                        .pop()
                        .unwrap_or_default();
                    bytes.clear();
                    bytes.reserve_exact(CHUNK);
                    let read = Read::by_ref(&mut file).take(CHUNK as u64).read_to_end(&mut bytes);
                    let last = !matches!(read, Ok(n) if n > 0);
                    let spare = self.spare.clone();
                    permit.send(read.map(|_| Buffer { bytes, spare }));
                    if last {
                        return;
                    }
                }
                Err(mpsc::error::TrySendError::Closed(())) => return,
                Err(mpsc::error::TrySendError::Full(())) => {
                    self.put(file);
                    // whoever made room since then saw us at work
                    if self.tx.capacity() == 0 {
                        return;
                    }
                    match self.take() {
                        Some(again) => file = again,
                        None => return,
                    }
                }
            }
        }
    }
}

/// A file that is read.
struct Reading {
    ahead: Option<Arc<Ahead>>,
    rx: mpsc::Receiver<io::Result<Buffer>>,
    ended: Option<oneshot::Sender<End>>,
    _permit: OwnedSemaphorePermit,
}

impl Source<Neutral> for Reading {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let end = match &self.ahead {
            Some(ahead) => {
                ahead.go_on();
                match ready!(self.rx.poll_recv(cx)) {
                    Some(Ok(buffer)) if !buffer.bytes.is_empty() => {
                        return Poll::Ready(Ok(Some(Chunk::Raw(Box::new(buffer)))));
                    }
                    Some(Ok(_)) => Ok(()),
                    Some(Err(e)) => Err(e.into()),
                    None => Err(ErrorCode::Io),
                }
            }
            None => Ok(()),
        };
        self.ahead = None;
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(end);
        }
        Poll::Ready(Ok(None))
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<usize> {
        let ahead = self.ahead.as_ref()?;
        if room.len() < LEAST {
            return None;
        }
        let file = ahead.take()?;
        // nobody reads ahead now, and nothing that was read waits: the file stands where the stream does
        let read = self.rx.is_empty().then(|| read_now(&file, room)).flatten();
        ahead.put(file);
        read
    }
}

/// Reads what needs no waiting for the disk; `None` where there is nothing like that, the end included.
#[cfg(target_os = "linux")]
fn read_now(file: &File, room: &mut [u8]) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    // from where the file stands, and on
    let here = u64::MAX;
    let read = preadv2(
        file,
        &mut [io::IoSliceMut::new(room)],
        here,
        ReadWriteFlags::NOWAIT,
    );
    read.ok().filter(|n| *n > 0)
}

#[cfg(not(target_os = "linux"))]
fn read_now(_: &File, _: &mut [u8]) -> Option<usize> {
    None
}

/// The variant `placement`.
pub(super) fn placement(v: &Value) -> Result<Placement> {
    Ok(match v {
        Value::Case(0, None) => Placement::Plain(At::Whole),
        Value::Case(1, None) => Placement::Plain(At::End),
        Value::Case(2, Some(offset)) => Placement::Plain(At::Offset(offset.as_u64()?)),
        Value::Case(3, Some(durable)) => Placement::Atomic {
            durable: matches!(**durable, Value::Bool(true)),
        },
        other => return Err(Error::msg(format!("not a placement: {other:?}"))),
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Placement {
    Plain(At),
    Atomic { durable: bool },
}

/// A file that a stream is written to.
struct Sink {
    root: Arc<Root>,
    to: To,
    counted: Streamed,
    /// Bytes written.
    written: u64,
    /// Its size before, and where writing began.
    size: u64,
    start: u64,
}

enum To {
    File(File),
    Atomic(Box<Atomic>, bool),
}

impl Sink {
    fn open(root: Arc<Root>, path: &str, placement: Placement) -> Result<Self, ErrorCode> {
        let (to, size, start) = match placement {
            Placement::Plain(at) => {
                let (mut file, size) = root.open_to_write(path, at, false)?;
                let start = match at {
                    At::Whole => 0,
                    At::End => size,
                    At::Offset(offset) => {
                        i64::try_from(offset).map_err(|_| ErrorCode::FileTooLarge)?;
                        file.seek(SeekFrom::Start(offset))?
                    }
                };
                if at == At::Whole && size > 0 {
                    file.set_len(0)?;
                    root.writable()?.give(Count::bytes(size));
                }
                let size = if at == At::Whole { 0 } else { size };
                (To::File(file), size, start)
            }
            Placement::Atomic { durable } => {
                let atomic = Atomic::new(&root, path)?;
                root.writable()?.take(Count::ONE)?;
                (To::Atomic(Box::new(atomic), durable), 0, 0)
            }
        };
        let counted = Streamed::new(root.writable()?.clone());
        Ok(Sink {
            root,
            to,
            counted,
            written: 0,
            size,
            start,
        })
    }

    fn write(&mut self, blocks: &[Block]) -> Result<(), ErrorCode> {
        let bytes: u64 = blocks.iter().map(|block| (**block).as_ref().len() as u64).sum();
        let reach = |written: u64| (self.start + written).saturating_sub(self.size);
        let end = self.written.checked_add(bytes).ok_or(ErrorCode::FileTooLarge)?;
        self.counted.take(reach(end) - reach(self.written))?;
        let file = match &mut self.to {
            To::File(file) => file,
            To::Atomic(atomic, _) => atomic.file(),
        };
        for block in blocks {
            file.write_all((**block).as_ref())?;
        }
        self.written = end;
        Ok(())
    }

    fn finish(self) -> Result<u64, ErrorCode> {
        if let To::Atomic(atomic, durable) = self.to {
            atomic.commit(&self.root, durable)?;
        }
        Ok(self.written)
    }
}

/// Writes a stream to a file: what comes while some is being written is written next, in one go.
pub(super) async fn write(
    io: Handle,
    root: Arc<Root>,
    path: String,
    placement: Placement,
    mut source: Box<dyn Source<Neutral>>,
) -> Result<Result<u64, ErrorCode>> {
    let opened = io
        .spawn_blocking(move || Sink::open(root, &path, placement))
        .await;
    let mut sink = match opened.map_err(Error::new)? {
        Ok(sink) => sink,
        Err(code) => return Ok(Err(code)),
    };
    let mut gathered = Gathered::default();
    loop {
        poll_fn(|cx| gathered.poll_some(&mut *source, cx)).await?;
        let blocks = std::mem::take(&mut gathered.blocks);
        gathered.bytes = 0;
        if blocks.is_empty() {
            let finished = io.spawn_blocking(move || sink.finish()).await;
            return finished.map_err(Error::new);
        }
        let mut writing = pin!(io.spawn_blocking(move || {
            let result = sink.write(&blocks);
            (sink, result)
        }));
        let written = poll_fn(|cx| {
            if let Poll::Ready(written) = writing.as_mut().poll(cx) {
                return Poll::Ready(Ok(written));
            }
            match gathered.poll_more(&mut *source, cx) {
                Err(e) => Poll::Ready(Err(e)),
                Ok(()) => Poll::Pending,
            }
        });
        let (back, result) = written.await?.map_err(Error::new)?;
        if let Err(code) = result {
            return Ok(Err(code));
        }
        sink = back;
    }
}

/// What was read of a stream and not yet written.
#[derive(Default)]
struct Gathered {
    blocks: Vec<Block>,
    bytes: usize,
    ended: bool,
}

impl Gathered {
    /// Gathers what is there without waiting.
    fn poll_more(&mut self, source: &mut dyn Source<Neutral>, cx: &mut Context<'_>) -> Result<()> {
        while !self.ended && self.bytes < GATHERED {
            match source.poll_next(cx)? {
                Poll::Ready(Some(Chunk::Raw(block))) => {
                    self.bytes += (*block).as_ref().len();
                    self.blocks.push(block);
                }
                Poll::Ready(Some(_)) => return Err(Error::msg("a stream of bytes was fed something else")),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Waits until there is something, or the stream has ended.
    fn poll_some(&mut self, source: &mut dyn Source<Neutral>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_more(source, cx)?;
        if self.ended || !self.blocks.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}
