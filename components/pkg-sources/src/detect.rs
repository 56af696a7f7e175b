//! Files in which people ask for versions.

use serde_json::Value;

use crate::exports::loop_::pkg::resolver::{Asked, Error};

/// Those that a kind of source looks at.
pub fn files(kind: &str) -> Vec<String> {
    let names: &[&str] = match kind {
        "npm" => &[".nvmrc", ".node-version", "package.json"],
        "pypi" => &[".python-version"],
        "crates" => &["rust-toolchain", "rust-toolchain.toml"],
        "go" => &["go.mod"],
        _ => &[".tool-versions"],
    };
    names.iter().map(|name| (*name).into()).collect()
}

/// What one of them asks for.
pub fn asked(kind: &str, file: &str, content: &[u8]) -> Result<Vec<Asked>, Error> {
    let text = std::str::from_utf8(content).map_err(|_| Error::Invalid(format!("{file} is no text")))?;
    let one = |name: &str, range: &str| {
        vec![Asked {
            name: name.into(),
            range: range.trim().into(),
        }]
    };
    let first = || {
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let value = |key: &str| {
        let line = text
            .lines()
            .map(str::trim)
            .find_map(|line| line.strip_prefix(key));
        line.map(|rest| rest.trim_matches([' ', '=', '"', '\'']).to_string())
    };
    Ok(match (kind, file) {
        ("npm", "package.json") => {
            let package: Value =
                serde_json::from_str(text).map_err(|e| Error::Invalid(format!("{file} is no JSON: {e}")))?;
            let manager = package["packageManager"]
                .as_str()
                .and_then(|text| text.split_once('@'));
            let manager =
                manager.map(|(name, version)| one(name, version.split('+').next().unwrap_or(version)));
            manager.unwrap_or_default()
        }
        ("npm", _) => first()
            .map(|range| one("node", range.trim_start_matches('v')))
            .unwrap_or_default(),
        ("pypi", _) => first().map(|range| one("python", range)).unwrap_or_default(),
        ("crates", "rust-toolchain.toml") => value("channel")
            .map(|range| one("rust", &range))
            .unwrap_or_default(),
        ("crates", _) => first().map(|range| one("rust", range)).unwrap_or_default(),
        ("go", _) => value("toolchain ")
            .or_else(|| value("go "))
            .map(|range| one("go", range.trim_start_matches("go")))
            .unwrap_or_default(),
        _ => {
            let lines = text
                .lines()
                .map(|line| line.split('#').next().unwrap_or_default());
            let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
            words
                .filter(|words| words.len() > 1)
                .flat_map(|words| one(words[0], words[1]))
                .collect()
        }
    })
}
