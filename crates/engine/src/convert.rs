//! Values from one domain to another, by type.

use wasmtime::{Result, bail};

use crate::domain::Domain;
use crate::lift::number;
use crate::lower::{at, case_name, expect, field, known_bits, open_exact, paired};
use crate::stream::{Converted, Feed, Settle, converted};
use crate::types::{Kind, Ty};

/// Converts a value that needs no instance: what a guest made of streams and futures stays in its own.
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
            B::fixed(to, *len, |i| item(t, &items, i))
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
            let payload = paired(ty, index, payload)?;
            B::case(to, ty, index, || match payload {
                Some((t, v)) => at(|| case_name(ty, index), convert::<A, B>(to, t, &v)).map(Some),
                None => Ok(None),
            })
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
        Kind::Stream(t) => match expect(ty, A::to_stream(v, t.as_ref()))? {
            Feed::Source(source) => {
                let payload = t.clone();
                B::fed(to, t.as_ref(), Box::new(Converted::<A> { source, payload }))
            }
            Feed::Same(_) => elsewhere(ty),
        },
        Kind::Future(t) => match expect(ty, A::to_future(v, t.as_ref()))? {
            Settle::Value(value) => {
                let payload = t.clone();
                let settling = async move {
                    let value = value.await?;
                    match &payload {
                        Some(t) => converted::<A, B>(t, &value),
                        None => B::enter(|b| {
                            B::tuple(b, 0, |_| bail!("a unit has no item")).map(|v| B::whole(b, v))
                        }),
                    }
                };
                B::settled(to, t.as_ref(), Box::pin(settling))
            }
            Settle::Same(_) => elsewhere(ty),
        },
        // outside of an instance it is its message
        Kind::ErrorContext => expect(ty, A::with_str(v, |s| B::string(to, s))),
    }
}

/// The parameters of a call, or its result, converted: `tuple` is their type. They were built, and what comes is.
///
/// Errors as [`convert`] does.
pub fn convert_all<A: Domain, B: Domain>(tuple: &Ty, built: Vec<A::Value>) -> Result<Vec<B::Value>> {
    converted_all::<A, B>(tuple, &A::readable(tuple, built)?)
}

/// The same of values that can be read.
pub fn converted_all<A: Domain, B: Domain>(tuple: &Ty, values: &[A::Value]) -> Result<Vec<B::Value>> {
    let Kind::Tuple(slots) = &tuple.kind else {
        bail!("expected a tuple")
    };
    if slots.len() != values.len() {
        bail!("{} values for {} types", values.len(), slots.len());
    }
    A::enter(|a| {
        B::enter(|b| {
            B::all(b, slots.len(), |i| {
                at(
                    || i.to_string(),
                    convert::<A, B>(b, &slots[i].ty, &A::view(a, &values[i])),
                )
            })
        })
    })
}

fn elsewhere<R>(ty: &Ty) -> Result<R> {
    bail!("a {} exists only within a component's instance", ty.wit())
}

/// The numbers of a block one by one, as [`Domain::num`] takes them.
pub fn each_number(kind: crate::Num, raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.chunks_exact(kind.size()).map(move |b| number(kind, b))
}
