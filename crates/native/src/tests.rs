//! Calls providers as a component would: arguments and answers are checked against the WIT.

mod core;
mod fsx;
mod fsx_walk;
mod fsx_write;
mod netx;
#[cfg(target_os = "linux")]
mod process;
mod wit;

use std::sync::{Arc, Mutex};

use loop_engine::{Outcome, Result, Trace, Value};
use serde_json::{Value as Json, json};

use self::wit::Wit;
use crate::{
    CAPABILITIES, Ended, HostServices, Measurement, Observer, Provider, ProviderError, Record, provider,
};

/// A provider under test and what it logged.
struct Bench {
    wit: Wit,
    provider: Provider,
    heard: Arc<Mutex<Told>>,
    runtime: tokio::runtime::Runtime,
}

/// What a component told of itself.
#[derive(Default)]
struct Told {
    logged: Vec<Record>,
    measured: Vec<Measurement>,
    spans: Vec<Ended>,
    current: Option<Trace>,
    deaf: bool,
}

struct Heard(Arc<Mutex<Told>>);

impl Observer for Heard {
    fn log(&self, record: Record) {
        self.0.lock().unwrap().logged.push(record);
    }
    fn listens(&self) -> bool {
        !self.0.lock().unwrap().deaf
    }
    fn measured(&self, measurement: Measurement) {
        self.0.lock().unwrap().measured.push(measurement);
    }
    fn ended(&self, span: Ended) {
        self.0.lock().unwrap().spans.push(span);
    }
    fn current(&self) -> Option<Trace> {
        self.0.lock().unwrap().current
    }
}

const PAYLOAD: usize = 1 << 20;

impl Bench {
    fn new(name: &str, grant: Json) -> Self {
        Self::try_new(name, grant).unwrap()
    }

    fn try_new(name: &str, grant: Json) -> Result<Self, ProviderError> {
        Self::of(name, |host| provider(name, &Json::Null, &grant, host))
    }

    fn of(
        name: &str,
        provide: impl FnOnce(HostServices) -> Result<Provider, ProviderError>,
    ) -> Result<Self, ProviderError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let heard = Arc::<Mutex<Told>>::default();
        let sink = heard.clone();
        let host = HostServices {
            observer: Arc::new(Heard(sink)),
            io: runtime.handle().clone(),
            payload: PAYLOAD,
        };
        let provider = provide(host)?;
        Ok(Bench {
            wit: Wit::new(name),
            provider,
            heard,
            runtime,
        })
    }

    fn call(&self, function: &str, args: Vec<Value>) -> Result<Option<Value>> {
        self.wit.check_args(function, &args);
        let result = match (self.provider.functions[function].call)(args) {
            Outcome::Ready(result) => result,
            Outcome::Later(later) => self.runtime.block_on(later),
        };
        if let Ok(value) = &result {
            self.wit.check_result(function, value.as_ref());
        }
        result
    }

    /// The answer of a function that never traps.
    fn get(&self, function: &str, args: Vec<Value>) -> Value {
        self.call(function, args).unwrap().expect("an answer")
    }
}

fn s(v: &str) -> Value {
    Value::string(v)
}

/// Interfaces that providers export, and no host serves.
const OF_PROVIDERS: [&str; 2] = ["lifecycle", "health"];

#[test]
fn every_function_of_the_wit_is_served_and_nothing_else() {
    let host_serves = |name: &String| !OF_PROVIDERS.iter().any(|other| name.contains(other));
    for capability in CAPABILITIES {
        let bench = Bench::new(capability.name, json!({}));
        let served: Vec<_> = bench.provider.functions.keys().map(|k| k.to_string()).collect();
        let mut functions = bench.wit.functions();
        functions.retain(host_serves);
        assert_eq!(served, functions);
        let mut interfaces = bench.wit.interfaces();
        interfaces.retain(host_serves);
        // files of one package are read in an order of their own
        interfaces.sort_unstable();
        let mut named = capability.interfaces.to_vec();
        named.sort_unstable();
        assert_eq!(named, interfaces);
        for interface in capability.interfaces {
            let short = interface.split(['/', '@']).nth(1).unwrap();
            let Some(key) = served.iter().find(|k| k.starts_with(&format!("{short}#"))) else {
                continue; // it has types only
            };
            let function = key.split('#').nth(1).unwrap();
            assert!(bench.provider.import(interface, function).is_some());
            assert!(bench.provider.import(interface, "other").is_none());
        }
    }
}

#[test]
fn what_a_grant_may_not_say_is_named() {
    for (name, grant, key, problem) in [
        ("cor", json!({}), "name", "core, fsx, keyvalue, netx, process"),
        ("core", json!([]), "grant", "must be an object"),
        (
            "core",
            json!({"log": {"level": "loud"}}),
            "grant.log.level",
            "expected one of `trace`",
        ),
        (
            "core",
            json!({"log": {"max-record": 0}}),
            "grant.log.max-record",
            "nonzero",
        ),
        (
            "fsx",
            json!({"root": {}}),
            "grant.root",
            "expected one of `roots`",
        ),
        (
            "fsx",
            json!({"roots": {"a": {"path": "/", "mode": "w"}}}),
            "grant.roots.a.mode",
            "expected `ro` or `rw`",
        ),
        (
            "fsx",
            json!({"roots": {"a": {"path": "/", "max-bytes": 1}}}),
            "grant.roots.a",
            "add `mode = \"rw\"`",
        ),
        (
            "fsx",
            json!({"roots": {"a": {"path": "/", "links": "create"}}}),
            "grant.roots.a.links",
            "`follow` or `refuse`",
        ),
        (
            "fsx",
            json!({"temp": {"path": "/no/such"}}),
            "grant.temp.path",
            "that exists",
        ),
        (
            "fsx",
            json!({"roots": {"a": {}}}),
            "grant.roots.a",
            "missing field `path`",
        ),
        (
            "fsx",
            json!({"roots": {"a": {"path": "."}}}),
            "grant.roots.a.path",
            "absolute",
        ),
        (
            "fsx",
            json!({"roots": {"a": {"path": "/no/such"}}}),
            "grant.roots.a.path",
            "that exists",
        ),
        (
            "fsx",
            json!({"max-read": "16MiB"}),
            "grant.max-read",
            "expected a nonzero",
        ),
        (
            "netx",
            json!({"allow": ["https://a", "b:1"]}),
            "grant.allow[1]",
            "SCHEME://HOST:PORT",
        ),
        (
            "netx",
            json!({"listen": {"a": {"address": "127.0.0.1:0", "key": "k"}}}),
            "grant.listen.a",
            "needs `certificate`",
        ),
        (
            "netx",
            json!({"proxy": "socks5://a"}),
            "grant.proxy",
            "is no proxy",
        ),
        (
            "netx",
            json!({"max-header": 100}),
            "grant.max-header",
            "8192 or more",
        ),
        (
            "netx",
            json!({"connect-timeout": 0}),
            "grant.connect-timeout",
            "above 0",
        ),
    ] {
        let error = match name {
            "cor" => provider(name, &Json::Null, &grant, Bench::new("core", json!({})).host()).err(),
            _ => Bench::try_new(name, grant).err(),
        };
        let error = error.unwrap();
        assert_eq!(error.key, key);
        assert!(error.problem.contains(problem), "{error}");
    }
}

impl Bench {
    fn host(&self) -> HostServices {
        HostServices {
            observer: Arc::new(Heard(self.heard.clone())),
            io: self.runtime.handle().clone(),
            payload: PAYLOAD,
        }
    }
}
