//! Servers that speak GitHub's API of releases.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{Asset, Bin, Digest, Entry, Error, Plan, Platform, Release};
use crate::http::{self, Config};
use crate::{Source, asset, range};

const ACCEPT: &str = "application/vnd.github+json";
const PAGES: usize = 5;

pub struct Releases<'a>(pub &'a Config);

/// The version in a tag: `v14.1.0`, `rg-14.1.0` and `14.1.0` are the same.
fn version_of(tag: &str) -> &str {
    let end = tag.rsplit('/').next().unwrap_or(tag);
    match end.find(|c: char| c.is_ascii_digit()) {
        Some(at) if end[..at].ends_with(['v', 'V', '-', '_', '@']) || at == 0 => &end[at..],
        _ => end,
    }
}

impl Releases<'_> {
    fn all(&self, name: &str) -> Result<Vec<Value>, Error> {
        let mut parts = name.split('/');
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let (Some(owner), Some(repo), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Invalid(format!("{name:?} is no OWNER/REPOSITORY")));
        };
        if !plain(owner) || !plain(repo) || repo.starts_with('.') {
            return Err(Error::Invalid(format!("{name:?} is no OWNER/REPOSITORY")));
        }
        let mut found = Vec::new();
        for page in 1..=PAGES {
            let url = format!(
                "{}/repos/{owner}/{repo}/releases?per_page=100&page={page}",
                self.0.base()
            );
            let Value::Array(releases) = http::json(self.0, &url, ACCEPT, &format!("repository {name}"))?
            else {
                return Err(Error::Protocol(format!("{url} lists no releases")));
            };
            let last = releases.len() < 100;
            found.extend(releases.into_iter().filter(|one| one["draft"] != true));
            if last {
                break;
            }
        }
        Ok(found)
    }

    fn assets(&self, name: &str, version: &str) -> Result<Vec<Value>, Error> {
        let mut all = self.all(name)?.into_iter();
        let one = all.find(|one| version_of(one["tag_name"].as_str().unwrap_or_default()) == version);
        match one.map(|mut one| one["assets"].take()) {
            Some(Value::Array(assets)) => Ok(assets),
            _ => Err(Error::NotFound(format!(
                "there is no version {version} of {name}"
            ))),
        }
    }
}

fn name_of(asset: &Value) -> &str {
    asset["name"].as_str().unwrap_or_default()
}

impl Source for Releases<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let all = self.all(name)?;
        let marked: Vec<&str> = all
            .iter()
            .filter(|one| one["prerelease"] == true)
            .filter_map(|one| one["tag_name"].as_str())
            .collect();
        let tags = all.iter().filter_map(|one| one["tag_name"].as_str());
        let mut releases = range::ordered(tags.map(|tag| (version_of(tag).into(), false)));
        for release in &mut releases {
            release.prerelease |= marked.iter().any(|tag| version_of(tag) == release.version);
        }
        Ok(releases)
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error> {
        let assets = self.assets(name, version)?;
        let best = asset::best(assets.iter().map(name_of), platform).ok_or_else(|| {
            let names: Vec<_> = assets.iter().map(name_of).take(8).collect();
            let (os, arch) = (&platform.os, &platform.arch);
            Error::NoPlatform(format!(
                "{name} {version} has nothing for {os} {arch}, but {}",
                names.join(", ")
            ))
        })?;
        let found = &assets[best];
        let url = found["browser_download_url"]
            .as_str()
            .ok_or_else(|| Error::Protocol(format!("{} has no browser_download_url", name_of(found))))?;
        Ok(Asset {
            file: name_of(found).into(),
            url: url.into(),
            headers: self.0.login(url),
            checksum: found["digest"]
                .as_str()
                .filter(|text| text.starts_with("sha256:"))
                .map(String::from),
            size: found["size"].as_u64(),
        })
    }

    fn verify(&self, name: &str, version: &str, artifact: &Asset, digests: &[Digest]) -> Result<bool, Error> {
        if artifact.checksum.is_some() {
            return Ok(true);
        }
        for found in self.assets(name, version)? {
            let beside = name_of(&found);
            let own = beside
                .strip_prefix(artifact.file.as_str())
                .is_some_and(|end| matches!(end, ".sha256" | ".sha256sum" | ".sha512"));
            let lower = beside.to_lowercase();
            let lists = lower.contains("sha256sum") || lower.contains("checksums") || lower == "sha512sums";
            let Some(url) = found["browser_download_url"].as_str().filter(|_| own || lists) else {
                continue;
            };
            let body = http::get(self.0, url, "*/*", beside)?;
            if let Some(sum) = asset::listed(&String::from_utf8_lossy(&body), &artifact.file) {
                return asset::compare(&artifact.file, &sum, digests);
            }
        }
        Ok(false)
    }

    fn unpack(&self, _: &str, _: &str, artifact: &Asset) -> Result<Plan, Error> {
        Ok(asset::plan(&artifact.file, self.0.strip))
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        asset::programs(name, self.0.bins.as_deref(), entries)
    }
}
