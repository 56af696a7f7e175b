//! What a component may touch, as the native provider reads it.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::loop_::provider::settings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Grant {
    pub roots: BTreeMap<String, RootGrant>,
    pub temp: Option<TempGrant>,
    pub max_read: NonZeroUsize,
    pub max_entries: NonZeroUsize,
    pub max_streams: NonZeroUsize,
    pub max_watches: NonZeroUsize,
    pub max_watched: NonZeroUsize,
    pub max_events: NonZeroUsize,
}

impl Default for Grant {
    fn default() -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        Grant {
            roots: BTreeMap::new(),
            temp: None,
            max_read: size(16 << 20),
            max_entries: size(100_000),
            max_streams: size(64),
            max_watches: size(16),
            max_watched: size(10_000),
            max_events: size(4096),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RootGrant {
    /// Where it is on the host, which is not looked at: the same grant does for every provider.
    #[serde(rename = "path")]
    _path: Option<IgnoredAny>,
    pub mode: Mode,
    pub links: Links,
    max_bytes: Option<NonZeroU64>,
    max_files: Option<NonZeroU64>,
}

impl Default for RootGrant {
    fn default() -> Self {
        RootGrant {
            _path: None,
            mode: Mode::Ro,
            links: Links::Follow,
            max_bytes: None,
            max_files: None,
        }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Ro,
    Rw,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Links {
    /// No path leads through one.
    Refuse,
    /// Those that stay inside are followed.
    Follow,
    /// And some may be made.
    Create,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TempGrant {
    #[serde(rename = "path")]
    _path: Option<IgnoredAny>,
    max_bytes: Option<NonZeroU64>,
    max_files: Option<NonZeroU64>,
    max_dirs: Option<NonZeroUsize>,
}

/// How much may be somewhere: bytes of files; and files, directories and links.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Count {
    pub bytes: u64,
    pub files: u64,
}

fn most(bytes: Option<NonZeroU64>, files: Option<NonZeroU64>) -> Count {
    Count {
        bytes: bytes.map_or(1 << 30, NonZeroU64::get),
        files: files.map_or(100_000, NonZeroU64::get),
    }
}

impl RootGrant {
    pub fn most(&self) -> Count {
        most(self.max_bytes, self.max_files)
    }
}

impl TempGrant {
    pub fn most(&self) -> Count {
        most(self.max_bytes, self.max_files)
    }

    pub fn max_dirs(&self) -> usize {
        self.max_dirs.map_or(16, NonZeroUsize::get)
    }
}

/// The grant; what is wrong with it is said, which ends the call.
pub fn read() -> Grant {
    let grant: Grant = parse("grant", &settings::grant());
    for (name, root) in &grant.roots {
        if root.mode == Mode::Rw {
            continue;
        }
        if root.max_bytes.is_some() || root.max_files.is_some() {
            settings::refuse(
                &format!("grant.roots.{name}"),
                "a quota bounds what is written, and nothing is: add `mode = \"rw\"`, or leave the quota out",
            );
        }
        if root.links == Links::Create {
            settings::refuse(
                &format!("grant.roots.{name}.links"),
                "links can be created where `mode = \"rw\"` only; use `follow` or `refuse`",
            );
        }
    }
    grant
}

/// What `text` says; what is wrong with it is said by its key, which ends the call.
pub fn parse<T: DeserializeOwned + Default>(key: &str, text: &str) -> T {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).unwrap_or_else(|e| {
        let path = e.path().to_string();
        let key = if path == "." {
            key.into()
        } else {
            format!("{key}.{path}")
        };
        settings::refuse(&key, &e.inner().to_string());
        T::default()
    })
}
