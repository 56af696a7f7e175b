//! From a plan to a running program. On Linux the child borrows the host's memory until its `exec`, as in
//! `posix_spawn`: a host of any size is not copied, and what fails is simply written down. Elsewhere it is a fork.
//!
//! Between the two only async-signal-safe calls are made, on what was allocated before.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// What is executed.
pub enum Program {
    Path(CString),
    /// The very file, whatever its path names by now. It must not be a script: its interpreter could not open it.
    #[cfg(target_os = "linux")]
    Opened(OwnedFd),
}

/// Where it begins.
pub enum Folder {
    Path(CString),
    Opened(OwnedFd),
}

/// What holds a program besides what it is given.
#[derive(Default)]
pub struct Bounds {
    /// Limits by their number, soft and hard alike.
    pub limits: Vec<(c_int, u64)>,
    /// Whether descriptor 0 becomes its controlling terminal.
    pub terminal: bool,
    /// Whether nothing that it executes gains rights by it, as set-user-ID programs would.
    pub no_new_privileges: bool,
    /// A landlock ruleset.
    #[cfg(target_os = "linux")]
    pub ruleset: Option<OwnedFd>,
    /// Seccomp filters.
    #[cfg(target_os = "linux")]
    pub filters: Vec<Vec<libc::sock_filter>>,
}

/// Everything that the child needs, allocated.
pub struct Plan {
    program: Program,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: Folder,
    fds: Vec<OwnedFd>,
    watchdog: Option<OwnedFd>,
    bounds: Bounds,
    host: libc::pid_t,
    /// Descriptors end below it, where the system cannot close all at once.
    open_max: RawFd,
    /// The errno of what failed in the child.
    failure: AtomicI32,
}

impl Plan {
    /// `fds[n]` becomes descriptor `n`. `watchdog` is told of the process group when it comes.
    pub fn new(
        program: Program,
        argv: Vec<CString>,
        env: Vec<CString>,
        cwd: Folder,
        fds: Vec<OwnedFd>,
        watchdog: Option<OwnedFd>,
        bounds: Bounds,
    ) -> Self {
        let open_max = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
        Plan {
            program,
            argv,
            env,
            cwd,
            fds,
            watchdog,
            bounds,
            host: unsafe { libc::getpid() },
            open_max: open_max.clamp(256, 1 << 16) as RawFd,
            failure: AtomicI32::new(0),
        }
    }

    fn watchdog(&self) -> Option<RawFd> {
        self.watchdog.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Moves what the child uses after its own descriptors are in place out of their way.
    fn clear(&mut self) -> io::Result<()> {
        let least = self.fds.len() as RawFd;
        let away = |fd: &mut OwnedFd| -> io::Result<()> {
            if fd.as_raw_fd() < least {
                *fd = match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) } {
                    -1 => return Err(io::Error::last_os_error()),
                    moved => unsafe { OwnedFd::from_raw_fd(moved) },
                };
            }
            Ok(())
        };
        #[cfg(target_os = "linux")]
        {
            if let Program::Opened(fd) = &mut self.program {
                away(fd)?;
            }
            if let Some(fd) = &mut self.bounds.ruleset {
                away(fd)?;
            }
        }
        if let Folder::Opened(fd) = &mut self.cwd {
            away(fd)?;
        }
        Ok(())
    }
}

/// What `exec` reads: pointers that end with a null.
struct Pointers {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

fn pointers(of: &[CString]) -> Vec<*const c_char> {
    of.iter().map(|text| text.as_ptr()).chain([null()]).collect()
}

/// Why a plan was not started.
#[derive(Debug)]
pub enum Unstarted {
    /// This process was forked from the one that started the first child.
    Forked,
    System(io::Error),
}

impl From<io::Error> for Unstarted {
    fn from(error: io::Error) -> Self {
        Unstarted::System(error)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Starts a plan, and calls `then` with the number of its process or why there is none.
///
/// One thread, which never ends, starts them all: Linux kills a child whose death signal is set when the *thread* that
/// made it is gone. `then` runs on it and must not wait.
pub fn start(
    plan: Plan,
    then: impl FnOnce(io::Result<libc::pid_t>) + Send + 'static,
) -> Result<(), Unstarted> {
    static SPAWNER: OnceLock<(u32, Mutex<Sender<Job>>)> = OnceLock::new();
    let (owner, spawner) = match SPAWNER.get() {
        Some(known) => known,
        None => {
            let (sender, jobs) = channel::<Job>();
            let thread = thread::Builder::new()
                .name("loop-spawner".into())
                .stack_size(128 << 10);
            thread.spawn(move || jobs.iter().for_each(|job| job()))?;
            // Of two that came at once, the other's thread ends with its channel, having started nothing.
            SPAWNER.get_or_init(|| (std::process::id(), Mutex::new(sender)))
        }
    };
    if *owner != std::process::id() {
        return Err(Unstarted::Forked);
    }
    let job: Job = Box::new(move || then(launch(plan)));
    let spawner = spawner.lock().unwrap_or_else(PoisonError::into_inner);
    spawner.send(job).expect("the thread never ends");
    Ok(())
}

/// The same, for those who wait.
pub fn start_now(plan: Plan) -> Result<libc::pid_t, Unstarted> {
    let (reply, answer) = channel();
    start(plan, move |pid| drop(reply.send(pid)))?;
    Ok(answer.recv().expect("each job is answered")?)
}

fn launch(mut plan: Plan) -> io::Result<libc::pid_t> {
    plan.clear()?;
    let plan = &plan;
    let pointers = Pointers {
        argv: pointers(&plan.argv),
        env: pointers(&plan.env),
    };
    // No handler of the host may run in a child that shares its memory.
    let mut before = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    let pid = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pid = begin(plan, &pointers);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, null_mut());
        pid?
    };
    match plan.failure.load(Ordering::Acquire) {
        0 => Ok(pid),
        failure => {
            forget(plan.watchdog(), pid);
            unsafe { libc::waitpid(pid, null_mut(), 0) };
            Err(io::Error::from_raw_os_error(failure))
        }
    }
}

/// A script for a shell: reads `+ GROUP` and `- GROUP`, a line each, from its standard input, and kills the groups that
/// are left at its end. Those who have more to do then write it after this.
pub const WATCHDOG: &str = r#"trap '' HUP INT QUIT TERM
groups=' '
while read -r what group; do
  case $what in
    +) groups="$groups$group " ;;
    -) case $groups in *" $group "*) ;; *) continue ;; esac
       groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
  esac
done
# `kill` is the shell's own; the `--` that POSIX allows before a negative number is not taken by every shell.
for group in $groups; do kill -9 "-$group"; done 2>/dev/null
"#;

/// Tells the watchdog that a group is gone, while its number still cannot be another's.
pub fn forget(watchdog: Option<RawFd>, pid: libc::pid_t) {
    if let Some(watchdog) = watchdog {
        tell(watchdog, format!("- {pid}\n").as_bytes());
    }
}

fn tell(watchdog: RawFd, line: &[u8]) -> bool {
    #[cfg(target_os = "linux")]
    const FLAGS: c_int = libc::MSG_NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: c_int = 0; // Python ignores SIGPIPE
    unsafe { libc::send(watchdog, line.as_ptr().cast(), line.len(), FLAGS) != -1 }
}

#[cfg(target_os = "linux")]
unsafe fn begin(plan: &Plan, pointers: &Pointers) -> io::Result<libc::pid_t> {
    extern "C" fn child(given: *mut libc::c_void) -> c_int {
        let (plan, pointers) = unsafe { *given.cast::<(&Plan, &Pointers)>() };
        let failure = unsafe { become_program(plan, pointers) };
        plan.failure.store(failure, Ordering::Release);
        127
    }
    let mut stack = vec![0_u128; 4096]; // aligned, and far more than the calls need
    let mut given = (plan, pointers);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end.cast();
    match unsafe { libc::clone(child, top, flags, (&raw mut given).cast()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn begin(plan: &Plan, pointers: &Pointers) -> io::Result<libc::pid_t> {
    use std::io::{Read, Write};
    let (mut reader, mut writer) = io::pipe()?; // closed on exec
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => unsafe {
            let failure = become_program(plan, pointers);
            let _ = writer.write_all(&failure.to_ne_bytes());
            libc::_exit(127)
        },
        pid => {
            drop(writer);
            let mut failure = [0; 4];
            if reader.read_exact(&mut failure).is_ok() {
                plan.failure.store(i32::from_ne_bytes(failure), Ordering::Release);
            }
            Ok(pid)
        }
    }
}

/// In the child; returns only with the errno of what failed.
unsafe fn become_program(plan: &Plan, pointers: &Pointers) -> c_int {
    unsafe {
        if libc::setsid() == -1 {
            return errno();
        }
        if let Some(watchdog) = plan.watchdog() {
            // Told before there is a program that could start others.
            let mut line = [0; 16];
            let length = registration(libc::getpid(), &mut line);
            if !tell(watchdog, &line[..length]) {
                return errno();
            }
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return errno();
            }
            if libc::getppid() != plan.host {
                return libc::ESRCH; // the host died in between, and no signal will come
            }
        }
        default_signals();
        let entered = match &plan.cwd {
            Folder::Path(path) => libc::chdir(path.as_ptr()),
            Folder::Opened(folder) => libc::fchdir(folder.as_raw_fd()),
        };
        if entered == -1 || !place(&plan.fds) {
            return errno();
        }
        let bounds = &plan.bounds;
        if bounds.terminal && libc::ioctl(0, libc::TIOCSCTTY as _, 0) == -1 {
            return errno();
        }
        close_others(plan.fds.len() as RawFd, plan.open_max);
        if !bound(bounds) {
            return errno();
        }
        let (argv, env) = (pointers.argv.as_ptr(), pointers.env.as_ptr());
        match &plan.program {
            Program::Path(path) => {
                libc::execve(path.as_ptr(), argv, env);
            }
            #[cfg(target_os = "linux")]
            Program::Opened(file) => {
                let here = c"".as_ptr();
                let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
                libc::syscall(libc::SYS_execveat, fd, here, argv, env, flags);
            }
        }
        errno()
    }
}

/// Applies what holds the program from here on; false with `errno` set where that fails.
unsafe fn bound(bounds: &Bounds) -> bool {
    unsafe {
        for (limit, most) in &bounds.limits {
            let both = libc::rlimit {
                rlim_cur: *most as libc::rlim_t,
                rlim_max: *most as libc::rlim_t,
            };
            if libc::setrlimit(*limit as _, &both) == -1 {
                return false;
            }
        }
        #[cfg(target_os = "linux")]
        {
            let none: libc::c_ulong = 0;
            let one: libc::c_ulong = 1;
            if bounds.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, none, none, none) == -1
            {
                return false;
            }
            if let Some(ruleset) = &bounds.ruleset
                && libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) == -1
            {
                return false;
            }
            for filter in &bounds.filters {
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_ptr().cast_mut(),
                };
                let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
                if libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, none, none) == -1 {
                    return false;
                }
            }
        }
        true
    }
}

/// What the host ignores (Python: SIGPIPE) the program would ignore too, and none is held back.
unsafe fn default_signals() {
    unsafe {
        // Real-time signals too. The C library keeps 32 and 33 to itself and would refuse to set them, though whoever
        // started the host may have had them ignored; an action of zeros is the default one.
        #[cfg(target_os = "linux")]
        for signal in 1..=64 {
            let action = [0_u64; 8];
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), null::<u64>(), 8);
        }
        #[cfg(not(target_os = "linux"))]
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, null_mut());
    }
}

/// Makes `fds[n]` descriptor `n`: first all out of the way, so that none is overwritten before it is copied.
unsafe fn place(fds: &[OwnedFd]) -> bool {
    let free = fds.len() as RawFd;
    let mut moved = [-1; 8];
    let Some(moved) = moved.get_mut(..fds.len()) else {
        unsafe { set_errno(libc::EMFILE) };
        return false;
    };
    for (fd, moved) in fds.iter().zip(moved.iter_mut()) {
        *moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, free) };
        if *moved == -1 {
            return false;
        }
    }
    (0..)
        .zip(moved.iter())
        .all(|(number, fd)| unsafe { libc::dup2(*fd, number) } != -1)
}

/// Lets no descriptor from `first` on through `exec`, also none that was opened without that mark.
unsafe fn close_others(first: RawFd, open_max: RawFd) {
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        for fd in first..open_max {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Writes `+ PID` and a line end, without a formatter; returns the length.
fn registration(pid: libc::pid_t, line: &mut [u8; 16]) -> usize {
    let (mut digits, mut rest, mut count) = ([0; 12], pid, 0);
    while rest > 0 {
        digits[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    line[..2].copy_from_slice(b"+ ");
    for (place, digit) in line[2..].iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    line[2 + count] = b'\n';
    3 + count
}

#[cfg(target_os = "linux")]
unsafe fn errno_place() -> *mut c_int {
    unsafe { libc::__errno_location() }
}

#[cfg(not(target_os = "linux"))]
unsafe fn errno_place() -> *mut c_int {
    unsafe { libc::__error() }
}

unsafe fn errno() -> c_int {
    unsafe { *errno_place() }
}

unsafe fn set_errno(value: c_int) {
    unsafe { *errno_place() = value }
}
