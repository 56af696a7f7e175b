//! What `loop bench` calls, as others write wRPC providers: generated code, the official crates, and nothing of
//! loop-kit. Where it is on the PATH, `loop bench` measures it as a sidecar without a handshake.
//!
//! `loop-bench-wrpc ADDRESS` serves `loop:bench@0.1.0` at `tcp://127.0.0.1:7000`, `unix:PATH` or `quic://…`, and prints
//! the address when it listens.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use loop_interop::place::listen;
use loop_interop::serve_at;

mod bindings {
    wit_bindgen_wrpc::generate!({
        inline: "package loop:bench-wrpc;
            world provider {
                export loop:bench/echo@0.1.0;
                export loop:bench/streams@0.1.0;
            }",
        path: "../../python/loop_kit/bench/wit",
        world: "loop:bench-wrpc/provider",
        with: { "loop:bench/echo@0.1.0": generate, "loop:bench/streams@0.1.0": generate },
    });
}

use bindings::exports::loop_::bench::{echo, streams};

/// Bytes that a stream's chunk has.
const CHUNK: usize = 64 << 10;

#[derive(Clone, Copy)]
struct Bench;

impl<C: Send + Sync + 'static> echo::Handler<C> for Bench {
    async fn small(&self, _: C, a: u32, b: u32) -> anyhow::Result<u32> {
        Ok(a.wrapping_add(b))
    }

    async fn echo(&self, _: C, data: Bytes) -> anyhow::Result<Bytes> {
        Ok(data)
    }

    async fn typed(&self, _: C, value: echo::Item) -> anyhow::Result<echo::Item> {
        Ok(value)
    }
}

impl<C: Send + Sync + 'static> streams::Handler<C> for Bench {
    async fn source(&self, _: C, size: u64) -> anyhow::Result<Pin<Box<dyn Stream<Item = Bytes> + Send>>> {
        let chunk = Bytes::from(vec![0; CHUNK]);
        let chunks = futures::stream::unfold(size as usize, move |left| {
            let next = chunk.slice(..left.min(CHUNK));
            std::future::ready((left > 0).then_some((next, left.saturating_sub(CHUNK))))
        });
        Ok(Box::pin(chunks))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let usage = || anyhow::anyhow!("usage: loop-bench-wrpc ADDRESS");
    let place = std::env::args().nth(1).ok_or_else(usage)?.parse()?;
    let (listener, place) = listen(&place).await?;
    println!("{place}");
    serve_at!(listener, bindings::serve, Bench)
}
