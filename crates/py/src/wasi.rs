//! WASI: grants, commands, and serving `wasi:http`.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Input, Net, OnError, Output, Preopen, Rule, ServeOptions, WasiConfig};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use wasmtime::WasmBacktrace;

use crate::errors;
use crate::program::Program;

/// The grant that `loop_kit.Wasi.core` describes.
///
/// Raises ValueError for a network rule that cannot be read.
pub fn config(grant: &Bound<'_, PyDict>) -> PyResult<WasiConfig> {
    let get = |key: &str| -> PyResult<Bound<'_, PyAny>> {
        grant
            .get_item(key)?
            .ok_or_else(|| PyValueError::new_err(format!("no {key} in the grant")))
    };
    let net = |key: &str| -> PyResult<Net> {
        let rules: Vec<String> = get(key)?.extract()?;
        let parsed = rules.iter().map(|r| {
            r.parse::<Rule>()
                .map_err(|e| PyValueError::new_err(format!("{r}: {e}")))
        });
        Ok(Net::new(parsed.collect::<PyResult<_>>()?))
    };
    let dirs: Vec<(PathBuf, String, bool)> = get("dirs")?.extract()?;
    Ok(WasiConfig {
        args: get("args")?.extract()?,
        env: get("env")?.extract()?,
        dirs: dirs
            .into_iter()
            .map(|(host, guest, writable)| Preopen {
                host,
                guest,
                writable,
            })
            .collect(),
        net: net("net")?,
        http: net("http")?,
        stdin: input(&get("stdin")?)?,
        stdout: output(&get("stdout")?)?,
        stderr: output(&get("stderr")?)?,
    })
}

fn input(v: &Bound<'_, PyAny>) -> PyResult<Input> {
    if v.is_none() {
        return Ok(Input::Null);
    }
    if v.is_instance_of::<PyString>() {
        return Ok(Input::Inherit);
    }
    Ok(Input::Bytes(v.extract::<Vec<u8>>()?.into()))
}

fn output(v: &Bound<'_, PyAny>) -> PyResult<Output> {
    if v.is_none() {
        return Ok(Output::Null);
    }
    if v.is_instance_of::<PyString>() {
        return Ok(Output::Inherit);
    }
    let sink = v.clone().unbind();
    Ok(Output::Capture(Arc::new(move |bytes: &[u8]| {
        Python::attach(|py| {
            if let Err(e) = sink.call1(py, (PyBytes::new(py, bytes),)) {
                e.write_unraisable(py, None);
            }
        });
    })))
}

#[pymethods]
impl Program {
    /// Runs the component as a `wasi:cli` command; blocks until it ends, and returns its exit code.
    ///
    /// Raises what calls raise when it traps or comes to a limit; the exit code a shell should see is then that of
    /// `exit_code` of the error.
    fn run(&self, py: Python<'_>) -> PyResult<i32> {
        self.check_open(py)?;
        let program = self.shell.inner.clone();
        let done = py.detach(|| {
            let runtime = program.runtime()?;
            runtime.block_on(program.run_command())
        });
        done.map_err(|e| {
            let code = loop_engine::exit_code(&e);
            let raised = errors::of_call(py, "wasi:cli/run", &e);
            let _ = raised.value(py).setattr(intern!(py, "exit_code"), code);
            raised
        })
    }

    /// Serves the component's `wasi:http` handler at `address`; `on_error(request, text)` hears of requests that
    /// failed in the component. `body`: bytes of a request's body at most; `workers` None: a thread for each core.
    ///
    /// Raises OSError when the address cannot be used, LoadError when the component serves no HTTP.
    #[pyo3(signature = (address, on_error = None, workers = None, connections = 10_000, body = 64 << 20))]
    fn serve(
        &self,
        py: Python<'_>,
        address: &str,
        on_error: Option<Py<PyAny>>,
        workers: Option<usize>,
        connections: usize,
        body: u64,
    ) -> PyResult<Server> {
        self.check_open(py)?;
        let bad = |e: std::io::Error| PyOSError::new_err(format!("{address}: {e}"));
        let Some(address) = address.to_socket_addrs().map_err(bad)?.next() else {
            return Err(PyOSError::new_err(format!("{address}: names no address")));
        };
        let on_error = on_error.map(|f| -> OnError {
            Arc::new(move |request: &str, e: &wasmtime::Error| {
                let frames = e
                    .downcast_ref::<WasmBacktrace>()
                    .map_or_else(String::new, |b| format!("\n{b}"));
                let text = format!("{}{frames}", e.root_cause());
                Python::attach(|py| {
                    if let Err(e) = f.call1(py, (request, text)) {
                        e.write_unraisable(py, None);
                    }
                });
            })
        });
        let options = ServeOptions {
            address,
            workers,
            connections,
            body,
            on_error,
            ..ServeOptions::default()
        };
        let program = self.shell.inner.clone();
        let runtime = program.runtime().map_err(|e| errors::of_load(py, &e))?;
        let made = py.detach(|| {
            let _runtime = runtime.enter();
            loop_engine::serve(program, options)
        });
        match made {
            Ok(inner) => Ok(Server { inner, runtime }),
            Err(e) => match e.downcast_ref::<std::io::Error>() {
                Some(io) => Err(PyOSError::new_err(format!("{address}: {io}"))),
                None => Err(errors::of_load(py, &e)),
            },
        }
    }
}

/// A component that serves HTTP.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Server {
    inner: loop_engine::Server,
    runtime: tokio::runtime::Handle,
}

#[pymethods]
impl Server {
    /// Where it listens: `127.0.0.1:8080`.
    #[getter]
    fn address(&self) -> String {
        self.inner.local_addr().to_string()
    }

    /// Has `program` serve the requests to come; those that have begun end where they are.
    ///
    /// Raises LoadError when it serves no HTTP.
    fn exchange(&self, py: Python<'_>, program: &Program) -> PyResult<()> {
        program.check_open(py)?;
        let program = program.shell.inner.clone();
        let done = self.inner.exchange(program);
        done.map_err(|e| errors::of_load(py, &e))
    }

    /// Has the requests to come wait, or go on.
    fn hold(&self, on: bool) {
        self.inner.hold(on);
    }

    /// Stops accepting, lets requests in flight end for `grace` seconds, then drops them. Blocks until all is done.
    fn shutdown(&self, py: Python<'_>, grace: f64) {
        let done = self.inner.shutdown(Duration::from_secs_f64(grace.max(0.0)));
        py.detach(|| self.runtime.block_on(done));
    }

    /// Waits for the server to end, `seconds` at most; whether it has.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let done = self.inner.wait();
        py.detach(|| {
            self.runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs_f64(seconds), done)
                    .await
                    .is_ok()
            })
        })
    }
}
