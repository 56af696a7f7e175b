//! Threads that accept and serve, from the first connection to the last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use wasmtime::Result;
use wasmtime::error::Context as _;

use super::conn::{Connection, Responder, connection};
use super::exchange::App;
use super::{ServeOptions, batch};
use crate::hold::Hold;
use crate::program::Program;

/// A server at work. Dropping it stops it at once.
pub struct Server {
    address: SocketAddr,
    app: Arc<ArcSwap<App>>,
    hold: Arc<Hold>,
    control: Arc<Control>,
    /// Closed when the last thread has ended.
    ended: watch::Receiver<()>,
}

struct Control {
    /// No more connections and requests.
    draining: AtomicBool,
    drain: Notify,
    /// From when on there is no more of anything.
    stop: watch::Sender<Option<Instant>>,
    tally: Arc<Tally>,
}

/// Counts what must end before a drained server has ended.
#[derive(Default)]
pub(super) struct Tally {
    count: AtomicUsize,
    empty: Notify,
}

pub(super) struct Counted(Arc<Tally>);

impl Tally {
    pub fn count(this: &Arc<Self>) -> Counted {
        this.count.fetch_add(1, SeqCst);
        Counted(this.clone())
    }

    async fn emptied(&self) {
        let mut empty = pin!(self.empty.notified());
        loop {
            empty.as_mut().enable();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            empty.as_mut().await;
            empty.set(self.empty.notified());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, SeqCst) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

/// Serves a component that exports a `wasi:http` handler of 0.2 or 0.3, on threads of its own.
///
/// Errors when the component exports none, and when the address cannot be listened on.
pub fn serve(program: Arc<Program>, options: ServeOptions) -> Result<Server> {
    let address = options.address;
    let workers = options
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
        .max(1);
    let open = Arc::new(Semaphore::new(options.connections.min(Semaphore::MAX_PERMITS)));
    let app = Arc::new(ArcSwap::from_pointee(App::new(program, options)?));
    let hold = Arc::<Hold>::default();
    let control = Arc::new(Control {
        draining: AtomicBool::new(false),
        drain: Notify::new(),
        stop: watch::Sender::new(None),
        tally: Arc::default(),
    });
    let (ending, ended) = watch::channel(());
    let first = runtime()?;
    let listener = {
        let _entered = first.enter();
        listen(address).with_context(|| format!("cannot listen on {address}"))?
    };
    let server = Server {
        address: listener.local_addr()?,
        app: app.clone(),
        hold: hold.clone(),
        control: control.clone(),
        ended,
    };
    let mut runtimes = vec![first];
    for _ in 1..workers {
        runtimes.push(runtime()?);
    }
    let mut senders = vec![];
    let mut threads = vec![];
    for runtime in runtimes {
        let (sender, receiver) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        senders.push((sender, load.clone()));
        threads.push((
            runtime,
            Worker {
                app: app.clone(),
                hold: hold.clone(),
                control: control.clone(),
                receiver,
                load,
            },
        ));
    }
    let mut accept = Some(accept(listener, senders, open, control.clone()));
    for (i, (runtime, worker)) in threads.into_iter().enumerate() {
        let ending = ending.clone();
        let accept = accept.take();
        let run = move || {
            if let Some(accept) = accept {
                runtime.spawn(accept);
            }
            runtime.block_on(worker.run());
            // a blocking call that hangs must not keep the server from ending
            runtime.shutdown_background();
            drop(ending);
        };
        std::thread::Builder::new()
            .name(format!("loop-http-{i}"))
            .spawn(run)?;
    }
    Ok(server)
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Listens on an address, to which connections of an earlier server may still be open.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // on Windows this would let two servers share the port
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

type Accepted = (std::net::TcpStream, OwnedSemaphorePermit);

/// Gives each connection to the worker that has the fewest.
async fn accept(
    listener: TcpListener,
    workers: Vec<(mpsc::UnboundedSender<Accepted>, Arc<AtomicUsize>)>,
    open: Arc<Semaphore>,
    control: Arc<Control>,
) {
    let accepting = async {
        loop {
            let Ok(permit) = open.clone().acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // the client gave up, or there are too many files open: the next one may do better
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let Ok(stream) = stream.into_std() else { continue };
            let Some((sender, load)) = workers.iter().min_by_key(|(_, load)| load.load(SeqCst)) else {
                return;
            };
            load.fetch_add(1, SeqCst);
            if sender.send((stream, permit)).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = control.drained() => {}
    }
}

struct Worker {
    app: Arc<ArcSwap<App>>,
    hold: Arc<Hold>,
    control: Arc<Control>,
    receiver: mpsc::UnboundedReceiver<Accepted>,
    load: Arc<AtomicUsize>,
}

impl Worker {
    async fn run(mut self) {
        tokio::spawn(batch::flush());
        let mut stop = self.control.stop.subscribe();
        let serving = async {
            while let Some((stream, permit)) = self.receiver.recv().await {
                let Ok(stream) = TcpStream::from_std(stream) else {
                    continue;
                };
                let tally = self.control.tally.clone();
                let responder = Responder {
                    app: self.app.clone(),
                    hold: self.hold.clone(),
                    tally,
                    load: self.load.clone(),
                };
                let control = self.control.clone();
                let load = Load(self.load.clone());
                let counted = Tally::count(&control.tally);
                tokio::spawn(async move {
                    control.carry(connection(stream, responder)).await;
                    drop((permit, load, counted));
                });
            }
            // the acceptor has gone: what is open ends by itself
            self.control.tally.emptied().await;
        };
        let stopped = async {
            let end = stop.wait_for(Option::is_some).await.ok().and_then(|end| *end);
            if let Some(end) = end {
                tokio::time::sleep_until(end).await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = stopped => {}
        }
    }
}

struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Control {
    async fn drained(&self) {
        let mut drain = pin!(self.drain.notified());
        drain.as_mut().enable();
        if !self.draining.load(SeqCst) {
            drain.await;
        }
    }

    /// Serves a connection to its end; once the server drains, to the end of the request at hand.
    async fn carry(&self, connection: Connection) {
        let mut connection = pin!(connection);
        let mut drain = pin!(self.drain.notified());
        let mut watching = false;
        let mut told = false;
        std::future::poll_fn(|cx| {
            if !watching {
                // the task's waker stays the same, so once is enough
                watching = true;
                let _ = drain.as_mut().poll(cx);
            }
            if !told && self.draining.load(SeqCst) {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            // what goes wrong on a connection is its client's affair
            connection.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }

    fn drain(&self) {
        self.draining.store(true, SeqCst);
        self.drain.notify_waiters();
    }
}

impl Server {
    /// The address it listens on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Has another component serve the requests to come; those that have begun end where they are.
    ///
    /// Errors when it exports no handler.
    pub fn exchange(&self, program: Arc<Program>) -> Result<()> {
        let options = self.app.load().options.clone();
        self.app.store(Arc::new(App::new(program, options)?));
        Ok(())
    }

    /// Has the requests to come wait, or go on.
    pub fn hold(&self, on: bool) {
        self.hold.set(on);
    }

    /// Stops accepting, lets what is at work finish for as long as `grace`, and ends. It works at once; the future
    /// is for who wants to wait, on any executor.
    pub fn shutdown(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.control.drain();
        // a grace past the clock's end has no end
        self.control.stop.send_replace(Instant::now().checked_add(grace));
        self.wait()
    }

    /// Waits until the server has ended.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.drain();
        self.control.stop.send_replace(Some(Instant::now()));
    }
}
