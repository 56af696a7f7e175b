//! Instruments, and what a grant lets through of their series.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use loop_engine::{Import, Neutral, Num, Result, Value};
use serde::Deserialize;

use super::attributes::{Attribute, Attributes, Bounds};
use super::quota::{Held, Quota};
use crate::value::{args, items, string};
use crate::{Measurement, Observer};

/// What an instrument does with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instrument {
    Counter,
    Gauge,
    Histogram,
}

/// The key `metrics` of the grant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Grant {
    /// Instruments at once. Default: 256.
    instruments: NonZeroUsize,
    /// Series, all instruments together. Default: 2000.
    series: NonZeroUsize,
    /// Attributes of one measurement. Default: 64.
    attributes: NonZeroUsize,
    /// Bytes of one name, key or word. Default: 4096.
    text: NonZeroUsize,
}

impl Default for Grant {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        let Bounds { attributes, text } = Bounds::default();
        Grant {
            instruments: size(256),
            series: size(2000),
            attributes,
            text,
        }
    }
}

/// The metrics of one component.
struct Metrics {
    bounds: Bounds,
    quota: Quota,
    series: usize,
    /// Digests of the series that there are; keyed by chance, so that nobody can make two of them one.
    known: Mutex<HashSet<u64>>,
    digest: RandomState,
    observer: Arc<dyn Observer>,
}

/// One of a component's instruments.
struct Handle {
    kind: Instrument,
    name: Arc<str>,
    unit: Arc<str>,
    description: Arc<str>,
    _held: Held,
}

type Functions = Vec<(&'static str, Import<Neutral>)>;

pub(super) fn functions(grant: &Grant, observer: Arc<dyn Observer>) -> Functions {
    let Grant {
        instruments,
        series,
        attributes,
        text,
    } = *grant;
    let metrics = Arc::new(Metrics {
        bounds: Bounds { attributes, text },
        quota: Quota::new("instrument", "metrics.instruments", instruments),
        series: series.get(),
        known: Mutex::default(),
        digest: RandomState::new(),
        observer,
    });
    vec![
        ("metrics#[constructor]counter", new(&metrics, Instrument::Counter)),
        ("metrics#[method]counter.add", measure(&metrics)),
        ("metrics#[constructor]gauge", new(&metrics, Instrument::Gauge)),
        ("metrics#[method]gauge.set", measure(&metrics)),
        (
            "metrics#[constructor]histogram",
            new(&metrics, Instrument::Histogram),
        ),
        ("metrics#[method]histogram.record", measure(&metrics)),
    ]
}

fn new(metrics: &Arc<Metrics>, kind: Instrument) -> Import<Neutral> {
    let metrics = metrics.clone();
    Import::now(move |a| {
        let [name, about] = args(a)?;
        let [unit, description] = args(items(about)?)?;
        let text = |v| string(v).map(|s| Arc::from(metrics.bounds.text(s)));
        Ok(Some(Value::host(Handle {
            kind,
            name: text(name)?,
            unit: text(unit)?,
            description: text(description)?,
            _held: metrics.quota.take()?,
        })))
    })
}

fn measure(metrics: &Arc<Metrics>) -> Import<Neutral> {
    let metrics = metrics.clone();
    Import::now(move |a| {
        if !metrics.observer.listens() {
            return Ok(None);
        }
        let [handle, value, said] = args(a)?;
        let (handle, value) = (handle.as_host::<Handle>()?, number(&value)?);
        if !value.is_finite() || (handle.kind == Instrument::Counter && value < 0.0) {
            return Ok(None);
        }
        let mut attributes = vec![];
        metrics.bounds.add(&mut attributes, said)?;
        if !metrics.fits(&handle, &attributes) {
            attributes = vec![("otel.metric.overflow".into(), Attribute::Boolean(true))];
        }
        metrics.observer.measured(Measurement {
            instrument: handle.kind,
            name: handle.name.clone(),
            unit: handle.unit.clone(),
            description: handle.description.clone(),
            value,
            attributes,
        });
        Ok(None)
    })
}

impl Metrics {
    /// Whether there may be this series.
    fn fits(&self, handle: &Handle, attributes: &Attributes) -> bool {
        // the order in which attributes are given does not count
        let sorted: BTreeMap<_, _> = attributes.iter().map(|(k, v)| (k, format!("{v:?}"))).collect();
        let digest = self.digest.hash_one((handle.kind as u8, &handle.name, sorted));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&digest) || (known.len() < self.series && known.insert(digest))
    }
}

fn number(v: &Value) -> Result<f64> {
    match v {
        Value::Num(Num::F64, bits) => Ok(f64::from_bits(*bits)),
        other => Err(loop_engine::Mismatch::new("f64", format!("{other:?}")).into()),
    }
}
