//! A Store with one component instance in it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::{Func, GuestTaskId, Instance, ResourceAny};
use wasmtime::{AsContextMut, Result, Store, UpdateDeadline};

use crate::actor::{Actor, CallContext};
use crate::engine::TICK;
use crate::error::Fault;
use crate::limits::Meter;
use crate::program::{Program, StoreKind};
use crate::scope::{Deadline, Shared, lock};
use crate::wasi::Wasi;

/// What a Store of ours holds.
pub struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) meter: Meter,
    pub(crate) budget: Budget,
    pub(crate) wasi: Option<Box<Wasi>>,
    /// What the caller attached to the one call that runs, where the Store runs one at a time.
    pub(crate) caller: Option<CallContext>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.shared.clear();
    }
}

/// A call in flight in a concurrent instance.
pub(crate) struct Ticket {
    pub context: CallContext,
    pub deadline: Deadline,
    /// The tick at which its instance is stopped if the call still runs; `u64::MAX` while its caller waits for it.
    pub leave_by: Arc<AtomicU64>,
    /// No other call will use the instance meanwhile.
    pub exclusive: bool,
}

/// What a call may still use.
pub(crate) struct Budget {
    /// When the call must have ended.
    pub deadline: Deadline,
    /// Ticks of CPU time left.
    cpu: u64,
    /// Called at each tick while the guest runs and the caller holds something others want (the GIL).
    on_tick: Option<fn() -> Result<()>>,
    program: Weak<Program>,
}

/// The identity of an instance: what handles point to.
pub struct Home {
    pub program: Arc<Program>,
    pub shared: Arc<Shared>,
    /// One permit: the right to run the instance.
    pub(crate) gate: Semaphore,
    /// Who holds the permit, while it runs synchronously; 0: nobody.
    pub(crate) owner: AtomicUsize,
    /// The instance while nobody runs it; gone for good once it trapped.
    pub(crate) parked: Mutex<Option<Box<Core>>>,
    /// What runs the instance, if it is concurrent.
    pub(crate) actor: OnceLock<Actor>,
    /// The wasmtime instance, for whoever runs jobs.
    pub(crate) instance: OnceLock<Instance>,
    /// The exported functions that were called before.
    funcs: Box<[OnceLock<Func>]>,
    /// The calls in flight: few, so that a list is the fastest map.
    pub(crate) callers: Mutex<Vec<(GuestTaskId, Ticket)>>,
    /// Guest resources whose handles died, to be dropped when the instance runs next.
    dropped: Mutex<Vec<ResourceAny>>,
}

/// An instance in its Store.
pub(crate) struct Core {
    pub store: Store<State>,
    instance: Instance,
}

/// An instance that can run. Parked it is without its home, which then owns it.
pub(crate) struct Live {
    pub core: Box<Core>,
    pub home: Arc<Home>,
}

impl Home {
    pub(crate) fn new(program: &Arc<Program>) -> Arc<Self> {
        Arc::new_cyclic(|home: &Weak<Home>| Home {
            program: program.clone(),
            shared: Shared::new(program.plans.clone(), home.clone()),
            gate: Semaphore::new(1),
            owner: AtomicUsize::new(0),
            parked: Mutex::default(),
            actor: OnceLock::new(),
            instance: OnceLock::new(),
            funcs: program.exports.iter().map(|_| OnceLock::new()).collect(),
            callers: Mutex::default(),
            dropped: Mutex::default(),
        })
    }

    pub(crate) fn drop_later(self: &Arc<Self>, any: ResourceAny) {
        let first = {
            let mut dropped = lock(&self.dropped);
            dropped.push(any);
            dropped.len() == 1
        };
        if let Some(actor) = self.actor.get() {
            // nothing but a wake: whoever runs the jobs looks
            actor.submit(Box::new(|_| Box::pin(async {})));
            return;
        }
        if first && let Some(tell) = self.program.on_dropped.get() {
            tell(self);
        }
    }

    /// The function of export `index` in this very instance.
    pub(crate) fn func(&self, store: impl AsContextMut, instance: &Instance, index: usize) -> Result<Func> {
        if let Some(f) = self.funcs[index].get() {
            return Ok(*f);
        }
        let export = &self.program.exports[index];
        let found = instance.get_func(store, export.index);
        let f = found.ok_or_else(|| wasmtime::format_err!("{} is not a function", export.ty.path()))?;
        Ok(*self.funcs[index].get_or_init(|| f))
    }

    /// Whether a call that its caller gave up runs on for longer than it may.
    fn is_overstayed(&self, now: u64) -> bool {
        lock(&self.callers)
            .iter()
            .any(|(_, ticket)| ticket.leave_by.load(Relaxed) <= now)
    }

    /// Whether the one call that may use the idle instance waits for what nobody will do. WASI's doings are not known.
    pub(crate) fn is_stuck(&self) -> bool {
        let callers = lock(&self.callers);
        let alone = matches!(callers[..], [(_, Ticket { exclusive: true, .. })]);
        alone && self.program.wasi.is_none() && !self.shared.is_busy()
    }

    pub(crate) fn unpark(self: &Arc<Self>) -> Option<Live> {
        let core = lock(&self.parked).take()?;
        Some(Live {
            core,
            home: self.clone(),
        })
    }

    /// Whether the instance trapped and was dropped: idle, and not there.
    pub(crate) fn is_dead(&self) -> bool {
        self.actor.get().is_none() && self.gate.available_permits() > 0 && lock(&self.parked).is_none()
    }

    pub(crate) fn has_dropped(&self) -> bool {
        !lock(&self.dropped).is_empty()
    }

    pub(crate) fn take_dropped(&self) -> Vec<ResourceAny> {
        std::mem::take(&mut *lock(&self.dropped))
    }
}

impl Live {
    /// A Store for a new instance; `instance` comes from instantiating in it.
    pub fn store(program: &Arc<Program>) -> Result<(Store<State>, Arc<Home>)> {
        let home = Home::new(program);
        Ok((Live::store_of(&home)?, home))
    }

    /// A Store for the instance that `home` is to be.
    pub fn store_of(home: &Arc<Home>) -> Result<Store<State>> {
        let program = &home.program;
        let limits = &program.limits;
        let state = State {
            shared: home.shared.clone(),
            meter: Meter::new(limits),
            budget: Budget {
                deadline: Deadline::NEVER,
                cpu: u64::MAX,
                on_tick: None,
                program: Arc::downgrade(program),
            },
            wasi: program.wasi()?,
            caller: None,
        };
        let mut store = Store::new(program.engine(), state);
        store.limiter(|s| &mut s.meter);
        store.set_hostcall_fuel(limits.payload);
        let asynchronous = program.kind == StoreKind::Async;
        store.epoch_deadline_callback(move |mut store| tick(store.data_mut(), asynchronous));
        Ok(store)
    }

    pub fn new(store: Store<State>, instance: Instance, home: Arc<Home>) -> Self {
        Live {
            core: Box::new(Core { store, instance }),
            home,
        }
    }

    /// Leaves the instance to its home, for whoever holds a handle to it.
    pub fn park(self) {
        let Live { core, home } = self;
        *lock(&home.parked) = Some(core);
    }

    /// The export's function in this instance.
    pub fn func(&mut self, index: usize) -> Result<Func> {
        let core = &mut *self.core;
        self.home.func(&mut core.store, &core.instance, index)
    }

    /// Sets what the next call may use.
    pub fn arm(&mut self, on_tick: Option<fn() -> Result<()>>) -> Result<()> {
        arm(&mut self.core.store, &self.home.program, on_tick, false)
    }

    /// Drops guest resources whose handles have died. Synchronous Stores only.
    pub fn sweep(&mut self) -> Result<()> {
        for any in self.home.take_dropped() {
            any.resource_drop(&mut self.core.store)?;
        }
        Ok(())
    }

    /// The same in an asynchronous Store.
    pub async fn sweep_async(&mut self) -> Result<()> {
        for any in self.home.take_dropped() {
            any.resource_drop_async(&mut self.core.store).await?;
        }
        Ok(())
    }
}

/// A time in ticks of the host's clock; none is endless.
pub(crate) fn ticks(d: Option<Duration>) -> u64 {
    d.map_or(u64::MAX, |d| d.as_nanos().div_ceil(TICK.as_nanos()) as u64)
}

/// Sets what the calls of a Store may use. `more`: others run already, whose time must not be cut short.
pub(crate) fn arm(
    mut store: impl AsContextMut<Data = State>,
    program: &Program,
    on_tick: Option<fn() -> Result<()>>,
    more: bool,
) -> Result<()> {
    let mut store = store.as_context_mut();
    let budget = &mut store.data_mut().budget;
    let deadline = program.deadline();
    let cpu = ticks(program.limits.cpu).saturating_add(1);
    if more {
        if deadline.tick > budget.deadline.tick {
            budget.deadline = deadline;
        }
        budget.cpu = budget.cpu.saturating_add(cpu);
        return Ok(());
    }
    budget.deadline = deadline;
    budget.cpu = cpu;
    budget.on_tick = on_tick;
    store.set_epoch_deadline(1);
    if let Some(fuel) = program.limits.fuel {
        store.set_fuel(fuel)?;
    }
    Ok(())
}

/// The epoch's callback: counts, checks, lets others run.
fn tick(state: &mut State, asynchronous: bool) -> Result<UpdateDeadline> {
    let budget = &mut state.budget;
    if let Some(program) = budget.program.upgrade() {
        let now = program.now();
        if now >= budget.deadline.tick {
            return Err(Fault::Deadline {
                seconds: budget.deadline.seconds,
            }
            .into());
        }
        if let Some(home) = state.shared.home().upgrade()
            && home.is_overstayed(now)
        {
            return Err(Fault::Gone("a call ran on after its end".into()).into());
        }
        budget.cpu = budget.cpu.saturating_sub(1);
        if budget.cpu == 0 {
            return Err(Fault::Cpu {
                seconds: seconds(program.limits.cpu),
            }
            .into());
        }
    }
    if let Some(f) = budget.on_tick {
        f()?;
    }
    if asynchronous && !state.shared.is_lowering() {
        return Ok(UpdateDeadline::Yield(1));
    }
    Ok(UpdateDeadline::Continue(1))
}

pub(crate) fn seconds(d: Option<Duration>) -> f64 {
    d.map_or(f64::INFINITY, |d| d.as_secs_f64())
}
