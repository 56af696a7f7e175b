"""The reference of a WIT package: what its files say, interface by interface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from builder.markdown import Resolve, render
from builder.sources import ROOT, BuildError, Page

__all__ = ["render_index", "render_package"]

_ITEM = re.compile(r"^(?:@[a-z-]+\([^)]*\)\s*)*(?P<kind>interface|world) (?P<name>[a-z][a-z0-9-]*) \{$")
_PACKAGE = re.compile(r"^package (?P<name>[^;]+);$")


@dataclass
class _Item:
    kind: str
    name: str
    told: list[str]
    body: list[str]


def render_package(page: Page, resolve: Resolve) -> str:
    """Makes the page of a folder of WIT, and returns what the package is, in its first paragraph."""
    package = ""
    told: list[str] = []
    items: list[_Item] = []
    for file in sorted((ROOT / page.source).glob("*.wit")):
        found, about, more = _read(file.read_text("utf-8"))
        package, told = (found, about) if found else (package, told)
        items += more
    if not package:
        raise BuildError(f"{page.source}: no file in it says which package it is")
    text = [f"# {package}", "", *told, ""]
    for item in items:
        noun = "Interface" if item.kind == "interface" else "World"
        text += [f"## {noun} {item.name}", "", *item.told, "", "```wit", *item.body, "```", ""]
    render(page, "\n".join(text), resolve)
    page.label = package.partition("@")[0]
    return _first("\n".join(told))


def _read(text: str) -> tuple[str, list[str], list[_Item]]:
    """Name and description of the package, where a file has them, and its interfaces and worlds."""
    package = ""
    about: list[str] = []
    told: list[str] = []
    items: list[_Item] = []
    lines = iter(text.split("\n"))
    for line in lines:
        if line.startswith("///"):
            told.append(line[4:])
        elif found := _PACKAGE.match(line):
            package, about, told = found["name"], told, []
        elif found := _ITEM.match(line):
            items.append(_Item(found["kind"], found["name"], told, [line, *_until_closed(lines)]))
            told = []
        elif not line.startswith("@"):
            told = []
    return package, about, items


def _until_closed(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line == "}":
            return


def _first(text: str) -> str:
    """The first sentence or two: up to the first empty line."""
    return " ".join(text.split("\n\n")[0].split())


def render_index(page: Page, packages: list[tuple[Page, str]], resolve: Resolve) -> None:
    """Makes the list of all packages."""
    rows = [
        f"| [`{one.label}`](/{one.source}) | {told} |"
        for one, told in sorted(packages, key=lambda each: each[0].label)
    ]
    text = [
        "# WIT packages",
        "",
        "What components import and export, as loop-kit ships it. A package says what each function promises; the",
        "pages of its capability say how it is granted.",
        "",
        "| Package | What it is |",
        "| --- | --- |",
        *rows,
    ]
    render(page, "\n".join(text), lambda path: resolve(path.removeprefix("/")))
