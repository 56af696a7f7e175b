"""How much a root may hold."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass

from loop_kit._types import Err
from loop_kit.capabilities.fsx._beneath import Handle, open_directory

__all__ = ["ONE", "Count", "Quota", "count", "count_of"]

# A directory nested deeper cannot be counted, and nothing is added to a root that has one.
_MAX_DEPTH = 256


@dataclass(frozen=True, slots=True)
class Count:
    """Files with their bytes: what is there, or may be.

    Attributes:
        size: Bytes.
        files: Files, directories and links.
    """

    size: int = 0
    files: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.size + other.size, self.files + other.files)

    def __sub__(self, other: Count) -> Count:
        return Count(max(self.size - other.size, 0), max(self.files - other.files, 0))

    def within(self, most: Count) -> bool:
        """Whether neither is more than in `most`."""
        return self.size <= most.size and self.files <= most.files


ONE = Count(files=1)


def count_of(meta: os.stat_result) -> Count:
    """What goes when this name of it goes."""
    alone = stat.S_ISREG(meta.st_mode) and meta.st_nlink <= 1
    return Count(meta.st_size if alone else 0, 1)


def count(directory: Handle, most: Count | None = None) -> Count:
    """Counts what is below a directory, links not followed; no further than what is surely more than `most`.

    Raises:
        Err: `quota`: it is nested too deep to be counted.
        OSError: It cannot be read.
    """
    size = files = 0
    seen: set[tuple[int, int]] = set()  # files with several names have their bytes once
    levels = [(directory, iter(_listed(directory)))]
    while levels:
        at, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            continue
        try:
            meta = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        files += 1
        if stat.S_ISREG(meta.st_mode) and (meta.st_nlink <= 1 or (meta.st_dev, meta.st_ino) not in seen):
            seen.add((meta.st_dev, meta.st_ino))
            size += meta.st_size
        if most is not None and not Count(size, files).within(most):
            break
        if stat.S_ISDIR(meta.st_mode):
            if len(levels) > _MAX_DEPTH:
                raise Err("quota")
            try:
                below = open_directory(name, at)
            except (PermissionError, FileNotFoundError, NotADirectoryError):
                continue
            levels.append((below, iter(_listed(below))))
    return Count(size, files)


def _listed(directory: Handle) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory.fd)]


class Quota:
    """The quota of a root.

    What is there is counted when something is first added, and from then on what the component adds and removes.
    What seems too much is counted anew, but never so often that more than a tenth of the time goes into it.

    Args:
        directory: The root, open to be listed.
        most: What it may hold.
    """

    def __init__(self, directory: Handle, most: Count) -> None:
        self._directory = directory
        self._most = most
        self._used: Count | None = None
        self._streaming = 0
        self._rest_until = 0.0
        self._lock = threading.Lock()

    def take(self, more: Count, *, streaming: bool = False) -> None:
        """Takes what will be added, before it is.

        Args:
            more: What it is.
            streaming: It counts until it is given to `streamed`, whether it has a name or not.

        Raises:
            Err: `quota`: that is too much.
            OSError: What is there cannot be counted.
        """
        if more == Count():
            return
        with self._lock:
            fresh = self._used is None
            used = self._count() if self._used is None else self._used
            if not self._fits(used + more) and not fresh and time.monotonic() >= self._rest_until:
                used = self._count()
            if not self._fits(used + more):
                raise Err("quota")
            if streaming:
                self._streaming += more.size
            else:
                self._used = used + more

    def give(self, less: Count) -> None:
        """Gives back what was removed, or was not added after all."""
        with self._lock:
            if self._used is not None:
                self._used -= less

    def streamed(self, size: int) -> None:
        """A stream that took so many bytes is closed."""
        with self._lock:
            self._streaming -= size
            if self._used is not None:
                self._used += Count(size)

    def _fits(self, then: Count) -> bool:
        return (then + Count(self._streaming)).within(self._most)

    def _count(self) -> Count:
        began = time.monotonic()
        self._used = count(self._directory, self._most)
        now = time.monotonic()
        self._rest_until = now + max((now - began) * 10, 0.001)
        return self._used
