//! Indexes of crates that speak Cargo's sparse protocol. What they have is source, which Cargo builds.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{
    Archive, Asset, Bin, Entry, Error, Layout, Plan, Platform, Release, Runner,
};
use crate::http::{self, Config};
use crate::{Source, range};

pub struct Crates<'a>(pub &'a Config);

impl Crates<'_> {
    fn lines(&self, name: &str) -> Result<Vec<Value>, Error> {
        let lower = name.to_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Error::Invalid(format!("{name:?} is no name of a crate")));
        }
        let path = match lower.len() {
            1 => format!("1/{lower}"),
            2 => format!("2/{lower}"),
            3 => format!("3/{}/{lower}", &lower[..1]),
            _ => format!("{}/{}/{lower}", &lower[..2], &lower[2..4]),
        };
        let url = format!("{}/{path}", self.0.base());
        let body = http::get(self.0, &url, "text/plain", &format!("crate {name}"))?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line))
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Protocol(format!("{url} is no index of a crate: {e}")))
    }
}

impl Source for Crates<'_> {
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let lines = self.lines(name)?;
        let found = lines
            .iter()
            .filter_map(|line| Some((line["vers"].as_str()?.into(), line["yanked"] == true)));
        Ok(range::ordered(found))
    }

    fn artifact(&self, name: &str, version: &str, _: &Platform) -> Result<Asset, Error> {
        let lines = self.lines(name)?;
        let line = lines.iter().find(|line| line["vers"] == version);
        let line = line.ok_or_else(|| Error::NotFound(format!("there is no version {version} of {name}")))?;
        let config = format!("{}/config.json", self.0.base());
        let config = http::json(self.0, &config, "application/json", "config.json of the index")?;
        let dl = config["dl"]
            .as_str()
            .ok_or_else(|| Error::Protocol("the index has no `dl`".into()))?;
        let url = if dl.contains('{') {
            let prefix = match name.len() {
                1 | 2 => name.len().to_string(),
                3 => format!("3/{}", &name[..1]),
                _ => format!("{}/{}", &name[..2], &name[2..4]),
            };
            let sum = line["cksum"].as_str().unwrap_or_default();
            dl.replace("{crate}", name)
                .replace("{version}", version)
                .replace("{prefix}", &prefix)
                .replace("{lowerprefix}", &prefix.to_lowercase())
                .replace("{sha256-checksum}", sum)
        } else {
            format!("{}/{name}/{version}/download", dl.trim_end_matches('/'))
        };
        Ok(Asset {
            file: format!("{name}-{version}.crate"),
            headers: self.0.login(&url),
            url,
            checksum: line["cksum"].as_str().map(|sum| format!("sha256:{sum}")),
            size: None,
        })
    }

    fn unpack(&self, _: &str, _: &str, _: &Asset) -> Result<Plan, Error> {
        Ok(Plan {
            archive: Archive::Tar,
            strip: 1,
            into: String::new(),
            only: Vec::new(),
            metadata: vec!["Cargo.toml".into()],
            layout: Layout::Alone,
        })
    }

    fn bins(&self, name: &str, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
        let content = entries
            .iter()
            .find(|entry| entry.path == "Cargo.toml")
            .and_then(|entry| entry.content.clone());
        let manifest = String::from_utf8(content.unwrap_or_default()).unwrap_or_default();
        // Cargo writes what it publishes anew: one key a line
        let mut names: Vec<String> = Vec::new();
        let mut section = "";
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if let Some(rest) = line.strip_prefix("name = \"").filter(|_| section == "[[bin]]") {
                names.extend(rest.split('"').next().map(String::from));
            }
        }
        if names.is_empty() {
            // what an older Cargo has published does not name those that Cargo finds
            names.extend(entries.iter().filter_map(|entry| found(name, &entry.path)));
        }
        let bin = |name| Bin {
            name,
            path: ".".into(),
            runner: Runner::Cargo,
        };
        Ok(names.into_iter().map(bin).collect())
    }
}

/// The program that Cargo makes of a file because of where it is.
fn found(name: &str, path: &str) -> Option<String> {
    if path == "src/main.rs" {
        return Some(name.into());
    }
    let rest = path.strip_prefix("src/bin/")?;
    let one = rest.strip_suffix("/main.rs").or(rest.strip_suffix(".rs"))?;
    (!one.contains('/')).then(|| one.into())
}
