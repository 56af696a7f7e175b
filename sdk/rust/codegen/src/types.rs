//! Types of WIT as types of Rust, and the expressions that read and write their values.

use std::collections::HashMap;

use wit_parser::{Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::names::{pascal, snake};

/// Items that Rust's tuples may have here, which is as many as the codec has.
const TUPLE: usize = 8;

/// What types are called, and where.
pub struct Types<'r> {
    pub resolve: &'r Resolve,
    /// The module of each interface.
    pub modules: HashMap<InterfaceId, String>,
}

/// What a type is, once other names for it are followed.
pub enum Of<'r> {
    Plain(&'r Type),
    Defined(TypeId, &'r TypeDefKind),
}

impl<'r> Types<'r> {
    pub fn follow(&self, of: &'r Type) -> Of<'r> {
        let Type::Id(id) = of else {
            return Of::Plain(of);
        };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Type(next) => self.follow(next),
            kind => Of::Defined(*id, kind),
        }
    }

    /// The parts of a type; none of resources.
    fn parts(&self, kind: &'r TypeDefKind) -> Vec<&'r Type> {
        match kind {
            TypeDefKind::Record(r) => r.fields.iter().map(|f| &f.ty).collect(),
            TypeDefKind::Tuple(t) => t.types.iter().collect(),
            TypeDefKind::Variant(v) => v.cases.iter().filter_map(|c| c.ty.as_ref()).collect(),
            TypeDefKind::Option(t) | TypeDefKind::List(t) | TypeDefKind::FixedLengthList(t, _) => vec![t],
            TypeDefKind::Result(r) => r.ok.iter().chain(&r.err).collect(),
            TypeDefKind::Stream(t) | TypeDefKind::Future(t) => t.iter().collect(),
            _ => vec![],
        }
    }

    /// Whether a value is its bytes alone, without handles, streams or futures.
    pub fn is_plain(&self, of: &'r Type) -> bool {
        !self.any(of, &|kind| {
            matches!(
                kind,
                TypeDefKind::Handle(_)
                    | TypeDefKind::Resource
                    | TypeDefKind::Stream(_)
                    | TypeDefKind::Future(_)
            )
        })
    }

    /// Whether a value holds streams or futures.
    pub fn has_channels(&self, of: &'r Type) -> bool {
        self.any(of, &|kind| {
            matches!(kind, TypeDefKind::Stream(_) | TypeDefKind::Future(_))
        })
    }

    fn any(&self, of: &'r Type, is: &dyn Fn(&TypeDefKind) -> bool) -> bool {
        match self.follow(of) {
            Of::Plain(_) => false,
            Of::Defined(_, kind) => is(kind) || self.parts(kind).into_iter().any(|t| self.any(t, is)),
        }
    }

    /// The type with a name that `id` is, as seen from a module beside its own.
    fn path(&self, id: TypeId) -> String {
        let of = &self.resolve.types[id];
        let name = pascal(of.name.as_deref().unwrap_or("unnamed"));
        match of.owner {
            TypeOwner::Interface(owner) if self.modules.contains_key(&owner) => {
                format!("super::{}::{name}", self.modules[&owner])
            }
            _ => format!("super::{name}"),
        }
    }

    /// The type in Rust.
    ///
    /// Errors where the codec of Rust has no such type.
    pub fn rust(&self, of: &'r Type) -> Result<String, String> {
        match self.follow(of) {
            Of::Plain(of) => Ok(plain(of).into()),
            Of::Defined(id, kind) => self.defined(id, kind),
        }
    }

    /// The same of a type that is defined so, by other names or without one.
    pub fn defined(&self, id: TypeId, kind: &'r TypeDefKind) -> Result<String, String> {
        let maybe = |t: &'r Option<Type>| t.as_ref().map_or(Ok("()".to_owned()), |t| self.rust(t));
        Ok(match kind {
            TypeDefKind::Tuple(t) if t.types.len() > TUPLE => {
                return Err(format!(
                    "a tuple of {} items: at most {TUPLE} have a type in Rust here; make it a record",
                    t.types.len()
                ));
            }
            TypeDefKind::Tuple(t) => {
                let items = t.types.iter().map(|t| Ok(self.rust(t)? + ","));
                format!("({})", items.collect::<Result<String, String>>()?)
            }
            TypeDefKind::Option(t) => format!("Option<{}>", self.rust(t)?),
            TypeDefKind::Result(r) => format!("Result<{}, {}>", maybe(&r.ok)?, maybe(&r.err)?),
            TypeDefKind::List(t) => format!("p::Vec<{}>", self.rust(t)?),
            TypeDefKind::FixedLengthList(t, n) => format!("[{}; {n}]", self.rust(t)?),
            TypeDefKind::Stream(Some(Type::U8)) => "p::Stream<p::Bytes>".into(),
            TypeDefKind::Stream(t) => format!("p::Stream<{}>", maybe(t)?),
            TypeDefKind::Future(t) => format!("p::Promise<{}>", maybe(t)?),
            TypeDefKind::Handle(Handle::Own(r) | Handle::Borrow(r)) => self.resource(*r),
            TypeDefKind::Resource => self.resource(id),
            TypeDefKind::Record(_)
            | TypeDefKind::Variant(_)
            | TypeDefKind::Enum(_)
            | TypeDefKind::Flags(_) => self.path(id),
            other => return Err(format!("the type {} is not supported", other.as_str())),
        })
    }

    /// A resource is the provider's own type of that name, beside `wit!()`.
    fn resource(&self, id: TypeId) -> String {
        format!("p::Arc<super::{}>", pascal(&self.resource_name(id)))
    }

    fn resource_name(&self, id: TypeId) -> String {
        let of = &self.resolve.types[id];
        match &of.kind {
            TypeDefKind::Type(Type::Id(next)) => self.resource_name(*next),
            _ => of.name.clone().unwrap_or_default(),
        }
    }

    /// An expression of `Result<T, Failure>` that reads a value from `cx`.
    pub fn lift(&self, of: &'r Type) -> Result<String, String> {
        if self.is_plain(of) {
            return Ok(format!("cx.value::<{}>()", self.rust(of)?));
        }
        let Of::Defined(id, kind) = self.follow(of) else {
            unreachable!("types without parts are plain");
        };
        let maybe = |t: &'r Option<Type>| t.as_ref().map_or(Ok("Ok(())".to_owned()), |t| self.lift(t));
        Ok(match kind {
            TypeDefKind::Tuple(t) => {
                let items = t.types.iter().enumerate();
                let items = items.map(|(i, t)| Ok(format!("cx.at({i}, |cx| {})?,", self.lift(t)?)));
                format!(
                    "cx.all(|cx| Ok(({})))",
                    items.collect::<Result<String, String>>()?
                )
            }
            TypeDefKind::Option(t) => format!("cx.option(|cx| {})", self.lift(t)?),
            TypeDefKind::Result(r) => format!("cx.result(|cx| {}, |cx| {})", maybe(&r.ok)?, maybe(&r.err)?),
            TypeDefKind::List(t) => format!("cx.list(|cx| {})", self.lift(t)?),
            TypeDefKind::FixedLengthList(t, _) => format!("cx.array(|cx| {})", self.lift(t)?),
            TypeDefKind::Stream(Some(Type::U8)) => "cx.bytes()".into(),
            TypeDefKind::Stream(t) => format!("cx.stream(|cx| {})", maybe(t)?),
            TypeDefKind::Future(t) => format!("cx.future(|cx| {})", maybe(t)?),
            TypeDefKind::Handle(Handle::Borrow(_)) => "cx.borrowed()".into(),
            TypeDefKind::Handle(Handle::Own(_)) | TypeDefKind::Resource => "cx.owned()".into(),
            _ => format!("{}::lift(cx)", self.path(id)),
        })
    }

    /// An expression of `Result<(), Failure>` that writes the value `v` to `cx`.
    pub fn lower(&self, of: &'r Type) -> Result<String, String> {
        if self.is_plain(of) {
            return Ok("cx.value(&v)".into());
        }
        let Of::Defined(_, kind) = self.follow(of) else {
            unreachable!("types without parts are plain");
        };
        let maybe = |t: &'r Option<Type>| {
            t.as_ref()
                .map_or(Ok("cx.value(&v)".to_owned()), |t| self.lower(t))
        };
        Ok(match kind {
            TypeDefKind::Tuple(t) => {
                let items = t.types.iter().enumerate();
                let items =
                    items.map(|(i, t)| Ok(format!("cx.at({i}, v.{i}, |cx, v| {})?;", self.lower(t)?)));
                format!("{{ {} Ok(()) }}", items.collect::<Result<String, String>>()?)
            }
            TypeDefKind::Option(t) => format!("cx.option(v, |cx, v| {})", self.lower(t)?),
            TypeDefKind::Result(r) => {
                format!(
                    "cx.result(v, |cx, v| {}, |cx, v| {})",
                    maybe(&r.ok)?,
                    maybe(&r.err)?
                )
            }
            TypeDefKind::List(t) => format!("cx.list(v, |cx, v| {})", self.lower(t)?),
            TypeDefKind::FixedLengthList(t, _) => format!("cx.array(v, |cx, v| {})", self.lower(t)?),
            TypeDefKind::Stream(Some(Type::U8)) => "cx.bytes(v)".into(),
            TypeDefKind::Stream(t) => format!("cx.stream(v, |cx, v| {})", maybe(t)?),
            TypeDefKind::Future(t) => format!("cx.future(v, |cx, v| {})", maybe(t)?),
            TypeDefKind::Handle(_) | TypeDefKind::Resource => "cx.own(v)".into(),
            _ => "v.lower(cx)".into(),
        })
    }

    /// The fewest bytes of a value, as an expression.
    pub fn least(&self, of: &'r Type) -> Result<String, String> {
        Ok(format!("<{} as p::Decode>::LEAST", self.rust(of)?))
    }

    /// The module that an interface gets.
    pub fn module(&self, interface: InterfaceId) -> &str {
        &self.modules[&interface]
    }

    /// Names of modules: the interface's own, with its package before it where two are called the same.
    pub fn name_modules(resolve: &Resolve) -> HashMap<InterfaceId, String> {
        let short = |name: &str| snake(name).replace("r#", "");
        let mut count = HashMap::<String, usize>::new();
        for (_, interface) in resolve.interfaces.iter() {
            let name = interface.name.as_deref().unwrap_or_default();
            *count.entry(short(name)).or_default() += 1;
        }
        let named = resolve.interfaces.iter().map(|(id, interface)| {
            let name = short(interface.name.as_deref().unwrap_or_default());
            let package = interface.package.map(|p| &resolve.packages[p].name);
            let name = match package {
                Some(package) if count[&name] > 1 => {
                    let version = package
                        .version
                        .as_ref()
                        .map_or(String::new(), |v| format!("_{v}"));
                    let full = format!("{}_{}_{name}{version}", package.namespace, package.name);
                    full.replace(|c: char| !c.is_alphanumeric(), "_")
                }
                _ => name,
            };
            (id, snake(&name))
        });
        named.collect()
    }
}

fn plain(of: &Type) -> &'static str {
    match of {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::S8 => "i8",
        Type::U16 => "u16",
        Type::S16 => "i16",
        Type::U32 => "u32",
        Type::S32 => "i32",
        Type::U64 => "u64",
        Type::S64 => "i64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "String",
        Type::ErrorContext => "p::ErrorContext",
        Type::Id(_) => "",
    }
}
