//! Host values to the canonical ABI.

use std::mem::MaybeUninit;
use std::slice::IterMut;
use std::sync::Arc;

use wasmtime::component::__internal::LowerContext;
use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
use wasmtime::component::{ErrorContext, FutureAny, Lower, ResourceDynamic, StreamAny};
use wasmtime::{Result, ValRaw, bail, format_err};

use crate::domain::{Domain, Handle};
use crate::error::Mismatch;
use crate::instance::Home;
use crate::lift::{canonical32, canonical64, mask};
use crate::resource::GuestHandle;
use crate::scope;
use crate::slot::{self, Generation};
use crate::stream;
use crate::types::{Field, Kind, Num, Resource, Tag, Ty, TyRef};

/// Where lowered bytes go: a guest, or nowhere, to find out whether values fit before a guest is entered.
pub(crate) trait Target<D: Domain> {
    /// Nothing is written: what can be read only once must be left alone.
    const DRY: bool = false;

    /// Allocates in the guest. `at` of an empty allocation is meaningless.
    fn alloc(&mut self, align: usize, size: usize) -> Result<usize>;
    /// Writes at an address that `alloc` (or wasmtime) has checked.
    fn write(&mut self, at: usize, bytes: &[u8]);
    /// Writes a string in the guest's encoding; pointer and length in code units.
    fn string(&mut self, ty: &Ty, v: &str) -> Result<(usize, usize)>;
    fn handle(&mut self, ty: &Ty, r: &Arc<Resource>, own: bool, v: &D::Item<'_, '_>) -> Result<u32>;
    fn stream(&mut self, ty: &Ty, t: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32>;
    fn future(&mut self, ty: &Ty, t: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32>;
    fn error_context(&mut self, ty: &Ty, v: &D::Item<'_, '_>) -> Result<u32>;
}

/// Slots of the flat form still to be written.
pub(crate) type Flats<'f> = IterMut<'f, MaybeUninit<ValRaw>>;

/// Lowers a value to its flat form.
pub(crate) fn flat<D: Domain, T: Target<D>>(
    to: &mut T,
    ty: &Ty,
    v: &D::Item<'_, '_>,
    dst: &mut Flats<'_>,
) -> Result<()> {
    match &ty.kind {
        Kind::Bool => put(dst, ValRaw::u32(expect(ty, D::to_bool(v))?.into())),
        Kind::Num(n) => {
            let bits = expect(ty, D::to_num(v, *n))?;
            put(
                dst,
                match n {
                    Num::F32 => ValRaw::f32(canonical32(bits as u32) as u32),
                    Num::F64 => ValRaw::f64(canonical64(bits)),
                    Num::U64 | Num::S64 => ValRaw::u64(bits),
                    _ => ValRaw::u32(bits as u32),
                },
            )
        }
        Kind::Char => put(dst, ValRaw::u32(expect(ty, D::to_char(v))? as u32)),
        Kind::String | Kind::List(_) => {
            let (p, n) = block::<D, T>(to, ty, v)?;
            put(dst, ValRaw::i64(p as i64))?;
            put(dst, ValRaw::i64(n as i64))
        }
        Kind::FixedList(t, n) => {
            let list = open_exact::<D>(ty, v, *n)?;
            (0..*n).try_for_each(|i| at(|| format!("[{i}]"), flat(to, t, &D::at(&list, i)?, dst)))
        }
        Kind::Tuple(slots) => {
            let tuple = open_exact::<D>(ty, v, slots.len())?;
            slots
                .iter()
                .enumerate()
                .try_for_each(|(i, s)| at(|| format!("[{i}]"), flat(to, &s.ty, &D::at(&tuple, i)?, dst)))
        }
        Kind::Record(fields) => fields.iter().enumerate().try_for_each(|(i, f)| {
            at(
                || format!(".{}", f.name),
                field::<D>(ty, v, i).and_then(|v| flat(to, &f.ty, &v, dst)),
            )
        }),
        Kind::Variant { .. } | Kind::Enum { .. } | Kind::Option { .. } | Kind::Result { .. } => {
            let (index, payload) = expect(ty, D::to_case(v, ty))?;
            put(dst, ValRaw::u32(index as u32))?;
            let mut unused = ty.flat - 1;
            if let Some((t, v)) = paired(ty, index, payload)? {
                unused -= t.flat;
                // joined slots need no conversion: every ValRaw constructor extends to 64 bits
                at(|| case_name(ty, index), flat(to, t, &v, dst))?;
            }
            (0..unused).try_for_each(|_| put(dst, ValRaw::u64(0)))
        }
        Kind::Flags(names) => {
            let bits = known_bits(ty, names.len(), expect(ty, D::to_flags(v, ty))?)?;
            if names.is_empty() {
                Ok(())
            } else {
                put(dst, ValRaw::u32(bits))
            }
        }
        Kind::Own(r) => put(dst, ValRaw::u32(expect(ty, to.handle(ty, r, true, v))?)),
        Kind::Borrow(r) => put(dst, ValRaw::u32(expect(ty, to.handle(ty, r, false, v))?)),
        Kind::Stream(t) => put(dst, ValRaw::u32(expect(ty, to.stream(ty, t.as_ref(), v))?)),
        Kind::Future(t) => put(dst, ValRaw::u32(expect(ty, to.future(ty, t.as_ref(), v))?)),
        Kind::ErrorContext => put(dst, ValRaw::u32(expect(ty, to.error_context(ty, v))?)),
    }
}

/// Lowers a value into linear memory at `to_at`, whose bounds are checked.
pub(crate) fn store<D: Domain, T: Target<D>>(
    to: &mut T,
    ty: &Ty,
    v: &D::Item<'_, '_>,
    to_at: usize,
) -> Result<()> {
    match &ty.kind {
        Kind::Bool => to.write(to_at, &[expect(ty, D::to_bool(v))?.into()]),
        Kind::Num(n) => {
            let bits = expect(ty, D::to_num(v, *n))?;
            let bits = match n {
                Num::F32 => canonical32(bits as u32),
                Num::F64 => canonical64(bits),
                _ => bits,
            };
            to.write(to_at, &bits.to_le_bytes()[..n.size()]);
        }
        Kind::Char => to.write(to_at, &(expect(ty, D::to_char(v))? as u32).to_le_bytes()),
        Kind::String | Kind::List(_) => {
            let (p, n) = block::<D, T>(to, ty, v)?;
            to.write(to_at, &(p as u64 | (n as u64) << 32).to_le_bytes());
        }
        Kind::FixedList(t, n) => {
            let list = open_exact::<D>(ty, v, *n)?;
            return (0..*n).try_for_each(|i| {
                at(
                    || format!("[{i}]"),
                    store(to, t, &D::at(&list, i)?, to_at + i * t.size),
                )
            });
        }
        Kind::Tuple(slots) => {
            let tuple = open_exact::<D>(ty, v, slots.len())?;
            return slots.iter().enumerate().try_for_each(|(i, s)| {
                at(
                    || format!("[{i}]"),
                    store(to, &s.ty, &D::at(&tuple, i)?, to_at + s.offset),
                )
            });
        }
        Kind::Record(fields) => {
            return fields.iter().enumerate().try_for_each(|(i, f)| {
                at(
                    || format!(".{}", f.name),
                    field::<D>(ty, v, i).and_then(|v| store(to, &f.ty, &v, to_at + f.offset)),
                )
            });
        }
        Kind::Variant { tag, .. }
        | Kind::Enum { tag, .. }
        | Kind::Option { tag, .. }
        | Kind::Result { tag, .. } => {
            let Tag {
                size,
                payload: offset,
            } = *tag;
            let (index, payload) = expect(ty, D::to_case(v, ty))?;
            to.write(to_at, &(index as u32).to_le_bytes()[..size]);
            if let Some((t, v)) = paired(ty, index, payload)? {
                at(|| case_name(ty, index), store(to, t, &v, to_at + offset))?;
            }
        }
        Kind::Flags(names) => {
            let bits = known_bits(ty, names.len(), expect(ty, D::to_flags(v, ty))?)?;
            to.write(to_at, &bits.to_le_bytes()[..ty.size]);
        }
        Kind::Own(r) => {
            let index = expect(ty, to.handle(ty, r, true, v))?;
            to.write(to_at, &index.to_le_bytes());
        }
        Kind::Borrow(r) => {
            let index = expect(ty, to.handle(ty, r, false, v))?;
            to.write(to_at, &index.to_le_bytes());
        }
        Kind::Stream(t) => {
            let index = expect(ty, to.stream(ty, t.as_ref(), v))?;
            to.write(to_at, &index.to_le_bytes());
        }
        Kind::Future(t) => {
            let index = expect(ty, to.future(ty, t.as_ref(), v))?;
            to.write(to_at, &index.to_le_bytes());
        }
        Kind::ErrorContext => {
            let index = expect(ty, to.error_context(ty, v))?;
            to.write(to_at, &index.to_le_bytes());
        }
    }
    Ok(())
}

/// Lowers the values of a tuple into memory at `to_at`, one Domain scope for all.
pub(crate) fn tuple<D: Domain, T: Target<D>>(
    to: &mut T,
    slots: &[Field],
    values: &[D::Value],
    to_at: usize,
) -> Result<()> {
    D::enter(|d| {
        slots.iter().zip(values).enumerate().try_for_each(|(i, (s, v))| {
            at(
                || format!("{i}"),
                store(to, &s.ty, &D::view(d, v), to_at + s.offset),
            )
        })
    })
}

/// A string or list: written to memory of its own, pointer and length returned.
fn block<D: Domain, T: Target<D>>(to: &mut T, ty: &Ty, v: &D::Item<'_, '_>) -> Result<(usize, usize)> {
    let t = match &ty.kind {
        Kind::String => return expect(ty, D::with_str(v, |s| to.string(ty, s))),
        Kind::List(t) => t,
        _ => bail!("neither string nor list"),
    };
    if T::DRY && D::one_shot(v) {
        return Ok((0, 0));
    }
    if let Kind::Num(kind) = t.kind {
        return expect(
            ty,
            D::with_nums(v, kind, |raw| {
                let p = to.alloc(t.align, raw.len())?;
                to.write(p, raw);
                Ok((p, raw.len() / kind.size()))
            }),
        );
    }
    let (n, list) = expect(ty, D::open(v, ty))?;
    let size = n
        .checked_mul(t.size)
        .ok_or_else(|| format_err!("list too long"))?;
    let p = to.alloc(t.align, size)?;
    for i in 0..n {
        at(
            || format!("[{i}]"),
            D::at(&list, i).and_then(|v| store(to, t, &v, p + i * t.size)),
        )?;
    }
    Ok((p, n))
}

fn put(dst: &mut Flats<'_>, v: ValRaw) -> Result<()> {
    dst.next()
        .ok_or_else(|| format_err!("more core values than the type has"))?
        .write(v);
    Ok(())
}

pub(crate) fn open_exact<'c, 'v, D: Domain>(
    ty: &Ty,
    v: &D::Item<'c, 'v>,
    want: usize,
) -> Result<D::Item<'c, 'v>> {
    let (n, items) = expect(ty, D::open(v, ty))?;
    if n != want {
        return Err(Mismatch::new(ty.wit(), format!("{n} items")).into());
    }
    Ok(items)
}

pub(crate) fn field<'c, 'v, D: Domain>(ty: &Ty, v: &D::Item<'c, 'v>, i: usize) -> Result<D::Item<'c, 'v>> {
    expect(ty, D::field(v, ty, i))
}

/// Matches a case's payload type with the payload found.
pub(crate) fn paired<I>(ty: &Ty, index: usize, payload: Option<I>) -> Result<Option<(&TyRef, I)>> {
    match (ty.case(index).flatten(), payload) {
        (Some(t), Some(v)) => Ok(Some((t, v))),
        (None, _) => Ok(None),
        (Some(t), None) => Err(Mismatch::new(
            format!("{} with a payload of {}", case_name(ty, index), t.wit()),
            "no payload",
        )
        .into()),
    }
}

pub(crate) fn case_name(ty: &Ty, index: usize) -> String {
    match &ty.kind {
        Kind::Variant { cases, .. } => format!(".{}", cases[index].name),
        Kind::Result { .. } => {
            if index == 0 {
                ".ok".into()
            } else {
                ".err".into()
            }
        }
        _ => String::new(),
    }
}

pub(crate) fn known_bits(ty: &Ty, n: usize, bits: u32) -> Result<u32> {
    if bits & !mask(n) != 0 {
        return Err(Mismatch::new(ty.wit(), format!("unknown flag bits {:#x}", bits & !mask(n))).into());
    }
    Ok(bits)
}

/// Completes a mismatch that does not say yet what was expected.
pub(crate) fn expect<R>(ty: &Ty, r: Result<R>) -> Result<R> {
    r.map_err(|e| match e.downcast::<Mismatch>() {
        Ok(mut m) => {
            if m.expected.is_empty() {
                m.expected = ty.wit();
            }
            m.into()
        }
        Err(e) => e,
    })
}

/// Puts a path segment before a mismatch.
pub(crate) fn at<R>(segment: impl FnOnce() -> String, r: Result<R>) -> Result<R> {
    r.map_err(|e| match e.downcast::<Mismatch>() {
        Ok(mut m) => {
            m.path.insert_str(0, &segment());
            m.into()
        }
        Err(e) => e,
    })
}

/// A guest.
pub(crate) struct Guest<'a, 'b, T: 'static> {
    pub cx: &'a mut LowerContext<'b, T>,
    /// Slots of lent host objects, to be released after the call.
    pub lent: Option<&'a std::sync::Mutex<Vec<u32>>>,
    /// Whose resources and streams these are, where their provider may be exchanged.
    pub of: Option<&'a Arc<Generation>>,
}

impl<D: Domain, T> Target<D> for Guest<'_, '_, T> {
    fn alloc(&mut self, align: usize, size: usize) -> Result<usize> {
        // wasmtime checks the alignment and the bounds of what the guest returns
        self.cx.realloc(0, 0, align as u32, size)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.cx.as_slice_mut()[at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn string(&mut self, ty: &Ty, v: &str) -> Result<(usize, usize)> {
        if matches!(self.cx.options().string_encoding, StringEncoding::Utf8) {
            let p = self.cx.realloc(0, 0, 1, v.len())?;
            self.cx.as_slice_mut()[p..][..v.len()].copy_from_slice(v.as_bytes());
            return Ok((p, v.len()));
        }
        let mut pair = MaybeUninit::<[ValRaw; 2]>::uninit();
        v.linear_lower_to_flat(self.cx, ty.raw, &mut pair)?;
        // SAFETY: a successful lowering of a string has written both values.
        let [p, n] = unsafe { pair.assume_init() };
        Ok((p.get_i64() as usize, n.get_i64() as usize))
    }

    fn handle(&mut self, ty: &Ty, r: &Arc<Resource>, own: bool, v: &D::Item<'_, '_>) -> Result<u32> {
        let mut raw = MaybeUninit::<ValRaw>::uninit();
        match (D::to_handle(v, r, own)?, r.host) {
            (Handle::Host(object), Some(id)) => {
                let rep = scope::current(|s| Ok(s.insert(object, self.of.cloned())))?;
                let resource = if own {
                    ResourceDynamic::new_own(rep, id)
                } else {
                    ResourceDynamic::new_borrow(rep, id)
                };
                if !own && let Some(lent) = self.lent {
                    scope::lock(lent).push(rep);
                }
                resource.linear_lower_to_flat(self.cx, ty.raw, &mut raw)?;
            }
            (Handle::Guest(guest), None) => {
                let home =
                    scope::current_home().ok_or_else(|| format_err!("no component instance is at work"))?;
                let any = guest.give(&home, r, own)?;
                any.linear_lower_to_flat(self.cx, ty.raw, &mut raw)?;
            }
            _ => return Err(Mismatch::new(ty.wit(), "a resource of another definition").into()),
        }
        // SAFETY: a successful lowering of a handle has written it.
        Ok(unsafe { raw.assume_init() }.get_u32())
    }

    fn stream(&mut self, ty: &Ty, t: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32> {
        let feed = slot::fed(D::to_stream(v, t)?, self.of);
        let any: StreamAny = stream::make_stream(&mut self.cx.store, t, feed)?;
        let mut raw = MaybeUninit::<ValRaw>::uninit();
        any.linear_lower_to_flat(self.cx, ty.raw, &mut raw)?;
        // SAFETY: as above.
        Ok(unsafe { raw.assume_init() }.get_u32())
    }

    fn future(&mut self, ty: &Ty, t: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32> {
        let settle = slot::settled(D::to_future(v, t)?, self.of);
        let any: FutureAny = stream::make_future(&mut self.cx.store, t, settle)?;
        let mut raw = MaybeUninit::<ValRaw>::uninit();
        any.linear_lower_to_flat(self.cx, ty.raw, &mut raw)?;
        // SAFETY: as above.
        Ok(unsafe { raw.assume_init() }.get_u32())
    }

    fn error_context(&mut self, ty: &Ty, v: &D::Item<'_, '_>) -> Result<u32> {
        let context = ErrorContext::from_val(&mut self.cx.store, &D::to_error_context(v)?)?;
        let mut raw = MaybeUninit::<ValRaw>::uninit();
        context.linear_lower_to_flat(self.cx, ty.raw, &mut raw)?;
        // SAFETY: as above.
        Ok(unsafe { raw.assume_init() }.get_u32())
    }
}

/// Nowhere: only the checks.
pub(crate) struct Check<'h> {
    home: &'h Home,
    /// Handles that these values move or lend, and whether they move them.
    given: Vec<(Arc<GuestHandle>, bool)>,
}

impl<'h> Check<'h> {
    pub fn new(home: &'h Home) -> Self {
        Check { home, given: vec![] }
    }
}

impl<D: Domain> Target<D> for Check<'_> {
    const DRY: bool = true;

    fn alloc(&mut self, _: usize, _: usize) -> Result<usize> {
        Ok(0)
    }
    fn write(&mut self, _: usize, _: &[u8]) {}
    fn string(&mut self, _: &Ty, v: &str) -> Result<(usize, usize)> {
        Ok((0, v.len()))
    }
    fn handle(&mut self, ty: &Ty, r: &Arc<Resource>, own: bool, v: &D::Item<'_, '_>) -> Result<u32> {
        match (D::to_handle(v, r, own)?, r.host) {
            (Handle::Host(_), Some(_)) => Ok(0),
            (Handle::Guest(guest), None) => {
                guest.check(self.home, r, own)?;
                if self
                    .given
                    .iter()
                    .any(|(g, moved)| Arc::ptr_eq(g, &guest) && (*moved || own))
                {
                    return Err(Mismatch::new("", "a resource that is moved by the same call").into());
                }
                self.given.push((guest, own));
                Ok(0)
            }
            _ => Err(Mismatch::new(ty.wit(), "a resource of another definition").into()),
        }
    }
    // a stream or future may be taken once only, so it is but looked at
    fn stream(&mut self, _: &Ty, _: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32> {
        D::check_end(v).map(|()| 0)
    }
    fn future(&mut self, _: &Ty, _: Option<&TyRef>, v: &D::Item<'_, '_>) -> Result<u32> {
        D::check_end(v).map(|()| 0)
    }
    fn error_context(&mut self, _: &Ty, v: &D::Item<'_, '_>) -> Result<u32> {
        D::to_error_context(v).map(|_| 0)
    }
}
