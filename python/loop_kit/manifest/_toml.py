"""Writes TOML values on one line, for messages and for snippets to paste."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

__all__ = ["inline", "key", "string"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def string(text: str) -> str:
    """Returns a basic string; control characters are escaped, so it never spans lines."""
    return '"' + "".join(_ESCAPES.get(char) or _printable(char) for char in text) + '"'


def key(name: str) -> str:
    """Returns a key, quoted only where it must be."""
    return name if _BARE_KEY.fullmatch(name) else string(name)


def inline(value: object) -> str:
    """Returns a value as TOML writes it inside a line.

    Anything that TOML has no type for (dates aside) is written as the string of it.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str() | PurePath():
            return string(str(value))
        case Mapping():
            pairs = ", ".join(f"{key(name)} = {inline(item)}" for name, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case Sequence():
            return "[" + ", ".join(map(inline, value)) + "]"
        case _ if hasattr(value, "isoformat"):
            return str(value.isoformat())
        case _:
            return string(str(value))


def _printable(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else char
