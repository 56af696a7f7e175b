"""The kinds of text in a manifest: names, paths, addresses."""

from __future__ import annotations

import os
from pathlib import Path

from loop_kit.manifest._shape import Cursor, Text
from loop_kit.manifest._toml import string

__all__ = ["ADDRESS", "ENV_NAME", "FILE", "GUEST_PATH", "NAME", "NET", "SOURCE", "TEXT", "absolute"]

_HOST = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_HIGH_PORT = "[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"


def absolute(path: str, at: Cursor) -> Path:
    """Resolves a path against the manifest's folder.

    Links are left alone: what a grant prints is what was written, and what it opens is decided when it opens.
    """
    return Path(os.path.normpath(at.source.path.parent / path))


def _pattern(text: str, at: Cursor) -> str:
    # only manifests that have patterns pay for what reads them
    from loop_kit._types import Err
    from loop_kit.capabilities.fsx._pattern import Pattern

    try:
        Pattern(text.removeprefix("!"))
    except Err as error:
        why = "is too long" if str(error) == "name-too-long" else "is no pattern"
        at.problem(f"{string(text[:60])} {why}", 'write one such as "src/**" or "*.js"')
    return text


# The operating system and the component model both end strings at, or refuse, a NUL.
TEXT = Text()
SOURCE = Text(
    'a pattern from the manifest\'s folder, such as "src/**"',
    r"^!?[^\u0000!/][^\u0000]*$",
    _pattern,
    ("src/**", "!*.md"),
)
NAME = Text("a name of letters, digits, - and _", r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
FILE = Text("a path", r"^[^\u0000]+$", absolute)
GUEST_PATH = Text("a path", r"^[^\u0000]+$", examples=("/data",))
ENV_NAME = Text("the name of an environment variable", r"^[^=\u0000]+$")
ADDRESS = Text(
    'an address such as "127.0.0.1:8080"',
    rf"^{_HOST}:([0-9]{{1,4}}|{_HIGH_PORT})$",
    examples=("127.0.0.1:8080",),
)
NET = Text(
    'an address such as "127.0.0.1:5432"',
    rf"^{_HOST}:([1-9][0-9]{{0,3}}|{_HIGH_PORT})$",
    examples=("127.0.0.1:5432", "api.example.com:443"),
)
