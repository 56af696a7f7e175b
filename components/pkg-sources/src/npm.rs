//! Registries that speak npm's protocol.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{
    Archive, Asset, Bin, Entry, Error, Layout, Need, Plan, Platform, Release, Runner,
};
use crate::http::{self, Config};
use crate::{Source, asset, range};

const ACCEPT: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8";

pub struct Npm<'a>(pub &'a Config);

impl Npm<'_> {
    fn package(&self, name: &str) -> Result<Value, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~!*'()".contains(c);
        let (scope, bare) = name
            .strip_prefix('@')
            .map_or(("", name), |rest| rest.split_once('/').unwrap_or(("", "")));
        if bare.is_empty() || bare.starts_with('.') || !bare.chars().all(plain) || !scope.chars().all(plain) {
            return Err(Error::Invalid(format!("{name:?} is no name of npm's")));
        }
        let url = format!("{}/{}", self.0.base(), name.replace('/', "%2F"));
        http::json(self.0, &url, ACCEPT, &format!("package {name}"))
    }

    fn one(&self, name: &str, version: &str) -> Result<Value, Error> {
        let mut package = self.package(name)?;
        match package["versions"][version].take() {
            Value::Null => Err(Error::NotFound(format!(
                "there is no version {version} of {name}"
            ))),
            one => Ok(one),
        }
    }
}

impl Source for Npm<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let package = self.package(name)?;
        let versions = package["versions"].as_object().into_iter().flatten();
        Ok(range::ordered(versions.map(|(version, one)| {
            (version.clone(), one["deprecated"].is_string())
        })))
    }

    fn resolve(&self, name: &str, ranges: &[String]) -> Result<Vec<String>, Error> {
        let package = self.package(name)?;
        let tag =
            |range: &str| package["dist-tags"][if range.is_empty() { "latest" } else { range }].as_str();
        // a tag such as `next`, and what is meant where nothing is said
        let tagged: Vec<String> = ranges
            .iter()
            .map(|range| tag(range.trim()).map_or_else(|| range.clone(), String::from))
            .collect();
        let mut ranges = tagged;
        if ranges.is_empty() {
            ranges.extend(tag("").map(String::from));
        }
        let releases = self.versions(name)?;
        // npm takes a withdrawn version where there is no other
        range::fitting(name, releases, &ranges).or_else(|error| {
            let all = self
                .versions(name)?
                .into_iter()
                .map(|one| Release { yanked: false, ..one })
                .collect();
            range::fitting(name, all, &ranges).map_err(|_| error)
        })
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error> {
        let one = self.one(name, version)?;
        let os = match platform.os.as_str() {
            "windows" => "win32",
            os => os,
        };
        let cpu = match platform.arch.as_str() {
            "x86_64" => "x64",
            _ => "arm64",
        };
        let libc = match platform.libc.split('-').next() {
            Some("gnu") => "glibc",
            libc => libc.unwrap_or_default(),
        };
        for (key, mine) in [("os", os), ("cpu", cpu), ("libc", libc)] {
            if !mine.is_empty() && !allows(&one[key], mine) {
                return Err(Error::NoPlatform(format!("{name} {version} is not for {mine}")));
            }
        }
        let dist = &one["dist"];
        let url = dist["tarball"]
            .as_str()
            .ok_or_else(|| Error::Protocol(format!("{name} {version} has no dist.tarball")))?;
        let integrity = dist["integrity"].as_str().unwrap_or_default();
        let best = ["sha512", "sha256", "sha1"].iter().find_map(|algorithm| {
            let mut found = integrity
                .split_whitespace()
                .filter_map(|text| text.split_once('-'));
            let (_, base64) = found.find(|(named, _)| named == algorithm)?;
            Some(format!(
                "{algorithm}:{}",
                asset::hex_of_base64(base64.split('?').next()?)?
            ))
        });
        let checksum = best.or_else(|| dist["shasum"].as_str().map(|sum| format!("sha1:{sum}")));
        Ok(Asset {
            file: asset::file_of(url),
            url: url.into(),
            headers: self.0.login(url),
            checksum,
            size: None,
        })
    }

    fn unpack(&self, name: &str, _: &str, _: &Asset) -> Result<Plan, Error> {
        Ok(Plan {
            archive: Archive::Tar,
            strip: 1,
            into: format!("node_modules/{name}"),
            only: Vec::new(),
            metadata: vec!["package.json".into()],
            layout: Layout::Nested,
        })
    }

    fn needs(&self, _: &str, _: &str, _: &Platform, entries: &[Entry]) -> Result<Vec<Need>, Error> {
        let package = described(entries)?;
        let mut needs: Vec<Need> = Vec::new();
        for (key, optional) in [
            ("optionalDependencies", true),
            ("dependencies", false),
            ("peerDependencies", false),
        ] {
            for (name, range) in package[key].as_object().into_iter().flatten() {
                let loose =
                    key == "peerDependencies" && package["peerDependenciesMeta"][name]["optional"] == true;
                if loose || needs.iter().any(|need| need.name == *name) {
                    continue;
                }
                let range = range.as_str().unwrap_or_default();
                let (package, range) = match range.strip_prefix("npm:") {
                    None => (name.as_str(), range),
                    Some(alias) => match alias.rfind('@') {
                        Some(at) if at > 0 => (&alias[..at], &alias[at + 1..]),
                        _ => (alias, ""),
                    },
                };
                if range.contains(':') || range.contains('/') {
                    return Err(Error::Invalid(format!(
                        "{name} is needed from {range:?}, which is no registry"
                    )));
                }
                needs.push(Need {
                    name: name.clone(),
                    real: package.into(),
                    range: range.into(),
                    optional,
                });
            }
        }
        Ok(needs)
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        let package = described(entries)?;
        let bare = name.rsplit('/').next().unwrap_or(name);
        let named: Vec<(String, &Value)> = match &package["bin"] {
            path @ Value::String(_) => vec![(bare.into(), path)],
            Value::Object(map) => map.iter().map(|(name, path)| (name.clone(), path)).collect(),
            _ => Vec::new(),
        };
        let bins = named.into_iter().filter_map(|(name, path)| {
            let path = path.as_str()?.trim_start_matches("./").to_string();
            Some(Bin {
                name,
                path,
                runner: Runner::Node,
            })
        });
        Ok(bins.collect())
    }
}

fn described(entries: &[Entry]) -> Result<Value, Error> {
    let content = entries.iter().find(|entry| entry.path == "package.json");
    let content = content.and_then(|entry| entry.content.as_deref());
    let content = content.ok_or_else(|| Error::Protocol("there is no package.json in the package".into()))?;
    serde_json::from_slice(content).map_err(|e| Error::Protocol(format!("its package.json is no JSON: {e}")))
}

fn allows(listed: &Value, mine: &str) -> bool {
    let words: Vec<&str> = match listed {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    let barred = words.iter().any(|word| word.strip_prefix('!') == Some(mine));
    let wanted = words
        .iter()
        .filter(|word| !word.starts_with('!'))
        .collect::<Vec<_>>();
    !barred && (wanted.is_empty() || wanted.iter().any(|word| **word == mine || **word == "any"))
}
