//! The process that ends the groups of programs when the host is killed: a shell that reads which groups come and go.
//!
//! It is there while a provider is, and has a group of its own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::launch::{Bounds, Folder, Plan, Program, Unstarted, WATCHDOG, start_now};

const SHELL: &str = "/bin/sh";

pub(super) struct Watchdog {
    socket: OwnedFd,
    pid: Pid,
}

impl Watchdog {
    /// The one that runs, or a new one.
    pub fn running() -> Result<Arc<Self>, Unstarted> {
        static CURRENT: Mutex<Weak<Watchdog>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        // One that somebody killed is replaced.
        if let Some(found) = current.upgrade().filter(|w| w.runs()) {
            return Ok(found);
        }
        let made = Arc::new(Watchdog::start()?);
        *current = Arc::downgrade(&made);
        Ok(made)
    }

    fn start() -> Result<Self, Unstarted> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(io::Error::from)?;
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let text = |text: &str| CString::new(text).expect("no NUL");
        let plan = Plan::new(
            Program::Path(text(SHELL)),
            [SHELL, "-c", WATCHDOG].map(text).into(),
            vec![text("PATH=/usr/bin:/bin")],
            Folder::Path(text("/")),
            vec![theirs, null.try_clone()?.into(), null.into()],
            None,
            Bounds::default(),
        );
        let pid = start_now(plan)?;
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Watchdog { socket, pid })
    }

    fn runs(&self) -> bool {
        matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None))
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn copy(&self) -> io::Result<OwnedFd> {
        BorrowedFd::try_clone_to_owned(&unsafe { BorrowedFd::borrow_raw(self.fd()) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // All groups are gone that it was told of, or it would not be dropped.
        if self.runs() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}
