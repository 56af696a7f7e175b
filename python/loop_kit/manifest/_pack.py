"""`pack` of a component or a provider: what its package says and holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loop_kit.manifest import model
from loop_kit.manifest._match import IMPORT_PATTERN
from loop_kit.manifest._shape import Choice, Cursor, Either, Field, Free, ListOf, MapOf, Table, Text
from loop_kit.manifest._text import FILE, SOURCE, TEXT
from loop_kit.manifest._toml import string

__all__ = ["COMPONENT_PACK", "MACHINES", "PROVIDER_PACK", "SYSTEMS", "TRIPLE", "is_licence"]

MACHINES = (
    "x86_64", "aarch64", "armv7", "arm", "i686", "i586", "riscv64gc", "s390x", "powerpc64le", "loongarch64",
)  # fmt: skip
SYSTEMS = ("linux", "darwin", "windows", "freebsd")
"""What is known of the first part, and of one of the others, of a target as compilers name it."""

TRIPLE = rf"^({'|'.join(MACHINES)})(-[a-z0-9_.]+)?-({'|'.join(SYSTEMS)})(-[a-z0-9_.]+)?$"

_ID = r"[A-Za-z0-9][A-Za-z0-9.+-]*(:[A-Za-z0-9.+-]+)?"
_WORD = re.compile(rf"\s*(?:(\()|(\))|({_ID}))")

_VERSION = Text(
    'a version such as "1.4.0"',
    r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$",
    examples=("1.4.0", "1.5.0-rc.1"),
)
TARGET = Text(
    'a target such as "aarch64-unknown-linux-musl"', TRIPLE, examples=("aarch64-unknown-linux-musl",)
)
_INTERFACE = Text(
    'an interface such as "acme:kv/store@0.1.0"',
    r"^[a-z][a-z0-9-]*:[a-z][a-z0-9-]*/[a-z][a-z0-9-]*(@[0-9A-Za-z.+-]+)?$",
    examples=("acme:kv/store@0.1.0",),
)


def _licence(text: str, at: Cursor) -> str:
    if not is_licence(text):
        at.problem(
            f"{string(text[:60])} is no SPDX expression",
            'write one such as "Apache-2.0", "MIT OR Apache-2.0" or "LicenseRef-acme"',
        )
    return text


def is_licence(text: str) -> bool:
    """Whether a text is formed as an expression of SPDX: identifiers with AND, OR, WITH and parentheses."""
    depth, operand, at = 0, False, 0
    text = text.rstrip()
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            return False
        at = found.end()
        operator = found[3] in ("AND", "OR", "WITH")
        if found[1] or (found[3] and not operator):
            if operand:
                return False
            depth, operand = depth + bool(found[1]), not found[1]
        elif found[2]:
            if not operand or not depth:
                return False
            depth -= 1
        elif not operand:
            return False
        else:
            operand = False
    return operand and not depth


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    if "build" in raw and "program" not in raw:
        hint = 'add `program`: what it makes, such as "target/{target}/release/kv"'
        at.problem('"build" makes a program, and none is named', hint, at="key", child="build")
    if "targets" in raw and "program" not in raw:
        hint = "add `program`, with {target}, or {os} and {arch}, in it"
        at.problem('"targets" are those of a program, and none is named', hint, at="key", child="targets")


_COMMON = {
    "version": Field(
        _VERSION, "Its version; that of its package.json, pyproject.toml or Cargo.toml if absent."
    ),
    "description": Field(TEXT, "What it is, in a line."),
    "license": Field(
        Text("an SPDX expression", r"^[^\u0000]+$", _licence, ("Apache-2.0",)),
        "Its licence, as an SPDX expression; as `version` if absent.",
    ),
    "source": Field(TEXT, "Where its source code is: a URL."),
    "grants": Field(
        MapOf(
            Free(),
            key_pattern=IMPORT_PATTERN,
            key_expects='an import such as "loop:fsx", "loop:fsx/files" or "loop:fsx/files@0.1.0"',
        ),
        "What must be granted for it to work, by import; shown to whoever is about to use it.",
    ),
}

COMPONENT_PACK = Table(
    "pack",
    "What `loop pack` says of the component, beyond what it says itself.",
    lambda **values: model.Pack(**values),
    _COMMON,
)

PROVIDER_PACK = Table(
    "provider-pack",
    "What `loop pack` makes of the provider, beyond what loop-kit finds out by itself.",
    lambda **values: model.Pack(**values),
    {
        **_COMMON,
        "files": Field(
            ListOf(SOURCE, minimum=1),
            "Patterns of the files that belong to it, besides those that it is made of in `loop dev`.",
        ),
        "wit": Field(FILE, "File or folder of the WIT that it serves, if not the folder `wit` of its code."),
        "exports": Field(
            ListOf(_INTERFACE, minimum=1),
            "Interfaces that it serves, if not all of the WIT that have functions.",
        ),
        "imports": Field(ListOf(_INTERFACE), "Interfaces of whoever calls it that it calls back."),
        "transports": Field(
            ListOf(Choice(model.TRANSPORTS), minimum=1), "What it can be reached by, if not as its SDK can."
        ),
        "requirements": Field(
            FILE,
            "A Python provider's dependencies, each with its version and digests; requirements.txt of its folder if "
            "absent.",
        ),
        "wheel": Field(FILE, "The wheel that holds a Python provider, instead of files of this folder."),
        "build": Field(
            Either((TEXT, ListOf(TEXT, minimum=1))),
            "Command that makes the program, run in the manifest's folder for each target. {target}, {os} and {arch} "
            "stand for it: aarch64-unknown-linux-musl, linux and arm64.",
        ),
        "program": Field(
            TEXT, "The program: a path in which {target}, {os} and {arch} stand for what it is for."
        ),
        "targets": Field(
            ListOf(TARGET, 1),
            "What it is built for, if not for this machine alone.",
        ),
    },
    verify=_verify,
    also={"dependentRequired": {"build": ["program"], "targets": ["program"]}},
)
