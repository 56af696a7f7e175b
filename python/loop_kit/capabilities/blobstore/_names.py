"""Names of containers and objects as storages take them.

Letters of whatever script stay as they are, so that other programs find them. What would mean something to the storage
is written as `%XX`: a control character, `%` itself, a segment between slashes that is `.` or `..`; an empty one is `%`.
"""

from __future__ import annotations

import re

__all__ = ["decode", "encode"]

_ESCAPED = re.compile(r"[\x00-\x1f\x7f%]")
_CODE = re.compile(r"%([0-9A-F]{2})")


def encode(name: str, *, flat: bool) -> str:
    """The name as a storage takes it; `flat`: as one name of a file, without slashes and not hidden."""
    if flat:
        return _segment(name, "." if name.startswith(".") else "").replace("/", "%2F")
    return "/".join(_segment(part, part if part in (".", "..") else "") for part in name.split("/"))


def decode(text: str, *, flat: bool) -> str | None:
    """The name that `encode` made this of; None: none, it is somebody else's."""
    parts = [text] if flat else text.split("/")
    name = "/".join("" if part == "%" else _CODE.sub(_character, part) for part in parts)
    try:
        name.encode()
    except UnicodeEncodeError:
        return None  # no text at all
    return name if encode(name, flat=flat) == text else None


def _segment(part: str, dots: str) -> str:
    rest = part[len(dots) :]
    return "%2E" * len(dots) + _ESCAPED.sub(_code, rest) or "%"


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
