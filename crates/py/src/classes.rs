//! Python classes of WIT types, made by `loop_kit._types` when a value of the type is first met.

use std::sync::Arc;

use loop_engine::{Kind, Ty};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

/// What the domain keeps with a [`Ty`].
pub struct Class {
    /// The dataclass, variant base, enum or flag class.
    pub class: Py<PyAny>,
    /// Records: attribute names. Variants and enums: WIT case names.
    pub names: Vec<Py<PyString>>,
    /// Variants: the case classes. Enums: the members.
    pub cases: Vec<Py<PyAny>>,
}

/// The class of a named type.
///
/// Errors when `loop_kit._types` does, which would be a bug.
pub fn of<'t>(py: Python<'_>, ty: &'t Ty) -> PyResult<&'t Class> {
    if let Some(ext) = ty.ext.get() {
        return Ok(known(ext));
    }
    let made = make(py, ty)?;
    // another thread may have been first: its class is then the one
    Ok(known(ty.ext.get_or_init(|| Box::new(made))))
}

#[allow(clippy::expect_used)] // only this module fills `ext`
fn known(ext: &Box<dyn std::any::Any + Send + Sync>) -> &Class {
    ext.downcast_ref().expect("a type's ext holds a Class")
}

fn make(py: Python<'_>, ty: &Ty) -> PyResult<Class> {
    let types = py.import(intern!(py, "loop_kit._types"))?;
    let name = ty.name.as_deref();
    let strings = |names: &mut dyn Iterator<Item = &Arc<str>>| -> Vec<Py<PyString>> {
        names.map(|n| PyString::intern(py, n).unbind()).collect()
    };
    match &ty.kind {
        Kind::Record(fields) => {
            let wit = strings(&mut fields.iter().map(|f| &f.name));
            let (class, attributes): (Py<PyAny>, Vec<Py<PyString>>) = types
                .call_method1(intern!(py, "record"), (name, PyList::new(py, &wit)?))?
                .extract()?;
            Ok(Class {
                class,
                names: attributes,
                cases: vec![],
            })
        }
        Kind::Variant { cases, .. } => {
            let names = strings(&mut cases.iter().map(|c| &c.name));
            let payloads: Vec<bool> = cases.iter().map(|c| c.ty.is_some()).collect();
            let (class, cases): (Py<PyAny>, Vec<Py<PyAny>>) = types
                .call_method1(intern!(py, "variant"), (name, PyList::new(py, &names)?, payloads))?
                .extract()?;
            Ok(Class { class, names, cases })
        }
        Kind::Enum { names, .. } => {
            let names = strings(&mut names.iter());
            let (class, cases): (Py<PyAny>, Vec<Py<PyAny>>) = types
                .call_method1(intern!(py, "enumeration"), (name, PyList::new(py, &names)?))?
                .extract()?;
            Ok(Class { class, names, cases })
        }
        Kind::Flags(names) => {
            let names = strings(&mut names.iter());
            let class = types
                .call_method1(intern!(py, "flags"), (name, PyList::new(py, &names)?))?
                .unbind();
            Ok(Class {
                class,
                names,
                cases: vec![],
            })
        }
        Kind::Option { .. } => Ok(Class {
            class: types.getattr(intern!(py, "Some"))?.unbind(),
            names: vec![],
            cases: vec![],
        }),
        Kind::Result { .. } => Ok(Class {
            class: types.getattr(intern!(py, "Err"))?.unbind(),
            names: vec![],
            cases: vec![],
        }),
        Kind::List(_) => Ok(Class {
            class: types.getattr(intern!(py, "Numbers"))?.unbind(),
            names: vec![],
            cases: vec![],
        }),
        _ => Ok(Class {
            class: PyTuple::empty(py).get_type().into_any().unbind(),
            names: vec![],
            cases: vec![],
        }),
    }
}
