//! Plain wRPC by the official crates over unix, beside the same calls by loop-wire in plain mode. One thread an end.
//!
//! `wrpc-bench serve FOLDER` listens there; `wrpc-bench drive FOLDER` measures and prints JSON like the wire's `peer`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_interop::official;
use loop_interop::official::client::test::interop::kinds;
use loop_interop::ours::{self, Types, call};
use loop_interop::place::{Place, listen};
use loop_wire::plain::PlainServer;
use loop_wire::session::Session;
use loop_wire::transport::BoxIo;
use loop_wire::{Failure, Hello, Limits};
use tokio::net::{UnixListener, UnixStream};
use wrpc_transport::frame::unix::Client;

const MIB: usize = 1 << 20;
const SMALL: usize = 20_000;
const LARGE: usize = 400;

async fn serve(folder: &Path) -> anyhow::Result<()> {
    let (listener, _) = listen(&Place::Unix(folder.join("official"))).await?;
    let ours = UnixListener::bind(folder.join("ours"))?;
    println!("ready");
    let hello = Hello {
        exports: vec![ours::interface()],
        ..Hello::default()
    };
    let plain = PlainServer::new(hello, Arc::new(ours::Kinds), Arc::new(Types));
    tokio::spawn(async move {
        while let Ok((io, _)) = ours.accept().await {
            tokio::spawn(plain.serve(io));
        }
    });
    official::serve(listener).await
}

/// Calls `n` times in turn after a tenth to warm up; the times in order.
async fn times<E>(n: usize, mut call: impl AsyncFnMut() -> Result<(), E>) -> Result<Vec<Duration>, E> {
    let mut took = Vec::with_capacity(n);
    for i in 0..n + n / 10 {
        let t = Instant::now();
        call().await?;
        if i >= n / 10 {
            took.push(t.elapsed());
        }
    }
    took.sort();
    Ok(took)
}

struct Figures(Vec<String>);

impl Figures {
    fn latency(&mut self, name: &str, took: &[Duration]) {
        for (q, word) in [(0.5, "p50"), (0.99, "p99")] {
            let at = took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
            self.0.push(format!("\"{name} {word} us\": {at:.2}"));
        }
    }

    fn rate(&mut self, name: &str, n: usize, began: Instant) {
        let rate = n as f64 / began.elapsed().as_secs_f64();
        self.0.push(format!("\"{name} calls/s\": {rate:.2}"));
    }
}

fn session(path: PathBuf) -> Session {
    let connect = Arc::new(move || {
        let path = path.clone();
        Box::pin(async move {
            match UnixStream::connect(path).await {
                Ok(io) => Ok(Box::new(io) as BoxIo),
                Err(e) => Err(Failure::gone(e.to_string(), true)),
            }
        }) as _
    });
    Session::plain(
        connect,
        vec![ours::interface()],
        Limits::default(),
        Arc::new(Types),
    )
}

async fn drive(folder: &Path) -> anyhow::Result<()> {
    let mut figures = Figures(vec![]);
    let official = Client::from(folder.join("official"));
    let large = Bytes::from(vec![1u8; MIB]);
    let took = times(SMALL, async || kinds::small(&official, (), 3, 4).await.map(drop)).await?;
    figures.latency("wrpc small", &took);
    let took = times(LARGE, async || {
        kinds::bytes(&official, (), &large).await.map(drop)
    })
    .await?;
    figures.latency("wrpc 1 MiB", &took);
    for (name, n, size) in [
        ("wrpc small 32 in flight", 2 * SMALL, 0),
        ("wrpc 1 MiB 32 in flight", LARGE, MIB),
    ] {
        let began = Instant::now();
        let workers = (0..32).map(|_| {
            let (official, large) = (official.clone(), large.clone());
            tokio::spawn(async move {
                for _ in 0..n / 32 {
                    match size {
                        0 => kinds::small(&official, (), 3, 4).await.map(drop)?,
                        _ => kinds::bytes(&official, (), &large).await.map(drop)?,
                    }
                }
                anyhow::Ok(())
            })
        });
        for worker in futures::future::join_all(workers).await {
            worker??;
        }
        figures.rate(name, n / 32 * 32, began);
    }
    let ours = session(folder.join("ours"));
    let took = times(SMALL, async || {
        call::<u32>(&ours, ours::SMALL, (3u32, 4u32)).await.map(drop)
    })
    .await?;
    figures.latency("plain small", &took);
    let bytes = vec![1u8; MIB];
    let took = times(LARGE, async || {
        call::<Vec<u8>>(&ours, ours::BYTES, &bytes).await.map(drop)
    })
    .await?;
    figures.latency("plain 1 MiB", &took);
    let began = Instant::now();
    let workers = (0..32).map(|_| {
        let ours = ours.clone();
        tokio::spawn(async move {
            for _ in 0..2 * SMALL / 32 {
                call::<u32>(&ours, ours::SMALL, (3u32, 4u32)).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for worker in futures::future::join_all(workers).await {
        worker??;
    }
    figures.rate("plain small 32 in flight", 2 * SMALL / 32 * 32, began);
    println!("{{{}}}", figures.0.join(", "));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("serve"), Some(folder)) => serve(folder.as_ref()).await,
        (Some("drive"), Some(folder)) => drive(folder.as_ref()).await,
        _ => anyhow::bail!("usage: wrpc-bench serve|drive FOLDER"),
    }
}
