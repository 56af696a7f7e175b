//! Passes on the log records that its rules let through, without the values of some fields.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/wit", "../../python/loop_kit/capabilities/core/wit", "wit"],
    world: "loop:log-filter/log-filter",
    generate_all,
});

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use exports::loop_::core::log::{Guest as Log, Level};
use exports::loop_::log_filter::rules::Guest as Control;
use loop_::core::log as below;
use loop_::provider::settings;
use serde::Deserialize;

/// Rules, and keys, that there may be.
const MOST: usize = 1024;

struct Rules {
    /// The least severe level that passes, by target.
    from: BTreeMap<String, Level>,
    redacted: BTreeSet<String>,
    dropped: u64,
}

thread_local! {
    static RULES: RefCell<Rules> = RefCell::new(Rules::configured());
}

/// The config.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    rules: BTreeMap<String, Named>,
    redact: BTreeSet<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Named {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Rules {
    fn configured() -> Rules {
        let config: Config = serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
            settings::refuse("config", &e.to_string());
            Config::default()
        });
        if settings::grant() != "{}" {
            settings::refuse(
                "grant",
                "a log filter grants what the log below it is granted; leave it out",
            );
        }
        if config.rules.len() > MOST || config.redact.len() > MOST {
            settings::refuse("config", &format!("has more than {MOST} rules, or keys"));
        }
        let level = |named: Named| match named {
            Named::Trace => Level::Trace,
            Named::Debug => Level::Debug,
            Named::Info => Level::Info,
            Named::Warn => Level::Warn,
            Named::Error => Level::Error,
        };
        Rules {
            from: config
                .rules
                .into_iter()
                .map(|(target, named)| (target, level(named)))
                .collect(),
            redacted: config.redact,
            dropped: 0,
        }
    }

    fn least(&self, target: &str) -> Level {
        let mut at = target;
        loop {
            if let Some(level) = self.from.get(at) {
                return *level;
            }
            if at.is_empty() {
                return Level::Trace;
            }
            at = at.rsplit_once('.').map_or("", |(above, _)| above);
        }
    }
}

/// What is imported and what is exported are two types to Rust.
fn as_below(level: Level) -> below::Level {
    match level {
        Level::Trace => below::Level::Trace,
        Level::Debug => below::Level::Debug,
        Level::Info => below::Level::Info,
        Level::Warn => below::Level::Warn,
        Level::Error => below::Level::Error,
    }
}

struct Filter;

impl Log for Filter {
    fn log(level: Level, target: String, message: String, mut fields: Vec<(String, String)>) {
        let passes = RULES.with_borrow_mut(|rules| {
            if (level as u8) < rules.least(&target) as u8 {
                rules.dropped += 1;
                return false;
            }
            for (key, value) in &mut fields {
                if rules.redacted.contains(key) {
                    *value = "***".into();
                }
            }
            true
        });
        if passes {
            below::log(as_below(level), &target, &message, &fields);
        }
    }
}

impl Control for Filter {
    fn allow(target: String, from: Level) {
        RULES.with_borrow_mut(|rules| {
            rules.from.insert(target, from);
            assert!(rules.from.len() <= MOST, "more than {MOST} rules");
        });
    }

    fn redact(key: String) {
        RULES.with_borrow_mut(|rules| {
            rules.redacted.insert(key);
            assert!(rules.redacted.len() <= MOST, "more than {MOST} keys");
        });
    }

    fn dropped() -> u64 {
        RULES.with_borrow(|rules| rules.dropped)
    }
}

export!(Filter);
