"""Texts by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loop_kit import Err
from loop_kit.provider import provider


@provider("acme:kv/store@0.1.0", wit="wit")
class Provider:
    """One store for each link: for each component that imports it.

    The grant comes from the host's manifest, for instance `{"prefix": "cart/"}`; the configuration likewise, for
    instance `{"most": 100}`.
    """

    def __init__(self, grant: Any = None, config: Any = None) -> None:
        self._prefix: str = (grant or {}).get("prefix", "")
        self._most: int = (config or {}).get("most", 1000)
        self._texts: dict[str, str] = {}

    def _check(self, key: str) -> None:
        if not key.startswith(self._prefix):
            raise Err("denied")

    def get(self, key: str) -> str | None:
        """The text of a key."""
        self._check(key)
        return self._texts.get(key)

    def set(self, key: str, value: str) -> None:
        """Keeps a text."""
        self._check(key)
        if key not in self._texts and len(self._texts) >= self._most:
            raise Err(("full", self._most))
        self._texts[key] = value

    def keys(self) -> Iterator[str]:
        """All keys, in order."""
        return iter(sorted(self._texts))
