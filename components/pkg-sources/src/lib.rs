//! `loop:pkg/resolver` for the sources that loop-kit knows by itself.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/wit",
        "../../python/loop_kit/capabilities/netx/wit",
        "../../python/loop_kit/capabilities/pkg/wit",
        "wit",
    ],
    world: "loop:pkg-sources/sources",
    generate_all,
});

mod asset;
mod crates;
mod detect;
mod go;
mod http;
mod npm;
mod oci;
mod pypi;
mod python;
mod range;
mod releases;
mod template;

use exports::loop_::pkg::resolver::{
    Asked, Asset, Bin, Digest, Entry, Error, Guest, Need, Plan, Platform, Release,
};
use http::Config;

/// One kind of source.
trait Source {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error>;

    fn resolve(&self, name: &str, ranges: &[String]) -> Result<Vec<String>, Error> {
        range::fitting(name, self.versions(name)?, ranges)
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error>;

    fn verify(&self, _: &str, _: &str, artifact: &Asset, _: &[Digest]) -> Result<bool, Error> {
        Ok(artifact.checksum.is_some())
    }

    fn metadata(&self, _: &str, _: &Asset) -> Result<Option<Asset>, Error> {
        Ok(None)
    }

    fn unpack(&self, name: &str, version: &str, artifact: &Asset) -> Result<Plan, Error>;

    fn needs(&self, _: &str, _: &str, _: &Platform, _: &[Entry]) -> Result<Vec<Need>, Error> {
        Ok(Vec::new())
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error>;
}

fn source(config: &Config) -> Box<dyn Source + '_> {
    match config.kind.as_str() {
        "npm" => Box::new(npm::Npm(config)),
        "pypi" => Box::new(pypi::PyPi(config)),
        "crates" => Box::new(crates::Crates(config)),
        "go" => Box::new(go::Go(config)),
        "github" => Box::new(releases::Releases(config)),
        "oci" => Box::new(oci::Oci(config)),
        _ => Box::new(template::Template(config)),
    }
}

struct Component;

impl Guest for Component {
    fn versions(name: String) -> Result<Vec<Release>, Error> {
        http::config(|config| source(config).versions(&name))
    }

    fn resolve(name: String, ranges: Vec<String>) -> Result<Vec<String>, Error> {
        http::config(|config| source(config).resolve(&name, &ranges))
    }

    fn artifact(name: String, version: String, platform: Platform) -> Result<Asset, Error> {
        http::config(|config| source(config).artifact(&name, &version, &platform))
    }

    fn verify(name: String, version: String, artifact: Asset, digests: Vec<Digest>) -> Result<bool, Error> {
        http::config(|config| source(config).verify(&name, &version, &artifact, &digests))
    }

    fn metadata(name: String, _: String, artifact: Asset) -> Result<Option<Asset>, Error> {
        http::config(|config| source(config).metadata(&name, &artifact))
    }

    fn unpack(name: String, version: String, artifact: Asset) -> Result<Plan, Error> {
        http::config(|config| source(config).unpack(&name, &version, &artifact))
    }

    fn needs(
        name: String,
        version: String,
        platform: Platform,
        entries: Vec<Entry>,
    ) -> Result<Vec<Need>, Error> {
        http::config(|config| source(config).needs(&name, &version, &platform, &entries))
    }

    fn bins(name: String, _: String, _: Platform, entries: Vec<Entry>) -> Result<Vec<Bin>, Error> {
        http::config(|config| source(config).bins(&name, &entries))
    }

    fn looks_at() -> Vec<String> {
        http::config(|config| detect::files(&config.kind))
    }

    fn detect(file: String, content: Vec<u8>) -> Result<Vec<Asked>, Error> {
        http::config(|config| detect::asked(&config.kind, &file, &content))
    }
}

export!(Component);
