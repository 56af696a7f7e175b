"""What is told about measurements, spans and events, and how much of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loop_kit.capabilities import _settings

__all__ = ["Bounds"]


class Bounds:
    """The keys of a grant that bound what is told.

    Args:
        key: Where they are in the grant: `grant.trace`.
        given: That part of the grant.

    Raises:
        ValueError: A value does not do.
    """

    def __init__(self, key: str, given: Mapping[str, Any]) -> None:
        self._attributes = _settings.positive(f"{key}.attributes", given.get("attributes"), 64)
        self._text = _settings.positive(f"{key}.text", given.get("text"), 4096)

    def text(self, text: str) -> str:
        """A text cut to size, at a character."""
        return text.encode()[: self._text].decode(errors="ignore")

    def add(self, to: dict[str, Any], attributes: Iterable[Any]) -> int:
        """Adds what a component said to `to`, in place of what has the same key; returns how many were too many."""
        dropped = 0
        for attribute in attributes:
            key, value = self.text(attribute.key), attribute.value.value
            value = self.text(value) if isinstance(value, str) else value
            if key in to or len(to) < self._attributes:
                to[key] = value
            else:
                dropped += 1
        return dropped
