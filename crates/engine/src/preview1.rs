//! Core modules written for WASI preview 1, made components by the Bytecode Alliance's adapter.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider as adapters;
use wasmtime::{Result, format_err};

use crate::preview1_exit;

/// The bytes as a component: as they are, or, for a core module, wrapped by the preview-1 adapter.
///
/// Errors when a core module imports more than preview 1.
pub(crate) fn componentize(wasm: &[u8]) -> Result<Cow<'_, [u8]>> {
    if !is_module(wasm) {
        return Ok(Cow::Borrowed(wasm));
    }
    let adapter = if exports_start(wasm) {
        adapters::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        adapters::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    let redirected = preview1_exit::redirect(wasm)?;
    let exits = redirected.is_some().then(preview1_exit::adapter).transpose()?;
    let encode = || {
        let mut encoder = wit_component::ComponentEncoder::default()
            .validate(true)
            .module(redirected.as_deref().unwrap_or(wasm))?;
        if let Some(exits) = &exits {
            encoder = encoder.adapter(preview1_exit::NAME, exits)?;
        }
        encoder
            .adapter(adapters::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
            .encode()
    };
    encode()
        .map(Cow::Owned)
        .map_err(|e| format_err!("this is a core module, and it cannot be made a component: {e:#}"))
}

pub(crate) fn is_module(wasm: &[u8]) -> bool {
    wasm.get(..8) == Some(b"\0asm\x01\0\0\0")
}

/// A command exports `_start`.
fn exports_start(wasm: &[u8]) -> bool {
    let payloads = wasmparser::Parser::new(0).parse_all(wasm);
    payloads.filter_map(|p| p.ok()).any(|p| match p {
        wasmparser::Payload::ExportSection(exports) => {
            exports.into_iter().any(|e| e.is_ok_and(|e| e.name == "_start"))
        }
        _ => false,
    })
}
