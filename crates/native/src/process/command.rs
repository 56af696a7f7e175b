//! From what a component asks for to a process: everything about it is checked here.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Result as Answer, Value};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::code::ErrorCode;
use super::grant::{Policy, Program};
use super::pipe::Pipe;
use super::running::Running;
use super::watchdog::Watchdog;
use crate::launch::{self, Bounds, Folder, Plan, Unstarted, start};
use crate::value::{args, items, string};

/// The record `command`.
pub(super) struct Command {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<(String, String)>,
    timeout: Option<Duration>,
}

impl Command {
    pub fn of(value: Value) -> Answer<Self> {
        let [program, list, env, cwd, timeout] = args(items(value)?)?;
        let pair = |v| {
            let [a, b] = args(items(v)?)?;
            Ok((string(a)?, string(b)?))
        };
        Ok(Command {
            program: string(program)?,
            args: items(list)?.into_iter().map(string).collect::<Answer<_>>()?,
            env: items(env)?.into_iter().map(pair).collect::<Answer<_>>()?,
            cwd: given(cwd)?.map(pair).transpose()?,
            timeout: given(timeout)?
                .map(|v| v.as_u64().map(Duration::from_nanos))
                .transpose()?,
        })
    }
}

/// What an option has.
pub(super) fn given(option: Value) -> Answer<Option<Value>> {
    match option {
        Value::Case(_, payload) => Ok(payload.map(|v| *v)),
        other => Err(loop_engine::Mismatch::new("an option", format!("{other:?}")).into()),
    }
}

/// Starts the programs of one link.
pub(super) struct Starter {
    pub policy: Policy,
    pub io: Handle,
    pub children: Arc<Semaphore>,
}

/// A program that was started; its group is killed when this is dropped.
pub(super) struct Leader(pub Arc<Running>);

impl Drop for Leader {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// Its standard streams, on this side.
pub(super) struct Streams {
    pub stdin: Pipe,
    pub stdout: Pipe,
    /// None of a terminal.
    pub stderr: Option<Pipe>,
    /// The terminal, to be resized.
    pub terminal: Option<OwnedFd>,
}

impl Starter {
    /// Starts a program with pipes, or in a terminal of this size.
    pub async fn start(
        &self,
        command: Command,
        terminal: Option<Winsize>,
    ) -> Result<(Leader, Streams), ErrorCode> {
        let Some(program) = self.policy.programs.get(&command.program) else {
            let key = format!("no key `grant.programs.{}`", shown(&command.program));
            return Err(ErrorCode::NotPermitted(key));
        };
        let argv = self.argv(program, &command)?;
        let env = self.env(program, &command)?;
        let cwd = self.folder(command.cwd.as_ref())?;
        let lifetime = self.policy.max_lifetime;
        let lifetime = command.timeout.map_or(lifetime, |t| t.min(lifetime));
        let permit = self
            .children
            .clone()
            .try_acquire_owned()
            .map_err(|_| ErrorCode::Quota)?;
        let watchdog = Watchdog::running().map_err(unstarted)?;
        let (theirs, streams) = {
            let _within = self.io.enter();
            match terminal {
                None => pipes()?,
                Some(size) => terminals(size)?,
            }
        };
        let bounds = Bounds {
            limits: program.limits.clone(),
            terminal: terminal.is_some(),
            no_new_privileges: program.confined,
            ruleset: program.ruleset.as_ref().map(OwnedFd::try_clone).transpose()?,
            filters: program.filters.clone(),
        };
        let file = launch::Program::Opened(program.file.try_clone()?);
        let plan = Plan::new(file, argv, env, cwd, theirs, Some(watchdog.copy()?), bounds);
        let (reply, started) = oneshot::channel();
        let io = self.io.clone();
        let then = move |pid: std::io::Result<i32>| {
            let _within = io.enter();
            // Whoever has given up meanwhile drops it, and so ends it.
            let made = pid.and_then(|pid| Running::new(pid, watchdog, lifetime, permit));
            drop(reply.send(made.map(Leader)));
        };
        start(plan, then).map_err(unstarted)?;
        let ended = |_| ErrorCode::Other("the host is ending".into());
        Ok((started.await.map_err(ended)??, streams))
    }

    fn argv(&self, program: &Program, command: &Command) -> Result<Vec<CString>, ErrorCode> {
        let given = command.args.iter().map(|a| CString::new(a.as_str()));
        let given = given
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ErrorCode::Invalid)?;
        if command.args.iter().any(|a| a.len() > LONGEST) {
            return Err(ErrorCode::Invalid);
        }
        if !program.forms.iter().any(|form| form.takes(&command.args)) {
            let name = shown(&command.program);
            let args = shown(&format!("{:?}", command.args));
            let problem = format!("no form of `grant.programs.{name}.args` takes {args}");
            return Err(ErrorCode::NotPermitted(problem));
        }
        let own = std::iter::once(&program.argv0).chain(&program.fixed).cloned();
        Ok(own.chain(given).collect())
    }

    fn env(&self, program: &Program, command: &Command) -> Result<Vec<CString>, ErrorCode> {
        let mut all = program.set.clone();
        for (name, value) in &command.env {
            if !program.env.contains(name) {
                let key = format!("grant.programs.{}.env", shown(&command.program));
                return Err(ErrorCode::NotPermitted(format!(
                    "`{key}` does not have `{}`",
                    shown(name)
                )));
            }
            all.insert(name.clone(), value.clone());
        }
        let pair = |(name, value)| CString::new(format!("{name}={value}"));
        all.into_iter()
            .map(pair)
            .collect::<Result<_, _>>()
            .map_err(|_| ErrorCode::Invalid)
    }

    fn folder(&self, cwd: Option<&(String, String)>) -> Result<Folder, ErrorCode> {
        let Some((root, path)) = cwd else {
            return Ok(Folder::Path(c"/".into()));
        };
        let Some(dir) = self.policy.roots.get(root) else {
            return Err(ErrorCode::NotPermitted(format!(
                "no key `grant.roots.{}`",
                shown(root)
            )));
        };
        if path.is_empty() || path.contains('\0') {
            return Err(ErrorCode::Invalid);
        }
        if path.starts_with('/') {
            return Err(ErrorCode::NotPermitted("the path leads out of its root".into()));
        }
        Ok(Folder::Opened(
            dir.open_dir(Path::new(path))?.into_std_file().into(),
        ))
    }
}

/// Bytes of one argument, as Linux has it.
const LONGEST: usize = (128 << 10) - 1;

/// Text of a component for a message: not for longer than anybody reads.
fn shown(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

fn unstarted(e: Unstarted) -> ErrorCode {
    match e {
        Unstarted::Forked => {
            ErrorCode::Other("this process was forked from one that had started programs".into())
        }
        Unstarted::System(e) => e.into(),
    }
}

fn pipes() -> Result<(Vec<OwnedFd>, Streams), ErrorCode> {
    let (stdin, to) = pipe_with(PipeFlags::CLOEXEC)?;
    let (of, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (errors, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let streams = Streams {
        stdin: Pipe::new(to)?,
        stdout: Pipe::new(of)?,
        stderr: Some(Pipe::new(errors)?),
        terminal: None,
    };
    Ok((vec![stdin, stdout, stderr], streams))
}

fn terminals(size: Winsize) -> Result<(Vec<OwnedFd>, Streams), ErrorCode> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(ours.as_fd(), flags)?;
    tcsetwinsize(&ours, size)?;
    let streams = Streams {
        stdin: Pipe::new(ours.try_clone()?)?,
        stdout: Pipe::new(ours.try_clone()?)?,
        stderr: None,
        terminal: Some(ours),
    };
    Ok((vec![theirs.try_clone()?, theirs.try_clone()?, theirs], streams))
}
