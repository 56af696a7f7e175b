//! The one seam between the walker and what values look like on the host's side.
//!
//! The walker knows the canonical ABI; a [`Domain`] knows how to build and to read one representation of values:
//! Python objects in the bridge, the neutral [`crate::Value`] of native providers and of links between components.

use std::any::Any;
use std::sync::Arc;

use wasmtime::component::{FutureAny, StreamAny, Val};
use wasmtime::{Result, bail};

use crate::resource::GuestHandle;
use crate::stream::{Feed, Settle, Settling, Source};
use crate::types::{Num, Resource, Ty, TyRef};

/// A resource that the host defines: whatever its provider made, shared by handle.
pub type HostObject = Arc<dyn Any + Send + Sync>;

/// A handle, as it crosses the border.
#[derive(Clone)]
pub enum Handle {
    /// Defined by the host.
    Host(HostObject),
    /// Defined by a guest (or by WASI): opaque, only good in its own instance.
    Guest(Arc<GuestHandle>),
}

/// One representation of component values.
///
/// `Cx` is the permission to touch values (the GIL's token in Python's case); `enter` obtains it once for a whole
/// parameter list. `Item` is a value being read (its lifetimes are bounded by themselves to make them early-bound, so
/// that an implementation may use one of them only). Reading errors are [`crate::Mismatch`]es: the walker adds the path.
pub trait Domain: Sized + Send + Sync + 'static {
    type Value: Send + Sync + 'static;
    type Cx<'c>: Copy;
    type Item<'c, 'v>;

    /// Bytes a built object takes beside its payload; charged to the call's payload limit, so that a guest cannot
    /// make the host allocate more than the limit by sending many tiny values.
    const OBJECT: usize;

    fn enter<R>(f: impl for<'c> FnOnce(Self::Cx<'c>) -> R) -> R;
    fn view<'c, 'v>(cx: Self::Cx<'c>, value: &'v Self::Value) -> Self::Item<'c, 'v>
    where
        'c: 'c,
        'v: 'v;

    // Building, from the guest to the host. `each(i)` makes child `i`.

    /// The parameters of a call, or its result: `len` values. A domain may make one of them.
    #[inline]
    fn all(
        _: Self::Cx<'_>,
        len: usize,
        each: impl FnMut(usize) -> Result<Self::Value>,
    ) -> Result<Vec<Self::Value>> {
        (0..len).map(each).collect()
    }
    /// Makes values that were built, all of `tuple`, ones that can be read.
    fn readable(_tuple: &Ty, built: Vec<Self::Value>) -> Result<Vec<Self::Value>> {
        Ok(built)
    }
    /// Completes a value that stands for itself: an item of a stream, a future's value.
    #[inline]
    fn whole(_: Self::Cx<'_>, made: Self::Value) -> Self::Value {
        made
    }
    fn bool(cx: Self::Cx<'_>, v: bool) -> Result<Self::Value>;
    /// A number from its bits, zero- or sign-extended to 64 (floats: their bit pattern).
    fn num(cx: Self::Cx<'_>, kind: Num, bits: u64) -> Result<Self::Value>;
    fn char(cx: Self::Cx<'_>, v: char) -> Result<Self::Value>;
    fn string(cx: Self::Cx<'_>, v: &str) -> Result<Self::Value>;
    /// A list of numbers from its little-endian bytes.
    fn nums(cx: Self::Cx<'_>, kind: Num, raw: &[u8]) -> Result<Self::Value>;
    fn list(
        cx: Self::Cx<'_>,
        len: usize,
        each: impl FnMut(usize) -> Result<Self::Value>,
    ) -> Result<Self::Value>;
    /// A list whose length its type says.
    #[inline]
    fn fixed(
        cx: Self::Cx<'_>,
        len: usize,
        each: impl FnMut(usize) -> Result<Self::Value>,
    ) -> Result<Self::Value> {
        Self::list(cx, len, each)
    }
    fn tuple(
        cx: Self::Cx<'_>,
        len: usize,
        each: impl FnMut(usize) -> Result<Self::Value>,
    ) -> Result<Self::Value>;
    fn record(
        cx: Self::Cx<'_>,
        ty: &Ty,
        each: impl FnMut(usize) -> Result<Self::Value>,
    ) -> Result<Self::Value>;
    /// Variant, enum, option and result: case `index` of `ty`.
    fn case(
        cx: Self::Cx<'_>,
        ty: &Ty,
        index: usize,
        payload: impl FnOnce() -> Result<Option<Self::Value>>,
    ) -> Result<Self::Value>;
    fn flags(cx: Self::Cx<'_>, ty: &Ty, bits: u32) -> Result<Self::Value>;
    fn handle(cx: Self::Cx<'_>, ty: &Arc<Resource>, own: bool, handle: Handle) -> Result<Self::Value>;
    fn stream(cx: Self::Cx<'_>, payload: Option<&TyRef>, stream: StreamAny) -> Result<Self::Value>;
    fn future(cx: Self::Cx<'_>, payload: Option<&TyRef>, future: FutureAny) -> Result<Self::Value>;
    /// A stream that no guest writes, on its way from one host's representation to another's.
    fn fed(_: Self::Cx<'_>, _: Option<&TyRef>, _: Box<dyn Source<Self>>) -> Result<Self::Value> {
        bail!("a stream exists only within a component's instance")
    }
    /// A future that no guest settles, on the same way.
    fn settled(_: Self::Cx<'_>, _: Option<&TyRef>, _: Settling<Self>) -> Result<Self::Value> {
        bail!("a future exists only within a component's instance")
    }
    /// An error-context: opaque, and good to hand back to a guest.
    fn error_context(cx: Self::Cx<'_>, context: Val) -> Result<Self::Value>;

    // Reading, from the host to the guest.
    fn to_bool(v: &Self::Item<'_, '_>) -> Result<bool>;
    /// The inverse of `num`, range-checked.
    fn to_num(v: &Self::Item<'_, '_>, kind: Num) -> Result<u64>;
    fn to_char(v: &Self::Item<'_, '_>) -> Result<char>;
    fn with_str<R>(v: &Self::Item<'_, '_>, f: impl FnOnce(&str) -> Result<R>) -> Result<R>;
    /// Hands the list's little-endian bytes over, copied only where the value is not one block of them already.
    fn with_nums<R>(v: &Self::Item<'_, '_>, kind: Num, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R>;
    /// Opens a list or tuple: its length, and an item to index by [`Domain::at`].
    fn open<'c, 'v>(v: &Self::Item<'c, 'v>, ty: &Ty) -> Result<(usize, Self::Item<'c, 'v>)>
    where
        'c: 'c,
        'v: 'v;
    fn at<'c, 'v>(v: &Self::Item<'c, 'v>, index: usize) -> Result<Self::Item<'c, 'v>>
    where
        'c: 'c,
        'v: 'v;
    fn field<'c, 'v>(v: &Self::Item<'c, 'v>, ty: &Ty, index: usize) -> Result<Self::Item<'c, 'v>>
    where
        'c: 'c,
        'v: 'v;
    /// The case and the payload of a variant, enum, option or result.
    fn to_case<'c, 'v>(v: &Self::Item<'c, 'v>, ty: &Ty) -> Result<(usize, Option<Self::Item<'c, 'v>>)>
    where
        'c: 'c,
        'v: 'v;
    fn to_flags(v: &Self::Item<'_, '_>, ty: &Ty) -> Result<u32>;
    /// Gives the handle away (`own`) or shows it (`borrow`).
    fn to_handle(v: &Self::Item<'_, '_>, ty: &Arc<Resource>, own: bool) -> Result<Handle>;
    /// Whether reading the value as a list uses it up.
    fn one_shot(_: &Self::Item<'_, '_>) -> bool {
        false
    }
    /// Errors where the value cannot be lowered as a stream or future; without taking it.
    fn check_end(_: &Self::Item<'_, '_>) -> Result<()> {
        Ok(())
    }
    fn to_stream(v: &Self::Item<'_, '_>, payload: Option<&TyRef>) -> Result<Feed<Self>>;
    fn to_future(v: &Self::Item<'_, '_>, payload: Option<&TyRef>) -> Result<Settle<Self>>;

    fn to_error_context(v: &Self::Item<'_, '_>) -> Result<Val>;

    /// The guest dropped its last handle to a host-defined resource.
    fn dropped(object: HostObject) -> Result<()>;
}
