use loop_engine::{Chunk, Feed, Value};
use serde_json::json;

use super::{Bench, PAYLOAD, s};
use crate::{Level, Record};

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
    };
    assert_eq!(*bench.logged.lock().unwrap(), [sent]);
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
    let passed: Vec<_> = bench
        .logged
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.target.clone())
        .collect();
    assert_eq!(passed, ["site", "site.x", "db.pool.y"]);
}

#[test]
fn a_long_record_is_cut_at_a_character_and_fields_stay_whole() {
    let bench = Bench::new("core", json!({"log": {"max-record": 30}}));
    log(&bench, 2, "t", "abc", &[("k", "0123456789"), ("k", "v")]);
    log(&bench, 2, "t", &"é".repeat(20), &[]);
    let logged = bench.logged.lock().unwrap();
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
    let mut token = bench.get("cancel#[constructor]token", vec![]);
    let top = token.as_host::<tokio_util::sync::CancellationToken>().unwrap();
    for _ in 0..200_000 {
        token = bench.get("cancel#[method]token.child", lend(&token));
    }
    top.cancel();
    assert!(matches!(
        bench.get("cancel#[method]token.is-cancelled", lend(&token)),
        Value::Bool(true)
    ));
}
