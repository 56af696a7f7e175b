//! Where a component's standard streams lead.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// What a component reads as its standard input.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// It is at its end.
    #[default]
    Null,
    /// The host's own.
    Inherit,
    Bytes(Bytes),
}

/// Where a component's standard output or error goes.
#[derive(Clone, Default)]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// The host's own.
    Inherit,
    /// To a function, which gets each write and runs on the thread that runs the component.
    Capture(Sink),
}

type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

impl Input {
    pub(super) fn apply(&self, b: &mut WasiCtxBuilder) {
        match self {
            Input::Null => {}
            Input::Inherit => _ = b.inherit_stdin(),
            Input::Bytes(bytes) => _ = b.stdin(MemoryInputPipe::new(bytes.clone())),
        }
    }
}

impl Output {
    pub(super) fn apply(&self, b: &mut WasiCtxBuilder, err: bool) {
        match (self, err) {
            (Output::Null, _) => {}
            (Output::Inherit, false) => _ = b.inherit_stdout(),
            (Output::Inherit, true) => _ = b.inherit_stderr(),
            (Output::Capture(sink), false) => _ = b.stdout(Capture(sink.clone())),
            (Output::Capture(sink), true) => _ = b.stderr(Capture(sink.clone())),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Null => "Null",
            Output::Inherit => "Inherit",
            Output::Capture(_) => "Capture",
        })
    }
}

#[derive(Clone)]
struct Capture(Sink);

/// The most that one write hands over.
const CHUNK: usize = 1 << 20;

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        (self.0)(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        (self.0)(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
