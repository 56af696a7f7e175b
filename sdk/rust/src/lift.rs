//! Reads the values of a call.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use loop_wire::Failure;
use loop_wire::codec::{Cursor, Decode, Invalid, ZERO_SIZED};

use crate::answer::Context;
use crate::channels::{IncomingBytes, IncomingItems, Promise, Stream, incoming_value};

/// Where the values of a call are read from.
pub struct Lift<'a> {
    pub(crate) from: Cursor<'a>,
    /// What `from` is a part of.
    pub(crate) whole: &'a Bytes,
    pub(crate) path: Vec<u32>,
    pub(crate) cx: &'a Context,
}

impl<'a> Lift<'a> {
    pub(crate) fn new(whole: &'a Bytes, path: &[u32], cx: &'a Context) -> Self {
        Lift {
            from: Cursor::new(whole),
            whole,
            path: path.into(),
            cx,
        }
    }

    pub fn value<T: Decode>(&mut self) -> Result<T, Failure> {
        Ok(T::decode(&mut self.from)?)
    }

    /// A part of the value, which is found by that step.
    pub fn at<T>(
        &mut self,
        step: u32,
        read: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.path.push(step);
        let value = read(self);
        self.path.pop();
        value
    }

    pub fn all<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        read(self)
    }

    /// The number of a case.
    pub fn case(&mut self, cases: usize) -> Result<usize, Failure> {
        Ok(self.from.case(cases)?)
    }

    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match self.case(2)? {
            0 => Ok(None),
            _ => self.at(1, read).map(Some),
        }
    }

    pub fn result<T, E>(
        &mut self,
        ok: impl FnOnce(&mut Self) -> Result<T, Failure>,
        err: impl FnOnce(&mut Self) -> Result<E, Failure>,
    ) -> Result<Result<T, E>, Failure> {
        match self.case(2)? {
            0 => self.at(0, ok).map(Ok),
            _ => self.at(1, err).map(Err),
        }
    }

    pub fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let n = self.from.count(1, 0)?;
        self.items(n, read)
    }

    pub fn array<T, const N: usize>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, Failure>,
    ) -> Result<[T; N], Failure> {
        let items = self.items(N, read)?;
        items.try_into().map_err(|_| Failure::from(Invalid::Truncated))
    }

    fn items<T>(
        &mut self,
        n: usize,
        read: impl Fn(&mut Self) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        (0..n).map(|i| self.at(i as u32, &read)).collect()
    }

    /// A resource that was lent.
    pub fn borrowed<R: Any + Send + Sync>(&mut self) -> Result<Arc<R>, Failure> {
        let handle = self.from.bytes()?;
        self.cx.bound.handles.take(handle, false)
    }

    /// A resource that comes home.
    pub fn owned<R: Any + Send + Sync>(&mut self) -> Result<Arc<R>, Failure> {
        let handle = self.from.bytes()?;
        self.cx.bound.handles.take(handle, true)
    }

    /// Whether a stream or future is there already.
    fn is_ready(&mut self) -> Result<bool, Failure> {
        Ok(self.case(2)? == 1)
    }

    pub fn stream<T: Send + 'static>(
        &mut self,
        read: impl Fn(&mut Lift<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Stream<T>, Failure> {
        if self.is_ready()? {
            let items = self.chunk(0, &read)?;
            return Ok(Stream::new(futures::stream::iter(items)));
        }
        Ok(Stream::fallible(IncomingItems::new(
            self.cx.clone(),
            &self.path,
            read,
        )))
    }

    /// The items of a chunk, of which the first is item number `first` of its stream.
    pub(crate) fn chunk<T>(
        &mut self,
        first: u32,
        read: &impl Fn(&mut Lift<'_>) -> Result<T, Failure>,
    ) -> Result<VecDeque<T>, Failure> {
        let n = self.from.unsigned(32)? as usize;
        // each item takes a byte, or there are none but their number
        if n > self.from.rest().len() && (n > ZERO_SIZED || !self.from.rest().is_empty()) {
            return Err(Invalid::Truncated.into());
        }
        let items = (0..n).map(|i| self.at(first.wrapping_add(i as u32), |cx| read(cx)));
        items.collect()
    }

    /// A stream of bytes, in the pieces in which they come.
    pub fn bytes(&mut self) -> Result<Stream<Bytes>, Failure> {
        if self.is_ready()? {
            let all = self.whole.slice_ref(self.from.bytes()?);
            return Ok(Stream::new(
                futures::stream::iter([all]).filter(|all| std::future::ready(!all.is_empty())),
            ));
        }
        Ok(Stream::fallible(IncomingBytes::new(self.cx.clone(), &self.path)))
    }

    pub fn future<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut Lift<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Promise<T>, Failure> {
        if self.is_ready()? {
            let value = read(self)?;
            return Ok(Promise::new(std::future::ready(value)));
        }
        Ok(Promise::fallible(incoming_value(
            self.cx.clone(),
            &self.path,
            read,
        )))
    }

    pub(crate) fn end(&self) -> Result<(), Failure> {
        Ok(self.from.end()?)
    }
}
