//! From wasmtime's types to plans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use wasmtime::component::__internal::wasmtime_environ::component::{
    CanonicalAbiInfo, ComponentTypes, VariantInfo,
};
use wasmtime::component::__internal::{InstanceType, InterfaceType, LiftContext, LowerContext};
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower, ResourceType};
use wasmtime::{Result, ValRaw, bail};

use crate::same::same;
use crate::types::{Case, Field, FuncTy, Kind, NamedType, Num, Resource, Tag, Ty, TyRef};

/// Compiles functions into plans; types are shared between the functions of one component.
pub(crate) struct Planner {
    cache: HashMap<InterfaceType, TyRef>,
    /// The types that the component gives names to: interface, name, type. Two names may stand for one type.
    names: Vec<(Arc<str>, Arc<str>, Type)>,
    /// The names that the world itself gives, with the shapes of their types.
    world: Vec<(Arc<str>, String)>,
    /// Named types that some function uses.
    used: Vec<(Type, TyRef)>,
    resources: Vec<(ResourceType, Arc<Resource>)>,
}

impl Planner {
    pub(crate) fn new(world: Vec<(String, String)>) -> Self {
        let world = world.into_iter().map(|(name, shape)| (name.into(), shape));
        Planner {
            cache: HashMap::new(),
            names: vec![],
            world: world.collect(),
            used: vec![],
            resources: vec![],
        }
    }

    /// Records the names of the types and resources that `item` brings into the component's world.
    pub(crate) fn declare(
        &mut self,
        interface: &Arc<str>,
        name: &str,
        item: &ComponentItem,
        host: Option<u32>,
    ) {
        match item {
            ComponentItem::Type(t) if is_named(t) => {
                self.names.push((interface.clone(), name.into(), t.clone()))
            }
            ComponentItem::Resource(r) if !self.resources.iter().any(|(s, _)| s == r) => {
                let resource = Resource {
                    name: name.into(),
                    interface: interface.clone(),
                    host,
                    ext: OnceLock::new(),
                };
                self.resources.push((*r, Arc::new(resource)));
            }
            _ => {}
        }
    }

    /// The declared resources with their wasmtime types.
    pub(crate) fn resource(&self, ty: &ResourceType) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|(r, _)| r == ty).map(|(_, r)| r)
    }

    /// All resources met so far.
    pub(crate) fn resources(&self) -> Vec<Arc<Resource>> {
        self.resources.iter().map(|(_, r)| r.clone()).collect()
    }

    /// The named types that functions use, each under every name it has: interface, name, plan.
    pub(crate) fn named(&self) -> Vec<NamedType> {
        let plan = |t: &Type| {
            self.used
                .iter()
                .find(|(u, _)| same(u, t))
                .map(|(_, plan)| plan.clone())
        };
        let found = self.names.iter();
        let found = found.filter_map(|(i, n, t)| Some((i.clone(), n.clone(), plan(t)?)));
        let world = self.world.iter().filter_map(|(name, shape)| {
            let (_, plan) = self.used.iter().find(|(_, plan)| plan.shape() == *shape)?;
            Some(("".into(), name.clone(), plan.clone()))
        });
        found.chain(world).collect()
    }

    /// Compiles one function.
    ///
    /// Errors with the type's WIT when the function uses a type that this engine does not know.
    pub(crate) fn func(
        &mut self,
        interface: &Arc<str>,
        name: &str,
        func: &ComponentFunc,
        cx: &InstanceType<'_>,
    ) -> Result<FuncTy> {
        let (params_raw, results_raw) = probe(func, cx)?;
        let public: Vec<(String, Type)> = func.params().map(|(n, t)| (n.to_string(), t)).collect();
        let results: Vec<Type> = func.results().collect();
        let param_types: Vec<Type> = public.iter().map(|(_, t)| t.clone()).collect();
        let param_tuple = self.tuple(cx.types, params_raw, &param_types)?;
        let result_tuple = self.tuple(cx.types, results_raw, &results)?;
        let names = public.iter().map(|(n, _)| Arc::from(n.as_str()));
        Ok(FuncTy::new(
            interface.clone(),
            name.into(),
            names,
            param_tuple,
            result_tuple,
            func.async_(),
        ))
    }

    fn tuple(&mut self, types: &ComponentTypes, raw: InterfaceType, public: &[Type]) -> Result<TyRef> {
        let InterfaceType::Tuple(i) = raw else {
            bail!("expected a tuple")
        };
        let mut offset = 0;
        let mut fields = vec![];
        for (raw, public) in types[i].types.iter().zip(public) {
            let ty = self.ty(types, *raw, public)?;
            fields.push(Field {
                name: "".into(),
                offset: types.canonical_abi(raw).next_field32_size(&mut offset),
                ty,
            });
        }
        Ok(Arc::new(Ty::new(types, raw, None, Kind::Tuple(fields.into()))))
    }

    fn ty(&mut self, types: &ComponentTypes, raw: InterfaceType, public: &Type) -> Result<TyRef> {
        if let Some(t) = self.cache.get(&raw) {
            return Ok(t.clone());
        }
        let kind = self.kind(types, raw, public)?;
        let mut ty = Ty::new(types, raw, None, kind);
        if is_named(public) {
            ty.name = self.name_of(public, &ty);
        }
        let ty = Arc::new(ty);
        self.cache.insert(raw, ty.clone());
        if ty.name.is_some() {
            self.used.push((public.clone(), ty.clone()));
        }
        Ok(ty)
    }

    fn name_of(&self, public: &Type, ty: &Ty) -> Option<Arc<str>> {
        if let Some((_, name, _)) = self.names.iter().find(|(_, _, t)| same(t, public)) {
            return Some(name.clone());
        }
        if self.world.is_empty() {
            return None;
        }
        let shape = ty.shape();
        let found = self.world.iter().find(|(_, s)| *s == shape)?;
        Some(found.0.clone())
    }

    fn kind(&mut self, types: &ComponentTypes, raw: InterfaceType, public: &Type) -> Result<Kind> {
        use InterfaceType as I;
        let tag = |i: &VariantInfo| Tag {
            size: i.size.byte_size() as usize,
            payload: i.payload_offset32 as usize,
        };
        Ok(match (raw, public) {
            (I::Bool, _) => Kind::Bool,
            (I::U8, _) => Kind::Num(Num::U8),
            (I::S8, _) => Kind::Num(Num::S8),
            (I::U16, _) => Kind::Num(Num::U16),
            (I::S16, _) => Kind::Num(Num::S16),
            (I::U32, _) => Kind::Num(Num::U32),
            (I::S32, _) => Kind::Num(Num::S32),
            (I::U64, _) => Kind::Num(Num::U64),
            (I::S64, _) => Kind::Num(Num::S64),
            (I::Float32, _) => Kind::Num(Num::F32),
            (I::Float64, _) => Kind::Num(Num::F64),
            (I::Char, _) => Kind::Char,
            (I::String, _) => Kind::String,
            (I::ErrorContext(_), _) => Kind::ErrorContext,
            (I::List(i), Type::List(t)) => Kind::List(self.ty(types, types[i].element, &t.ty())?),
            (I::FixedLengthList(i), Type::FixedLengthList(t)) => {
                Kind::FixedList(self.ty(types, types[i].element, &t.ty())?, types[i].size as usize)
            }
            (I::Record(i), Type::Record(t)) => {
                let mut offset = 0;
                let mut fields = vec![];
                for (f, p) in types[i].fields.iter().zip(t.fields()) {
                    let ty = self.ty(types, f.ty, &p.ty)?;
                    let offset = types.canonical_abi(&f.ty).next_field32_size(&mut offset);
                    fields.push(Field {
                        name: Arc::from(&*f.name),
                        ty,
                        offset,
                    });
                }
                Kind::Record(fields.into())
            }
            (I::Tuple(_), Type::Tuple(t)) => {
                let slots: Vec<Type> = t.types().collect();
                match Arc::into_inner(self.tuple(types, raw, &slots)?) {
                    Some(Ty { kind, .. }) => kind,
                    None => bail!("a tuple plan was shared before it was built"),
                }
            }
            (I::Variant(i), Type::Variant(t)) => {
                let mut cases = vec![];
                for ((name, raw), p) in types[i].cases.iter().zip(t.cases()) {
                    let ty = match (raw, &p.ty) {
                        (Some(raw), Some(p)) => Some(self.ty(types, *raw, p)?),
                        _ => None,
                    };
                    cases.push(Case {
                        name: Arc::from(&**name),
                        ty,
                    });
                }
                Kind::Variant {
                    cases: cases.into(),
                    tag: tag(&types[i].info),
                }
            }
            (I::Enum(i), _) => Kind::Enum {
                names: types[i].names.iter().map(|n| Arc::from(&**n)).collect(),
                tag: tag(&types[i].info),
            },
            (I::Option(i), Type::Option(t)) => Kind::Option {
                some: self.ty(types, types[i].ty, &t.ty())?,
                tag: tag(&types[i].info),
            },
            (I::Result(i), Type::Result(t)) => {
                let mut side = |raw: Option<InterfaceType>, p: Option<Type>| -> Result<Option<TyRef>> {
                    match (raw, p) {
                        (Some(raw), Some(p)) => self.ty(types, raw, &p).map(Some),
                        _ => Ok(None),
                    }
                };
                let ok = side(types[i].ok, t.ok())?;
                let err = side(types[i].err, t.err())?;
                Kind::Result {
                    ok,
                    err,
                    tag: tag(&types[i].info),
                }
            }
            (I::Flags(i), _) => {
                let names: Box<[Arc<str>]> = types[i].names.iter().map(|n| Arc::from(&**n)).collect();
                if names.len() > 32 {
                    bail!(
                        "flags with {} members: the component model stops at 32",
                        names.len()
                    );
                }
                Kind::Flags(names)
            }
            (I::Own(_), Type::Own(r)) => Kind::Own(self.named_resource(r)),
            (I::Borrow(_), Type::Borrow(r)) => Kind::Borrow(self.named_resource(r)),
            (I::Stream(i), Type::Stream(t)) => {
                Kind::Stream(self.payload(types, types[types[i].ty].payload, t.ty())?)
            }
            (I::Future(i), Type::Future(t)) => {
                Kind::Future(self.payload(types, types[types[i].ty].payload, t.ty())?)
            }
            (_, other) => bail!("the type `{}` is not supported", describe(other)),
        })
    }

    fn payload(
        &mut self,
        types: &ComponentTypes,
        raw: Option<InterfaceType>,
        p: Option<Type>,
    ) -> Result<Option<TyRef>> {
        match (raw, p) {
            (Some(raw), Some(p)) => self.ty(types, raw, &p).map(Some),
            _ => Ok(None),
        }
    }

    fn named_resource(&mut self, r: &ResourceType) -> Arc<Resource> {
        if let Some(found) = self.resource(r) {
            return found.clone();
        }
        let anonymous = Arc::new(Resource {
            name: "resource".into(),
            interface: "".into(),
            host: None,
            ext: OnceLock::new(),
        });
        self.resources.push((*r, anonymous.clone()));
        anonymous
    }
}

fn is_named(t: &Type) -> bool {
    matches!(
        t,
        Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_)
    )
}

fn describe(t: &Type) -> &'static str {
    if let Type::Map(_) = t { "map" } else { "unknown" }
}

// `ComponentFunc::typecheck` hands the raw tuple types of a function to whatever types it is asked to check: the
// only public door to them before a component is instantiated.
thread_local! {
    static PROBED: RefCell<Vec<InterfaceType>> = const { RefCell::new(vec![]) };
}

fn probe(func: &ComponentFunc, cx: &InstanceType<'_>) -> Result<(InterfaceType, InterfaceType)> {
    PROBED.with_borrow_mut(Vec::clear);
    func.typecheck::<Probe, Probe>(cx)?;
    PROBED.with_borrow(|v| match v[..] {
        [params, results] => Ok((params, results)),
        _ => bail!("wasmtime did not show the function's types"),
    })
}

struct Probe;

// SAFETY: a `Probe` is only type-checked, never lifted or lowered: both refuse.
unsafe impl ComponentType for Probe {
    type Lower = [ValRaw; 0];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo {
        size32: 0,
        align32: 1,
        size64: 0,
        align64: 1,
        flat_count: Some(0),
    };
    fn typecheck(ty: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        PROBED.with_borrow_mut(|v| v.push(*ty));
        Ok(())
    }
}
unsafe impl ComponentNamedList for Probe {}
unsafe impl Lift for Probe {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &[ValRaw; 0]) -> Result<Self> {
        bail!("a probe is never lifted")
    }
    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, _: &[u8]) -> Result<Self> {
        bail!("a probe is never lifted")
    }
}
unsafe impl Lower for Probe {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut std::mem::MaybeUninit<[ValRaw; 0]>,
    ) -> Result<()> {
        bail!("a probe is never lowered")
    }
    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        bail!("a probe is never lowered")
    }
}
