//! Canonical ABI to host values.

use std::slice::Iter;
use std::sync::Arc;

use wasmtime::component::__internal::LiftContext;
use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
use wasmtime::component::{ErrorContext, FutureAny, Lift, ResourceAny, ResourceDynamic, StreamAny};
use wasmtime::{Result, ValRaw, bail, format_err};

use crate::domain::{Domain, Handle};
use crate::resource::GuestHandle;
use crate::scope;
use crate::slot::Generation;
use crate::types::{Kind, Num, Resource, Ty, TyRef};

/// One lifting: the wasmtime context, the domain's permission, and the borrows met on the way, which must be
/// dropped before the call returns.
pub(crate) struct Lifter<'a, 'b, 'c, D: Domain> {
    pub cx: &'a mut LiftContext<'b>,
    pub d: D::Cx<'c>,
    pub borrows: Vec<ResourceAny>,
    /// The generation of the first resource that has one.
    pub of: Option<Arc<Generation>>,
}

impl<D: Domain> Lifter<'_, '_, '_, D> {
    /// Lifts a value from its flat form.
    pub fn flat(&mut self, ty: &Ty, src: &mut Iter<'_, ValRaw>) -> Result<D::Value> {
        let d = self.d;
        match &ty.kind {
            Kind::Bool => D::bool(d, next(src)?.get_u32() != 0),
            Kind::Num(n) => {
                let v = next(src)?;
                let bits = match n {
                    Num::U8 => v.get_u32() as u8 as u64,
                    Num::S8 => v.get_u32() as i8 as i64 as u64,
                    Num::U16 => v.get_u32() as u16 as u64,
                    Num::S16 => v.get_u32() as i16 as i64 as u64,
                    Num::U32 => v.get_u32() as u64,
                    Num::S32 => v.get_u32() as i32 as i64 as u64,
                    Num::F32 => canonical32(v.get_f32()),
                    Num::F64 => canonical64(v.get_f64()),
                    Num::U64 | Num::S64 => v.get_u64(),
                };
                D::num(d, *n, bits)
            }
            Kind::Char => D::char(d, character(next(src)?.get_u32())?),
            Kind::String => {
                let pair = [*next(src)?, *next(src)?];
                if self.utf8() {
                    return self.string(pair[0].get_u32() as usize, pair[1].get_u32() as usize);
                }
                D::string(d, &String::linear_lift_from_flat(self.cx, ty.raw, &pair)?)
            }
            Kind::List(t) => {
                let (p, n) = (next(src)?.get_u32() as usize, next(src)?.get_u32() as usize);
                self.list(t, p, n)
            }
            Kind::FixedList(t, n) => {
                self.charge(*n)?;
                D::fixed(d, *n, |_| self.flat(t, src))
            }
            Kind::Tuple(slots) => {
                self.charge(slots.len())?;
                D::tuple(d, slots.len(), |i| self.flat(&slots[i].ty, src))
            }
            Kind::Record(fields) => {
                self.charge(fields.len())?;
                D::record(d, ty, |i| self.flat(&fields[i].ty, src))
            }
            Kind::Variant { .. } | Kind::Enum { .. } | Kind::Option { .. } | Kind::Result { .. } => {
                let index = next(src)?.get_u32() as usize;
                let payload = case(ty, index)?;
                let unused = ty.flat - 1 - payload.map_or(0, |t| t.flat);
                self.charge(0)?;
                let made = D::case(d, ty, index, || payload.map(|t| self.flat(t, src)).transpose())?;
                for _ in 0..unused {
                    next(src)?;
                }
                Ok(made)
            }
            Kind::Flags(names) => {
                let bits = if names.is_empty() { 0 } else { next(src)?.get_u32() };
                D::flags(d, ty, bits & mask(names.len()))
            }
            Kind::Own(r) => self.handle(ty, r, true, *next(src)?),
            Kind::Borrow(r) => self.handle(ty, r, false, *next(src)?),
            Kind::Stream(t) => self.stream(ty, t.as_ref(), *next(src)?),
            Kind::Future(t) => self.future(ty, t.as_ref(), *next(src)?),
            Kind::ErrorContext => self.error_context(ty, *next(src)?),
        }
    }

    /// Lifts a value from linear memory.
    pub fn load(&mut self, ty: &Ty, at: usize) -> Result<D::Value> {
        let d = self.d;
        let Some(b) = self.cx.memory().get(at..).and_then(|m| m.get(..ty.size)) else {
            bail!("value out of bounds of the guest's memory")
        };
        match &ty.kind {
            Kind::Bool => D::bool(d, b[0] != 0),
            Kind::Num(n) => D::num(d, *n, number(*n, b)),
            Kind::Char => D::char(d, character(word(b, 0))?),
            Kind::String => {
                if self.utf8() {
                    return self.string(word(b, 0) as usize, word(b, 4) as usize);
                }
                D::string(d, &String::linear_lift_from_memory(self.cx, ty.raw, b)?)
            }
            Kind::List(t) => self.list(t, word(b, 0) as usize, word(b, 4) as usize),
            Kind::FixedList(t, n) => {
                self.charge(*n)?;
                D::fixed(d, *n, |i| self.load(t, at + i * t.size))
            }
            Kind::Tuple(slots) => {
                self.charge(slots.len())?;
                D::tuple(d, slots.len(), |i| self.load(&slots[i].ty, at + slots[i].offset))
            }
            Kind::Record(fields) => {
                self.charge(fields.len())?;
                D::record(d, ty, |i| self.load(&fields[i].ty, at + fields[i].offset))
            }
            Kind::Variant { tag, .. }
            | Kind::Enum { tag, .. }
            | Kind::Option { tag, .. }
            | Kind::Result { tag, .. } => {
                let index = small(b, tag.size) as usize;
                let payload = case(ty, index)?;
                self.charge(0)?;
                D::case(d, ty, index, || {
                    payload.map(|t| self.load(t, at + tag.payload)).transpose()
                })
            }
            Kind::Flags(names) => {
                let bits = if names.is_empty() { 0 } else { small(b, ty.size) };
                D::flags(d, ty, bits & mask(names.len()))
            }
            Kind::Own(r) => self.handle(ty, r, true, ValRaw::u32(word(b, 0))),
            Kind::Borrow(r) => self.handle(ty, r, false, ValRaw::u32(word(b, 0))),
            Kind::Stream(t) => self.stream(ty, t.as_ref(), ValRaw::u32(word(b, 0))),
            Kind::Future(t) => self.future(ty, t.as_ref(), ValRaw::u32(word(b, 0))),
            Kind::ErrorContext => self.error_context(ty, ValRaw::u32(word(b, 0))),
        }
    }

    /// Lifts the parameter or result tuple at `at`; checks the pointer, which nobody has done for an export's
    /// spilled result.
    pub fn tuple_at(&mut self, ty: &Ty, at: usize) -> Result<Vec<D::Value>> {
        if !at.is_multiple_of(ty.align) {
            bail!("pointer to a spilled value is not aligned");
        }
        if at
            .checked_add(ty.size)
            .is_none_or(|end| end > self.cx.memory().len())
        {
            bail!("pointer to a spilled value is out of bounds");
        }
        let Kind::Tuple(slots) = &ty.kind else {
            bail!("expected a tuple")
        };
        D::all(self.d, slots.len(), |i| {
            self.load(&slots[i].ty, at + slots[i].offset)
        })
    }

    /// Charges a container of `n` children to the payload limit.
    fn charge(&mut self, n: usize) -> Result<()> {
        self.cx
            .consume_fuel(D::OBJECT.saturating_add(n.saturating_mul(size_of::<usize>() + D::OBJECT)))
    }

    fn utf8(&self) -> bool {
        matches!(self.cx.options().string_encoding, StringEncoding::Utf8)
    }

    fn string(&mut self, p: usize, n: usize) -> Result<D::Value> {
        let Some(b) = self.cx.memory().get(p..).and_then(|m| m.get(..n)) else {
            bail!("string pointer/length out of bounds of memory")
        };
        self.cx.consume_fuel(n.saturating_add(D::OBJECT))?;
        D::string(self.d, std::str::from_utf8(b)?)
    }

    fn list(&mut self, t: &TyRef, p: usize, n: usize) -> Result<D::Value> {
        if !p.is_multiple_of(t.align) {
            bail!("list pointer is not aligned");
        }
        let Some(total) = n.checked_mul(t.size) else {
            bail!("list length overflow")
        };
        let Some(b) = self.cx.memory().get(p..).and_then(|m| m.get(..total)) else {
            bail!("list pointer/length out of bounds of memory")
        };
        if let Kind::Num(kind) = t.kind {
            self.cx.consume_fuel(total.saturating_add(D::OBJECT))?;
            return D::nums(self.d, kind, b);
        }
        self.cx
            .consume_fuel(n.saturating_mul(size_of::<usize>() + D::OBJECT))?;
        D::list(self.d, n, |i| self.load(t, p + i * t.size))
    }

    fn handle(&mut self, ty: &Ty, r: &Arc<Resource>, own: bool, raw: ValRaw) -> Result<D::Value> {
        if r.host.is_some() {
            let rep = ResourceDynamic::linear_lift_from_flat(self.cx, ty.raw, &raw)?.rep();
            let (object, of) = scope::current(|s| if own { s.take(rep) } else { s.get(rep) })?;
            self.of = self.of.take().or(of);
            return D::handle(self.d, r, own, Handle::Host(object));
        }
        let any = ResourceAny::linear_lift_from_flat(self.cx, ty.raw, &raw)?;
        if !own {
            self.borrows.push(any);
        }
        let home = scope::current_home().ok_or_else(|| format_err!("no component instance is at work"))?;
        let guest = GuestHandle::new(any, home, r.clone(), own);
        D::handle(self.d, r, own, Handle::Guest(guest))
    }

    fn stream(&mut self, ty: &Ty, t: Option<&TyRef>, raw: ValRaw) -> Result<D::Value> {
        D::stream(
            self.d,
            t,
            StreamAny::linear_lift_from_flat(self.cx, ty.raw, &raw)?,
        )
    }

    fn future(&mut self, ty: &Ty, t: Option<&TyRef>, raw: ValRaw) -> Result<D::Value> {
        D::future(
            self.d,
            t,
            FutureAny::linear_lift_from_flat(self.cx, ty.raw, &raw)?,
        )
    }

    fn error_context(&mut self, ty: &Ty, raw: ValRaw) -> Result<D::Value> {
        D::error_context(
            self.d,
            ErrorContext::linear_lift_from_flat(self.cx, ty.raw, &raw)?.into_val(),
        )
    }
}

fn next<'s>(src: &mut Iter<'s, ValRaw>) -> Result<&'s ValRaw> {
    src.next()
        .ok_or_else(|| format_err!("fewer core values than the type needs"))
}

fn case(ty: &Ty, index: usize) -> Result<Option<&TyRef>> {
    ty.case(index)
        .ok_or_else(|| format_err!("discriminant {index} out of range of {}", ty.wit()))
}

fn character(v: u32) -> Result<char> {
    char::from_u32(v).ok_or_else(|| format_err!("{v:#x} is not a Unicode scalar value"))
}

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn small(b: &[u8], size: usize) -> u32 {
    match size {
        1 => u32::from(b[0]),
        2 => u32::from(u16::from_le_bytes([b[0], b[1]])),
        _ => word(b, 0),
    }
}

/// The bits of one number in memory, as [`Domain::num`] takes them.
pub(crate) fn number(n: Num, b: &[u8]) -> u64 {
    match n {
        Num::U8 => u64::from(b[0]),
        Num::S8 => b[0] as i8 as i64 as u64,
        Num::U16 => small(b, 2) as u64,
        Num::S16 => small(b, 2) as i16 as i64 as u64,
        Num::U32 => word(b, 0) as u64,
        Num::S32 => word(b, 0) as i32 as i64 as u64,
        Num::F32 => canonical32(word(b, 0)),
        Num::U64 | Num::S64 => u64::from(word(b, 0)) | u64::from(word(b, 4)) << 32,
        Num::F64 => canonical64(u64::from(word(b, 0)) | u64::from(word(b, 4)) << 32),
    }
}

/// NaN payloads are not part of a value: every NaN becomes the canonical one.
pub(crate) fn canonical32(bits: u32) -> u64 {
    if f32::from_bits(bits).is_nan() {
        0x7fc0_0000
    } else {
        bits as u64
    }
}

pub(crate) fn canonical64(bits: u64) -> u64 {
    if f64::from_bits(bits).is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        bits
    }
}

pub(crate) fn mask(n: usize) -> u32 {
    if n >= 32 { u32::MAX } else { (1 << n) - 1 }
}
