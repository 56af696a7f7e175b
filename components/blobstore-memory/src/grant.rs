//! What the component may keep for whoever is linked to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::loop_::provider::settings;
use crate::{Error, invalid, quota};

/// The grant; the same as of the provider in Python.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Grant {
    containers: BTreeMap<String, Rule>,
    max_name: usize,
    #[serde(deserialize_with = "bytes")]
    pub max_object: usize,
    #[serde(deserialize_with = "bytes")]
    pub max_whole: usize,
    pub max_list: usize,
    max_batch: usize,
    pub max_streams: usize,
    pub max_containers: usize,
}

impl Default for Grant {
    fn default() -> Self {
        Grant {
            containers: BTreeMap::new(),
            max_name: 1024,
            max_object: 1 << 30,
            max_whole: 16 << 20,
            max_list: 1000,
            max_batch: 1000,
            max_streams: 64,
            max_containers: 16,
        }
    }
}

/// What may be done with a container.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Rule {
    mode: Mode,
    pub create: bool,
    #[serde(deserialize_with = "bytes")]
    pub max_size: usize,
    pub max_objects: usize,
    /// Whether it is made where it is missing.
    #[serde(skip)]
    pub there: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            mode: Mode::Ro,
            create: false,
            max_size: 1 << 30,
            max_objects: 100_000,
            there: false,
        }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Ro,
    Rw,
}

/// A bound of bytes; one beyond what a component can have is as good as that.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    Ok(u64::deserialize(from)?.try_into().unwrap_or(usize::MAX))
}

/// The config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    #[serde(deserialize_with = "bytes")]
    pub max_memory: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_memory: 64 << 20 }
    }
}

/// What the component was set up with; what does not do is refused.
pub fn settings() -> (Config, Grant) {
    let config = serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
        settings::refuse("config", &e.to_string());
        Config::default()
    });
    let mut grant: Grant = serde_json::from_str(&settings::grant()).unwrap_or_else(|e| {
        settings::refuse("grant", &e.to_string());
        Grant::default()
    });
    for (name, rule) in &mut grant.containers {
        if rule.create && rule.mode == Mode::Ro {
            let key = format!("grant.containers.{name}.create");
            settings::refuse(&key, "what is read-only cannot be created; add `mode = \"rw\"`");
        }
        rule.there = rule.mode == Mode::Rw && !rule.create && !name.ends_with('*');
    }
    (config, grant)
}

impl Grant {
    /// What holds for a container: its own name, else the longest that it begins with.
    pub fn rule(&self, container: &str) -> Result<Rule, Error> {
        self.name(container)?;
        let begins = |key: &&String| {
            key.strip_suffix('*')
                .is_some_and(|begin| container.starts_with(begin))
        };
        let longest = || self.containers.keys().filter(begins).max_by_key(|key| key.len());
        let named = self
            .containers
            .get(container)
            .filter(|_| !container.ends_with('*'));
        named
            .or_else(|| longest().map(|key| &self.containers[key]))
            .cloned()
            .ok_or(Error::AccessDenied)
    }

    pub fn to_write(&self, container: &str) -> Result<Rule, Error> {
        Some(self.rule(container)?)
            .filter(|rule| rule.mode == Mode::Rw)
            .ok_or(Error::AccessDenied)
    }

    pub fn to_create(&self, container: &str) -> Result<Rule, Error> {
        Some(self.rule(container)?)
            .filter(|rule| rule.create)
            .ok_or(Error::AccessDenied)
    }

    pub fn name(&self, name: &str) -> Result<(), Error> {
        let (is, most) = (name.len(), self.max_name);
        if is > most {
            return Err(invalid(format!(
                "a name of {is} bytes; `grant.max-name` lets it have {most}"
            )));
        }
        Ok(())
    }

    pub fn many(&self, names: &[String]) -> Result<(), Error> {
        let (count, most) = (names.len(), self.max_batch);
        if count > most {
            return Err(quota(format!(
                "{count} names at once; `grant.max-batch` lets it be {most}"
            )));
        }
        names.iter().try_for_each(|name| self.name(name))
    }
}
