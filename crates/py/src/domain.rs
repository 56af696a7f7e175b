//! Component values as Python objects.
//!
//! | WIT | Python |
//! | --- | --- |
//! | bool, integers, floats, char, string | bool, int, float, str |
//! | list of u8 | bytes; any buffer, or a list of ints, is accepted |
//! | list of other numbers | `Numbers` (an `array.array`); any buffer of that type, or any sequence, is accepted |
//! | other lists | list; any iterable but str is accepted |
//! | tuple, record | tuple, dataclass |
//! | variant, enum, flags | case classes, Enum, Flag |
//! | option | None or the value; `Some` where options nest |
//! | result | `Ok` / `Err` |
//! | resource | the provider's own object, or a [`Handle`] |

use std::sync::Arc;

use loop_engine::{
    Domain, Feed, Handle as Crossing, HostObject, Kind, Mismatch, Num, Resource, Settle, Ty, TyRef,
};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::*;
use pyo3::{ffi, intern};
use wasmtime::component::{FutureAny, StreamAny, Val};
use wasmtime::{Error, Result};

use crate::classes;
use crate::feed;
use crate::kept::Anchor;
use crate::read::{block, enum_case, iterate, numbers, unwrapped, variant_case};
use crate::streams;
use crate::values::{ErrorContext, Handle, NativeHandle, Ok as OkValue};

/// The domain of Python objects.
pub struct Python_;

/// A host-defined resource: whatever object the provider made.
pub struct PyObjectHandle(pub Py<PyAny>);

/// A Python error on its way through the engine.
pub fn failure(e: PyErr) -> Error {
    Error::new(PyFailure(e))
}

/// A Python exception as an engine error.
#[derive(Debug)]
pub struct PyFailure(pub PyErr);

impl std::fmt::Display for PyFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for PyFailure {}

/// What a wrong value is, for people: its type and a short repr.
pub fn got(v: &Bound<'_, PyAny>) -> String {
    let kind = v
        .get_type()
        .name()
        .map_or_else(|_| "object".into(), |n| n.to_string());
    if v.is_none() {
        return "None".into();
    }
    let repr = v
        .repr()
        .map_or_else(|_| String::new(), |r| r.to_string_lossy().into_owned());
    if repr.chars().count() > 60 {
        let short: String = repr.chars().take(57).collect();
        return format!("{kind} {short}…");
    }
    format!("{kind} {repr}")
}

pub fn mismatch<R>(v: &Bound<'_, PyAny>) -> Result<R> {
    Err(Mismatch::new("", got(v)).into())
}

/// Type and range errors of an extraction are mismatches; anything else is the object's own failure.
fn extracted<'py, R>(v: &Bound<'py, PyAny>, r: PyResult<R>) -> Result<R> {
    r.map_err(|e| {
        let py = v.py();
        if e.is_instance_of::<PyTypeError>(py) || e.is_instance_of::<PyOverflowError>(py) {
            Mismatch::new("", got(v)).into()
        } else {
            failure(e)
        }
    })
}

fn object<'py, T: IntoPyObject<'py>>(py: Python<'py>, v: T) -> Result<Py<PyAny>>
where
    T::Error: Into<PyErr>,
{
    use pyo3::BoundObject;
    Ok(v.into_pyobject(py)
        .map_err(|e| failure(e.into()))?
        .into_any()
        .unbind())
}

/// The class of a resource's objects, if it has one.
fn class_of(py: Python<'_>, ty: &Resource) -> Option<Py<PyAny>> {
    ty.ext.get()?.downcast_ref::<Anchor>()?.get(py)
}

/// Whether objects must be of it: of a class, or of one of those of the providers that served in turn.
fn is_checked(class: &Bound<'_, PyAny>) -> bool {
    class.is_instance_of::<PyType>() || class.cast::<PyTuple>().is_ok_and(|all| !all.is_empty())
}

/// A handle as an object of its resource's class, if that has one.
pub fn wrapped(py: Python<'_>, ty: &Resource, handle: Py<PyAny>) -> Result<Py<PyAny>> {
    match class_of(py, ty).filter(|class| !class.bind(py).is_instance_of::<PyTuple>()) {
        Some(class) => class.call1(py, (handle,)).map_err(failure),
        None => Ok(handle),
    }
}

fn nested(ty: &Ty) -> bool {
    matches!(&ty.kind, Kind::Option { some, .. } if matches!(some.kind, Kind::Option { .. }))
}

impl Domain for Python_ {
    type Value = Py<PyAny>;
    type Cx<'c> = Python<'c>;
    type Item<'c, 'v> = Bound<'c, PyAny>;
    // a small CPython object with its header
    const OBJECT: usize = 56;

    fn enter<R>(f: impl for<'c> FnOnce(Python<'c>) -> R) -> R {
        Python::attach(f)
    }
    fn view<'c, 'v>(py: Python<'c>, value: &'v Py<PyAny>) -> Bound<'c, PyAny>
    where
        'c: 'c,
        'v: 'v,
    {
        value.bind(py).clone()
    }

    fn bool(py: Python<'_>, v: bool) -> Result<Py<PyAny>> {
        Ok(PyBool::new(py, v).to_owned().into_any().unbind())
    }
    fn num(py: Python<'_>, kind: Num, bits: u64) -> Result<Py<PyAny>> {
        match kind {
            Num::U8 | Num::U16 | Num::U32 | Num::U64 => object(py, bits),
            Num::S8 | Num::S16 | Num::S32 | Num::S64 => object(py, bits as i64),
            Num::F32 => object(py, f32::from_bits(bits as u32)),
            Num::F64 => object(py, f64::from_bits(bits)),
        }
    }
    fn char(py: Python<'_>, v: char) -> Result<Py<PyAny>> {
        object(py, v)
    }
    fn string(py: Python<'_>, v: &str) -> Result<Py<PyAny>> {
        Ok(PyString::new(py, v).into_any().unbind())
    }
    fn nums(py: Python<'_>, kind: Num, raw: &[u8]) -> Result<Py<PyAny>> {
        if kind == Num::U8 {
            return Ok(PyBytes::new(py, raw).into_any().unbind());
        }
        numbers(py, kind, raw).map_err(failure)
    }
    fn list(
        py: Python<'_>,
        len: usize,
        mut each: impl FnMut(usize) -> Result<Py<PyAny>>,
    ) -> Result<Py<PyAny>> {
        // SAFETY: a new list of NULL slots; each is set once, and a list left early is dropped with its NULLs.
        unsafe {
            let list =
                Bound::from_owned_ptr_or_err(py, ffi::PyList_New(len as ffi::Py_ssize_t)).map_err(failure)?;
            for i in 0..len {
                ffi::PyList_SetItem(list.as_ptr(), i as ffi::Py_ssize_t, each(i)?.into_ptr());
            }
            Ok(list.unbind())
        }
    }
    fn tuple(
        py: Python<'_>,
        len: usize,
        mut each: impl FnMut(usize) -> Result<Py<PyAny>>,
    ) -> Result<Py<PyAny>> {
        // SAFETY: as for `list`.
        unsafe {
            let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(len as ffi::Py_ssize_t))
                .map_err(failure)?;
            for i in 0..len {
                ffi::PyTuple_SetItem(tuple.as_ptr(), i as ffi::Py_ssize_t, each(i)?.into_ptr());
            }
            Ok(tuple.unbind())
        }
    }
    fn record(
        py: Python<'_>,
        ty: &Ty,
        mut each: impl FnMut(usize) -> Result<Py<PyAny>>,
    ) -> Result<Py<PyAny>> {
        let class = classes::of(py, ty).map_err(failure)?;
        // `__init__` of a dataclass only assigns its arguments, which is done here without a Python frame
        // SAFETY: `class` is a heap type made by `loop_kit._types`, whose slots start out empty.
        unsafe {
            let made = ffi::PyType_GenericAlloc(class.class.as_ptr().cast(), 0);
            let made = Bound::from_owned_ptr_or_err(py, made).map_err(failure)?;
            for (i, name) in class.names.iter().enumerate() {
                let value = each(i)?;
                if ffi::PyObject_SetAttr(made.as_ptr(), name.as_ptr(), value.as_ptr()) != 0 {
                    return Err(failure(PyErr::fetch(py)));
                }
            }
            Ok(made.unbind())
        }
    }
    fn case(
        py: Python<'_>,
        ty: &Ty,
        index: usize,
        payload: impl FnOnce() -> Result<Option<Py<PyAny>>>,
    ) -> Result<Py<PyAny>> {
        let payload = payload()?;
        match &ty.kind {
            Kind::Option { .. } => match payload {
                None => Ok(py.None()),
                Some(v) if nested(ty) => classes::of(py, ty)
                    .and_then(|c| c.class.call1(py, (v,)))
                    .map_err(failure),
                Some(v) => Ok(v),
            },
            Kind::Result { .. } => {
                let value = payload.unwrap_or_else(|| py.None());
                if index == 0 {
                    return object(py, OkValue { value });
                }
                classes::of(py, ty)
                    .and_then(|c| c.class.call1(py, (value,)))
                    .map_err(failure)
            }
            Kind::Enum { .. } => Ok(classes::of(py, ty).map_err(failure)?.cases[index].clone_ref(py)),
            _ => {
                let class = &classes::of(py, ty).map_err(failure)?.cases[index];
                match payload {
                    Some(v) => class.call1(py, (v,)),
                    None => class.call0(py),
                }
                .map_err(failure)
            }
        }
    }
    fn flags(py: Python<'_>, ty: &Ty, bits: u32) -> Result<Py<PyAny>> {
        classes::of(py, ty)
            .and_then(|c| c.class.call1(py, (bits,)))
            .map_err(failure)
    }
    fn handle(py: Python<'_>, ty: &Arc<Resource>, _own: bool, handle: Crossing) -> Result<Py<PyAny>> {
        match handle {
            Crossing::Host(object) => match object.downcast_ref::<PyObjectHandle>() {
                Some(o) => Ok(o.0.clone_ref(py)),
                None => wrapped(
                    py,
                    ty,
                    crate::domain::object(py, NativeHandle::new(ty.name.clone(), object))?,
                ),
            },
            Crossing::Guest(guest) => wrapped(py, ty, object(py, Handle { guest })?),
        }
    }
    fn stream(py: Python<'_>, payload: Option<&TyRef>, stream: StreamAny) -> Result<Py<PyAny>> {
        streams::stream(py, payload, stream)
    }
    fn future(py: Python<'_>, payload: Option<&TyRef>, future: FutureAny) -> Result<Py<PyAny>> {
        streams::future(py, payload, future)
    }
    fn fed(
        py: Python<'_>,
        payload: Option<&TyRef>,
        source: Box<dyn loop_engine::Source<Self>>,
    ) -> Result<Py<PyAny>> {
        streams::fed(py, payload, source)
    }
    fn settled(
        py: Python<'_>,
        payload: Option<&TyRef>,
        value: loop_engine::Settling<Self>,
    ) -> Result<Py<PyAny>> {
        streams::settled(py, payload, value)
    }
    fn error_context(py: Python<'_>, context: Val) -> Result<Py<PyAny>> {
        object(py, ErrorContext(context))
    }

    fn to_bool(v: &Bound<'_, PyAny>) -> Result<bool> {
        match v.cast::<PyBool>() {
            Ok(b) => Ok(b.is_true()),
            Err(_) => mismatch(v),
        }
    }
    fn to_num(v: &Bound<'_, PyAny>, kind: Num) -> Result<u64> {
        macro_rules! int {
            ($t:ty) => {
                extracted(v, v.extract::<$t>()).map(|x| x as i64 as u64)
            };
        }
        match kind {
            Num::U8 => int!(u8),
            Num::S8 => int!(i8),
            Num::U16 => int!(u16),
            Num::S16 => int!(i16),
            Num::U32 => int!(u32),
            Num::S32 => int!(i32),
            Num::U64 => extracted(v, v.extract::<u64>()),
            Num::S64 => int!(i64),
            Num::F32 => {
                let wide = extracted(v, v.extract::<f64>())?;
                let narrow = wide as f32;
                if narrow.is_infinite() && wide.is_finite() {
                    mismatch(v)
                } else {
                    Ok(u64::from(narrow.to_bits()))
                }
            }
            Num::F64 => extracted(v, v.extract::<f64>()).map(f64::to_bits),
        }
    }
    fn to_char(v: &Bound<'_, PyAny>) -> Result<char> {
        let Ok(s) = v.cast::<PyString>() else {
            return mismatch(v);
        };
        let Ok(s) = s.to_str() else {
            return Err(Mismatch::new("", "a str with a lone surrogate").into());
        };
        let mut chars = s.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => mismatch(v),
        }
    }
    fn with_str<R>(v: &Bound<'_, PyAny>, f: impl FnOnce(&str) -> Result<R>) -> Result<R> {
        let Ok(s) = v.cast::<PyString>() else {
            return mismatch(v);
        };
        match s.to_str() {
            Ok(s) => f(s),
            Err(_) => Err(Mismatch::new("", "a str with a lone surrogate").into()),
        }
    }
    fn with_nums<R>(v: &Bound<'_, PyAny>, kind: Num, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        if kind == Num::U8
            && let Ok(b) = v.cast::<PyBytes>()
        {
            return f(b.as_bytes());
        }
        match kind {
            Num::U8 => block::<u8, R>(v, kind, f),
            Num::S8 => block::<i8, R>(v, kind, f),
            Num::U16 => block::<u16, R>(v, kind, f),
            Num::S16 => block::<i16, R>(v, kind, f),
            Num::U32 => block::<u32, R>(v, kind, f),
            Num::S32 => block::<i32, R>(v, kind, f),
            Num::U64 => block::<u64, R>(v, kind, f),
            Num::S64 => block::<i64, R>(v, kind, f),
            Num::F32 => block::<f32, R>(v, kind, f),
            Num::F64 => block::<f64, R>(v, kind, f),
        }
    }
    fn open<'c, 'v>(v: &Bound<'c, PyAny>, _: &Ty) -> Result<(usize, Bound<'c, PyAny>)>
    where
        'c: 'c,
        'v: 'v,
    {
        if let Ok(l) = v.cast::<PyList>() {
            return Ok((l.len(), v.clone()));
        }
        if let Ok(t) = v.cast::<PyTuple>() {
            return Ok((t.len(), v.clone()));
        }
        let items: Vec<Bound<'_, PyAny>> = iterate(v)?.collect::<PyResult<_>>().map_err(failure)?;
        Ok((
            items.len(),
            PyList::new(v.py(), items).map_err(failure)?.into_any(),
        ))
    }
    fn at<'c, 'v>(v: &Bound<'c, PyAny>, index: usize) -> Result<Bound<'c, PyAny>>
    where
        'c: 'c,
        'v: 'v,
    {
        // a list may shrink while a `__getattr__` of one of its items runs: checked access
        let item = match v.cast::<PyList>() {
            Ok(l) => l.get_item(index),
            Err(_) => v.get_item(index),
        };
        item.map_err(failure)
    }
    fn field<'c, 'v>(v: &Bound<'c, PyAny>, ty: &Ty, index: usize) -> Result<Bound<'c, PyAny>>
    where
        'c: 'c,
        'v: 'v,
    {
        let py = v.py();
        let name = &classes::of(py, ty).map_err(failure)?.names[index];
        if let Ok(d) = v.cast::<PyDict>() {
            if let Some(found) = d.get_item(name).map_err(failure)? {
                return Ok(found);
            }
            let Kind::Record(fields) = &ty.kind else {
                return mismatch(v);
            };
            return match d.get_item(&*fields[index].name).map_err(failure)? {
                Some(found) => Ok(found),
                None => Err(Mismatch::new(fields[index].ty.wit(), "no such key").into()),
            };
        }
        match v.getattr(name) {
            Ok(found) => Ok(found),
            Err(e) if e.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) => {
                let Kind::Record(fields) = &ty.kind else {
                    return mismatch(v);
                };
                Err(Mismatch::new(fields[index].ty.wit(), format!("{} without it", got(v))).into())
            }
            Err(e) => Err(failure(e)),
        }
    }
    fn to_case<'c, 'v>(v: &Bound<'c, PyAny>, ty: &Ty) -> Result<(usize, Option<Bound<'c, PyAny>>)>
    where
        'c: 'c,
        'v: 'v,
    {
        let py = v.py();
        match &ty.kind {
            Kind::Option { .. } if v.is_none() => Ok((0, None)),
            Kind::Option { .. } if nested(ty) => {
                let class = classes::of(py, ty).map_err(failure)?;
                if v.is_instance(class.class.bind(py)).map_err(failure)? {
                    return Ok((1, Some(v.getattr(intern!(py, "value")).map_err(failure)?)));
                }
                mismatch(v)
            }
            Kind::Option { .. } => Ok((1, Some(v.clone()))),
            Kind::Result { .. } => {
                if let Ok(ok) = v.cast::<OkValue>() {
                    return Ok((0, Some(ok.get().value.bind(py).clone())));
                }
                let class = classes::of(py, ty).map_err(failure)?;
                if v.is_instance(class.class.bind(py)).map_err(failure)? {
                    return Ok((1, Some(v.getattr(intern!(py, "value")).map_err(failure)?)));
                }
                mismatch(v)
            }
            Kind::Enum { .. } => enum_case(v, ty),
            _ => variant_case(v, ty),
        }
    }
    fn to_flags(v: &Bound<'_, PyAny>, _: &Ty) -> Result<u32> {
        let py = v.py();
        let bits = if v.is_instance_of::<PyInt>() {
            Ok(v.clone())
        } else {
            v.getattr(intern!(py, "value"))
        };
        match bits.and_then(|b| b.extract::<u32>()) {
            Ok(bits) => Ok(bits),
            Err(_) => mismatch(v),
        }
    }
    fn to_handle(v: &Bound<'_, PyAny>, ty: &Arc<Resource>, own: bool) -> Result<Crossing> {
        let py = v.py();
        let inner = unwrapped(v)?;
        if let Ok(native) = inner.cast::<NativeHandle>() {
            return match native.get().object(own) {
                Some(object) => Ok(Crossing::Host(object)),
                None => Err(Mismatch::new("", "a resource that was given away or dropped").into()),
            };
        }
        match inner.cast::<Handle>() {
            Ok(h) if ty.host.is_none() => return Ok(Crossing::Guest(h.get().guest.clone())),
            Ok(h) => return Ok(Crossing::Host(h.get().guest.clone())),
            Err(_) if ty.host.is_none() => return mismatch(v),
            Err(_) => {}
        }
        match class_of(py, ty) {
            Some(class)
                if is_checked(class.bind(py)) && !v.is_instance(class.bind(py)).map_err(failure)? =>
            {
                mismatch(v)
            }
            _ => Ok(Crossing::Host(Arc::new(PyObjectHandle(v.clone().unbind())))),
        }
    }
    fn one_shot(v: &Bound<'_, PyAny>) -> bool {
        let sequence =
            v.is_instance_of::<PyList>() || v.is_instance_of::<PyTuple>() || v.is_instance_of::<PyBytes>();
        !sequence
            && v.getattr_opt(intern!(v.py(), "__next__"))
                .is_ok_and(|next| next.is_some())
    }
    fn check_end(v: &Bound<'_, PyAny>) -> Result<()> {
        feed::check(v)
    }
    fn to_stream(v: &Bound<'_, PyAny>, payload: Option<&TyRef>) -> Result<Feed<Self>> {
        feed::feed(v, payload)
    }
    fn to_future(v: &Bound<'_, PyAny>, _: Option<&TyRef>) -> Result<Settle<Self>> {
        feed::settle(v)
    }
    fn to_error_context(v: &Bound<'_, PyAny>) -> Result<Val> {
        match v.cast::<ErrorContext>() {
            Ok(c) => Ok(c.get().0.clone()),
            Err(_) => mismatch(v),
        }
    }

    fn dropped(object: HostObject) -> Result<()> {
        let Some(PyObjectHandle(o)) = object.downcast_ref::<PyObjectHandle>() else {
            return Ok(());
        };
        Python::attach(|py| {
            let exit = o.bind(py).getattr_opt(intern!(py, "__exit__"))?;
            exit.map_or(Ok(()), |exit| {
                exit.call1((py.None(), py.None(), py.None())).map(|_| ())
            })
        })
        .map_err(failure)
    }
}
