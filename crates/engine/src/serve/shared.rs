//! The one instance of a shared 0.3 service: it handles requests side by side.

use std::sync::{Arc, Mutex, Weak};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::Request;
use http::uri::Authority;
use tokio::sync::{mpsc, oneshot};
use wasmtime::Result;

use super::body::Inbound;
use super::exchange::{App, Exchange, Instance, Proxy, answer3, request3};
use crate::error::Fault;
use crate::instance::arm;
use crate::scope::{Scoped, lock};

/// Where requests go to the instance, while it lives.
#[derive(Default)]
pub(super) struct Shared(Mutex<Option<mpsc::UnboundedSender<Job>>>);

struct Job {
    request: Request<Inbound>,
    authority: Authority,
    exchange: Arc<Exchange>,
    done: oneshot::Sender<()>,
}

impl Shared {
    /// Has the request answered; its body may be streamed on after that.
    ///
    /// Errors when the instance dies before.
    pub async fn handle(
        &self,
        app: &Arc<App>,
        request: Request<Inbound>,
        authority: Authority,
        exchange: Arc<Exchange>,
    ) -> Result<()> {
        let (done, answered) = oneshot::channel();
        let job = Job {
            request,
            authority,
            exchange,
            done,
        };
        let sent = match lock(&self.0).as_ref() {
            Some(jobs) => jobs.send(job).map_err(|e| e.0),
            None => Err(job),
        };
        if let Err(job) = sent {
            let instance = app.instantiate().await?;
            // another request may have been as fast; its instance then ends once it has served that one
            let jobs = start(app, instance);
            let _ = jobs.send(job);
            *lock(&self.0) = Some(jobs);
        }
        answered
            .await
            .map_err(|_| Fault::Gone("it died of another request that it handled".into()).into())
    }
}

fn start(app: &Arc<App>, instance: Instance) -> mpsc::UnboundedSender<Job> {
    let (sender, jobs) = mpsc::unbounded_channel();
    let app = Arc::downgrade(app);
    tokio::spawn(async move {
        let mut open = vec![];
        let shared = instance.home.shared.clone();
        let ended = Scoped::new(shared, drive(&app, instance, jobs, &mut open)).await;
        if let (Err(e), Some(app)) = (ended, app.upgrade()) {
            app.report("a shared instance", &e);
        }
    });
    sender
}

/// Runs the instance until nobody can send it requests any more, or until it dies.
async fn drive(
    app: &Weak<App>,
    mut instance: Instance,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    open: &mut Vec<Weak<Exchange>>,
) -> Result<()> {
    let Proxy::P3(service) = &instance.proxy else {
        return Ok(());
    };
    let store = &mut instance.store;
    let ended = store
        .run_concurrent(async |accessor| {
            let mut calls = FuturesUnordered::new();
            loop {
                tokio::select! {
                    job = jobs.recv() => {
                        let (Some(job), Some(app)) = (job, app.upgrade()) else { return Ok(()) };
                        open.retain(|e| e.strong_count() > 0);
                        open.push(Arc::downgrade(&job.exchange));
                        let (request, sent) = accessor.with(|mut store| {
                            arm(&mut store, &app.program, None, !calls.is_empty())?;
                            wasmtime::error::Ok(request3(store.data_mut(), job.request, job.authority))
                        })?;
                        calls.push(async move {
                            answer3(accessor, service, request, sent, &job.exchange).await?;
                            let _ = job.done.send(());
                            wasmtime::error::Ok(())
                        });
                    }
                    Some(called) = calls.next() => called?,
                }
            }
        })
        .await
        .flatten();
    if ended.is_err() {
        // the bodies must know before the Store and with it their other ends are gone
        open.iter().filter_map(Weak::upgrade).for_each(|e| e.fail());
    }
    ended.map_err(|e| instance.store.data().meter.explain(e))
}
