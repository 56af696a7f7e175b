//! The key-value interfaces that Spin has, by those of `wasi:keyvalue@0.2.0-draft`.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/capabilities/keyvalue/wit",
        "../../wit/deps/keyvalue-draft2",
        "../../wit/deps/spin-2.0",
        "wit",
    ],
    world: "loop:keyvalue-spin/spin",
    generate_all,
});

mod draft2;
mod spin;

/// What exports everything.
struct Component;

export!(Component);
