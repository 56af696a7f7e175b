//! Interfaces from WIT text, with no component involved.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use wasmtime::{Result, bail, format_err};
use wit_parser::{Function, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::layout;
use crate::link::Interface;
use crate::scope::lock;
use crate::types::{Case, FuncTy, Kind, Num, Resource, Ty, TyRef};

/// WIT packages.
pub struct Wit {
    resolve: Resolve,
    /// What stands for a resource, in all interfaces that use it.
    resources: Mutex<HashMap<TypeId, Arc<Resource>>>,
}

impl From<Resolve> for Wit {
    fn from(resolve: Resolve) -> Self {
        Wit {
            resolve,
            resources: Mutex::default(),
        }
    }
}

impl Wit {
    /// Reads a folder of `.wit` files with its `deps`, or one file.
    ///
    /// Errors with the parser's words where the WIT is not sound.
    pub fn read(path: &Path) -> Result<Self> {
        let mut resolve = Resolve::default();
        match resolve.push_path(path) {
            Ok(_) => Ok(resolve.into()),
            Err(e) => {
                let told = resolve.render_error(&e);
                let place = told
                    .lines()
                    .find_map(|line| line.trim_start().strip_prefix("--> "));
                Err(match place {
                    Some(place) => format_err!("{place}: {}", e.root_cause()),
                    None => format_err!("{e:#}"),
                })
            }
        }
    }

    /// Reads text; `name` stands for it in errors.
    ///
    /// Errors as [`Wit::read`] does.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut resolve = Resolve::default();
        resolve.push_str(name, text).map_err(|e| format_err!("{e:#}"))?;
        Ok(resolve.into())
    }

    pub(crate) fn resolve(&self) -> &Resolve {
        &self.resolve
    }

    /// The names of all interfaces, dependencies first.
    pub fn interfaces(&self) -> Vec<String> {
        let named = self.resolve.interfaces.iter();
        let named = named.filter_map(|(id, _)| self.resolve.id_of(id));
        named.collect()
    }

    /// The interface called `name`, which may leave its version out where only one is there.
    ///
    /// Errors with the names that are there, or where a type is one that no component may have.
    pub fn interface(&self, name: &str) -> Result<Interface> {
        let full = |id| self.resolve.id_of(id).unwrap_or_default();
        let found: Vec<InterfaceId> = self
            .resolve
            .interfaces
            .iter()
            .map(|(id, _)| id)
            .filter(|id| {
                let full = full(*id);
                full == name || full.split_once('@').is_some_and(|(bare, _)| bare == name)
            })
            .collect();
        match found[..] {
            [id] => Maker::new(self, id)?.interface(id),
            [] => bail!("no interface {name}; there are: {}", self.interfaces().join(", ")),
            _ => {
                let all: Vec<_> = found.into_iter().map(full).collect();
                bail!(
                    "the interface {name} is there in several versions: {}",
                    all.join(", ")
                )
            }
        }
    }
}

/// From wit-parser's types to the engine's.
struct Maker<'r> {
    resolve: &'r Resolve,
    made: HashMap<TypeId, TyRef>,
    resources: &'r Mutex<HashMap<TypeId, Arc<Resource>>>,
    /// Types with their names: the first to be declared holds for all that are equal, as it does where a component
    /// declares them.
    names: Vec<(TyRef, Arc<str>)>,
}

impl<'r> Maker<'r> {
    fn new(wit: &'r Wit, interface: InterfaceId) -> Result<Self> {
        let mut maker = Maker {
            resolve: &wit.resolve,
            made: HashMap::new(),
            resources: &wit.resources,
            names: vec![],
        };
        maker.names = maker.declare(interface, &mut HashSet::new())?;
        maker.made.clear(); // they were made without names
        Ok(maker)
    }

    /// The names that an interface, and first those that it uses, give to types.
    fn declare(
        &mut self,
        interface: InterfaceId,
        seen: &mut HashSet<InterfaceId>,
    ) -> Result<Vec<(TyRef, Arc<str>)>> {
        if !seen.insert(interface) {
            return Ok(vec![]);
        }
        let mut names = vec![];
        let types = &self.resolve.interfaces[interface].types;
        for id in types.values() {
            if let TypeDefKind::Type(Type::Id(used)) = self.resolve.types[*id].kind
                && let TypeOwner::Interface(owner) = self.resolve.types[used].owner
            {
                names.extend(self.declare(owner, seen)?);
            }
        }
        for (name, id) in types {
            let id = self.definition(*id);
            match &self.resolve.types[id].kind {
                TypeDefKind::Resource => _ = self.resource(id),
                TypeDefKind::Record(_)
                | TypeDefKind::Variant(_)
                | TypeDefKind::Enum(_)
                | TypeDefKind::Flags(_) => {
                    names.push((self.ty(&Type::Id(id))?, Arc::from(name.as_str())));
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// What a chain of other names for a type ends at.
    fn definition(&self, mut id: TypeId) -> TypeId {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        id
    }

    fn interface(mut self, id: InterfaceId) -> Result<Interface> {
        let name: Arc<str> = self.resolve.id_of(id).unwrap_or_default().into();
        let resolve = self.resolve;
        let functions = resolve.interfaces[id].functions.values();
        let funcs = functions
            .map(|f| self.function(&name, f).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let defined = resolve.interfaces[id].types.values();
        let resources = defined
            .filter(|t| matches!(resolve.types[**t].kind, TypeDefKind::Resource))
            .map(|t| self.resource(*t));
        Ok(Interface {
            name: name.clone(),
            resources: resources.collect(),
            funcs,
        })
    }

    fn function(&mut self, interface: &Arc<str>, f: &Function) -> Result<FuncTy> {
        let within = |e| format_err!("{interface}#{}: {e}", f.name);
        let params = f.params.iter().map(|p| self.ty(&p.ty));
        let params = params.collect::<Result<Vec<_>>>().map_err(within)?;
        let result = f.result.iter().map(|t| self.ty(t));
        let result = result.collect::<Result<Vec<_>>>().map_err(within)?;
        Ok(FuncTy::new(
            interface.clone(),
            f.name.as_str().into(),
            f.params.iter().map(|p| Arc::from(p.name.as_str())),
            Ty::tuple(params)?,
            Ty::tuple(result)?,
            f.kind.is_async(),
        ))
    }

    fn ty(&mut self, ty: &Type) -> Result<TyRef> {
        let kind = match ty {
            Type::Id(id) => return self.defined(self.definition(*id)),
            Type::Bool => Kind::Bool,
            Type::U8 => Kind::Num(Num::U8),
            Type::S8 => Kind::Num(Num::S8),
            Type::U16 => Kind::Num(Num::U16),
            Type::S16 => Kind::Num(Num::S16),
            Type::U32 => Kind::Num(Num::U32),
            Type::S32 => Kind::Num(Num::S32),
            Type::U64 => Kind::Num(Num::U64),
            Type::S64 => Kind::Num(Num::S64),
            Type::F32 => Kind::Num(Num::F32),
            Type::F64 => Kind::Num(Num::F64),
            Type::Char => Kind::Char,
            Type::String => Kind::String,
            Type::ErrorContext => Kind::ErrorContext,
        };
        Ty::made(None, kind)
    }

    fn defined(&mut self, id: TypeId) -> Result<TyRef> {
        if let Some(made) = self.made.get(&id) {
            return Ok(made.clone());
        }
        if let TypeDefKind::Type(plain) = &self.resolve.types[id].kind {
            return self.ty(plain);
        }
        let kind = self.kind(id)?;
        let named = matches!(
            kind,
            Kind::Record(_) | Kind::Variant { .. } | Kind::Enum { .. } | Kind::Flags(_)
        );
        let mut made = Ty::made(None, kind)?;
        if named && let Some(ty) = Arc::get_mut(&mut made) {
            let found = self.names.iter().find(|(t, _)| same(t, ty));
            ty.name = found.map(|(_, name)| name.clone());
        }
        self.made.insert(id, made.clone());
        Ok(made)
    }

    fn kind(&mut self, id: TypeId) -> Result<Kind> {
        let resolve = self.resolve;
        let maybe = |m: &mut Self, t: &Option<Type>| t.as_ref().map(|t| m.ty(t)).transpose();
        Ok(match &resolve.types[id].kind {
            TypeDefKind::Record(r) => {
                let named = r.fields.iter();
                let named = named.map(|f| Ok((Arc::from(f.name.as_str()), self.ty(&f.ty)?)));
                Kind::Record(layout::fields(named.collect::<Result<Vec<_>>>()?.into_iter()))
            }
            TypeDefKind::Tuple(t) => {
                let items = t.types.iter().map(|t| Ok((Arc::from(""), self.ty(t)?)));
                Kind::Tuple(layout::fields(items.collect::<Result<Vec<_>>>()?.into_iter()))
            }
            TypeDefKind::Variant(v) => {
                let cases = v.cases.iter().map(|c| {
                    Ok(Case {
                        name: c.name.as_str().into(),
                        ty: maybe(self, &c.ty)?,
                    })
                });
                layout::variant(cases.collect::<Result<_>>()?)
            }
            TypeDefKind::Enum(e) => {
                layout::enumeration(e.cases.iter().map(|c| Arc::from(c.name.as_str())).collect())
            }
            TypeDefKind::Flags(f) if f.flags.len() > 32 => bail!(
                "flags with {} members: the component model stops at 32",
                f.flags.len()
            ),
            TypeDefKind::Flags(f) => {
                Kind::Flags(f.flags.iter().map(|f| Arc::from(f.name.as_str())).collect())
            }
            TypeDefKind::Option(t) => layout::option(self.ty(t)?),
            TypeDefKind::Result(r) => layout::result(maybe(self, &r.ok)?, maybe(self, &r.err)?),
            TypeDefKind::List(t) => Kind::List(self.ty(t)?),
            TypeDefKind::FixedLengthList(t, n) => Kind::FixedList(self.ty(t)?, *n as usize),
            TypeDefKind::Handle(Handle::Own(r)) => Kind::Own(self.resource(self.definition(*r))),
            TypeDefKind::Handle(Handle::Borrow(r)) => Kind::Borrow(self.resource(self.definition(*r))),
            TypeDefKind::Resource => Kind::Own(self.resource(id)),
            TypeDefKind::Stream(t) => Kind::Stream(maybe(self, t)?),
            TypeDefKind::Future(t) => Kind::Future(maybe(self, t)?),
            other => bail!("the type `{}` is not supported", other.as_str()),
        })
    }

    fn resource(&mut self, id: TypeId) -> Arc<Resource> {
        let mut resources = lock(self.resources);
        let host = resources.len() as u32;
        let resolve = self.resolve;
        let make = || {
            let of = &resolve.types[id];
            let interface = match of.owner {
                TypeOwner::Interface(owner) => resolve.id_of(owner).unwrap_or_default(),
                _ => String::new(),
            };
            Arc::new(Resource {
                name: of.name.as_deref().unwrap_or("resource").into(),
                interface: interface.into(),
                host: Some(host),
                ext: OnceLock::new(),
            })
        };
        resources.entry(id).or_insert_with(make).clone()
    }
}

/// Whether two types have the same structure and the same resources in it.
fn same(a: &Ty, b: &Ty) -> bool {
    fn resources<'t>(ty: &'t Ty, all: &mut Vec<&'t Arc<Resource>>) {
        match &ty.kind {
            Kind::Own(r) | Kind::Borrow(r) => all.push(r),
            _ => ty.children().into_iter().for_each(|t| resources(t, all)),
        }
    }
    let of = |ty| {
        let mut all = vec![];
        resources(ty, &mut all);
        all
    };
    let (ours, theirs) = (of(a), of(b));
    a.shape() == b.shape() && ours.iter().zip(&theirs).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests;
