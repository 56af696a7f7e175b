//! One loaded component as the provider of another's imports.

use std::sync::Arc;

use wasmtime::{Error, format_err};

use crate::actor::Notify;
use crate::error::Within;
use crate::import::{Import, Outcome};
use crate::joint::beside;
use crate::program::{Caller, Program, StoreKind};
use crate::resource::GuestHandle;
use crate::scope;
use crate::start::Started;
use crate::types::{FuncTy, Kind, TyRef};
use crate::value::{Neutral, Value};

/// Function `f` as what `provider` exports in interface `offered`, which may be another version of that of `f`: values
/// are copied from one instance to the other, and each keeps its own limits and its own traps. `notify` polls
/// concurrent instances.
///
/// Errors with what is missing or has another type.
pub fn exported(
    f: &FuncTy,
    offered: &str,
    provider: &Arc<Program>,
    notify: Option<&Arc<dyn Notify>>,
) -> std::result::Result<Import<Neutral>, String> {
    let fits = |e: &crate::program::Export| e.ty.name == f.name && &*e.ty.interface == offered;
    let Some(index) = provider.exports.iter().position(fits) else {
        return Err(format!("is not exported; needed for {}", f.wit()));
    };
    let export = &provider.exports[index].ty;
    if !same_signature(f, export) {
        return Err(format!("is {}, wanted {}", export.wit(), f.wit()));
    }
    Ok(import_of(provider.clone(), index, notify.cloned()))
}

fn import_of(provider: Arc<Program>, index: usize, notify: Option<Arc<dyn Notify>>) -> Import<Neutral> {
    if provider.kind == StoreKind::Sync {
        return Import::now(move |args| {
            let out = match home_of(&args) {
                Some(home) => home.call::<Neutral>(index, args, Caller::PLAIN),
                None => provider.call::<Neutral>(index, args, Caller::PLAIN),
            };
            out.map_err(|e| within(&provider, index, e))
        });
    }
    let call = move |args: Vec<Value>| {
        let Some(notify) = notify.clone() else {
            return Outcome::Ready(Err(format_err!(
                "an asynchronous component needs an asynchronous host"
            )));
        };
        let provider = provider.clone();
        // what runs below runs for the same caller, and ends with its call
        let context = scope::behalf().and_then(|call| call.context);
        let answer = beside(async move {
            let on = home_of(&args);
            let out = match provider.start::<Neutral>(index, args, context, &notify, on) {
                Ok(Started::Alone(future)) => future.await,
                Ok(Started::Within(mut call)) => {
                    call.home.notify();
                    std::future::poll_fn(|cx| call.poll_result(cx)).await
                }
                Err(e) => Err(e),
            };
            out.map_err(|e| within(&provider, index, e))
        });
        Outcome::Later(Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(format_err!("the component that serves this import has gone")))
        }))
    };
    Import {
        call: Arc::new(call),
        waits: true,
    }
}

fn within(provider: &Program, index: usize, error: Error) -> Error {
    let path = provider.exports[index].ty.path();
    Error::new(Within { path, error })
}

/// The instance that a method call has to run in: that of its first argument.
fn home_of(args: &[Value]) -> Option<Arc<crate::Home>> {
    match args.first()? {
        Value::Guest(g) => Some(g.home()),
        Value::Host(h) => Some(h.clone().downcast::<GuestHandle>().ok()?.home()),
        _ => None,
    }
}

fn same_signature(a: &FuncTy, b: &FuncTy) -> bool {
    let same_result = match (&a.result, &b.result) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    };
    a.async_ == b.async_
        && same_result
        && a.params.len() == b.params.len()
        && a.params.iter().zip(&b.params).all(|((_, a), (_, b))| same(a, b))
}

/// Whether two types have the same structure. Names of types do not count; those of fields, cases and resources do.
fn same(a: &TyRef, b: &TyRef) -> bool {
    let children = || {
        let (a, b) = (a.children(), b.children());
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
    };
    match (&a.kind, &b.kind) {
        (Kind::Num(a), Kind::Num(b)) => a == b,
        (Kind::FixedList(_, a), Kind::FixedList(_, b)) if a != b => false,
        (Kind::Record(a), Kind::Record(b)) if a.iter().map(|f| &f.name).ne(b.iter().map(|f| &f.name)) => {
            false
        }
        (Kind::Variant { cases: a, .. }, Kind::Variant { cases: b, .. })
            if a.iter()
                .map(|c| (&c.name, c.ty.is_some()))
                .ne(b.iter().map(|c| (&c.name, c.ty.is_some()))) =>
        {
            false
        }
        (Kind::Enum { names: a, .. }, Kind::Enum { names: b, .. }) | (Kind::Flags(a), Kind::Flags(b)) => {
            a == b
        }
        (Kind::Result { ok: a, err: c, .. }, Kind::Result { ok: b, err: d, .. })
            if a.is_some() != b.is_some() || c.is_some() != d.is_some() =>
        {
            false
        }
        (Kind::Own(a), Kind::Own(b)) | (Kind::Borrow(a), Kind::Borrow(b)) => a.name == b.name,
        (a_kind, b_kind) => std::mem::discriminant(a_kind) == std::mem::discriminant(b_kind) && children(),
    }
}
