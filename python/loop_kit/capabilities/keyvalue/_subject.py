"""How keys and buckets are called in NATS, whose names have few characters.

Letters, digits, `_` and `-` stay what they are, and in keys `/` and, where NATS lets it stand, `.`, so that the `nats`
command reads the same names; each byte of anything else is `=` and two hexadecimal digits. The empty name is `=`.
"""

from __future__ import annotations

import re

__all__ = ["bucket_name", "key_of", "key_token"]

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_IN_KEYS = _PLAIN | {ord("/")}
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def bucket_name(name: str) -> str:
    """What JetStream calls the bucket of a name."""
    return "".join(chr(c) if c in _PLAIN else f"={c:02X}" for c in name.encode()) or "="


def key_token(key: str) -> str:
    """What JetStream calls a key."""
    said: list[str] = []
    content = key.encode()
    for place, c in enumerate(content):
        # a dot parts tokens, none of which is empty
        within = 0 < place < len(content) - 1 and said[-1] != "."
        said.append(chr(c) if c in _IN_KEYS or (c == ord(".") and within) else f"={c:02X}")
    return "".join(said) or "="


def key_of(token: str) -> str | None:
    """The key that JetStream calls so; None: it was written by others, and is not one that `key_token` makes."""
    if token == "=":
        return ""
    try:
        key = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), token.encode()).decode()
    except UnicodeDecodeError:
        return None
    return key if key_token(key) == token else None
