//! The two ends of `bench/wire.py`: the bare echo as the floor, and sessions. One thread an end, pinned by the caller.
//!
//! `peer serve FOLDER` listens on `echo`, `session` and `shm` there; `peer drive FOLDER` measures and prints JSON.
//! `peer copy FOLDER` compares long payloads by the socket and by shared memory, next to copies in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_wire::session::{Called, Handler, Meta, Nothing, Reply, Request, Session};
use loop_wire::transport::{self, Connection, Options};
use loop_wire::{Address, Hello, Interface, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

type Any<T> = Result<T, Box<dyn std::error::Error>>;

const MIB: usize = 1 << 20;

/// Answers with what it was called with, with nothing, or with as many bytes as the root says.
struct Echo(Bytes);

const ECHO: u32 = 0;
const TAKE: u32 = 1;
const GIVE: u32 = 2;

impl Handler for Echo {
    fn call(&self, _: &Session, called: Called) -> Reply {
        Reply::Now(Ok(match called.function {
            TAKE => Bytes::new(),
            GIVE => match called.root[..].try_into() {
                Ok(n) => self.0.slice(..u32::from_le_bytes(n) as usize),
                Err(_) => Bytes::new(),
            },
            _ => called.root,
        }))
    }
}

fn hello(exports: bool) -> Hello {
    let interface = Interface {
        name: "bench:wire/echo".into(),
        digest: vec![],
        functions: ["echo", "take", "give"].map(Into::into).to_vec(),
        resources: vec![],
    };
    let mut hello = Hello::default();
    match exports {
        true => hello.exports.push(interface),
        false => hello.imports.push(interface),
    }
    hello
}

fn bind(folder: &Path, name: &str) -> Any<UnixListener> {
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    Ok(UnixListener::bind(path)?)
}

async fn serve(folder: PathBuf) -> Any<()> {
    let echo = bind(&folder, "echo")?;
    let session = bind(&folder, "session")?;
    let given = Bytes::from(vec![1u8; 64 * MIB]);
    let shm = address("shm", &folder, "shm")?;
    let service = {
        let given = given.clone();
        Service::new(hello(true), move |_| Arc::new(Echo(given.clone())))
    };
    let _server = loop_wire::serve(transport::listen(&shm, &Options::default()).await?, service);
    println!("ready");
    tokio::spawn(async move {
        while let Ok((io, _)) = echo.accept().await {
            tokio::spawn(echo_server(io));
        }
    });
    loop {
        let (io, _) = session.accept().await?;
        let (session, driver) = Session::accept(io, hello(true), Arc::new(Echo(given.clone())));
        tokio::spawn(async move {
            let _session = session;
            driver.await
        });
    }
}

/// Messages of one size, which the first four bytes tell.
async fn echo_server(mut io: UnixStream) -> std::io::Result<()> {
    let n = io.read_u32_le().await? as usize;
    let mut buffer = vec![0; n];
    loop {
        io.read_exact(&mut buffer).await?;
        io.write_all(&buffer).await?;
    }
}

struct Figures(Vec<(String, f64)>);

impl Figures {
    fn latency(&mut self, name: &str, mut took: Vec<Duration>) {
        took.sort();
        let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
        self.0.push((format!("{name} p50 us"), at(0.5)));
        self.0.push((format!("{name} p99 us"), at(0.99)));
    }
}

fn request(meta: &Meta, root: &Bytes) -> Request {
    Request {
        meta: meta.clone(),
        root: root.clone(),
        ..Request::default()
    }
}

async fn drive(folder: PathBuf) -> Any<()> {
    let mut figures = Figures(vec![]);
    let (io, meta) = (
        UnixStream::connect(folder.join("session")).await?,
        Meta {
            deadline: Some(Duration::from_secs(30)),
            trace: Some([7; 25]),
            ..Meta::default()
        },
    );
    let (session, driver) = Session::connect(io, hello(false), Arc::new(Nothing));
    let driver = tokio::spawn(driver);
    session.ready().await?;
    // the bytes of a small call each way: header, function, link, flags, deadline, trace, two numbers
    for (name, size, n) in [
        ("echo small", 8 + 3 + 4 + 25 + 2, 20_000),
        ("echo 1 MiB", MIB, 400),
    ] {
        let mut io = UnixStream::connect(folder.join("echo")).await?;
        io.write_u32_le(size as u32).await?;
        let mut buffer = vec![1u8; size];
        let mut took = Vec::with_capacity(n);
        for i in 0..n + n / 10 {
            let t = Instant::now();
            io.write_all(&buffer).await?;
            io.read_exact(&mut buffer).await?;
            if i >= n / 10 {
                took.push(t.elapsed());
            }
        }
        figures.latency(name, took);
    }
    let small = Bytes::from_static(&[3, 4]);
    let large = Bytes::from(vec![1u8; MIB]);
    for (name, root, n) in [("session small", &small, 20_000), ("session 1 MiB", &large, 400)] {
        let mut took = Vec::with_capacity(n);
        for i in 0..n + n / 10 {
            let t = Instant::now();
            let answer = session.call(request(&meta, root)).await?;
            if i >= n / 10 {
                took.push(t.elapsed());
            }
            assert_eq!(answer.root.len(), root.len());
        }
        figures.latency(name, took);
    }
    for window in [1usize, 8, 32, 128] {
        let n = 400_000 / if window == 1 { 8 } else { 1 };
        let t = Instant::now();
        let workers: Vec<_> = (0..window)
            .map(|_| {
                let (session, small, meta) = (session.clone(), small.clone(), meta.clone());
                tokio::spawn(async move {
                    for _ in 0..n / window {
                        session.call(request(&meta, &small)).await?;
                    }
                    Ok::<_, loop_wire::Failure>(())
                })
            })
            .collect();
        for worker in workers {
            worker.await??;
        }
        let rate = (n / window * window) as f64 / t.elapsed().as_secs_f64();
        figures
            .0
            .push((format!("session {window} in flight calls/s"), rate));
    }
    drop(session);
    driver.await?;
    let rows: Vec<_> = figures
        .0
        .iter()
        .map(|(k, v)| format!("\"{k}\": {v:.2}"))
        .collect();
    println!("{{{}}}", rows.join(", "));
    Ok(())
}

fn address(scheme: &str, folder: &Path, name: &str) -> Any<Address> {
    Ok(format!("{scheme}:{}", folder.join(name).display()).parse()?)
}

/// The middle of the times that `step` takes.
async fn median(n: usize, mut step: impl AsyncFnMut() -> Any<()>) -> Any<f64> {
    let mut took = vec![];
    for i in 0..n + n / 5 + 2 {
        let t = Instant::now();
        step().await?;
        if i >= n / 5 + 2 {
            took.push(t.elapsed().as_secs_f64() * 1e6);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took[n / 2])
}

/// A payload each way, by the socket and by shared memory, and the copies that no way avoids.
async fn copy(folder: PathBuf) -> Any<()> {
    let mut sessions = vec![];
    for scheme in ["unix", "shm"] {
        let Connection::Bytes(io, _) =
            transport::connect(&address(scheme, &folder, "shm")?, &Options::default()).await?
        else {
            return Err("a socket".into());
        };
        let (session, driver) = Session::connect(io, hello(false), Arc::new(Nothing));
        tokio::spawn(driver);
        session.ready().await?;
        sessions.push((scheme, session));
    }
    for size in [
        32 << 10,
        64 << 10,
        128 << 10,
        256 << 10,
        MIB,
        4 * MIB,
        16 * MIB,
        64 * MIB,
    ] {
        let n = (256 * MIB / size).clamp(20, 400);
        let payload = Bytes::from(vec![1u8; size]);
        let (mut one, mut two) = (vec![1u8; size], vec![2u8; size]);
        let copies = median(n, async || {
            one.copy_from_slice(std::hint::black_box(&payload));
            two.copy_from_slice(std::hint::black_box(&one));
            std::hint::black_box(&two);
            Ok(())
        })
        .await?;
        let mut row = vec![format!("\"bytes\": {size}, \"two copies us\": {copies:.1}")];
        for (scheme, session) in &sessions {
            for (name, function, root) in [
                ("take", TAKE, payload.clone()),
                ("give", GIVE, Bytes::copy_from_slice(&(size as u32).to_le_bytes())),
                ("echo", ECHO, payload.clone()),
            ] {
                let took = median(n, async || {
                    let root = root.clone();
                    let request = Request {
                        function,
                        root,
                        ..Request::default()
                    };
                    std::hint::black_box(session.call(request).await?);
                    Ok(())
                })
                .await?;
                row.push(format!("\"{scheme} {name} us\": {took:.1}"));
            }
        }
        println!("{{{}}}", row.join(", "));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Any<()> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("serve"), Some(folder)) => serve(folder.into()).await,
        (Some("drive"), Some(folder)) => drive(folder.into()).await,
        (Some("copy"), Some(folder)) => copy(folder.into()).await,
        _ => Err("usage: peer serve|drive|copy FOLDER".into()),
    }
}
