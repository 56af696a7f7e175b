//! What Python objects may stand for WIT values, and how they are taken apart.

use loop_engine::{Mismatch, Num, Ty};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::*;
use pyo3::{ffi, intern};
use wasmtime::Result;

use crate::classes;
use crate::domain::{failure, got, mismatch};

/// The `array` and `struct` code of a number type.
pub fn code(kind: Num) -> char {
    match kind {
        Num::U8 => 'B',
        Num::S8 => 'b',
        Num::U16 => 'H',
        Num::S16 => 'h',
        Num::U32 => 'I',
        Num::S32 => 'i',
        Num::U64 => 'Q',
        Num::S64 => 'q',
        Num::F32 => 'f',
        Num::F64 => 'd',
    }
}

/// `Numbers` over a copy of `raw`: one copy, from the guest's memory into the array.
pub fn numbers(py: Python<'_>, kind: Num, raw: &[u8]) -> PyResult<Py<PyAny>> {
    static CLASS: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        py.import(intern!(py, "loop_kit._types"))?
            .getattr(intern!(py, "Numbers"))
            .map(Bound::unbind)
    })?;
    let array = class.bind(py).call1((code(kind),))?;
    if raw.is_empty() {
        return Ok(array.unbind());
    }
    // SAFETY: the view lives only within this function, and is released before the memory can change.
    let view = unsafe {
        let p = raw.as_ptr().cast::<std::ffi::c_char>().cast_mut();
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyMemoryView_FromMemory(p, raw.len() as ffi::Py_ssize_t, ffi::PyBUF_READ),
        )?
    };
    let filled = array.call_method1(intern!(py, "frombytes"), (&view,));
    view.call_method0(intern!(py, "release"))?;
    filled?;
    Ok(array.unbind())
}

/// The bytes of a list of numbers: of a buffer of them, or made from any other iterable of numbers.
pub fn block<'py, T, R>(v: &Bound<'py, PyAny>, kind: Num, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R>
where
    T: pyo3::buffer::Element + Copy + for<'a> FromPyObject<'a, 'py>,
{
    let plain = v.is_instance_of::<PyList>() || v.is_instance_of::<PyTuple>();
    if !plain && let Ok(buffer) = PyBuffer::<T>::get(v) {
        let len = buffer.item_count() * size_of::<T>();
        let native = native_order(&buffer);
        if native && buffer.is_c_contiguous() && len > 0 {
            // SAFETY: the buffer is pinned by the view for the whole call. Another thread that writes to it meanwhile
            // can only make the copied numbers odd, as with any `bytes(buffer)`.
            return f(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), len) });
        }
        let mut bytes = raw(&buffer.to_vec(v.py()).map_err(failure)?).to_vec();
        if !native {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        return f(&bytes);
    }
    let mut items: Vec<T> = Vec::with_capacity(v.len().unwrap_or(0));
    for (i, x) in iterate(v)?.enumerate() {
        let x = x.map_err(failure)?;
        let n = x.extract::<T>().map_err(|_| Mismatch {
            path: format!("[{i}]"),
            ..Mismatch::new(kind.wit(), got(&x))
        })?;
        items.push(n);
    }
    f(raw(&items))
}

/// Whether a buffer's numbers are in this machine's byte order, which PyO3 does not ask.
fn native_order<T: pyo3::buffer::Element>(buffer: &PyBuffer<T>) -> bool {
    size_of::<T>() == 1 || !matches!(buffer.format().to_bytes().first(), Some(b'>' | b'!'))
}

/// Numbers as they lie in memory, which is little-endian on every platform that the engine builds for.
fn raw<T: pyo3::buffer::Element>(items: &[T]) -> &[u8] {
    // SAFETY: numbers have no padding.
    unsafe { std::slice::from_raw_parts(items.as_ptr().cast(), size_of_val(items)) }
}

/// Iterates over what may stand for a list: anything iterable but text, bytes and mappings, which are slips.
pub fn iterate<'py>(v: &Bound<'py, PyAny>) -> Result<Bound<'py, PyIterator>> {
    if v.is_instance_of::<PyString>() || v.is_instance_of::<PyBytes>() || v.is_instance_of::<PyDict>() {
        return mismatch(v);
    }
    v.try_iter().or_else(|_| mismatch(v))
}

pub fn enum_case<'c>(v: &Bound<'c, PyAny>, ty: &Ty) -> Result<(usize, Option<Bound<'c, PyAny>>)> {
    let py = v.py();
    let class = classes::of(py, ty).map_err(failure)?;
    let found = if v.is_instance_of::<PyString>() {
        class.names.iter().position(|n| v.eq(n).unwrap_or(false))
    } else {
        // members are singletons, so identity finds them; a look-alike from another class counts by its name
        class.cases.iter().position(|c| c.is(v)).or_else(|| {
            let name = v.getattr_opt(intern!(py, "name")).ok().flatten()?;
            class.cases.iter().position(|c| {
                c.bind(py)
                    .getattr(intern!(py, "name"))
                    .and_then(|n| n.eq(&name))
                    .unwrap_or(false)
            })
        })
    };
    match found {
        Some(i) => Ok((i, None)),
        None => mismatch(v),
    }
}

/// A variant's case: an object with `case` (and `value`), a `(case, value)` pair, or the bare name of a case without
/// payload.
pub fn variant_case<'c>(v: &Bound<'c, PyAny>, ty: &Ty) -> Result<(usize, Option<Bound<'c, PyAny>>)> {
    let py = v.py();
    let class = classes::of(py, ty).map_err(failure)?;
    if let Some(i) = class.cases.iter().position(|c| c.is(v.get_type())) {
        let payload = ty
            .case(i)
            .flatten()
            .map(|_| v.getattr(intern!(py, "value")))
            .transpose()
            .map_err(failure)?;
        return Ok((i, payload));
    }
    let (case, payload) = if v.is_instance_of::<PyString>() {
        (v.clone(), None)
    } else if let Ok(pair) = v.cast::<PyTuple>() {
        if pair.len() != 2 {
            return mismatch(v);
        }
        (
            pair.get_item(0).map_err(failure)?,
            Some(pair.get_item(1).map_err(failure)?),
        )
    } else {
        match v.getattr_opt(intern!(py, "case")).map_err(failure)? {
            Some(case) => (case, v.getattr_opt(intern!(py, "value")).map_err(failure)?),
            None => return mismatch(v),
        }
    };
    match class.names.iter().position(|n| case.eq(n).unwrap_or(false)) {
        Some(i) => Ok((i, payload.filter(|_| ty.case(i).flatten().is_some()))),
        None => mismatch(v),
    }
}

/// The handle that `v` wraps, or itself.
pub fn unwrapped<'py>(v: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
    let inner = v.getattr_opt(intern!(v.py(), "_loop_handle")).map_err(failure)?;
    Ok(inner.unwrap_or_else(|| v.clone()))
}
