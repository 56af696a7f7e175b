//! Writes the result of a call.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use loop_wire::codec::{Encode, put_bytes, put_unsigned};
use loop_wire::{Code, Failure};

use crate::answer::Context;
use crate::channels::{Promise, Stream};
use crate::links;
use crate::pumps::{self, Outlet};

/// Where the values of a result are written to.
pub struct Lower<'a> {
    pub(crate) out: Vec<u8>,
    pub(crate) path: Vec<u32>,
    pub(crate) cx: &'a Context,
    /// What is to follow, once this is sent.
    pub(crate) pumps: Vec<BoxFuture<'static, ()>>,
    /// The path of each of them.
    pub(crate) paths: Vec<Box<[u32]>>,
    /// Resources that were given to the peer.
    pub(crate) given: Vec<u64>,
}

impl<'a> Lower<'a> {
    pub(crate) fn new(path: &[u32], cx: &'a Context) -> Self {
        Lower {
            out: vec![],
            path: path.into(),
            cx,
            pumps: vec![],
            paths: vec![],
            given: vec![],
        }
    }

    pub fn value<T: Encode>(&mut self, value: &T) -> Result<(), Failure> {
        value.encode(&mut self.out);
        Ok(())
    }

    pub fn at<T>(
        &mut self,
        step: u32,
        value: T,
        write: impl FnOnce(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.path.push(step);
        let done = write(self, value);
        self.path.pop();
        done
    }

    pub fn case(&mut self, case: u32) -> Result<(), Failure> {
        put_unsigned(&mut self.out, case.into());
        Ok(())
    }

    pub fn option<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match value {
            None => self.case(0),
            Some(value) => {
                self.case(1)?;
                self.at(1, value, write)
            }
        }
    }

    pub fn result<T, E>(
        &mut self,
        value: Result<T, E>,
        ok: impl FnOnce(&mut Self, T) -> Result<(), Failure>,
        err: impl FnOnce(&mut Self, E) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match value {
            Ok(value) => {
                self.case(0)?;
                self.at(0, value, ok)
            }
            Err(value) => {
                self.case(1)?;
                self.at(1, value, err)
            }
        }
    }

    pub fn list<T>(
        &mut self,
        values: Vec<T>,
        write: impl Fn(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        put_unsigned(&mut self.out, values.len() as u64);
        self.items(values, write)
    }

    pub fn array<T, const N: usize>(
        &mut self,
        values: [T; N],
        write: impl Fn(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.items(values, write)
    }

    fn items<T>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for (i, value) in values.into_iter().enumerate() {
            self.at(i as u32, value, &write)?;
        }
        Ok(())
    }

    /// Gives a resource away.
    pub fn own<R: Any + Send + Sync>(&mut self, resource: Arc<R>) -> Result<(), Failure> {
        let number = self.cx.bound.handles.give(resource)?;
        self.given.push(number);
        put_bytes(&mut self.out, &links::bytes(number));
        Ok(())
    }

    /// Announces a stream or future at this place.
    fn pending(&mut self) -> Result<Outlet, Failure> {
        self.out.push(0);
        let most = loop_wire::Limits::default().channels as usize;
        if self.pumps.len() >= most {
            let message = format!("more than {most} streams and futures in one message");
            return Err(Failure::new(Code::Overloaded, message).with("limit", most));
        }
        self.paths.push(self.path.as_slice().into());
        Ok(Outlet::new(self.cx.clone(), &self.path))
    }

    pub fn stream<T: Send + 'static>(
        &mut self,
        stream: Stream<T>,
        write: impl Fn(&mut Lower<'_>, T) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let pump = pumps::items(self.pending()?, stream, write);
        self.pumps.push(Box::pin(pump));
        Ok(())
    }

    pub fn bytes(&mut self, stream: Stream<Bytes>) -> Result<(), Failure> {
        let pump = pumps::bytes(self.pending()?, stream);
        self.pumps.push(Box::pin(pump));
        Ok(())
    }

    pub fn future<T: Send + 'static>(
        &mut self,
        future: Promise<T>,
        write: impl FnOnce(&mut Lower<'_>, T) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let pump = pumps::value(self.pending()?, future, write);
        self.pumps.push(Box::pin(pump));
        Ok(())
    }

    /// How much there is, for [`Self::undo`].
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            out: self.out.len(),
            pumps: self.pumps.len(),
            given: self.given.len(),
        }
    }

    /// Takes back what was written since, which the peer will never hear of.
    pub(crate) fn undo(&mut self, to: Mark) {
        self.out.truncate(to.out);
        self.pumps.truncate(to.pumps);
        self.paths.truncate(to.pumps);
        for number in self.given.drain(to.given..) {
            self.cx.bound.handles.remove(number);
        }
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Mark {
    out: usize,
    pumps: usize,
    given: usize,
}
