//! Calls a provider of `test:interop/kinds@0.1.0` as others' clients do: generated code, the official crates, and nothing of
//! loop-kit.
//!
//! `wrpc-kinds ADDRESS` calls each function at `tcp://127.0.0.1:7000` or `unix:PATH`, and panics where an answer is not what
//! it should be.

use loop_interop::official::all_by_official;
use loop_interop::place::Place;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let usage = || anyhow::anyhow!("usage: wrpc-kinds ADDRESS");
    match std::env::args().nth(1).ok_or_else(usage)?.parse()? {
        Place::Tcp(at) => all_by_official(&wrpc_transport::frame::tcp::Client::from(at)).await,
        Place::Unix(path) => all_by_official(&wrpc_transport::frame::unix::Client::from(path)).await,
        Place::Quic(_) => anyhow::bail!("whose certificate would that be?"),
    }
}
