//! Passes a host's calls of `loop:core/lifecycle` on: the host links this to a provider as it links any component, in
//! whatever placement that is.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/core/wit", "wit"],
    world: "loop:hand-over/hand-over",
    generate_all,
});

use exports::loop_::core::lifecycle::Guest;
use loop_::core::lifecycle as provider;

struct HandOver;

impl Guest for HandOver {
    async fn snapshot() -> Result<Vec<u8>, String> {
        provider::snapshot().await
    }

    async fn restore(state: Vec<u8>) -> Result<(), String> {
        provider::restore(state).await
    }
}

export!(HandOver);
