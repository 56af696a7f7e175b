//! Values from one domain to another, by type.

use wasmtime::{Result, bail};

use crate::domain::Domain;
use crate::lift::number;
use crate::types::{Kind, Ty};

/// Converts a value that needs no instance: handles, streams, futures and error-contexts have none outside one.
///
/// Errors with a [`crate::Mismatch`] when the value does not fit `ty`.
pub fn convert<A: Domain, B: Domain>(to: B::Cx<'_>, ty: &Ty, v: &A::Item<'_, '_>) -> Result<B::Value> {
    match &ty.kind {
        Kind::Bool => B::bool(to, A::to_bool(v)?),
        Kind::Num(n) => B::num(to, *n, A::to_num(v, *n)?),
        Kind::Char => B::char(to, A::to_char(v)?),
        Kind::String => A::with_str(v, |s| B::string(to, s)),
        Kind::List(t) => {
            if let Kind::Num(n) = t.kind {
                return A::with_nums(v, n, |raw| B::nums(to, n, raw));
            }
            let (len, items) = A::open(v, ty)?;
            B::list(to, len, |i| convert::<A, B>(to, t, &A::at(&items, i)?))
        }
        Kind::FixedList(t, len) => {
            let (_, items) = A::open(v, ty)?;
            B::list(to, *len, |i| convert::<A, B>(to, t, &A::at(&items, i)?))
        }
        Kind::Tuple(slots) => {
            let (_, items) = A::open(v, ty)?;
            B::tuple(to, slots.len(), |i| {
                convert::<A, B>(to, &slots[i].ty, &A::at(&items, i)?)
            })
        }
        Kind::Record(fields) => B::record(to, ty, |i| {
            convert::<A, B>(to, &fields[i].ty, &A::field(v, ty, i)?)
        }),
        Kind::Variant { .. } | Kind::Enum { .. } | Kind::Option { .. } | Kind::Result { .. } => {
            let (index, payload) = A::to_case(v, ty)?;
            let payload = match (ty.case(index).flatten(), payload) {
                (Some(t), Some(v)) => Some(convert::<A, B>(to, t, &v)?),
                _ => None,
            };
            B::case(to, ty, index, payload)
        }
        Kind::Flags(_) => B::flags(to, ty, A::to_flags(v, ty)?),
        Kind::Own(_) | Kind::Borrow(_) | Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext => {
            bail!("a {} exists only within a component's instance", ty.wit())
        }
    }
}

/// The numbers of a block one by one, as [`Domain::num`] takes them.
pub fn each_number(kind: crate::Num, raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.chunks_exact(kind.size()).map(move |b| number(kind, b))
}
