//! Types without streams and futures.

use std::sync::Arc;

use wasmtime::Result;

use crate::layout;
use crate::types::{Case, Field, Kind, Ty, TyRef};

/// The type of `ty`'s values once all that they wait for is there; it is written to the wire in the same way.
///
/// A stream is a `variant { pending, ready(list<T>) }`, a future a `variant { pending, ready(T) }`, an error-context
/// its message.
///
/// Errors as [`Ty::made`] does.
pub fn ready(ty: &TyRef) -> Result<TyRef> {
    let waits = |t: &Ty| matches!(t.kind, Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext);
    if !ty.any(&waits) {
        return Ok(ty.clone());
    }
    let maybe = |t: &Option<TyRef>| t.as_ref().map(ready).transpose();
    let all = |fields: &[Field]| {
        let made = fields.iter().map(|f| Ok((f.name.clone(), ready(&f.ty)?)));
        Ok::<_, wasmtime::Error>(layout::fields(made.collect::<Result<Vec<_>>>()?.into_iter()))
    };
    let kind = match &ty.kind {
        Kind::Stream(t) => {
            let item = t.as_ref().map_or_else(|| Ty::tuple([]), ready)?;
            return waiting("stream", Some(Ty::made(None, Kind::List(item))?));
        }
        Kind::Future(t) => return waiting("future", maybe(t)?),
        Kind::ErrorContext => Kind::String,
        Kind::List(t) => Kind::List(ready(t)?),
        Kind::FixedList(t, n) => Kind::FixedList(ready(t)?, *n),
        Kind::Record(fields) => Kind::Record(all(fields)?),
        Kind::Tuple(fields) => Kind::Tuple(all(fields)?),
        Kind::Variant { cases, .. } => {
            let made = cases.iter().map(|c| {
                Ok(Case {
                    name: c.name.clone(),
                    ty: maybe(&c.ty)?,
                })
            });
            layout::variant(made.collect::<Result<_>>()?)
        }
        Kind::Option { some, .. } => layout::option(ready(some)?),
        Kind::Result { ok, err, .. } => layout::result(maybe(ok)?, maybe(err)?),
        _ => return Ok(ty.clone()),
    };
    Ty::made(ty.name.clone(), kind)
}

/// What is pending, or ready with its payload.
fn waiting(name: &str, payload: Option<TyRef>) -> Result<TyRef> {
    let case = |name: &str, ty| Case {
        name: name.into(),
        ty,
    };
    let kind = layout::variant([case("pending", None), case("ready", payload)].into());
    Ty::made(Some(Arc::from(name)), kind)
}
