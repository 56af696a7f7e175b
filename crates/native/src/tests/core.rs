use loop_engine::{Chunk, Feed, Num, Value};
use serde_json::json;

use super::{Bench, PAYLOAD, s};
use crate::{Attribute, Level, Record};

fn log(bench: &Bench, level: usize, target: &str, message: &str, fields: &[(&str, &str)]) {
    let fields = fields
        .iter()
        .map(|(k, v)| Value::Fields(vec![s(k), s(v)]))
        .collect();
    let args = vec![
        Value::Case(level, None),
        s(target),
        s(message),
        Value::List(fields),
    ];
    assert!(bench.call("log#log", args).unwrap().is_none());
}

#[test]
fn a_record_arrives_as_it_was_sent() {
    let bench = Bench::new("core", json!({}));
    log(
        &bench,
        3,
        "site.search",
        "héllo",
        &[("b", "1"), ("a", "2"), ("b", "3")],
    );
    let fields = [("b", "1"), ("a", "2"), ("b", "3")].map(|(k, v)| (k.to_string(), v.to_string()));
    let sent = Record {
        level: Level::Warn,
        target: "site.search".into(),
        message: "héllo".into(),
        fields: fields.into(),
        shortened: false,
        trace: None,
    };
    assert_eq!(*bench.heard.lock().unwrap().logged, [sent]);
}

#[test]
fn level_and_targets_decide_what_passes() {
    let bench = Bench::new(
        "core",
        json!({"log": {"level": "info", "targets": ["site", "db.pool"]}}),
    );
    for (level, target) in [
        (1, "site"),
        (2, "site"),
        (4, "site.x"),
        (4, "sites"),
        (4, "db"),
        (4, "db.pool.y"),
        (4, ""),
    ] {
        log(&bench, level, target, "m", &[]);
    }
    let heard = bench.heard.lock().unwrap();
    let passed: Vec<_> = heard.logged.iter().map(|r| r.target.clone()).collect();
    assert_eq!(passed, ["site", "site.x", "db.pool.y"]);
}

#[test]
fn a_long_record_is_cut_at_a_character_and_fields_stay_whole() {
    let bench = Bench::new("core", json!({"log": {"max-record": 30}}));
    log(&bench, 2, "t", "abc", &[("k", "0123456789"), ("k", "v")]);
    log(&bench, 2, "t", &"é".repeat(20), &[]);
    let heard = bench.heard.lock().unwrap();
    let logged = &heard.logged;
    assert_eq!(logged[0].fields, [("k".to_string(), "v".to_string())]);
    assert_eq!(logged[1].message, "é".repeat(14));
    assert!(logged[0].shortened && logged[1].shortened);
}

#[test]
fn clocks_go_forwards() {
    let bench = Bench::new("core", json!({}));
    let now = bench.get("clock#now", vec![]);
    let [seconds, nanoseconds] = now.items().unwrap() else {
        panic!()
    };
    assert!(seconds.as_u64().unwrap() > 1_700_000_000 && nanoseconds.as_u64().unwrap() < 1_000_000_000);
    let mut last = 0;
    for _ in 0..1000 {
        let next = bench.get("clock#monotonic-now", vec![]).as_u64().unwrap();
        assert!(next >= last);
        last = next;
    }
    assert!(bench.get("clock#resolution", vec![]).as_u64().unwrap() > 0);
}

#[test]
fn nanoseconds_before_1970_count_forwards() {
    use std::time::{Duration, UNIX_EPOCH};
    for (before, seconds, nanoseconds) in [
        (0, 0, 0),
        (1, -1, 999_999_999),
        (1_000_000_000, -1, 0),
        (1_500_000_000, -2, 500_000_000),
    ] {
        let instant = crate::value::instant(UNIX_EPOCH - Duration::from_nanos(before));
        let parts: Vec<_> = instant
            .items()
            .unwrap()
            .iter()
            .map(|v| v.as_u64().unwrap())
            .collect();
        assert_eq!(parts, [seconds as i64 as u64, nanoseconds]);
    }
}

#[test]
fn timers_end_when_they_are_due_and_never_earlier() {
    let bench = Bench::new("core", json!({}));
    let ticks = || bench.get("clock#monotonic-now", vec![]).as_u64().unwrap();
    for how_long in [0, 1, 2_000_000] {
        let before = ticks();
        assert!(
            bench
                .call("timers#sleep", vec![Value::u64(how_long)])
                .unwrap()
                .is_none()
        );
        assert!(ticks() - before >= how_long);
    }
    let when = ticks() + 3_000_000;
    bench.call("timers#sleep-until", vec![Value::u64(when)]).unwrap();
    assert!(ticks() >= when);
    bench.call("timers#sleep-until", vec![Value::u64(0)]).unwrap();
}

#[test]
fn a_tick_that_nobody_read_is_not_kept() {
    let bench = Bench::new("core", json!({}));
    let ticks = || bench.get("clock#monotonic-now", vec![]).as_u64().unwrap();
    let period = 1_000_000;
    let before = ticks();
    let Value::Stream(stream) = bench.get("timers#every", vec![Value::u64(period)]) else {
        panic!()
    };
    let Some(Feed::Source(mut source)) = stream.into_inner().unwrap() else {
        panic!()
    };
    let mut next = || {
        let chunk = bench
            .runtime
            .block_on(std::future::poll_fn(|cx| source.poll_next(cx)));
        match chunk.unwrap().unwrap() {
            Chunk::Raw(raw) => u64::from_le_bytes((*raw).as_ref().try_into().unwrap()),
            _ => panic!(),
        }
    };
    let mut last = next();
    assert!(last >= before + period);
    for _ in 0..3 {
        let tick = next();
        assert!(tick > last && (tick - last) % period == 0);
        last = tick;
    }
    bench.call("timers#sleep", vec![Value::u64(10 * period)]).unwrap();
    let late = next();
    assert!(late >= last + 9 * period && (late - last) % period == 0);
}

#[test]
fn timers_are_bounded_by_the_grant() {
    let bench = Bench::new("core", json!({"timers": {"max": 2}}));
    let every = |period| bench.call("timers#every", vec![Value::u64(period)]);
    let (first, _second) = (every(1).unwrap(), every(1).unwrap());
    let many = every(1).err().unwrap().to_string();
    assert!(many.contains("`timers.max` of the grant is 2"), "{many}");
    assert!(bench.call("timers#sleep", vec![Value::u64(1)]).is_err());
    drop(first);
    bench.call("timers#sleep", vec![Value::u64(1)]).unwrap();
    let zero = every(0).err().unwrap().to_string();
    assert!(zero.contains("above zero"), "{zero}");
}

#[test]
fn randomness_is_fresh_and_bounded() {
    let bench = Bench::new("core", json!({}));
    let bytes = |len: u32| bench.call("random#bytes", vec![Value::u32(len)]);
    let (a, b) = (bytes(32).unwrap().unwrap(), bytes(32).unwrap().unwrap());
    assert_ne!(a.as_bytes().unwrap(), b.as_bytes().unwrap());
    assert_eq!(bytes(0).unwrap().unwrap().as_bytes().unwrap().len(), 0);
    assert_eq!(
        bytes(PAYLOAD as u32).unwrap().unwrap().as_bytes().unwrap().len(),
        PAYLOAD
    );
    assert!(
        bytes(PAYLOAD as u32 + 1)
            .unwrap_err()
            .to_string()
            .contains("payload limit")
    );
    assert_ne!(
        bench.get("random#u64", vec![]).as_u64().unwrap(),
        bench.get("random#u64", vec![]).as_u64().unwrap()
    );
}

fn lend(token: &Value) -> Vec<Value> {
    let Value::Host(object) = token else { panic!() };
    vec![Value::Host(object.clone())]
}

#[test]
fn cancelling_reaches_descendants_only() {
    let bench = Bench::new("core", json!({}));
    let child = |of: &Value| bench.get("cancel#[method]token.child", lend(of));
    let cancelled = |t: &Value| {
        matches!(
            bench.get("cancel#[method]token.is-cancelled", lend(t)),
            Value::Bool(true)
        )
    };
    let cancel = |t: &Value| {
        assert!(
            bench
                .call("cancel#[method]token.cancel", lend(t))
                .unwrap()
                .is_none()
        )
    };
    let top = bench.get("cancel#[constructor]token", vec![]);
    let (left, right) = (child(&top), child(&top));
    let below = child(&left);
    cancel(&left);
    cancel(&left);
    assert!(cancelled(&left) && cancelled(&below) && cancelled(&child(&below)));
    assert!(!cancelled(&top) && !cancelled(&right));
    // a dropped link in the middle does not cut the ends apart
    let end = child(&right);
    drop(right);
    cancel(&top);
    assert!(cancelled(&end));
}

#[test]
fn a_long_line_of_dropped_ancestors_costs_nothing() {
    let bench = Bench::new("core", json!({}));
    let top = bench.get("cancel#[constructor]token", vec![]);
    let mut token = bench.get("cancel#[method]token.child", lend(&top));
    for _ in 0..200_000 {
        token = bench.get("cancel#[method]token.child", lend(&token));
    }
    bench.call("cancel#[method]token.cancel", lend(&top)).unwrap();
    assert!(cancelled(&bench, &token));
}

fn cancelled(bench: &Bench, token: &Value) -> bool {
    matches!(
        bench.get("cancel#[method]token.is-cancelled", lend(token)),
        Value::Bool(true)
    )
}

fn with(of: &Value, more: Vec<Value>) -> Vec<Value> {
    lend(of).into_iter().chain(more).collect()
}

#[test]
fn time_runs_out_for_a_token_and_what_is_below_it() {
    let bench = Bench::new("core", json!({"cancel": {"max": 4}}));
    let timed = |of: &Value, after: u64| {
        bench.get(
            "cancel#[method]token.child-for",
            with(of, vec![Value::u64(after)]),
        )
    };
    let left = |of: &Value| match bench.get("cancel#[method]token.remaining", lend(of)) {
        Value::Case(1, Some(left)) => Some(left.as_u64().unwrap()),
        _ => None,
    };
    let top = bench.get("cancel#[constructor]token", vec![]);
    assert_eq!(left(&top), None);
    let hour = timed(&top, 3_600_000_000_000);
    assert!(left(&hour).unwrap() > 3_000_000_000_000 && !cancelled(&bench, &hour));
    let soon = timed(&hour, 1_000_000);
    let below = timed(&soon, u64::MAX);
    assert!(bench.call("cancel#[constructor]token", vec![]).is_err());
    bench.call("cancellation#cancelled", lend(&below)).unwrap();
    assert!(cancelled(&bench, &soon) && cancelled(&bench, &below) && !cancelled(&bench, &hour));
    assert_eq!((left(&soon), left(&below)), (Some(0), Some(0)));
    bench.call("cancel#[method]token.cancel", lend(&top)).unwrap();
    bench.call("cancellation#cancelled", lend(&hour)).unwrap();
    assert!(matches!(
        bench.get("cancel#time-left", vec![]),
        Value::Case(0, None)
    ));
}

#[test]
fn a_seed_gives_the_numbers_of_the_reference() {
    let bench = Bench::new("core", json!({"random": {"max": 1}}));
    let seeded = |seed| bench.call("insecure-random#[constructor]generator", vec![Value::u64(seed)]);
    let generator = seeded(0).unwrap().unwrap();
    let why = seeded(0).err().unwrap().to_string();
    assert!(why.contains("`random.max` of the grant is 1"), "{why}");
    let next = || {
        bench
            .get("insecure-random#[method]generator.next-u64", lend(&generator))
            .as_u64()
            .unwrap()
    };
    // those of the authors' own xoshiro256plusplus.c after splitmix64.c
    let reference = [
        0x5317_5d61_490b_23df,
        0x61da_6f3d_c380_d507,
        0x5c0f_df91_ec9a_7bfc,
        0x02ee_bf8c_3bbe_5e1a,
    ];
    assert_eq!([next(), next(), next(), next()], reference);
    let bytes = bench.get(
        "insecure-random#[method]generator.next-bytes",
        with(&generator, vec![Value::u32(11)]),
    );
    assert_eq!(bytes.as_bytes().unwrap().len(), 11);
}

fn about() -> Value {
    Value::Fields(vec![s("ms"), s("how long")])
}

fn said(all: &[(&str, &str)]) -> Value {
    let one = |(k, v): &(&str, &str)| Value::Fields(vec![s(k), Value::Case(0, Some(Box::new(s(v))))]);
    Value::List(all.iter().map(one).collect())
}

fn f64(v: f64) -> Value {
    Value::Num(Num::F64, v.to_bits())
}

#[test]
fn measurements_arrive_and_their_series_are_bounded() {
    let grant = json!({"metrics": {"series": 2, "instruments": 2, "text": 8, "attributes": 1}});
    let bench = Bench::new("core", grant);
    let counter = bench.get("metrics#[constructor]counter", vec![s("requests"), about()]);
    let histogram = bench.get("metrics#[constructor]histogram", vec![s("time"), about()]);
    assert!(
        bench
            .call("metrics#[constructor]gauge", vec![s("x"), about()])
            .is_err()
    );
    let add = |v: f64, all: &[(&str, &str)]| {
        bench
            .call(
                "metrics#[method]counter.add",
                with(&counter, vec![f64(v), said(all)]),
            )
            .unwrap();
    };
    add(1.0, &[("a", "1")]);
    add(2.0, &[("a", "1"), ("b", "too many")]);
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        add(wrong, &[]);
    }
    bench
        .call(
            "metrics#[method]histogram.record",
            with(&histogram, vec![f64(-3.5), said(&[])]),
        )
        .unwrap();
    add(4.0, &[("a", "longer than eight")]);
    bench.heard.lock().unwrap().deaf = true;
    add(5.0, &[]);
    let heard = bench.heard.lock().unwrap();
    let told: Vec<_> = heard
        .measured
        .iter()
        .map(|m| (&*m.name, m.value, m.attributes.clone()))
        .collect();
    let one = vec![("a".to_string(), Attribute::Text("1".into()))];
    let over = vec![("otel.metric.overflow".to_string(), Attribute::Boolean(true))];
    assert_eq!(
        told,
        [
            ("requests", 1.0, one.clone()),
            ("requests", 2.0, one),
            ("time", -3.5, vec![]),
            ("requests", 4.0, over),
        ]
    );
    assert_eq!(
        (&*heard.measured[0].unit, &*heard.measured[0].description),
        ("ms", "how long")
    );
}

#[test]
fn a_span_is_told_once_with_what_the_grant_has_room_for() {
    let grant = json!({"trace": {"spans": 2, "events": 1, "attributes": 1, "text": 8}});
    let bench = Bench::new("core", grant);
    let mut parent = [7; 25];
    parent[24] = 1;
    bench.heard.lock().unwrap().current = Some(parent);
    let begin = || {
        let args = vec![
            s("work, long"),
            Value::Case(2, None),
            said(&[("a", "1"), ("b", "2")]),
        ];
        bench.call("trace#[constructor]span", args)
    };
    let span = begin().unwrap().unwrap();
    let other = begin().unwrap();
    let why = begin().err().unwrap().to_string();
    assert!(why.contains("`trace.spans` of the grant is 2"), "{why}");
    let call = |f: &str, more: Vec<Value>| {
        let _ = bench
            .call(&format!("trace#[method]span.{f}"), with(&span, more))
            .unwrap();
    };
    call("set-attributes", vec![said(&[("a", "3")])]);
    call("add-event", vec![s("first"), said(&[])]);
    call("add-event", vec![s("second"), said(&[])]);
    call(
        "set-status",
        vec![Value::Case(2, Some(Box::new(s("because of"))))],
    );
    call("end", vec![]);
    call("end", vec![]);
    call("set-attributes", vec![said(&[("late", "1")])]);
    drop((span, other));
    let heard = bench.heard.lock().unwrap();
    assert_eq!(heard.spans.len(), 2);
    let told = &heard.spans[0];
    assert_eq!(
        (&*told.name, told.kind, told.parent),
        ("work, lo", 2, Some(parent))
    );
    assert_eq!((&told.context[..16], told.context[24]), (&parent[..16], 1));
    assert_ne!(told.context[16..24], parent[16..24]);
    assert_eq!(told.attributes, [("a".to_string(), Attribute::Text("3".into()))]);
    assert_eq!(
        (told.events.len(), told.dropped, told.status.clone()),
        (1, 2, (2, "because ".into()))
    );
    assert!(told.ended >= told.began);
}

#[test]
fn a_parent_from_elsewhere_is_read_as_the_standard_says() {
    let bench = Bench::new("core", json!({}));
    let id = "0af7651916cd43dd8448eb211c80319c";
    let beneath = |parent: &str| {
        let parent = Value::Fields(vec![s(parent), s("a=1")]);
        let args = vec![parent, s("x"), Value::Case(0, None), said(&[])];
        let span = bench.get("trace#[static]span.beneath", args);
        let context = bench.get("trace#[method]span.context", lend(&span));
        let [parent, state] = context.items().unwrap() else {
            panic!()
        };
        (
            parent.as_str().unwrap().to_string(),
            state.as_str().unwrap().to_string(),
        )
    };
    for good in ["00-ID-b7ad6b7169203331-00", "01-ID-b7ad6b7169203331-01-more"] {
        let (parent, state) = beneath(&good.replace("ID", id));
        assert!(
            parent.starts_with(&format!("00-{id}-")) && !parent.contains("b7ad6b7169203331"),
            "{parent}"
        );
        assert_eq!(state, "a=1");
    }
    for bad in [
        "",
        "00",
        "00-ID-b7ad6b7169203331",
        "ff-ID-b7ad6b7169203331-01",
        "00-ID-b7ad6b7169203331-01-x",
        "00-ID-B7AD6B7169203331-01",
        "00-ID-0000000000000000-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-ID-b7ad6b7169203331-é",
    ] {
        let (parent, state) = beneath(&bad.replace("ID", id));
        assert!(!parent.contains(id) && parent.ends_with("-01"), "{bad}: {parent}");
        assert_eq!(state, "");
    }
}
