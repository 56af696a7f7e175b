//! Interfaces from text are those that a component which imports them has.

use std::collections::BTreeMap;

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use wit_parser::abi::{AbiVariant, WasmType};

use super::Wit;
use crate::engine::Engine;
use crate::link::{Interface, Link};
use crate::types::{Kind, Resource, Ty};

const WIT: &str = "
    package acme:kv@0.1.0;

    interface types {
        record point { x: u32, y: u64 }
        variant shape { none, circle(point), wide(f64) }
        resource token { constructor(s: string); }
    }

    interface store {
        use types.{point, token, shape as form};
        type key = string;
        // the same as a point, by whose name it goes
        record spot { x: u32, y: u64 }
        record held { t: own<token>, b: bool }
        enum level { low, high }
        flags rights { read, write, a2, a3, a4, a5, a6, a7, a8 }
        type rank = level;
        resource bucket {
            constructor(t: borrow<token>);
            get: func(k: key) -> result<option<list<u8>>, level>;
            open: static func(t: token) -> result<bucket, string>;
        }
        move: func(p: point, s: spot, f: form) -> tuple<rank, rights>;
        keep: func(h: held) -> option<held>;
        watch: async func(b: borrow<bucket>) -> stream<spot>;
        later: func() -> future<tuple<u8, char, s16, f32>>;
        nothing: func();
    }

    world guest { import store; }
";

/// A component that imports every function of the world's interfaces.
fn component() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    let core = |t: &WasmType| match t {
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
        _ => ValType::I32,
    };
    let mut count = 0;
    for (id, interface) in resolve.interfaces.iter() {
        let name = resolve.id_of(id).unwrap();
        for f in interface.functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, f);
            types.ty().function(
                signature.params.iter().map(core),
                signature.results.iter().map(core),
            );
            imports.import(&name, &f.name, EntityType::Function(count));
            count += 1;
        }
    }
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let (mut functions, mut memories, mut exports) =
        (FunctionSection::new(), MemorySection::new(), ExportSection::new());
    functions.function(count);
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("cabi_realloc", ExportKind::Func, count);
    let (mut code, mut body) = (CodeSection::new(), Function::new([]));
    body.instructions().unreachable().end();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions);
    module.section(&memories).section(&exports).section(&code);
    let mut module = module.finish();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.validate(true).encode().unwrap()
}

/// All that the walker knows of a type.
fn described(ty: &Ty) -> String {
    let resource = |r: &Resource| format!("{}/{}", r.interface, r.name);
    let within = match &ty.kind {
        Kind::Own(r) => resource(r),
        Kind::Borrow(r) => format!("&{}", resource(r)),
        Kind::Record(f) | Kind::Tuple(f) => format!("{:?}", f.iter().map(|f| f.offset).collect::<Vec<_>>()),
        Kind::Variant { tag, .. }
        | Kind::Enum { tag, .. }
        | Kind::Option { tag, .. }
        | Kind::Result { tag, .. } => format!("{}+{}", tag.size, tag.payload),
        _ => String::new(),
    };
    let children: Vec<_> = ty.children().into_iter().map(|t| described(t)).collect();
    let (name, shape, layout) = (&ty.name, ty.shape(), (ty.size, ty.align, ty.flat));
    format!("{name:?} {shape} {layout:?} {within} [{}]", children.join(", "))
}

fn functions(interface: &Interface) -> BTreeMap<String, String> {
    let of = |f: &crate::types::FuncTy| {
        let (params, result) = (described(&f.param_tuple), described(&f.result_tuple));
        let flags = (f.lends, f.pins, f.async_);
        format!("{} {} {params} -> {result} {flags:?}", f.wit(), f.shape())
    };
    let all = interface.funcs.iter().map(|f| (f.path(), of(f)));
    all.collect()
}

#[test]
fn interfaces_are_those_of_components() {
    let link = Link::new(&Engine::new(None, false), &component(), false, |_| false).unwrap();
    let wit = Wit::parse("test.wit", WIT).unwrap();
    assert_eq!(wit.interfaces(), ["acme:kv/types@0.1.0", "acme:kv/store@0.1.0"]);
    for name in ["acme:kv/types", "acme:kv/store"] {
        let read = wit.interface(name).unwrap();
        let imported = link.imports.iter().find(|i| i.name == read.name).unwrap();
        let (ours, theirs) = (functions(&read), functions(imported));
        assert_eq!(ours, theirs);
        for f in &read.funcs {
            let theirs = imported.funcs.iter().find(|i| i.name == f.name).unwrap();
            assert_eq!(f.digest(), theirs.digest(), "{}", f.path());
        }
        let names = |i: &Interface| {
            let mut names: Vec<_> = i.resources.iter().map(|r| r.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&read), names(imported));
        assert!(read.resources.iter().all(|r| r.host.is_some()));
    }
}

#[test]
fn names_are_found_or_listed() {
    let wit = Wit::parse("test.wit", WIT).unwrap();
    assert!(wit.interface("acme:kv/store@0.1.0").is_ok());
    let missing = wit.interface("acme:kv/stor").err().unwrap().to_string();
    assert_eq!(
        missing,
        "no interface acme:kv/stor; there are: acme:kv/types@0.1.0, acme:kv/store@0.1.0"
    );
    assert!(Wit::parse("test.wit", "package a:b; interface c { d: func(e: f); }").is_err());
}

#[test]
fn a_digest_is_of_structure() {
    let digest = |text: &str| {
        let wit = Wit::parse("test.wit", text).unwrap();
        wit.interface("a:b/c").unwrap().funcs[0].digest()
    };
    let one = digest("package a:b; interface c { record p { x: u32 } f: func(p: p) -> p; }");
    let same = digest("package a:b; interface c { f: func(other: q) -> q; record q { x: u32 } }");
    let other = digest("package a:b; interface c { record p { x: u64 } f: func(p: p) -> p; }");
    assert_eq!(one, same);
    assert_ne!(one, other);
    let canonical = "func(record { x: u32 }) -> record { x: u32 }";
    assert_eq!(
        one,
        <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(canonical))
    );
}
