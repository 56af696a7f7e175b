//! Files at URLs that a template makes.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{Asset, Bin, Digest, Entry, Error, Plan, Platform, Release};
use crate::http::{self, Config};
use crate::{Source, asset, range};

pub struct Template<'a>(pub &'a Config);

impl Template<'_> {
    fn filled(
        &self,
        template: &str,
        name: &str,
        version: &str,
        file: &str,
        platform: Option<&Platform>,
    ) -> String {
        let word = |word: &str| self.0.words.get(word).cloned().unwrap_or_else(|| word.into());
        let mut url = template
            .replace("{name}", name)
            .replace("{version}", version)
            .replace("{file}", file);
        if let Some(platform) = platform {
            let libc = platform.libc.split('-').next().unwrap_or_default();
            let parts = [
                ("{os}", platform.os.as_str()),
                ("{arch}", platform.arch.as_str()),
                ("{libc}", libc),
            ];
            for (place, value) in parts {
                url = url.replace(place, &word(value));
            }
            url = url.replace("{exe}", if platform.os == "windows" { ".exe" } else { "" });
        }
        url
    }
}

impl Source for Template<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let Some(template) = &self.0.versions else {
            return Err(Error::Invalid(format!(
                "the source has no list of versions: ask for an exact one ({name}@1.2.3), or give it `versions`"
            )));
        };
        let url = self.filled(template, name, "", "", None);
        let body = http::get(self.0, &url, "*/*", &format!("list of versions of {name}"))?;
        let text = String::from_utf8_lossy(&body);
        let versions: Vec<String> = match serde_json::from_str::<Value>(&text) {
            Ok(Value::Array(items)) => items
                .iter()
                .filter_map(|item| {
                    item.as_str()
                        .or(item["version"].as_str())
                        .or(item["tag_name"].as_str())
                })
                .map(String::from)
                .collect(),
            Ok(Value::Object(map)) => map.keys().cloned().collect(),
            _ => text
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .map(String::from)
                .collect(),
        };
        Ok(range::ordered(
            versions.into_iter().map(|version| (version, false)),
        ))
    }

    fn resolve(&self, name: &str, ranges: &[String]) -> Result<Vec<String>, Error> {
        let exact = ranges
            .first()
            .filter(|text| self.0.versions.is_none() && text.chars().any(|c| c.is_ascii_digit()));
        match exact {
            Some(text) if range::loose(text).is_some() && ranges.iter().all(|one| one == text) => {
                Ok(vec![text.clone()])
            }
            _ => range::fitting(name, self.versions(name)?, ranges),
        }
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error> {
        let url = self.filled(&self.0.base, name, version, "", Some(platform));
        let file = asset::file_of(&url);
        let mut artifact = Asset {
            headers: self.0.login(&url),
            file,
            url,
            checksum: None,
            size: None,
        };
        if let Some(template) = &self.0.checksum {
            let sums = self.filled(template, name, version, &artifact.file, Some(platform));
            let body = http::get(self.0, &sums, "*/*", &format!("checksum of {}", artifact.file)).map_err(
                |error| {
                    match error {
                        // no checksum is no file
                        Error::NotFound(text) => Error::NoPlatform(text),
                        other => other,
                    }
                },
            )?;
            let sum = asset::listed(&String::from_utf8_lossy(&body), &artifact.file)
                .ok_or_else(|| Error::NoPlatform(format!("{sums} has no checksum of {}", artifact.file)))?;
            let algorithm = if sum.len() == 64 { "sha256" } else { "sha512" };
            artifact.checksum = Some(format!("{algorithm}:{sum}"));
        }
        Ok(artifact)
    }

    fn verify(&self, _: &str, _: &str, artifact: &Asset, _: &[Digest]) -> Result<bool, Error> {
        Ok(artifact.checksum.is_some())
    }

    fn unpack(&self, _: &str, _: &str, artifact: &Asset) -> Result<Plan, Error> {
        Ok(asset::plan(&artifact.file, self.0.strip))
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        asset::programs(name, self.0.bins.as_deref(), entries)
    }
}
