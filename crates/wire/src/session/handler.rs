//! What a session's user serves, and how calls are answered.

use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{Called, Times};
use super::driver::Session;
use crate::failure::{Code, Failure};
use crate::hello::{Hello, Link};

/// A connection's two directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket to read and write instead, where descriptors are to be passed along with the bytes: long payloads then
    /// go by shared memory.
    #[cfg(target_os = "linux")]
    fn socket(&self) -> Option<&tokio::net::UnixStream> {
        None
    }
}

impl<T: Io + ?Sized> Io for Box<T> {
    #[cfg(target_os = "linux")]
    fn socket(&self) -> Option<&tokio::net::UnixStream> {
        (**self).socket()
    }
}

impl Io for tokio::io::DuplexStream {}
impl Io for tokio::net::TcpStream {}
#[cfg(unix)]
impl Io for tokio::net::UnixStream {}

/// What this side says of itself over that connection: that memory may be shared, where it may.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, unused_mut))]
pub(super) fn announced(io: &impl Io, mut ours: Hello) -> Hello {
    #[cfg(target_os = "linux")]
    if io.socket().is_some() {
        ours.share();
    }
    ours
}

/// What a call is answered with.
pub enum Reply {
    Now(Result<Bytes, Failure>),
    Later(Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>),
    /// It answers by [`Session::respond`] itself and ends by [`Session::close_call`].
    Task(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// What a peer serves, and what it has to say.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call. Runs on the session's task: what takes time belongs into [`Reply::Later`].
    fn call(&self, session: &Session, called: Called) -> Reply;

    /// Whether `theirs` may have a session: who it is, and whether it proves it.
    fn accept(&self, theirs: &Hello) -> Result<(), Failure> {
        let _ = theirs;
        Ok(())
    }

    /// Binds a link with its grant.
    fn link(&self, link: Link) -> Result<(), Failure> {
        Err(Failure::new(Code::NotGranted, "nothing here is served under a grant").with("link", link.name))
    }

    fn unlink(&self, number: u32) {
        let _ = number;
    }

    /// The peer let go of a handle.
    fn dropped(&self, link: u32, resource: u32, handle: &[u8]) {
        let _ = (link, resource, handle);
    }

    /// Reads code or configuration anew.
    fn reload(&self) -> Result<(), Failure> {
        Err(Failure::new(Code::Provider, "this provider cannot reload"))
    }

    /// The session has ended.
    fn closed(&self, why: &Failure) {
        let _ = why;
    }
}

/// Serves nothing: for peers that only call.
pub struct Nothing;

impl Handler for Nothing {
    fn call(&self, _: &Session, called: Called) -> Reply {
        let failure = Failure::new(Code::NoSuchFunction, "nothing is served here");
        Reply::Now(Err(failure.with("function", called.function)))
    }
}

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    pub times: Option<Times>,
    /// The result's bytes.
    pub root: Bytes,
}
