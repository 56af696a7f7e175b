//! `loop:fsx` in the component's own memory.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/wit",
        "../../python/loop_kit/capabilities/core/wit",
        "../../python/loop_kit/capabilities/fsx/wit",
        "wit",
    ],
    world: "loop:fsx-memory/memory",
    generate_all,
});

mod changes;
mod files;
mod grant;
mod path;
mod pattern;
mod seed;
mod state;
mod store;
mod streaming;
mod tree;
mod walking;
mod watches;
mod watching;
mod writing;

/// All interfaces of the package.
struct Memory;

export!(Memory);
