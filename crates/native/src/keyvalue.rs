//! `wasi:keyvalue`: buckets of keys and values in one SQLite file.
//!
//! Config: `{ path, durability }`, see [`Config`]. Grant: `{ buckets: { NAME: { mode, max-size } }, max-key, max-value,
//! max-list, max-batch }`, see [`Grant`].

mod db;

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use loop_engine::{Error, Import, Neutral, Result, Value};
use serde::Deserialize;
use serde_json::Value as Json;

use self::db::{Db, Durability};
use crate::error::{Table, settings};
use crate::hints::{Hints, named};
use crate::value::{args, items, option, string};
use crate::{Capability, HostServices, Provider, ProviderError};

pub(crate) const CAPABILITY: Capability = Capability {
    name: "keyvalue",
    interfaces: &[
        "wasi:keyvalue/atomics@0.2.0-draft",
        "wasi:keyvalue/batch@0.2.0-draft",
        "wasi:keyvalue/store@0.2.0-draft",
    ],
    provide,
};

/// Where the buckets are.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The file, absolute; it is made where there is none. Default: memory, gone with the provider.
    path: Option<PathBuf>,
    /// What is known of a write that was answered. Default: `full`.
    durability: Durability,
}

/// What a component may store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Grant {
    /// Buckets by name. Default: none.
    buckets: BTreeMap<String, Table<BucketGrant>>,
    /// Bytes of a key. Default: 1024.
    max_key: NonZeroUsize,
    /// Bytes of a value. Default: 1 MiB.
    max_value: NonZeroUsize,
    /// Keys that one `list-keys` returns. Default: 1000.
    max_list: NonZeroUsize,
    /// Keys of one call of `batch`. Default: 1000.
    max_batch: NonZeroUsize,
}

impl Default for Grant {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        Grant {
            buckets: BTreeMap::new(),
            max_key: size(1024),
            max_value: size(1 << 20),
            max_list: size(1000),
            max_batch: size(1000),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct BucketGrant {
    /// What may be done. Default: `ro`.
    mode: Mode,
    /// Bytes of its keys and values together that a write may leave. Default: any number.
    max_size: Option<NonZeroU64>,
}

#[derive(Deserialize, Default, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
    Rw,
}

/// What the WIT calls `error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    AccessDenied,
    Other(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Self {
        // It may name the file.
        match e.sqlite_error_code() {
            Some(code) => Refusal::Other(format!("the database failed: {code:?}")),
            None => Refusal::Other("the database failed".into()),
        }
    }
}

impl From<Refusal> for Value {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AccessDenied => Value::Case(1, None),
            Refusal::Other(words) => Value::Case(2, Some(Box::new(Value::String(words)))),
        }
    }
}

/// A bucket under the grant of a link.
struct Bucket {
    db: Arc<Db>,
    table: i64,
    name: String,
    hints: Arc<Hints>,
    mode: Mode,
    max_size: Option<u64>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    key: usize,
    value: usize,
    list: usize,
    batch: usize,
}

fn provide(config: &Json, grant: &Json, host: HostServices) -> Result<Provider, ProviderError> {
    let config: Config = settings("config", config)?;
    let grant: Grant = settings("grant", grant)?;
    let refuse = |problem: String| ProviderError::new("config.path", problem);
    if let Some(path) = &config.path
        && !path.is_absolute()
    {
        let problem = format!("`{}` is relative; write the absolute path", path.display());
        return Err(refuse(problem));
    }
    let db = Db::open(config.path.as_deref(), config.durability).map_err(|e| {
        let shown = config.path.as_deref().unwrap_or("memory".as_ref()).display();
        refuse(format!(
            "`{shown}` cannot be opened as a database ({e}); its folder must exist and be writable"
        ))
    })?;
    let db = Arc::new(db);
    let limits = Limits {
        key: grant.max_key.get(),
        value: grant.max_value.get(),
        list: grant.max_list.get(),
        batch: grant.max_batch.get(),
    };
    let hints = Hints::new(host.observer, "wasi:keyvalue");
    let mut buckets = BTreeMap::new();
    for (name, Table(granted)) in grant.buckets {
        let counted = granted.max_size.is_some();
        let table = db.bucket(&name, counted).map_err(|e| {
            ProviderError::new(
                format!("grant.buckets.{name}"),
                format!("cannot be made in the database ({e})"),
            )
        })?;
        let bucket = Bucket {
            db: db.clone(),
            table,
            name: name.clone(),
            hints: hints.clone(),
            mode: granted.mode,
            max_size: granted.max_size.map(NonZeroU64::get),
            limits,
        };
        buckets.insert(name, Arc::new(bucket));
    }
    // A write that waits for the disk must not keep an event loop waiting; one that does not is over sooner than a hop.
    let io = (config.path.is_some() && config.durability == Durability::Full).then_some(host.io);
    let write = |f: fn(&Bucket, Vec<Value>) -> Result<Answer>| writing(io.clone(), f);
    let functions = [
        (
            "store#open",
            Import::now(move |a| {
                let [name] = args(a)?;
                let name = name.as_str()?;
                answer(match buckets.get(name) {
                    Some(bucket) => Ok(Some(Value::Host(bucket.clone()))),
                    None => {
                        let name = named(name);
                        hints.say(&format!(
                            "the grant has no bucket `{name}`; add `buckets.{name}.mode`"
                        ));
                        Err(Refusal::AccessDenied)
                    }
                })
            }),
        ),
        (
            "store#[method]bucket.get",
            reading(|bucket, key| Ok(option(bucket.get(key)?.map(Value::bytes)))),
        ),
        (
            "store#[method]bucket.exists",
            reading(|bucket, key| Ok(Value::Bool(bucket.db.exists(bucket.table, bucket.key(key)?)?))),
        ),
        (
            "store#[method]bucket.list-keys",
            Import::now(|a| {
                let [bucket, cursor] = args(a)?;
                let bucket = bucket.as_host::<Bucket>()?;
                let after = match cursor {
                    Value::Case(1, Some(cursor)) => cursor.as_u64()?,
                    _ => 0,
                };
                answer(bucket.list(after).map(Some))
            }),
        ),
        (
            "store#[method]bucket.set",
            write(|bucket, rest| {
                let [key, value] = args(rest)?;
                Ok(bucket.set(&[(string(key)?, owned(value)?)]).map(|()| None))
            }),
        ),
        (
            "store#[method]bucket.delete",
            write(|bucket, rest| {
                let [key] = args(rest)?;
                Ok(bucket.delete(&[string(key)?]).map(|()| None))
            }),
        ),
        (
            "atomics#increment",
            write(|bucket, rest| {
                let [key, delta] = args(rest)?;
                let (key, delta) = (string(key)?, delta.as_u64()?);
                Ok(bucket.increment(&key, delta).map(|n| Some(Value::u64(n))))
            }),
        ),
        (
            "batch#get-many",
            Import::now(|a| {
                let [bucket, keys] = args(a)?;
                let bucket = bucket.as_host::<Bucket>()?;
                let keys = items(keys)?.into_iter().map(string).collect::<Result<Vec<_>>>()?;
                answer(bucket.get_many(keys).map(Some))
            }),
        ),
        (
            "batch#set-many",
            write(|bucket, rest| {
                let [pairs] = args(rest)?;
                let pair = |v| {
                    let [key, value] = args(items(v)?)?;
                    Ok((string(key)?, owned(value)?))
                };
                let pairs = items(pairs)?.into_iter().map(pair).collect::<Result<Vec<_>>>()?;
                Ok(bucket.set(&pairs).map(|()| None))
            }),
        ),
        (
            "batch#delete-many",
            write(|bucket, rest| {
                let [keys] = args(rest)?;
                let keys = items(keys)?.into_iter().map(string).collect::<Result<Vec<_>>>()?;
                Ok(bucket.delete(&keys).map(|()| None))
            }),
        ),
    ];
    Ok(Provider {
        interfaces: CAPABILITY.interfaces,
        functions: functions.into(),
    })
}

type Answer = Result<Option<Value>, Refusal>;

fn answer(result: Answer) -> Result<Option<Value>> {
    Ok(Some(match result {
        Ok(v) => Value::ok(v),
        Err(refusal) => Value::err(Some(refusal.into())),
    }))
}

/// A method with a key alone that writes nothing; on the caller's thread: a hop costs more than it.
fn reading(f: fn(&Bucket, &str) -> Result<Value, Refusal>) -> Import<Neutral> {
    Import::now(move |a| {
        let [bucket, key] = args(a)?;
        answer(f(&*bucket.as_host::<Bucket>()?, key.as_str()?).map(Some))
    })
}

/// A function that writes, on a blocking thread where there is `io`.
fn writing(
    io: Option<tokio::runtime::Handle>,
    f: fn(&Bucket, Vec<Value>) -> Result<Answer>,
) -> Import<Neutral> {
    let call = move |mut a: Vec<Value>| -> Result<Option<Value>> {
        if a.is_empty() {
            return Err(Error::msg("expected a bucket"));
        }
        let rest = a.split_off(1);
        let [bucket] = args(a)?;
        answer(f(&*bucket.as_host::<Bucket>()?, rest)?)
    };
    match io {
        None => Import::now(call),
        Some(io) => Import::later(move |a| {
            let done = io.spawn_blocking(move || call(a));
            async move { done.await.map_err(Error::new)? }
        }),
    }
}

fn owned(v: Value) -> Result<Vec<u8>> {
    match v {
        Value::Nums(_, bytes) => Ok(bytes),
        other => Ok(other.as_bytes()?.to_vec()),
    }
}

impl Bucket {
    fn key<'a>(&self, key: &'a str) -> Result<&'a str, Refusal> {
        if key.len() > self.limits.key {
            let (is, most) = (key.len(), self.limits.key);
            return Err(Refusal::Other(format!(
                "a key of {is} bytes; `grant.max-key` lets it have {most}"
            )));
        }
        Ok(key)
    }

    fn writable(&self) -> Result<(), Refusal> {
        match self.mode {
            Mode::Rw => Ok(()),
            Mode::Ro => {
                let name = named(&self.name);
                let words = format!(
                    "the bucket `{name}` is read-only; `buckets.{name}.mode = \"rw\"` lets it be changed"
                );
                self.hints.say(&words);
                Err(Refusal::AccessDenied)
            }
        }
    }

    fn many(&self, count: usize) -> Result<(), Refusal> {
        if count > self.limits.batch {
            let most = self.limits.batch;
            return Err(Refusal::Other(format!(
                "{count} keys at once; `grant.max-batch` lets it be {most}"
            )));
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(self.db.get(self.table, self.key(key)?)?)
    }

    fn get_many(&self, keys: Vec<String>) -> Result<Value, Refusal> {
        self.many(keys.len())?;
        let mut all = vec![];
        for key in keys {
            let value = self.get(&key)?;
            let pair = value.map(|v| Value::Fields(vec![Value::String(key), Value::bytes(v)]));
            all.push(option(pair));
        }
        Ok(Value::List(all))
    }

    fn list(&self, after: u64) -> Result<Value, Refusal> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let (keys, cursor) = self.db.list(self.table, after, self.limits.list)?;
        let keys = Value::List(keys.into_iter().map(Value::String).collect());
        Ok(Value::Fields(vec![
            keys,
            option(cursor.map(|c| Value::u64(c as u64))),
        ]))
    }

    fn set(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Refusal> {
        self.writable()?;
        self.many(pairs.len())?;
        for (key, value) in pairs {
            self.key(key)?;
            if value.len() > self.limits.value {
                let (is, most) = (value.len(), self.limits.value);
                let words = format!("a value of {is} bytes; `grant.max-value` lets it have {most}");
                return Err(Refusal::Other(words));
            }
        }
        self.db.set(self.table, pairs, self.max_size)
    }

    fn delete(&self, keys: &[String]) -> Result<(), Refusal> {
        self.writable()?;
        self.many(keys.len())?;
        for key in keys {
            self.key(key)?;
        }
        Ok(self.db.delete(self.table, keys)?)
    }

    fn increment(&self, key: &str, delta: u64) -> Result<u64, Refusal> {
        self.writable()?;
        self.db
            .increment(self.table, self.key(key)?, delta, self.max_size)
    }
}
