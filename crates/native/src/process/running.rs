//! A process that runs, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, waitpid};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::code::ErrorCode;
use super::pipe::watched;
use super::watchdog::Watchdog;
use crate::launch::forget;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Exited(i32),
    Signaled(i32),
    TimedOut,
    /// Something else in the host has reaped it.
    Lost,
}

/// A process group that a program leads. It is killed when the program ends, and when its time is over.
pub(super) struct Running {
    pid: Pid,
    watchdog: Arc<Watchdog>,
    /// While it is locked with `None` the group's number is the group's own.
    ended: Mutex<Option<Status>>,
    tell: watch::Sender<bool>,
}

impl Running {
    /// Looks after a process that was just started; within the runtime. `permit` is given back when it has ended.
    ///
    /// A process that cannot be looked after is killed.
    pub fn new(
        pid: i32,
        watchdog: Arc<Watchdog>,
        lifetime: Duration,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Arc<Self>> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        let running = Arc::new(Running {
            pid,
            watchdog,
            ended: Mutex::new(None),
            tell: watch::Sender::new(false),
        });
        // Dropped when the runtime ends before the process, too.
        let kept = Kept(running.clone());
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let handle = watched(handle)?;
        tokio::spawn(async move {
            let timed_out = kept.0.outlives(&handle, lifetime).await;
            if timed_out {
                kept.0.signal(Signal::KILL);
                let _ = handle.readable().await;
            }
            kept.0.reap(timed_out);
            drop(permit);
        });
        Ok(running)
    }

    async fn outlives(&self, handle: &AsyncFd<OwnedFd>, lifetime: Duration) -> bool {
        tokio::time::timeout(lifetime, handle.readable()).await.is_err()
    }

    /// Sends a signal to the whole group; nothing happens where it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = lock(&self.ended);
        if ended.is_none() {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Ends what is left of the group and reaps the process, which has ended or does so now.
    fn reap(&self, timed_out: bool) {
        let mut ended = lock(&self.ended);
        if ended.is_some() {
            return;
        }
        // Until the process is reaped the number is its group's.
        let _ = kill_process_group(self.pid, Signal::KILL);
        forget(Some(self.watchdog.fd()), self.pid.as_raw_nonzero().get());
        let status = loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => break Some(status),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => break None,
            }
        };
        *ended = Some(match status {
            _ if timed_out => Status::TimedOut,
            Some(s) if s.signaled() => Status::Signaled(s.terminating_signal().unwrap_or_default()),
            Some(s) => Status::Exited(s.exit_status().unwrap_or_default()),
            None => Status::Lost,
        });
        drop(ended);
        self.tell.send_replace(true);
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Result<Status, ErrorCode> {
        let _ = self.tell.subscribe().wait_for(|ended| *ended).await;
        match *lock(&self.ended) {
            Some(Status::Lost) | None => Err(ErrorCode::Other("something else in the host reaped it".into())),
            Some(status) => Ok(status),
        }
    }
}

/// Reaps the process at the latest when it is dropped.
struct Kept(Arc<Running>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.reap(false);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
