//! What is Python's own: names, ranges, the tags of wheels, and what a package needs where.

use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

use crate::exports::loop_::pkg::resolver::{Error, Need, Platform};

/// A name as indexes have it: `Foo._bar` is `foo-bar`.
pub fn normal(name: &str) -> String {
    plain(extras(name).0)
}

fn plain(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// A name, and the extras that stand behind it.
pub fn extras(name: &str) -> (&str, Vec<String>) {
    let (bare, rest) = name.split_once('[').unwrap_or((name, ""));
    let extras = rest
        .trim_end_matches(']')
        .split(',')
        .map(|extra| plain(extra.trim()));
    (bare.trim(), extras.filter(|extra| !extra.is_empty()).collect())
}

/// A URL as it is seen from a page.
pub fn joined(page: &str, url: &str) -> String {
    if url.contains("://") {
        return url.into();
    }
    let origin = crate::http::origin(page);
    let path = if url.starts_with('/') {
        url.into()
    } else {
        format!("{}{url}", &page[origin.len()..])
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    format!("{origin}/{}", parts.join("/"))
}

/// A range as PEP 440 has it, of what people write: `1.2` is `==1.2.*`, `^1.2` is `>=1.2,<2`.
pub fn specifiers(text: &str) -> String {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('^') {
        let parts: Vec<u64> = rest.split('.').map_while(|part| part.parse().ok()).collect();
        let kept = parts
            .iter()
            .position(|part| *part != 0)
            .unwrap_or(parts.len().saturating_sub(1));
        let mut end: Vec<String> = parts.iter().take(kept + 1).map(u64::to_string).collect();
        if let Some(last) = end.last_mut() {
            *last = (parts[kept] + 1).to_string();
            return format!(">={rest},<{}", end.join("."));
        }
    }
    if let Some(rest) = text.strip_prefix('~').filter(|rest| !rest.starts_with('=')) {
        return if rest.contains('.') {
            format!("~={rest}.0")
        } else {
            format!("=={rest}.*")
        };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains([',', ' ']) {
        let short = text.split('.').count() < 3 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        return if short && !text.ends_with('*') {
            format!("=={text}.*")
        } else {
            format!("=={text}")
        };
    }
    // as npm's are written, with spaces for commas
    let words: Vec<&str> = text.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    words.join(",")
}

/// How well a wheel fits a platform; None: not at all.
pub fn fits(wheel: &str, platform: &Platform) -> Option<u32> {
    let mut parts = wheel.strip_suffix(".whl")?.rsplit('-');
    let (systems, abis, pythons) = (parts.next()?, parts.next()?, parts.next()?);
    let minor: u32 = platform
        .python
        .strip_prefix("3.")
        .and_then(|rest| rest.split('.').next()?.parse().ok())?;
    let own = format!("cp3{minor}");
    let python = pythons
        .split('.')
        .filter_map(|tag| match tag {
            "py3" | "py2.py3" => Some(1),
            _ if tag == own => Some(if abis.contains("none") { 2 } else { 4 }),
            _ => {
                let of: u32 = tag
                    .strip_prefix("cp3")
                    .or(tag.strip_prefix("py3"))?
                    .parse()
                    .ok()?;
                let stable = abis.split('.').any(|abi| abi == "abi3") || abis == "none";
                (stable && of <= minor).then_some(2)
            }
        })
        .max()?;
    if !abis
        .split('.')
        .any(|abi| abi == "none" || abi == "abi3" || abi == own)
    {
        return None;
    }
    let system = systems.split('.').filter_map(|tag| system(tag, platform)).max()?;
    Some(python * 1000 + system)
}

/// How well the system of a wheel fits.
fn system(tag: &str, platform: &Platform) -> Option<u32> {
    if tag == "any" {
        return Some(1);
    }
    let mac = if platform.arch == "aarch64" {
        "arm64"
    } else {
        "x86_64"
    };
    match platform.os.as_str() {
        "darwin" => {
            let rest = tag.strip_prefix("macosx_")?;
            let fit = rest.ends_with(mac)
                || rest.ends_with("universal2")
                || (mac == "x86_64" && rest.ends_with("intel"));
            fit.then_some(if rest.ends_with(mac) { 20 } else { 10 })
        }
        "windows" => {
            let name = if platform.arch == "aarch64" {
                "win_arm64"
            } else {
                "win_amd64"
            };
            (tag == name).then_some(20)
        }
        _ => {
            let rest = tag.strip_suffix(&format!("_{}", platform.arch))?;
            let (libc, version) = platform.libc.split_once('-').unwrap_or((&platform.libc, "2.28"));
            let most: u32 = version
                .split('.')
                .nth(1)
                .and_then(|part| part.parse().ok())
                .unwrap_or(28);
            let needs = match (libc, rest) {
                (_, "linux") => 0,
                ("gnu", "manylinux1") => 5,
                ("gnu", "manylinux2010") => 12,
                ("gnu", "manylinux2014") => 17,
                ("gnu", _) => rest.strip_prefix("manylinux_2_")?.parse().ok()?,
                // every musl that is about is newer than what wheels ask for
                ("musl", _) => rest.strip_prefix("musllinux_1_")?.parse().ok()?,
                _ => return None,
            };
            (libc == "musl" || needs <= most).then_some(10 + needs)
        }
    }
}

/// What one `Requires-Dist` asks for on a platform; none, where it is not for it, or for none of the extras.
pub fn requirement(line: &str, platform: &Platform, extras: &[String]) -> Result<Option<Need>, Error> {
    let (wanted, marker) = line.split_once(';').unwrap_or((line, ""));
    if !marker.trim().is_empty() {
        let mut holds = Marker::holds(marker, platform, "")?;
        for extra in extras {
            holds |= Marker::holds(marker, platform, extra)?;
        }
        if !holds {
            return Ok(None);
        }
    }
    if wanted.contains(" @ ") {
        return Err(Error::Invalid(format!(
            "{wanted:?} is needed from a place that is no index"
        )));
    }
    let end = wanted
        .find(['(', '<', '>', '=', '!', '~', ' '])
        .unwrap_or(wanted.len());
    // extras of what is needed stand in brackets, without a space or behind one
    let (name, range) = match wanted.find(']') {
        Some(at) => wanted.split_at(at + 1),
        None => wanted.split_at(end),
    };
    let range = range.trim().trim_start_matches('(').trim_end_matches(')').trim();
    let name: String = name.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(Some(need(with_extras(&name), range)))
}

/// A package that is needed.
pub fn need(name: String, range: &str) -> Need {
    Need {
        real: name.clone(),
        name,
        range: range.into(),
        optional: false,
    }
}

/// A name as indexes have it, with its extras: `foo-bar[one,two]`.
fn with_extras(name: &str) -> String {
    let (_, mut extras) = extras(name);
    extras.sort();
    let bare = normal(name);
    if extras.is_empty() {
        bare
    } else {
        format!("{bare}[{}]", extras.join(","))
    }
}

/// Reads the condition behind a requirement (PEP 508).
struct Marker<'a> {
    words: Vec<&'a str>,
    at: usize,
    platform: &'a Platform,
    extra: &'a str,
}

impl<'a> Marker<'a> {
    fn holds(text: &'a str, platform: &'a Platform, extra: &'a str) -> Result<bool, Error> {
        let mut marker = Marker {
            words: words(text),
            at: 0,
            platform,
            extra,
        };
        let found = marker.any().filter(|_| marker.at == marker.words.len());
        found.ok_or_else(|| Error::Protocol(format!("the condition {text:?} makes no sense")))
    }

    fn next(&mut self) -> Option<&'a str> {
        self.at += 1;
        self.words.get(self.at - 1).copied()
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Option<bool> {
        let mut holds = self.all()?;
        while self.takes("or") {
            holds |= self.all()?;
        }
        Some(holds)
    }

    fn all(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.takes("and") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    fn one(&mut self) -> Option<bool> {
        if self.takes("(") {
            let holds = self.any()?;
            return self.takes(")").then_some(holds);
        }
        let left = self.next()?;
        let mut op = self.next()?.to_string();
        if op == "not" {
            op = format!("not {}", self.next()?);
        }
        let right = self.next()?;
        let of_version = [left, right]
            .iter()
            .any(|word| word.contains("_version") && !word.starts_with('_'));
        let (mut a, mut b) = (self.value(left), self.value(right));
        if [left, right].contains(&"extra") {
            (a, b) = (plain(&a), plain(&b));
        }
        if of_version && !op.ends_with("in") {
            let turned = left.starts_with(['"', '\'']);
            let (version, range) = if turned { (b, a) } else { (a, b) };
            if turned {
                op = op
                    .chars()
                    .map(|c| {
                        if c == '<' {
                            '>'
                        } else if c == '>' {
                            '<'
                        } else {
                            c
                        }
                    })
                    .collect();
            }
            if let (Ok(version), Ok(range)) = (
                Version::from_str(&version),
                VersionSpecifiers::from_str(&format!("{op}{range}")),
            ) {
                return Some(range.contains(&version));
            }
            return Some(false);
        }
        Some(match op.as_str() {
            "==" | "===" => a == b,
            "!=" => a != b,
            "in" => b.contains(&a),
            "not in" => !b.contains(&a),
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            ">=" => a >= b,
            _ => return None,
        })
    }

    fn value(&self, word: &str) -> String {
        if let Some(text) = word.strip_prefix(['"', '\'']) {
            return text.into();
        }
        let Platform { os, arch, python, .. } = self.platform;
        match word {
            "python_version" => python.clone(),
            "python_full_version" | "implementation_version" => format!("{python}.0"),
            "os_name" => if os == "windows" { "nt" } else { "posix" }.into(),
            "sys_platform" => if os == "windows" { "win32" } else { os }.into(),
            "platform_system" => match os.as_str() {
                "windows" => "Windows",
                "darwin" => "Darwin",
                _ => "Linux",
            }
            .into(),
            "platform_machine" => match (os.as_str(), arch.as_str()) {
                ("darwin", "aarch64") => "arm64",
                ("windows", "x86_64") => "AMD64",
                ("windows", _) => "ARM64",
                (_, arch) => arch,
            }
            .into(),
            "platform_python_implementation" => "CPython".into(),
            "implementation_name" => "cpython".into(),
            "extra" => self.extra.into(),
            _ => String::new(),
        }
    }
}

/// The words of a condition; a text begins with its quote, which its end lacks.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (length, skipped) = match first {
            '(' | ')' => (1, 0),
            '"' | '\'' => (rest[1..].find(first).map_or(rest.len(), |at| at + 1), 1),
            '<' | '>' | '=' | '!' | '~' => (rest.find(|c| !"<>=!~".contains(c)).unwrap_or(rest.len()), 0),
            _ => (
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
                    .unwrap_or(rest.len())
                    .max(first.len_utf8()),
                0,
            ),
        };
        words.push(&rest[..length]);
        rest = rest.get(length + skipped..).unwrap_or_default().trim_start();
    }
    words
}
