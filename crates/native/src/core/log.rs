//! Log records, and what a grant lets through of them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use loop_engine::{Import, Mismatch, Neutral, Result, Trace, Value};
use serde::Deserialize;

use crate::Observer;
use crate::value::{args, items, string};

/// How severe a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A record as its component sent it, apart from what the grant cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub level: Level,
    pub target: String,
    pub message: String,
    /// In the component's order; a key may come twice.
    pub fields: Vec<(String, String)>,
    /// Something was cut off.
    pub shortened: bool,
    /// The span that it belongs to.
    pub trace: Option<Trace>,
}

/// The key `log` of the grant: what a component may log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Grant {
    /// Records below are dropped. Default: `trace`.
    level: Level,
    /// Only these targets and what is below them: `site` stands for `site` and `site.search`, not for `sites`.
    /// Default: all.
    targets: Option<Vec<String>>,
    /// Bytes of one record: its strings, and [`FIELD`] for each field. Longer ones are cut. Default: 65536.
    max_record: NonZeroUsize,
}

/// What a field counts beside its strings, so that the number of empty ones is bounded too.
const FIELD: usize = 16;

impl Default for Grant {
    fn default() -> Self {
        Grant {
            level: Level::Trace,
            targets: None,
            max_record: NonZeroUsize::new(64 << 10).expect("not zero"),
        }
    }
}

impl Grant {
    fn lets(&self, level: Level, target: &str) -> bool {
        let below = |prefix: &String| {
            target
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        level >= self.level && self.targets.as_ref().is_none_or(|t| t.iter().any(below))
    }

    /// Cuts the record to size: target and message at a character, fields as a whole, each that still fits kept.
    fn shorten(&self, record: &mut Record) {
        let mut left = self.max_record.get();
        for s in [&mut record.target, &mut record.message] {
            let keep = s.floor_char_boundary(left);
            record.shortened |= keep < s.len();
            s.truncate(keep);
            left -= keep;
        }
        let before = record.fields.len();
        record.fields.retain(|(key, value)| {
            let size = key.len() + value.len() + FIELD;
            let fits = size <= left;
            if fits {
                left -= size;
            }
            fits
        });
        record.shortened |= record.fields.len() < before;
    }
}

pub(super) fn import(grant: Grant, observer: Arc<dyn Observer>) -> Import<Neutral> {
    Import::now(move |a| {
        let [level, target, message, fields] = args(a)?;
        let (level, target) = (self::level(&level)?, string(target)?);
        if grant.lets(level, &target) {
            let (message, fields) = (string(message)?, self::fields(fields)?);
            let mut record = Record {
                level,
                target,
                message,
                fields,
                shortened: false,
                trace: observer.current(),
            };
            grant.shorten(&mut record);
            observer.log(record);
        }
        Ok(None)
    })
}

fn level(v: &Value) -> Result<Level> {
    let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
    match v {
        Value::Case(i, _) if *i < levels.len() => Ok(levels[*i]),
        other => Err(Mismatch::new("level", format!("{other:?}")).into()),
    }
}

fn fields(v: Value) -> Result<Vec<(String, String)>> {
    let pair = |pair| {
        let [key, value] = args(items(pair)?)?;
        Ok((string(key)?, string(value)?))
    };
    items(v)?.into_iter().map(pair).collect()
}
