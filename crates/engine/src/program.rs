//! A linked component: instances made and pooled, exports called.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{Result, Store, format_err};

use crate::domain::Domain;
use crate::engine::{Engine, TICK};
use crate::error::Fault;
use crate::instance::{Home, Live, State, arm, seconds, ticks};
use crate::limits::{Instances, Limits};
use crate::lower::{self, Check};
use crate::plans::Plans;
use crate::scope::{self, Deadline, Scoped, lock};
use crate::shim::{Dyn, Origin};
use crate::stack;
use crate::timed::Timed;
use crate::types::{FuncTy, Kind, NamedType, Resource, TyRef};
use crate::wasi::{Wasi, WasiConfig};

/// Fixed at link time: whether guests can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Plain calls on the caller's stack; epochs stop the guest at its limits and never yield.
    Sync,
    /// Calls on fibres, which yield at every epoch and wherever an import waits.
    Async,
}

/// An exported function.
pub struct Export {
    pub ty: Arc<FuncTy>,
    pub(crate) index: ComponentExportIndex,
}

/// A linked component.
pub struct Program {
    engine: Engine,
    wasmtime: wasmtime::Engine,
    pub(crate) pre: InstancePre<State>,
    pub exports: Vec<Export>,
    /// Named types of imports and exports.
    pub types: Vec<NamedType>,
    resources: Vec<Arc<Resource>>,
    pub(crate) plans: Arc<Plans>,
    pub limits: Limits,
    pub kind: StoreKind,
    pub instances: Instances,
    pub(crate) wasi: Option<Arc<WasiConfig>>,
    idle: Mutex<Vec<Live>>,
    /// Idle instances of a concurrent program.
    idle_actors: Mutex<Vec<Arc<Home>>>,
    /// The one instance of [`Instances::Shared`].
    shared: Mutex<Option<Arc<Home>>>,
    running: AtomicUsize,
    closed: AtomicBool,
    /// What an embedder keeps with the program.
    pub ext: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Told, from any thread, of an asynchronous instance with destructors to run: see [`Home::swept`].
    pub on_dropped: OnceLock<OnDropped>,
}

/// What is told of an instance.
pub type OnDropped = Box<dyn Fn(&Arc<Home>) + Send + Sync>;

impl Program {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        engine: Engine,
        pre: InstancePre<State>,
        exports: Vec<Export>,
        types: Vec<NamedType>,
        resources: Vec<Arc<Resource>>,
        plans: Arc<Plans>,
        limits: Limits,
        kind: StoreKind,
        wasi: Option<WasiConfig>,
    ) -> Arc<Self> {
        // A resource lives in the instance that made it, so calls must find that instance again.
        let stateful = || {
            exports
                .iter()
                .any(|e| has_handle(&e.ty.param_tuple) || has_handle(&e.ty.result_tuple))
        };
        let instances = limits.instances.unwrap_or_else(|| {
            if stateful() {
                Instances::Shared
            } else {
                Instances::PerCall
            }
        });
        Arc::new(Program {
            engine,
            wasmtime: pre.engine().clone(),
            pre,
            exports,
            types,
            resources,
            plans,
            limits,
            kind,
            instances,
            wasi: wasi.map(Arc::new),
            idle: Mutex::default(),
            idle_actors: Mutex::default(),
            shared: Mutex::default(),
            running: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            ext: OnceLock::new(),
            on_dropped: OnceLock::new(),
        })
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// The tick count of the host's clock.
    pub(crate) fn now(&self) -> u64 {
        self.engine.ticks()
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline {
            tick: self
                .now()
                .saturating_add(ticks(self.limits.deadline))
                .saturating_add(1),
            seconds: seconds(self.limits.deadline),
        }
    }

    /// Time until a deadline of one of its calls; none where that is never.
    pub fn time_left(&self, deadline: Deadline) -> Option<Duration> {
        let ticks = (deadline.tick != u64::MAX).then(|| deadline.tick.saturating_sub(self.now()))?;
        // no clock need reach further than this
        Some(TICK * ticks.min(u64::from(u32::MAX)) as u32)
    }

    pub(crate) fn wasi(&self) -> Result<Option<Box<Wasi>>> {
        self.wasi.as_ref().map(|w| w.make().map(Box::new)).transpose()
    }

    /// The resources that the component imports or exports.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Sets what the next call in the Store may use.
    pub(crate) fn arm(&self, store: &mut Store<State>, on_tick: Option<fn() -> Result<()>>) -> Result<()> {
        arm(store, self, on_tick, false)
    }

    /// The engine's runtime.
    ///
    /// Errors when its threads cannot be started.
    pub fn runtime(&self) -> Result<tokio::runtime::Handle> {
        self.engine.runtime()
    }

    /// Whether component-model async is in use.
    pub fn concurrent(&self) -> bool {
        self.wasmtime.get_concurrency_support()
    }

    /// Finds an export by `interface#name`, by `name` at the root, or by a bare name that only one interface has.
    ///
    /// Errors with the candidates where the name fits several exports or none.
    pub fn find(&self, path: &str) -> Result<usize> {
        if let Some(i) = self.exports.iter().position(|e| e.ty.path() == path) {
            return Ok(i);
        }
        let by_name: Vec<usize> = self
            .exports
            .iter()
            .enumerate()
            .filter(|(_, e)| &*e.ty.name == path)
            .map(|(i, _)| i)
            .collect();
        match by_name[..] {
            [i] => Ok(i),
            _ => Err(format_err!("no single export is called {path}")),
        }
    }

    fn instantiate(self: &Arc<Self>, on_tick: Option<fn() -> Result<()>>) -> Result<Live> {
        stack::check()?;
        let (mut store, home) = Live::store(self)?;
        // a start function is the guest's code as any other
        self.arm(&mut store, on_tick)?;
        match scope::enter(&home.shared, || self.pre.instantiate(&mut store)) {
            Ok(instance) => Ok(Live::new(store, instance, home)),
            Err(e) => Err(store.data().meter.explain(e)),
        }
    }

    /// Calls an export of a synchronous program.
    ///
    /// Errors with a [`Fault`], with an import's own error, or with the guest's trap.
    pub fn call<D: Domain>(
        self: &Arc<Self>,
        index: usize,
        args: Vec<D::Value>,
        by: Caller,
    ) -> Result<Option<D::Value>> {
        let _running = self.enter()?;
        self.check_arity(index, args.len())?;
        if self.instances == Instances::Shared {
            loop {
                let home = match self.living_shared() {
                    Some(home) => home,
                    None => self.share(self.instantiate(by.on_tick)?),
                };
                let _turn = home.take_turn(by)?;
                home.check::<D>(index, &args)?;
                if let Some(live) = home.unpark() {
                    return live.call_and_park::<D>(index, args, by.on_tick);
                }
                self.unshare(&home);
            }
        }
        let mut live = match self.take_idle() {
            Some(live) => live,
            None => self.instantiate(by.on_tick)?,
        };
        // after an error the instance is dropped: the guest may have stopped anywhere
        let out = live.call::<D>(index, args, by.on_tick)?;
        if self.exports[index].ty.pins {
            live.park();
        } else {
            self.put_idle(live);
        }
        Ok(out)
    }

    pub(crate) fn check_arity(&self, index: usize, got: usize) -> Result<()> {
        let f = &self.exports[index].ty;
        if f.params.len() == got {
            return Ok(());
        }
        let (interface, function) = (f.interface.to_string(), f.name.to_string());
        Err(Fault::Arity {
            interface,
            function,
            expected: f.params.len(),
            got,
        }
        .into())
    }

    /// Counts a call in; the guard counts it out.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Running> {
        let running = Running(self.clone());
        if self.running.fetch_add(1, Relaxed) >= self.limits.concurrent_calls {
            return Err(Fault::Overloaded {
                limit: self.limits.concurrent_calls,
            }
            .into());
        }
        Ok(running)
    }

    pub(crate) fn take_idle(&self) -> Option<Live> {
        lock(&self.idle).pop()
    }

    /// Keeps an instance for the next call, if the pool has room.
    pub(crate) fn put_idle(&self, live: Live) {
        let Instances::Pool(size) = self.instances else {
            return;
        };
        let mut idle = lock(&self.idle);
        if idle.len() < size && !self.closed.load(Relaxed) {
            idle.push(live);
        }
    }

    /// The shared instance, unless there is none yet or it trapped.
    pub(crate) fn living_shared(&self) -> Option<Arc<Home>> {
        lock(&self.shared).as_ref().filter(|h| !h.is_dead()).cloned()
    }

    /// Makes `live` the shared instance, unless another was first.
    pub(crate) fn share(&self, live: Live) -> Arc<Home> {
        let mut shared = lock(&self.shared);
        if let Some(home) = shared.as_ref().filter(|h| !h.is_dead()) {
            return home.clone();
        }
        let home = live.home.clone();
        live.park();
        if !self.closed.load(Relaxed) {
            *shared = Some(home.clone());
        }
        home
    }

    /// Makes room for the next shared instance where `home` turned out to have trapped, while others wait for it still.
    pub(crate) fn unshare(&self, home: &Arc<Home>) {
        let mut shared = lock(&self.shared);
        if shared.as_ref().is_some_and(|h| Arc::ptr_eq(h, home)) {
            *shared = None;
        }
    }

    pub(crate) fn shared_slot(&self) -> &Mutex<Option<Arc<Home>>> {
        &self.shared
    }

    pub(crate) fn take_idle_actor(&self) -> Option<Arc<Home>> {
        lock(&self.idle_actors).pop()
    }

    /// Gives a concurrent instance back after an exclusive call that left nothing behind in it.
    pub(crate) fn give_back(&self, home: Arc<Home>) {
        let Instances::Pool(size) = self.instances else {
            return;
        };
        let mut idle = lock(&self.idle_actors);
        if idle.len() < size && !self.closed.load(Relaxed) && home.actor.get().is_some_and(|a| !a.has_ended())
        {
            idle.push(home);
        }
    }

    /// Calls that run, requests that are served among them.
    pub fn calls(&self) -> usize {
        self.running.load(Relaxed)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Drops all instances that nobody uses, and keeps none from now on.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
        lock(&self.idle).clear();
        lock(&self.idle_actors).clear();
        lock(&self.shared).take();
    }
}

pub(crate) struct Running(Arc<Program>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

fn has_handle(ty: &TyRef) -> bool {
    ty.any(&|t| matches!(&t.kind, Kind::Own(r) | Kind::Borrow(r) if r.host.is_none()))
}

/// On whose behalf a synchronous call is made.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Runs at every epoch while the guest does; its error stops the guest.
    pub on_tick: Option<fn() -> Result<()>>,
    /// Runs what waits for a busy instance, having let go of what others may need meanwhile.
    pub wait: fn(&mut (dyn FnMut() + Send)),
}

impl Caller {
    /// A caller that holds nothing others want.
    pub const PLAIN: Caller = Caller {
        on_tick: None,
        wait: |f| f(),
    };
}

thread_local! {
    /// Its address tells threads apart.
    static THREAD: u8 = const { 0 };
}

impl Home {
    /// Calls an export of this very instance. Synchronous programs only. Waits for another thread's call to end.
    ///
    /// Errors as [`Program::call`] does, and with [`Fault::Reentered`] from within a call of the same instance.
    pub fn call<D: Domain>(
        self: &Arc<Self>,
        index: usize,
        args: Vec<D::Value>,
        by: Caller,
    ) -> Result<Option<D::Value>> {
        let _turn = self.take_turn(by)?;
        self.check::<D>(index, &args)?;
        match self.unpark() {
            Some(live) => live.call_and_park::<D>(index, args, by.on_tick),
            None => Err(Fault::Gone("it trapped earlier".into()).into()),
        }
    }

    /// Runs the destructors of resources whose handles died, unless the instance is busy: then whoever runs it does.
    ///
    /// Errors with a destructor's trap, which ends the instance.
    pub fn sweep(self: &Arc<Self>, by: Caller) -> Result<()> {
        if self.program.kind != StoreKind::Sync || self.gate.available_permits() == 0 {
            return Ok(());
        }
        let _turn = self.take_turn(by)?;
        let Some(mut live) = self.unpark() else {
            return Ok(());
        };
        live.arm(by.on_tick)?;
        let shared = self.shared.clone();
        scope::enter(&shared, || live.sweep())?;
        live.park();
        Ok(())
    }

    /// The same of an asynchronous program, once nobody runs the instance. To be polled as a call is.
    pub async fn swept(self: Arc<Self>) -> Result<()> {
        let _turn = self.take_turn_async().await?;
        let Some(mut live) = self.unpark() else {
            return Ok(());
        };
        live.arm(None)?;
        let sweep = Scoped::new(self.shared.clone(), live.sweep_async());
        Timed::new(self.program.limits.deadline, sweep).await?;
        live.park();
        Ok(())
    }

    /// Waits for the right to run the instance. Errors where the very task that waits holds it: it would never end.
    pub(crate) async fn take_turn_async(&self) -> Result<Turn<'_>> {
        let permit = match self.gate.try_acquire() {
            Ok(permit) => permit,
            Err(_) if scope::poller() != 0 && self.owner.load(Relaxed) == scope::poller() => {
                return Err(Fault::Reentered.into());
            }
            Err(_) => self
                .gate
                .acquire()
                .await
                .map_err(|_| format_err!("the instance is closed"))?,
        };
        self.owner.store(scope::poller(), Relaxed);
        Ok(Turn {
            home: self,
            _permit: permit,
        })
    }

    fn take_turn(&self, by: Caller) -> Result<Turn<'_>> {
        let me = THREAD.with(|t| std::ptr::from_ref(t) as usize);
        if let Ok(permit) = self.gate.try_acquire() {
            self.owner.store(me, Relaxed);
            return Ok(Turn {
                home: self,
                _permit: permit,
            });
        }
        if self.owner.load(Relaxed) == me {
            return Err(Fault::Reentered.into());
        }
        let mut permit = None;
        (by.wait)(&mut || permit = futures::executor::block_on(self.gate.acquire()).ok());
        let Some(permit) = permit else {
            return Err(Fault::Gone("it was closed".into()).into());
        };
        self.owner.store(me, Relaxed);
        Ok(Turn {
            home: self,
            _permit: permit,
        })
    }

    /// An argument that does not fit must not cost the instance its state, so all are checked before it is entered.
    pub(crate) fn check<D: Domain>(&self, index: usize, args: &[D::Value]) -> Result<()> {
        let f = &self.program.exports[index].ty;
        let Kind::Tuple(slots) = &f.param_tuple.kind else {
            return Ok(());
        };
        lower::tuple::<D, _>(&mut Check::new(self), slots, args, 0)
            .map_err(|e| Origin::name(Some(&Origin::Arguments(f.clone())), e))
    }
}

/// The right to run an instance synchronously.
pub(crate) struct Turn<'h> {
    home: &'h Home,
    _permit: tokio::sync::SemaphorePermit<'h>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.home.owner.store(0, Relaxed);
    }
}

impl Live {
    fn call_and_park<D: Domain>(
        mut self,
        index: usize,
        args: Vec<D::Value>,
        on_tick: Option<fn() -> Result<()>>,
    ) -> Result<Option<D::Value>> {
        let out = self.call::<D>(index, args, on_tick)?;
        self.park();
        Ok(out)
    }

    fn call<D: Domain>(
        &mut self,
        index: usize,
        args: Vec<D::Value>,
        on_tick: Option<fn() -> Result<()>>,
    ) -> Result<Option<D::Value>> {
        stack::check()?;
        let func = self.func(index)?;
        let f = self.home.program.exports[index].ty.clone();
        let lent = f.lends.then(Arc::default);
        let args = Dyn::<D, 16> {
            lent: lent.clone(),
            origin: Some(Origin::Arguments(f)),
            ..Dyn::new(args)
        };
        // SAFETY: the counts of the table in `shim`, for an export that is lifted synchronously: `call` refuses others.
        let typed = unsafe { TypedFunc::<Dyn<D, 16>, Dyn<D, 1>>::new_unchecked(func) };
        self.arm(on_tick)?;
        let budget = &mut self.core.store.data_mut().budget;
        budget.deadline = budget.deadline.sooner(scope::deadline());
        let deadline = budget.deadline;
        let shared = self.home.shared.clone();
        let result = scope::enter(&shared, || {
            scope::with_deadline(deadline, || {
                self.sweep()?;
                crate::tracing::within(|| typed.call(&mut self.core.store, args))
            })
        });
        if let Some(lent) = lent {
            for rep in lock(&lent).drain(..) {
                let _ = shared.take(rep);
            }
        }
        match result {
            Ok(mut out) => Ok(out.vals.pop()),
            Err(e) => Err(self.explain(e)),
        }
    }

    pub(crate) fn explain(&self, e: wasmtime::Error) -> wasmtime::Error {
        self.core.store.data().meter.explain(e)
    }
}
