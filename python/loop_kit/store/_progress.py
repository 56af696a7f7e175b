"""How far a pull is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from loop_kit.store._fetch import Found, parts_of
from loop_kit.store._use import Use

__all__ = ["Counting", "Tell", "to_come"]


class Tell(NamedTuple):
    """Told how far a pull is.

    Attributes:
        artifact: Called with a member's name and reference, when it is begun.
        size: Called with bytes that are to come.
        come: Called with bytes that came.
    """

    artifact: Callable[[str, str], object] = lambda name, reference: None
    size: Callable[[int], object] = lambda size: None
    come: Callable[[int], object] = lambda size: None


class Counting:
    """Counts what comes.

    Attributes:
        come: Bytes that came.
        tell: Whom to tell.
    """

    def __init__(self, tell: Tell) -> None:
        self.come = 0
        self._inner = tell
        self.tell = tell._replace(come=self._came)

    def _came(self, size: int) -> None:
        self.come += size
        self._inner.come(size)


def to_come(use: Use, found: Found) -> int:
    """Bytes of an artifact that are not there yet."""
    return sum(part.size for part in parts_of(use.blobs, found) if use.blobs.size(part.digest) is None)
