//! Whether two types of one component are the same.

use wasmtime::component::Type;

/// As `a == b` says, which panics where resources are met in types of a component that has no instance yet.
pub(crate) fn same(a: &Type, b: &Type) -> bool {
    let optional = |a: Option<Type>, b: Option<Type>| match (a, b) {
        (Some(a), Some(b)) => same(&a, &b),
        (None, None) => true,
        _ => false,
    };
    match (a, b) {
        (Type::List(a), Type::List(b)) => same(&a.ty(), &b.ty()),
        (Type::FixedLengthList(a), Type::FixedLengthList(b)) => {
            // which does not tell its length
            if has_handles(&a.ty()) {
                same(&a.ty(), &b.ty())
            } else {
                a == b
            }
        }
        (Type::Map(a), Type::Map(b)) => same(&a.key(), &b.key()) && same(&a.value(), &b.value()),
        (Type::Record(a), Type::Record(b)) => {
            a.fields().len() == b.fields().len()
                && a.fields().zip(b.fields()).all(|(a, b)| a.name == b.name)
                && a.fields().zip(b.fields()).all(|(a, b)| same(&a.ty, &b.ty))
        }
        (Type::Tuple(a), Type::Tuple(b)) => {
            a.types().len() == b.types().len() && a.types().zip(b.types()).all(|(a, b)| same(&a, &b))
        }
        (Type::Variant(a), Type::Variant(b)) => {
            a.cases().len() == b.cases().len()
                && a.cases().zip(b.cases()).all(|(a, b)| a.name == b.name)
                && a.cases().zip(b.cases()).all(|(a, b)| optional(a.ty, b.ty))
        }
        (Type::Enum(a), Type::Enum(b)) => a.names().eq(b.names()),
        (Type::Flags(a), Type::Flags(b)) => a.names().eq(b.names()),
        (Type::Option(a), Type::Option(b)) => same(&a.ty(), &b.ty()),
        (Type::Result(a), Type::Result(b)) => optional(a.ok(), b.ok()) && optional(a.err(), b.err()),
        (Type::Own(a), Type::Own(b)) | (Type::Borrow(a), Type::Borrow(b)) => a == b,
        (Type::Future(a), Type::Future(b)) => optional(a.ty(), b.ty()),
        (Type::Stream(a), Type::Stream(b)) => optional(a.ty(), b.ty()),
        // the others have no parts
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn has_handles(t: &Type) -> bool {
    let any = |t: Option<Type>| t.is_some_and(|t| has_handles(&t));
    match t {
        Type::Own(_) | Type::Borrow(_) => true,
        Type::List(t) => has_handles(&t.ty()),
        Type::FixedLengthList(t) => has_handles(&t.ty()),
        Type::Map(t) => has_handles(&t.key()) || has_handles(&t.value()),
        Type::Record(t) => t.fields().any(|f| has_handles(&f.ty)),
        Type::Tuple(t) => t.types().any(|t| has_handles(&t)),
        Type::Variant(t) => t.cases().any(|c| any(c.ty)),
        Type::Option(t) => has_handles(&t.ty()),
        Type::Result(t) => any(t.ok()) || any(t.err()),
        Type::Future(t) => any(t.ty()),
        Type::Stream(t) => any(t.ty()),
        _ => false,
    }
}
