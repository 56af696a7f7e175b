//! Engine errors as `loop_kit.errors`.

use loop_engine::{Ended, Fault, Mismatch, Within};
use loop_remote::Failed;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use wasmtime::{Error, Trap, WasmBacktrace};

use crate::domain::PyFailure;
use crate::session::failures;

/// An error class of `loop_kit.errors`, called with `args`.
pub fn raise<'py>(py: Python<'py>, name: &str, args: impl PyCallArgs<'py>) -> PyErr {
    let made = py
        .import(intern!(py, "loop_kit.errors"))
        .and_then(|m| m.getattr(name))
        .and_then(|class| class.call1(args));
    match made {
        Ok(e) => PyErr::from_value(e),
        Err(e) => e,
    }
}

/// For what waits for a host that closes meanwhile.
pub fn host_closed(py: Python<'_>) -> PyErr {
    raise(py, "HostClosed", ("this host was closed",))
}

/// For what is asked of a component whose host has closed.
pub fn component_closed(py: Python<'_>) -> PyErr {
    raise(py, "HostClosed", ("the host of this component is closed",))
}

/// What the failure of a call is in Python. `path` names the export.
pub fn of_call(py: Python<'_>, path: &str, e: &Error) -> PyErr {
    if let Some(Within { path, error }) = e.downcast_ref() {
        return of_call(py, path, error);
    }
    // an instance that ended tells all who used it, and those that used them
    if let Some(Ended(inner)) = e.downcast_ref::<Ended>() {
        return again(py, of_call(py, path, inner));
    }
    if let Some(PyFailure(cause)) = e
        .chain()
        .find_map(|c| c.downcast_ref::<PyFailure>())
        .or_else(|| e.downcast_ref())
    {
        return of_provider(py, cause);
    }
    if let Some(Failed(failure)) = e
        .chain()
        .find_map(|c| c.downcast_ref())
        .or_else(|| e.downcast_ref())
    {
        return failures::raised(py, failure);
    }
    if let Some(fault) = e.downcast_ref::<Fault>() {
        return of_fault(py, fault);
    }
    if let Some(m) = e.downcast_ref::<Mismatch>() {
        // an element of a stream, or a future's value, which are read long after the call that passed them
        let text = format!("{path}: what feeds a stream or future gave a wrong value: {m}");
        return raise(
            py,
            "ProviderTypeError",
            (text, "", path, &m.path, &m.expected, &m.got),
        );
    }
    let frames = e.downcast_ref::<WasmBacktrace>().map(|b| b.to_string());
    let code = e.downcast_ref::<Trap>();
    let why = code.map_or_else(|| format!("{}", e.root_cause()), |t| format!("{t}"));
    let code = code.map(|t| format!("{t:?}"));
    raise(py, "GuestTrap", (path, why, code, frames))
}

/// A provider's exception: as it is, if it is already ours or not an `Exception` (KeyboardInterrupt, SystemExit).
fn of_provider(py: Python<'_>, cause: &PyErr) -> PyErr {
    cause.clone_ref(py)
}

/// Why an instance ended, for one of those who read its streams.
pub fn of_ended(py: Python<'_>, path: &str, e: &Error) -> PyErr {
    again(py, of_call(py, path, e))
}

/// An exception of its own for each who learns of one error: raising adds to its traceback, and the instance that
/// keeps the error must not keep the frames of all who heard of it.
fn again(py: Python<'_>, error: PyErr) -> PyErr {
    let copied = py
        .import(intern!(py, "loop_kit.errors"))
        .and_then(|m| m.getattr(intern!(py, "again")))
        .and_then(|again| again.call1((error.value(py),)));
    copied.map_or_else(|e| e, PyErr::from_value)
}

fn of_fault(py: Python<'_>, fault: &Fault) -> PyErr {
    let text = fault.to_string();
    match fault {
        Fault::Deadline { seconds } => raise(py, "DeadlineExceeded", (text, *seconds)),
        Fault::Cpu { seconds } => raise(py, "LimitExceeded", (text, "cpu", *seconds)),
        Fault::Memory { limit } => raise(py, "LimitExceeded", (text, "memory", *limit)),
        Fault::Overloaded { limit } => raise(py, "Overloaded", (text, *limit)),
        Fault::Gone(_) | Fault::Exchanged => raise(py, "ProviderGone", (text,)),
        Fault::Reentered => raise(py, "Reentered", (text,)),
        Fault::Stack => raise(py, "LimitExceeded", (text, "stack", py.None())),
        Fault::BadArgument {
            interface,
            function,
            parameter,
            mismatch,
        } => raise(
            py,
            "ArgumentError",
            (
                text,
                interface,
                function,
                parameter,
                &mismatch.path,
                &mismatch.expected,
                &mismatch.got,
            ),
        ),
        Fault::Arity {
            interface,
            function,
            expected,
            got,
        } => raise(
            py,
            "ArgumentError",
            (
                text,
                interface,
                function,
                "",
                "",
                format!("{expected} arguments"),
                format!("{got}"),
            ),
        ),
        Fault::BadResult {
            interface,
            function,
            mismatch,
        } => raise(
            py,
            "ProviderTypeError",
            (
                text,
                interface,
                function,
                &mismatch.path,
                &mismatch.expected,
                &mismatch.got,
            ),
        ),
    }
}

/// What the failure of loading is.
pub fn of_load(py: Python<'_>, e: &Error) -> PyErr {
    raise(py, "LoadError", (format!("{e:#}"),))
}

/// Wraps what a provider raised, unless it is one of ours or not an `Exception`.
pub fn provider(py: Python<'_>, interface: &str, function: &str, cause: PyErr) -> PyErr {
    if !cause.is_instance_of::<PyException>(py) {
        return cause;
    }
    let ours = py
        .import(intern!(py, "loop_kit.errors"))
        .and_then(|m| m.getattr(intern!(py, "LoopError")))
        .is_ok_and(|class| cause.value(py).is_instance(&class).unwrap_or(false));
    if ours {
        return cause;
    }
    let what = cause
        .value(py)
        .repr()
        .map_or_else(|_| "an exception".into(), |r| r.to_string_lossy().into_owned());
    let path = if interface.is_empty() {
        function.to_string()
    } else {
        format!("{interface}#{function}")
    };
    let wrapped = raise(
        py,
        "ProviderError",
        (
            format!("the provider of {path} raised {what}"),
            interface,
            function,
        ),
    );
    wrapped.set_cause(py, Some(cause));
    wrapped
}

/// Runs Python code where an exception may be on its way: what it leaves behind is dropped then, and no code may run
/// while one is set.
pub fn aside<T>(py: Python<'_>, f: impl FnOnce() -> T) -> T {
    let raised = PyErr::take(py);
    let out = f();
    if let Some(raised) = raised {
        raised.restore(py);
    }
    out
}
