"""Waiting for a file's lock that another process has; the system takes it from one that is killed."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable

__all__ = ["locked_alone"]

_LOOK = 0.05
"""Seconds between two looks: while the system waits for a lock, Ctrl-C would not end that."""


def locked_alone(fd: int, waiting: Callable[[], object], after: float = 0.0) -> None:
    """Locks a file for this process alone, for as long as it is open.

    Args:
        fd: The file.
        waiting: Called once, where another process has it.
        after: Seconds until that is told.

    Raises:
        OSError: It cannot be locked.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told and time.monotonic() - began >= after:
                told = True
                waiting()
            time.sleep(_LOOK)
