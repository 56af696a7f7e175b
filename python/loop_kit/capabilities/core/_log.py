"""What a grant lets through of a component's log records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loop_kit.capabilities import _settings

__all__ = ["LEVELS", "LogGrant"]

LEVELS = ("trace", "debug", "info", "warn", "error")

# What a field counts beside its strings, so that the number of empty ones is bounded too.
_FIELD = 16


class LogGrant:
    """The key `log` of a grant.

    Args:
        grant: `level`, below which records are dropped (trace); `targets` that may log, with what is below them
            (None: all); `max-record`, bytes of one record (65536): its strings in UTF-8, and 16 for each field.

    Raises:
        ValueError: A key is not known, or its value does not do.
    """

    def __init__(self, grant: Any = None) -> None:
        given = _settings.table("grant.log", grant, ("level", "targets", "max-record"))
        self._level = LEVELS.index(_settings.word("grant.log.level", given.get("level"), LEVELS, "trace"))
        self._targets = _settings.texts("grant.log.targets", given.get("targets"))
        self._max = _settings.positive("grant.log.max-record", given.get("max-record"), 64 << 10)

    def lets(self, level: int, target: str) -> bool:
        """Whether a record passes: `site` stands for `site` and `site.search`, and not for `sites`."""
        if level < self._level:
            return False
        return self._targets is None or any(
            target == granted or target.startswith(f"{granted}.") for granted in self._targets
        )

    def shortened(
        self, target: str, message: str, fields: Iterable[tuple[str, str]]
    ) -> tuple[str, str, list[tuple[str, str]]]:
        """The record cut to size: target and message at a character, of the fields each that still fits whole."""
        left = self._max
        texts = []
        for text in (target, message):
            kept = text.encode()[:left].decode(errors="ignore")
            left -= _size(kept)
            texts.append(kept)
        fit = []
        for key, value in fields:
            size = _size(key) + _size(value) + _FIELD
            if size <= left:
                left -= size
                fit.append((key, value))
        return texts[0], texts[1], fit


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
