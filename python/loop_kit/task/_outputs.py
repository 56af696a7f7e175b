"""What a task has written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from loop_kit.task._cache import Cache, Output
from loop_kit.task._globs import NEVER
from loop_kit.task._looks import Looks
from loop_kit.task._plan import Task

__all__ = ["left", "undeclared", "written"]

_SHOWN = 5


def written(looks: Looks, cache: Cache, task: Task) -> Iterator[Output]:
    """Keeps the outputs of a task.

    Raises:
        PackageError: One is too large.
        OSError: One cannot be read, or kept.
    """
    outputs = looks.globs(task)[1]
    found = {path for base in outputs.bases for path, _ in _below(looks.root, base) if outputs.takes(path)}
    for path in sorted(found):
        yield cache.take(os.path.join(looks.root, path), path)


def left(looks: Looks, task: Task, since: int) -> tuple[Output, ...]:
    """What a task that did not end well has written where its outputs are; only the paths count.

    Args:
        looks: The workspace's files.
        task: The task.
        since: When it began, by the file system.
    """
    outputs = looks.globs(task)[1]
    found = {
        path
        for base in outputs.bases
        for path, seen in _below(looks.root, base)
        if seen.st_ctime_ns >= since and outputs.takes(path)
    }
    return tuple(Output(path, "", 0, 0) for path in sorted(found))


def undeclared(looks: Looks, task: Task, since: int) -> Iterator[str]:
    """Says which files of the member's folder have changed that nobody declares as outputs.

    Args:
        looks: The workspace's files.
        task: The task that ran.
        since: When it began, by the file system.
    """
    own_folder = f"{task.at}/" if task.at else ""
    others = [
        f"{at}/" for at in looks.plan.members.values() if at and at != task.at and at.startswith(own_folder)
    ]
    own = [other for other in looks.plan.tasks.values() if other.member == task.member]
    found = []
    for path, seen in _below(looks.root, task.at or ".", NEVER):
        if seen.st_ctime_ns <= since:
            continue
        if any(map(path.startswith, others)):
            continue
        if not any(looks.globs(other)[1].takes(path) for other in own) and not looks.takes(task, path):
            found.append(path)
    if found:
        shown = ", ".join(found[:_SHOWN]) + (
            f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        )
        yield f"files changed that are none of its outputs, and will not be restored: {shown}"


def _below(root: str, base: str, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, os.stat_result]]:
    """Files and links at a path and below, without folders of some names."""
    full = os.path.join(root, base)
    with contextlib.suppress(OSError):
        found = os.lstat(full)
        if not stat.S_ISDIR(found.st_mode):
            if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
                yield os.path.normpath(base), found
            return
        with os.scandir(full) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            if name not in skip:
                yield from _below(root, name if base in (".", "") else f"{base}/{name}", skip)
