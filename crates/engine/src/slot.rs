//! Imports whose provider is exchanged while calls run.
//!
//! A call goes to the provider that serves when it begins, or, where it is given a resource, to the one that made the
//! resource. What a provider has begun it ends: calls, resources and streams keep their [`Generation`], which is
//! drained once the last of them has gone.

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use wasmtime::Result;

use crate::domain::Domain;
use crate::error::Fault;
use crate::hold::{AtWork, Hold};
use crate::import::{Import, Later, Outcome};
use crate::scope::{behalf, lock, on_behalf};
use crate::stream::{Chunk, Feed, Settle, Source};

/// One of the providers that serve in turn, held by all that it has begun.
pub struct Generation {
    over: AtomicBool,
    ended: Notify,
    /// Goes with this.
    _held: oneshot::Sender<()>,
}

impl Generation {
    /// A new one, and what ends once nothing holds it any more.
    pub fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (held, drained) = oneshot::channel();
        let generation = Generation {
            over: AtomicBool::new(false),
            ended: Notify::new(),
            _held: held,
        };
        (Arc::new(generation), drained)
    }

    /// Ends what it has not ended by itself: calls that wait for it, streams that it feeds and calls of its resources
    /// fail by [`Fault::Exchanged`].
    pub fn expire(&self) {
        self.over.store(true, SeqCst);
        self.ended.notify_waiters();
    }

    fn check(&self) -> Result<()> {
        match self.over.load(Relaxed) {
            true => Err(Fault::Exchanged.into()),
            false => Ok(()),
        }
    }

    async fn expired(self: Arc<Self>) {
        let mut ended = std::pin::pin!(self.ended.notified());
        // a notice that comes from here on is not lost
        ended.as_mut().enable();
        if !self.over.load(SeqCst) {
            ended.await;
        }
    }
}

/// What the calls of a link have come to.
#[derive(Default)]
pub struct Tally {
    pub calls: AtomicU64,
    pub errors: AtomicU64,
    /// Nanoseconds that they took together.
    pub busy: AtomicU64,
}

impl Tally {
    fn keep<D: Domain>(&self, begun: Instant, result: &Result<Option<D::Value>>) {
        self.calls.fetch_add(1, Relaxed);
        self.busy.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
        if result.is_err() {
            self.errors.fetch_add(1, Relaxed);
        }
    }
}

struct Served<D: Domain> {
    import: Import<D>,
    generation: Arc<Generation>,
    keeps: Keeps,
}

/// What a provider needs to be there.
type Keeps = Arc<dyn Any + Send + Sync>;

/// One that served before, for as long as something of it is left.
struct Older<D: Domain> {
    import: Import<D>,
    generation: Weak<Generation>,
    _keeps: Keeps,
}

/// A function that providers serve in turn.
pub struct Slot<D: Domain> {
    now: ArcSwap<Served<D>>,
    older: Mutex<Vec<Older<D>>>,
    tally: Arc<Tally>,
    hold: Arc<Hold>,
}

/// Whose answer a call gets.
pub(crate) enum Whose {
    /// It does not matter.
    Nobody,
    Known(Arc<Generation>),
    /// Known once it is answered.
    Later(Arc<OnceLock<Arc<Generation>>>),
}

impl Whose {
    pub(crate) fn get(self) -> Option<Arc<Generation>> {
        match self {
            Whose::Nobody => None,
            Whose::Known(generation) => Some(generation),
            Whose::Later(known) => known.get().cloned(),
        }
    }
}

impl<D: Domain> Slot<D> {
    /// Begins with `import`, for which `keeps` is held. Calls of the provider that serves wait for as long as `hold` is
    /// on.
    pub fn new(
        import: Import<D>,
        generation: Arc<Generation>,
        keeps: Keeps,
        tally: Arc<Tally>,
        hold: Arc<Hold>,
    ) -> Arc<Self> {
        Arc::new(Slot {
            now: ArcSwap::from_pointee(Served {
                import,
                generation,
                keeps,
            }),
            older: Mutex::default(),
            tally,
            hold,
        })
    }

    /// Has the calls to come go to `import`; those that have begun end where they are.
    pub fn exchange(&self, import: Import<D>, generation: Arc<Generation>, keeps: Keeps) {
        let mut older = lock(&self.older);
        let old = self.now.swap(Arc::new(Served {
            import,
            generation,
            keeps,
        }));
        older.retain(|o| o.generation.strong_count() > 0);
        older.push(Older {
            import: old.import.clone(),
            generation: Arc::downgrade(&old.generation),
            _keeps: old.keeps.clone(),
        });
    }

    /// Lets go of providers of which nothing is left.
    pub fn prune(&self) {
        let gone = {
            let mut older = lock(&self.older);
            let (left, gone) = older.drain(..).partition(|o| o.generation.strong_count() > 0);
            *older = left;
            gone
        };
        drop::<Vec<_>>(gone); // with the lock let go: dropping may run any code
    }

    /// Makes the call by the provider that `of`, the generation of a resource among the arguments, says, else by the
    /// one that serves now. Also returns whose answer it is.
    pub(crate) fn call(
        self: &Arc<Self>,
        args: Vec<D::Value>,
        of: Option<Arc<Generation>>,
    ) -> (Outcome<D>, Whose) {
        match self.begin(args, of, Instant::now()) {
            Ok((outcome, generation)) => (outcome, Whose::Known(generation)),
            Err((args, of)) => self.held(args, of),
        }
    }

    /// Makes the call once calls go on.
    fn held(self: &Arc<Self>, args: Vec<D::Value>, of: Option<Arc<Generation>>) -> (Outcome<D>, Whose) {
        let (begun, behalf) = (Instant::now(), behalf());
        let known = Arc::new(OnceLock::new());
        let (slot, whose) = (self.clone(), known.clone());
        let mut left = Some((args, of));
        let later = async move {
            while let Some((args, of)) = left.take() {
                slot.hold.clone().over().await;
                let begin = || slot.begin(args, of, begun);
                let made = match &behalf {
                    Some(behalf) => on_behalf(&mut || behalf.clone(), begin),
                    None => begin(),
                };
                match made {
                    Err(again) => left = Some(again),
                    Ok((outcome, generation)) => {
                        let _ = known.set(generation);
                        return match outcome {
                            Outcome::Ready(result) => result,
                            Outcome::Later(later) => later.await,
                        };
                    }
                }
            }
            unreachable!("it is made, or left")
        };
        (Outcome::Later(Box::pin(later)), Whose::Later(whose))
    }

    /// Makes the call, and says whose answer it is; gives the arguments back where it is to wait.
    #[allow(clippy::type_complexity)]
    fn begin(
        &self,
        args: Vec<D::Value>,
        of: Option<Arc<Generation>>,
        begun: Instant,
    ) -> Result<(Outcome<D>, Arc<Generation>), (Vec<D::Value>, Option<Arc<Generation>>)> {
        // counted before it is looked who serves: that does not change as long as a call is at work and others wait
        let mut at_work = self.hold.begin();
        let now = self.now.load();
        let older = of
            .as_ref()
            .filter(|of| !Arc::ptr_eq(of, &now.generation))
            .and_then(|of| Some((self.older(of)?, of.clone())));
        let (outcome, generation) = match older {
            Some((import, of)) => {
                at_work = None;
                let outcome = match of.check() {
                    Ok(()) => (import.call)(args),
                    Err(e) => Outcome::Ready(Err(e)),
                };
                (outcome, of)
            }
            None if at_work.is_none() => return Err((args, of)),
            None => ((now.import.call)(args), now.generation.clone()),
        };
        drop(now);
        let outcome = match outcome {
            Outcome::Ready(result) => {
                self.tally.keep::<D>(begun, &result);
                Outcome::Ready(result)
            }
            Outcome::Later(later) => Outcome::Later(Box::pin(Watched::<D> {
                later,
                generation: generation.clone(),
                expired: None,
                tally: self.tally.clone(),
                begun,
                _at_work: at_work,
            })),
        };
        Ok((outcome, generation))
    }

    fn older(&self, of: &Arc<Generation>) -> Option<Import<D>> {
        let older = lock(&self.older);
        let mut found = older.iter().filter(|o| o.generation.as_ptr() == Arc::as_ptr(of));
        found.next().map(|o| o.import.clone())
    }
}

type Expired = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer that is waited for until its provider's time is over.
struct Watched<D: Domain> {
    later: Later<D>,
    generation: Arc<Generation>,
    /// Made only where the answer is not there at once.
    expired: Option<Expired>,
    tally: Arc<Tally>,
    begun: Instant,
    _at_work: Option<AtWork>,
}

impl<D: Domain> Future for Watched<D> {
    type Output = Result<Option<D::Value>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut polled = this.later.as_mut().poll(cx);
        if polled.is_pending() {
            let generation = this.generation.clone();
            let expired = this.expired.get_or_insert_with(|| Box::pin(generation.expired()));
            if expired.as_mut().poll(cx).is_ready() {
                polled = Poll::Ready(Err(Fault::Exchanged.into()));
            }
        }
        if let Poll::Ready(result) = &polled {
            this.tally.keep::<D>(this.begun, result);
        }
        polled
    }
}

/// A stream that a provider feeds until its time is over.
struct Fed<D: Domain> {
    source: Box<dyn Source<D>>,
    generation: Arc<Generation>,
    expired: Option<Expired>,
}

impl<D: Domain> Source<D> for Fed<D> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk<D>>>> {
        self.generation.check()?;
        let polled = self.source.poll_next(cx);
        if polled.is_pending() {
            let generation = self.generation.clone();
            let expired = self.expired.get_or_insert_with(|| Box::pin(generation.expired()));
            if expired.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Fault::Exchanged.into()));
            }
        }
        polled
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<usize> {
        match self.generation.check() {
            Ok(()) => self.source.fill(room),
            Err(_) => None, // `poll_next` says so
        }
    }
}

/// A stream that holds its provider's generation.
pub(crate) fn fed<D: Domain>(feed: Feed<D>, generation: Option<&Arc<Generation>>) -> Feed<D> {
    match (feed, generation) {
        (Feed::Source(source), Some(generation)) => Feed::Source(Box::new(Fed {
            source,
            generation: generation.clone(),
            expired: None,
        })),
        (feed, _) => feed,
    }
}

/// A future that holds its provider's generation.
pub(crate) fn settled<D: Domain>(settle: Settle<D>, generation: Option<&Arc<Generation>>) -> Settle<D> {
    match (settle, generation) {
        (Settle::Value(value), Some(generation)) => {
            let generation = generation.clone();
            Settle::Value(Box::pin(async move {
                tokio::select! {
                    biased;
                    value = value => value,
                    () = generation.clone().expired() => Err(Fault::Exchanged.into()),
                }
            }))
        }
        (settle, _) => settle,
    }
}
