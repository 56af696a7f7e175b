//! Indexes that speak Python's simple API, in JSON or as pages.

use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use serde_json::{Value, json};

use crate::exports::loop_::pkg::resolver::{
    Archive, Asset, Bin, Entry, Error, Layout, Need, Plan, Platform, Release, Runner,
};
use crate::http::{self, Config};
use crate::{Source, python, range};

const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.2, text/html; q=0.1";

pub struct PyPi<'a>(pub &'a Config);

impl PyPi<'_> {
    /// The files of a project, each as the JSON of the API has it.
    fn files(&self, name: &str) -> Result<Vec<Value>, Error> {
        let project = python::normal(name);
        if project.is_empty() || !project.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Error::Invalid(format!("{name:?} is no name of a Python package")));
        }
        let url = format!("{}/{project}/", self.0.base());
        let what = format!("package {project}");
        let body = http::get(self.0, &url, ACCEPT, &what)?;
        match serde_json::from_slice::<Value>(&body) {
            Ok(mut page) => match page["files"].take() {
                Value::Array(files) => Ok(files),
                _ => Err(Error::Protocol(format!("{url} lists no files"))),
            },
            Err(_) => Ok(anchors(&url, &String::from_utf8_lossy(&body))),
        }
    }

    /// The versions of which there is source alone, the oldest first.
    fn sources(&self, name: &str) -> Result<Vec<Version>, Error> {
        let built: Vec<Version> = self
            .wheels(name)?
            .into_iter()
            .map(|(version, ..)| version)
            .collect();
        let files = self.files(name)?;
        let names = files.iter().filter_map(|file| file["filename"].as_str());
        let mut found: Vec<Version> = names
            .filter_map(|file| {
                let source = file.strip_suffix(".tar.gz").or(file.strip_suffix(".zip"))?;
                Version::from_str(source.rsplit_once('-')?.1).ok()
            })
            .filter(|version| !built.contains(version))
            .collect();
        found.sort();
        Ok(found)
    }

    /// Says that what is asked for is there as source, which is not built.
    fn to_build(&self, name: &str, version: &Version) -> Error {
        Error::NotFound(format!(
            "{name} {version} is there as source alone, and what builds it would run with your rights: it is not \
             built. Ask for a version that has wheels, or build one yourself (`pip wheel --no-deps {name}=={version}`) \
             and serve it from an index of your own"
        ))
    }

    fn wheels(&self, name: &str) -> Result<Vec<(Version, String, Value)>, Error> {
        let files = self.files(name)?.into_iter().filter_map(|file| {
            let wheel = file["filename"].as_str()?.strip_suffix(".whl")?;
            let text = wheel.split('-').nth(1)?.to_string();
            Some((Version::from_str(&text).ok()?, text, file))
        });
        Ok(files.collect())
    }
}

impl Source for PyPi<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let mut wheels = self.wheels(name)?;
        wheels.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut known: Vec<Release> = Vec::new();
        for (version, text, file) in wheels {
            let yanked = !matches!(file["yanked"], Value::Null | Value::Bool(false));
            match known.last_mut() {
                // withdrawn only if all of its files are
                Some(last) if Version::from_str(&last.version).as_ref() == Ok(&version) => {
                    last.yanked &= yanked
                }
                _ => known.push(Release {
                    version: text,
                    prerelease: version.any_prerelease(),
                    yanked,
                }),
            }
        }
        if known.is_empty() {
            return Err(match self.sources(name)?.last() {
                Some(version) => self.to_build(name, version),
                None => Error::NotFound(format!("{name} has no wheels")),
            });
        }
        Ok(known)
    }

    fn resolve(&self, name: &str, ranges: &[String]) -> Result<Vec<String>, Error> {
        let (name, _) = python::extras(name);
        let releases = self.versions(name)?;
        let mut wanted = Vec::new();
        for text in ranges
            .iter()
            .filter(|text| !matches!(text.trim(), "" | "*" | "latest"))
        {
            let specifiers = VersionSpecifiers::from_str(&python::specifiers(text)).map_err(|_| {
                Error::Invalid(format!(
                    "{text:?} is no range of versions such as 1.2, ~=1.2 or >=1,<3"
                ))
            })?;
            wanted.extend(specifiers.iter().cloned());
        }
        let named = wanted.iter().any(|one| one.any_prerelease());
        let exact = |version: &Version| wanted.iter().any(|one| one.version() == version);
        let fits = |release: &&&Release| {
            Version::from_str(&release.version).is_ok_and(|version| {
                (!release.yanked || exact(&version)) && wanted.iter().all(|one| one.contains(&version))
            })
        };
        let all: Vec<&Release> = releases.iter().rev().collect();
        let mut found: Vec<&&Release> = all.iter().filter(fits).collect();
        if found.is_empty() {
            let in_all = |version: &&Version| wanted.iter().all(|one| one.contains(version));
            return Err(match self.sources(name)?.iter().rev().find(in_all) {
                Some(version) => self.to_build(name, version),
                None => range::missing(name, &releases, ranges),
            });
        }
        if !named && found.iter().any(|release| !release.prerelease) {
            found.retain(|release| !release.prerelease);
        }
        Ok(found.into_iter().map(|release| release.version.clone()).collect())
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error> {
        let (name, _) = python::extras(name);
        let wanted = Version::from_str(version).map_err(|e| Error::Invalid(e.to_string()))?;
        let python_version = Version::from_str(&platform.python).ok();
        let mut found: Option<(u32, Value)> = None;
        for (version, _, file) in self.wheels(name)? {
            let wheel = file["filename"].as_str().unwrap_or_default();
            let Some(score) = python::fits(wheel, platform).filter(|_| version == wanted) else {
                continue;
            };
            let requires = file["requires-python"].as_str().unwrap_or_default();
            let specifiers = VersionSpecifiers::from_str(requires).unwrap_or_default();
            let runs = python_version
                .as_ref()
                .is_none_or(|version| specifiers.contains(version));
            if runs && found.as_ref().is_none_or(|(most, _)| score > *most) {
                found = Some((score, file));
            }
        }
        let (_, file) = found.ok_or_else(|| {
            let (os, arch) = (&platform.os, &platform.arch);
            let python = &platform.python;
            Error::NoPlatform(format!(
                "{name} {version} has no wheel for Python {python} on {os} {arch}"
            ))
        })?;
        let url = file["url"].as_str().unwrap_or_default();
        let checksum = ["sha256", "sha512"]
            .iter()
            .find_map(|name| file["hashes"][name].as_str().map(|sum| format!("{name}:{sum}")));
        Ok(Asset {
            file: file["filename"].as_str().unwrap_or_default().into(),
            url: python::joined(&format!("{}/{}/", self.0.base(), python::normal(name)), url),
            headers: self.0.login(url),
            checksum,
            size: file["size"].as_u64(),
        })
    }

    /// What PEP 658 has beside a wheel.
    fn metadata(&self, name: &str, artifact: &Asset) -> Result<Option<Asset>, Error> {
        let (name, _) = python::extras(name);
        let files = self.files(name)?;
        let Some(file) = files.iter().find(|file| file["filename"] == *artifact.file) else {
            return Ok(None);
        };
        let told = ["core-metadata", "dist-info-metadata"]
            .iter()
            .map(|key| &file[key])
            .find(|value| !value.is_null() && **value != false);
        let (Some(told), Some(folder)) = (told, folder(&artifact.file)) else {
            return Ok(None);
        };
        Ok(Some(Asset {
            file: format!("{folder}.dist-info/METADATA"),
            url: format!("{}.metadata", artifact.url),
            headers: artifact.headers.clone(),
            checksum: told["sha256"].as_str().map(|sum| format!("sha256:{sum}")),
            size: None,
        }))
    }

    fn unpack(&self, _: &str, _: &str, _: &Asset) -> Result<Plan, Error> {
        Ok(Plan {
            archive: Archive::Zip,
            strip: 0,
            into: "python".into(),
            only: Vec::new(),
            metadata: vec![
                "*.dist-info/METADATA".into(),
                "*.dist-info/entry_points.txt".into(),
            ],
            layout: Layout::Flat,
        })
    }

    /// One with extras needs itself without them, in the same version, and what these need.
    fn needs(
        &self,
        name: &str,
        version: &str,
        platform: &Platform,
        entries: &[Entry],
    ) -> Result<Vec<Need>, Error> {
        let Some(metadata) = text(entries, "/METADATA") else {
            return Err(Error::Protocol("there is no METADATA in the wheel".into()));
        };
        let head = metadata.split("\n\n").next().unwrap_or_default();
        let lines = head
            .lines()
            .filter_map(|line| line.strip_prefix("Requires-Dist:"));
        let (bare, extras) = python::extras(name);
        let itself =
            (!extras.is_empty()).then(|| python::need(python::normal(bare), &format!("=={version}")));
        let needs = lines.filter_map(|line| python::requirement(line.trim(), platform, &extras).transpose());
        itself.map(Ok).into_iter().chain(needs).collect()
    }

    fn bins(&self, _: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        let mut bins = Vec::new();
        let points = text(entries, "/entry_points.txt").unwrap_or_default();
        let mut section = "";
        for line in points.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if let Some((name, point)) =
                line.split_once('=').filter(|_| section == "[console_scripts]")
            {
                let point = point.split('[').next().unwrap_or_default().trim();
                bins.push(Bin {
                    name: name.trim().into(),
                    path: point.into(),
                    runner: Runner::Python,
                });
            }
        }
        for entry in entries {
            let mut parts = entry.path.split('/');
            if let (Some(data), Some("scripts"), Some(name), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
                && data.ends_with(".data")
            {
                let name = name.trim_end_matches(".exe").into();
                bins.push(Bin {
                    name,
                    path: entry.path.clone(),
                    runner: Runner::Native,
                });
            }
        }
        Ok(bins)
    }
}

/// What the folder of a wheel's metadata begins with: its name and version.
fn folder(wheel: &str) -> Option<&str> {
    let name = wheel.find('-')?;
    let version = wheel[name + 1..].find('-')?;
    Some(&wheel[..name + 1 + version])
}

/// The content of the entry of a `dist-info` whose path ends so.
fn text(entries: &[Entry], end: &str) -> Option<String> {
    let entry = entries
        .iter()
        .find(|entry| entry.path.ends_with(end) && entry.content.is_some())?;
    Some(String::from_utf8_lossy(entry.content.as_deref()?).replace("\r\n", "\n"))
}

/// The links of a page of PEP 503, as its JSON would have them.
fn anchors(base: &str, page: &str) -> Vec<Value> {
    let mut files = Vec::new();
    for part in page.split("<a ").skip(1) {
        let Some((attributes, rest)) = part.split_once('>') else {
            continue;
        };
        let value = |name: &str| {
            let after = attributes.split_once(&format!("{name}=\""))?.1;
            Some(
                after
                    .split('"')
                    .next()?
                    .replace("&gt;", ">")
                    .replace("&lt;", "<")
                    .replace("&amp;", "&"),
            )
        };
        let (Some(href), Some(shown)) = (value("href"), rest.split('<').next()) else {
            continue;
        };
        let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
        let hashes = match fragment.split_once('=') {
            Some((name, sum)) => json!({ name: sum }),
            None => json!({}),
        };
        let told = ["data-core-metadata", "data-dist-info-metadata"]
            .iter()
            .find_map(|name| value(name));
        let told = told.map(|text| match text.split_once('=') {
            Some((name, sum)) => json!({ name: sum }),
            None => json!(text == "true"),
        });
        files.push(json!({
            "core-metadata": told,
            "filename": shown.trim(),
            "url": python::joined(base, url),
            "hashes": hashes,
            "requires-python": value("data-requires-python"),
            "yanked": attributes.contains("data-yanked"),
        }));
    }
    files
}
