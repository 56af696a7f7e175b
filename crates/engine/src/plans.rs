//! The plans of a program, by wasmtime's type indices.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use wasmtime::component::__internal::InterfaceType;
use wasmtime::component::__internal::wasmtime_environ::component::{
    ComponentTypes, TypeResourceTableIndex, VariantInfo,
};
use wasmtime::{Result, bail};

use crate::types::{Case, Field, Kind, Num, Resource, Tag, Ty, TyRef};

/// The plans of a program.
///
/// Those of its imports and exports are made at link time. A component within the component sees the same functions
/// by other indices where they deal in handles, since each has its own handle tables: such types are planned when
/// they are first met.
pub(crate) struct Plans {
    known: HashMap<InterfaceType, TyRef>,
    met: RwLock<HashMap<InterfaceType, TyRef>>,
}

impl Plans {
    pub fn new(known: HashMap<InterfaceType, TyRef>) -> Self {
        Plans {
            known,
            met: RwLock::default(),
        }
    }

    /// The plan of a type of the component whose types are `types`.
    pub fn get(&self, types: &ComponentTypes, raw: InterfaceType) -> Result<TyRef> {
        if let Some(plan) = self.known.get(&raw) {
            return Ok(plan.clone());
        }
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = met.get(&raw) {
            return Ok(plan.clone());
        }
        drop(met);
        let plan = self.make(types, raw)?;
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        Ok(met.entry(raw).or_insert(plan).clone())
    }

    fn make(&self, types: &ComponentTypes, raw: InterfaceType) -> Result<TyRef> {
        use InterfaceType as I;
        let child = |raw: InterfaceType| self.get(types, raw);
        let optional = |raw: Option<InterfaceType>| raw.map(child).transpose();
        let fields = |all: &mut dyn Iterator<Item = (Arc<str>, InterfaceType)>| -> Result<Box<[Field]>> {
            let mut offset = 0;
            all.map(|(name, raw)| {
                let ty = child(raw)?;
                let offset = types.canonical_abi(&raw).next_field32_size(&mut offset);
                Ok(Field { name, ty, offset })
            })
            .collect()
        };
        let tag = |i: &VariantInfo| Tag {
            size: i.size.byte_size() as usize,
            payload: i.payload_offset32 as usize,
        };
        let kind = match raw {
            I::Bool => Kind::Bool,
            I::U8 => Kind::Num(Num::U8),
            I::S8 => Kind::Num(Num::S8),
            I::U16 => Kind::Num(Num::U16),
            I::S16 => Kind::Num(Num::S16),
            I::U32 => Kind::Num(Num::U32),
            I::S32 => Kind::Num(Num::S32),
            I::U64 => Kind::Num(Num::U64),
            I::S64 => Kind::Num(Num::S64),
            I::Float32 => Kind::Num(Num::F32),
            I::Float64 => Kind::Num(Num::F64),
            I::Char => Kind::Char,
            I::String => Kind::String,
            I::ErrorContext(_) => Kind::ErrorContext,
            I::List(i) => Kind::List(child(types[i].element)?),
            I::FixedLengthList(i) => Kind::FixedList(child(types[i].element)?, types[i].size as usize),
            I::Record(i) => Kind::Record(fields(
                &mut types[i].fields.iter().map(|f| (Arc::from(&*f.name), f.ty)),
            )?),
            I::Tuple(i) => Kind::Tuple(fields(&mut types[i].types.iter().map(|t| (Arc::from(""), *t)))?),
            I::Variant(i) => {
                let cases = types[i].cases.iter().map(|(name, ty)| {
                    Ok(Case {
                        name: Arc::from(&**name),
                        ty: optional(*ty)?,
                    })
                });
                Kind::Variant {
                    cases: cases.collect::<Result<_>>()?,
                    tag: tag(&types[i].info),
                }
            }
            I::Enum(i) => Kind::Enum {
                names: types[i].names.iter().map(|n| Arc::from(&**n)).collect(),
                tag: tag(&types[i].info),
            },
            I::Option(i) => Kind::Option {
                some: child(types[i].ty)?,
                tag: tag(&types[i].info),
            },
            I::Result(i) => Kind::Result {
                ok: optional(types[i].ok)?,
                err: optional(types[i].err)?,
                tag: tag(&types[i].info),
            },
            I::Flags(i) => Kind::Flags(types[i].names.iter().map(|n| Arc::from(&**n)).collect()),
            I::Own(i) => Kind::Own(self.resource(types, i)),
            I::Borrow(i) => Kind::Borrow(self.resource(types, i)),
            I::Stream(i) => Kind::Stream(optional(types[types[i].ty].payload)?),
            I::Future(i) => Kind::Future(optional(types[types[i].ty].payload)?),
            I::Map(_) => bail!("the type `map` is not supported"),
        };
        Ok(Arc::new(Ty::new(types, raw, None, kind)))
    }

    /// The resource that a handle table holds: the known one, if some known type's table holds the same.
    fn resource(&self, types: &ComponentTypes, table: TypeResourceTableIndex) -> Arc<Resource> {
        let wanted = types[table].unwrap_concrete_ty();
        let same = self.known.values().find_map(|plan| match (&plan.kind, plan.raw) {
            (Kind::Own(r) | Kind::Borrow(r), InterfaceType::Own(t) | InterfaceType::Borrow(t)) => {
                (types[t].unwrap_concrete_ty() == wanted).then(|| r.clone())
            }
            _ => None,
        });
        same.unwrap_or_else(|| {
            Arc::new(Resource {
                name: "resource".into(),
                interface: "".into(),
                host: None,
                ext: OnceLock::new(),
            })
        })
    }
}
