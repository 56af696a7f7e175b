"""What is known of a workspace's tasks from one run to the next, in `.loop/task`.

Nothing in it is needed: what is missing, or cannot be read, is found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from loop_kit._alone import locked_alone
from loop_kit.errors import LoopError
from loop_kit.task._cache import Output
from loop_kit.task._stat import now

__all__ = ["ANEW", "ROOT_VARIABLE", "Last", "State", "alone"]

_FORMAT = 4

ANEW = "anew"
"""In the place of a key: what there is was taken by another policy."""

ROOT_VARIABLE = "LOOP_TASK_ROOT"
"""The variable that tells a task's processes of whose workspace they are."""


class Last:
    """What a task has made when it ran, or was restored, last.

    Attributes:
        key: Of what; "" where that is not known, or did not end well.
        outputs: The files.
        told: The key of the result whose parts are known: see `State.parts`; "" for none.
    """

    __slots__ = ("key", "outputs", "told")

    def __init__(self, key: str, outputs: tuple[Output, ...], told: str = "") -> None:
        self.key = key
        self.outputs = outputs
        self.told = told


class State:
    """Reads what is there.

    Attributes:
        plan: See `Plan.parsed`.
        looks: See `Looks.keep`.
        last: By task.
        trust: The policy by which these were taken: see `Plan.trust`.
    """

    def __init__(self, root: str, version: str) -> None:
        self.folder = folder_of(root)
        self._version = version
        self.plan: dict[str, Any] = {}
        self.looks: dict[str, Any] = {}
        self.last: dict[str, Last] = {}
        self.trust: str | None = None
        self._begun: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            said = json.loads((self.folder / "state.json").read_bytes())
            if said["format"] == _FORMAT and said["version"] == version:
                self.last = {
                    task: Last(key, tuple(Output(*output) for output in outputs), told)
                    for task, (key, told, outputs) in said["last"].items()
                }
                self.plan, self.looks = dict(said["plan"]), dict(said["looks"])
                self.trust = said["trust"]
        with contextlib.suppress(OSError, ValueError):
            for line in self._runs.read_text("ascii").splitlines():
                task, _, when = line.partition(" ")
                self._begun[task] = int(when)

    @property
    def mark(self) -> str:
        """A file by which the file system's own time is told."""
        return str(self.folder / "now")

    @property
    def scratch(self) -> Path:
        """A folder on the file system of the workspace."""
        return self.folder / "new"

    def save(self) -> None:
        """Writes it, at once or not at all."""
        said = {
            "format": _FORMAT,
            "version": self._version,
            "plan": self.plan,
            "looks": self.looks,
            "trust": self.trust,
            "last": {
                task: [last.key, last.told, [astuple(output) for output in last.outputs]]
                for task, last in self.last.items()
            },
        }
        self._write(self.folder / "state.json", said)
        if self._begun:
            fresh = self._runs.with_name(f"runs.{os.getpid()}")
            fresh.write_text("".join(f"{task} {when}\n" for task, when in self._begun.items()), "ascii")
            fresh.replace(self._runs)
        else:
            self._runs.unlink(missing_ok=True)

    def parts(self, task: str) -> dict[str, Any] | None:
        """What the last result of a task depended on, as `differences` takes it."""
        last = self.last.get(task)
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if last is not None and last.told:
                return dict(json.loads(self._parts(task, last.told).read_bytes()))
        return None

    def save_parts(self, task: str, key: str, parts: dict[str, Any]) -> None:
        """Remembers what the result of a task depended on, in the place of what is known of the one before.

        Each is a file of its own: one that takes the place of another costs a wait for the disk.
        """
        last = self.last[task]
        path = self._parts(task, key)
        try:
            path.write_text(json.dumps(parts), "utf-8")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(parts), "utf-8")
        if last.told and last.told != key:
            self._parts(task, last.told).unlink(missing_ok=True)
        last.told = key

    def began(self, task: str) -> int:
        """Remembers that a task runs, until `ended` and `save`; returns when that was, by the file system.

        Raises:
            OSError: It cannot be written.
        """
        when = self._begun[_short(task)] = now(self.mark)
        with self._runs.open("a", encoding="ascii") as file:
            file.write(f"{_short(task)} {when}\n")
        return when

    def ended(self, task: str) -> None:
        """A task has ended, and what it has written is known."""
        self._begun.pop(_short(task), None)

    def broken_off(self, task: str) -> int | None:
        """When a task began that was killed together with who ran it; None, where none was."""
        return self._begun.get(_short(task)) if self._begun else None

    @property
    def _runs(self) -> Path:
        """The tasks that have begun since the last `save`: of those nobody has written what became of them."""
        return self.folder / "runs"

    def _parts(self, task: str, key: str) -> Path:
        return self.folder / "parts" / f"{_short(task)}-{key[:16]}.json"

    @staticmethod
    def _write(path: Path, said: Any) -> None:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(said), "utf-8")
        fresh.replace(path)


def _short(task: str) -> str:
    return hashlib.sha256(task.encode()).hexdigest()[:16]


@contextlib.contextmanager
def alone(root: str, waiting: Callable[[], object]) -> Iterator[None]:
    """Keeps other runs out of a workspace; the system takes the lock from one that is killed.

    Raises:
        LoopError: It is a task of this workspace that asks, or nothing can be kept.
    """
    if os.environ.get(ROOT_VARIABLE) == root:
        error = LoopError("this is a task of the workspace, which cannot run its tasks")
        error.hint = "name the other task among its `deps`"
        raise error
    prepare(folder_of(root))
    with (folder_of(root) / "lock").open("wb") as file:
        locked_alone(file.fileno(), waiting)
        yield


def folder_of(root: str) -> Path:
    """Where all of it lies."""
    return Path(root, ".loop", "task")


def prepare(folder: Path) -> None:
    """Makes the folder, which git leaves out.

    Raises:
        LoopError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise LoopError(f"{error.filename or folder}: {error.strerror}") from None
