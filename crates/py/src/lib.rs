//! The bridge: every PyO3 class, and the [`domain::Python_`] representation of values.
//!
//! Files pair with `python/loop_kit`: what is decided in Python (providers found, names resolved, errors raised) is
//! decided there, and this crate only carries it out.

use pyo3::prelude::*;

mod audit;
mod call;
mod child;
mod classes;
mod domain;
mod engine;
mod errors;
mod feed;
mod hub;
mod inspect;
mod invoked;
mod kept;
mod link;
mod native;
mod offer;
mod program;
mod pulled;
mod read;
mod request;
mod session;
mod slot;
mod streams;
mod sweep;
mod telling;
mod values;
mod wake;
mod wasi;
mod wave;
mod wire;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    #[cfg(unix)]
    m.add("WATCHDOG", loop_native::launch::WATCHDOG)?;
    #[cfg(not(unix))]
    m.add("WATCHDOG", "")?;
    m.add_class::<engine::Engine>()?;
    m.add_class::<hub::Hub>()?;
    m.add_class::<child::Child>()?;
    m.add_class::<link::Link>()?;
    m.add_class::<link::Interface>()?;
    m.add_class::<link::Function>()?;
    m.add_class::<slot::Generation>()?;
    m.add_class::<slot::Slot>()?;
    m.add_class::<slot::Exchange>()?;
    m.add_class::<native::Native>()?;
    m.add_class::<native::NativeFunction>()?;
    m.add_class::<program::Program>()?;
    m.add_class::<wasi::Server>()?;
    m.add_class::<call::Call>()?;
    m.add_class::<streams::Stream>()?;
    m.add_class::<streams::Future>()?;
    m.add_class::<wire::WireType>()?;
    m.add_class::<session::Contract>()?;
    m.add_class::<session::Wire>()?;
    m.add_class::<session::Listener>()?;
    m.add_class::<session::Socket>()?;
    m.add_class::<session::WireCall>()?;
    m.add_class::<session::Job>()?;
    m.add_class::<session::RemoteHandle>()?;
    m.add_class::<session::Remote>()?;
    m.add_class::<session::Route>()?;
    m.add_class::<values::Ok>()?;
    m.add_class::<values::Handle>()?;
    m.add_class::<values::NativeHandle>()?;
    m.add_class::<values::ErrorContext>()?;
    m.add_function(wrap_pyfunction!(native::capabilities, m)?)?;
    m.add_function(wrap_pyfunction!(native::confinement, m)?)?;
    m.add_function(wrap_pyfunction!(inspect::inspect, m)?)?;
    m.add_function(wrap_pyfunction!(inspect::wit_changes, m)?)?;
    m.add_function(wrap_pyfunction!(invoked::invoked, m)?)?;
    m.add_function(wrap_pyfunction!(invoked::trace_by, m)?)?;
    m.add_function(wrap_pyfunction!(invoked::enter_span, m)?)?;
    m.add_function(wrap_pyfunction!(invoked::tracing, m)?)?;
    m.add_class::<invoked::Entered>()?;
    m.add_function(wrap_pyfunction!(telling::listen, m)?)?;
    Ok(())
}
