"""A task that runs, what comes of it, and where its temporary files are."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from loop_kit.task._cache import Output, Result
from loop_kit.task._key import Parts
from loop_kit.task._plan import Task

__all__ = ["Asked", "Ended", "How", "Job", "Scratches"]

How = Literal["fresh", "cached", "ran", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a task.

    Attributes:
        task: Its id.
        how: `fresh`: all was there; `cached`: it was restored; `ran`; `failed`; `skipped`: another failed before it.
        seconds: How long it took, or took when it ran.
        log: What it wrote, or wrote when it ran.
        reason: Why it failed, or was skipped.
        notes: What should be known besides.
    """

    task: str
    how: How
    seconds: float = 0.0
    log: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Job:
    """A task that runs."""

    task: Task
    parts: Parts
    key: str
    began: float
    attempt: int
    since: int
    thread: threading.Thread | None = None
    stop: Callable[[int], None] = lambda signum: None
    ok: bool = False
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    outputs: tuple[Output, ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """A task that waits for what others know of it, or for room; and its result, which is in the cache then."""

    task: str
    found: Result | None = None


class Scratches:
    """Folders for temporary files; one that is left empty is taken again, since making one takes long."""

    def __init__(self) -> None:
        self._free: list[str] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """An empty folder, for one task; from any thread."""
        path = self._free.pop() if self._free else tempfile.mkdtemp(prefix="loop-task-")
        try:
            yield path
        finally:
            if _is_new(path):
                self._free.append(path)
            else:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes them."""
        for path in self._free:
            shutil.rmtree(path, ignore_errors=True)
        self._free.clear()


def _is_new(folder: str) -> bool:
    """Whether a folder is as `mkdtemp` makes it."""
    try:
        return stat.S_IMODE(os.lstat(folder).st_mode) == 0o700 and not os.listdir(folder)
    except OSError:
        return False
