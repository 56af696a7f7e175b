"""What clients can make a registry hold."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from loop_kit.registry._answers import Refused

__all__ = ["ENTRY", "Bounds", "Budget"]

ENTRY = 4096
"""Bytes that each name, manifest, link, upload and folder counts for beside its own: it takes that on a disk."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is the most.

    Attributes:
        total: Bytes of all that clients have put there, with `ENTRY` for each file and folder.
        entries: Names, manifests, links, uploads, and the folders of these.
        blob: Bytes of one blob.
        manifest: Bytes of one manifest or index.
        uploads: Uploads that have begun and not ended.
        upload_age: Seconds after its begin that an upload is given up.
        orphan_age: Seconds that a blob stays which no manifest of its repository names.
        page: Names in one answer.
        connections: Connections, and requests, at once.
        grace: Seconds that what is going on may take once the server is to stop.
    """

    total: int = 64 << 30
    entries: int = 250_000
    blob: int = 16 << 30
    manifest: int = 4 << 20
    uploads: int = 256
    upload_age: float = 24 * 3600
    orphan_age: float = 24 * 3600
    page: int = 1000
    connections: int = 256
    grace: float = 60


class Budget:
    """How much of the total is in use.

    Attributes:
        used: Bytes, with `ENTRY` for each entry.
        entries: How many there are.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.used = 0
        self.entries = 0
        self._guard = threading.Lock()

    def take(self, count: int = 0, *, entries: int = 0) -> None:
        """Counts bytes, and entries, that are about to be written.

        Raises:
            Refused: There is no room for them.
        """
        with self._guard:
            used = self.used + count + ENTRY * entries
            if count + entries and used > self._bounds.total:
                raise _full(f"may hold {self._bounds.total} bytes (--max-total)")
            if entries and self.entries + entries > self._bounds.entries:
                raise _full(f"may have {self._bounds.entries} names, manifests, links and folders")
            self.used = used
            self.entries += entries

    def give(self, count: int = 0, *, entries: int = 0) -> None:
        """Bytes, and entries, that are there no more."""
        with self._guard:
            self.used = max(0, self.used - count - ENTRY * entries)
            self.entries = max(0, self.entries - entries)

    def set(self, count: int, entries: int) -> None:
        """What was counted anew."""
        with self._guard:
            self.used = count + ENTRY * entries
            self.entries = entries


def _full(what: str) -> Refused:
    return Refused(507, "DENIED", f"the registry is full: it {what}")
