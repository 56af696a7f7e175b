//! What a session's user serves, and how calls are answered.

use std::any::Any;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{Called, Times};
use super::driver::Session;
use crate::failure::{Code, Failure};
use crate::hello::{Hello, Link};

/// A connection's two directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + Any {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + Any> Io for T {}

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
