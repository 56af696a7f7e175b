//! Component values as the bytes of the wire.

use std::sync::{Arc, Mutex, PoisonError};

use loop_engine::{
    Domain, Feed, Handle, HostObject, Kind, Num, Resource, Settle, Settling, Source, Ty, TyRef, current_home,
};
use loop_wire::codec::{Cursor, put_bytes, put_unsigned};
use wasmtime::component::{FutureAny, StreamAny, Val};
use wasmtime::{Result, bail, format_err};

use crate::again::again;
use crate::incoming::Incoming;
use crate::nums;
use crate::outgoing::{Buffer, End, Message, Outgoing};
use crate::peer::Peer;

/// The domain of [`Wire`].
///
/// What is built goes to one buffer in the order of the walk, so that the values within are placeholders. All
/// parameters of a call together, or its result, are one [`Wire`]. What is read comes from [`crate::receive`], one
/// [`Wire`] for each parameter; it is to be read in the order of the type.
pub struct Encoded;

/// A value as the bytes of the wire.
pub enum Wire {
    /// Part of a value that is being written: nothing by itself.
    Placed,
    /// Written here.
    Out(Box<Mutex<Outgoing>>),
    /// Received, and checked.
    In(Incoming),
}

impl Wire {
    /// What was written; None of what was received.
    pub fn into_outgoing(self) -> Option<Outgoing> {
        match self {
            Wire::Placed => Some(Outgoing::default()),
            Wire::Out(made) => Some(made.into_inner().unwrap_or_else(PoisonError::into_inner)),
            Wire::In(_) => None,
        }
    }

    /// Bytes of what was written, without its handles.
    pub(crate) fn size(&mut self) -> usize {
        match self {
            Wire::Out(made) => made.get_mut().unwrap_or_else(PoisonError::into_inner).len(),
            _ => 0,
        }
    }

    /// The bytes to send, with what follows them.
    ///
    /// Errors where the peer cannot take a resource, and for what was received.
    pub fn finish(self, peer: &dyn Peer) -> Result<Message> {
        match self.into_outgoing() {
            Some(made) => made.finish(peer),
            None => bail!("a value that was received is not sent on as it is"),
        }
    }

    fn incoming(&self) -> Result<&Incoming> {
        match self {
            Wire::In(v) => Ok(v),
            _ => Err(format_err!("a value that was not received cannot be read")),
        }
    }
}

fn here() -> Result<Arc<loop_engine::Home>> {
    current_home().ok_or_else(|| format_err!("streams and futures exist only within a component's instance"))
}

impl Domain for Encoded {
    type Value = Wire;
    type Cx<'c> = &'c Buffer;
    type Item<'c, 'v> = &'v Wire;
    // a number takes up to two bytes more than in a guest's memory
    const OBJECT: usize = 4;

    fn enter<R>(f: impl for<'c> FnOnce(&'c Buffer) -> R) -> R {
        f(&Buffer::default())
    }
    fn view<'c, 'v>(_: &'c Buffer, value: &'v Wire) -> &'v Wire
    where
        'c: 'c,
        'v: 'v,
    {
        if let Wire::In(v) = value {
            v.rewind();
        }
        value
    }

    fn all(cx: &Buffer, len: usize, each: impl FnMut(usize) -> Result<Wire>) -> Result<Vec<Wire>> {
        if len == 0 {
            return Ok(vec![]);
        }
        cx.children(len, each)?;
        Ok(vec![Self::whole(cx, Wire::Placed)])
    }
    fn readable(tuple: &Ty, built: Vec<Wire>) -> Result<Vec<Wire>> {
        again(tuple, built)
    }
    fn whole(cx: &Buffer, _: Wire) -> Wire {
        Wire::Out(Box::new(Mutex::new(cx.take())))
    }

    #[inline]
    fn bool(cx: &Buffer, v: bool) -> Result<Wire> {
        cx.put(|out| out.push(u8::from(v)))
    }
    #[inline]
    fn num(cx: &Buffer, kind: Num, bits: u64) -> Result<Wire> {
        cx.put(|out| nums::put(out, kind, bits))
    }
    fn char(cx: &Buffer, v: char) -> Result<Wire> {
        cx.put(|out| out.extend_from_slice(v.encode_utf8(&mut [0; 4]).as_bytes()))
    }
    fn string(cx: &Buffer, v: &str) -> Result<Wire> {
        cx.put(|out| put_bytes(out, v.as_bytes()))
    }
    fn nums(cx: &Buffer, kind: Num, raw: &[u8]) -> Result<Wire> {
        cx.put(|out| nums::put_list(out, kind, raw))
    }
    fn list(cx: &Buffer, len: usize, each: impl FnMut(usize) -> Result<Wire>) -> Result<Wire> {
        if len > u32::MAX as usize {
            bail!("a list of {len} items: its length takes 32 bits");
        }
        cx.put(|out| put_unsigned(out, len as u64))?;
        Self::fixed(cx, len, each)
    }
    fn fixed(cx: &Buffer, len: usize, each: impl FnMut(usize) -> Result<Wire>) -> Result<Wire> {
        cx.children(len, each)?;
        Ok(Wire::Placed)
    }
    fn tuple(cx: &Buffer, len: usize, each: impl FnMut(usize) -> Result<Wire>) -> Result<Wire> {
        Self::fixed(cx, len, each)
    }
    fn record(cx: &Buffer, ty: &Ty, each: impl FnMut(usize) -> Result<Wire>) -> Result<Wire> {
        let len = match &ty.kind {
            Kind::Record(fields) => fields.len(),
            _ => 0,
        };
        Self::fixed(cx, len, each)
    }
    fn case(
        cx: &Buffer,
        _: &Ty,
        index: usize,
        payload: impl FnOnce() -> Result<Option<Wire>>,
    ) -> Result<Wire> {
        cx.put(|out| put_unsigned(out, index as u64))?;
        cx.payload(index, payload)
    }
    fn flags(cx: &Buffer, ty: &Ty, bits: u32) -> Result<Wire> {
        cx.put(|out| out.extend_from_slice(&bits.to_le_bytes()[..flag_bytes(ty)]))
    }
    fn handle(cx: &Buffer, ty: &Arc<Resource>, own: bool, handle: Handle) -> Result<Wire> {
        cx.handle(ty, own, handle)
    }
    fn stream(cx: &Buffer, payload: Option<&TyRef>, stream: StreamAny) -> Result<Wire> {
        cx.end(payload, End::GuestStream(stream, here()?))
    }
    fn future(cx: &Buffer, payload: Option<&TyRef>, future: FutureAny) -> Result<Wire> {
        cx.end(payload, End::GuestFuture(future, here()?))
    }
    fn fed(cx: &Buffer, payload: Option<&TyRef>, source: Box<dyn Source<Self>>) -> Result<Wire> {
        cx.end(payload, End::Stream(source))
    }
    fn settled(cx: &Buffer, payload: Option<&TyRef>, value: Settling<Self>) -> Result<Wire> {
        cx.end(payload, End::Future(value))
    }
    fn error_context(_: &Buffer, _: Val) -> Result<Wire> {
        bail!("an error-context cannot leave its component: a host is not told its message; pass a string")
    }

    fn to_bool(v: &&Wire) -> Result<bool> {
        v.incoming()?.read(Cursor::bool)
    }
    #[inline]
    fn to_num(v: &&Wire, kind: Num) -> Result<u64> {
        v.incoming()?.read(|from| nums::take(from, kind))
    }
    fn to_char(v: &&Wire) -> Result<char> {
        v.incoming()?.read(Cursor::char)
    }
    fn with_str<R>(v: &&Wire, f: impl FnOnce(&str) -> Result<R>) -> Result<R> {
        f(v.incoming()?.read(Cursor::string)?)
    }
    fn with_nums<R>(v: &&Wire, kind: Num, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        f(&v.incoming()?.read(|from| {
            let n = from.unsigned(32)? as usize;
            nums::take_items(from, kind, n)
        })?)
    }
    fn open<'c, 'v>(v: &&'v Wire, ty: &Ty) -> Result<(usize, &'v Wire)>
    where
        'c: 'c,
        'v: 'v,
    {
        let len = match &ty.kind {
            Kind::FixedList(_, n) => *n,
            Kind::Tuple(slots) => slots.len(),
            _ => v.incoming()?.read(|from| from.unsigned(32))? as usize,
        };
        Ok((len, v))
    }
    fn at<'c, 'v>(v: &&'v Wire, _: usize) -> Result<&'v Wire>
    where
        'c: 'c,
        'v: 'v,
    {
        Ok(v)
    }
    fn field<'c, 'v>(v: &&'v Wire, _: &Ty, _: usize) -> Result<&'v Wire>
    where
        'c: 'c,
        'v: 'v,
    {
        Ok(v)
    }
    fn to_case<'c, 'v>(v: &&'v Wire, ty: &Ty) -> Result<(usize, Option<&'v Wire>)>
    where
        'c: 'c,
        'v: 'v,
    {
        let index = v.incoming()?.read(|from| from.unsigned(32))? as usize;
        match ty.case(index) {
            Some(payload) => Ok((index, payload.map(|_| *v))),
            None => bail!("there is no case {index} of {}", ty.wit()),
        }
    }
    fn to_flags(v: &&Wire, ty: &Ty) -> Result<u32> {
        let Kind::Flags(names) = &ty.kind else {
            bail!("{} has no flags", ty.wit())
        };
        let taken = v.incoming()?.read(|from| from.take(flag_bytes(ty)))?;
        let mut bits = [0; 4];
        bits.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        // bits that have no name are nobody's
        let known = 1_u64.checked_shl(names.len() as u32).unwrap_or(0).wrapping_sub(1);
        Ok(u32::from_le_bytes(bits) & known as u32)
    }
    fn to_handle(v: &&Wire, _: &Arc<Resource>, _: bool) -> Result<Handle> {
        v.incoming()?.handle()
    }
    fn check_end(v: &&Wire) -> Result<()> {
        v.incoming()?.skip_end()
    }
    fn to_stream(v: &&Wire, _: Option<&TyRef>) -> Result<Feed<Self>> {
        v.incoming()?.stream()
    }
    fn to_future(v: &&Wire, _: Option<&TyRef>) -> Result<Settle<Self>> {
        v.incoming()?.future()
    }
    fn to_error_context(_: &&Wire) -> Result<Val> {
        bail!("an error-context cannot be made for a component by others; pass a string")
    }

    fn dropped(object: HostObject) -> Result<()> {
        drop(object);
        Ok(())
    }
}

/// Bytes of a set of flags.
fn flag_bytes(ty: &Ty) -> usize {
    match &ty.kind {
        Kind::Flags(names) => names.len().div_ceil(8).min(4),
        _ => 0,
    }
}
