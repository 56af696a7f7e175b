//! A file as a stream of bytes.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use loop_engine::{Chunk, Neutral, Result, Source, Value};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::code::ErrorCode;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

type End = Result<(), ErrorCode>;

/// The stream and the future of `read-stream`: the bytes of `file` from where it stands, and how it ended. No file
/// gives no bytes.
///
/// One chunk is read ahead on a blocking thread, which is given back between chunks: a stream that nobody reads holds
/// no thread. Dropping the stream ends it well.
pub(super) fn read_ahead(io: Handle, file: Option<File>) -> (Value, Value) {
    let (ended, end) = oneshot::channel::<End>();
    let next = file.map(|file| read(&io, file));
    let bytes = ReadAhead {
        io,
        next,
        ended: Some(ended),
    };
    let end = async move {
        match end.await {
            Ok(Err(code)) => Value::err(Some(code.into())),
            Ok(Ok(())) | Err(_) => Value::ok(None),
        }
    };
    (crate::value::stream(bytes), crate::value::future(end))
}

struct ReadAhead {
    io: Handle,
    next: Option<JoinHandle<(File, io::Result<Vec<u8>>)>>,
    ended: Option<oneshot::Sender<End>>,
}

fn read(io: &Handle, mut file: File) -> JoinHandle<(File, io::Result<Vec<u8>>)> {
    io.spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        (file, read.map(|_| chunk))
    })
}

impl Source<Neutral> for ReadAhead {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<Neutral>>>> {
        let end = match &mut self.next {
            Some(next) => match ready!(Pin::new(next).poll(cx)) {
                Ok((file, Ok(chunk))) if !chunk.is_empty() => {
                    self.next = Some(read(&self.io, file));
                    return Poll::Ready(Ok(Some(Chunk::Raw(Box::new(chunk)))));
                }
                Ok((_, Ok(_))) => Ok(()),
                Ok((_, Err(e))) => Err(e.into()),
                // the runtime is shutting down
                Err(_) => Err(ErrorCode::Io),
            },
            None => Ok(()),
        };
        self.next = None;
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(end);
        }
        Poll::Ready(Ok(None))
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            next.abort(); // a read that has not begun need not
        }
    }
}
