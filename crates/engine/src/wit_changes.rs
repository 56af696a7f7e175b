//! What has changed between two versions of WIT packages, and whether a component built for the old still links.
//!
//! The rules are those of linking: an import must find each of its functions with the very types that it was built
//! with. So whatever is only added beside them is compatible, and any other change is not: a new field or case too, for
//! the bytes of values would be others.

use wit_parser::{Function, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::wit_types::Wit;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `loop:fsx/files` and what in it: `dir.read`, `error-code`.
    pub interface: String,
    pub item: String,
    /// In words: ``parameter `path` was `string`, is `u32` ``.
    pub what: String,
    /// A component built for the old no longer links.
    pub breaks: bool,
}

/// The packages of `wit` with their versions: `("loop:fsx", "0.1.0")`, an empty one where there is none.
pub fn packages(wit: &Wit) -> Vec<(String, String)> {
    let all = wit.resolve().packages.iter();
    let named = all.map(|(_, p)| {
        let version = p.name.version.as_ref().map(ToString::to_string);
        (
            format!("{}:{}", p.name.namespace, p.name.name),
            version.unwrap_or_default(),
        )
    });
    named.collect()
}

/// What differs in the interfaces of `old`'s packages; those that `new` has beside them are none of it.
pub fn changes(old: &Wit, new: &Wit) -> Vec<Change> {
    let (old, new) = (old.resolve(), new.resolve());
    let mut found = Found::default();
    for (id, _) in old.interfaces.iter() {
        let Some(name) = bare(old, id) else { continue };
        found.interface.clone_from(&name);
        match new
            .interfaces
            .iter()
            .find(|(i, _)| bare(new, *i).as_ref() == Some(&name))
        {
            Some((there, _)) => interface(old, id, new, there, &mut found),
            None => found.breaks("", "the interface is gone"),
        }
    }
    for (id, i) in new.interfaces.iter() {
        let Some(name) = bare(new, id) else { continue };
        let package = name.split('/').next().unwrap_or_default();
        let known = packages_of(old).any(|p| p == package);
        if known
            && i.name.is_some()
            && !old
                .interfaces
                .iter()
                .any(|(i, _)| bare(old, i).as_ref() == Some(&name))
        {
            found.interface = name;
            found.adds("", "a new interface");
        }
    }
    found.all
}

fn packages_of(resolve: &Resolve) -> impl Iterator<Item = String> + '_ {
    let all = resolve.packages.iter();
    all.map(|(_, p)| format!("{}:{}", p.name.namespace, p.name.name))
}

/// An interface's name without its version.
fn bare(resolve: &Resolve, id: InterfaceId) -> Option<String> {
    let full = resolve.id_of(id)?;
    Some(full.split('@').next()?.to_string())
}

#[derive(Default)]
struct Found {
    interface: String,
    all: Vec<Change>,
}

impl Found {
    fn push(&mut self, item: &str, what: impl Into<String>, breaks: bool) {
        self.all.push(Change {
            interface: self.interface.clone(),
            item: item.into(),
            // what stands in the same interface needs no more than its name
            what: what.into().replace(&format!("{}.", self.interface), ""),
            breaks,
        });
    }

    fn breaks(&mut self, item: &str, what: impl Into<String>) {
        self.push(item, what, true);
    }

    fn adds(&mut self, item: &str, what: impl Into<String>) {
        self.push(item, what, false);
    }
}

fn interface(old: &Resolve, was: InterfaceId, new: &Resolve, is: InterfaceId, found: &mut Found) {
    let (before, after) = (&old.interfaces[was], &new.interfaces[is]);
    for (name, id) in &before.types {
        match after.types.get(name) {
            Some(there) => definition(name, &Def::of(old, *id), &Def::of(new, *there), found),
            None => found.breaks(name, "the type is gone"),
        }
    }
    for (name, id) in after.types.iter().filter(|(n, _)| !before.types.contains_key(*n)) {
        found.adds(name, format!("a new {}", Def::of(new, *id).kind));
    }
    for (name, f) in &before.functions {
        let item = shown(name);
        match after.functions.get(name) {
            Some(there) => function(&item, (old, f), (new, there), found),
            None => found.breaks(&item, "the function is gone"),
        }
    }
    for name in after
        .functions
        .keys()
        .filter(|n| !before.functions.contains_key(*n))
    {
        found.adds(&shown(name), "a new function");
    }
}

/// `[method]dir.read` as `dir.read`, `[constructor]token` as `token.constructor`.
fn shown(name: &str) -> String {
    match name.strip_prefix('[').and_then(|n| n.split_once(']')) {
        Some(("constructor", of)) => format!("{of}.constructor"),
        Some((_, of)) => of.into(),
        None => name.into(),
    }
}

fn function(
    item: &str,
    (old, was): (&Resolve, &Function),
    (new, is): (&Resolve, &Function),
    found: &mut Found,
) {
    let asynchronous = |f: &Function| if f.kind.is_async() { "async func" } else { "func" };
    if asynchronous(was) != asynchronous(is) {
        found.breaks(
            item,
            format!("was `{}`, is `{}`", asynchronous(was), asynchronous(is)),
        );
    }
    let params = |r, f: &Function| -> Vec<(String, String)> {
        f.params
            .iter()
            .map(|p| (p.name.clone(), text(r, &p.ty)))
            .collect()
    };
    parts(item, "parameter", &params(old, was), &params(new, is), found);
    let result = |r, f: &Function| f.result.map_or_else(|| "nothing".into(), |t| text(r, &t));
    let (before, after) = (result(old, was), result(new, is));
    if before != after {
        found.breaks(item, format!("gave `{before}`, gives `{after}`"));
    }
}

/// A type's definition, comparable across packages.
#[derive(PartialEq)]
struct Def {
    kind: &'static str,
    /// What its parts are called: field, case, flag.
    part: &'static str,
    parts: Vec<(String, String)>,
    /// For whatever has no parts with names.
    whole: String,
}

impl Def {
    fn of(resolve: &Resolve, id: TypeId) -> Self {
        let payload = |t: &Option<Type>| t.map_or_else(String::new, |t| text(resolve, &t));
        let kind = &resolve.types[id].kind;
        let (part, parts) = match kind {
            TypeDefKind::Record(r) => {
                let fields = r.fields.iter().map(|f| (f.name.clone(), text(resolve, &f.ty)));
                ("field", fields.collect())
            }
            TypeDefKind::Variant(v) => {
                let cases = v.cases.iter().map(|c| (c.name.clone(), payload(&c.ty)));
                ("case", cases.collect())
            }
            TypeDefKind::Enum(e) => ("case", named(e.cases.iter().map(|c| &c.name))),
            TypeDefKind::Flags(f) => ("flag", named(f.flags.iter().map(|f| &f.name))),
            _ => ("", vec![]),
        };
        let whole = match kind {
            TypeDefKind::Resource => "resource".into(),
            _ if part.is_empty() => structure(resolve, kind),
            _ => String::new(),
        };
        Def {
            kind: kind.as_str(),
            part,
            parts,
            whole,
        }
    }
}

fn named<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(String, String)> {
    names.map(|n| (n.clone(), String::new())).collect()
}

fn definition(name: &str, was: &Def, is: &Def, found: &mut Found) {
    if was.kind != is.kind {
        found.breaks(name, format!("was a {}, is a {}", was.kind, is.kind));
    } else if was.whole != is.whole {
        found.breaks(name, format!("was `{}`, is `{}`", was.whole, is.whole));
    } else {
        parts(name, was.part, &was.parts, &is.parts, found);
    }
}

/// Compares fields, cases or parameters, which are told apart by their names and must keep their order.
fn parts(item: &str, part: &str, was: &[(String, String)], is: &[(String, String)], found: &mut Found) {
    let mut same = true;
    for (name, before) in was {
        let after = is.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        let of = |t: &String| {
            if t.is_empty() {
                "without a value".into()
            } else {
                format!("`{t}`")
            }
        };
        match after {
            Some(after) if after != before => {
                found.breaks(
                    item,
                    format!("{part} `{name}` was {}, is {}", of(before), of(after)),
                );
            }
            Some(_) => continue,
            None => found.breaks(item, format!("{part} `{name}` is gone")),
        }
        same = false;
    }
    for (name, _) in is.iter().filter(|(n, _)| !was.iter().any(|(w, _)| w == n)) {
        found.breaks(item, format!("{part} `{name}` is new, which changes every value"));
        same = false;
    }
    if same && was != is {
        found.breaks(item, format!("its {part}s are in another order"));
    }
}

/// A type as it is written where it is used; one of another interface with that interface.
fn text(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return primitive(ty).into();
    };
    let def = &resolve.types[*id];
    match (&def.name, &def.kind) {
        // what is only taken over by `use` is what it was there
        (_, TypeDefKind::Type(Type::Id(of))) if resolve.types[*of].owner != def.owner => {
            text(resolve, &Type::Id(*of))
        }
        (Some(name), _) => match def.owner {
            TypeOwner::Interface(i) => format!("{}.{name}", bare(resolve, i).unwrap_or_default()),
            _ => name.clone(),
        },
        (None, kind) => structure(resolve, kind),
    }
}

fn structure(resolve: &Resolve, kind: &TypeDefKind) -> String {
    let one = |t: &Type| text(resolve, t);
    let maybe = |t: &Option<Type>| t.as_ref().map_or_else(|| "_".into(), one);
    match kind {
        TypeDefKind::Handle(Handle::Own(id)) => one(&Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", one(&Type::Id(*id))),
        TypeDefKind::Tuple(t) => format!(
            "tuple<{}>",
            t.types.iter().map(one).collect::<Vec<_>>().join(", ")
        ),
        TypeDefKind::Option(t) => format!("option<{}>", one(t)),
        TypeDefKind::Result(r) => format!("result<{}, {}>", maybe(&r.ok), maybe(&r.err)),
        TypeDefKind::List(t) => format!("list<{}>", one(t)),
        TypeDefKind::Map(k, v) => format!("map<{}, {}>", one(k), one(v)),
        TypeDefKind::FixedLengthList(t, n) => format!("list<{}, {n}>", one(t)),
        TypeDefKind::Future(t) => format!("future<{}>", maybe(t)),
        TypeDefKind::Stream(t) => format!("stream<{}>", maybe(t)),
        TypeDefKind::Type(t) => one(t),
        // these have names always
        other => other.as_str().into(),
    }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "a named type",
    }
}
