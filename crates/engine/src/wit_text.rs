//! Types written as WIT, such as `list<tuple<u8, string>>`; records, variants, enums and flags without a name.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::layout;
use crate::types::{Case, Kind, Num, Resource, Ty, TyRef};

/// Types within types that are read.
const DEPTH: usize = 64;
/// Members of one `flags` of the component model.
const FLAGS: usize = 32;

/// Why text is no type.
#[derive(Debug)]
pub struct BadType {
    /// The byte of the text where reading stopped.
    pub at: usize,
    pub message: String,
}

impl fmt::Display for BadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BadType {}

/// The type that `text` is: as in WIT, and records, variants, enums and flags in place, such as `record { x: u32 }`.
///
/// `own<name>` and `borrow<name>` are of a resource that the host defines, the same for the same name. Flags of more
/// than 32 members, which the component model does not have, are a tuple of flags with 32 each.
///
/// Errors with the place and what was expected there.
pub fn parse_type(text: &str) -> Result<TyRef, BadType> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        resources: HashMap::new(),
    };
    let ty = parser.ty()?;
    if parser.peek().is_some() {
        return parser.bad("expected nothing more");
    }
    Ok(ty)
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    resources: HashMap<&'t str, Arc<Resource>>,
}

impl<'t> Parser<'t> {
    fn bad<R>(&self, message: impl Into<String>) -> Result<R, BadType> {
        Err(BadType {
            at: self.at,
            message: message.into(),
        })
    }

    /// The next character that is no space, which is not read yet.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), BadType> {
        if self.take(wanted) {
            return Ok(());
        }
        match self.peek() {
            Some(c) => self.bad(format!("expected `{wanted}`, got `{c}`")),
            None => self.bad(format!("expected `{wanted}`, got the end")),
        }
    }

    /// A name or keyword; empty where none is next.
    fn word(&mut self) -> &'t str {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn name(&mut self) -> Result<&'t str, BadType> {
        self.take('%'); // a name that is a keyword otherwise
        let start = self.at;
        let name = self.word();
        let sound = name.split('-').all(|part| !part.is_empty())
            && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if sound {
            return Ok(name);
        }
        self.at = start;
        self.bad("expected a name, such as `error-code`")
    }

    fn ty(&mut self) -> Result<TyRef, BadType> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.bad(format!("types nest deeper than {DEPTH}"));
        }
        self.peek();
        let start = self.at;
        let kind = self.kind()?;
        self.depth -= 1;
        Ty::made(None, kind).map_err(|e| BadType {
            at: start,
            message: e.to_string(),
        })
    }

    fn kind(&mut self) -> Result<Kind, BadType> {
        let start = self.at;
        Ok(match self.word() {
            "bool" => Kind::Bool,
            "u8" => Kind::Num(Num::U8),
            "s8" => Kind::Num(Num::S8),
            "u16" => Kind::Num(Num::U16),
            "s16" => Kind::Num(Num::S16),
            "u32" => Kind::Num(Num::U32),
            "s32" => Kind::Num(Num::S32),
            "u64" => Kind::Num(Num::U64),
            "s64" => Kind::Num(Num::S64),
            "f32" => Kind::Num(Num::F32),
            "f64" => Kind::Num(Num::F64),
            "char" => Kind::Char,
            "string" => Kind::String,
            "error-context" => Kind::ErrorContext,
            "list" => self.list()?,
            "tuple" => {
                let mut items = vec![];
                self.each('<', '>', |p| {
                    items.push((Arc::from(""), p.ty()?));
                    Ok(())
                })?;
                Kind::Tuple(layout::fields(items.into_iter()))
            }
            "option" => layout::option(self.argument()?),
            "result" => self.result()?,
            "stream" => Kind::Stream(self.maybe()?),
            "future" => Kind::Future(self.maybe()?),
            "own" => Kind::Own(self.resource()?),
            "borrow" => Kind::Borrow(self.resource()?),
            "record" => {
                let fields = self.members(|p| {
                    p.expect(':')?;
                    p.ty()
                })?;
                Kind::Record(layout::fields(fields.into_iter()))
            }
            "variant" => {
                let cases = self.members(|p| {
                    if !p.take('(') {
                        return Ok(None);
                    }
                    let payload = p.ty()?;
                    p.expect(')').map(|()| Some(payload))
                })?;
                layout::variant(cases.into_iter().map(|(name, ty)| Case { name, ty }).collect())
            }
            "enum" => layout::enumeration(self.names()?),
            "flags" => self.flags()?,
            "" => return self.bad("expected a type, such as `list<u8>`"),
            other => {
                self.at = start;
                return self.bad(format!(
                    "there is no type `{other}`: a resource is `own<{other}>` or `borrow<{other}>`, a type with a name \
                     is written out"
                ));
            }
        })
    }

    /// What stands between brackets and commas; a comma may end it.
    fn each(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), BadType>,
    ) -> Result<(), BadType> {
        self.expect(open)?;
        while !self.take(close) {
            item(self)?;
            if !self.take(',') {
                return self.expect(close);
            }
        }
        Ok(())
    }

    /// Members in braces, one at least, each with what `rest` reads after its name.
    fn members<R>(
        &mut self,
        mut rest: impl FnMut(&mut Self) -> Result<R, BadType>,
    ) -> Result<Vec<(Arc<str>, R)>, BadType> {
        let (mut members, mut seen) = (vec![], HashSet::new());
        self.each('{', '}', |p| {
            let start = p.at;
            let name = p.name()?;
            if !seen.insert(name.to_ascii_lowercase()) {
                p.at = start;
                return p.bad(format!("the name `{name}` is there twice"));
            }
            members.push((Arc::from(name), rest(p)?));
            Ok(())
        })?;
        if members.is_empty() {
            return self.bad("expected a member at least");
        }
        Ok(members)
    }

    fn names(&mut self) -> Result<Box<[Arc<str>]>, BadType> {
        Ok(self.members(|_| Ok(()))?.into_iter().map(|(n, ())| n).collect())
    }

    fn flags(&mut self) -> Result<Kind, BadType> {
        let names = self.names()?;
        if names.len() <= FLAGS {
            return Ok(Kind::Flags(names));
        }
        let groups = names.chunks(FLAGS);
        let groups = groups.map(|g| Ty::made(None, Kind::Flags(g.into())).map(|t| (Arc::from(""), t)));
        let groups = groups.collect::<wasmtime::Result<Vec<_>>>();
        let groups = groups.or_else(|e| self.bad(e.to_string()))?;
        Ok(Kind::Tuple(layout::fields(groups.into_iter())))
    }

    fn argument(&mut self) -> Result<TyRef, BadType> {
        self.expect('<')?;
        let ty = self.ty()?;
        self.expect('>').map(|()| ty)
    }

    fn maybe(&mut self) -> Result<Option<TyRef>, BadType> {
        match self.peek() {
            Some('<') => self.argument().map(Some),
            _ => Ok(None),
        }
    }

    fn list(&mut self) -> Result<Kind, BadType> {
        self.expect('<')?;
        let ty = self.ty()?;
        if !self.take(',') {
            self.expect('>')?;
            return Ok(Kind::List(ty));
        }
        self.peek();
        let start = self.at;
        let length = self.word().parse::<u32>().ok().filter(|n| *n > 0);
        let Some(length) = length else {
            self.at = start;
            return self.bad("expected the length of the list");
        };
        self.expect('>')?;
        Ok(Kind::FixedList(ty, length as usize))
    }

    fn result(&mut self) -> Result<Kind, BadType> {
        if !self.take('<') {
            return Ok(layout::result(None, None));
        }
        let ok = if self.take('_') { None } else { Some(self.ty()?) };
        let err = if self.take(',') { Some(self.ty()?) } else { None };
        self.expect('>')?;
        Ok(layout::result(ok, err))
    }

    fn resource(&mut self) -> Result<Arc<Resource>, BadType> {
        self.expect('<')?;
        let name = self.name()?;
        self.expect('>')?;
        let id = self.resources.len() as u32;
        let made = self.resources.entry(name).or_insert_with(|| {
            Arc::new(Resource {
                name: name.into(),
                interface: "".into(),
                host: Some(id),
                ext: OnceLock::new(),
            })
        });
        Ok(made.clone())
    }
}
