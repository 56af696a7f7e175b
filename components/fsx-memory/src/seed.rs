//! The files that are there from the start.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Deserialize;

use crate::exports::loop_::fsx::files::ErrorCode;
use crate::grant;
use crate::loop_::provider::settings;
use crate::path;
use crate::store::{Node, Root, Store};

/// The config.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// By root and path.
    files: BTreeMap<String, BTreeMap<String, Seed>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected text, { base64 = \"…\" }, { link = \"TARGET\" } or {}, which is a directory"
)]
enum Seed {
    Text(String),
    Other(Other),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    base64: Option<String>,
    link: Option<String>,
}

impl Seed {
    fn node(&self) -> Result<Node, String> {
        Ok(match self {
            Seed::Text(text) => Node::file(text.clone().into_bytes()),
            Seed::Other(Other {
                base64: None,
                link: None,
            }) => Node::directory(),
            Seed::Other(Other {
                base64: Some(text),
                link: None,
            }) => Node::file(
                BASE64
                    .decode(text.as_bytes())
                    .map_err(|e| format!("`base64` cannot be decoded: {e}"))?,
            ),
            Seed::Other(Other {
                base64: None,
                link: Some(target),
            }) => Node::link(target.clone()),
            Seed::Other(_) => return Err("a file with `base64` or a `link`, not both".into()),
        })
    }
}

/// Puts the files of the config into the roots that the grant has; what is wrong with one is said, which ends the call.
pub fn sow<'a>(store: &mut Store, roots: impl Iterator<Item = (&'a String, &'a Root)>) {
    let config: Config = grant::parse("config", &settings::config());
    for (name, root) in roots {
        for (path, seed) in config.files.get(name).into_iter().flatten() {
            let put = seed.node().and_then(|node| put(store, root, path, node));
            if let Err(problem) = put {
                settings::refuse(&format!("config.files.{name}.{path}"), &problem);
            }
        }
    }
}

fn put(store: &mut Store, root: &Root, at: &str, node: Node) -> Result<(), String> {
    let parts: Vec<_> = at.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || path::checked(at).is_err() {
        return Err("expected the path of a file, without `.`, `..` or a slash at either end".into());
    }
    let (name, above) = parts.split_last().expect("one at least");
    let mut dir = root.top;
    for part in above {
        dir = match store.lookup(dir, part) {
            Some(id) if store.is_directory(id) => id,
            Some(_) => return Err(format!("`{part}` on the way is no directory")),
            None => add(store, root, dir, part, Node::directory())?,
        };
    }
    match store.lookup(dir, name) {
        // it was on the way to another
        Some(id) if store.is_directory(id) && node.is_directory() => Ok(()),
        Some(_) => Err("something else has this name".into()),
        None => add(store, root, dir, name, node).map(drop),
    }
}

fn add(store: &mut Store, root: &Root, dir: u64, name: &str, node: Node) -> Result<u64, String> {
    path::named(name).map_err(|_| format!("`{name}` is too long for a name"))?;
    store
        .create(root.volume, dir, name, node)
        .map_err(|code| match code {
            ErrorCode::Quota => "more than the grant lets the root hold".into(),
            code => format!("{code:?}"),
        })
}
