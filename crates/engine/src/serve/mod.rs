//! Serving `wasi:http`: connections, and components that answer their requests.

mod batch;
mod body;
mod conn;
mod exchange;
mod page;
mod server;
mod shared;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use server::{Server, listen, serve};

/// How a [`Server`] serves. What one request may use is in its program's [`crate::Limits`].
#[derive(Clone)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Threads that serve, each with its share of the connections; `None`: one for each core this process may use.
    pub workers: Option<usize>,
    /// Connections open at once; more wait in the system's queue.
    pub connections: usize,
    /// How long a client may take to send a request's head, the idle time before it included.
    pub header_timeout: Duration,
    /// The longest head of a request, bytes; at least 8 KiB are read.
    pub header_bytes: usize,
    /// The most header fields of a request.
    pub header_fields: usize,
    /// The longest body of a request, bytes.
    pub body: u64,
    /// Hears of each request that failed in the component: a trap with its backtrace, or a limit.
    pub on_error: Option<OnError>,
}

/// Gets `METHOD /path` and the error, on a thread that serves.
pub type OnError = Arc<dyn Fn(&str, &wasmtime::Error) + Send + Sync>;

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: None,
            connections: 10_000,
            header_timeout: Duration::from_secs(30),
            header_bytes: 64 << 10,
            header_fields: 100,
            body: 64 << 20,
            on_error: None,
        }
    }
}
