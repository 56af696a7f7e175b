//! The exit code of preview 1's `proc_exit`, of which the Bytecode Alliance's adapter lets through only whether it is 0.

use wasi_preview1_component_adapter_provider as adapters;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module,
    RawSection, TypeSection, ValType,
};
use wasmparser::{Parser, Payload};
use wasmtime::{Error, Result, format_err};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What the module imports `proc_exit` from instead.
pub(crate) const NAME: &str = "loop-kit-exit";
const PROC_EXIT: &str = "proc_exit";
/// Codes that a command may exit with; wasmtime's own preview 1 traps at others.
const CODES: i32 = 126;
/// `exit-with-code` is not in the adapter's own version of the interface.
const WIT: &str = "
    package wasi:cli@0.2.12;
    interface exit { exit-with-code: func(status-code: u8); }
    world exits { import exit; }
";

/// The module with its import of `proc_exit` from [`NAME`]; None where it has none.
pub(crate) fn redirect(wasm: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut module = Module::new();
    let mut found = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(Error::new)?;
        if let Payload::ImportSection(section) = &payload {
            let mut imports = ImportSection::new();
            for import in section.clone().into_imports() {
                let import = import.map_err(Error::new)?;
                let here = import.module == adapters::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME
                    && import.name == PROC_EXIT;
                found |= here;
                let from = if here { NAME } else { import.module };
                let ty = RoundtripReencoder.entity_type(import.ty).map_err(Error::new)?;
                imports.import(from, import.name, ty);
            }
            module.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection {
                id,
                data: &wasm[range],
            });
        }
    }
    Ok(found.then(|| module.finish()))
}

/// Exports `proc_exit`, which calls `wasi:cli/exit#exit-with-code`.
pub(crate) fn adapter() -> Result<Vec<u8>> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], []);
    let mut imports = ImportSection::new();
    imports.import("wasi:cli/exit@0.2.12", "exit-with-code", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut exports = ExportSection::new();
    exports.export(PROC_EXIT, ExportKind::Func, 1);
    let mut body = Function::new([]);
    let mut code = body.instructions();
    code.local_get(0).i32_const(CODES).i32_ge_u();
    code.if_(wasm_encoder::BlockType::Empty).unreachable().end();
    code.local_get(0).call(0).unreachable().end();
    let mut bodies = CodeSection::new();
    bodies.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions);
    module.section(&exports).section(&bodies);
    let mut wasm = module.finish();
    let mut resolve = Resolve::default();
    let wrong = |e: &dyn std::fmt::Display| format_err!("the adapter of {PROC_EXIT}: {e:#}");
    let package = resolve.push_str("exit.wit", WIT).map_err(|e| wrong(&e))?;
    let world = resolve.select_world(&[package], None).map_err(|e| wrong(&e))?;
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).map_err(|e| wrong(&e))?;
    Ok(wasm)
}
