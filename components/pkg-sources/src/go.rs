//! Proxies that speak Go's protocol. What they have is source, which Go builds.

use crate::exports::loop_::pkg::resolver::{
    Archive, Asset, Bin, Digest, Entry, Error, Layout, Plan, Platform, Release, Runner,
};
use crate::http::{self, Config};
use crate::{Source, range};

pub struct Go<'a>(pub &'a Config);

/// A module path or version as it stands in URLs: capitals are small letters behind `!`.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl Go<'_> {
    fn ask(&self, module: &str, path: &str) -> Result<String, Error> {
        let url = format!("{}/{}/{path}", self.0.base(), escaped(module));
        let body = http::get(self.0, &url, "*/*", &format!("module {module}"))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The module that a package is in, and its versions.
    fn module(&self, name: &str) -> Result<(String, Vec<Release>), Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
        if !name.contains('.')
            || !name.chars().all(plain)
            || name.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(Error::Invalid(format!("{name:?} is no path of a package of Go")));
        }
        let mut module = name;
        let mut last = None;
        loop {
            match self.known(module) {
                Ok(versions) if !versions.is_empty() => return Ok((module.into(), versions)),
                Err(Error::NotFound(_)) | Ok(_) => {}
                Err(other) => last = last.or(Some(other)),
            }
            match module.rsplit_once('/') {
                Some((above, _)) => module = above,
                None => {
                    return Err(
                        last.unwrap_or_else(|| Error::NotFound(format!("there is no module of {name}")))
                    );
                }
            }
        }
    }

    fn known(&self, module: &str) -> Result<Vec<Release>, Error> {
        let list = self.ask(module, "@v/list");
        let lines = list
            .as_deref()
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with('v'));
        let versions = range::ordered(lines.map(|line| (line.trim().into(), false)));
        if versions.iter().any(|one| !one.prerelease) {
            return Ok(versions);
        }
        // a module without tags has only what is newest
        let latest = match self.ask(module, "@latest") {
            Err(Error::NotFound(_)) if !versions.is_empty() => return Ok(versions),
            latest => latest?,
        };
        let latest: serde_json::Value = serde_json::from_str(&latest)
            .map_err(|e| Error::Protocol(format!("the proxy's word on {module} is no JSON: {e}")))?;
        Ok(latest["Version"].as_str().map_or(versions, |version| {
            vec![Release {
                version: version.into(),
                prerelease: false,
                yanked: false,
            }]
        }))
    }
}

impl Source for Go<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        self.module(name).map(|(_, versions)| versions)
    }

    fn resolve(&self, name: &str, ranges: &[String]) -> Result<Vec<String>, Error> {
        let versions = self.versions(name)?;
        if let [one] = &versions[..]
            && ranges
                .iter()
                .all(|range| range.is_empty() || *range == one.version)
        {
            return Ok(vec![one.version.clone()]);
        }
        range::fitting(name, versions, ranges)
    }

    fn artifact(&self, name: &str, version: &str, _: &Platform) -> Result<Asset, Error> {
        let (module, _) = self.module(name)?;
        let url = format!(
            "{}/{}/@v/{}.zip",
            self.0.base(),
            escaped(&module),
            escaped(version)
        );
        Ok(Asset {
            file: format!("{}@{version}.zip", module.replace('/', "+")),
            headers: self.0.login(&url),
            url,
            checksum: None,
            size: None,
        })
    }

    fn verify(&self, name: &str, version: &str, _: &Asset, digests: &[Digest]) -> Result<bool, Error> {
        let (Some(sums), Some((_, found))) = (&self.0.sums, digests.iter().find(|(name, _)| name == "h1"))
        else {
            return Ok(false);
        };
        let (module, _) = self.module(name)?;
        let path = format!("{}@{}", escaped(&module), escaped(version));
        let url = format!("{}/sumdb/{sums}/lookup/{path}", self.0.base());
        let body = http::get(self.0, &url, "*/*", &format!("checksum of {module}"))?;
        let start = format!("{module} {version} ");
        let text = String::from_utf8_lossy(&body).into_owned();
        match text.lines().find_map(|line| line.strip_prefix(&start)) {
            Some(sum) if sum == found => Ok(true),
            Some(sum) => Err(Error::Protocol(format!(
                "{module} {version} is {found}, and {sums} says {sum}"
            ))),
            None => Err(Error::Protocol(format!(
                "{sums} does not know {module} {version}"
            ))),
        }
    }

    fn unpack(&self, name: &str, _: &str, _: &Asset) -> Result<Plan, Error> {
        let (module, _) = self.module(name)?;
        Ok(Plan {
            archive: Archive::Zip,
            strip: u32::try_from(module.split('/').count()).unwrap_or(1),
            into: String::new(),
            only: Vec::new(),
            metadata: vec!["go.mod".into()],
            layout: Layout::Alone,
        })
    }

    fn bins(&self, name: &str, _: &[Entry]) -> Result<Vec<Bin>, Error> {
        let (module, _) = self.module(name)?;
        let inside = name[module.len()..].trim_start_matches('/');
        let major = |part: &str| {
            part.strip_prefix('v')
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        };
        let called = name.rsplit('/').find(|part| !major(part)).unwrap_or(name);
        let path = if inside.is_empty() {
            ".".into()
        } else {
            inside.to_string()
        };
        Ok(vec![Bin {
            name: called.into(),
            path,
            runner: Runner::Go,
        }])
    }
}
