//! What is told to the page, as JSON. Names are those of the WIT; times are numbers that a browser holds exactly.

use serde_json::{Value, json};

use crate::loop_::devserver::command;
use crate::loop_::devserver::events::{Event, Level, Line, Place, Step};
use crate::loop_::devserver::metrics::{Instrument, Measurements, Origin, Series};
use crate::loop_::devserver::workspace::{Change, Failure, Kind, Link, Member, Phase, Placement, Summary};

pub fn about(about: &Summary) -> Value {
    json!({
        "name": about.name,
        "folder": about.folder,
        "pid": about.pid,
        "instance": about.instance,
        "started": about.started,
        "version": about.version,
        "served": about.served,
    })
}

pub fn member(member: &Member) -> Value {
    json!({
        "name": member.name,
        "kind": match member.kind {
            Kind::Component => "component",
            Kind::Provider => "provider",
        },
        "placement": match member.placement {
            Placement::Builtin => "builtin",
            Placement::Python => "python",
            Placement::Component => "component",
            Placement::Sidecar => "sidecar",
            Placement::Remote => "remote",
        },
        "transport": member.transport,
        "source": member.source,
        "phase": match member.phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
        },
        "generation": member.generation,
        "digest": member.digest,
        "pid": member.pid,
        "since": member.since,
        "restarts": member.restarts,
        "reason": member.reason,
        "crash-loop": member.crash_loop,
    })
}

pub fn link(link: &Link) -> Value {
    let traffic = link.traffic.as_ref().map(|traffic| {
        let spent = traffic.spent.as_ref().map(|spent| {
            json!({
                "calls": spent.calls,
                "encode": spent.encode,
                "session": spent.session,
                "queue": spent.queue,
                "provider": spent.provider,
                "decode": spent.decode,
            })
        });
        json!({
            "calls": traffic.calls,
            "errors": traffic.errors,
            "busy": traffic.busy,
            "spent": spent,
        })
    });
    json!({
        "importer": link.importer,
        "interface": link.interface,
        "provider": link.provider,
        "grants": link.grants,
        "traffic": traffic,
    })
}

pub fn measurements(told: &Measurements) -> Value {
    json!({ "series": told.series.iter().map(series).collect::<Vec<_>>(), "lost": told.lost })
}

fn series(series: &Series) -> Value {
    json!({
        "origin": match series.origin {
            Origin::Host => "host",
            Origin::Component => "component",
        },
        "name": series.name,
        "instrument": match series.instrument {
            Instrument::Counter => "counter",
            Instrument::Gauge => "gauge",
            Instrument::Histogram => "histogram",
        },
        "unit": series.unit,
        "description": series.description,
        "attributes": series.attributes,
        "count": series.count,
        "sum": series.sum,
        "last": series.last,
        "min": series.min,
        "max": series.max,
        "buckets": series.buckets,
    })
}

pub fn command(command: &command::About) -> Value {
    json!({ "name": command.name, "summary": command.summary, "usage": command.usage })
}

pub fn change(change: &Change) -> Value {
    json!({ "member": change.member, "before": change.before, "after": change.after })
}

/// In words.
pub fn failure(failure: &Failure) -> String {
    match failure {
        Failure::Refused(why) => why.clone(),
        Failure::Unknown(near) if near.is_empty() => "there is no member of that name".into(),
        Failure::Unknown(near) => {
            format!(
                "there is no member of that name; did you mean {}?",
                near.join(" or ")
            )
        }
    }
}

/// What an event is stands in its `is`.
pub fn event(event: &Event) -> Value {
    match event {
        Event::Member(told) => json!({ "is": "member", "member": member(told) }),
        Event::Line(told) => line(told),
        Event::Build(build) => json!({
            "is": "build",
            "member": build.member,
            "step": match build.step {
                Step::Begun => "begun",
                Step::Done => "done",
                Step::Failed => "failed",
            },
            "milliseconds": build.milliseconds,
            "output": build.output,
            "places": build.places.iter().map(place).collect::<Vec<_>>(),
        }),
        Event::Refusal(refusal) => json!({
            "is": "refusal",
            "time": refusal.time,
            "importer": refusal.importer,
            "interface": refusal.interface,
            "what": refusal.what,
            "proposal": refusal.proposal,
        }),
        Event::Span(span) => json!({
            "is": "span",
            "trace": span.trace,
            "id": span.id,
            "parent": span.parent,
            "name": span.name,
            "source": span.source,
            // whole microseconds, and what is left: nanoseconds since 1970 are more than a number of JavaScript holds
            "start": span.start / 1_000,
            "fraction": span.start % 1_000,
            "nanoseconds": span.nanoseconds,
            "error": span.error,
        }),
        Event::Lost(count) => json!({ "is": "lost", "count": count }),
        Event::Assets(paths) => json!({ "is": "assets", "paths": paths }),
    }
}

fn line(line: &Line) -> Value {
    json!({
        "is": "line",
        "time": line.time,
        "level": match line.level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        },
        "source": line.source,
        "target": line.target,
        "message": line.message,
        "fields": line.fields,
    })
}

fn place(place: &Place) -> Value {
    json!({
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "excerpt": place.excerpt,
    })
}
