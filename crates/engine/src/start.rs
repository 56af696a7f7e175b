//! Asynchronous calls.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::component::{Accessor, TypedFunc};
use wasmtime::{Error, Result, Store, format_err};

use crate::actor::{Actor, CallContext, Jobs, Notify};
use crate::domain::Domain;
use crate::error::{Ended, Fault};
use crate::import::Later;
use crate::instance::{Home, Live, State, Ticket, arm, ticks};
use crate::limits::{Instances, Limits};
use crate::program::{Program, Running};
use crate::reader::{self, Reader};
use crate::scope::{Scoped, lock};
use crate::shim::{Dyn, MAX_FLAT, Origin, with_count};
use crate::timed::Timed;
use crate::types::TyRef;

/// A call that was started.
pub enum Started<D: Domain> {
    /// The whole call as one future, to be polled within the engine's runtime. Dropping it drops its instance.
    Alone(Later<D>),
    /// A call within a concurrent instance. Whoever started it must poll the instance ([`Home::poll`]) next; later
    /// polls follow notifications.
    Within(Call<D>),
}

/// A call within a concurrent instance.
pub struct Call<D: Domain> {
    pub home: Arc<Home>,
    result: oneshot::Receiver<Result<Option<D::Value>>>,
    /// No other call uses the instance meanwhile.
    pub exclusive: bool,
    /// The result leaves nothing behind in the instance.
    idle_after: bool,
    /// Shared with the call's [`Ticket`].
    leave_by: Arc<AtomicU64>,
    /// The result has come.
    over: bool,
    _running: Running,
}

impl<D: Domain> Call<D> {
    /// The result, once it is there. `cx` is woken when it comes.
    pub fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<D::Value>>> {
        let result = std::task::ready!(Pin::new(&mut self.result).poll(cx));
        let result = result.unwrap_or_else(|_| Err(self.home.why_gone(self.exclusive)));
        self.over = result.is_ok();
        if self.over && self.exclusive && self.idle_after {
            self.home.program.give_back(self.home.clone());
        }
        Poll::Ready(result)
    }
}

impl<D: Domain> Drop for Call<D> {
    /// A call that nobody waits for any more, or that ran past its deadline, must end soon.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if self.exclusive {
            self.home.stop(Fault::Gone("its call was given up".into()).into());
            return;
        }
        let program = &self.home.program;
        let grace = ticks(Some(program.limits.cancel_grace)).saturating_add(1);
        self.leave_by.store(program.now().saturating_add(grace), Relaxed);
    }
}

impl Home {
    /// The error of a call whose instance ended under it: the trap itself for a sole caller.
    fn why_gone(&self, exclusive: bool) -> Error {
        let actor = self.actor.get();
        // which call's guest code ended the instance is not known where several ran
        let alone = exclusive || actor.is_some_and(Actor::ended_alone);
        match actor.and_then(Actor::end) {
            Some(e) if alone => Error::new(Ended(e)),
            Some(e) => Fault::Gone(format!("{:#}", *e)).into(),
            None => Fault::Gone("it was closed".into()).into(),
        }
    }

    /// Reads a stream of this instance, once the instance is polled.
    pub fn read_stream<D: Domain>(
        &self,
        payload: Option<TyRef>,
        any: wasmtime::component::StreamAny,
    ) -> Reader<D> {
        let (reader, connect) = reader::reader::<D>(self.shared.busy());
        self.submit(move |accessor| {
            let connected = accessor.with(|store| connect.stream(store, payload.as_ref(), any));
            async move {
                let _ = connected; // a stream that cannot be read ends
            }
        });
        reader
    }

    /// Reads a future of this instance, as a stream of one value.
    pub fn read_future<D: Domain>(
        &self,
        payload: Option<TyRef>,
        any: wasmtime::component::FutureAny,
    ) -> Reader<D> {
        let (reader, connect) = reader::reader::<D>(self.shared.busy());
        self.submit(move |accessor| {
            let connected = accessor.with(|store| connect.future(store, payload.as_ref(), any));
            async move {
                let _ = connected;
            }
        });
        reader
    }

    fn submit<F>(&self, job: impl FnOnce(&Accessor<State>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(actor) = self.actor.get() {
            actor.submit(Box::new(move |accessor| Box::pin(job(accessor))));
        }
    }
}

impl Program {
    /// Starts a call. `context` is found by [`crate::behalf`] in the imports made on its behalf.
    ///
    /// Errors when the call cannot even start: too many calls, wrong number of arguments.
    pub fn start<D: Domain>(
        self: &Arc<Self>,
        index: usize,
        args: Vec<D::Value>,
        context: Option<CallContext>,
        notify: &Arc<dyn Notify>,
        on: Option<Arc<Home>>,
    ) -> Result<Started<D>> {
        let running = self.enter()?;
        self.check_arity(index, args.len())?;
        if self.concurrent() {
            return self
                .start_within(running, index, args, context, notify, on)
                .map(Started::Within);
        }
        let program = self.clone();
        Ok(Started::Alone(Box::pin(async move {
            let _running = running;
            program.run_alone::<D>(index, args, context, on).await
        })))
    }

    async fn run_alone<D: Domain>(
        self: Arc<Self>,
        index: usize,
        args: Vec<D::Value>,
        context: Option<CallContext>,
        on: Option<Arc<Home>>,
    ) -> Result<Option<D::Value>> {
        let deadline = self.limits.deadline;
        if on.is_some() || self.instances == Instances::Shared {
            loop {
                let home = match &on {
                    Some(home) => home.clone(),
                    None => self.shared_home_async().await?,
                };
                let _turn = home.take_turn_async().await?;
                home.check::<D>(index, &args)?;
                let Some(mut live) = home.unpark() else {
                    if on.is_some() {
                        return Err(Fault::Gone("it trapped earlier".into()).into());
                    }
                    self.unshare(&home);
                    continue;
                };
                let out = Timed::new(deadline, live.call_async::<D>(index, args, context)).await?;
                live.park();
                return Ok(out);
            }
        }
        let mut live = match self.take_idle() {
            Some(live) => live,
            None => self.instantiate_async().await?,
        };
        // an error drops the instance: the guest may have stopped anywhere
        let out = Timed::new(deadline, live.call_async::<D>(index, args, context)).await?;
        if self.exports[index].ty.pins {
            live.park();
        } else {
            self.put_idle(live);
        }
        Ok(out)
    }

    async fn instantiate_async(self: &Arc<Self>) -> Result<Live> {
        let (mut store, home) = Live::store(self)?;
        arm(&mut store, self, None, false)?;
        match Scoped::new(home.shared.clone(), self.pre.instantiate_async(&mut store)).await {
            Ok(instance) => Ok(Live::new(store, instance, home)),
            Err(e) => Err(store.data().meter.explain(e)),
        }
    }

    async fn shared_home_async(self: &Arc<Self>) -> Result<Arc<Home>> {
        if let Some(home) = self.living_shared() {
            return Ok(home);
        }
        let live = self.instantiate_async().await?;
        Ok(self.share(live))
    }

    fn start_within<D: Domain>(
        self: &Arc<Self>,
        running: Running,
        index: usize,
        args: Vec<D::Value>,
        context: Option<CallContext>,
        notify: &Arc<dyn Notify>,
        on: Option<Arc<Home>>,
    ) -> Result<Call<D>> {
        let exclusive = on.is_none() && self.instances != Instances::Shared;
        let home = match on {
            Some(home) => home,
            None => self.actor_home(notify),
        };
        if !exclusive {
            home.check::<D>(index, &args)?;
        }
        let (tx, result) = oneshot::channel();
        let leave_by = Arc::new(AtomicU64::new(u64::MAX));
        let ticket = Ticket {
            context: context.unwrap_or_else(|| Arc::new(())),
            deadline: self.deadline(),
            leave_by: leave_by.clone(),
            exclusive,
        };
        let flat = self.exports[index].ty.result_tuple.flat;
        let count = if flat > MAX_FLAT { 1 } else { flat };
        let made: Result<()> = with_count!(count, R, {
            home.submit_call::<D, R>(index, args, ticket, tx);
            Ok(())
        });
        made?;
        let idle_after = !self.exports[index].ty.pins;
        Ok(Call {
            home,
            result,
            exclusive,
            idle_after,
            leave_by,
            over: false,
            _running: running,
        })
    }

    /// The concurrent instance for a call.
    fn actor_home(self: &Arc<Self>, notify: &Arc<dyn Notify>) -> Arc<Home> {
        match self.instances {
            Instances::Shared => {
                let mut shared = lock(self.shared_slot());
                if let Some(home) = shared
                    .as_ref()
                    .filter(|h| h.actor.get().is_some_and(|a| !a.has_ended()))
                {
                    return home.clone();
                }
                let home = self.new_actor(notify);
                *shared = Some(home.clone());
                home
            }
            Instances::Pool(_) => self.take_idle_actor().unwrap_or_else(|| self.new_actor(notify)),
            Instances::PerCall => self.new_actor(notify),
        }
    }

    fn new_actor(self: &Arc<Self>, notify: &Arc<dyn Notify>) -> Arc<Home> {
        let home = Home::new(self);
        let weak = Arc::downgrade(&home);
        let program = self.clone();
        let actor = Actor::new(weak.clone(), notify.clone(), move |queue| async move {
            // The future must not own its own home, which owns it.
            let mut store = match weak.upgrade() {
                Some(home) => Live::store_of(&home)?,
                None => return Ok(()),
            };
            let mut jobs = Jobs::new(queue);
            let ran = run(&weak, &program, &mut store, &mut jobs).await;
            if let (Err(e), Some(home)) = (ran, weak.upgrade())
                && let Some(actor) = home.actor.get()
            {
                actor.ends(&home, store.data().meter.explain(e));
            }
            Ok(()) // only now the Store and its jobs are dropped
        });
        let _ = home.actor.set(actor);
        home
    }
}

/// Runs the jobs of an instance until the queue closes.
async fn run(
    weak: &Weak<Home>,
    program: &Arc<Program>,
    store: &mut Store<State>,
    jobs: &mut Jobs,
) -> Result<()> {
    arm(&mut *store, program, None, false)?;
    let instance = program.pre.instantiate_async(&mut *store).await?;
    if let Some(home) = weak.upgrade() {
        let _ = home.instance.set(instance);
    }
    let leave = || weak.upgrade().is_some_and(|home| home.has_dropped());
    loop {
        let ran = store.run_concurrent(async |accessor| jobs.run(accessor, leave).await);
        if !ran.await?? {
            return Ok(());
        }
        let dropped = weak.upgrade().map(|home| home.take_dropped());
        for any in dropped.into_iter().flatten() {
            arm(&mut *store, program, None, true)?;
            // here it has a stack of its own, on which a destructor may wait and yield
            any.resource_drop_async(&mut *store).await?;
        }
    }
}

impl Home {
    fn submit_call<D: Domain, const R: usize>(
        self: &Arc<Self>,
        index: usize,
        args: Vec<D::Value>,
        ticket: Ticket,
        tx: oneshot::Sender<Result<Option<D::Value>>>,
    ) {
        let weak = Arc::downgrade(self);
        let Some(actor) = self.actor.get() else { return };
        actor.submit_quietly(Box::new(move |accessor| {
            Box::pin(async move {
                let Some(home) = weak.upgrade() else { return };
                if tx.is_closed() {
                    return; // given up before it began
                }
                let exclusive = ticket.exclusive;
                let shared = home.shared.clone();
                let (program, f) = (home.program.clone(), home.program.exports[index].ty.clone());
                let lent: Option<Arc<std::sync::Mutex<Vec<u32>>>> = f.lends.then(Arc::default);
                let args = Dyn::<D, 16> {
                    lent: lent.clone(),
                    origin: Some(Origin::Arguments(f.clone())),
                    ..Dyn::new(args)
                };
                let started = accessor.with(|mut access| {
                    let mut store = wasmtime::AsContextMut::as_context_mut(&mut access);
                    let others = !lock(&home.callers).is_empty();
                    arm(&mut store, &program, None, others)?;
                    let instance = home.instance.get().ok_or_else(|| format_err!("no instance"))?;
                    let func = home.func(&mut store, instance, index)?;
                    // SAFETY: the counts of the table in `shim`. A function lifted synchronously with more than one
                    // flat result gives a pointer, which `Dyn` takes as well.
                    let typed = unsafe { TypedFunc::<Dyn<D, 16>, Dyn<D, R>>::new_unchecked(func) };
                    let call = typed.start_call_concurrent(&mut store, args)?;
                    lock(&home.callers).push((call.task(), ticket));
                    Ok::<_, Error>((typed, call))
                });
                drop(home); // the call must not keep alive what it runs in
                match started {
                    Err(e) => {
                        let _ = tx.send(Err(e));
                    }
                    Ok((typed, call)) => {
                        let task = call.task();
                        let finish = Box::pin(typed.finish_call_concurrent(accessor, call));
                        if !deliver(finish, tx, exclusive, &program.limits).await
                            && let Some(home) = weak.upgrade()
                        {
                            home.stop(Fault::Gone("a call ran on after its end".into()).into());
                        }
                        if let Some(home) = weak.upgrade() {
                            lock(&home.callers).retain(|(of, _)| *of != task);
                        }
                    }
                }
                for rep in lent.map(|l| std::mem::take(&mut *lock(&l))).unwrap_or_default() {
                    let _ = shared.take(rep);
                }
            })
        }));
    }
}

/// Waits for a call's result and sends it, within the call's deadline. Returns false if the call runs on though its
/// deadline has passed or its caller has gone, for longer than the grace: one guest task cannot be stopped alone.
async fn deliver<D: Domain, const R: usize>(
    mut finish: Pin<Box<impl Future<Output = Result<Dyn<D, R>>>>>,
    mut tx: oneshot::Sender<Result<Option<D::Value>>>,
    exclusive: bool,
    limits: &Limits,
) -> bool {
    let finished = Timed::new(limits.deadline, finish.as_mut());
    let result = if exclusive {
        Some(finished.await) // its caller drops the instance, and this with it
    } else {
        tokio::select! {
            biased;
            r = finished => Some(r),
            () = tx.closed() => None,
        }
    };
    match result {
        Some(Err(e)) if matches!(e.downcast_ref(), Some(Fault::Deadline { .. })) => {
            let _ = tx.send(Err(e));
        }
        Some(r) => {
            let _ = tx.send(r.map(|mut out| out.vals.pop()));
            return true;
        }
        None => {}
    }
    match Timed::new(Some(limits.cancel_grace), finish.as_mut()).await {
        Err(e) => !matches!(e.downcast_ref(), Some(Fault::Deadline { .. })),
        Ok(_) => true,
    }
}

impl Live {
    async fn call_async<D: Domain>(
        &mut self,
        index: usize,
        args: Vec<D::Value>,
        context: Option<CallContext>,
    ) -> Result<Option<D::Value>> {
        let func = self.func(index)?;
        let f = self.home.program.exports[index].ty.clone();
        let lent: Option<Arc<std::sync::Mutex<Vec<u32>>>> = f.lends.then(Arc::default);
        let args = Dyn::<D, 16> {
            lent: lent.clone(),
            origin: Some(Origin::Arguments(f)),
            ..Dyn::new(args)
        };
        // SAFETY: the counts of the table in `shim`, for exports lifted synchronously: without concurrency there are
        // no others.
        let typed = unsafe { TypedFunc::<Dyn<D, 16>, Dyn<D, 1>>::new_unchecked(func) };
        self.arm(None)?;
        self.core.store.data_mut().caller = context;
        let shared = self.home.shared.clone();
        let result = Scoped::new(shared.clone(), async {
            self.sweep_async().await?;
            typed.call_async(&mut self.core.store, args).await
        })
        .await;
        for rep in lent.map(|l| std::mem::take(&mut *lock(&l))).unwrap_or_default() {
            let _ = shared.take(rep);
        }
        self.core.store.data_mut().caller = None;
        match result {
            Ok(mut out) => Ok(out.vals.pop()),
            Err(e) => Err(self.explain(e)),
        }
    }
}
