"""What is in a directory: its entries, and the files below it that match a pattern."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from loop_kit._types import Err
from loop_kit.capabilities.fsx._beneath import Handle, code_of, name_of, open_directory
from loop_kit.capabilities.fsx._pattern import Pattern, State

__all__ = ["LEFT_OUT", "Entry", "Instant", "entries", "matches", "named"]

_SECOND = 10**9

LEFT_OUT = ("access", "no-entry", "not-directory", "loop")
"""What a walk leaves out: what vanished or changed meanwhile, and what may not be read."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time.

    Attributes:
        seconds: Since 1970, rounded down.
        nanoseconds: Forwards from there.
    """

    seconds: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a directory.

    Attributes:
        name: Its name there.
        kind: What it is, as the WIT has it.
        size: Bytes of a regular file; else 0.
        modified: When its contents last changed.
    """

    name: str
    kind: str
    size: int
    modified: Instant | None

    @classmethod
    def of(cls, name: str, meta: os.stat_result) -> Entry:
        """An entry from what the system tells of it."""
        size = meta.st_size if stat.S_ISREG(meta.st_mode) else 0
        return cls(name, _kind(meta.st_mode), size, Instant(*divmod(meta.st_mtime_ns, _SECOND)))


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "regular-file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symbolic-link" if stat.S_ISLNK(mode) else "other"


def entries(directory: Handle, limit: int) -> list[Entry]:
    """The entries of a directory, sorted by name.

    Raises:
        Err: `message-size`: there are more than `limit`.
        OSError: It cannot be read.
    """
    found = []
    for name, entry in named(directory):
        try:
            found.append(Entry.of(name, entry.stat(follow_symlinks=False)))
        except FileNotFoundError:
            continue  # removed meanwhile
        if len(found) > limit:
            raise Err("message-size")
    return sorted(found, key=lambda entry: entry.name)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A directory still to be walked, opened when its turn comes: a chain of any depth takes two descriptors."""

    parent: Handle
    name: str
    path: str
    state: State


def matches(root: Handle, pattern: Pattern, limit: int) -> list[str]:
    """The paths of all files below a directory that match, sorted.

    Raises:
        Err: `message-size`: there are more than `limit`.
        OSError: Something cannot be read.
    """
    found: list[str] = []
    pending: list[_Pending] = []

    def look(directory: Handle, above: str, state: State) -> None:
        for name, entry in named(directory):
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.is_file(follow_symlinks=False):
                continue
            at = pattern.step(state, name.encode())
            if not is_directory:
                if at.accepts:
                    found.append(above + name)
                    if len(found) > limit:
                        raise Err("message-size")
            elif (below := pattern.step(at, b"/")).alive:
                pending.append(_Pending(directory, name, f"{above}{name}/", below))

    look(open_directory(b".", root), "", pattern.start)
    while pending:
        next_ = pending.pop()
        try:
            # from the open parent and never through a link: a swap meanwhile cannot lead out
            look(open_directory(next_.name.encode(), next_.parent), next_.path, next_.state)
        except OSError as e:
            if code_of(e).value not in LEFT_OUT:
                raise
    return sorted(found)


def named(directory: Handle) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The entries of a directory whose names are UTF-8."""
    with os.scandir(directory.fd) as scan:
        for entry in scan:
            name = name_of(entry.name)
            if name is not None:
                yield name, entry
