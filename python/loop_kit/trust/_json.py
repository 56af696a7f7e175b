"""JSON from outside, read strictly: one meaning for each text, and no more of it than is wanted."""

from __future__ import annotations

import json
from typing import Any

from loop_kit.trust._reasons import untrusted

__all__ = ["canonical", "read"]

MOST = 1 << 20
"""Bytes of one document."""


def read(data: bytes, what: str) -> dict[str, Any]:
    """Reads an object of JSON.

    Raises:
        Untrusted: It is none, is too long, has a name twice, or a number that JSON does not have.
    """
    if len(data) > MOST:
        raise untrusted("malformed", f"{what} has more than {MOST} bytes")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise untrusted("malformed", f"{what} is nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError, and numbers that Python refuses to read
        raise untrusted("malformed", f"{what} is not JSON: {_short(error)}") from None
    if not isinstance(found, dict):
        raise untrusted("malformed", f"{what} is not an object of JSON")
    return found


def canonical(value: dict[str, Any]) -> bytes:
    """An object as bytes, the same whenever it is."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _short(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):  # its text quotes the bytes
        return f"byte {error.start} is not UTF-8"
    return str(error)[:100]
