//! Plain wRPC by the official crates over unix, beside the same calls by loop-wire in plain mode. One thread an end.
//!
//! `wrpc-bench serve FOLDER` listens there; `wrpc-bench drive official|ours FOLDER` is driven by lines of input as
//! the wire's `peer` is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use loop_interop::official;
use loop_interop::official::client::test::interop::kinds;
use loop_interop::ours::{self, Types, call};
use loop_interop::place::{Place, listen};
use loop_wire::plain::PlainServer;
use loop_wire::session::Session;
use loop_wire::transport::BoxIo;
use loop_wire::{Failure, Hello, Limits};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use wrpc_transport::frame::unix;

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

/// What drives one kind of server.
enum Client {
    Official(unix::Client<PathBuf>),
    Ours(Session),
}

impl Client {
    /// Answers rightly, or errors.
    async fn call(&self, function: &str, bytes: &Bytes) -> anyhow::Result<()> {
        let right = match (self, function) {
            (Client::Official(it), "add") => kinds::small(it, (), 3, 4).await? == 7,
            (Client::Official(it), _) => kinds::bytes(it, (), bytes).await?.len() == bytes.len(),
            (Client::Ours(it), "add") => call::<u32>(it, ours::SMALL, (3u32, 4u32)).await? == 7,
            (Client::Ours(it), _) => {
                call::<Vec<u8>>(it, ours::BYTES, &bytes.to_vec()).await?.len() == bytes.len()
            }
        };
        anyhow::ensure!(right, "{function}: a wrong answer");
        Ok(())
    }
}

/// One line of input, as the wire's `peer` has them.
async fn run(client: &Arc<Client>, line: &str) -> anyhow::Result<()> {
    let [function, size, window, calls] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        anyhow::bail!("expected FUNCTION SIZE IN-FLIGHT CALLS, got {line:?}");
    };
    let (size, window, calls): (usize, usize, usize) = (size.parse()?, window.parse()?, calls.parse()?);
    let bytes = Bytes::from(vec![1u8; size]);
    let begun = Instant::now();
    if window == 1 {
        let mut each = Vec::with_capacity(calls);
        for _ in 0..calls {
            let t = Instant::now();
            client.call(function, &bytes).await?;
            each.push(t.elapsed());
        }
        let all = begun.elapsed().as_secs_f64();
        each.sort();
        let at = |q: f64| each[((each.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
        println!(
            "{{\"seconds\": {all:.6}, \"p50\": {:.3}, \"p99\": {:.3}}}",
            at(0.5),
            at(0.99)
        );
        return Ok(());
    }
    let workers = (0..window).map(|i| {
        let (client, function, bytes) = (client.clone(), function.to_owned(), bytes.clone());
        let share = calls / window + usize::from(i < calls % window);
        tokio::spawn(async move {
            for _ in 0..share {
                client.call(&function, &bytes).await?;
            }
            anyhow::Ok(())
        })
    });
    for worker in futures::future::join_all(workers).await {
        worker??;
    }
    println!("{{\"seconds\": {:.6}}}", begun.elapsed().as_secs_f64());
    Ok(())
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

async fn drive(client: Client) -> anyhow::Result<()> {
    let client = Arc::new(client);
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        run(&client, &line).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve(folder.as_ref()).await,
        ["drive", "official", folder] => {
            drive(Client::Official(unix::Client::from(
                Path::new(folder).join("official"),
            )))
            .await
        }
        ["drive", "ours", folder] => drive(Client::Ours(session(Path::new(folder).join("ours")))).await,
        _ => anyhow::bail!("usage: wrpc-bench serve FOLDER | wrpc-bench drive official|ours FOLDER"),
    }
}
