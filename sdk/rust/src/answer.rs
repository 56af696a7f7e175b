//! From a call's bytes to a provider's function, and back to bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use loop_wire::{Code, Failure};

use crate::call::{Call, Link};
use crate::invocation::Invocation;
use crate::lift::Lift;
use crate::links::Bound;
use crate::lower::Lower;

pub(crate) type Pump = BoxFuture<'static, ()>;

/// An interface that is served; `provide` of a module of `wit!()` makes one.
pub struct Interface {
    pub(crate) wire: loop_wire::Interface,
    pub(crate) make: Box<Make>,
}

type Make = dyn Fn(&Link) -> Result<Arc<dyn Service>, Failure> + Send + Sync;

impl Interface {
    #[doc(hidden)]
    pub fn new(
        name: &str,
        functions: &[(&str, [u8; 32])],
        resources: &[&str],
        make: impl Fn(&Link) -> Result<Arc<dyn Service>, Failure> + Send + Sync + 'static,
    ) -> Self {
        Interface {
            wire: loop_wire::Interface {
                name: name.into(),
                functions: functions.iter().map(|(name, _)| (*name).into()).collect(),
                types: functions.iter().map(|(_, digest)| digest.to_vec()).collect(),
                resources: resources.iter().map(|name| (*name).into()).collect(),
            },
            make: Box::new(make),
        }
    }
}

/// What answers the calls of an interface in one link.
pub trait Service: Send + Sync {
    /// Answers the call of a function, by its number in the interface.
    fn call(&self, function: usize, request: Request) -> Answer;

    /// Whether parameters or result of that function hold streams or futures.
    fn is_streaming(&self, function: usize) -> bool;
}

/// What comes of a call.
pub type Answer = BoxFuture<'static, Result<Message, Failure>>;

/// A result, and what follows it.
pub struct Message {
    pub(crate) root: Bytes,
    pub(crate) pumps: Vec<Pump>,
    pub(crate) paths: Vec<Box<[u32]>>,
}

/// What the values of a call belong to.
#[derive(Clone)]
pub(crate) struct Context {
    pub bound: Arc<Bound>,
    invocation: Option<Arc<Invocation>>,
    /// Streams and futures that items of streams had in them.
    added: Arc<Mutex<Vec<Pump>>>,
}

impl Context {
    pub fn new(bound: Arc<Bound>, invocation: Option<Arc<Invocation>>) -> Self {
        Context {
            bound,
            invocation,
            added: Arc::default(),
        }
    }

    /// The call, which is one with streams or futures: there are none without.
    pub fn invocation(&self) -> &Invocation {
        self.invocation
            .as_ref()
            .expect("a function with channels is a streaming one")
    }

    pub fn add(&self, pumps: Vec<Pump>) {
        if !pumps.is_empty() {
            self.added
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(pumps);
        }
    }

    pub fn added(&self) -> Vec<Pump> {
        std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A call to be answered.
pub struct Request {
    pub(crate) call: Call,
    pub(crate) root: Bytes,
    pub(crate) cx: Context,
}

impl Request {
    pub fn answer<F>(self, answer: impl FnOnce(Request) -> F) -> Answer
    where
        F: Future<Output = Result<Message, Failure>> + Send + 'static,
    {
        Box::pin(answer(self))
    }

    pub fn unknown(self) -> Answer {
        let failure = Failure::new(Code::NoSuchFunction, "there is no function of that number");
        Box::pin(std::future::ready(Err(failure)))
    }

    pub fn call(&self) -> Call {
        self.call.clone()
    }

    /// The parameters, all of them.
    pub fn params<T>(&self, read: impl FnOnce(&mut Lift<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut lift = Lift::new(&self.root, &[], &self.cx);
        let params = read(&mut lift)?;
        lift.end()?;
        Ok(params)
    }

    /// The result.
    pub fn root(
        &self,
        write: impl FnOnce(&mut Lower<'_>) -> Result<(), Failure>,
    ) -> Result<Message, Failure> {
        let mut lower = Lower::new(&[], &self.cx);
        if let Err(why) = write(&mut lower) {
            lower.undo(Default::default());
            return Err(why);
        }
        Ok(Message {
            root: lower.out.into(),
            pumps: lower.pumps,
            paths: lower.paths,
        })
    }
}

/// What a function answers that the provider has not written yet.
pub fn unfinished(function: &str) -> Failure {
    Failure::new(Code::NoSuchFunction, format!("{function} is not written yet")).with("function", function)
}

/// Appends flags, one bit each.
pub fn put_flags(out: &mut Vec<u8>, flags: &[bool]) {
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    out.extend(flags.chunks(8).map(byte));
}
