//! What is told about measurements, spans and events, and how much of it.

use std::num::NonZeroUsize;

use loop_engine::{Mismatch, Num, Result, Value};
use serde::Deserialize;

use crate::value::{args, items, string};

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
}

/// In the component's order, each key once.
pub type Attributes = Vec<(String, Attribute)>;

/// Keys of the grant that bound what is told.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Bounds {
    /// Attributes of one span, event or measurement. Default: 64.
    pub attributes: NonZeroUsize,
    /// Bytes of one name, key or word. Default: 4096.
    pub text: NonZeroUsize,
}

impl Default for Bounds {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        Bounds {
            attributes: size(64),
            text: size(4096),
        }
    }
}

impl Bounds {
    /// Cuts a text to size, at a character.
    pub(super) fn text(&self, mut text: String) -> String {
        text.truncate(text.floor_char_boundary(self.text.get()));
        text
    }

    /// Adds what a component said to `to`, in place of what has the same key; returns how many were too many.
    pub(super) fn add(&self, to: &mut Attributes, said: Value) -> Result<usize> {
        let mut dropped = 0;
        for item in items(said)? {
            let [key, value] = args(items(item)?)?;
            let (key, value) = (self.text(string(key)?), self.read(value)?);
            match to.iter().position(|(known, _)| *known == key) {
                Some(at) => to[at].1 = value,
                None if to.len() < self.attributes.get() => to.push((key, value)),
                None => dropped += 1,
            }
        }
        Ok(dropped)
    }

    fn read(&self, value: Value) -> Result<Attribute> {
        Ok(match value {
            Value::Case(case, Some(value)) => match (case, *value) {
                (0, text) => Attribute::Text(self.text(string(text)?)),
                (1, Value::Num(Num::S64, bits)) => Attribute::Integer(bits as i64),
                (2, Value::Num(Num::F64, bits)) => Attribute::Number(f64::from_bits(bits)),
                (3, Value::Bool(b)) => Attribute::Boolean(b),
                (_, other) => return Err(Mismatch::new("value", format!("{other:?}")).into()),
            },
            other => return Err(Mismatch::new("value", format!("{other:?}")).into()),
        })
    }
}
