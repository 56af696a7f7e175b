//! One request and its answer: an instance, its call, and what the guest gives back.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use futures::task::AtomicWaker;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use wasmtime::component::Accessor;
use wasmtime::error::Context as _;
use wasmtime::{Error, Result, Store, bail};
use wasmtime_wasi_http::p2::bindings as p2;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as Scheme2;
use wasmtime_wasi_http::p3::{self, bindings as p3b};
use wasmtime_wasi_http::{Error as HttpError, FieldMap, WasiBody, WasiHttpView as _};

use super::ServeOptions;
use super::body::Inbound;
use super::page;
use super::shared::Shared;
use crate::instance::{Home, Live, State};
use crate::limits::Instances;
use crate::program::{Program, Running, StoreKind};
use crate::scope::{Scoped, lock};

/// A component that serves.
pub(super) struct App {
    pub program: Arc<Program>,
    pub options: ServeOptions,
    exports: Exports,
    instances: Instances,
    idle: Mutex<Vec<Instance>>,
    /// Whoever runs the one instance of a shared 0.2 handler, which can run but one request at a time.
    turn: Option<Semaphore>,
    /// The one instance of a shared 0.3 handler.
    shared: Option<Shared>,
}

enum Exports {
    P2(p2::ProxyIndices),
    P3(p3b::ServiceIndices),
}

/// An instance that can serve.
pub(super) struct Instance {
    pub store: Store<State>,
    pub home: Arc<Home>,
    pub proxy: Proxy,
    served: u32,
}

pub(super) enum Proxy {
    P2(p2::Proxy),
    P3(p3b::Service),
}

/// Requests after which a pooled instance is replaced: guests leak, if only a handle for each request.
const REUSES: u32 = 10_000;

/// What the guest and its response's body share.
#[derive(Default)]
pub(super) struct Exchange {
    answer: Mutex<Option<Answer>>,
    state: AtomicU8,
    waker: AtomicWaker,
}

const OVER: u8 = 1;
const FAILED: u8 = 2;

/// The response, or the error that the guest answered with.
pub(super) type Answer = Result<Response<WasiBody>, Refusal>;

/// An `error-code` instead of a response.
pub(super) struct Refusal {
    /// What the client is told.
    pub status: StatusCode,
    /// What the host is told, where the fault is the server's.
    pub reason: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &dyn std::fmt::Debug) -> Self {
        let reason = || format!("the handler answered with the error {code:?}");
        Refusal {
            status,
            reason: status.is_server_error().then(reason),
        }
    }
}

impl Exchange {
    pub fn take(&self) -> Option<Answer> {
        lock(&self.answer).take()
    }

    fn answer(&self, answer: Answer) {
        *lock(&self.answer) = Some(answer);
        self.waker.wake();
    }

    /// The guest will write no more.
    fn over(&self) {
        self.state.fetch_or(OVER, SeqCst);
        self.waker.wake();
    }

    /// The response's body ends short of its end.
    pub fn fail(&self) {
        self.state.fetch_or(OVER | FAILED, SeqCst);
        self.waker.wake();
    }

    pub fn is_over(&self) -> bool {
        self.state.load(SeqCst) & OVER != 0
    }

    pub fn has_failed(&self) -> bool {
        self.state.load(SeqCst) & FAILED != 0
    }

    pub fn watch(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl App {
    /// Errors when the component exports no handler, or was not linked for asynchronous calls.
    pub fn new(program: Arc<Program>, options: ServeOptions) -> Result<Self> {
        if program.kind != StoreKind::Async {
            bail!("serving needs an asynchronous program")
        }
        let exports = match p2::ProxyIndices::new(&program.pre) {
            Ok(indices) => Exports::P2(indices),
            Err(_) => Exports::P3(p3b::ServiceIndices::new(&program.pre).context(
                "the component exports no wasi:http/incoming-handler@0.2 and no wasi:http/handler@0.3",
            )?),
        };
        // the handles in a handler's signature are WASI's and gone after the request, so they keep no instance
        let instances = program.limits.instances.unwrap_or(Instances::PerCall);
        let is_shared = instances == Instances::Shared;
        let concurrent = matches!(exports, Exports::P3(_));
        let turn = (is_shared && !concurrent).then(|| Semaphore::new(1));
        let shared = (is_shared && concurrent).then(Shared::default);
        Ok(App {
            program,
            options,
            exports,
            instances,
            idle: Mutex::default(),
            turn,
            shared,
        })
    }

    /// Lets the guest handle the request, to the very end: the response is in `exchange` long before where its body
    /// is streamed.
    pub async fn run(
        self: Arc<Self>,
        request: Request<Inbound>,
        authority: Authority,
        exchange: Arc<Exchange>,
        _running: Running,
    ) -> Result<()> {
        if let Some(shared) = &self.shared {
            return shared.handle(&self, request, authority, exchange).await;
        }
        let _turn = match &self.turn {
            Some(turn) => Some(turn.acquire().await?),
            None => None,
        };
        let idle = lock(&self.idle).pop();
        let result = match idle {
            Some(instance) => self.serve(instance, request, authority, &exchange).await,
            None => match self.instantiate().await {
                Ok(instance) => self.serve(instance, request, authority, &exchange).await,
                Err(e) => Err(e),
            },
        };
        match result {
            Ok(()) => exchange.over(),
            Err(_) => exchange.fail(),
        }
        result
    }

    pub fn report(&self, what: &str, e: &Error) {
        if let Some(f) = &self.options.on_error {
            f(what, e);
        }
    }

    pub async fn instantiate(&self) -> Result<Instance> {
        let (mut store, home) = Live::store(&self.program)?;
        self.program.arm(&mut store, None)?;
        let instance = Scoped::new(
            home.shared.clone(),
            self.program.pre.instantiate_async(&mut store),
        )
        .await?;
        let proxy = match &self.exports {
            Exports::P2(indices) => Proxy::P2(indices.load(&mut store, &instance)?),
            Exports::P3(indices) => Proxy::P3(indices.load(&mut store, &instance)?),
        };
        Ok(Instance {
            store,
            home,
            proxy,
            served: 0,
        })
    }

    async fn serve(
        &self,
        mut instance: Instance,
        request: Request<Inbound>,
        authority: Authority,
        exchange: &Arc<Exchange>,
    ) -> Result<()> {
        self.program.arm(&mut instance.store, None)?;
        let shared = instance.home.shared.clone();
        let called = match &instance.proxy {
            Proxy::P2(proxy) => {
                Scoped::new(shared, call2(&mut instance.store, proxy, request, exchange)).await
            }
            Proxy::P3(service) => {
                Scoped::new(
                    shared,
                    call3(&mut instance.store, service, request, authority, exchange),
                )
                .await
            }
        };
        if let Err(e) = called {
            // the response's body must know before the Store and with it the body's other end is gone
            exchange.fail();
            return Err(instance.store.data().meter.explain(e));
        }
        instance.served += 1;
        let keep = match self.instances {
            Instances::PerCall => 0,
            Instances::Shared => 1,
            Instances::Pool(size) if instance.served < REUSES => size,
            Instances::Pool(_) => 0,
        };
        if keep > 0 {
            let mut idle = lock(&self.idle);
            if idle.len() < keep {
                idle.push(instance);
            }
        }
        Ok(())
    }
}

async fn call2(
    store: &mut Store<State>,
    proxy: &p2::Proxy,
    request: Request<Inbound>,
    exchange: &Arc<Exchange>,
) -> Result<()> {
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme2::Http, request)?;
    let answered = exchange.clone();
    let out = http.new_response_outparam_from_callback(move |r| {
        answered.answer(r.map_err(|e| Refusal::new(page::status_of_p2(&e), &e)))
    })?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(store, request, out)
        .await
}

async fn call3(
    store: &mut Store<State>,
    service: &p3b::Service,
    request: Request<Inbound>,
    authority: Authority,
    exchange: &Arc<Exchange>,
) -> Result<()> {
    let (request, sent) = request3(store.data_mut(), request, authority);
    store
        .run_concurrent(async |accessor| {
            answer3(accessor, service, request, sent, exchange).await?;
            // the guest writes its body, and may work on after it
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        })
        .await?
}

pub(super) type Sent = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

/// A 0.3 request, and how the reading of its body ends.
pub(super) fn request3(
    state: &mut State,
    request: Request<Inbound>,
    authority: Authority,
) -> (p3::Request, Sent) {
    let (parts, body) = request.into_parts();
    let headers = FieldMap::new_immutable(state.http().hooks, parts.headers);
    let path = parts.uri.into_parts().path_and_query;
    let (request, sent) = p3::Request::new(
        parts.method,
        Some(Scheme::HTTP),
        Some(authority),
        path,
        headers,
        None,
        body,
    );
    (request, Box::pin(sent))
}

pub(super) async fn answer3(
    accessor: &Accessor<State>,
    service: &p3b::Service,
    request: p3::Request,
    sent: Sent,
    exchange: &Exchange,
) -> Result<()> {
    let answer = match service.handle(accessor, request).await? {
        Ok(response) => Ok(accessor.with(|store| response.into_http(store, sent))?),
        Err(code) => Err(Refusal::new(page::status_of_p3(&code), &code)),
    };
    exchange.answer(answer);
    Ok(())
}
