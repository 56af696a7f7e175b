//! wasmtime engines, the clock of their epochs, and compilation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, Result, WasmBacktraceDetails};

use crate::cache::Cache;
use crate::incremental::Functions;
use crate::preview1;
use crate::scope::lock;

/// How often the clock ticks: the resolution of deadlines, of CPU limits, and of yields.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Native stack that one entry into wasm may use. A nested component call takes it again from the same stack.
pub(crate) const WASM_STACK: usize = 512 << 10;

/// Stack of a fibre: host functions run on it, Python providers among them, so it is far larger than the guest's share.
pub(crate) const FIBRE_STACK: usize = 8 << 20;

/// Which wasmtime engine a component needs; code compiled for one does not run on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flavour {
    /// Component-model async. Off where it is not needed: a call is then twice as fast.
    pub concurrent: bool,
    pub fuel: bool,
}

/// The engines of one host. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    engines: Mutex<HashMap<Flavour, wasmtime::Engine>>,
    cache: Option<Cache>,
    functions: Option<Arc<Functions>>,
    ticks: Arc<AtomicU64>,
    runtime: OnceLock<Runtime>,
}

/// The tokio runtime, shut down without waiting: a provider that hangs must not keep the host from closing.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(r) = self.0.take() {
            r.shutdown_background();
        }
    }
}

impl Engine {
    /// Engines with compiled code cached in `cache` (created, owner-only), or not at all; `incremental` ones also keep
    /// in memory, up to 128 MiB, what they compiled functions to, and compile only those that differ.
    pub fn new(cache: Option<PathBuf>, incremental: bool) -> Self {
        Engine(Arc::new(Inner {
            engines: Mutex::default(),
            cache: cache.map(Cache::new),
            functions: incremental.then(Arc::default),
            ticks: Arc::default(),
            runtime: OnceLock::new(),
        }))
    }

    /// Ticks since the engine was made.
    pub(crate) fn ticks(&self) -> u64 {
        self.0.ticks.load(Relaxed)
    }

    pub(crate) fn wasmtime(&self, flavour: Flavour) -> Result<wasmtime::Engine> {
        let mut engines = lock(&self.0.engines);
        if let Some(e) = engines.get(&flavour) {
            return Ok(e.clone());
        }
        let engine = make(flavour, self.0.functions.as_ref())?;
        if engines.is_empty() {
            // only now: whoever runs no component needs no clock, which would keep a processor from its rest
            let weak = Arc::downgrade(&self.0);
            std::thread::Builder::new()
                .name("loop-epochs".into())
                .spawn(move || tick(&weak))?;
        }
        engines.insert(flavour, engine.clone());
        Ok(engine)
    }

    /// The runtime that drives sockets, files and timers of WASI; made at first use.
    ///
    /// Errors when its threads cannot be started.
    pub fn runtime(&self) -> Result<tokio::runtime::Handle> {
        if let Some(Runtime(Some(r))) = self.0.runtime.get() {
            return Ok(r.handle().clone());
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("loop-io")
            .enable_all()
            .build()?;
        let _ = self.0.runtime.set(Runtime(Some(made)));
        match self.0.runtime.get() {
            Some(Runtime(Some(r))) => Ok(r.handle().clone()),
            _ => wasmtime::bail!("the runtime was shut down"),
        }
    }

    /// Compiles a component, or takes it from the cache. A core module for WASI preview 1 is made a component first.
    ///
    /// Errors with wasmtime's reason when the bytes are not a component that this engine can run.
    pub(crate) fn compile(&self, wasm: &[u8], fuel: bool) -> Result<(Component, Flavour)> {
        let wasm = preview1::componentize(wasm)?;
        let plain = Flavour {
            concurrent: false,
            fuel,
        };
        let concurrent = Flavour {
            concurrent: true,
            fuel,
        };
        // Validation rejects an async component on the plain engine before anything is compiled.
        match self.compile_as(&wasm, plain) {
            Ok(c) => Ok((c, plain)),
            Err(_) => self.compile_as(&wasm, concurrent).map(|c| (c, concurrent)),
        }
    }

    fn compile_as(&self, wasm: &[u8], flavour: Flavour) -> Result<Component> {
        let engine = self.wasmtime(flavour)?;
        match &self.0.cache {
            Some(cache) => cache.component(&engine, wasm),
            None => Component::from_binary(&engine, wasm),
        }
    }
}

fn tick(inner: &Weak<Inner>) {
    loop {
        std::thread::sleep(TICK);
        let Some(inner) = inner.upgrade() else { return };
        inner.ticks.fetch_add(1, Relaxed);
        for engine in lock(&inner.engines).values() {
            engine.increment_epoch();
        }
    }
}

fn make(flavour: Flavour, functions: Option<&Arc<Functions>>) -> Result<wasmtime::Engine> {
    let made = |pooling| {
        let mut config = config(flavour, pooling);
        if let Some(functions) = functions {
            config.enable_incremental_compilation(functions.clone())?;
        }
        wasmtime::Engine::new(&config)
    };
    // Pools reserve address space; where that is rationed (`ulimit -v`), instances are allocated one by one.
    made(true).or_else(|_| made(false))
}

fn config(flavour: Flavour, pooling: bool) -> Box<Config> {
    let mut c = Box::new(Config::new());
    c.concurrency_support(flavour.concurrent);
    c.wasm_component_model_async(flavour.concurrent);
    if flavour.concurrent {
        c.wasm_component_model_async_stackful(true);
        c.wasm_component_model_more_async_builtins(true);
        c.wasm_component_model_error_context(true);
        c.wasm_component_model_threading(true);
    }
    c.wasm_component_model_fixed_length_lists(true);
    c.consume_fuel(flavour.fuel);
    c.epoch_interruption(true);
    c.max_wasm_stack(WASM_STACK);
    c.async_stack_size(FIBRE_STACK);
    c.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    if pooling {
        let mut p = PoolingAllocationConfig::new();
        p.total_component_instances(1_000)
            .total_core_instances(4_000)
            .total_memories(1_000)
            .total_tables(4_000)
            .total_stacks(1_000)
            .table_elements(1 << 20)
            .max_memories_per_module(16)
            .max_tables_per_module(64)
            .max_component_instance_size(4 << 20)
            .max_core_instance_size(4 << 20)
            .max_unused_warm_slots(64)
            // where the kernel tells which pages a guest has touched, no others are cleared
            .pagemap_scan(wasmtime::Enabled::Auto)
            .linear_memory_keep_resident(128 << 10)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(16 << 10);
        c.allocation_strategy(InstanceAllocationStrategy::Pooling(p));
    }
    c
}
