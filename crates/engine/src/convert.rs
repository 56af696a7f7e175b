//! Values from one domain to another, by type.

use wasmtime::{Result, bail};

use crate::domain::Domain;
use crate::lift::number;
use crate::lower::{at, expect, field, known_bits, open_exact, paired};
use crate::types::{Kind, Ty};

/// Converts a value that needs no instance: streams, futures and error-contexts have none outside one.
///
/// Errors with a [`crate::Mismatch`] when the value does not fit `ty`.
pub fn convert<A: Domain, B: Domain>(to: B::Cx<'_>, ty: &Ty, v: &A::Item<'_, '_>) -> Result<B::Value> {
    let item = |t: &Ty, items: &A::Item<'_, '_>, i: usize| {
        at(
            || format!("[{i}]"),
            A::at(items, i).and_then(|v| convert::<A, B>(to, t, &v)),
        )
    };
    match &ty.kind {
        Kind::Bool => B::bool(to, expect(ty, A::to_bool(v))?),
        Kind::Num(n) => B::num(to, *n, expect(ty, A::to_num(v, *n))?),
        Kind::Char => B::char(to, expect(ty, A::to_char(v))?),
        Kind::String => expect(ty, A::with_str(v, |s| B::string(to, s))),
        Kind::List(t) => {
            if let Kind::Num(n) = t.kind {
                return expect(ty, A::with_nums(v, n, |raw| B::nums(to, n, raw)));
            }
            let (len, items) = expect(ty, A::open(v, ty))?;
            B::list(to, len, |i| item(t, &items, i))
        }
        Kind::FixedList(t, len) => {
            let items = open_exact::<A>(ty, v, *len)?;
            B::list(to, *len, |i| item(t, &items, i))
        }
        Kind::Tuple(slots) => {
            let items = open_exact::<A>(ty, v, slots.len())?;
            B::tuple(to, slots.len(), |i| item(&slots[i].ty, &items, i))
        }
        Kind::Record(fields) => B::record(to, ty, |i| {
            at(
                || format!(".{}", fields[i].name),
                field::<A>(ty, v, i).and_then(|v| convert::<A, B>(to, &fields[i].ty, &v)),
            )
        }),
        Kind::Variant { .. } | Kind::Enum { .. } | Kind::Option { .. } | Kind::Result { .. } => {
            let (index, payload) = expect(ty, A::to_case(v, ty))?;
            let payload = match paired(ty, index, payload)? {
                Some((t, v)) => Some(convert::<A, B>(to, t, &v)?),
                None => None,
            };
            B::case(to, ty, index, payload)
        }
        Kind::Flags(names) => B::flags(
            to,
            ty,
            known_bits(ty, names.len(), expect(ty, A::to_flags(v, ty))?)?,
        ),
        Kind::Own(r) | Kind::Borrow(r) => {
            let own = matches!(ty.kind, Kind::Own(_));
            B::handle(to, r, own, expect(ty, A::to_handle(v, r, own))?)
        }
        Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext => {
            bail!("a {} exists only within a component's instance", ty.wit())
        }
    }
}

/// The numbers of a block one by one, as [`Domain::num`] takes them.
pub fn each_number(kind: crate::Num, raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.chunks_exact(kind.size()).map(move |b| number(kind, b))
}
