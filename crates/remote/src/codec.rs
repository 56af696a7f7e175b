//! One value by itself, to bytes and back.

use bytes::Bytes;
use loop_engine::{Domain, TyRef, convert};
use wasmtime::Result;

use crate::encoded::{Encoded, Wire};
use crate::incoming::one;
use crate::outgoing::Message;
use crate::peer::Peer;

/// The bytes of a value of another domain.
///
/// Errors with a [`loop_engine::Mismatch`] where the value does not fit `ty`, or with the peer's error.
pub fn encode<A: Domain>(ty: &TyRef, value: &A::Item<'_, '_>, peer: &dyn Peer) -> Result<Message> {
    let made = Encoded::enter(|cx| convert::<A, Encoded>(cx, ty, value).map(|v| Encoded::whole(cx, v)))?;
    made.finish(peer)
}

/// The value that `bytes` are, in another domain.
///
/// Errors with a [`crate::BadBytes`], or with the peer's error or that of the other domain.
pub fn decode<B: Domain>(to: B::Cx<'_>, ty: &TyRef, bytes: &Bytes, peer: &dyn Peer) -> Result<B::Value> {
    let value: Wire = one(ty, bytes, &[], peer)?;
    Encoded::enter(|cx| convert::<Encoded, B>(to, ty, &Encoded::view(cx, &value)))
}
