//! Sessions over transports that multiplex by themselves: the control stream is a session without invocations, and each
//! invocation is stream 1 of a native stream of its own.

use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::core::{Carries, Core, Request};
use super::driver::{Driver, Guard, Inner, Session, Slot};
use super::handler::Handler;
use super::invocation::{LaneDriver, NativeLane, Server};
use super::lane::{Begun, Way};
use crate::failure::Failure;
use crate::hello::Hello;
use crate::transport::{BoxIo, Native};

/// Begins a session on a native connection that this side made; the future drives it and is to be spawned.
///
/// Errors when the control stream cannot be opened.
pub async fn connect_native(
    native: Arc<dyn Native>,
    ours: Hello,
    handler: Arc<dyn Handler>,
) -> Result<(Session, BoxFuture<'static, Failure>), Failure> {
    let control = native.open().await?;
    Ok(begin(native, control, ours, handler, true))
}

/// The same on a native connection that was made to this side.
///
/// Errors when the connection ends before its control stream is opened.
pub async fn accept_native(
    native: Arc<dyn Native>,
    ours: Hello,
    handler: Arc<dyn Handler>,
) -> Result<(Session, BoxFuture<'static, Failure>), Failure> {
    let control = native.accept().await?;
    Ok(begin(native, control, ours, handler, false))
}

fn begin(
    native: Arc<dyn Native>,
    control: BoxIo,
    ours: Hello,
    handler: Arc<dyn Handler>,
    initiator: bool,
) -> (Session, BoxFuture<'static, Failure>) {
    let mut core = match initiator {
        true => Core::initiator(&ours),
        false => Core::acceptor(ours.limits.clone()),
    };
    core.carry(Carries::Control);
    let way = Box::new(NativeWay(native.clone()));
    let (session, driver) = Session::new(control, core, ours, handler.clone(), !initiator, Some(way));
    let (inner, weak) = (session.shared().clone(), session.downgrade());
    (session, Box::pin(run(native, driver, inner, weak, handler)))
}

/// Drives the control stream and takes the peer's invocations, until the session ends.
async fn run(
    native: Arc<dyn Native>,
    driver: Driver<BoxIo>,
    inner: Arc<Inner>,
    session: Weak<Guard>,
    handler: Arc<dyn Handler>,
) -> Failure {
    let invocations = async {
        // what comes before the WELCOME waits for it
        if inner.ready().await.is_err() {
            return;
        }
        while let Ok(io) = native.accept().await {
            serve(io, &inner, &session, &handler);
        }
    };
    let mut driver = std::pin::pin!(driver);
    // dropped before its end, it takes the connection along
    let closes = Closes(native.clone());
    let why = tokio::select! {
        why = &mut driver => why,
        // the control stream notices by itself that the connection is gone
        () = invocations => driver.await,
    };
    drop(closes);
    why
}

struct Closes(Arc<dyn Native>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close(&Failure::gone("the session is over", true));
    }
}

struct NativeWay(Arc<dyn Native>);

impl Way for NativeWay {
    fn call(&self, inner: &Arc<Inner>, number: u32, request: Request, slot: Slot) -> Begun {
        let mut core = Core::one(true, inner.ours.limits.clone());
        core.call(std::time::Instant::now(), request, slot);
        let lane = Arc::new(NativeLane::new(core));
        let mut driver = LaneDriver::new(lane.clone(), inner.clone(), number, true);
        driver.opening = Some(Box::pin(open(self.0.clone(), inner.clone())));
        (lane, Box::pin(driver))
    }

    fn has_control(&self) -> bool {
        true
    }
}

/// A native stream, once the peer takes another call.
async fn open(native: Arc<dyn Native>, inner: Arc<Inner>) -> Result<(BoxIo, OwnedSemaphorePermit), Failure> {
    inner.ready().await?;
    let room = match &inner.lanes {
        Some(lanes) => lanes.room().await,
        None => None,
    };
    let room = room.ok_or_else(|| inner.gone())?;
    Ok((native.open().await?, room))
}

/// Takes an invocation of the peer's.
fn serve(io: BoxIo, inner: &Arc<Inner>, session: &Weak<Guard>, handler: &Arc<dyn Handler>) {
    let Some((lanes, theirs)) = inner.lanes.as_ref().zip(inner.theirs()) else {
        return;
    };
    let mut core = Core::one(false, inner.ours.limits.clone());
    core.start(&theirs.limits);
    let lane = Arc::new(NativeLane::new(core));
    let (number, served) = lanes.serve(lane.clone());
    let mut driver = LaneDriver::new(lane, inner.clone(), number, false);
    driver.io = Some(io);
    driver.server = Some(Server {
        session: session.clone(),
        handler: handler.clone(),
        crowded: served > inner.ours.limits.calls as usize,
    });
    tokio::spawn(driver);
}
