//! Repositories of OCI registries: a tool is the first layer of what a tag names. The host, which speaks with
//! registries, asks which tags there are and where a layer is; here is what its file means.

use crate::exports::loop_::pkg::resolver::{Archive, Asset, Bin, Entry, Error, Plan, Platform, Release};
use crate::http::Config;
use crate::{Source, asset, range};

pub struct Oci<'a>(pub &'a Config);

impl Source for Oci<'_> {
    fn versions(&self, _: &str) -> Result<Vec<Release>, Error> {
        Ok(range::ordered(self.0.tags.iter().map(|tag| (tag.clone(), false))))
    }

    fn artifact(&self, name: &str, version: &str, _: &Platform) -> Result<Asset, Error> {
        Err(Error::Invalid(format!(
            "the host knows where {name}:{version} is"
        )))
    }

    fn unpack(&self, _: &str, _: &str, artifact: &Asset) -> Result<Plan, Error> {
        let plan = asset::plan(&artifact.file, self.0.strip);
        Ok(if artifact.file.ends_with(".tar") {
            Plan {
                archive: Archive::Tar,
                ..plan
            }
        } else {
            plan
        })
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        asset::programs(name, self.0.bins.as_deref(), entries)
    }
}
