//! Named pipes of Windows.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeServer, ServerOptions};

use super::{Connection, Incoming, Peer, Source, failed};
use crate::address::Address;
use crate::failure::Failure;

/// `ERROR_PIPE_BUSY`: the listener has not made the next instance yet.
const BUSY: i32 = 231;
/// Tries to connect while the listener is busy, and the time between them.
const TRIES: u32 = 100;
const TRY: Duration = Duration::from_millis(20);

fn path(name: &str) -> OsString {
    format!(r"\\.\pipe\{name}").into()
}

fn peer(name: &str) -> Peer {
    Peer {
        address: Address::Pipe(name.into()).to_string(),
        ..Peer::default()
    }
}

pub(super) async fn connect(name: &str) -> Result<Connection, Failure> {
    let mut tries = 0;
    loop {
        match ClientOptions::new().open(path(name)) {
            Ok(io) => return Ok(Connection::Bytes(Box::new(io), peer(name))),
            Err(e) if e.raw_os_error() == Some(BUSY) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(TRY).await;
            }
            Err(e) => return Err(failed("connect to", Address::Pipe(name.into()), &e)),
        }
    }
}

/// The first instance is made here, and refused where the name is another's. The default descriptor lets the owner and
/// administrators write, which a session needs; other machines are shut out.
fn instance(name: &str, first: bool) -> io::Result<NamedPipeServer> {
    ServerOptions::new()
        .first_pipe_instance(first)
        .reject_remote_clients(true)
        .create(path(name))
}

pub(super) fn listen(name: &str) -> Result<PipeSource, Failure> {
    let next = instance(name, true).map_err(|e| failed("listen at", Address::Pipe(name.into()), &e))?;
    Ok(PipeSource {
        name: name.into(),
        next,
    })
}

pub(super) struct PipeSource {
    name: String,
    /// Waits for the next peer; there is always one, or the name would be free to take.
    next: NamedPipeServer,
}

impl Source for PipeSource {
    fn accept(&mut self) -> BoxFuture<'_, Result<Option<Incoming>, Failure>> {
        Box::pin(async {
            let named = Address::Pipe(self.name.clone());
            self.next
                .connect()
                .await
                .map_err(|e| failed("listen at", &named, &e))?;
            let next = instance(&self.name, false).map_err(|e| failed("listen at", &named, &e))?;
            let io = std::mem::replace(&mut self.next, next);
            let peer = peer(&self.name);
            Ok(Some(Incoming::new(async move {
                Ok(Connection::Bytes(Box::new(io), peer))
            })))
        })
    }

    fn addresses(&self) -> Vec<Address> {
        vec![Address::Pipe(self.name.clone())]
    }
}
