//! What memory that both ends share saves: long payloads by the socket and by shared memory, next to the copies that no
//! way avoids. One thread an end, pinned by the caller.
//!
//! `copy serve FOLDER` listens there and says `ready`. `copy drive FOLDER` says so too; each line of its input is a number
//! of bytes, answered by a line of JSON with the microseconds that half of the calls took at most: `take` to the
//! provider, `give` from it, `echo` both, by each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use loop_wire::session::{Called, Handler, Nothing, Reply, Request, Session};
use loop_wire::transport::{self, Connection, Options};
use loop_wire::{Address, Hello, Interface, Service};
use tokio::io::{AsyncBufReadExt, BufReader};

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
        name: "bench:wire/copy".into(),
        types: vec![],
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

fn address(scheme: &str, folder: &Path, name: &str) -> Any<Address> {
    Ok(format!("{scheme}:{}", folder.join(name).display()).parse()?)
}

async fn serve(folder: PathBuf) -> Any<()> {
    let given = Bytes::from(vec![1u8; 64 * MIB]);
    let service = Service::new(hello(true), move |_| Arc::new(Echo(given.clone())));
    let listener = transport::listen(&address("shm", &folder, "copy")?, &Options::default()).await?;
    let _server = loop_wire::serve(listener, service);
    println!("ready");
    std::future::pending().await
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

/// A payload each way, by the socket and by shared memory, and the copies.
async fn row(sessions: &[(&str, Session)], size: usize) -> Any<String> {
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
    let mut row = vec![format!("\"two copies\": {copies:.1}")];
    for (scheme, session) in sessions {
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
            row.push(format!("\"{scheme} {name}\": {took:.1}"));
        }
    }
    Ok(format!("{{{}}}", row.join(", ")))
}

async fn drive(folder: PathBuf) -> Any<()> {
    let mut sessions = vec![];
    for scheme in ["unix", "shm"] {
        let address = address(scheme, &folder, "copy")?;
        let Connection::Bytes(io, _) = transport::connect(&address, &Options::default()).await? else {
            return Err("a socket".into());
        };
        let (session, driver) = Session::connect(io, hello(false), Arc::new(Nothing));
        tokio::spawn(driver);
        session.ready().await?;
        sessions.push((scheme, session));
    }
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        println!("{}", row(&sessions, line.trim().parse()?).await?);
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Any<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve((*folder).into()).await,
        ["drive", folder] => drive((*folder).into()).await,
        _ => Err("usage: copy serve|drive FOLDER".into()),
    }
}
