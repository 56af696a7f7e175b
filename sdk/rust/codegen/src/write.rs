//! The text of `wit.rs`.

use std::collections::HashSet;
use std::fmt::Write as _;

use wit_parser::{Function, FunctionKind, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::names::{pascal, snake};
use crate::shape;
use crate::types::{Of, Types};

/// What a module has of its own, or what its text takes for granted.
const RESERVED: [&str; 5] = ["Option", "Provider", "Result", "Served", "String"];

pub struct Writer<'r> {
    types: Types<'r>,
    served: Vec<InterfaceId>,
    defaults: bool,
    out: String,
}

impl<'r> Writer<'r> {
    pub fn new(resolve: &'r Resolve, served: &[InterfaceId], defaults: bool) -> Result<Self, String> {
        let modules = Types::name_modules(resolve);
        let named: HashSet<&String> = modules.values().collect();
        if named.len() < modules.len() {
            return Err("two interfaces would be modules of the same name: rename one".into());
        }
        Ok(Writer {
            types: Types { resolve, modules },
            served: served.to_vec(),
            defaults,
            out: String::new(),
        })
    }

    pub fn all(mut self) -> Result<String, String> {
        let resolve = self.types.resolve;
        for id in self.needed() {
            let name = resolve.id_of(id).unwrap_or_default();
            let module = self.types.module(id).to_owned();
            self.line(&format!("/// `{name}`"));
            self.line("#[allow(clippy::all, dead_code, unused_imports, unused_variables, unused_mut)]");
            self.line(&format!("pub mod {module} {{"));
            self.line("use loop_provider::parts::{self as p, Decode as _, Encode as _};");
            for (_, ty) in &resolve.interfaces[id].types {
                self.declare(*ty).map_err(|e| format!("{name}: {e}"))?;
            }
            if self.served.contains(&id) {
                self.interface(id, &name).map_err(|e| format!("{name}: {e}"))?;
            }
            self.line("}");
        }
        Ok(self.out)
    }

    /// What is served, and the interfaces that its types are from.
    fn needed(&self) -> Vec<InterfaceId> {
        let resolve = self.types.resolve;
        let (mut needed, mut left) = (vec![], self.served.clone());
        while let Some(id) = left.pop() {
            if needed.contains(&id) {
                continue;
            }
            needed.push(id);
            for ty in resolve.interfaces[id].types.values() {
                if let TypeDefKind::Type(Type::Id(used)) = resolve.types[*ty].kind
                    && let TypeOwner::Interface(owner) = resolve.types[used].owner
                {
                    left.push(owner);
                }
            }
        }
        needed.sort();
        needed
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    fn docs(&mut self, docs: &wit_parser::Docs) {
        for line in docs.contents.iter().flat_map(|text| text.lines()) {
            self.line(&format!("/// {line}"));
        }
    }

    /// A type with a name of its own.
    fn declare(&mut self, id: TypeId) -> Result<(), String> {
        let of = &self.types.resolve.types[id];
        let name = pascal(of.name.as_deref().unwrap_or("unnamed"));
        if RESERVED.contains(&name.as_str()) {
            return Err(format!(
                "no type may be called {name} in Rust here: rename it in the WIT"
            ));
        }
        if !matches!(of.kind, TypeDefKind::Resource | TypeDefKind::Type(_)) {
            self.docs(&of.docs);
        }
        match &of.kind {
            TypeDefKind::Record(r) => {
                let fields = r.fields.iter().map(|f| (snake(&f.name), &f.ty));
                self.record(&name, &fields.collect::<Vec<_>>())?;
            }
            TypeDefKind::Variant(v) => {
                let cases = v.cases.iter().map(|c| (pascal(&c.name), c.ty.as_ref()));
                self.variant(&name, &cases.collect::<Vec<_>>())?;
            }
            TypeDefKind::Enum(e) => {
                let cases = e.cases.iter().map(|c| (pascal(&c.name), None));
                self.variant(&name, &cases.collect::<Vec<_>>())?;
            }
            TypeDefKind::Flags(f) => {
                let names: Vec<_> = f.flags.iter().map(|f| snake(&f.name)).collect();
                self.flags(&name, &names);
            }
            TypeDefKind::Resource => self.line(&format!("pub use super::{name};")),
            TypeDefKind::Type(of) => match self.types.follow(of) {
                Of::Defined(_, TypeDefKind::Resource) => {}
                _ => {
                    let text = self.types.rust(of)?;
                    self.line(&format!("pub type {name} = {text};"));
                }
            },
            // a name for a list, tuple, option or the like
            kind => {
                let text = self.types.defined(id, kind)?;
                self.line(&format!("pub type {name} = {text};"));
            }
        }
        Ok(())
    }

    fn is_plain(&self, parts: impl IntoIterator<Item = &'r Type>) -> bool {
        parts.into_iter().all(|t| self.types.is_plain(t))
    }

    fn record(&mut self, name: &str, fields: &[(String, &'r Type)]) -> Result<(), String> {
        let plain = self.is_plain(fields.iter().map(|(_, t)| *t));
        if plain {
            self.line("#[derive(Clone, Debug, PartialEq)]");
        }
        self.line(&format!("pub struct {name} {{"));
        for (field, ty) in fields {
            let ty = self.types.rust(ty)?;
            self.line(&format!("pub {field}: {ty},"));
        }
        self.line("}");
        if !plain {
            self.line(&format!("impl {name} {{"));
            self.line("pub fn lift(cx: &mut p::Lift<'_>) -> Result<Self, p::Failure> {");
            self.line(&format!("Ok({name} {{"));
            for (i, (field, ty)) in fields.iter().enumerate() {
                let lift = self.types.lift(ty)?;
                self.line(&format!("{field}: cx.at({i}, |cx| {lift})?,"));
            }
            self.line("})\n}");
            self.line("pub fn lower(self, cx: &mut p::Lower<'_>) -> Result<(), p::Failure> {");
            for (i, (field, ty)) in fields.iter().enumerate() {
                let lower = self.types.lower(ty)?;
                self.line(&format!("cx.at({i}, self.{field}, |cx, v| {lower})?;"));
            }
            self.line("Ok(())\n}\n}");
            return Ok(());
        }
        self.line(&format!(
            "impl p::Encode for {name} {{\nfn encode(&self, out: &mut p::Vec<u8>) {{"
        ));
        for (field, _) in fields {
            self.line(&format!("self.{field}.encode(out);"));
        }
        self.line("}\n}");
        let least = fields.iter().map(|(_, t)| self.types.least(t));
        let least = least.collect::<Result<Vec<_>, _>>()?.join(" + ");
        self.line(&format!(
            "impl p::Decode for {name} {{\nconst LEAST: usize = {least};"
        ));
        self.line("fn decode(from: &mut p::Cursor<'_>) -> Result<Self, p::Invalid> {");
        self.line(&format!("Ok({name} {{"));
        for (field, _) in fields {
            self.line(&format!("{field}: p::Decode::decode(from)?,"));
        }
        self.line("})\n}\n}");
        Ok(())
    }

    fn variant(&mut self, name: &str, cases: &[(String, Option<&'r Type>)]) -> Result<(), String> {
        let plain = self.is_plain(cases.iter().filter_map(|(_, t)| *t));
        let bare = cases.iter().all(|(_, t)| t.is_none());
        match (plain, bare) {
            (_, true) => self.line("#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]"),
            (true, _) => self.line("#[derive(Clone, Debug, PartialEq)]"),
            _ => {}
        }
        self.line(&format!("pub enum {name} {{"));
        for (case, ty) in cases {
            let payload = ty.map(|t| self.types.rust(t)).transpose()?;
            let payload = payload.map_or(String::new(), |t| format!("({t})"));
            self.line(&format!("{case}{payload},"));
        }
        self.line("}");
        let n = cases.len();
        if !plain {
            self.line(&format!("impl {name} {{"));
            self.line("pub fn lift(cx: &mut p::Lift<'_>) -> Result<Self, p::Failure> {");
            self.line(&format!("Ok(match cx.case({n})? {{"));
            for (i, (case, ty)) in cases.iter().enumerate() {
                let at = if i + 1 == n { "_".to_owned() } else { i.to_string() };
                let lift = ty.map(|t| self.types.lift(t)).transpose()?;
                let payload = lift.map_or(String::new(), |l| format!("(cx.at({i}, |cx| {l})?)"));
                self.line(&format!("{at} => Self::{case}{payload},"));
            }
            self.line("})\n}");
            self.line("pub fn lower(self, cx: &mut p::Lower<'_>) -> Result<(), p::Failure> {\nmatch self {");
            for (i, (case, ty)) in cases.iter().enumerate() {
                let lower = ty.map(|t| self.types.lower(t)).transpose()?;
                match lower {
                    None => self.line(&format!("Self::{case} => cx.case({i}),")),
                    Some(l) => self.line(&format!(
                        "Self::{case}(v) => {{ cx.case({i})?; cx.at({i}, v, |cx, v| {l}) }}"
                    )),
                }
            }
            self.line("}\n}\n}");
            return Ok(());
        }
        self.line(&format!(
            "impl p::Encode for {name} {{\nfn encode(&self, out: &mut p::Vec<u8>) {{\nmatch self {{"
        ));
        for (i, (case, ty)) in cases.iter().enumerate() {
            match ty {
                None => self.line(&format!("Self::{case} => p::put_unsigned(out, {i}),")),
                Some(_) => self.line(&format!(
                    "Self::{case}(v) => {{ p::put_unsigned(out, {i}); v.encode(out) }}"
                )),
            }
        }
        self.line("}\n}\n}");
        self.line(&format!("impl p::Decode for {name} {{"));
        self.line("fn decode(from: &mut p::Cursor<'_>) -> Result<Self, p::Invalid> {");
        self.line(&format!("Ok(match from.case({n})? {{"));
        for (i, (case, ty)) in cases.iter().enumerate() {
            let at = if i + 1 == n { "_".to_owned() } else { i.to_string() };
            let payload = ty.map_or("", |_| "(p::Decode::decode(from)?)");
            self.line(&format!("{at} => Self::{case}{payload},"));
        }
        self.line("})\n}\n}");
        Ok(())
    }

    fn flags(&mut self, name: &str, names: &[String]) {
        self.line("#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]");
        self.line(&format!("pub struct {name} {{"));
        for flag in names {
            self.line(&format!("pub {flag}: bool,"));
        }
        self.line("}");
        let all: Vec<_> = names.iter().map(|flag| format!("self.{flag}")).collect();
        self.line(&format!(
            "impl p::Encode for {name} {{\nfn encode(&self, out: &mut p::Vec<u8>) {{\np::put_flags(out, &[{}]);\n}}\n}}",
            all.join(", ")
        ));
        let bytes = names.len().div_ceil(8);
        self.line(&format!(
            "impl p::Decode for {name} {{\nconst LEAST: usize = {bytes};"
        ));
        self.line("fn decode(from: &mut p::Cursor<'_>) -> Result<Self, p::Invalid> {");
        self.line(&format!("let bits = from.take({bytes})?;\nOk({name} {{"));
        for (i, flag) in names.iter().enumerate() {
            self.line(&format!("{flag}: bits[{}] & {} != 0,", i / 8, 1 << (i % 8)));
        }
        self.line("})\n}\n}");
    }

    /// The trait of an interface that is served, and how its calls get there.
    fn interface(&mut self, id: InterfaceId, name: &str) -> Result<(), String> {
        let functions: Vec<&'r Function> = self.types.resolve.interfaces[id].functions.values().collect();
        self.docs(&self.types.resolve.interfaces[id].docs.clone());
        self.line("pub trait Provider: Send + Sync + 'static {");
        for f in &functions {
            self.docs(&f.docs.clone());
            let signature = self.signature(f)?;
            let shape = shape::function(self.types.resolve, f);
            self.line(&format!("///\n/// `{}: {shape}`", f.name));
            match self.defaults {
                true => self.line(&format!(
                    "{signature} {{ async {{ Err(p::unfinished(\"{}\")) }} }}",
                    f.name
                )),
                false => self.line(&format!("{signature};")),
            }
        }
        self.line("}");
        self.line("/// What is served: `make` gets each link, and makes what answers its calls.");
        self.line("pub fn provide<P: Provider>(");
        self.line(
            "make: impl Fn(&p::Link) -> Result<P, p::Failure> + Send + Sync + 'static) -> p::Interface {",
        );
        let resolve = self.types.resolve;
        let names = functions
            .iter()
            .map(|f| format!("({:?}, {:?})", f.name, shape::digest(resolve, f)));
        let names: Vec<_> = names.collect();
        let types = self.types.resolve.interfaces[id].types.iter();
        let resources =
            types.filter(|(_, t)| matches!(self.types.resolve.types[**t].kind, TypeDefKind::Resource));
        let resources: Vec<_> = resources.map(|(name, _)| format!("{name:?}")).collect();
        self.line(&format!(
            "p::Interface::new({name:?}, &[{}], &[{}], move |link| {{",
            names.join(", "),
            resources.join(", ")
        ));
        self.line("Ok(p::Arc::new(Served(p::Arc::new(make(link)?))) as p::Arc<dyn p::Service>)\n})\n}");
        self.line("struct Served<P>(p::Arc<P>);");
        self.line("impl<P: Provider> p::Service for Served<P> {");
        self.line("fn call(&self, function: usize, cx: p::Request) -> p::Answer {\nlet provider = self.0.clone();\nmatch function {");
        for (i, f) in functions.iter().enumerate() {
            self.answer(i, f)?;
        }
        self.line("_ => cx.unknown(),\n}\n}");
        let streaming = functions.iter().map(|f| self.streams(f).to_string());
        let streaming = streaming.collect::<Vec<_>>().join(", ");
        self.line(&format!(
            "fn is_streaming(&self, function: usize) -> bool {{\n[{streaming}].get(function).is_some_and(|s| *s)\n}}\n}}"
        ));
        Ok(())
    }

    fn streams(&self, f: &'r Function) -> bool {
        let params = f.params.iter().map(|p| &p.ty);
        params.chain(&f.result).any(|t| self.types.has_channels(t))
    }

    /// `bucket_get` for `[method]bucket.get`; a constructor is `bucket_new`.
    fn method(f: &Function) -> String {
        let bare = f.name.rsplit(']').next().unwrap_or(&f.name);
        match f.kind {
            FunctionKind::Constructor(_) => format!("{}_new", snake(bare).replace("r#", "")),
            _ if f.name.starts_with('[') => bare
                .split('.')
                .map(|n| snake(n).replace("r#", ""))
                .collect::<Vec<_>>()
                .join("_"),
            _ => snake(bare),
        }
    }

    fn params(f: &'r Function) -> Vec<(String, &'r Type)> {
        let named = f.params.iter().map(|p| match p.name.as_str() {
            "self" => ("this".to_owned(), &p.ty),
            "call" => ("call_".to_owned(), &p.ty),
            name => (snake(name), &p.ty),
        });
        named.collect()
    }

    fn signature(&self, f: &'r Function) -> Result<String, String> {
        let mut params = String::new();
        for (name, ty) in Self::params(f) {
            let _ = write!(params, ", {name}: {}", self.types.rust(ty)?);
        }
        let result = f
            .result
            .as_ref()
            .map_or(Ok("()".into()), |t| self.types.rust(t))?;
        Ok(format!(
            "fn {}(&self, call: p::Call{params}) -> impl Future<Output = Result<{result}, p::Failure>> + Send",
            Self::method(f)
        ))
    }

    fn answer(&mut self, i: usize, f: &'r Function) -> Result<(), String> {
        self.line(&format!("{i} => cx.answer(move |cx| async move {{"));
        let params = Self::params(f);
        self.line("let args = cx.params(|cx| Ok((");
        for (at, (_, ty)) in params.iter().enumerate() {
            let lift = self.types.lift(ty)?;
            self.line(&format!("cx.at({at}, |cx| {lift})?,"));
        }
        self.line(")))?;");
        let given: String = (0..params.len()).map(|at| format!(", args.{at}")).collect();
        self.line(&format!(
            "let v = provider.{}(cx.call(){given}).await?;",
            Self::method(f)
        ));
        let lower = f
            .result
            .as_ref()
            .map_or(Ok("Ok(())".into()), |t| self.types.lower(t))?;
        self.line(&format!("cx.root(|cx| cx.at(0, v, |cx, v| {lower}))\n}}),"));
        Ok(())
    }
}
