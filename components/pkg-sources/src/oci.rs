//! Registries that speak the OCI distribution protocol: a tool is the first layer of what a tag names.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{Archive, Asset, Bin, Entry, Error, Plan, Platform, Release};
use crate::http::{self, Config};
use crate::{Source, asset, range};

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const TITLE: &str = "org.opencontainers.image.title";

pub struct Oci<'a>(pub &'a Config);

/// The token that a registry asks for by `www-authenticate`, as the value of `authorization`.
pub fn token(headers: &[(String, Vec<u8>)], config: &Config) -> Result<String, Error> {
    let denied = |what: &str| Error::Denied(format!("{} {what}", http::origin(&config.base)));
    let asked = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    let asked = asked
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default();
    if asked.to_lowercase().starts_with("basic") {
        let login = config
            .authorization()
            .ok_or_else(|| denied("wants a login; `docker login` keeps one"))?;
        return Ok(login.into());
    }
    let value = |name: &str| {
        Some(
            asked
                .split_once(&format!("{name}=\""))?
                .1
                .split('"')
                .next()?
                .to_string(),
        )
    };
    let realm = value("realm").ok_or_else(|| denied("does not say how to log in"))?;
    let query: Vec<String> = ["service", "scope"]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", value(name)?)))
        .collect();
    let url = format!("{realm}?{}", query.join("&"));
    let body = http::json(config, &url, "application/json", "token")?;
    let token = body["token"].as_str().or(body["access_token"].as_str());
    token
        .map(|token| format!("Bearer {token}"))
        .ok_or_else(|| denied("gives no token"))
}

impl Oci<'_> {
    fn url(&self, name: &str, path: &str) -> Result<String, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./".contains(c);
        if name.is_empty()
            || !name.chars().all(plain)
            || name
                .split('/')
                .any(|part| part.is_empty() || part.starts_with('.'))
        {
            return Err(Error::Invalid(format!("{name:?} is no repository")));
        }
        Ok(format!("{}/v2/{name}/{path}", self.0.base()))
    }

    fn manifest(&self, name: &str, reference: &str) -> Result<Value, Error> {
        http::json(
            self.0,
            &self.url(name, &format!("manifests/{reference}"))?,
            ACCEPT,
            &format!("{name}:{reference}"),
        )
    }
}

impl Source for Oci<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let url = self.url(name, "tags/list")?;
        let found = http::json(self.0, &url, "application/json", &format!("repository {name}"))?;
        let tags = found["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        Ok(range::ordered(tags.map(|tag| (tag.into(), false))))
    }

    fn artifact(&self, name: &str, version: &str, platform: &Platform) -> Result<Asset, Error> {
        let mut manifest = self.manifest(name, version)?;
        if let Value::Array(listed) = manifest["manifests"].take() {
            let arch = if platform.arch == "x86_64" {
                "amd64"
            } else {
                "arm64"
            };
            let fits = |one: &&Value| {
                one["platform"]["os"] == *platform.os && one["platform"]["architecture"] == arch
            };
            let digest = listed
                .iter()
                .find(fits)
                .and_then(|one| one["digest"].as_str())
                .ok_or_else(|| {
                    Error::NoPlatform(format!("{name}:{version} has nothing for {} {arch}", platform.os))
                })?;
            manifest = self.manifest(name, digest)?;
        }
        let layer = &manifest["layers"][0];
        let digest = layer["digest"]
            .as_str()
            .ok_or_else(|| Error::Protocol(format!("{name}:{version} has no layer")))?;
        let title = layer["annotations"][TITLE].as_str();
        let tar = layer["mediaType"]
            .as_str()
            .is_some_and(|kind| kind.contains("tar"));
        let bare = name.rsplit('/').next().unwrap_or(name);
        let file = title.map_or_else(
            || format!("{bare}{}", if tar { ".tar" } else { "" }),
            asset::file_of,
        );
        let url = self.url(name, &format!("blobs/{digest}"))?;
        Ok(Asset {
            headers: self.0.login(&url),
            file,
            url,
            checksum: Some(digest.into()),
            size: layer["size"].as_u64(),
        })
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
