//! What wasmtime does not tell of the types that a world itself imports and exports.
//!
//! A world may define types (`world w { record point { … } }`). Such a type is an import of the component's binary that
//! no host has to serve, so wasmtime drops it with its name. The name is read from the binary here, and the plan of a
//! type finds it by structure: the component model knows no other identity of these types.

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentValType,
};
use wasmparser::types::TypesRef;
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Parser, Payload, TypeBounds, ValidPayload, Validator,
    WasmFeatures,
};
use wasmtime::{Error, Result, format_err};

use crate::inspect::Item;

#[derive(Default)]
pub(crate) struct WorldTypes {
    /// The imported types: names and [`shape`](crate::Ty::shape)s.
    pub imports: Vec<(String, String)>,
    /// Names of exports that are types: wasmtime shows the type of a function as it shows a function.
    pub exports: Vec<String>,
}

/// The types at the root of a component.
///
/// Errors when the bytes are no valid component.
pub(crate) fn of(component: &[u8]) -> Result<WorldTypes> {
    let world = scan(component)?;
    let named: Vec<_> = world.imports.iter().filter(|i| i.is_type).collect();
    let imports = match named[..] {
        [] => vec![],
        _ => validated(component, |types| {
            let shaped = |i: &&Named| Some((i.name.to_string(), shape_of(types, i.name)?));
            named.iter().filter_map(shaped).collect()
        })?,
    };
    let exports = world.exports.iter().filter(|e| e.is_type);
    Ok(WorldTypes {
        imports,
        exports: exports.map(|e| e.name.to_string()).collect(),
    })
}

/// What a component imports and exports, for those whose types WIT cannot express.
///
/// Errors when the bytes are no valid component.
pub(crate) fn items(component: &[u8]) -> Result<(Vec<Item>, Vec<Item>)> {
    let world = scan(component)?;
    validated(component, |types| {
        let described = |named: &[Named<'_>], find: &dyn Fn(&str) -> Option<ComponentEntityType>| {
            let items = named.iter().map(|n| Item {
                name: n.name.to_string(),
                functions: find(n.name).map_or_else(Vec::new, |ty| functions(types, n.name, ty)),
            });
            items.collect()
        };
        let import = |name: &str| types.component_item_for_import(name).map(|i| i.ty);
        let export = |name: &str| types.component_item_for_export(name).map(|i| i.ty);
        (
            described(&world.imports, &import),
            described(&world.exports, &export),
        )
    })
}

fn functions(types: TypesRef<'_>, name: &str, ty: ComponentEntityType) -> Vec<String> {
    match ty {
        ComponentEntityType::Func(_) => vec![name.to_string()],
        ComponentEntityType::Instance(id) => {
            let exports = types[id].exports.iter();
            let found = exports.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
            found.map(|(name, _)| name.clone()).collect()
        }
        _ => vec![],
    }
}

/// Gives `f` the types of the whole component.
fn validated<R>(component: &[u8], f: impl FnOnce(TypesRef<'_>) -> R) -> Result<R> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(Error::new)?;
        if let ValidPayload::End(types) = validator.payload(&payload).map_err(Error::new)?
            && let Payload::End(at) = payload
            && at == component.len()
        {
            return Ok(f(types.as_ref()));
        }
    }
    Err(format_err!("a component without an end"))
}

/// An import or export at the root.
struct Named<'a> {
    name: &'a str,
    /// An import that is a type equal to another; an export that is any type.
    is_type: bool,
}

#[derive(Default)]
struct World<'a> {
    imports: Vec<Named<'a>>,
    exports: Vec<Named<'a>>,
}

fn scan(component: &[u8]) -> Result<World<'_>> {
    let mut world = World::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(Error::new)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(Error::new)?;
                    world.imports.push(Named {
                        name: import.name.name,
                        is_type: matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))),
                    });
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(Error::new)?;
                    world.exports.push(Named {
                        name: export.name.name,
                        is_type: export.kind == ComponentExternalKind::Type,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(world)
}

fn shape_of(types: TypesRef<'_>, name: &str) -> Option<String> {
    match types.component_item_for_import(name)?.ty {
        ComponentEntityType::Type {
            created: ComponentAnyTypeId::Defined(id),
            ..
        } => shape(types, &types[id]),
        _ => None,
    }
}

/// A type as [`crate::Ty::shape`] writes it; None for what that has no words for.
fn shape(types: TypesRef<'_>, ty: &ComponentDefinedType) -> Option<String> {
    use ComponentDefinedType as T;
    let val = |t: &ComponentValType| match t {
        ComponentValType::Primitive(p) => Some(p.to_string()),
        ComponentValType::Type(id) => shape(types, &types[*id]),
    };
    let opt = |t: &Option<ComponentValType>| match t {
        None => Some("_".to_string()),
        Some(t) => val(t),
    };
    let one = |word: &str, t: &Option<ComponentValType>| match t {
        None => Some(word.to_string()),
        Some(t) => Some(format!("{word}<{}>", val(t)?)),
    };
    let all = |parts: Vec<Option<String>>| Some(parts.into_iter().collect::<Option<Vec<_>>>()?.join(", "));
    Some(match ty {
        T::Primitive(p) => p.to_string(),
        T::Record(r) => {
            let fields = r.fields.iter().map(|(n, t)| Some(format!("{n}: {}", val(t)?)));
            format!("record {{ {} }}", all(fields.collect())?)
        }
        T::Variant(v) => {
            let cases = v.cases.iter().map(|(n, c)| match &c.ty {
                Some(t) => Some(format!("{n}({})", val(t)?)),
                None => Some(n.to_string()),
            });
            format!("variant {{ {} }}", all(cases.collect())?)
        }
        T::List { element, .. } => format!("list<{}>", val(element)?),
        T::FixedLengthList { element, length, .. } => format!("list<{}, {length}>", val(element)?),
        T::Tuple(t) => format!("tuple<{}>", all(t.types.iter().map(val).collect())?),
        T::Flags(names) => format!(
            "flags {{ {} }}",
            all(names.iter().map(|n| Some(n.to_string())).collect())?
        ),
        T::Enum(names) => format!(
            "enum {{ {} }}",
            all(names.iter().map(|n| Some(n.to_string())).collect())?
        ),
        T::Option { ty, .. } => format!("option<{}>", val(ty)?),
        T::Result { ok, err, .. } => match (ok, err) {
            (None, None) => "result".into(),
            (Some(ok), None) => format!("result<{}>", val(ok)?),
            _ => format!("result<{}, {}>", opt(ok)?, opt(err)?),
        },
        T::Stream { ty, .. } => one("stream", ty)?,
        T::Future { ty, .. } => one("future", ty)?,
        // resources have no structure
        T::Own(_) | T::Borrow(_) | T::Map { .. } => return None,
    })
}
