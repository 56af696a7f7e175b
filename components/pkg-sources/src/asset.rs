//! Files of releases: which one is for a platform, and how it is packed.

use crate::exports::loop_::pkg::resolver::{Archive, Bin, Entry, Error, Layout, Plan, Platform, Runner};

const OS: [(&str, &[&str]); 3] = [
    ("linux", &["linux"]),
    ("darwin", &["darwin", "macos", "apple", "osx", "mac"]),
    ("windows", &["windows", "win64", "win32", "win"]),
];
const ARCH: [(&str, &[&str]); 2] = [
    ("x86_64", &["x86_64", "amd64", "x64", "64bit", "x86-64"]),
    ("aarch64", &["aarch64", "arm64", "armv8"]),
];
/// Processors that nothing here runs on.
const OTHER: &[&str] = &[
    "i686", "i386", "386", "x86_32", "arm", "armv6", "armv7", "armhf", "ppc64", "ppc64le", "s390x",
    "riscv64", "mips", "freebsd", "android",
];
/// Ends of what lies beside files.
const BESIDE: &[&str] = &[
    ".sha256",
    ".sha256sum",
    ".sha512",
    ".sha1",
    ".md5",
    ".asc",
    ".sig",
    ".pem",
    ".crt",
    ".json",
    ".txt",
    ".sbom",
    ".yml",
    ".yaml",
    ".deb",
    ".rpm",
    ".apk",
    ".msi",
    ".dmg",
    ".pkg",
    ".whl",
    ".b3",
    ".minisig",
    ".sigstore",
    ".intoto.jsonl",
    ".wasm",
];
const TAR: &[&str] = &[
    ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tar.zst", ".tzst", ".crate",
];

/// The last part of a URL's path.
pub fn file_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path).into()
}

/// Which of some files is for a platform: the best, if there is one.
pub fn best<'a>(names: impl Iterator<Item = &'a str>, platform: &Platform) -> Option<usize> {
    let mut found: Option<(i32, usize)> = None;
    for (index, name) in names.enumerate() {
        if let Some(score) = score(&name.to_lowercase(), platform)
            && found.is_none_or(|(most, _)| score > most)
        {
            found = Some((score, index));
        }
    }
    found.map(|(_, index)| index)
}

fn score(name: &str, platform: &Platform) -> Option<i32> {
    if BESIDE.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let words: Vec<&str> = name.split(['-', '.', '_', '+']).collect();
    // `x86_64` and `x86-64` are one word
    let has = |word: &&str| words.contains(word) || (word.contains(['_', '-']) && name.contains(*word));
    let mut score = 0;
    for (mine, known) in [
        (platform.os.as_str(), &OS[..]),
        (platform.arch.as_str(), &ARCH[..]),
    ] {
        let named: Vec<&str> = known
            .iter()
            .filter(|(_, words)| words.iter().any(&has))
            .map(|(name, _)| *name)
            .collect();
        // on a Mac without a processor's name: both
        let any = named.is_empty()
            && (mine == platform.os || words.contains(&"universal") || words.contains(&"all"));
        if !named.contains(&mine) && !any {
            return None;
        }
        score += if named.contains(&mine) { 100 } else { 1 };
    }
    if OTHER.iter().any(&has) {
        return None;
    }
    let mine = platform.libc.split('-').next().unwrap_or_default();
    score += match (mine, has(&"musl"), has(&"gnu")) {
        ("musl", false, true) => return None,
        ("musl", true, _) | ("gnu", false, true) => 20,
        ("gnu", true, _) => 5, // linked by itself, mostly
        _ => 10,
    };
    Some(score + if kind(name) == Archive::Plain { 0 } else { 2 })
}

/// How a file is packed, by its name.
pub fn kind(name: &str) -> Archive {
    let name = name.to_lowercase();
    if TAR.iter().any(|end| name.ends_with(end)) {
        Archive::Tar
    } else if name.ends_with(".zip") || name.ends_with(".whl") {
        Archive::Zip
    } else {
        Archive::Plain
    }
}

/// What is to be done with a file that holds programs.
pub fn plan(file: &str, strip: Option<u32>) -> Plan {
    Plan {
        archive: kind(file),
        strip: strip.unwrap_or(0),
        into: String::new(),
        only: Vec::new(),
        metadata: Vec::new(),
        layout: Layout::Alone,
    }
}

/// The programs: those named, or those that may be run.
pub fn programs(name: &str, named: Option<&[String]>, entries: &[Entry]) -> Result<Vec<Bin>, Error> {
    let base = |path: &str| {
        path.rsplit('/')
            .next()
            .unwrap_or(path)
            .trim_end_matches(".exe")
            .to_string()
    };
    let bin = |name: String, path: &str| Bin {
        name,
        path: path.into(),
        runner: Runner::Native,
    };
    if let Some(named) = named {
        return named
            .iter()
            .map(|wanted| {
                let mut found = entries
                    .iter()
                    .filter(|entry| entry.path == *wanted || base(&entry.path) == base(wanted));
                found
                    .next()
                    .map(|entry| bin(base(wanted), &entry.path))
                    .ok_or_else(|| Error::NotFound(format!("there is no program {wanted} in {name}")))
            })
            .collect();
    }
    let script = |path: &str| {
        [".sh", ".bash", ".zsh", ".fish", ".ps1", ".so", ".dylib", ".dll"]
            .iter()
            .any(|end| path.ends_with(end))
    };
    let runs = entries
        .iter()
        .filter(|entry| entry.executable && !script(&entry.path));
    let mut bins: Vec<Bin> = runs.map(|entry| bin(base(&entry.path), &entry.path)).collect();
    if let [only] = entries
        && bins.is_empty()
    {
        bins.push(bin(String::new(), &only.path));
    }
    // a program that is not packed has its platform in its name
    let bare = name.rsplit('/').next().unwrap_or(name);
    if let ([only], [entry]) = (&mut bins[..], entries)
        && (only.name.is_empty() || (!entry.path.contains('/') && only.name.starts_with(bare)))
    {
        only.name = bare.into();
    }
    Ok(bins)
}

/// Hexadecimal digits of what base64 has; None: it is none.
pub fn hex_of_base64(text: &str) -> Option<String> {
    let mut hex = String::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            hex.push_str(&format!("{:02x}", bits >> count & 0xff));
        }
    }
    Some(hex)
}

/// The digest of a file in a list of digests: a line of one with its name, or the only word.
pub fn listed(text: &str, file: &str) -> Option<String> {
    let digest = |word: &str| [64, 128].contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut alone = None;
    for words in lines {
        match words[..] {
            [sum, name] if digest(sum) && name.trim_start_matches(['*', '.', '/']) == file => {
                return Some(sum.to_lowercase());
            }
            [sum] if digest(sum) && text.lines().count() == 1 => alone = Some(sum.to_lowercase()),
            _ => {}
        }
    }
    alone
}

/// Whether a digest, in hexadecimal digits, is one of what came.
pub fn compare(file: &str, wanted: &str, digests: &[(String, String)]) -> Result<bool, Error> {
    let algorithm = if wanted.len() == 64 { "sha256" } else { "sha512" };
    let found = digests.iter().find(|(name, _)| name == algorithm);
    match found {
        Some((_, value)) if value == wanted => Ok(true),
        Some((_, value)) => Err(Error::Protocol(format!(
            "{file} is {algorithm}:{value}, and its source says {algorithm}:{wanted}"
        ))),
        None => Ok(false),
    }
}
