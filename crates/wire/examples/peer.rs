//! The Rust ends of `bench/wire.py`: the bare echo as the floor, and sessions. One thread an end, pinned by the caller.
//!
//! `peer serve FOLDER` listens there on `echo` (bare) and `session`, and says `ready`.
//!
//! `peer drive ADDRESS` calls `bench:wire/echo` (`bench/wire/wit`) of any provider, `peer drive stdio: PROGRAM…` of one
//! that it starts, `peer drive echo:PATH` sends the bare echo as many bytes. Each line of its input is a round,
//! `FUNCTION SIZE IN-FLIGHT CALLS`, answered by a line of JSON: how long it took, and for one call at a time how long
//! half and all but a hundredth of them took at most, in microseconds.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_wire::codec::{Cursor, put_unsigned};
use loop_wire::session::{Called, Handler, Meta, Nothing, Reply, Request, Session, connect_native};
use loop_wire::transport::{BoxIo, Connection, Options, connect, from_fds};
use loop_wire::{Address, Code, Failure, Hello, Interface};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

type Any<T> = Result<T, Box<dyn std::error::Error>>;

/// Bytes of a small call each way: header, function, link, flags, deadline, trace, two numbers.
const SMALL: usize = 8 + 3 + 4 + 25 + 2;

fn hello(exports: bool) -> Hello {
    let interface = Interface {
        name: "bench:wire/echo".into(),
        types: vec![],
        functions: vec!["add".into(), "echo".into()],
        resources: vec![],
    };
    let mut hello = Hello::default();
    match exports {
        true => hello.exports.push(interface),
        false => hello.imports.push(interface),
    }
    hello
}

struct Echo;

impl Handler for Echo {
    fn call(&self, _: &Session, called: Called) -> Reply {
        Reply::Now(match called.function {
            0 => add(&called.root),
            _ => Ok(called.root),
        })
    }
}

fn add(root: &Bytes) -> Result<Bytes, Failure> {
    let mut from = Cursor::new(root);
    let mut sum = vec![];
    put_unsigned(&mut sum, (from.unsigned(32)? + from.unsigned(32)?) & 0xffff_ffff);
    Ok(sum.into())
}

async fn serve(folder: PathBuf) -> Any<()> {
    let echo = UnixListener::bind(folder.join("echo"))?;
    let session = UnixListener::bind(folder.join("session"))?;
    println!("ready");
    tokio::spawn(async move {
        while let Ok((io, _)) = echo.accept().await {
            tokio::spawn(echo_server(io));
        }
    });
    loop {
        let (io, _) = session.accept().await?;
        let (session, driver) = Session::accept(io, hello(true), Arc::new(Echo));
        tokio::spawn(async move {
            let _session = session;
            driver.await
        });
    }
}

/// Messages whose size and number the client says before the first of them.
async fn echo_server(mut io: UnixStream) -> std::io::Result<()> {
    loop {
        let n = io.read_u32_le().await? as usize;
        let rounds = io.read_u32_le().await?;
        let mut buffer = vec![0; n];
        for _ in 0..rounds {
            io.read_exact(&mut buffer).await?;
            io.write_all(&buffer).await?;
        }
    }
}

/// What one line of input asks for.
struct Round {
    function: String,
    size: usize,
    window: usize,
    calls: usize,
}

impl Round {
    fn parse(line: &str) -> Any<Round> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [function, size, window, calls] => Ok(Round {
                function: function.into(),
                size: size.parse()?,
                window: window.parse()?,
                calls: calls.parse()?,
            }),
            _ => Err(format!("expected FUNCTION SIZE IN-FLIGHT CALLS, got {line:?}").into()),
        }
    }

    /// The bytes of the arguments.
    fn root(&self) -> Bytes {
        match &*self.function {
            "add" => Bytes::from_static(&[3, 4]),
            _ => {
                let mut root = vec![];
                put_unsigned(&mut root, self.size as u64);
                root.resize(root.len() + self.size, 1);
                root.into()
            }
        }
    }
}

/// What drives one kind of peer.
enum Client {
    Bare(UnixStream),
    Session(
        Session,
        HashMap<String, u32>,
        #[expect(dead_code, reason = "ends when dropped")] Option<Box<Child>>,
    ),
}

impl Client {
    async fn new(address: &str, command: &[String]) -> Any<Client> {
        if let Some(path) = address.strip_prefix("echo:") {
            return Ok(Client::Bare(UnixStream::connect(path).await?));
        }
        let (connection, child) = match command {
            [] => {
                let address: Address = address.parse()?;
                (connect(&address, &Options::default()).await?, None)
            }
            command => start(command).map(|(connection, child)| (connection, Some(Box::new(child))))?,
        };
        let session = match connection {
            Connection::Bytes(io, _) => session(io),
            Connection::Native(native, _) => {
                let nothing = Arc::new(Nothing);
                let (session, driver) = connect_native(native.into(), hello(false), nothing).await?;
                tokio::spawn(driver);
                session
            }
        };
        let theirs = session.ready().await?;
        let (first, offered) = theirs.offers(&hello(false).imports[0])?;
        let numbers = offered.functions.iter().cloned().zip(first..).collect();
        Ok(Client::Session(session, numbers, child))
    }

    /// How long the round took, and each call, if there was one at a time.
    async fn run(&mut self, round: &Round) -> Any<(Duration, Vec<Duration>)> {
        match self {
            Client::Bare(io) => bare(io, round).await,
            Client::Session(session, numbers, _) => {
                let function = *numbers
                    .get(&round.function)
                    .ok_or_else(|| format!("there is no function {}", round.function))?;
                match round.window {
                    1 => in_turn(session, function, round).await,
                    _ => together(session, function, round).await,
                }
            }
        }
    }
}

/// A provider on pipes.
fn start(command: &[String]) -> Any<(Connection, Child)> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env("LOOP_PROVIDER_ADDRESS", "stdio:")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let read: OwnedFd = child.stdout.take().ok_or("no output")?.into_owned_fd()?;
    let write: OwnedFd = child.stdin.take().ok_or("no input")?.into_owned_fd()?;
    Ok((from_fds(read, write)?, child))
}

fn session(io: BoxIo) -> Session {
    let (session, driver) = Session::connect(io, hello(false), Arc::new(Nothing));
    tokio::spawn(driver);
    session
}

fn request(function: u32, root: &Bytes) -> Request {
    Request {
        function,
        meta: Meta {
            deadline: Some(Duration::from_secs(30)),
            trace: Some([7; 25]),
            ..Meta::default()
        },
        root: root.clone(),
        ..Request::default()
    }
}

async fn bare(io: &mut UnixStream, round: &Round) -> Any<(Duration, Vec<Duration>)> {
    let size = if round.function == "add" {
        SMALL
    } else {
        round.size
    };
    io.write_u32_le(size as u32).await?;
    io.write_u32_le(round.calls as u32).await?;
    let mut buffer = vec![1u8; size];
    let mut took = Vec::with_capacity(round.calls);
    let begun = Instant::now();
    for _ in 0..round.calls {
        let t = Instant::now();
        io.write_all(&buffer).await?;
        io.read_exact(&mut buffer).await?;
        took.push(t.elapsed());
    }
    Ok((begun.elapsed(), took))
}

async fn in_turn(session: &Session, function: u32, round: &Round) -> Any<(Duration, Vec<Duration>)> {
    let root = round.root();
    let mut took = Vec::with_capacity(round.calls);
    let begun = Instant::now();
    for _ in 0..round.calls {
        let t = Instant::now();
        let answer = session.call(request(function, &root)).await?;
        took.push(t.elapsed());
        check(&round.function, &root, &answer.root)?;
    }
    Ok((begun.elapsed(), took))
}

async fn together(session: &Session, function: u32, round: &Round) -> Any<(Duration, Vec<Duration>)> {
    let root = round.root();
    let begun = Instant::now();
    let workers: Vec<_> = (0..round.window)
        .map(|i| {
            let (session, root, name) = (session.clone(), root.clone(), round.function.clone());
            let share = round.calls / round.window + usize::from(i < round.calls % round.window);
            tokio::spawn(async move {
                for _ in 0..share {
                    let answer = session.call(request(function, &root)).await?;
                    check(&name, &root, &answer.root)?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok((begun.elapsed(), vec![]))
}

/// What is not answered rightly is not measured.
fn check(function: &str, root: &Bytes, answer: &Bytes) -> Result<(), Failure> {
    let right = match function {
        "add" => **answer == [7],
        _ => answer.len() == root.len(),
    };
    match right {
        true => Ok(()),
        false => Err(Failure::new(
            Code::BadValue,
            format!("{function}: a wrong answer"),
        )),
    }
}

async fn drive(address: &str, command: &[String]) -> Any<()> {
    let mut client = Client::new(address, command).await?;
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (all, mut each) = client.run(&Round::parse(&line)?).await?;
        each.sort();
        let at = |q: f64| each[((each.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
        let quantiles = match each.is_empty() {
            true => String::new(),
            false => format!(", \"p50\": {:.3}, \"p99\": {:.3}", at(0.5), at(0.99)),
        };
        println!("{{\"seconds\": {:.6}{quantiles}}}", all.as_secs_f64());
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Any<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve(Path::new(folder).into()).await,
        ["drive", address, ..] => drive(address, &args[2..]).await,
        _ => Err("usage: peer serve FOLDER | peer drive ADDRESS [PROGRAM…]".into()),
    }
}
