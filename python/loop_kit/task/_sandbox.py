"""Keeps a task from reading files of the workspace that it does not name, by Linux's landlock.

It is there for results that are right, and not against programs that mean harm: outside of the workspace, and by other
processes, a task may do what its user may. Landlock holds a thread, and what that thread starts: so a thread is made
for each task, which holds itself and then starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["Allowed", "allow", "available", "held"]

T = TypeVar("T")

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR, _REFER = 1 << 2, 1 << 3, 1 << 13
_NO_NEW_PRIVS = 38


@functools.lru_cache(1)
def available() -> bool:
    """Whether this system has a landlock that lets files be renamed (Linux 5.19 and newer)."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64", "riscv64"):
        return False
    return int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)) >= 2


@functools.lru_cache(1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Allowed:
    """What tasks of a workspace may read: all that is outside of it, and loop-kit's own data, where tools are.

    Args:
        root: The workspace's folder.
    """

    def __init__(self, root: str) -> None:
        # opened once: there may be hundreds beside the workspace, and as many tasks
        paths = [*_around(os.path.realpath(root)), _data()]
        self._outside = [rule for path in paths if (rule := _opened(path)) is not None]

    def close(self) -> None:
        """Lets go of what is outside. Again is harmless."""
        for fd, _ in self._outside:
            os.close(fd)
        self._outside.clear()

    def ruleset(self, files: Iterable[str], folders: Iterable[str]) -> int:
        """A descriptor of what one task may read besides.

        Args:
            files: Files that it may read.
            folders: Folders with all below that it may read.

        Raises:
            OSError: The system refuses it.
        """
        handled = struct.pack("=Q", _READ_FILE | _READ_DIR | _REFER)
        fd = _check(_libc().syscall(_CREATE, handled, ctypes.c_size_t(len(handled)), 0))
        try:
            # folders may be listed, as resolvers of modules do all the way up, and files moved between them: where more
            # could be read then, the kernel refuses it
            _add(fd, "/", _READ_DIR | _REFER)
            for _, rule in self._outside:
                _check(_libc().syscall(_ADD, fd, _PATH_BENEATH, rule, 0))
            for path in folders:
                _add(fd, path, _READ_FILE | _READ_DIR)
            for path in files:
                _add(fd, path, _READ_FILE)
        except BaseException:
            os.close(fd)
            raise
        return fd


def allow(ruleset: int, folder: str) -> None:
    """Adds a folder that may be read, with all below."""
    _add(ruleset, folder, _READ_FILE | _READ_DIR)


def _data() -> str:
    """The folder that tools come into; it is made, since what is not there when a task starts is out of its reach."""
    top = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    folder = os.path.join(top, "loop-kit")
    with contextlib.suppress(OSError):
        os.makedirs(folder, 0o700, exist_ok=True)
    return folder


def _around(root: str) -> Iterable[str]:
    """All that is beside a folder and beside those above it; not what comes there later."""
    at = root
    while at != "/":
        above = os.path.dirname(at)
        try:
            with os.scandir(above) as entries:
                yield from (entry.path for entry in entries if entry.path != at and not entry.is_symlink())
        except OSError:
            pass  # what cannot be listed cannot be named
        at = above


def _opened(path: str, access: int = _READ_FILE | _READ_DIR) -> tuple[int, bytes] | None:
    """A path's descriptor and the rule that allows something below; None, where there is none or it cannot be opened."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        access &= ~(_READ_DIR | _REFER)
    return fd, struct.pack("=Qi", access, fd)


def _add(ruleset: int, path: str, access: int) -> None:
    """Allows something below a path; nothing, where there is none."""
    opened = _opened(path, access)
    if opened is None:
        return
    fd, rule = opened
    try:
        # a file among folders to be listed allows nothing
        if struct.unpack("=Qi", rule)[0]:
            _check(_libc().syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(fd)


def held(ruleset: int, start: Callable[[], T]) -> T:
    """Calls something on a thread of its own that is held by a ruleset, and so is what it starts.

    Raises:
        OSError: The system refuses it.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def hold() -> None:
        try:
            libc = _libc()
            zero, one = ctypes.c_ulong(0), ctypes.c_ulong(1)
            _check(libc.prctl(_NO_NEW_PRIVS, one, zero, zero, zero))
            _check(libc.syscall(_RESTRICT, ruleset, 0))
            result.append(start())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=hold, name="loop-held")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _check(code: int) -> int:
    if code < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return code
