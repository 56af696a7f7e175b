//! Ranges of versions, as npm has them: `^1.2`, `~1.2`, `1.x`, `>=1 <3 || 5`, `1.2 - 1.4`.

use semver::{Prerelease, Version};

use crate::exports::loop_::pkg::resolver::{Error, Release};

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// A range: any of these lists, of which all must hold.
pub struct Range(Vec<Vec<(Op, Version)>>);

/// A version of which the end may be missing.
struct Partial {
    parts: [Option<u64>; 3],
    pre: Prerelease,
}

impl Range {
    /// None: it is no range.
    pub fn parse(text: &str) -> Option<Range> {
        text.split("||").map(all_of).collect::<Option<_>>().map(Range)
    }

    /// Whether a version is in it. One to try things out must be named by one of its own release.
    pub fn has(&self, version: &Version) -> bool {
        self.0.iter().any(|all| {
            let core = (version.major, version.minor, version.patch);
            let named = all
                .iter()
                .any(|(_, at)| !at.pre.is_empty() && (at.major, at.minor, at.patch) == core);
            all.iter().all(|(op, at)| op.holds(version, at)) && (version.pre.is_empty() || named)
        })
    }
}

impl Op {
    fn holds(self, version: &Version, at: &Version) -> bool {
        let order = version.cmp_precedence(at);
        match self {
            Op::Less => order.is_lt(),
            Op::AtMost => order.is_le(),
            Op::Equal => order.is_eq(),
            Op::AtLeast => order.is_ge(),
            Op::More => order.is_gt(),
        }
    }
}

fn all_of(text: &str) -> Option<Vec<(Op, Version)>> {
    if let Some((from, to)) = text.split_once(" - ") {
        let (from, to) = (Partial::parse(from.trim())?, Partial::parse(to.trim())?);
        let mut all = vec![(Op::AtLeast, from.filled())];
        match to.parts {
            [None, ..] => {}
            [.., Some(_)] => all.push((Op::AtMost, to.filled())),
            _ => all.push((Op::Less, to.after()?)),
        }
        return Some(all);
    }
    let mut all = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let rest = word.trim_start_matches(['<', '>', '=', '^', '~']);
        let sign = &word[..word.len() - rest.len()];
        // a sign may stand apart from its version
        let rest = if rest.is_empty() && !sign.is_empty() {
            words.next()?
        } else {
            rest
        };
        all.extend(one(sign, &Partial::parse(rest)?)?);
    }
    Some(all)
}

fn one(sign: &str, partial: &Partial) -> Option<Vec<(Op, Version)>> {
    let [major, minor, patch] = partial.parts;
    let Some(major) = major else {
        // nothing is less or more than any
        let none = matches!(sign, "<" | ">");
        return Some(if none {
            vec![(Op::Less, floor(0, 0, 0))]
        } else {
            Vec::new()
        });
    };
    let least = partial.filled();
    let whole = patch.is_some();
    Some(match sign {
        "" | "=" | "==" if whole => vec![(Op::Equal, least)],
        "" | "=" | "==" => vec![(Op::AtLeast, least), (Op::Less, partial.after()?)],
        ">" if whole => vec![(Op::More, least)],
        ">" => {
            let after = partial.after()?;
            vec![(Op::AtLeast, Version::new(after.major, after.minor, after.patch))]
        }
        ">=" => vec![(Op::AtLeast, least)],
        "<" if whole => vec![(Op::Less, least)],
        "<" => vec![(Op::Less, floor(major, minor.unwrap_or(0), 0))],
        "<=" if whole => vec![(Op::AtMost, least)],
        "<=" => vec![(Op::Less, partial.after()?)],
        "~" | "~>" => {
            let end = match minor {
                None => floor(major.checked_add(1)?, 0, 0),
                Some(minor) => floor(major, minor.checked_add(1)?, 0),
            };
            vec![(Op::AtLeast, least), (Op::Less, end)]
        }
        "^" => {
            let end = match (major, minor, patch) {
                (0, Some(0), Some(patch)) => floor(0, 0, patch.checked_add(1)?),
                (0, Some(minor), _) => floor(0, minor.checked_add(1)?, 0),
                _ => floor(major.checked_add(1)?, 0, 0),
            };
            vec![(Op::AtLeast, least), (Op::Less, end)]
        }
        _ => return None,
    })
}

/// What comes before all of a release, those to try things out included.
fn floor(major: u64, minor: u64, patch: u64) -> Version {
    Version {
        pre: Prerelease::new("0").unwrap_or_default(),
        ..Version::new(major, minor, patch)
    }
}

impl Partial {
    fn parse(text: &str) -> Option<Partial> {
        let text = text.trim_start_matches(['v', '=', 'V']);
        let text = text.split_once('+').map_or(text, |(text, _)| text);
        let (core, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = [None; 3];
        let mut open = false;
        for (index, part) in core.split('.').enumerate() {
            let any = matches!(part, "" | "x" | "X" | "*");
            if index >= 3 || (part.is_empty() && core.contains('.')) {
                return None;
            }
            open |= any;
            if !open {
                parts[index] = Some(part.parse().ok()?);
            } else if !any && part.parse::<u64>().is_err() {
                return None;
            }
        }
        let pre = if parts[2].is_some() {
            Prerelease::new(pre).ok()?
        } else {
            Prerelease::EMPTY
        };
        Some(Partial { parts, pre })
    }

    fn filled(&self) -> Version {
        let [major, minor, patch] = self.parts.map(|part| part.unwrap_or(0));
        Version {
            pre: self.pre.clone(),
            ..Version::new(major, minor, patch)
        }
    }

    /// What comes after all that it may stand for, where its end is missing.
    fn after(&self) -> Option<Version> {
        let [major, minor, _] = self.parts;
        Some(match (major?, minor) {
            (major, None) => floor(major.checked_add(1)?, 0, 0),
            (major, Some(minor)) => floor(major, minor.checked_add(1)?, 0),
        })
    }
}

/// A version as people write it: `v1.2`, `14`, `1.2.3.4-rc1`; None: it is none.
pub fn loose(text: &str) -> Option<Version> {
    let text = text.trim_start_matches(['v', 'V']);
    if let Ok(version) = Version::parse(text) {
        return Some(version);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts = [0; 3];
    for (index, part) in core.trim_end_matches('.').split('.').enumerate() {
        let number = part.parse().ok()?;
        if index < 3 {
            parts[index] = number;
        }
    }
    let kept: String = rest
        .trim_start_matches(['-', '_', '.'])
        .split('+')
        .next()?
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '.' })
        .collect();
    let pre = Prerelease::new(&kept).unwrap_or_default();
    Some(Version {
        pre,
        ..Version::new(parts[0], parts[1], parts[2])
    })
}

/// Releases of these versions, the oldest first; what is no version is left out.
pub fn ordered(versions: impl Iterator<Item = (String, bool)>) -> Vec<Release> {
    let mut known: Vec<(Version, Release)> = versions
        .filter_map(|(version, yanked)| {
            let order = loose(&version)?;
            let prerelease = !order.pre.is_empty();
            Some((
                order,
                Release {
                    version,
                    prerelease,
                    yanked,
                },
            ))
        })
        .collect();
    known.sort_by(|(a, _), (b, _)| a.cmp(b));
    known.into_iter().map(|(_, release)| release).collect()
}

/// Those that are in all ranges, the newest first.
pub fn fitting(name: &str, releases: Vec<Release>, ranges: &[String]) -> Result<Vec<String>, Error> {
    let exact = |release: &Release| {
        ranges
            .iter()
            .any(|range| range.trim_start_matches('=') == release.version)
    };
    let mut parsed = Vec::new();
    for range in ranges
        .iter()
        .filter(|range| !matches!(range.trim(), "" | "*" | "latest"))
    {
        let one = Range::parse(range).ok_or_else(|| {
            Error::Invalid(format!(
                "{range:?} is no range of versions such as ^1.2, ~1.2, 1.x or >=1 <3"
            ))
        })?;
        parsed.push((range, one));
    }
    let fits = |release: &&Release| {
        let Some(version) = loose(&release.version) else {
            return false;
        };
        let free = parsed.is_empty() && version.pre.is_empty();
        free || (!parsed.is_empty()
            && parsed
                .iter()
                .all(|(text, range)| range.has(&version) || text.trim_start_matches('=') == release.version))
    };
    let newest = || releases.iter().rev().filter(|one| !one.yanked || exact(one));
    let mut found: Vec<&Release> = newest().filter(fits).collect();
    if found.is_empty() && parsed.is_empty() {
        // where there is nothing else, what is to try things out is better than nothing
        found = newest().collect();
    }
    if found.is_empty() {
        return Err(missing(name, &releases, ranges));
    }
    Ok(found.into_iter().map(|release| release.version.clone()).collect())
}

/// Says that no version does, and which are near.
pub fn missing(name: &str, releases: &[Release], ranges: &[String]) -> Error {
    let wanted: Vec<_> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .map(String::as_str)
        .collect();
    let known: Vec<_> = releases
        .iter()
        .rev()
        .filter(|one| !one.prerelease && !one.yanked)
        .take(3)
        .collect();
    let known: Vec<_> = known.iter().map(|one| one.version.as_str()).collect();
    let known = if known.is_empty() {
        "there is none".into()
    } else {
        format!("the newest are {}", known.join(", "))
    };
    Error::NotFound(format!(
        "no version of {name} is in {}; {known}",
        wanted.join(" and ")
    ))
}
