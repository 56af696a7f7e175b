"""Removes results that were not used for long, or that are too many: while others keep and restore some.

Nothing is locked for that. Whoever keeps a result has touched each of its blobs just before, and what was touched within
`_GRACE` stays; where one goes in between all the same, its result is none, and the task runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_kit.task._cache import Cache

__all__ = ["AGE", "SIZE", "Cleaned", "clean", "daily"]

SIZE = 10 << 30
"""Bytes of results that are kept by default."""
AGE = 30 * 86400.0
"""Seconds that a result is kept by default which nobody uses."""

_GRACE = 3600.0
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed, and what is left.

    Attributes:
        removed: Results.
        freed: Bytes.
        results: Those that are left.
        size: Their bytes.
    """

    removed: int
    freed: int
    results: int
    size: int


def daily(cache: Cache) -> None:
    """Removes what goes beyond the defaults, at most once a day, and never where that fails."""
    mark = cache.folder / "cleaned"
    with contextlib.suppress(OSError):
        try:
            due = mark.stat().st_mtime < time.time() - _DAY
        except FileNotFoundError:
            mark.touch()  # nothing is old yet
            return
        if due:
            clean(cache, SIZE, AGE)


def clean(cache: Cache, size: int, age: float, *, grace: float = _GRACE) -> Cleaned | None:
    """Removes what has not been used for long, and of the rest what was used longest ago.

    Args:
        cache: The results.
        size: Bytes that may stay.
        age: Seconds within which what stays was used.
        grace: Seconds for which a file stays that no result names yet.

    Returns:
        What was done; None, if another process is doing it.

    Raises:
        OSError: Something cannot be removed.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    with (cache.folder / "cleaned").open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        os.utime(mark.fileno())
        return _cleaned(cache, size, age, grace)


def _cleaned(cache: Cache, size: int, age: float, grace: float) -> Cleaned:
    now = time.time()
    known = sorted(_results(cache.folder), reverse=True)
    needed: set[str] = set()
    total = left = removed = freed = 0
    for used, path, own in known:
        result = cache.read(path.name, None)
        digests = {} if result is None else result.blobs
        more = own + sum(length for digest, length in digests.items() if digest not in needed)
        if result is not None and used >= now - age and total + more <= size:
            needed.update(digests)
            total += more
            left += 1
        else:
            size = min(size, total)  # whatever is older goes too
            path.unlink(missing_ok=True)
            removed += 1
            freed += own
    for digest in cache.blobs:
        if digest not in needed:
            freed += _removed(cache.blobs.path(digest), now - grace)
    return Cleaned(removed, freed + cache.blobs.sweep(), left, total)


def _results(folder: Path) -> Iterator[tuple[float, Path, int]]:
    """When each was used last, its file, and its bytes."""
    for path in folder.glob("results/*/*"):
        if path.name.startswith("."):
            _removed(path, time.time() - _GRACE)  # whoever wrote it was killed
            continue
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            yield found.st_mtime, path, found.st_size


def _removed(path: Path, before: float) -> int:
    """Removes a file that was last touched before then; returns its bytes, 0 where it stays."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        if found.st_mtime <= before:
            path.unlink()
            return found.st_size
    return 0
