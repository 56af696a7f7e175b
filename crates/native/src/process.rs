//! `loop:process`: programs that a grant names, started and held as it says.
//!
//! Config: none. Grant: `{ programs: { NAME: { path, … } }, roots, max-children, max-output, max-lifetime }`, see
//! [`grant`]. Linux only.

mod code;
mod command;
mod confine;
mod grant;
pub(crate) mod pattern;
mod pipe;
mod program;
mod running;
mod watchdog;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use loop_engine::{Import, Result, Value};
use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value as Json;
use tokio::sync::Semaphore;

use self::code::ErrorCode;
use self::command::{Command, Leader, Starter, Streams, given};
pub use self::confine::Confinement;
use self::pipe::{Collected, Pipe};
use self::running::Status;
use crate::error::{NoConfig, settings};
use crate::value::{args, reader, stream};
use crate::{Capability, HostServices, Level, Provider, ProviderError, Record};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "process",
    interfaces: &["loop:process/commands@0.1.0", "loop:process/children@0.1.0"],
    provide,
};

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let NoConfig {} = settings("config", config)?;
    let policy = grant::policy(grant, Confinement::here())?;
    if let Some((programs, lacking)) = &policy.lacking {
        host.observer.log(Record {
            level: Level::Warn,
            target: "loop.process".into(),
            message: format!(
                "{} may touch more than the grant says: this kernel lacks {}",
                programs.join(", "),
                lacking.join(" and ")
            ),
            fields: vec![],
            shortened: false,
            trace: None,
        });
    }
    let names: Vec<String> = policy.programs.keys().cloned().collect();
    let children = Arc::new(Semaphore::new(policy.max_children.min(Semaphore::MAX_PERMITS)));
    let starter = Arc::new(Starter {
        policy,
        io: host.io,
        children,
    });
    let spawner = starter.clone();
    let functions = [
        (
            "commands#programs",
            Import::now(move |_| {
                let all = names.iter().map(|name| Value::string(name.as_str()));
                Ok(Some(Value::List(all.collect())))
            }),
        ),
        (
            "commands#run",
            Import::later(move |a| {
                let starter = starter.clone();
                async move {
                    let [command, stdin] = args(a)?;
                    let command = Command::of(command)?;
                    answer(run(&starter, command, stdin.as_bytes()?).await)
                }
            }),
        ),
        (
            "children#spawn",
            Import::later(move |a| {
                let starter = spawner.clone();
                async move {
                    let [command, terminal] = args(a)?;
                    let size = given(terminal)?.map(size).transpose()?;
                    let started = starter.start(Command::of(command)?, size).await;
                    answer(started.map(|(leader, streams)| Value::host(Child::new(leader, streams))))
                }
            }),
        ),
        (
            "children#[method]child.stdin",
            Import::later(|a| async move {
                let [child, data] = args(a)?;
                // Nothing here may keep the child alive.
                let pipe = take(&child.as_host::<Child>()?.stdin);
                drop(child);
                let data = reader(data)?;
                let Some(pipe) = pipe else {
                    return answer(Err(ErrorCode::Busy));
                };
                nothing(pipe.write_all_of(data).await)
            }),
        ),
        (
            "children#[method]child.stdout",
            Import::now(|a| {
                let [child] = args(a)?;
                let child = child.as_host::<Child>()?;
                answer(take(&child.stdout).map(stream).ok_or(ErrorCode::Busy))
            }),
        ),
        (
            "children#[method]child.stderr",
            Import::now(|a| {
                let [child] = args(a)?;
                let child = child.as_host::<Child>()?;
                let code = if child.terminal.is_some() {
                    ErrorCode::Unsupported
                } else {
                    ErrorCode::Busy
                };
                answer(take(&child.stderr).map(stream).ok_or(code))
            }),
        ),
        (
            "children#[method]child.wait",
            Import::later(|a| async move {
                let [child] = args(a)?;
                let running = child.as_host::<Child>()?.leader.0.clone();
                drop(child);
                answer(running.wait().await.map(status))
            }),
        ),
        (
            "children#[method]child.signal",
            Import::now(|a| {
                let [child, which] = args(a)?;
                let Value::Case(case, None) = which else {
                    return Err(loop_engine::Mismatch::new("signal", format!("{which:?}")).into());
                };
                child.as_host::<Child>()?.leader.0.signal(SIGNALS[case]);
                nothing(Ok(()))
            }),
        ),
        (
            "children#[method]child.resize",
            Import::now(|a| {
                let [child, new] = args(a)?;
                let child = child.as_host::<Child>()?;
                let new = size(new)?;
                nothing(match &child.terminal {
                    Some(terminal) => tcsetwinsize(terminal, new).map_err(Into::into),
                    None => Err(ErrorCode::Unsupported),
                })
            }),
        ),
    ];
    Ok(Provider {
        interfaces: CAPABILITY.interfaces,
        functions: functions.into(),
    })
}

/// In the order of the WIT.
const SIGNALS: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::KILL,
    Signal::USR1,
    Signal::USR2,
    Signal::STOP,
    Signal::CONT,
];

/// The resource `child`. Its group is killed with it.
struct Child {
    leader: Leader,
    stdin: Mutex<Option<Pipe>>,
    stdout: Mutex<Option<Pipe>>,
    stderr: Mutex<Option<Pipe>>,
    terminal: Option<std::os::fd::OwnedFd>,
}

impl Child {
    fn new(leader: Leader, streams: Streams) -> Self {
        Child {
            leader,
            stdin: Mutex::new(Some(streams.stdin)),
            stdout: Mutex::new(Some(streams.stdout)),
            stderr: Mutex::new(streams.stderr),
            terminal: streams.terminal,
        }
    }
}

fn take(pipe: &Mutex<Option<Pipe>>) -> Option<Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner).take()
}

async fn run(starter: &Starter, command: Command, input: &[u8]) -> Result<Value, ErrorCode> {
    let limit = starter.policy.max_output;
    let (leader, streams) = starter.start(command, None).await?;
    let stdin = streams.stdin;
    let mut stdout = Collected::new(streams.stdout, limit);
    let mut stderr = Collected::new(streams.stderr.ok_or(ErrorCode::Unsupported)?, limit);
    let status = {
        // A program need not read what it is given.
        let feed = async move {
            let _ = stdin.write(input).await;
        };
        let mut feed = pin!(async {
            feed.await;
            Ok(())
        });
        let (mut out, mut err) = (pin!(stdout.fill()), pin!(stderr.fill()));
        let mut wait = pin!(leader.0.wait());
        let mut done = [false; 3];
        std::future::poll_fn(|cx| {
            let each: [Pin<&mut dyn Future<Output = Result<(), ErrorCode>>>; 3] =
                [feed.as_mut(), out.as_mut(), err.as_mut()];
            for (future, done) in each.into_iter().zip(&mut done) {
                if !*done && let Poll::Ready(result) = future.poll(cx) {
                    result?;
                    *done = true;
                }
            }
            wait.as_mut().poll(cx)
        })
        .await?
    };
    // What left the group may hold the pipes open; what there is was written before the program ended.
    stdout.drain()?;
    stderr.drain()?;
    Ok(Value::Fields(vec![
        self::status(status),
        Value::bytes(stdout.bytes),
        Value::bytes(stderr.bytes),
    ]))
}

fn size(v: Value) -> Result<Winsize> {
    let [columns, rows] = args(crate::value::items(v)?)?;
    Ok(Winsize {
        ws_col: columns.as_u64()? as u16,
        ws_row: rows.as_u64()? as u16,
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}

fn status(status: Status) -> Value {
    let number = |n: i32| Some(Box::new(Value::u32(n as u32)));
    match status {
        Status::Exited(code) => Value::Case(0, number(code)),
        Status::Signaled(signal) => Value::Case(1, number(signal)),
        Status::TimedOut | Status::Lost => Value::Case(2, None),
    }
}

fn answer(result: Result<Value, ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(Some(v)),
        Err(code) => Value::err(Some(code.into())),
    }))
}

fn nothing(result: Result<(), ErrorCode>) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(()) => Value::ok(None),
        Err(code) => Value::err(Some(code.into())),
    }))
}
