//! The two hosts that must agree: the engine, and wasmtime's own dynamic values.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use loop_engine::{
    Caller, Engine, Home, Import, Instances, Limits, Link, Neutral, Notify, Program, Started, StoreKind,
    Value,
};
use wasmtime::component::{Component, Instance, InstancePre, Linker, Val};
use wasmtime::{Config, OptLevel, Result, Store};

use crate::component::Signature;
use crate::types::Type;
use crate::values::{from_engine, to_engine};

/// Far above what generated values take, so that neither host stops for it where the other would not.
const PAYLOAD: usize = 64 << 20;

/// What the import got and what it is to answer.
#[derive(Default)]
pub struct Exchange {
    pub got: Option<Vec<Val>>,
    /// Of the type that it should have, or of another.
    pub answer: Option<(Type, Val)>,
}

pub type Shared = Arc<Mutex<Exchange>>;

pub fn exchange<R>(shared: &Shared, f: impl FnOnce(&mut Exchange) -> R) -> R {
    f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(None, false))
}

/// How the engine's import answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Now,
    /// On a fibre, or wherever `async func` runs; after having been pending once.
    Later,
}

/// loop-engine.
pub struct Ours {
    program: Arc<Program>,
    pub shared: Shared,
}

impl Ours {
    /// Loads a component whose one import has the signature `import`.
    pub fn new(wasm: &[u8], import: &Signature, instances: Instances, answers: Answers) -> Result<Self> {
        let shared = Shared::default();
        let mut link = Link::new(engine(), wasm, false, |_| false)?;
        let funcs: Vec<_> = link.imports.iter().flat_map(|i| i.funcs.clone()).collect();
        for func in funcs {
            let (signature, shared) = (import.clone(), shared.clone());
            let answer = move |args: Vec<Value>| {
                let got = signature.params.iter().zip(&args).map(|(t, v)| from_engine(t, v));
                let got = got.collect();
                exchange(&shared, |e| {
                    e.got = Some(got);
                    e.answer.as_ref().map(|(t, v)| to_engine(t, v))
                })
            };
            let host = match answers {
                Answers::Now => Import::<Neutral>::now(move |args| Ok(answer(args))),
                Answers::Later => Import::later(move |args| {
                    let answer = answer(args);
                    async move {
                        pending_once().await;
                        Ok(answer)
                    }
                }),
            };
            link.define(&func, host);
        }
        let limits = Limits {
            payload: PAYLOAD,
            instances: Some(instances),
            ..Limits::default()
        };
        Ok(Ours {
            program: link.finish(limits, false)?,
            shared,
        })
    }

    pub fn call(&self, name: &str, signature: &Signature, args: &[Val]) -> Result<Option<Val>> {
        let args = signature.params.iter().zip(args).map(|(t, v)| to_engine(t, v));
        let out = self.call_with(name, args.collect())?;
        Ok(signature
            .result
            .as_ref()
            .zip(out)
            .map(|(t, v)| from_engine(t, &v)))
    }

    pub fn call_with(&self, name: &str, args: Vec<Value>) -> Result<Option<Value>> {
        let index = self.program.find(name)?;
        if self.program.kind == StoreKind::Sync {
            return self.program.call::<Neutral>(index, args, Caller::PLAIN);
        }
        let runtime = engine().runtime()?;
        let notify: Arc<dyn Notify> = Arc::new(Polling);
        match self.program.start::<Neutral>(index, args, None, &notify, None)? {
            Started::Alone(call) => runtime.block_on(call),
            Started::Within(mut call) => {
                let _entered = runtime.enter();
                let mut cx = Context::from_waker(Waker::noop());
                for _ in 0..100 {
                    call.home.poll();
                    if let Poll::Ready(result) = call.poll_result(&mut cx) {
                        return result;
                    }
                }
                panic!("a call of {name} never ends")
            }
        }
    }
}

/// For one who polls until the end.
struct Polling;

impl Notify for Polling {
    fn notify(&self, _: Arc<Home>) {}
}

async fn pending_once() {
    let mut polled = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.program.close();
    }
}

/// wasmtime's `Val`.
pub struct Judge {
    pre: InstancePre<()>,
    pub shared: Shared,
    /// Kept for the next call where instances are shared.
    live: Option<Option<(Store<()>, Instance)>>,
}

fn judge() -> &'static wasmtime::Engine {
    static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config
            .wasm_component_model_fixed_length_lists(true)
            .concurrency_support(false)
            .cranelift_opt_level(OptLevel::None)
            .memory_reservation(1 << 20)
            .memory_guard_size(1 << 16);
        wasmtime::Engine::new(&config).expect("an engine")
    })
}

impl Judge {
    pub fn new(wasm: &[u8], import: &str, instances: Instances) -> Result<Self> {
        let shared = Shared::default();
        let component = Component::from_binary(judge(), wasm)?;
        let mut linker = Linker::<()>::new(judge());
        let state = shared.clone();
        linker.root().func_new(import, move |_, _, args, results| {
            exchange(&state, |e| {
                e.got = Some(args.to_vec());
                if let (Some(result), Some((_, answer))) = (results.first_mut(), &e.answer) {
                    *result = answer.clone();
                }
            });
            Ok(())
        })?;
        Ok(Judge {
            pre: linker.instantiate_pre(&component)?,
            shared,
            live: (instances != Instances::PerCall).then_some(None),
        })
    }

    pub fn call(&mut self, name: &str, signature: &Signature, args: &[Val]) -> Result<Option<Val>> {
        let (mut store, instance) = match self.live.as_mut().and_then(Option::take) {
            Some(live) => live,
            None => {
                let mut store = Store::new(judge(), ());
                store.set_hostcall_fuel(PAYLOAD);
                let instance = self.pre.instantiate(&mut store)?;
                (store, instance)
            }
        };
        let func = instance.get_func(&mut store, name).expect("an export");
        let mut out = vec![Val::Bool(false); usize::from(signature.result.is_some())];
        func.call(&mut store, args, &mut out)?;
        if let Some(slot) = &mut self.live {
            *slot = Some((store, instance));
        }
        Ok(out.pop())
    }
}
