"""Which files of the repository become which pages, and how they are listed."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "BuildError", "Page", "Section", "listed", "pages", "sections"]

ROOT = Path(__file__).resolve().parents[3]

# What a file, or the only star in it, becomes. The first that matches decides.
_PAGES = (
    ("docs/*.md", "*.html"),
    ("docs/adr/README.md", "adr/index.html"),
    ("docs/adr/*.md", "adr/*.html"),
    ("CHANGELOG.md", "changelog.html"),
    ("CONTRIBUTING.md", "contributing.html"),
    ("SECURITY.md", "security.html"),
    ("components/README.md", "components.html"),
    ("python/loop_kit/capabilities/*/README.md", "capabilities/*.html"),
    ("examples/*/README.md", "examples/*.html"),
    ("sdk/*/README.md", "sdk/*.html"),
    ("wit/loop/README.md", "wit/released.html"),
)
# Folders with the WIT of one package.
_WIT = (
    "python/loop_kit/wit",
    "python/loop_kit/capabilities/*/wit",
    "components/*/wit",
)
_PACKAGE = re.compile(r"^package ([a-z][a-z0-9-]*:[a-z][a-z0-9-]*)", re.MULTILINE)
_ROW = re.compile(r"^\| \[(?P<label>[^\]]+)\]\((?P<path>[^)#]+)\) \| (?P<told>.+) \|$", re.MULTILINE)


class BuildError(Exception):
    """A source says something that cannot be made: which file, where, and what would help."""


@dataclass
class Page:
    """A page of the site.

    Attributes:
        source: Its file, or its folder of WIT, from the checkout.
        url: Where it is, from the site's own folder.
        label: What lists call it; the title, where they say nothing.
        told: What it tells, in a line of Markdown; empty where no list says it.
        title: Its first heading, as text.
        html: Its text.
        headings: Level, anchor and HTML of each heading but the first.
        anchors: All that can be linked to in it.
        links: Line, URL of a page and anchor of each link to another place of the site.
        words: Anchor, heading and text of each section, for the search.
    """

    source: str
    url: str
    label: str = ""
    told: str = ""
    title: str = ""
    html: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[int, str, str]] = field(default_factory=list)
    words: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Section:
    """Pages that are listed together."""

    title: str
    pages: list[Page]


def pages() -> dict[str, Page]:
    """All pages by their source, before they are made."""
    made: dict[str, Page] = {}
    for pattern, url in _PAGES:
        before, _, after = pattern.partition("*")
        for path in sorted(ROOT.glob(pattern)):
            source = path.relative_to(ROOT).as_posix()
            name = source.removeprefix(before).removesuffix(after) if "*" in pattern else ""
            made.setdefault(source, Page(source, url.replace("*", name)))
    for pattern in _WIT:
        for folder in sorted(ROOT.glob(pattern)):
            if folder.parent.name.startswith("test-"):
                continue
            source = folder.relative_to(ROOT).as_posix()
            name = _package(folder)
            made[source] = Page(source, f"wit/{name.replace(':', '-')}.html", label=name)
    made["wit"] = Page("wit", "wit/index.html")
    for row in _ROW.finditer((ROOT / "docs/index.md").read_text("utf-8")):
        page = made.get(f"docs/{row['path']}")
        if page is None:
            raise BuildError(f"docs/index.md: lists {row['path']}, and there is no such file")
        page.label, page.told = row["label"].replace("`", ""), row["told"]
    return made


def _package(folder: Path) -> str:
    for file in sorted(folder.glob("*.wit")):
        if found := _PACKAGE.search(file.read_text("utf-8")):
            return found[1]
    raise BuildError(f"{folder.relative_to(ROOT)}: no file in it says which package it is")


def sections(made: dict[str, Page]) -> list[Section]:
    """How pages are listed: as `nav.toml` says, and what it does not name of `docs` comes last."""
    told = tomllib.loads((Path(__file__).parents[1] / "nav.toml").read_text("utf-8"))
    found, seen = [], set()
    for section in told["section"]:
        chosen = []
        for entry in section["pages"]:
            source, _, label = entry.partition(" = ")
            if source not in made:
                raise BuildError(f"web/docs/nav.toml: names {source}, and there is no such page")
            made[source].label = label or made[source].label
            chosen.append(made[source])
            seen.add(source)
        found.append(Section(section["title"], chosen))
    left = [
        page
        for source, page in made.items()
        if re.fullmatch(r"docs/[^/]+\.md", source) and source not in {*seen, "docs/index.md"}
    ]
    return [*found, Section("More", left)] if left else found


def listed(page: Page) -> str:
    """The source of the page that stands for this one in lists: that of its folder, if it is in none itself."""
    if page.url.startswith("adr/"):
        return "docs/adr/README.md"
    return "wit" if page.url.startswith("wit/") else page.source
