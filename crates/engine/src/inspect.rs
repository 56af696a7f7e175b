//! What a component is, without compiling it.

use wasmtime::{Result, format_err};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{Resolve, WorldItem, WorldKey};

use crate::preview1;
use crate::world_types;

/// One import or export of a component's world.
pub struct Item {
    /// The interface, or the function or type at the root.
    pub name: String,
    /// The functions of an interface, or the one function, by WIT name.
    pub functions: Vec<String>,
}

/// What a component is.
pub struct Inspection {
    /// It is a core module, which loading would wrap for WASI preview 1.
    pub module: bool,
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    /// The world and its packages as WIT text; a comment, where WIT cannot express them.
    pub wit: String,
}

/// Decodes a component.
///
/// Errors when the bytes are no component and no core module.
pub fn inspect(wasm: &[u8]) -> Result<Inspection> {
    let module = preview1::is_module(wasm);
    let component = preview1::componentize(wasm)?;
    let (resolve, world) = match wit_component::decode(&component) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(_) => return Err(format_err!("this is a WIT package, not a component")),
        Err(e) => {
            // a sound component may have what WIT has no words for, such as a type among its exports
            let (imports, exports) = world_types::items(&component)?;
            return Ok(Inspection {
                module,
                imports,
                exports,
                wit: format!("// WIT cannot express this component: {e}\n"),
            });
        }
    };
    let items = |of: &wit_parser::IndexMap<WorldKey, WorldItem>| -> Vec<Item> {
        of.iter()
            .map(|(key, item)| describe(&resolve, key, item))
            .collect()
    };
    let imports = items(&resolve.worlds[world].imports);
    let exports = items(&resolve.worlds[world].exports);
    let package = resolve.worlds[world]
        .package
        .ok_or_else(|| format_err!("a world without a package"))?;
    let others: Vec<_> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != package)
        .collect();
    let mut printer = WitPrinter::default();
    printer
        .print(&resolve, package, &others)
        .map_err(|e| format_err!("{e:#}"))?;
    Ok(Inspection {
        module,
        imports,
        exports,
        wit: printer.output.to_string(),
    })
}

fn describe(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Item {
    let name = resolve.name_world_key(key);
    let functions = match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.keys().cloned().collect(),
        WorldItem::Function(f) => vec![f.name.clone()],
        WorldItem::Type { .. } => vec![],
    };
    Item { name, functions }
}
