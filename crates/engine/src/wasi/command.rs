//! Running `wasi:cli` commands.

use std::sync::Arc;

use wasmtime::error::Context as _;
use wasmtime::{Error, Result, Store, Trap, bail};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::{p2::bindings as p2, p3::bindings as p3};

use crate::instance::{Live, State};
use crate::program::{Program, StoreKind};
use crate::scope::Scoped;
use crate::timed::Timed;

/// What a shell reports of a process that aborted, as wasmtime's command line does of a trap.
const ABORTED: i32 = 134;

/// The exit code of a command that ended with an error: as wasmtime's command line exits.
pub fn exit_code(e: &Error) -> i32 {
    match (e.downcast_ref::<I32Exit>(), e.is::<Trap>()) {
        (Some(exit), _) => exit.0,
        (None, true) => ABORTED,
        (None, false) => 1,
    }
}

impl Program {
    /// Runs a `wasi:cli/run` of 0.2 or 0.3 in a new instance, to its exit code: its own, or 0 and 1 for what `run`
    /// returned.
    ///
    /// Errors when the component is no command, traps, or comes to a limit; [`exit_code`] says how to exit then.
    pub async fn run_command(self: &Arc<Self>) -> Result<i32> {
        let _running = self.enter()?;
        let (store, home) = Live::store(self)?;
        let run = Scoped::new(home.shared.clone(), self.run(store));
        match Timed::new(self.limits.deadline, run).await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(e) => match e.downcast_ref::<I32Exit>() {
                Some(exit) => Ok(exit.0),
                None => Err(e),
            },
        }
    }

    async fn run(&self, mut store: Store<State>) -> Result<Result<(), ()>> {
        if self.kind == StoreKind::Sync {
            bail!("a command needs an asynchronous program")
        }
        self.arm(&mut store, None)?;
        // a component that exports both means the newer; its 0.2 is often what a toolchain added to an empty `main`
        let ran = if let Ok(indices) = p3::CommandIndices::new(&self.pre) {
            let instance = self.pre.instantiate_async(&mut store).await?;
            let command = indices.load(&mut store, &instance)?;
            store
                .run_concurrent(async move |store| command.wasi_cli_run().call_run(store).await)
                .await?
        } else {
            let indices = p2::CommandIndices::new(&self.pre)
                .context("the component exports no wasi:cli/run of WASI 0.2 or 0.3")?;
            let instance = self.pre.instantiate_async(&mut store).await?;
            let command = indices.load(&mut store, &instance)?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        ran.map_err(|e| store.data().meter.explain(e))
    }
}
