//! Writes the Rust of WIT interfaces, for build scripts of providers.
//!
//! ```ignore
//! // build.rs
//! fn main() {
//!     loop_provider_build::Wit::new("wit").interface("acme:kv/store@0.1.0").write();
//! }
//! ```
//!
//! `loop_provider::wit!()` then holds a module for each interface: its types, a trait `Provider` with its functions, and
//! `provide`, which makes of such a provider what `loop_provider` serves.

mod names;
mod shape;
mod types;
mod write;

use std::path::{Path, PathBuf};

use wit_parser::{InterfaceId, Resolve};

/// The WIT of a provider.
pub struct Wit {
    path: PathBuf,
    interfaces: Vec<String>,
    defaults: bool,
}

impl Wit {
    /// `path`: a file, or a folder with its `deps`, beside `Cargo.toml`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Wit {
            path: path.as_ref().into(),
            interfaces: vec![],
            defaults: false,
        }
    }

    /// Serves this interface; its version may be left out where only one is there. Without any, all of the WIT's own
    /// package are served.
    pub fn interface(mut self, name: &str) -> Self {
        self.interfaces.push(name.into());
        self
    }

    /// Has functions that the provider lacks fail when they are called, instead of the compiler complain: for a start.
    pub fn unfinished(mut self) -> Self {
        self.defaults = true;
        self
    }

    /// Writes `wit.rs` into the build's folder, and has Cargo run the script again when the WIT changes.
    ///
    /// Ends the build with a message where the WIT is not sound, or lacks an interface.
    pub fn write(self) {
        println!("cargo::rerun-if-changed={}", self.path.display());
        let folder = std::env::var_os("OUT_DIR").expect("a build script has OUT_DIR");
        let made = self.rust().and_then(|text| {
            let file = Path::new(&folder).join("wit.rs");
            std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))
        });
        if let Err(message) = made {
            println!("cargo::error={}", message.replace('\n', " "));
            std::process::exit(1);
        }
    }

    /// The text of `wit.rs`.
    ///
    /// Errors with what is wrong with the WIT.
    pub fn rust(&self) -> Result<String, String> {
        let mut resolve = Resolve::default();
        let (own, _) = resolve
            .push_path(&self.path)
            .map_err(|e| format!("{}: {e:#}", self.path.display()))?;
        let served: Vec<InterfaceId> = if self.interfaces.is_empty() {
            resolve.packages[own].interfaces.values().copied().collect()
        } else {
            let named = self.interfaces.iter().map(|name| find(&resolve, name));
            named.collect::<Result<_, _>>()?
        };
        if served.is_empty() {
            return Err(format!("{}: there is no interface to serve", self.path.display()));
        }
        write::Writer::new(&resolve, &served, self.defaults)?.all()
    }
}

fn find(resolve: &Resolve, name: &str) -> Result<InterfaceId, String> {
    let full = |id| resolve.id_of(id).unwrap_or_default();
    let ids: Vec<InterfaceId> = resolve.interfaces.iter().map(|(id, _)| id).collect();
    let bare = |full: &str| full.split('@').next() == Some(name);
    let found: Vec<_> = ids
        .iter()
        .filter(|id| full(**id) == name || bare(&full(**id)))
        .collect();
    match found[..] {
        [id] => Ok(*id),
        [] => {
            let all: Vec<_> = ids.iter().map(|id| full(*id)).filter(|n| !n.is_empty()).collect();
            Err(format!(
                "there is no interface {name}; there are {}",
                all.join(", ")
            ))
        }
        _ => Err(format!("{name} is there in several versions: write one of them")),
    }
}

#[cfg(test)]
mod tests;
