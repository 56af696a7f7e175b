//! Values that came in, read in place.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use loop_engine::{Feed, Handle, Kind, Settle, Ty, TyRef};
use loop_wire::codec::{Cursor, Invalid};
use wasmtime::{Error, Result, bail, format_err};

use crate::check::{Spot, Walk};
use crate::chunk;
use crate::encoded::{Encoded, Wire};
use crate::outgoing::{All, now};
use crate::peer::Peer;

/// A value in bytes that were checked; what reads it goes through them once, in the order of the type.
pub struct Incoming {
    data: Bytes,
    /// The byte that is read next.
    at: AtomicUsize,
    /// In the order of their places.
    met: Vec<Met>,
}

/// What stands in the bytes and is no value itself.
struct Met {
    at: usize,
    next: usize,
    what: What,
}

enum What {
    Handle(Handle),
    // taken when the value is lowered
    Stream(Mutex<Option<Feed<Encoded>>>),
    Future(Mutex<Option<Settle<Encoded>>>),
}

/// The parameters of a call, or its result: one value for each slot of `tuple`, which are
/// [`loop_engine::FuncTy::param_tuple`] and `result_tuple`.
///
/// All bytes are checked before the peer is asked for anything.
///
/// Errors with a [`crate::BadBytes`], whose path begins with the number of the slot, or with the peer's error.
pub fn receive(tuple: &Ty, bytes: &Bytes, peer: &dyn Peer) -> Result<Vec<Wire>> {
    let Kind::Tuple(slots) = &tuple.kind else {
        bail!("expected a tuple")
    };
    let types = slots.iter().enumerate().map(|(i, s)| (Some(i as u32), &*s.ty));
    split(types, bytes, 0, &[], peer)
}

/// Values one after the other from byte `start` to the end, each with the number that its path goes on with after
/// `base`.
pub(crate) fn split<'t>(
    types: impl Iterator<Item = (Option<u32>, &'t Ty)>,
    bytes: &Bytes,
    start: usize,
    base: &[u32],
    peer: &dyn Peer,
) -> Result<Vec<Wire>> {
    let mut walk = Walk::new(bytes, start, base);
    let mut places = vec![];
    for (number, ty) in types {
        let (from, first) = (walk.at(), walk.spots.len());
        match number {
            Some(i) => walk.part(ty, i).map_err(|e| Error::new(*e))?,
            None => walk.value(ty).map_err(|e| Error::new(*e))?,
        }
        places.push((from..walk.at(), first..walk.spots.len()));
    }
    walk.end().map_err(|e| Error::new(*e))?;
    let spots = walk.spots;
    let made = places.into_iter().map(|(place, met)| {
        let data = bytes.slice(place.clone());
        let met = spots[met].iter().map(|s| meet(s, bytes, place.start, peer));
        Ok(Wire::In(Incoming {
            data,
            at: AtomicUsize::new(0),
            met: met.collect::<Result<_>>()?,
        }))
    });
    made.collect()
}

fn meet(spot: &Spot<'_>, bytes: &Bytes, base: usize, peer: &dyn Peer) -> Result<Met> {
    let data = bytes.slice(spot.at..spot.next);
    let what = match (&spot.ty.kind, spot.pending) {
        (Kind::Own(r) | Kind::Borrow(r), _) => {
            let own = matches!(spot.ty.kind, Kind::Own(_));
            let handle = Cursor::new(&data).bytes().map_err(broken)?;
            What::Handle(peer.take(r, own, handle)?)
        }
        (Kind::Stream(t), true) => What::Stream(Mutex::new(Some(peer.stream(&spot.path, t.as_ref())?))),
        (Kind::Future(t), true) => What::Future(Mutex::new(Some(peer.future(&spot.path, t.as_ref())?))),
        (Kind::Stream(t), false) => {
            let chunk = chunk::read_chunk(t.as_ref(), &data.slice(1..), &spot.path, 0, peer)?;
            What::Stream(Mutex::new(Some(Feed::Source(Box::new(All(Some(chunk)))))))
        }
        (Kind::Future(t), false) => {
            let value = chunk::read_settled(t.as_ref(), &data.slice(1..), &spot.path, peer)?;
            What::Future(Mutex::new(Some(Settle::Value(now(value)))))
        }
        _ => bail!("{} is a value", spot.ty.wit()),
    };
    Ok(Met {
        at: spot.at - base,
        next: spot.next - base,
        what,
    })
}

/// A value that takes no bytes.
pub(crate) fn nothing() -> Wire {
    Wire::In(Incoming {
        data: Bytes::new(),
        at: AtomicUsize::new(0),
        met: vec![],
    })
}

/// For what the check has let through.
fn broken(cause: Invalid) -> Error {
    format_err!("bytes were read in another order than they were checked: {cause}")
}

impl Incoming {
    pub(crate) fn rewind(&self) {
        self.at.store(0, Relaxed);
    }

    #[inline]
    pub(crate) fn read<'v, R>(&'v self, f: impl FnOnce(&mut Cursor<'v>) -> Result<R, Invalid>) -> Result<R> {
        let rest = self.data.get(self.at.load(Relaxed)..).unwrap_or_default();
        let mut from = Cursor::new(rest);
        let read = f(&mut from).map_err(broken)?;
        self.at.store(self.data.len() - from.rest().len(), Relaxed);
        Ok(read)
    }

    /// What stands at the next byte.
    fn met(&self) -> Result<&Met> {
        let at = self.at.load(Relaxed);
        let found = self.met.binary_search_by_key(&at, |m| m.at);
        let met = found.map(|i| &self.met[i]).map_err(|_| broken(Invalid::Value))?;
        self.at.store(met.next, Relaxed);
        Ok(met)
    }

    pub(crate) fn handle(&self) -> Result<Handle> {
        match &self.met()?.what {
            What::Handle(handle) => Ok(handle.clone()),
            _ => Err(broken(Invalid::Value)),
        }
    }

    pub(crate) fn skip_end(&self) -> Result<()> {
        self.met().map(|_| ())
    }

    pub(crate) fn stream(&self) -> Result<Feed<Encoded>> {
        match &self.met()?.what {
            What::Stream(feed) => taken(feed),
            _ => Err(broken(Invalid::Value)),
        }
    }

    pub(crate) fn future(&self) -> Result<Settle<Encoded>> {
        match &self.met()?.what {
            What::Future(settle) => taken(settle),
            _ => Err(broken(Invalid::Value)),
        }
    }
}

fn taken<T>(m: &Mutex<Option<T>>) -> Result<T> {
    let mut m = m.lock().unwrap_or_else(PoisonError::into_inner);
    m.take()
        .ok_or_else(|| format_err!("a stream or future was moved already"))
}

/// A value by itself.
pub(crate) fn one(ty: &TyRef, bytes: &Bytes, base: &[u32], peer: &dyn Peer) -> Result<Wire> {
    let mut made = split([(None, &**ty)].into_iter(), bytes, 0, base, peer)?;
    made.pop().ok_or_else(|| format_err!("one type makes one value"))
}
