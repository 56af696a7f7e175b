//! Texts by their keys.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use loop_provider::{Call, Failure, Link, Provider, Stream};

// The module `store`, of the interface in `wit/`.
loop_provider::wit!();

/// One store for each link: for each component that imports it.
struct Store {
    prefix: String,
    most: usize,
    texts: Mutex<BTreeMap<String, String>>,
}

impl Store {
    /// The grant comes from the host's manifest, for instance `{"prefix": "cart/"}`; the configuration likewise, for
    /// instance `{"most": 100}`.
    fn new(link: &Link) -> Result<Self, Failure> {
        let prefix = link.grant.as_ref().and_then(|grant| grant["prefix"].as_str());
        let most = link.config.as_ref().and_then(|config| config["most"].as_u64());
        Ok(Store {
            prefix: prefix.unwrap_or_default().into(),
            most: most.unwrap_or(1000) as usize,
            texts: Mutex::default(),
        })
    }

    /// The texts, where the grant covers a key.
    fn texts(&self, key: &str) -> Result<MutexGuard<'_, BTreeMap<String, String>>, store::Error> {
        match key.starts_with(&self.prefix) {
            true => Ok(self.texts.lock().unwrap_or_else(PoisonError::into_inner)),
            false => Err(store::Error::Denied),
        }
    }
}

// The outer error is for calls that cannot be answered, the inner one is what the WIT says.
impl store::Provider for Store {
    async fn get(&self, _: Call, key: String) -> Result<Result<Option<String>, store::Error>, Failure> {
        Ok(self.texts(&key).map(|texts| texts.get(&key).cloned()))
    }

    async fn set(&self, _: Call, key: String, value: String) -> Result<Result<(), store::Error>, Failure> {
        Ok(self.texts(&key).and_then(|mut texts| {
            if !texts.contains_key(&key) && texts.len() >= self.most {
                return Err(store::Error::Full(self.most as u32));
            }
            texts.insert(key, value);
            Ok(())
        }))
    }

    async fn keys(&self, _: Call) -> Result<Stream<String>, Failure> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Stream::of(texts.keys().cloned().collect::<Vec<_>>()))
    }
}

fn provider() -> Provider {
    Provider::new().with(store::provide(Store::new))
}

fn main() -> ExitCode {
    provider().run()
}
