"""A file that a stream is written to."""

from __future__ import annotations

import os
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.fsx._atomic import Atomic
from loop_kit.capabilities.fsx._beneath import Handle
from loop_kit.capabilities.fsx._dir import Dir
from loop_kit.capabilities.fsx._quota import ONE, Count
from loop_kit.capabilities.fsx._tree import write_all

__all__ = ["Sink"]

_SIZE_MAX = (1 << 63) - 1


class Sink:
    """A file that is written as it comes.

    Args:
        dir: The root.
        path: The file.
        placement: The variant `placement`.

    Attributes:
        written: Bytes so far.

    Raises:
        Err: It leads out, is no file, or is one more than the quota.
        OSError: It cannot be opened.
    """

    def __init__(self, dir: Dir, path: str, placement: Any) -> None:
        self.written = 0
        self._quota = dir.quota
        self._atomic: Atomic | None = None
        self._durable = False
        self._taken = 0
        self._size = self._start = 0
        if placement.case == "atomic":
            self._atomic = Atomic(dir, path)
            self._durable = placement.value
            self._quota.take(ONE)
            self._file: Handle = self._atomic.file
            return
        flags = os.O_APPEND if placement.case == "append" else 0
        self._file, size = dir.beneath.open_to_write(path, flags, lambda: self._quota.take(ONE))
        if placement.case == "replace":
            os.ftruncate(self._file.fd, 0)
            self._quota.give(Count(size))
            return
        self._size = self._start = size
        if placement.case == "at":
            if placement.value > _SIZE_MAX:
                raise Err("file-too-large")
            self._start = os.lseek(self._file.fd, placement.value, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Writes what comes next.

        Raises:
            Err: `quota`.
            OSError: It cannot be written.
        """
        end = self.written + len(data)
        more = self._beyond(end) - self._beyond(self.written)
        self._quota.take(Count(more), streaming=True)
        self._taken += more
        write_all(self._file, data)
        self.written = end

    def finish(self) -> int:
        """Ends it; the bytes that were written.

        Raises:
            OSError: It cannot have its name.
        """
        if self._atomic is not None:
            self._atomic.commit(self._durable)
        return self.written

    def _beyond(self, written: int) -> int:
        return max(self._start + written - self._size, 0)

    def __del__(self) -> None:
        if getattr(self, "_taken", 0):
            self._quota.streamed(self._taken)
