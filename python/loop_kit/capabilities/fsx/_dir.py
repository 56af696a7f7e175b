"""The resource `dir`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from loop_kit._types import Err
from loop_kit.capabilities.fsx._beneath import Beneath, Handle, code_of
from loop_kit.capabilities.fsx._pattern import Pattern
from loop_kit.capabilities.fsx._quota import Quota
from loop_kit.capabilities.fsx._walk import Entry, entries, matches

__all__ = ["Dir", "answers"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Bytes read at once where a file is longer than it said.
_CHUNK = 1 << 20


def answers(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turns errors of the operating system into those of the interface."""

    @wraps(method)
    def answer(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(*args, **kwargs)
        except OSError as e:
            raise code_of(e) from None

    return answer


class Dir:
    """A directory that a grant opens. Every method raises `Err` with an `error-code` where it fails.

    Args:
        beneath: The directory.
        max_read: Bytes that one read returns at most.
        max_entries: Entries or paths that one call returns at most.
        quota: How much it may hold; or what is called where something is to be changed that may not be.
        makes_links: Whether links may be made.

    Attributes:
        beneath: The directory.
        makes_links: Whether links may be made.
    """

    def __init__(
        self,
        beneath: Beneath,
        max_read: int,
        max_entries: int,
        quota: Quota | Callable[[], object],
        makes_links: bool = False,
    ) -> None:
        self.beneath = beneath
        self.makes_links = makes_links
        self._max_read = max_read
        self._max_entries = max_entries
        self._quota = quota

    @property
    def quota(self) -> Quota:
        """How much it may hold.

        Raises:
            Err: `read-only`: nothing may be changed.
        """
        if not isinstance(self._quota, Quota):
            self._quota()
            raise Err("read-only")
        return self._quota

    @answers
    def list(self, path: str) -> Sequence[Entry]:
        """The entries of the directory at `path`, sorted by name."""
        return entries(self.beneath.open_list(path), self._max_entries)

    @answers
    def stat(self, path: str) -> Entry:
        """What `path` names; a link at its very end is described, not followed."""
        name = next((part for part in reversed(path.split("/")) if part), ".")
        return Entry.of(name, self.beneath.stat(path))

    def read(self, path: str) -> bytes:
        """The contents of the file at `path`."""
        return self._read(path, 0, None)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes of the file at `path`, from `offset` on."""
        return self._read(path, offset, length)

    @answers
    def glob(self, pattern: str) -> Sequence[str]:
        """The files at any depth that match a pattern of `rg --glob`, sorted."""
        return matches(self.beneath.open_list("."), Pattern(pattern), self._max_entries)

    @answers
    def read_link(self, path: str) -> str:
        """Where the link at `path` points to."""
        return self.beneath.read_link(path)

    @answers
    def _read(self, path: str, offset: int, length: int | None) -> bytes:
        file, size = self.beneath.open_file(path)
        there = max(size - offset, 0)
        if length is not None:
            there = min(there, length)
        if there > self._max_read:
            raise Err("file-too-large")
        if not _skip(file, offset):
            return b""
        # To the real end: the file may have grown, and files of /proc call themselves empty.
        most = self._max_read + 1
        left = most if length is None else min(most, length)
        chunks: list[bytes] = []
        at_once = there + 1
        while left and (chunk := os.read(file.fd, min(left, at_once))):
            chunks.append(chunk)
            left -= len(chunk)
            at_once = _CHUNK
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(data) > self._max_read:
            raise Err("file-too-large")
        return data

    @answers
    def open_at(self, path: str, offset: int) -> Handle | None:
        """The file at `path`, to be read from `offset` on; None where nothing can be."""
        file, _ = self.beneath.open_file(path)
        return file if _skip(file, offset) else None


def _skip(file: Handle, offset: int) -> bool:
    """Moves to `offset`; False where no file reaches that far."""
    try:
        os.lseek(file.fd, offset, os.SEEK_SET)
    except OverflowError:
        return False  # no offset of the system's
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.EOVERFLOW):
            return False  # no offset of this file system's
        raise
    return True
