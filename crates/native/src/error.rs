//! Why a provider could not be made.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// A key of a provider's config or grant that does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// The key, from `config` or `grant` on: `grant.roots.site.path`.
    pub key: String,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

impl ProviderError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        ProviderError {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl std::error::Error for ProviderError {}

/// Reads a config or grant (`what`); null stands for an empty object.
pub(crate) fn settings<T: DeserializeOwned>(what: &str, value: &Json) -> Result<T, ProviderError> {
    let value = match value {
        Json::Null => Json::Object(Default::default()),
        Json::Object(_) => value.clone(),
        // serde would take an array for the values of the keys, in order
        _ => return Err(ProviderError::new(what, "must be an object with keys")),
    };
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let key = if path == "." {
            what.to_string()
        } else {
            format!("{what}.{path}")
        };
        ProviderError::new(key, e.into_inner().to_string())
    })
}

/// A table within a config or grant: serde would take an array for the values of its keys, in order.
#[derive(Default)]
pub(crate) struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }

        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// The config of a provider that has nothing to configure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoConfig {}
