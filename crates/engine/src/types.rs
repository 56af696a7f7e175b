//! The plan of a component's types: what the walker needs to know, computed once at load.
//!
//! wasmtime keeps a component's types in `ComponentTypes`, addressed by index. The walker would have to look up
//! size, alignment and flat count at every step and could attach nothing to a type. A [`Ty`] is the same tree with
//! those numbers resolved, the name the component gives the type, and one slot (`ext`) where a [`crate::Domain`]
//! keeps what it derives from the type, such as a Python class.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use wasmtime::component::__internal::InterfaceType;
use wasmtime::component::__internal::wasmtime_environ::component::ComponentTypes;

/// A fixed-width number type; lists of these move as one block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Num {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F32,
    F64,
}

impl Num {
    /// Bytes of one number, in memory and on a host alike.
    pub const fn size(self) -> usize {
        match self {
            Num::U8 | Num::S8 => 1,
            Num::U16 | Num::S16 => 2,
            Num::U32 | Num::S32 | Num::F32 => 4,
            Num::U64 | Num::S64 | Num::F64 => 8,
        }
    }

    /// The WIT keyword.
    pub const fn wit(self) -> &'static str {
        match self {
            Num::U8 => "u8",
            Num::S8 => "s8",
            Num::U16 => "u16",
            Num::S16 => "s16",
            Num::U32 => "u32",
            Num::S32 => "s32",
            Num::U64 => "u64",
            Num::S64 => "s64",
            Num::F32 => "f32",
            Num::F64 => "f64",
        }
    }
}

/// A shared [`Ty`].
pub type TyRef = Arc<Ty>;

/// One type of a component, with its layout (32-bit memories) and its children.
pub struct Ty {
    pub kind: Kind,
    /// The name under which the component exports or imports the type, if it does.
    pub name: Option<Arc<str>>,
    /// Size in linear memory, bytes.
    pub size: usize,
    /// Alignment in linear memory, bytes.
    pub align: usize,
    /// How many core values the flat form takes.
    pub flat: usize,
    /// wasmtime's own index; handles are lifted and lowered by it.
    pub(crate) raw: InterfaceType,
    /// What a domain derives from this type; filled at first use.
    pub ext: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A record field or a tuple slot.
pub struct Field {
    /// Empty for tuples.
    pub name: Arc<str>,
    pub ty: TyRef,
    /// Offset from the start of the record, bytes.
    pub offset: usize,
}

/// A case of a variant.
pub struct Case {
    pub name: Arc<str>,
    pub ty: Option<TyRef>,
}

/// Layout shared by everything with a discriminant.
#[derive(Clone, Copy)]
pub struct Tag {
    /// Bytes of the discriminant: 1, 2 or 4.
    pub size: usize,
    /// Offset of the payload, bytes.
    pub payload: usize,
}

/// A resource type as the plan knows it.
pub struct Resource {
    /// `interface/name`-free resource name, such as `dir`.
    pub name: Arc<str>,
    /// The interface that the component imports it from or exports it by; empty at the root.
    pub interface: Arc<str>,
    /// Host-defined: the id given to `ResourceType::host_dynamic`. `None`: defined by the guest or by WASI.
    pub host: Option<u32>,
    /// What a domain keeps with the resource, such as the class of its objects.
    pub ext: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What a [`Ty`] is.
pub enum Kind {
    Bool,
    Num(Num),
    Char,
    String,
    List(TyRef),
    FixedList(TyRef, usize),
    Record(Box<[Field]>),
    Tuple(Box<[Field]>),
    Variant {
        cases: Box<[Case]>,
        tag: Tag,
    },
    Enum {
        names: Box<[Arc<str>]>,
        tag: Tag,
    },
    Option {
        some: TyRef,
        tag: Tag,
    },
    Result {
        ok: Option<TyRef>,
        err: Option<TyRef>,
        tag: Tag,
    },
    Flags(Box<[Arc<str>]>),
    Own(Arc<Resource>),
    Borrow(Arc<Resource>),
    Stream(Option<TyRef>),
    Future(Option<TyRef>),
    ErrorContext,
}

impl Ty {
    pub(crate) fn new(
        types: &ComponentTypes,
        raw: InterfaceType,
        name: Option<Arc<str>>,
        kind: Kind,
    ) -> Self {
        let abi = types.canonical_abi(&raw);
        Ty {
            kind,
            name,
            size: abi.size32 as usize,
            align: abi.align32 as usize,
            // `flat_count` gives up above its limit; the walker needs the true number to skip unused variant slots
            flat: abi.flat_count(usize::MAX).unwrap_or(usize::MAX),
            raw,
            ext: OnceLock::new(),
        }
    }

    /// The type written as WIT, named types by their name.
    pub fn wit(&self) -> String {
        if let Some(name) = &self.name {
            return name.to_string();
        }
        self.written(&|t| t.wit())
    }

    /// The structure written as WIT, with no names of types: what makes two types the same.
    pub fn shape(&self) -> String {
        self.written(&|t| t.shape())
    }

    /// The structure, its parts as `part` writes them.
    fn written(&self, part: &dyn Fn(&Ty) -> String) -> String {
        let opt = |t: &Option<TyRef>| t.as_ref().map_or("_".to_string(), |t| part(t));
        match &self.kind {
            Kind::Bool => "bool".into(),
            Kind::Num(n) => n.wit().into(),
            Kind::Char => "char".into(),
            Kind::String => "string".into(),
            Kind::List(t) => format!("list<{}>", part(t)),
            Kind::FixedList(t, n) => format!("list<{}, {n}>", part(t)),
            Kind::Record(f) => {
                let f: Vec<_> = f.iter().map(|f| format!("{}: {}", f.name, part(&f.ty))).collect();
                format!("record {{ {} }}", f.join(", "))
            }
            Kind::Tuple(f) => {
                let f: Vec<_> = f.iter().map(|f| part(&f.ty)).collect();
                format!("tuple<{}>", f.join(", "))
            }
            Kind::Variant { cases, .. } => {
                let c: Vec<_> = cases
                    .iter()
                    .map(|c| match &c.ty {
                        Some(t) => format!("{}({})", c.name, part(t)),
                        None => c.name.to_string(),
                    })
                    .collect();
                format!("variant {{ {} }}", c.join(", "))
            }
            Kind::Enum { names, .. } => format!("enum {{ {} }}", names.join(", ")),
            Kind::Option { some, .. } => format!("option<{}>", part(some)),
            Kind::Result {
                ok: None, err: None, ..
            } => "result".into(),
            Kind::Result {
                ok: Some(t),
                err: None,
                ..
            } => format!("result<{}>", part(t)),
            Kind::Result { ok, err, .. } => format!("result<{}, {}>", opt(ok), opt(err)),
            Kind::Flags(names) => format!("flags {{ {} }}", names.join(", ")),
            Kind::Own(r) => r.name.to_string(),
            Kind::Borrow(r) => format!("borrow<{}>", r.name),
            Kind::Stream(t) => t
                .as_ref()
                .map_or("stream".into(), |t| format!("stream<{}>", part(t))),
            Kind::Future(t) => t
                .as_ref()
                .map_or("future".into(), |t| format!("future<{}>", part(t))),
            Kind::ErrorContext => "error-context".into(),
        }
    }

    /// The payload type of case `d` of a variant-like type; `None` if there is no such case.
    pub fn case(&self, d: usize) -> Option<Option<&TyRef>> {
        match &self.kind {
            Kind::Variant { cases, .. } => cases.get(d).map(|c| c.ty.as_ref()),
            Kind::Enum { names, .. } => (d < names.len()).then_some(None),
            Kind::Option { some, .. } => [None, Some(some)].get(d).copied(),
            Kind::Result { ok, err, .. } => [ok.as_ref(), err.as_ref()].get(d).copied(),
            _ => None,
        }
    }

    /// Direct children, in order.
    pub fn children(&self) -> Vec<&TyRef> {
        match &self.kind {
            Kind::List(t) | Kind::FixedList(t, _) | Kind::Option { some: t, .. } => vec![t],
            Kind::Record(f) | Kind::Tuple(f) => f.iter().map(|f| &f.ty).collect(),
            Kind::Variant { cases, .. } => cases.iter().filter_map(|c| c.ty.as_ref()).collect(),
            Kind::Result { ok, err, .. } => ok.iter().chain(err).collect(),
            Kind::Stream(t) | Kind::Future(t) => t.iter().collect(),
            _ => vec![],
        }
    }

    /// Whether `test` holds for this type or any below it.
    pub fn any(&self, test: &dyn Fn(&Ty) -> bool) -> bool {
        test(self) || self.children().iter().any(|t| t.any(test))
    }
}

/// A function of a component, import or export.
pub struct FuncTy {
    /// `acme:app/api`, or empty for a function at the root of the world.
    pub interface: Arc<str>,
    /// WIT name, such as `greet` or `[method]thing.get`.
    pub name: Arc<str>,
    pub params: Box<[(Arc<str>, TyRef)]>,
    /// The parameters as the tuple that the canonical ABI sees.
    pub param_tuple: TyRef,
    pub result: Option<TyRef>,
    pub result_tuple: TyRef,
    /// Declared `async func` in WIT.
    pub async_: bool,
    /// A parameter holds a borrow, whose host slot must be released after the call.
    pub lends: bool,
    /// The result holds a handle, stream or future, which pins the instance that made it.
    pub pins: bool,
}

impl FuncTy {
    /// A function of the parameters `names` in `param_tuple` and of the result in `result_tuple`, if it has one.
    pub(crate) fn new(
        interface: Arc<str>,
        name: Arc<str>,
        names: impl Iterator<Item = Arc<str>>,
        param_tuple: TyRef,
        result_tuple: TyRef,
        async_: bool,
    ) -> Self {
        let slots = |t: &TyRef| t.children().into_iter().cloned().collect::<Vec<_>>();
        let lends = param_tuple.any(&|t| matches!(t.kind, Kind::Borrow(_)));
        let pins = result_tuple.any(&|t| {
            matches!(
                t.kind,
                Kind::Own(_) | Kind::Stream(_) | Kind::Future(_) | Kind::ErrorContext
            )
        });
        FuncTy {
            interface,
            name,
            params: names.zip(slots(&param_tuple)).collect(),
            result: slots(&result_tuple).pop(),
            param_tuple,
            result_tuple,
            async_,
            lends,
            pins,
        }
    }

    /// `interface#name`, or just the name at the root.
    pub fn path(&self) -> String {
        if self.interface.is_empty() {
            self.name.to_string()
        } else {
            format!("{}#{}", self.interface, self.name)
        }
    }

    /// The signature written as WIT, named types by their name.
    pub fn wit(&self) -> String {
        let params = self.params.iter().map(|(n, t)| format!("{n}: {}", t.wit()));
        self.written(params.collect(), &Ty::wit)
    }

    /// The signature written with no names of parameters and types: what makes two functions the same.
    pub fn shape(&self) -> String {
        self.written(self.params.iter().map(|(_, t)| t.shape()).collect(), &Ty::shape)
    }

    /// SHA-256 of [`FuncTy::shape`]: what peers compare.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.shape()).into()
    }

    fn written(&self, params: Vec<String>, ty: &dyn Fn(&Ty) -> String) -> String {
        let result = self
            .result
            .as_ref()
            .map_or(String::new(), |t| format!(" -> {}", ty(t)));
        format!(
            "{}func({}){result}",
            if self.async_ { "async " } else { "" },
            params.join(", ")
        )
    }
}

/// Interface, name and plan of a named type.
pub type NamedType = (Arc<str>, Arc<str>, TyRef);
