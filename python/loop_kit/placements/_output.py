"""What a sidecar writes to its standard error, as log records."""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["BURST", "LONGEST", "RATE", "Output"]

LONGEST = 8 << 10
"""Bytes of a line; the rest is dropped."""
RATE = 500
"""Lines a second that a sidecar may log for long."""
BURST = 2000
"""Lines that it may log at once."""

_KEPT = 20
_LEVELS = {
    "trace": 5, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING,
    "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL,
}  # fmt: skip
# A terminal that shows the log must not be the provider's to control.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Output:
    """Turns bytes into records of the logger `loop_kit.provider.NAME`.

    A line that is a JSON object with a `message` says itself what its `level`, `target` and `fields` are; any other
    is a record of level INFO. What exceeds the bounds is dropped, and said to be.

    Args:
        name: The provider's.
        clock: Seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logging.getLogger(f"loop_kit.provider.{name}")
        self._clock = clock
        self._line = bytearray()
        self._cut = False
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._tokens, self._filled = float(BURST), clock()
        self._dropped = 0

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines, also those that were not logged."""
        return tuple(self._last)

    def feed(self, data: bytes) -> None:
        """Takes what was read."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._end()
        self._add(rest)

    def close(self) -> None:
        """Takes what has no line end as a line."""
        if self._line:
            self._end()
        self._tell_dropped()

    def _add(self, part: bytes) -> None:
        room = LONGEST - len(self._line)
        self._line += part[:room]
        self._cut |= len(part) > room

    def _end(self) -> None:
        text = self._line.decode("utf-8", "replace").removesuffix("\r") + (" [cut]" if self._cut else "")
        self._line.clear()
        self._cut = False
        if not text:
            return
        self._last.append(_shown(text))
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        if self._tokens < 1:
            self._dropped += 1
            return
        self._tokens -= 1
        self._tell_dropped()
        self._record(text)

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._emit(logging.WARNING, f"{self._dropped} lines were dropped: more than {RATE} a second", {})
            self._dropped = 0

    def _record(self, text: str) -> None:
        said = _parse(text) if text.startswith("{") else None
        if said is None:
            self._emit(logging.INFO, text, {})
            return
        fields = said.get("fields")
        pairs = [(str(k), str(v)) for k, v in fields.items()] if isinstance(fields, dict) else []
        level = _LEVELS.get(str(said.get("level", "info")).lower(), logging.INFO)
        message = " ".join([said["message"], *(f"{key}={value}" for key, value in pairs)])
        self._emit(level, message, {"fields": pairs, "target": str(said.get("target", ""))})

    def _emit(self, level: int, text: str, extra: Mapping[str, Any]) -> None:
        # `target` is no logger's name: loggers are never freed, and a provider could make any number of them.
        try:
            self._logger.log(level, "%s", _shown(text), extra={"fields": [], "target": "", **extra})
        except Exception:
            if logging.raiseExceptions:
                traceback.print_exc()


def _parse(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and isinstance(said.get("message"), str) else None


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
