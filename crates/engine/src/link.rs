//! From a compiled component and its imports to a [`Program`] that can be instantiated.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};
use wasmtime::{AsContextMut, Result, StoreContextMut, bail, format_err};

use crate::domain::Domain;
use crate::engine::{Engine, Flavour};
use crate::error::Mismatch;
use crate::import::{Import, Outcome};
use crate::instance::State;
use crate::limits::Limits;
use crate::planner::Planner;
use crate::plans::Plans;
use crate::preview1;
use crate::program::{Export, Program, StoreKind};
use crate::scope::{self, Behalf, lock};
use crate::shim::{Dyn, MAX_FLAT, Origin, with_count};
use crate::slot::{Generation, Slot, Whose};
use crate::types::{FuncTy, Kind, Resource, TyRef};
use crate::wasi::WasiConfig;
use crate::world_types::{self, WorldTypes};

/// An imported interface (or, with an empty name, the functions imported at the root).
#[derive(Clone)]
pub struct Interface {
    pub name: Arc<str>,
    pub funcs: Vec<Arc<FuncTy>>,
    pub resources: Vec<Arc<Resource>>,
}

impl Interface {
    pub fn function(&self, name: &str) -> Option<&Arc<FuncTy>> {
        self.funcs.iter().find(|f| &*f.name == name)
    }

    pub fn resource(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| &*r.name == name)
    }
}

/// A component being linked.
pub struct Link {
    engine: Engine,
    flavour: Flavour,
    component: Component,
    planner: Planner,
    pub imports: Vec<Interface>,
    /// Imports that no host can provide, and what they are.
    pub unprovidable: Vec<(String, &'static str)>,
    definitions: Vec<(Arc<str>, Define)>,
    /// Further names at the root of the resources imported there, by their host ids.
    aliases: Vec<(u32, Arc<str>)>,
    /// Exports at the root that are types.
    exported_types: Vec<String>,
    waits: bool,
    wasi: Option<WasiConfig>,
}

type Define = Box<dyn FnOnce(&mut LinkerInstance<'_, State>, StoreKind) -> Result<()> + Send + Sync>;

impl Link {
    /// Compiles `wasm` and plans its imports. Interfaces for which `foreign` holds are left to WASI.
    ///
    /// Errors when the bytes are no component, or when an import uses a type this engine does not know (with the path).
    pub fn new(engine: &Engine, wasm: &[u8], fuel: bool, foreign: impl Fn(&str) -> bool) -> Result<Self> {
        let (component, flavour) = engine.compile(wasm, fuel)?;
        // a core module has no types of its own
        let types = match preview1::is_module(wasm) {
            true => WorldTypes::default(),
            false => world_types::of(wasm)?,
        };
        let mut planner = Planner::new(types.imports);
        let mut imports: Vec<Interface> = vec![];
        let mut unprovidable = vec![];
        let world = component.component_type();
        let cx = world.instance_type();
        let mut next_host = 0;
        let mut aliases = vec![];
        let root: Arc<str> = "".into();
        // names before functions: a type may be used before it is named
        for (name, item) in world.imports(component.engine()) {
            if let ComponentItem::Type(_) = item.ty {
                planner.declare(&root, name, &item.ty, None);
            }
        }
        for (name, item) in world.imports(component.engine()) {
            let host = !foreign(name);
            match &item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let interface: Arc<str> = name.into();
                    let mut made = Interface {
                        name: interface.clone(),
                        funcs: vec![],
                        resources: vec![],
                    };
                    for (n, item) in instance.exports(component.engine()) {
                        let id = matches!(item.ty, ComponentItem::Resource(_))
                            .then_some(next_host)
                            .filter(|_| host);
                        planner.declare(&interface, n, &item.ty, id);
                        if let ComponentItem::Resource(r) = &item.ty
                            && host
                            && let Some(r) = planner.resource(r).filter(|r| r.host == Some(next_host))
                        {
                            next_host += 1;
                            made.resources.push(r.clone());
                        }
                    }
                    for (n, item) in instance.exports(component.engine()) {
                        if let ComponentItem::ComponentFunc(f) = &item.ty {
                            let f = planner
                                .func(&interface, n, f, &cx)
                                .map_err(|e| format_err!("import {interface}#{n}: {e:#}"))?;
                            made.funcs.push(Arc::new(f));
                        }
                    }
                    if host {
                        imports.push(made);
                    }
                }
                ComponentItem::ComponentFunc(f) => {
                    let f = planner
                        .func(&root, name, f, &cx)
                        .map_err(|e| format_err!("import {name}: {e:#}"))?;
                    match imports.iter_mut().find(|i| i.name.is_empty()) {
                        Some(i) => i.funcs.push(Arc::new(f)),
                        None => imports.push(Interface {
                            name: root.clone(),
                            funcs: vec![Arc::new(f)],
                            resources: vec![],
                        }),
                    }
                }
                ComponentItem::Resource(r) => {
                    if let Some(known) = planner.resource(r).and_then(|known| known.host) {
                        aliases.push((known, name.into()));
                        continue;
                    }
                    planner.declare(&root, name, &item.ty, Some(next_host));
                    if let Some(r) = planner.resource(r).cloned() {
                        next_host += 1;
                        match imports.iter_mut().find(|i| i.name.is_empty()) {
                            Some(i) => i.resources.push(r),
                            None => imports.push(Interface {
                                name: root.clone(),
                                funcs: vec![],
                                resources: vec![r],
                            }),
                        }
                    }
                }
                ComponentItem::Type(_) => {}
                ComponentItem::Module(_) | ComponentItem::Component(_) | ComponentItem::CoreFunc(_) => {
                    unprovidable.push((name.to_string(), describe(&item.ty)));
                }
            }
        }
        Ok(Link {
            engine: engine.clone(),
            flavour,
            component,
            planner,
            imports,
            unprovidable,
            definitions: vec![],
            aliases,
            exported_types: types.exports,
            waits: false,
            wasi: None,
        })
    }

    /// Whether the component uses component-model async.
    pub fn concurrent(&self) -> bool {
        self.flavour.concurrent
    }

    /// Links a function.
    pub fn define<D: Domain>(&mut self, func: &Arc<FuncTy>, import: Import<D>) {
        self.callee(func, Callee::Fixed(import));
    }

    /// Links a function whose provider may be exchanged.
    pub fn define_slot<D: Domain>(&mut self, func: &Arc<FuncTy>, slot: Arc<Slot<D>>) {
        let keeps = func.result_tuple.any(&|t| {
            matches!(
                t.kind,
                Kind::Own(_) | Kind::Borrow(_) | Kind::Stream(_) | Kind::Future(_)
            )
        });
        self.callee(func, Callee::Slot { slot, keeps });
    }

    fn callee<D: Domain>(&mut self, func: &Arc<FuncTy>, callee: Callee<D>) {
        self.waits |= callee.waits() || func.async_;
        let f = func.clone();
        self.definitions.push((
            func.interface.clone(),
            Box::new(move |to, kind| define(to, &f, callee, kind)),
        ));
    }

    /// Links a resource type; `D::dropped` gets what the guest drops.
    pub fn define_resource<D: Domain>(&mut self, resource: &Arc<Resource>) {
        let aliases = self.aliases.iter();
        let aliases = aliases.filter(|(id, _)| resource.host == Some(*id));
        let names = std::iter::once((resource.interface.clone(), resource.name.clone()))
            .chain(aliases.map(|(_, name)| ("".into(), name.clone())));
        let host = resource.host;
        self.definitions.extend(names.map(|(interface, name)| {
            let define: Define = Box::new(move |to, _| {
                let Some(id) = host else {
                    bail!("{name} is not the host's to define")
                };
                to.resource(&name, ResourceType::host_dynamic(id), |store, rep| {
                    let (object, _of) = store.data().shared.take(rep)?;
                    D::dropped(object)
                })
            });
            (interface, define)
        }));
    }

    /// Links WASI for the interfaces left to it.
    pub fn define_wasi(&mut self, config: WasiConfig) {
        self.wasi = Some(config);
    }

    /// Checks the whole and plans the exports.
    ///
    /// Errors when an import is missing or does not fit, and when an export uses a type this engine does not know.
    pub fn finish(mut self, limits: Limits, asynchronous: bool) -> Result<Arc<Program>> {
        let kind = if asynchronous || self.waits || self.flavour.concurrent {
            StoreKind::Async
        } else {
            StoreKind::Sync
        };
        let mut linker: Linker<State> = Linker::new(self.component.engine());
        let world = self.component.component_type();
        // what touches no WASI pays for none
        if !world
            .imports(self.component.engine())
            .any(|(name, _)| name.starts_with("wasi:"))
        {
            self.wasi = None;
        }
        if self.wasi.is_some() {
            let names = world.imports(self.component.engine()).map(|(name, _)| name);
            crate::wasi::link(&mut linker, kind, names)?;
            // a provider of the user's own for a `wasi:` interface takes the place of ours
            linker.allow_shadowing(true);
        }
        for (interface, define) in self.definitions.drain(..) {
            if interface.is_empty() {
                define(&mut linker.root(), kind)?;
            } else {
                define(&mut linker.instance(&interface)?, kind)?;
            }
        }
        let pre = linker.instantiate_pre(&self.component)?;
        let exports = self.exports()?;
        let mut plans = HashMap::new();
        let import_funcs = self.imports.iter().flat_map(|i| &i.funcs);
        for f in import_funcs.chain(exports.iter().map(|e| &e.ty)) {
            collect(&f.param_tuple, &mut plans);
            collect(&f.result_tuple, &mut plans);
        }
        Ok(Program::new(
            self.engine,
            pre,
            exports,
            self.planner.named(),
            self.planner.resources(),
            Arc::new(Plans::new(plans)),
            limits,
            kind,
            self.wasi,
        ))
    }

    fn exports(&mut self) -> Result<Vec<Export>> {
        let component = self.component.clone();
        let engine = component.engine();
        let world = component.component_type();
        let cx = world.instance_type();
        let root: Arc<str> = "".into();
        let mut found: Vec<(Arc<str>, String, ComponentItem, Option<String>)> = vec![];
        for (name, item) in world.exports(engine) {
            let is_type = self.exported_types.iter().any(|t| t == name);
            match item.ty {
                // the type of a function or an instance, and none of them
                ComponentItem::ComponentFunc(_) | ComponentItem::ComponentInstance(_) if is_type => {}
                ComponentItem::ComponentInstance(instance) => {
                    let interface: Arc<str> = name.into();
                    for (n, item) in instance.exports(engine) {
                        found.push((interface.clone(), n.to_string(), item.ty, Some(name.to_string())));
                    }
                }
                ty => found.push((root.clone(), name.to_string(), ty, None)),
            }
        }
        for (interface, name, item, _) in &found {
            self.planner.declare(interface, name, item, None);
        }
        let mut exports = vec![];
        for (interface, name, item, parent) in &found {
            let ComponentItem::ComponentFunc(f) = item else {
                continue;
            };
            let parent = parent
                .as_ref()
                .and_then(|p| component.get_export_index(None, p.as_str()));
            let Some(index) = component.get_export_index(parent.as_ref(), name.as_str()) else {
                bail!("export {interface}#{name} cannot be found again")
            };
            let ty = self
                .planner
                .func(interface, name, f, &cx)
                .map_err(|e| format_err!("export {interface}#{name}: {e:#}"))?;
            exports.push(Export {
                ty: Arc::new(ty),
                index,
            });
        }
        Ok(exports)
    }
}

/// What answers a function.
enum Callee<D: Domain> {
    Fixed(Import<D>),
    Slot {
        slot: Arc<Slot<D>>,
        /// Its answers have resources, streams or futures in them, which belong to a generation.
        keeps: bool,
    },
}

impl<D: Domain> Callee<D> {
    /// Whether it may answer later.
    fn waits(&self) -> bool {
        match self {
            Callee::Fixed(import) => import.waits,
            Callee::Slot { .. } => true,
        }
    }

    fn call(&self, args: Vec<D::Value>, of: Option<Arc<Generation>>) -> (Outcome<D>, Whose) {
        match self {
            Callee::Fixed(import) => ((import.call)(args), Whose::Nobody),
            Callee::Slot { slot, keeps } => match slot.call(args, of) {
                (outcome, of) if *keeps => (outcome, of),
                (outcome, _) => (outcome, Whose::Nobody),
            },
        }
    }
}

fn describe(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::Module(_) => "core module",
        ComponentItem::Component(_) => "component",
        _ => "core function",
    }
}

fn collect(ty: &TyRef, plans: &mut HashMap<wasmtime::component::__internal::InterfaceType, TyRef>) {
    if plans.insert(ty.raw, ty.clone()).is_none() {
        for child in ty.children() {
            collect(child, plans);
        }
    }
}

fn define<D: Domain>(
    to: &mut LinkerInstance<'_, State>,
    f: &Arc<FuncTy>,
    import: Callee<D>,
    kind: StoreKind,
) -> Result<()> {
    // 0 stands for "spilled" as well: see the table in `shim`
    let params = if f.param_tuple.flat > MAX_FLAT {
        0
    } else {
        f.param_tuple.flat
    };
    let results = if f.result_tuple.flat == 1 { 1 } else { 0 };
    with_count!(params, P, {
        if results == 0 {
            wrap::<D, P, 0>(to, f, import, kind)
        } else {
            wrap::<D, P, 1>(to, f, import, kind)
        }
    })
}

fn wrap<D: Domain, const P: usize, const R: usize>(
    to: &mut LinkerInstance<'_, State>,
    f: &Arc<FuncTy>,
    import: Callee<D>,
    kind: StoreKind,
) -> Result<()> {
    let name = f.name.clone();
    let f = f.clone();
    if f.async_ {
        return to.func_wrap_concurrent(&name, move |accessor, args: Dyn<D, P>| {
            let (behalf, busy) = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                (behalf(&mut store), store.data().shared.busy())
            });
            let (outcome, of) = scope::on_behalf(&mut || behalf.clone(), || import.call(args.vals, args.of));
            let f = f.clone();
            let borrows = args.borrows;
            Box::pin(async move {
                let _busy = busy;
                let result = match outcome {
                    Outcome::Ready(r) => r,
                    Outcome::Later(later) => later.await,
                };
                for b in borrows {
                    accessor.with(|store| b.resource_drop(store))?;
                }
                answer::<D, R>(&f, result, of)
            })
        });
    }
    if import.waits() && kind == StoreKind::Async {
        return to.func_wrap_async(
            &name,
            move |mut store: StoreContextMut<'_, State>, args: Dyn<D, P>| {
                let busy = store.data().shared.busy();
                let (outcome, of) =
                    scope::on_behalf(&mut || behalf(&mut store), || import.call(args.vals, args.of));
                let f = f.clone();
                Box::new(async move {
                    let _busy = busy;
                    let result = match outcome {
                        Outcome::Ready(r) => r,
                        Outcome::Later(later) => later.await,
                    };
                    for b in args.borrows {
                        b.resource_drop_async(&mut store).await?;
                    }
                    answer::<D, R>(&f, result, of)
                })
            },
        );
    }
    to.func_wrap(
        &name,
        move |mut store: StoreContextMut<'_, State>, args: Dyn<D, P>| {
            let (outcome, of) =
                scope::on_behalf(&mut || behalf(&mut store), || import.call(args.vals, args.of));
            let Outcome::Ready(result) = outcome else {
                bail!(
                    "{} answered later, though it was linked as one that never waits",
                    f.path()
                )
            };
            for b in args.borrows {
                b.resource_drop(&mut store)?;
            }
            answer::<D, R>(&f, result, of)
        },
    )
}

/// The call that makes an import.
fn behalf(store: &mut StoreContextMut<'_, State>) -> Behalf {
    let state = store.data();
    let alone = Behalf {
        context: state.caller.clone(),
        deadline: state.budget.deadline,
    };
    let home = match alone.context {
        Some(_) => None, // the Store runs one call at a time
        None => state.shared.home().upgrade(),
    };
    let Some(home) = home.filter(|home| home.actor.get().is_some()) else {
        return alone;
    };
    let Some(task) = store.async_call_stack().ok().and_then(Iterator::last) else {
        return alone;
    };
    let callers = lock(&home.callers);
    let found = callers.iter().find(|(of, _)| *of == task);
    found.map_or(alone, |(_, ticket)| Behalf {
        context: Some(ticket.context.clone()),
        deadline: ticket.deadline,
    })
}

/// The provider's answer as what the guest expects; whether the value fits shows when it is lowered.
fn answer<D: Domain, const R: usize>(
    f: &Arc<FuncTy>,
    result: Result<Option<D::Value>>,
    of: Whose,
) -> Result<Dyn<D, R>> {
    match (result?, &f.result) {
        (Some(v), Some(_)) => Ok(Dyn {
            origin: Some(Origin::Result(f.clone())),
            of: of.get(),
            ..Dyn::new(vec![v])
        }),
        (_, None) => Ok(Dyn::new(vec![])),
        (None, Some(t)) => Err(Origin::Result(f.clone())
            .fault(Mismatch::new(t.wit(), "nothing"))
            .into()),
    }
}
