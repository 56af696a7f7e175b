//! A component whose imports go to a provider, driven without Python: the other half of `bench/wire.py`'s comparison of
//! a guest's import with the session call itself. One thread.
//!
//! `guest ADDRESS COMPONENT` takes lines as the wire's example `peer` does, and calls the component's `repeat-FUNCTION`.

use std::sync::Arc;
use std::time::Instant;

use loop_engine::{Engine, Home, Instances, Limits, Neutral, Notify, Started, Value};
use loop_remote::{Encoded, Link, Route};
use loop_wire::session::{Nothing, Session};
use loop_wire::transport::{Connection, Options, connect};
use loop_wire::{Address, Hello};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wasmtime::{Result, bail, format_err};

/// Nothing here has an instance that others may wake.
struct Nobody;

impl Notify for Nobody {
    fn notify(&self, _: Arc<Home>) {}
}

async fn session(address: &str) -> Result<Session> {
    let address = address.parse::<Address>().map_err(|e| format_err!("{e}"))?;
    let connection = connect(&address, &Options::default()).await;
    let Connection::Bytes(io, _) = connection.map_err(|e| format_err!("{e}"))? else {
        bail!("{address} is no stream of bytes");
    };
    let (session, driver) = Session::connect(io, Hello::default(), Arc::new(Nothing));
    tokio::spawn(driver);
    session.ready().await.map_err(|e| format_err!("{e}"))?;
    Ok(session)
}

/// The lines of the input, read by a thread of their own.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (tx, rx) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let _ = tx.send(line);
        }
    });
    rx
}

async fn drive(address: &str, component: &str) -> Result<()> {
    let route = Route::new(
        Link::new(session(address).await?, None, 0, None, Handle::current()),
        None,
    );
    let mut link = loop_engine::Link::new(
        &Engine::new(None, false),
        &std::fs::read(component)?,
        false,
        |_| false,
    )?;
    let imported: Vec<_> = link.imports.iter().flat_map(|i| i.funcs.clone()).collect();
    for function in &imported {
        link.define::<Encoded>(function, route.import(function));
    }
    let limits = Limits {
        instances: Some(Instances::Pool(1)),
        ..Limits::default()
    };
    let program = link.finish(limits, true)?;
    println!("ready");
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let [function, _, _, calls] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("expected FUNCTION SIZE IN-FLIGHT CALLS, got {line:?}");
        };
        let index = program.find(&format!("repeat-{function}"))?;
        let nobody: Arc<dyn Notify> = Arc::new(Nobody);
        let begun = Instant::now();
        match program.start::<Neutral>(index, vec![Value::u32(calls.parse()?)], None, &nobody, None)? {
            Started::Alone(call) => call.await?,
            Started::Within(_) => bail!("{component} is for callers that wait"),
        };
        println!("{{\"seconds\": {:.6}}}", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [address, component] => drive(address, component).await,
        _ => bail!("usage: guest ADDRESS COMPONENT"),
    }
}
