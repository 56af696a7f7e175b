//! A key-value store as others write wRPC providers: generated code, the official crates, and nothing of loop-kit.
//!
//! `wrpc-kv ADDRESS` serves `test:keyvalue/store@0.1.0` at `tcp://127.0.0.1:7000`, `unix:PATH` or `quic://…`, and prints
//! the address when it listens; with port 0 the one that was chosen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use loop_interop::place::listen;
use loop_interop::serve_at;
use wrpc_transport::{ResourceBorrow, ResourceOwn};

mod bindings {
    wit_bindgen_wrpc::generate!({
        path: "kv-wit",
        world: "provider",
        with: { "test:keyvalue/store@0.1.0": generate },
    });
}

use bindings::exports::test::keyvalue::store::{Bucket, Error, Handler, HandlerBucket};

type Buckets = BTreeMap<Bytes, BTreeMap<String, Bytes>>;

/// A bucket's handle is its name.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Buckets>>);

impl Store {
    fn with<R>(
        &self,
        bucket: &ResourceBorrow<Bucket>,
        f: impl FnOnce(&mut BTreeMap<String, Bytes>) -> R,
    ) -> anyhow::Result<Result<R, Error>> {
        let mut buckets = self.0.lock().expect("no other thread panics");
        Ok(buckets
            .get_mut::<[u8]>(bucket.as_ref())
            .map(f)
            .ok_or(Error::NoSuchStore))
    }
}

impl<C: Send + Sync + 'static> Handler<C> for Store {
    async fn open(&self, _: C, name: String) -> anyhow::Result<Result<ResourceOwn<Bucket>, Error>> {
        if name.is_empty() {
            return Ok(Err(Error::Other("a bucket has a name".into())));
        }
        let name = Bytes::from(name);
        let mut buckets = self.0.lock().expect("no other thread panics");
        buckets.entry(name.clone()).or_default();
        Ok(Ok(ResourceOwn::from(name)))
    }
}

impl<C: Send + Sync + 'static> HandlerBucket<C> for Store {
    async fn get(
        &self,
        _: C,
        bucket: ResourceBorrow<Bucket>,
        key: String,
    ) -> anyhow::Result<Result<Option<Bytes>, Error>> {
        self.with(&bucket, |bucket| bucket.get(&key).cloned())
    }

    async fn set(
        &self,
        _: C,
        bucket: ResourceBorrow<Bucket>,
        key: String,
        value: Bytes,
    ) -> anyhow::Result<Result<(), Error>> {
        self.with(&bucket, |bucket| drop(bucket.insert(key, value)))
    }

    async fn delete(
        &self,
        _: C,
        bucket: ResourceBorrow<Bucket>,
        key: String,
    ) -> anyhow::Result<Result<(), Error>> {
        self.with(&bucket, |bucket| drop(bucket.remove(&key)))
    }

    async fn exists(
        &self,
        _: C,
        bucket: ResourceBorrow<Bucket>,
        key: String,
    ) -> anyhow::Result<Result<bool, Error>> {
        self.with(&bucket, |bucket| bucket.contains_key(&key))
    }

    async fn keys(&self, _: C, bucket: ResourceBorrow<Bucket>) -> anyhow::Result<Result<Vec<String>, Error>> {
        self.with(&bucket, |bucket| bucket.keys().cloned().collect())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let usage = || anyhow::anyhow!("usage: wrpc-kv ADDRESS");
    let place = std::env::args().nth(1).ok_or_else(usage)?.parse()?;
    let (listener, place) = listen(&place).await?;
    println!("{place}");
    serve_at!(listener, bindings::serve, Store::default())
}
