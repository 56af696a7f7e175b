//! Spans, and the context that calls carry.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use loop_engine::{EnteredTrace, Import, Neutral, Result, Trace, Value};
use serde::Deserialize;

use super::attributes::{Attributes, Bounds};
use super::quota::{Held, Quota};
use super::random::Shared;
use crate::value::{args, items, option, string};
use crate::{Ended, Observer};

/// The key `trace` of the grant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Grant {
    /// Spans at once. Default: 256.
    spans: NonZeroUsize,
    /// Events of one span. Default: 128.
    events: NonZeroUsize,
    /// Attributes of one span or event. Default: 64.
    attributes: NonZeroUsize,
    /// Bytes of one name, key or word. Default: 4096.
    text: NonZeroUsize,
}

impl Default for Grant {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        let Bounds { attributes, text } = Bounds::default();
        Grant {
            spans: size(256),
            events: size(128),
            attributes,
            text,
        }
    }
}

/// What spans share.
struct Tracer {
    quota: Quota,
    events: usize,
    bounds: Bounds,
    ids: Arc<Shared>,
    observer: Arc<dyn Observer>,
}

/// A span that may have ended.
struct Span {
    context: Trace,
    state: String,
    tracer: Arc<Tracer>,
    open: Mutex<Option<Open>>,
    _held: Held,
}

/// What is known of a span while it lasts.
struct Open {
    /// None: nobody listens, so that nothing is kept.
    ended: Option<Box<Ended>>,
    begun: Instant,
    /// Makes it the current one.
    _entered: Option<EnteredTrace>,
}

type Functions = Vec<(&'static str, Import<Neutral>)>;

pub(super) fn functions(grant: &Grant, observer: Arc<dyn Observer>) -> Functions {
    let Grant {
        spans,
        events,
        attributes,
        text,
    } = *grant;
    let tracer = Arc::new(Tracer {
        quota: Quota::new("span", "trace.spans", spans),
        events: events.get(),
        bounds: Bounds { attributes, text },
        ids: Shared::anywhere(),
        observer: observer.clone(),
    });
    let (below, beneath) = (tracer.clone(), tracer);
    vec![
        (
            "trace#current",
            Import::now(move |_| {
                let context = observer.current().map(|trace| context(&trace, ""));
                Ok(Some(option(context)))
            }),
        ),
        (
            "trace#[constructor]span",
            Import::now(move |a| {
                let [name, kind, attributes] = args(a)?;
                let parent = below.observer.current();
                below.begin(parent, String::new(), name, kind, attributes)
            }),
        ),
        (
            "trace#[static]span.beneath",
            Import::now(move |a| {
                let [parent, name, kind, attributes] = args(a)?;
                let [traceparent, state] = args(items(parent)?)?;
                let parent = read(traceparent.as_str()?);
                let state = beneath.bounds.text(string(state)?);
                let state = if parent.is_some() { state } else { String::new() };
                beneath.begin(parent, state, name, kind, attributes)
            }),
        ),
        (
            "trace#[method]span.context",
            Import::now(|a| {
                let [span] = args(a)?;
                let span = span.as_host::<Span>()?;
                Ok(Some(context(&span.context, &span.state)))
            }),
        ),
        (
            "trace#[method]span.set-attributes",
            change(|tracer, ended, said| {
                ended.dropped += tracer.bounds.add(&mut ended.attributes, said)?;
                Ok(())
            }),
        ),
        (
            "trace#[method]span.add-event",
            Import::now(|a| {
                let [span, name, said] = args(a)?;
                let span = span.as_host::<Span>()?;
                span.change(|tracer, ended| {
                    if ended.events.len() >= tracer.events {
                        ended.dropped += 1;
                        return Ok(());
                    }
                    let mut attributes = vec![];
                    let dropped = tracer.bounds.add(&mut attributes, said)?;
                    let name = tracer.bounds.text(string(name)?);
                    ended.events.push((name, SystemTime::now(), attributes));
                    ended.dropped += dropped;
                    Ok(())
                })?;
                Ok(None)
            }),
        ),
        (
            "trace#[method]span.set-status",
            change(|tracer, ended, said| {
                ended.status = match said {
                    Value::Case(2, Some(why)) => (2, tracer.bounds.text(string(*why)?)),
                    Value::Case(case, _) => (case, String::new()),
                    other => return Err(loop_engine::Mismatch::new("status", format!("{other:?}")).into()),
                };
                Ok(())
            }),
        ),
        (
            "trace#[method]span.end",
            Import::now(|a| {
                let [span] = args(a)?;
                span.as_host::<Span>()?.end();
                Ok(None)
            }),
        ),
    ]
}

impl Tracer {
    fn begin(
        self: &Arc<Self>,
        parent: Option<Trace>,
        state: String,
        name: Value,
        kind: Value,
        said: Value,
    ) -> Result<Option<Value>> {
        let _held = self.quota.take()?;
        let listens = self.observer.listens();
        let mut context = parent.unwrap_or_default();
        self.ids.with(|ids| {
            if parent.is_none() {
                ids.fill(&mut context[..16]);
                context[24] = u8::from(listens); // sampled, if anybody is there to see it
            }
            ids.fill(&mut context[16..24]);
        });
        let sampled = context[24] & 1 == 1;
        let ended = if listens && sampled {
            let kind = match kind {
                Value::Case(kind, None) => kind,
                other => return Err(loop_engine::Mismatch::new("kind", format!("{other:?}")).into()),
            };
            let mut attributes: Attributes = vec![];
            let dropped = self.bounds.add(&mut attributes, said)?;
            let now = SystemTime::now();
            Some(Box::new(Ended {
                name: self.bounds.text(string(name)?),
                kind,
                context,
                state: state.clone(),
                parent,
                began: now,
                ended: now,
                attributes,
                events: vec![],
                status: (0, String::new()),
                dropped,
            }))
        } else {
            None
        };
        let open = Open {
            ended,
            begun: Instant::now(),
            _entered: loop_engine::enter_trace(context),
        };
        Ok(Some(Value::host(Span {
            context,
            state,
            tracer: self.clone(),
            open: Mutex::new(Some(open)),
            _held,
        })))
    }
}

impl Span {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(&Tracer, &mut Ended) -> Result<()>) -> Result<()> {
        match &mut *self.open() {
            Some(Open {
                ended: Some(ended), ..
            }) => f(&self.tracer, ended),
            _ => Ok(()),
        }
    }

    fn end(&self) {
        let open = self.open().take();
        if let Some(Open {
            ended: Some(mut ended),
            begun,
            ..
        }) = open
        {
            ended.ended = ended.began + begun.elapsed();
            self.tracer.observer.ended(*ended);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end();
    }
}

/// A method that takes one argument and changes a span that lasts.
fn change(f: impl Fn(&Tracer, &mut Ended, Value) -> Result<()> + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| {
        let [span, said] = args(a)?;
        span.as_host::<Span>()?
            .change(|tracer, ended| f(tracer, ended, said))?;
        Ok(None)
    })
}

/// The record `context`.
fn context(trace: &Trace, state: &str) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (id, span, flags) = (hex(&trace[..16]), hex(&trace[16..24]), hex(&trace[24..]));
    Value::Fields(vec![
        Value::String(format!("00-{id}-{span}-{flags}")),
        Value::string(state),
    ])
}

/// A `traceparent` of this or a later version.
fn read(text: &str) -> Option<Trace> {
    let parts: Vec<_> = text.split('-').collect();
    let (&[version, id, span, flags], more) = parts.split_first_chunk::<4>()?;
    let sized = [(version, 2), (id, 32), (span, 16), (flags, 2)];
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if sized.iter().any(|(part, len)| part.len() != *len || !hex(part))
        || version == "ff"
        || (version == "00" && !more.is_empty())
    {
        return None;
    }
    let digits = [id, span, flags].concat();
    let mut trace = Trace::default();
    for (i, byte) in trace.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    let known = |part: &[u8]| part.iter().any(|b| *b != 0);
    (known(&trace[..16]) && known(&trace[16..24])).then_some(trace)
}
