//! The layout of types that no component defines, by the rules of the canonical ABI.

use std::sync::{Arc, OnceLock};

use wasmtime::component::__internal::InterfaceType;
use wasmtime::{Result, bail};

use crate::types::{Case, Field, Kind, Num, Tag, Ty, TyRef};

impl Ty {
    /// A type of its own, which serves to read and to write values but not to enter a component.
    ///
    /// Errors where it would not fit into a memory.
    pub fn made(name: Option<Arc<str>>, kind: Kind) -> Result<TyRef> {
        let (size, align, flat) = laid_out(&kind);
        if size > u32::MAX as usize {
            bail!("a type of {size} bytes fits no memory");
        }
        Ok(Arc::new(Ty {
            kind,
            name,
            size,
            align,
            flat,
            raw: InterfaceType::Bool,
            ext: OnceLock::new(),
        }))
    }

    /// A tuple of `types`.
    pub fn tuple(types: impl IntoIterator<Item = TyRef>) -> Result<TyRef> {
        let unnamed = types.into_iter().map(|t| (Arc::from(""), t));
        Ty::made(None, Kind::Tuple(fields(unnamed)))
    }
}

/// Fields one after the other, each where its alignment lets it begin.
pub(crate) fn fields(named: impl Iterator<Item = (Arc<str>, TyRef)>) -> Box<[Field]> {
    let mut end = 0_usize;
    let place = |(name, ty): (Arc<str>, TyRef)| {
        let offset = end.next_multiple_of(ty.align);
        end = offset.saturating_add(ty.size);
        Field { name, ty, offset }
    };
    named.map(place).collect()
}

/// The discriminant of `cases` cases with these payloads.
pub(crate) fn tag<'t>(cases: usize, payloads: impl Iterator<Item = &'t TyRef>) -> Tag {
    let size = match cases {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    let align = payloads.map(|t| t.align).max().unwrap_or(1);
    Tag {
        size,
        payload: size.next_multiple_of(align),
    }
}

pub(crate) fn variant(cases: Box<[Case]>) -> Kind {
    let tag = tag(cases.len(), cases.iter().filter_map(|c| c.ty.as_ref()));
    Kind::Variant { cases, tag }
}

pub(crate) fn enumeration(names: Box<[Arc<str>]>) -> Kind {
    let tag = tag(names.len(), [].into_iter());
    Kind::Enum { names, tag }
}

pub(crate) fn option(some: TyRef) -> Kind {
    let tag = tag(2, [&some].into_iter());
    Kind::Option { some, tag }
}

pub(crate) fn result(ok: Option<TyRef>, err: Option<TyRef>) -> Kind {
    let tag = tag(2, ok.iter().chain(&err));
    Kind::Result { ok, err, tag }
}

/// Size, alignment and number of core values.
fn laid_out(kind: &Kind) -> (usize, usize, usize) {
    let product = |fields: &[Field]| {
        let align = fields.iter().map(|f| f.ty.align).max().unwrap_or(1);
        let end = fields.last().map_or(0, |f| f.offset.saturating_add(f.ty.size));
        let flat = fields.iter().fold(0, |n: usize, f| n.saturating_add(f.ty.flat));
        (end.saturating_add(align - 1) / align * align, align, flat)
    };
    let sum = |tag: &Tag, payloads: &[&TyRef]| {
        let most = |part: fn(&TyRef) -> usize| payloads.iter().map(|t| part(t)).max().unwrap_or(0);
        let align = most(|t| t.align).max(tag.size);
        let size = tag.payload.saturating_add(most(|t| t.size));
        let size = size.saturating_add(align - 1) / align * align;
        (size, align, most(|t| t.flat).saturating_add(1))
    };
    match kind {
        Kind::Bool | Kind::Num(Num::U8 | Num::S8) => (1, 1, 1),
        Kind::Num(n) => (n.size(), n.size(), 1),
        Kind::Char | Kind::Own(_) | Kind::Borrow(_) => (4, 4, 1),
        Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext => (4, 4, 1),
        Kind::String | Kind::List(_) => (8, 4, 2),
        Kind::FixedList(t, n) => (t.size.saturating_mul(*n), t.align, t.flat.saturating_mul(*n)),
        Kind::Record(fields) | Kind::Tuple(fields) => product(fields),
        Kind::Variant { cases, tag } => {
            let payloads: Vec<_> = cases.iter().filter_map(|c| c.ty.as_ref()).collect();
            sum(tag, &payloads)
        }
        Kind::Enum { tag, .. } => sum(tag, &[]),
        Kind::Option { some, tag } => sum(tag, &[some]),
        Kind::Result { ok, err, tag } => {
            let payloads: Vec<_> = ok.iter().chain(err).collect();
            sum(tag, &payloads)
        }
        Kind::Flags(names) => match names.len() {
            0 => (0, 1, 0),
            1..=8 => (1, 1, 1),
            9..=16 => (2, 2, 1),
            _ => (4, 4, 1),
        },
    }
}
