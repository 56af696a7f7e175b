//! What a component may touch, and the roots that come of it.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde::Deserialize;

use super::quota::{Count, Quota};
use super::root::{Bounds, Links, ReadOnly, Root};
use super::temp::Session;
use crate::ProviderError;
use crate::error::Table;
use crate::hints::Hints;

/// The grant: `{ roots: { NAME: … }, temp: …, max-read, … }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Grant {
    /// Directories by the name that the component knows them by. Default: none.
    roots: BTreeMap<String, Table<RootGrant>>,
    /// Temporary directories. Default: none.
    temp: Option<Table<TempGrant>>,
    /// Bytes that `read` and `read-range` return at most. Default: 16 MiB.
    max_read: NonZeroUsize,
    /// Entries or paths that `list` and `glob` return at most. Default: 100,000.
    max_entries: NonZeroUsize,
    /// Streams at once: of files, and of walks. Default: 64.
    max_streams: NonZeroUsize,
    /// Watches at once. Default: 16.
    max_watches: NonZeroUsize,
    /// Directories that all watches together watch. Default: 10,000.
    max_watched: NonZeroUsize,
    /// Events that a watch keeps until they are read. Default: 4,096.
    max_events: NonZeroUsize,
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
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RootGrant {
    /// The directory on the host, absolute.
    path: PathBuf,
    /// What may be done there. Default: `ro`.
    #[serde(default)]
    mode: Mode,
    /// What symbolic links mean there. Default: `follow`.
    #[serde(default)]
    links: Links,
    /// Bytes that its files may have together, for writing to go on. Default: 1 GiB.
    max_bytes: Option<NonZeroU64>,
    /// Files, directories and links that it may hold. Default: 100,000.
    max_files: Option<NonZeroU64>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
    Rw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TempGrant {
    /// Where they are made, absolute. Default: the system's own place.
    path: Option<PathBuf>,
    /// Bytes that all of them may hold together. Default: 1 GiB.
    max_bytes: Option<NonZeroU64>,
    /// Files, directories and links in all of them. Default: 100,000.
    max_files: Option<NonZeroU64>,
    /// Directories at once. Default: 16.
    max_dirs: Option<NonZeroUsize>,
}

fn most(bytes: Option<NonZeroU64>, files: Option<NonZeroU64>) -> Count {
    Count {
        bytes: bytes.map_or(1 << 30, NonZeroU64::get),
        files: files.map_or(100_000, NonZeroU64::get),
    }
}

impl Grant {
    pub fn max_streams(&self) -> usize {
        self.max_streams.get()
    }

    pub fn max_watches(&self) -> usize {
        self.max_watches.get()
    }

    pub fn max_watched(&self) -> usize {
        self.max_watched.get()
    }

    pub fn max_events(&self) -> usize {
        self.max_events.get()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            read: self.max_read.get(),
            entries: self.max_entries.get(),
        }
    }

    /// Opens every root.
    pub fn roots(&self, hints: &Arc<Hints>) -> Result<BTreeMap<String, Arc<Root>>, ProviderError> {
        let mut roots = BTreeMap::new();
        for (name, Table(granted)) in &self.roots {
            let key = format!("grant.roots.{name}");
            let dir = open(&format!("{key}.path"), &granted.path)?;
            if granted.mode == Mode::Ro && (granted.max_bytes.is_some() || granted.max_files.is_some()) {
                return Err(ProviderError::new(
                    key,
                    "a quota bounds what is written, and nothing is: add `mode = \"rw\"`, or leave the quota out",
                ));
            }
            if granted.mode == Mode::Ro && granted.links == Links::Create {
                return Err(ProviderError::new(
                    format!("{key}.links"),
                    "links can be created where `mode = \"rw\"` only; use `follow` or `refuse`",
                ));
            }
            let quota = match granted.mode {
                Mode::Ro => Err(ReadOnly {
                    name: name.clone(),
                    hints: hints.clone(),
                }),
                Mode::Rw => {
                    let counted = dir.try_clone().map_err(|e| refuse(&key, &granted.path, &e))?;
                    let most = most(granted.max_bytes, granted.max_files);
                    Ok(Arc::new(Quota::new(counted, most)))
                }
            };
            roots.insert(
                name.clone(),
                Arc::new(Root::new(dir, granted.links, quota, self.bounds())),
            );
        }
        Ok(roots)
    }

    /// Where temporary directories come from, after what earlier hosts left there was removed.
    pub fn temp(&self, io: &tokio::runtime::Handle) -> Result<Option<Arc<Session>>, ProviderError> {
        let Some(Table(granted)) = &self.temp else {
            return Ok(None);
        };
        let key = "grant.temp.path";
        let path = granted.path.clone().unwrap_or_else(std::env::temp_dir);
        let most = most(granted.max_bytes, granted.max_files);
        let max_dirs = granted.max_dirs.map_or(16, NonZeroUsize::get);
        Session::new(open(key, &path)?, most, max_dirs, self.bounds(), io.clone())
            .map(Some)
            .map_err(|e| {
                ProviderError::new(
                    key,
                    format!(
                        "nothing can be made in `{}` ({e}); name a directory that may be written",
                        path.display()
                    ),
                )
            })
    }
}

fn open(key: &str, path: &Path) -> Result<Dir, ProviderError> {
    if !path.is_absolute() {
        let problem = format!("`{}` is relative; write the absolute path", path.display());
        return Err(ProviderError::new(key, problem));
    }
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| refuse(key, path, &e))
}

fn refuse(key: &str, path: &Path, e: &std::io::Error) -> ProviderError {
    let problem = format!(
        "`{}` cannot be opened ({e}); name a directory that exists",
        path.display()
    );
    ProviderError::new(key, problem)
}
