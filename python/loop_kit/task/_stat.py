"""What tells that a file may have changed, without reading it."""

from __future__ import annotations

import os

__all__ = ["GRAIN", "Signature", "clock", "now", "signature"]

GRAIN = 30_000_000
"""Nanoseconds that a file system's times may be coarse."""

Signature = tuple[int, int, int, int, int]
"""Size, inode, `mtime`, `ctime` and mode: of a file that was changed at least one is another, but within `GRAIN`."""


def signature(path: str) -> Signature | None:
    """That of a file, folder or link itself; None where there is nothing."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_mode


def clock(mark: str) -> int:
    """The time before which a file must have changed last to be known by its signature, by the file system itself.

    `ctime` cannot be set by anybody. A file that is changed after it was read has a `ctime` that is not less than the
    time of the reading; so one that was less by more than the times are coarse says that nothing was changed since.

    Args:
        mark: A file, or a path for one, on the file system of the workspace.

    Returns:
        Nanoseconds since 1970, or 0, where there is no telling.
    """
    try:
        return now(mark) - GRAIN
    except OSError:
        return 0


def now(mark: str) -> int:
    """Nanoseconds since 1970 by the clock of a file system, to its grain.

    Args:
        mark: A file on it, or a path for one.

    Raises:
        OSError: It cannot be written.
    """
    try:
        os.utime(mark)
    except FileNotFoundError:
        with open(mark, "w"):
            pass
    return os.stat(mark).st_ctime_ns
