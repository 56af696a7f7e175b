//! Components for a signature: an echo of it, one that shows what the host wrote, one of given core values.

use std::collections::HashMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use loop_engine::Num;
use wasm_encoder::{
    BlockType, CanonicalOption, CodeSection, ComponentBuilder, ComponentExportKind, ComponentTypeRef,
    ComponentValType, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, Ieee32, Ieee64, ImportSection, InstructionSink, MemArg,
    MemorySection, MemoryType, Module, ModuleArg, PrimitiveValType, TypeBounds, TypeSection, ValType,
};

use crate::types::Type;

const MAX_FLAT: usize = 16;
/// Where the first function puts the result that it makes itself.
const RESULT: i32 = 8;
/// Where core parameters are kept.
const SCRATCH: i32 = 16;
/// Where allocation begins.
const HEAP: i32 = SCRATCH + 8 * MAX_FLAT as i32;
/// Pages of an echo's memory; the allocator does not grow it.
const PAGES: u64 = 8;
/// Bytes of the memory that is planted.
pub const PLANTED: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    Utf8,
    Utf16,
    Latin1,
}

impl<'a> Arbitrary<'a> for Encoding {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(*u.choose(&[Encoding::Utf8, Encoding::Utf8, Encoding::Utf16, Encoding::Latin1])?)
    }
}

/// The types of a function.
#[derive(Clone, Debug)]
pub struct Signature {
    pub params: Vec<Type>,
    pub result: Option<Type>,
}

impl Signature {
    /// Core parameters: flat, or the pointer to them.
    fn core_params(&self) -> Vec<ValType> {
        let flat: Vec<_> = self.params.iter().flat_map(|t| t.flat()).collect();
        if flat.len() > MAX_FLAT {
            vec![ValType::I32]
        } else {
            flat
        }
    }

    /// Core results of the function as an export: flat, or the pointer to it.
    fn core_results(&self) -> Vec<ValType> {
        match self.result.as_ref().map(|t| t.flat()) {
            Some(flat) if flat.len() > 1 => vec![ValType::I32],
            flat => flat.unwrap_or_default(),
        }
    }

    /// Of its first parameter to the same.
    pub fn back(&self) -> Option<Signature> {
        let first = self.params.first()?;
        Some(Signature {
            params: vec![first.clone()],
            result: Some(first.clone()),
        })
    }

    /// Whether the core values of an export fit the import that is lowered asynchronously: up to 4 parameters are flat
    /// there, and each result goes by pointer.
    pub fn lowers_async(&self) -> bool {
        let flat: usize = self.params.iter().map(|t| t.flat().len()).sum();
        !(5..=MAX_FLAT).contains(&flat) && (self.result.is_none() || self.returns_by_pointer())
    }

    /// The result goes where a pointer says.
    fn returns_by_pointer(&self) -> bool {
        self.result.as_ref().is_some_and(|t| t.flat().len() > 1)
    }
}

/// How an echo calls its import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Both are plain functions.
    Plain,
    /// Both are `async func`; the core code waits for the answer.
    Waiting,
    /// Both are `async func`, and the import is lowered so. For signatures that [`Signature::lowers_async`].
    Async,
}

/// A component of functions of the parameters of `signature`:
///
/// - `through` calls the import `through` with the core values it got, and returns what that returns;
/// - `seen` returns the bytes of its core values and of all memory that the host has written;
/// - `back`, where it is asynchronous, is `async func` from the first parameter to the same, and lifted so.
pub fn echo(signature: &Signature, encoding: Encoding, calls: Calls) -> Vec<u8> {
    let mut c = Builder::new(encoding);
    let asynchronous = calls != Calls::Plain;
    let through = c.func_type(signature, asynchronous);
    let import = c.builder.import("through", ComponentTypeRef::Func(through));
    let lowered = c.lower(import, calls == Calls::Async);
    let seen = Signature {
        params: signature.params.clone(),
        result: Some(Type::List(Box::new(Type::Num(Num::U8)))),
    };
    let params = signature.core_params();
    let results = signature.core_results();

    let mut main = Core::new();
    let mut import_params = params.clone();
    let mut import_results = results.clone();
    if signature.returns_by_pointer() {
        import_params.push(ValType::I32);
        import_results.clear();
    }
    if calls == Calls::Async {
        import_results = vec![ValType::I32];
    }
    let host = main.import("host", "through", &import_params, &import_results);
    let mut given = vec![("through", ExportKind::Func, lowered)];
    let back = signature.back().filter(|_| asynchronous);
    if let Some(back) = &back {
        let ty = c.ty(&back.params[0]);
        let [encoding, memory, _] = c.options();
        let core = c.builder.task_return(Some(ty), [encoding, memory]);
        given.push(("return", ExportKind::Func, core));
        let params = back.core_params();
        let give = main.import("host", "return", &params, &[]);
        let mut body = Function::new([]);
        let mut i = body.instructions();
        (0..params.len() as u32).for_each(|p| {
            i.local_get(p);
        });
        i.call(give).end();
        main.export("back", &params, &[], &body);
    }
    let mut body = Function::new([(1, ValType::I32)]);
    let mut i = body.instructions();
    let at = params.len() as u32;
    if let Some(t) = signature
        .result
        .as_ref()
        .filter(|_| signature.returns_by_pointer())
    {
        i.i32_const(0)
            .i32_const(0)
            .i32_const(t.align() as i32)
            .i32_const(t.size() as i32);
        i.call(Core::REALLOC).local_set(at);
    }
    (0..at).for_each(|p| {
        i.local_get(p);
    });
    if signature.returns_by_pointer() {
        i.local_get(at);
    }
    i.call(host);
    if calls == Calls::Async {
        // anything but "returned"
        i.i32_const(2).i32_ne().if_(BlockType::Empty).unreachable().end();
    }
    if signature.returns_by_pointer() {
        i.local_get(at);
    }
    i.end();
    main.export("through", &params, &results, &body);

    let mut body = Function::new([]);
    let mut i = body.instructions();
    for (p, core) in params.iter().enumerate() {
        i.i32_const(SCRATCH + 8 * p as i32).local_get(p as u32);
        store(&mut i, *core);
    }
    i.i32_const(RESULT).i32_const(SCRATCH);
    store(&mut i, ValType::I32);
    i.i32_const(RESULT + 4)
        .global_get(Core::TOP)
        .i32_const(SCRATCH)
        .i32_sub();
    store(&mut i, ValType::I32);
    i.i32_const(RESULT).end();
    main.export("seen", &params, &seen.core_results(), &body);

    let host = c.builder.core_instantiate_exports(None, given);
    let main = c.instantiate(&main.module(), Some(host));
    c.lift(main, "through", signature, asynchronous, false);
    c.lift(main, "seen", &seen, false, false);
    if let Some(back) = &back {
        c.lift(main, "back", back, true, true);
    }
    c.builder.finish()
}

/// Core values for a signature and the memory behind them.
#[derive(Debug)]
pub struct Planted {
    /// Of the parameters, or the one pointer to them.
    pub params: Vec<u64>,
    /// Of the result, or the one pointer to it.
    pub result: Vec<u64>,
    pub memory: Vec<u8>,
}

/// A component whose memory holds what was planted: `take` calls the import `take` with the parameters, `give`
/// returns the result.
pub fn guest(signature: &Signature, encoding: Encoding, planted: &Planted) -> Vec<u8> {
    let mut c = Builder::with_memory(encoding, Some(&planted.memory));
    let taken = Signature {
        params: signature.params.clone(),
        result: None,
    };
    let given = Signature {
        params: vec![],
        result: signature.result.clone(),
    };
    let take = c.func_type(&taken, false);
    let import = c.builder.import("take", ComponentTypeRef::Func(take));
    let lowered = c.lower(import, false);
    let mut main = Core::new();
    let host = main.import("host", "take", &taken.core_params(), &[]);
    let mut body = Function::new([]);
    let mut i = body.instructions();
    constants(&mut i, &taken.core_params(), &planted.params);
    i.call(host).end();
    main.export("take", &[], &[], &body);
    let mut body = Function::new([]);
    let mut i = body.instructions();
    constants(&mut i, &given.core_results(), &planted.result);
    i.end();
    main.export("give", &[], &given.core_results(), &body);
    let host = c
        .builder
        .core_instantiate_exports(None, [("take", ExportKind::Func, lowered)]);
    let main = c.instantiate(&main.module(), Some(host));
    let nothing = Signature {
        params: vec![],
        result: None,
    };
    c.lift(main, "take", &nothing, false, false);
    c.lift(main, "give", &given, false, false);
    c.builder.finish()
}

/// A component that exports `never`, which cannot be called, and imports nothing.
pub fn signature(signature: &Signature) -> Vec<u8> {
    let mut c = Builder::new(Encoding::Utf8);
    c.exported = true;
    let mut main = Core::new();
    let mut body = Function::new([]);
    body.instructions().unreachable().end();
    main.export(
        "never",
        &signature.core_params(),
        &signature.core_results(),
        &body,
    );
    let main = c.instantiate(&main.module(), None);
    c.lift(main, "never", signature, false, false);
    c.builder.finish()
}

fn store(i: &mut InstructionSink<'_>, core: ValType) {
    let at = |align| MemArg {
        offset: 0,
        align,
        memory_index: 0,
    };
    match core {
        ValType::I32 => i.i32_store(at(2)),
        ValType::I64 => i.i64_store(at(3)),
        ValType::F32 => i.f32_store(at(2)),
        _ => i.f64_store(at(3)),
    };
}

fn constants(i: &mut InstructionSink<'_>, cores: &[ValType], bits: &[u64]) {
    assert_eq!(cores.len(), bits.len());
    for (core, bits) in cores.iter().zip(bits) {
        match core {
            ValType::I32 => i.i32_const(*bits as i32),
            ValType::I64 => i.i64_const(*bits as i64),
            ValType::F32 => i.f32_const(Ieee32::new(*bits as u32)),
            _ => i.f64_const(Ieee64::new(*bits)),
        };
    }
}

/// A component being built: its memory and allocator, and its types by structure.
struct Builder {
    builder: ComponentBuilder,
    types: HashMap<Type, u32>,
    /// Named types are exported, not imported.
    exported: bool,
    encoding: CanonicalOption,
    lib: u32,
    memory: u32,
    realloc: u32,
}

impl Builder {
    fn new(encoding: Encoding) -> Self {
        Self::with_memory(encoding, None)
    }

    fn with_memory(encoding: Encoding, data: Option<&[u8]>) -> Self {
        let mut builder = ComponentBuilder::default();
        let module = builder.core_module(None, &lib(data));
        let lib = builder.core_instantiate(None, module, []);
        let memory = builder.core_alias_export(None, lib, "memory", ExportKind::Memory);
        let realloc = builder.core_alias_export(None, lib, "realloc", ExportKind::Func);
        Builder {
            builder,
            types: HashMap::new(),
            exported: false,
            encoding: match encoding {
                Encoding::Utf8 => CanonicalOption::UTF8,
                Encoding::Utf16 => CanonicalOption::UTF16,
                Encoding::Latin1 => CanonicalOption::CompactUTF16,
            },
            lib,
            memory,
            realloc,
        }
    }

    fn options(&self) -> [CanonicalOption; 3] {
        [
            self.encoding,
            CanonicalOption::Memory(self.memory),
            CanonicalOption::Realloc(self.realloc),
        ]
    }

    fn lower(&mut self, func: u32, asynchronously: bool) -> u32 {
        let mut options = self.options().to_vec();
        options.extend(asynchronously.then_some(CanonicalOption::Async));
        self.builder.lower_func(None, func, options)
    }

    /// Exports a function, which may be `async func`, and then may be lifted so.
    fn lift(&mut self, main: u32, name: &str, signature: &Signature, async_: bool, asynchronously: bool) {
        let ty = self.func_type(signature, async_);
        let core = self.builder.core_alias_export(None, main, name, ExportKind::Func);
        let mut options = self.options().to_vec();
        options.extend(asynchronously.then_some(CanonicalOption::Async));
        let func = self.builder.lift_func(None, core, ty, options);
        self.builder.export(name, ComponentExportKind::Func, func, None);
    }

    fn instantiate(&mut self, main: &Module, host: Option<u32>) -> u32 {
        let module = self.builder.core_module(None, main);
        let mut args = vec![("lib", ModuleArg::Instance(self.lib))];
        args.extend(host.map(|h| ("host", ModuleArg::Instance(h))));
        self.builder.core_instantiate(None, module, args)
    }

    fn func_type(&mut self, signature: &Signature, async_: bool) -> u32 {
        let params = signature.params.iter().enumerate();
        let params: Vec<_> = params.map(|(i, t)| (format!("p{i}"), self.ty(t))).collect();
        let result = signature.result.as_ref().map(|t| self.ty(t));
        let (index, mut ty) = self.builder.type_function(None);
        ty.async_(async_)
            .params(params.iter().map(|(n, t)| (n.as_str(), *t)))
            .result(result);
        index
    }

    fn ty(&mut self, t: &Type) -> ComponentValType {
        use PrimitiveValType as P;
        ComponentValType::Primitive(match t {
            Type::Bool => P::Bool,
            Type::Num(Num::U8) => P::U8,
            Type::Num(Num::S8) => P::S8,
            Type::Num(Num::U16) => P::U16,
            Type::Num(Num::S16) => P::S16,
            Type::Num(Num::U32) => P::U32,
            Type::Num(Num::S32) => P::S32,
            Type::Num(Num::U64) => P::U64,
            Type::Num(Num::S64) => P::S64,
            Type::Num(Num::F32) => P::F32,
            Type::Num(Num::F64) => P::F64,
            Type::Char => P::Char,
            Type::String => P::String,
            _ => return ComponentValType::Type(self.defined(t)),
        })
    }

    fn defined(&mut self, t: &Type) -> u32 {
        if let Some(index) = self.types.get(t) {
            return *index;
        }
        let children: Vec<_> = match t {
            Type::List(t) | Type::Fixed(t, _) => vec![Some(self.ty(t))],
            _ => {
                let cases = t
                    .cases()
                    .unwrap_or_else(|| t.members().into_iter().map(Some).collect());
                cases.into_iter().map(|t| t.map(|t| self.ty(t))).collect()
            }
        };
        let all = || children.iter().flatten().copied().collect::<Vec<_>>();
        let (mut index, made) = self.builder.type_defined(None);
        let mut named = true;
        match t {
            Type::Record(fields) => {
                let fields: Vec<_> = fields.iter().map(|(n, _)| n.as_str()).zip(all()).collect();
                made.record(fields);
            }
            Type::Variant(cases) => {
                let cases: Vec<_> = cases.iter().map(|(n, _)| n.as_str()).zip(children).collect();
                made.variant(cases);
            }
            Type::Enum(names) => made.enum_type(names.iter().map(String::as_str)),
            Type::Flags(names) => made.flags(names.iter().map(String::as_str)),
            _ => {
                named = false;
                match t {
                    Type::List(_) => made.list(all()[0]),
                    Type::Fixed(_, n) => made.fixed_length_list(all()[0], *n as u32),
                    Type::Option(_) => made.option(all()[0]),
                    Type::Result(..) => made.result(children[0], children[1]),
                    _ => made.tuple(all()),
                }
            }
        }
        if named {
            let name = format!("t{}", self.types.len());
            index = if self.exported {
                self.builder
                    .export(&*name, ComponentExportKind::Type, index, None)
            } else {
                let same = ComponentTypeRef::Type(TypeBounds::Eq(index));
                self.builder.import(&*name, same)
            };
        }
        self.types.insert(t.clone(), index);
        index
    }
}

/// The core module of a component's functions, which imports memory and allocator.
struct Core {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    imported: u32,
}

impl Core {
    const REALLOC: u32 = 0;
    const TOP: u32 = 0;

    fn new() -> Self {
        let mut core = Core {
            types: TypeSection::new(),
            imports: ImportSection::new(),
            functions: FunctionSection::new(),
            exports: ExportSection::new(),
            code: CodeSection::new(),
            imported: 0,
        };
        core.imports
            .import("lib", "memory", MEMORY)
            .import("lib", "top", TOP);
        core.import("lib", "realloc", &[ValType::I32; 4], &[ValType::I32]);
        core
    }

    fn ty(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let ty = self.types.ty();
        ty.function(params.iter().copied(), results.iter().copied());
        self.types.len() - 1
    }

    fn import(&mut self, module: &str, name: &str, params: &[ValType], results: &[ValType]) -> u32 {
        let ty = self.ty(params, results);
        self.imports.import(module, name, EntityType::Function(ty));
        self.imported += 1;
        self.imported - 1
    }

    fn export(&mut self, name: &str, params: &[ValType], results: &[ValType], body: &Function) {
        let ty = self.ty(params, results);
        let index = self.imported + self.functions.len();
        self.functions.function(ty);
        self.exports.export(name, ExportKind::Func, index);
        self.code.function(body);
    }

    fn module(&self) -> Module {
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&self.imports)
            .section(&self.functions)
            .section(&self.exports)
            .section(&self.code);
        module
    }
}

const MEMORY: MemoryType = MemoryType {
    minimum: 1,
    maximum: None,
    memory64: false,
    shared: false,
    page_size_log2: None,
};
const TOP: GlobalType = GlobalType {
    val_type: ValType::I32,
    mutable: true,
    shared: false,
};

/// Memory, and an allocator that only ever moves on; where `data` is given, the memory is one page and begins so.
fn lib(data: Option<&[u8]>) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: if data.is_some() { 1 } else { PAGES },
        ..MEMORY
    });
    let mut globals = GlobalSection::new();
    globals.global(TOP, &ConstExpr::i32_const(HEAP));
    let mut exports = ExportSection::new();
    exports
        .export("memory", ExportKind::Memory, 0)
        .export("top", ExportKind::Global, 0)
        .export("realloc", ExportKind::Func, 0);
    let (old, was, align, size, p) = (0, 1, 2, 3, 4);
    let mut realloc = Function::new([(1, ValType::I32)]);
    let mut i = realloc.instructions();
    // p = (top + align - 1) & -align
    i.global_get(0).local_get(align).i32_add().i32_const(1).i32_sub();
    i.i32_const(0).local_get(align).i32_sub().i32_and().local_tee(p);
    i.local_get(size).i32_add().global_set(0);
    // copies what was there
    i.local_get(p).local_get(old);
    i.local_get(was)
        .local_get(size)
        .local_get(was)
        .local_get(size)
        .i32_lt_u()
        .select();
    i.memory_copy(0, 0).local_get(p).end();
    let mut code = CodeSection::new();
    code.function(&realloc);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&globals)
        .section(&exports)
        .section(&code);
    if let Some(data) = data {
        let mut section = DataSection::new();
        section.active(0, &ConstExpr::i32_const(0), data.iter().copied());
        module.section(&section);
    }
    module
}
