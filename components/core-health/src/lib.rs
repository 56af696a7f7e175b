//! Passes a host's calls of `loop:core/health` on: the host links this to a provider as it links any component, in
//! whatever placement that is.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/core/wit", "wit"],
    world: "loop:ask-health/ask-health",
    generate_all,
});

use exports::loop_::core::health::Guest;
use loop_::core::health as provider;

struct AskHealth;

impl Guest for AskHealth {
    async fn check() -> Result<(), String> {
        provider::check().await
    }
}

export!(AskHealth);
