//! `wasi:keyvalue` in the component's own memory.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/wit",
        "../../python/loop_kit/capabilities/core/wit",
        "../../python/loop_kit/capabilities/keyvalue/wit",
        "wit",
    ],
    world: "loop:keyvalue-memory/memory",
    generate_all,
});

use std::cell::RefCell;
use std::collections::BTreeMap;

use exports::loop_::core::lifecycle::Guest as Lifecycle;
use exports::wasi::keyvalue::store::{Bucket, BucketBorrow, Error, Guest as Store, GuestBucket, KeyResponse};
use exports::wasi::keyvalue::{atomics, batch};
use loop_::provider::settings;
use serde::{Deserialize, Serialize};

/// The grant; the same as of the native provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Grant {
    buckets: BTreeMap<String, BucketGrant>,
    max_key: usize,
    max_value: usize,
    max_list: usize,
    max_batch: usize,
}

impl Default for Grant {
    fn default() -> Self {
        Grant {
            buckets: BTreeMap::new(),
            max_key: 1024,
            max_value: 1 << 20,
            max_list: 1000,
            max_batch: 1000,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct BucketGrant {
    mode: Mode,
    max_size: Option<usize>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
    Rw,
}

/// What a bucket holds: values by key, and keys in the order of their coming, which a cursor is a place in.
#[derive(Default)]
struct Kept {
    values: BTreeMap<String, (u64, Vec<u8>)>,
    order: BTreeMap<u64, String>,
    last: u64,
    size: usize,
}

impl Kept {
    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.size += value.len();
        if let Some((_, old)) = self.values.get_mut(key) {
            self.size -= old.len();
            *old = value;
            return;
        }
        self.size += key.len();
        self.last += 1;
        self.order.insert(self.last, key.into());
        self.values.insert(key.into(), (self.last, value));
    }

    fn remove(&mut self, key: &str) {
        if let Some((place, value)) = self.values.remove(key) {
            self.size -= key.len() + value.len();
            self.order.remove(&place);
        }
    }
}

struct State {
    grant: Grant,
    kept: BTreeMap<String, Kept>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::granted());
}

impl State {
    fn granted() -> State {
        if settings::config() != "{}" {
            settings::refuse("config", "there is nothing to configure; leave it out");
        }
        let grant: Grant = serde_json::from_str(&settings::grant()).unwrap_or_else(|e| {
            settings::refuse("grant", &e.to_string());
            Grant::default()
        });
        State {
            grant,
            kept: BTreeMap::new(),
        }
    }

    fn key(&self, key: &str) -> Result<(), Error> {
        let (is, most) = (key.len(), self.grant.max_key);
        if is > most {
            return Err(other(format!(
                "a key of {is} bytes; `grant.max-key` lets it have {most}"
            )));
        }
        Ok(())
    }

    fn many(&self, count: usize) -> Result<(), Error> {
        let most = self.grant.max_batch;
        if count > most {
            return Err(other(format!(
                "{count} keys at once; `grant.max-batch` lets it be {most}"
            )));
        }
        Ok(())
    }

    fn kept(&mut self, bucket: &str) -> &mut Kept {
        self.kept.entry(bucket.into()).or_default()
    }

    fn may_write(&self, bucket: &str) -> Result<Option<usize>, Error> {
        match self.grant.buckets.get(bucket) {
            Some(granted) if granted.mode == Mode::Rw => Ok(granted.max_size),
            _ => Err(Error::AccessDenied),
        }
    }

    fn get(&mut self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.key(key)?;
        Ok(self.kept(bucket).values.get(key).map(|(_, value)| value.clone()))
    }

    /// All of the pairs, or none of them.
    fn set(&mut self, bucket: &str, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let max_size = self.may_write(bucket)?;
        self.many(pairs.len())?;
        let most = self.grant.max_value;
        for (key, value) in &pairs {
            self.key(key)?;
            if value.len() > most {
                let is = value.len();
                return Err(other(format!(
                    "a value of {is} bytes; `grant.max-value` lets it have {most}"
                )));
            }
        }
        let kept = self.kept(bucket);
        if let Some(most) = max_size {
            let last: BTreeMap<&String, usize> = pairs.iter().map(|(k, v)| (k, v.len())).collect();
            let mut size = kept.size;
            for (key, length) in last {
                size += length;
                match kept.values.get(key) {
                    Some((_, old)) => size -= old.len(),
                    None => size += key.len(),
                }
            }
            if size > most {
                let words = format!(
                    "the bucket would have {size} bytes; `max-size` of its grant lets it have {most}"
                );
                return Err(other(words));
            }
        }
        for (key, value) in pairs {
            kept.put(&key, value);
        }
        Ok(())
    }

    fn delete(&mut self, bucket: &str, keys: &[String]) -> Result<(), Error> {
        self.may_write(bucket)?;
        self.many(keys.len())?;
        for key in keys {
            self.key(key)?;
        }
        let kept = self.kept(bucket);
        keys.iter().for_each(|key| kept.remove(key));
        Ok(())
    }
}

fn other(words: String) -> Error {
    Error::Other(words)
}

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

struct Memory;

struct Named(String);

impl Store for Memory {
    type Bucket = Named;

    fn open(identifier: String) -> Result<Bucket, Error> {
        if with(|state| state.grant.buckets.contains_key(&identifier)) {
            Ok(Bucket::new(Named(identifier)))
        } else {
            Err(Error::AccessDenied)
        }
    }
}

impl GuestBucket for Named {
    fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        with(|state| state.get(&self.0, &key))
    }

    fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        with(|state| state.set(&self.0, vec![(key, value)]))
    }

    fn delete(&self, key: String) -> Result<(), Error> {
        with(|state| state.delete(&self.0, &[key]))
    }

    fn exists(&self, key: String) -> Result<bool, Error> {
        with(|state| {
            state.key(&key)?;
            Ok(state.kept(&self.0).values.contains_key(&key))
        })
    }

    fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, Error> {
        with(|state| {
            let most = state.grant.max_list;
            let Some(from) = cursor.unwrap_or(0).checked_add(1) else {
                return Ok(KeyResponse {
                    keys: vec![],
                    cursor: None,
                });
            };
            let order = &state.kept(&self.0).order;
            let page: Vec<_> = order.range(from..).take(most.saturating_add(1)).collect();
            let more = page.len() > most;
            let page = &page[..page.len().min(most)];
            Ok(KeyResponse {
                keys: page.iter().map(|(_, key)| (*key).clone()).collect(),
                cursor: page.last().filter(|_| more).map(|(place, _)| **place),
            })
        })
    }
}

impl atomics::Guest for Memory {
    fn increment(bucket: BucketBorrow<'_>, key: String, delta: u64) -> Result<u64, Error> {
        let bucket = &bucket.get::<Named>().0;
        with(|state| {
            state.may_write(bucket)?;
            let old = match state.get(bucket, &key)? {
                None => 0,
                Some(digits) => {
                    let number = std::str::from_utf8(&digits).ok().and_then(|d| d.parse().ok());
                    number.ok_or_else(|| other("the value is no number in decimal digits".into()))?
                }
            };
            let new: u64 = u64::checked_add(old, delta)
                .ok_or_else(|| other("the number would be larger than 64 bits hold".into()))?;
            state.set(bucket, vec![(key, new.to_string().into_bytes())])?;
            Ok(new)
        })
    }
}

impl batch::Guest for Memory {
    fn get_many(
        bucket: BucketBorrow<'_>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
        let bucket = &bucket.get::<Named>().0;
        with(|state| {
            state.many(keys.len())?;
            let pair = |key: String| Ok(state.get(bucket, &key)?.map(|value| (key, value)));
            keys.into_iter().map(pair).collect()
        })
    }

    fn set_many(bucket: BucketBorrow<'_>, key_values: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let bucket = &bucket.get::<Named>().0;
        with(|state| state.set(bucket, key_values))
    }

    fn delete_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<(), Error> {
        let bucket = &bucket.get::<Named>().0;
        with(|state| state.delete(bucket, &keys))
    }
}

/// What one that takes its place is told: the version of this format, then all buckets by name, as postcard writes them.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize, Default)]
struct Told {
    buckets: BTreeMap<String, Bundle>,
}

/// The last place that was given, and what is there, in the order of its coming.
type Bundle = (u64, Vec<Entry>);

/// Place, key, value.
type Entry = (u64, String, Vec<u8>);

impl Lifecycle for Memory {
    async fn snapshot() -> Result<Vec<u8>, String> {
        let told = with(|state| Told {
            buckets: (state.kept.iter())
                .map(|(name, kept)| {
                    let entry = |(place, key): (&u64, &String)| {
                        let (_, value) = kept.values.get(key)?;
                        Some((*place, key.clone(), value.clone()))
                    };
                    (
                        name.clone(),
                        (kept.last, kept.order.iter().filter_map(entry).collect()),
                    )
                })
                .collect(),
        });
        let mut out = vec![FORMAT];
        out.extend(postcard::to_allocvec(&told).map_err(|e| e.to_string())?);
        Ok(out)
    }

    async fn restore(state: Vec<u8>) -> Result<(), String> {
        let told = match state.split_first() {
            Some((&FORMAT, told)) => postcard::from_bytes::<Told>(told).map_err(|e| e.to_string())?,
            _ => return Err("it is not told by a `keyvalue/memory` of this format".into()),
        };
        with(|state| {
            state.kept.clear();
            for (name, (last, entries)) in told.buckets {
                let kept = state.kept(&name);
                for (place, key, value) in entries {
                    kept.last = place.saturating_sub(1); // it keeps its place, which cursors know
                    kept.put(&key, value);
                }
                kept.last = kept.last.max(last);
            }
        });
        Ok(())
    }
}

export!(Memory);
