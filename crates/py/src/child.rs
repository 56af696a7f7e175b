//! Child processes that end with the host, whatever ends it.
//!
//! Linux kills the child itself, see [`loop_native::launch`]. What it started in turn is in its process group, and a
//! watchdog (see `placements/_watchdog.py`) kills the groups it was told of when the host's end of a socket closes.

use std::ffi::{CString, OsString};
use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex};
use std::thread;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::errors;
use crate::hub::lock;
use loop_native::launch::{Bounds, Folder, Plan, Program, Unstarted, forget, start_now};

/// A child process, in a session and process group of its own. The group is killed when this is dropped, but for the
/// watchdog, which ends by itself.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Child {
    pid: i32,
    watched: bool,
    state: Arc<Mutex<State>>,
    /// At its end when the process has ended.
    ended: PipeReader,
}

enum State {
    Running,
    /// What `waitpid` said; nothing may be sent to the process any more, whose number may be another's.
    Reaped(i32),
    /// Something else in the host has reaped it.
    Lost,
}

#[pymethods]
impl Child {
    /// Starts `argv` with nothing but `env`, and with `fds[n]` as its descriptor `n`; it has no others.
    ///
    /// `watchdog` is a stream socket that is told of the process group when it comes and goes, and asks for the
    /// process to be killed with the host; None for the watchdog itself.
    ///
    /// Raises OSError where it cannot be started, ForkError in a fork of the process that started the first one.
    #[staticmethod]
    #[pyo3(signature = (program, argv, env, cwd, fds, watchdog=None))]
    fn spawn(
        py: Python<'_>,
        program: OsString,
        argv: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        cwd: OsString,
        fds: Vec<RawFd>,
        watchdog: Option<RawFd>,
    ) -> PyResult<Self> {
        let nul = |_| PyValueError::new_err("a NUL in an argument, a variable or a path");
        let text = |text: OsString| CString::new(text.into_vec()).map_err(nul);
        let pair = |(name, value): (OsString, OsString)| text([name, value].join("=".as_ref()));
        let kept = watchdog.map(keep).transpose()?;
        let plan = Plan::new(
            Program::Path(text(program)?),
            argv.into_iter().map(text).collect::<PyResult<_>>()?,
            env.into_iter().map(pair).collect::<PyResult<_>>()?,
            Folder::Path(text(cwd)?),
            fds.into_iter().map(keep).collect::<io::Result<_>>()?,
            watchdog.map(keep).transpose()?,
            Bounds::default(),
        );
        let (pid, ended, state) = py
            .detach(|| {
                let (ended, end) = io::pipe()?;
                let pid = start_now(plan)?;
                let state = Arc::new(Mutex::new(State::Running));
                let waiting = (state.clone(), kept);
                let waiter = move || {
                    let (state, kept) = waiting;
                    wait(pid, &state, raw(&kept));
                    drop(end);
                };
                if let Err(e) = named("loop-child", waiter) {
                    // No thread is left to wait with.
                    kill(-pid, libc::SIGKILL);
                    wait(pid, &state, watchdog);
                    return Err(Unstarted::System(e));
                }
                Ok((pid, ended, state))
            })
            .map_err(|e| unstarted(py, e))?;
        Ok(Child {
            pid,
            watched: watchdog.is_some(),
            state,
            ended,
        })
    }

    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable, at its end, once the process has ended and been reaped.
    fn fileno(&self) -> RawFd {
        self.ended.as_raw_fd()
    }

    /// Sends a signal to the whole group; False where the process has ended, which takes its group with it.
    fn signal(&self, number: i32) -> bool {
        let state = lock(&self.state);
        matches!(*state, State::Running) && kill(-self.pid, number)
    }

    /// `(code, None)` or `(None, signal)` once the process has ended; two None where the host itself reaped it.
    fn exit(&self) -> Option<(Option<i32>, Option<i32>)> {
        match *lock(&self.state) {
            State::Running => None,
            State::Lost => Some((None, None)),
            State::Reaped(status) if libc::WIFSIGNALED(status) => Some((None, Some(libc::WTERMSIG(status)))),
            State::Reaped(status) => Some((Some(libc::WEXITSTATUS(status)), None)),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.watched {
            self.signal(libc::SIGKILL);
        }
    }
}

fn unstarted(py: Python<'_>, error: Unstarted) -> PyErr {
    match error {
        Unstarted::System(error) => of_system(error),
        Unstarted::Forked => errors::raise(
            py,
            "ForkError",
            ("this process was forked from one that had sidecars",),
        ),
    }
}

fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // They do little, and there is one for each child.
    let thread = thread::Builder::new().name(name.into()).stack_size(128 << 10);
    thread.spawn(work).map(drop)
}

/// As Python's own functions raise it: the number, and its text alone.
fn of_system(error: io::Error) -> PyErr {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((error.raw_os_error(), text))
}

/// A copy of a descriptor that Python may close at any time.
fn keep(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

fn kill(pid: i32, signal: i32) -> bool {
    unsafe { libc::kill(pid, signal) == 0 }
}

fn raw(fd: &Option<OwnedFd>) -> Option<RawFd> {
    fd.as_ref().map(AsRawFd::as_raw_fd)
}

/// Waits for the end of a process, ends what is left of its group, and reaps it.
fn wait(pid: i32, state: &Mutex<State>, watchdog: Option<RawFd>) {
    let found = ended(pid);
    let mut state = lock(state);
    if found {
        // Until it is reaped its number is its own, and its group's.
        kill(-pid, libc::SIGKILL);
    }
    forget(watchdog, pid);
    let mut status = 0;
    let reaped = found && unsafe { libc::waitpid(pid, &mut status, 0) } == pid;
    *state = if reaped {
        State::Reaped(status)
    } else {
        State::Lost
    };
}

/// Returns when the process has ended and is still there to be reaped; False if it is not.
fn ended(pid: i32) -> bool {
    loop {
        let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
        let end = libc::WEXITED | libc::WNOWAIT;
        if unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, end) } == 0 {
            return true;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return false;
        }
    }
}
