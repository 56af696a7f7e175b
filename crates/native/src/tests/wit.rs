//! Whether neutral values fit the WIT, as lowering them would show.

use std::path::Path;

use loop_engine::{Num, Value};
use wit_parser::{Function, Handle, InterfaceId, PackageId, Resolve, Type, TypeDefKind, WorldKey};

pub struct Wit {
    resolve: Resolve,
    package: PackageId,
}

impl Wit {
    pub fn new(name: &str) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut resolve = Resolve::default();
        let folder = repository
            .join("python/loop_kit/capabilities")
            .join(name)
            .join("wit");
        let (package, _) = resolve.push_path(folder).unwrap();
        Wit { resolve, package }
    }

    /// Those that components import: others are theirs to serve.
    fn served(&self) -> impl Iterator<Item = (&String, InterfaceId)> {
        let exported = |id| {
            let key = WorldKey::Interface(id);
            self.resolve
                .worlds
                .iter()
                .any(|(_, w)| w.exports.contains_key(&key))
        };
        let package = &self.resolve.packages[self.package];
        let all = package.interfaces.iter().map(|(name, id)| (name, *id));
        all.filter(move |(_, id)| !exported(*id))
    }

    pub fn interfaces(&self) -> Vec<String> {
        let package = &self.resolve.packages[self.package].name;
        self.served()
            .map(|(name, _)| package.interface_id(name))
            .collect()
    }

    pub fn functions(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .served()
            .flat_map(|(name, id)| {
                self.resolve.interfaces[id]
                    .functions
                    .keys()
                    .map(move |f| format!("{name}#{f}"))
            })
            .collect();
        all.sort();
        all
    }

    fn function(&self, path: &str) -> &Function {
        let (interface, name) = path.split_once('#').unwrap();
        &self.resolve.interfaces[self.resolve.packages[self.package].interfaces[interface]].functions[name]
    }

    pub fn check_args(&self, path: &str, args: &[Value]) {
        let params = &self.function(path).params;
        assert_eq!(params.len(), args.len(), "{path}");
        for (param, arg) in params.iter().zip(args) {
            assert!(self.fits(&param.ty, arg), "{path}: {}: {arg:?}", param.name);
        }
    }

    pub fn check_result(&self, path: &str, result: Option<&Value>) {
        match (&self.function(path).result, result) {
            (Some(ty), Some(v)) => assert!(self.fits(ty, v), "{path} returned {v:?}"),
            (None, None) => {}
            _ => panic!("{path} returned {result:?}"),
        }
    }

    fn fits(&self, ty: &Type, v: &Value) -> bool {
        let payload = |ty: Option<&Type>, v: &Option<Box<Value>>| match (ty, v) {
            (Some(ty), Some(v)) => self.fits(ty, v),
            (ty, v) => ty.is_none() && v.is_none(),
        };
        let Type::Id(id) = ty else {
            return match (ty, v) {
                (Type::Bool, Value::Bool(_)) | (Type::String, Value::String(_)) => true,
                (Type::U8, Value::Num(Num::U8, n)) => u8::try_from(*n).is_ok(),
                (Type::U16, Value::Num(Num::U16, n)) => u16::try_from(*n).is_ok(),
                (Type::U32, Value::Num(Num::U32, n)) => u32::try_from(*n).is_ok(),
                (Type::U64, Value::Num(Num::U64, _))
                | (Type::S64, Value::Num(Num::S64, _))
                | (Type::F64, Value::Num(Num::F64, _)) => true,
                _ => false,
            };
        };
        match (&self.resolve.types[*id].kind, v) {
            (TypeDefKind::Type(t), v) => self.fits(t, v),
            (TypeDefKind::Record(r), Value::Fields(v)) => {
                r.fields.len() == v.len() && r.fields.iter().zip(v).all(|(f, v)| self.fits(&f.ty, v))
            }
            (TypeDefKind::Tuple(t), Value::Fields(v)) => {
                t.types.len() == v.len() && t.types.iter().zip(v).all(|(t, v)| self.fits(t, v))
            }
            (TypeDefKind::List(Type::U8), v) => matches!(v, Value::Nums(Num::U8, _)),
            (TypeDefKind::List(t), Value::List(v)) => v.iter().all(|v| self.fits(t, v)),
            (TypeDefKind::Enum(e), Value::Case(i, None)) => *i < e.cases.len(),
            (TypeDefKind::Variant(t), Value::Case(i, v)) => payload(t.cases[*i].ty.as_ref(), v),
            (TypeDefKind::Option(t), Value::Case(i, v)) => payload([None, Some(t)][*i], v),
            (TypeDefKind::Result(r), Value::Case(i, v)) => payload([&r.ok, &r.err][*i].as_ref(), v),
            (TypeDefKind::Handle(Handle::Own(_) | Handle::Borrow(_)), Value::Host(_)) => true,
            (TypeDefKind::Stream(_), Value::Stream(_)) | (TypeDefKind::Future(_), Value::Future(_)) => true,
            _ => false,
        }
    }

    /// The name of the case of `error-code` that `v` is.
    pub fn error_code(&self, v: &Value) -> String {
        let interfaces = &self.resolve.packages[self.package].interfaces;
        // those that use it come behind the one that has it
        let id = ["files", "types"]
            .iter()
            .find_map(|name| interfaces.get(*name))
            .or_else(|| {
                interfaces
                    .values()
                    .find(|i| self.resolve.interfaces[**i].types.contains_key("error-code"))
            })
            .map(|i| self.resolve.interfaces[*i].types["error-code"])
            .expect("an interface with `error-code`");
        match (&self.resolve.types[id].kind, v) {
            (TypeDefKind::Variant(t), Value::Case(i, _)) => t.cases[*i].name.clone(),
            _ => panic!("not an error-code: {v:?}"),
        }
    }
}
