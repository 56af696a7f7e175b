//! The two ends of `bench/wire.py`: the bare echo as the floor, and sessions. One thread an end, pinned by the caller.
//!
//! `peer serve FOLDER` listens on `echo` and `session` there; `peer drive FOLDER` measures and prints JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_wire::session::{Called, Handler, Meta, Nothing, Reply, Request, Session};
use loop_wire::{Hello, Interface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

type Any<T> = Result<T, Box<dyn std::error::Error>>;

const MIB: usize = 1 << 20;

struct Echo;

impl Handler for Echo {
    fn call(&self, _: &Session, called: Called) -> Reply {
        Reply::Now(Ok(called.root))
    }
}

fn hello(exports: bool) -> Hello {
    let interface = Interface {
        name: "bench:wire/echo".into(),
        digest: vec![],
        functions: vec!["echo".into()],
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Any<()> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("serve"), Some(folder)) => serve(folder.into()).await,
        (Some("drive"), Some(folder)) => drive(folder.into()).await,
        _ => Err("usage: peer serve|drive FOLDER".into()),
    }
}
