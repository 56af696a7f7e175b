"""`bind` of a component or a provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loop_kit.manifest import model
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._shape import Cursor, Field, ListOf, Table, Text
from loop_kit.manifest._text import FILE, TEXT, absolute
from loop_kit.manifest._toml import string

__all__ = ["BIND", "check_bindings"]

_LANGUAGES = ("python", "typescript")


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    if not any(language in raw for language in _LANGUAGES):
        at.problem('names no file to write: give "python" or "typescript"')
    if "world" in raw and "interfaces" in raw:
        at.problem('name a "world" or "interfaces", not both')


BIND = Table(
    "bind",
    "Types of WIT for the member's code: written by `loop bind`, and by `loop dev` when the WIT changes.",
    model.Bind,
    {
        "wit": Field(
            FILE, "File or folder of WIT, or a component, if not the folder `wit` of the member's code."
        ),
        "python": Field(
            Text(
                'a Python module to write, such as "src/bindings.py"',
                r"^[^\u0000]*[^\u0000/]\.py$",
                absolute,
                ("src/bindings.py",),
            ),
            "The Python module to write: dataclasses and Protocols.",
        ),
        "typescript": Field(
            Text(
                'declarations to write, such as "src/bindings.d.ts"',
                r"^[^\u0000]*[^\u0000/]\.d\.[cm]?ts$",
                absolute,
                ("src/bindings.d.ts",),
            ),
            "The declarations to write: of a component those for its own code, of a provider those for Node.js.",
        ),
        "world": Field(TEXT, "The world whose imports and exports are wanted; all of the package if absent."),
        "interfaces": Field(ListOf(TEXT, minimum=1), "The interfaces that are wanted."),
    },
    verify=_verify,
    also={
        "anyOf": [{"required": [language]} for language in _LANGUAGES],
        "not": {"required": ["world", "interfaces"]},
    },
)


def check_bindings(raw: Mapping[str, Any], at: Cursor) -> None:
    """Reports files that two members would write."""
    owners: dict[Path, str] = {}
    for keys, path in _files(raw, at):
        owner = ".".join(map(str, keys[:2]))
        first = owners.setdefault(path, owner)
        if first != owner:
            message = f"{string(str(path))} is written by {first} already"
            at.report.append(at.source.problem(keys, message, at="value", place=keys))


def _files(raw: Mapping[str, Any], at: Cursor) -> Iterator[tuple[Keys, Path]]:
    for kind in ("components", "providers"):
        members = raw.get(kind)
        for name, member in members.items() if isinstance(members, dict) else ():
            bind = member.get("bind") if isinstance(member, dict) else None
            for language, path in bind.items() if isinstance(bind, dict) else ():
                if language in _LANGUAGES and isinstance(path, str):
                    yield (kind, name, "bind", language), absolute(path, at)
