"""Directories that live as long as their handle.

Those of one provider lie in a directory of its own, beside a file that it keeps locked. The system lets go of the lock
of whoever was killed, so that the next provider, in Python or native, sees by it what nobody uses any more, and
removes that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import weakref

from loop_kit._types import Err
from loop_kit.capabilities.fsx._beneath import Beneath, Handle, open_directory
from loop_kit.capabilities.fsx._dir import Dir
from loop_kit.capabilities.fsx._quota import ONE, Count, Quota
from loop_kit.capabilities.fsx._tree import remove_tree

__all__ = ["Session"]

_PREFIX = "loop-fsx-"
_LOCK = "lock"
_DIRS = "dirs"
# How often a directory is tried that a sweeper may take away before it is locked.
_TRIES = 16


class Session:
    """The directory of one provider.

    Args:
        place: Where it is made, after what killed ones left there is removed.
        most: What all directories may hold together.
        max_dirs: Directories at once.
        max_read: As of `Dir`.
        max_entries: As of `Dir`.

    Raises:
        OSError: Nothing can be made there.
    """

    def __init__(
        self, place: str | os.PathLike[str], most: Count, max_dirs: int, max_read: int, max_entries: int
    ) -> None:
        within = Handle(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        _sweep(within)
        for _ in range(_TRIES):
            name = _PREFIX + os.urandom(8).hex()
            os.mkdir(name, 0o700, dir_fd=within.fd)
            lock = _locked(within, name, create=True)
            if lock is not None:
                break
        else:
            raise FileNotFoundError(2, "others remove what is made there")
        own = open_directory(name.encode(), within)
        os.mkdir(_DIRS, 0o700, dir_fd=own.fd)
        self._dirs = open_directory(_DIRS.encode(), own)
        self._quota = Quota(self._dirs, most)
        self._max_dirs = max_dirs
        self._bounds = (max_read, max_entries)
        self._now = 0
        self._next = 0
        self._counting = threading.Lock()
        weakref.finalize(self, _remove, within, name, lock)

    def temp_dir(self) -> Dir:
        """A fresh directory, removed with what is returned.

        Raises:
            Err: `quota`.
            OSError: It cannot be made.
        """
        with self._counting:
            if self._now == self._max_dirs:
                raise Err("quota")
            self._now += 1
            self._next += 1
            name = str(self._next)
        try:
            self._quota.take(ONE)
            os.mkdir(name, 0o700, dir_fd=self._dirs.fd)
            made = Dir(Beneath(name, within=self._dirs), *self._bounds, self._quota, makes_links=True)
        except BaseException:
            self._now -= 1
            raise
        weakref.finalize(made, self._gone, name)
        return made

    def _gone(self, name: str) -> None:
        with contextlib.suppress(OSError):
            remove_tree(self._dirs, name, self._quota.give)
        with self._counting:
            self._now -= 1


def _remove(within: Handle, name: str, lock: Handle) -> None:
    with contextlib.suppress(OSError):
        remove_tree(within, name, lambda _: None)
    del lock


def _sweep(within: Handle) -> None:
    """Removes what providers left that are no more."""
    for name in os.listdir(within.fd):
        with contextlib.suppress(OSError, UnicodeError):
            if not name.startswith(_PREFIX):
                continue
            meta = os.stat(name, dir_fd=within.fd, follow_symlinks=False)
            if not stat.S_ISDIR(meta.st_mode) or meta.st_uid != os.geteuid():
                continue
            try:
                lock = _locked(within, name, create=False)
            except FileNotFoundError:
                # one that has no lock yet is empty, and who makes it tries again
                os.rmdir(name, dir_fd=within.fd)
                continue
            if lock is not None:
                _remove(within, name, lock)


def _locked(within: Handle, name: str, *, create: bool) -> Handle | None:
    """The lock of a session's directory; None where another has it."""
    try:
        own = open_directory(name.encode(), within)
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        lock = Handle(os.open(_LOCK, flags, 0o600, dir_fd=own.fd))
    except FileNotFoundError:
        if create:
            return None  # a sweeper took the empty directory
        raise
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    # a sweeper had it in between, and removed it
    return lock if os.fstat(lock.fd).st_nlink else None
