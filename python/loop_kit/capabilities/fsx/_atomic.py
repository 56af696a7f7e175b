"""A file that is replaced in one step."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from loop_kit.capabilities.fsx._beneath import Handle, open_new, regular
from loop_kit.capabilities.fsx._dir import Dir
from loop_kit.capabilities.fsx._quota import count_of

__all__ = ["Atomic"]


class Atomic:
    """The new contents, until they have the name.

    Where the system can (Linux), they have no name at all before they are complete, so that whatever kills the
    process leaves nothing behind; else a hidden one in the same directory.

    Args:
        dir: The root.
        path: What will be replaced, or made.

    Attributes:
        file: To be written.

    Raises:
        Err: It is a directory, a device, a pipe or a socket, or leads out.
        OSError: Nothing can be made there.
    """

    def __init__(self, dir: Dir, path: str) -> None:
        self._quota = dir.quota
        self._within, self._name = dir.beneath.parent(path, file=True)
        self._temporary: str | None = None
        try:
            there = os.stat(self._name, dir_fd=self._within.fd, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is not None and not stat.S_ISLNK(there.st_mode):
            regular(there)
        self.file = self._make()
        if there is not None and stat.S_ISREG(there.st_mode):
            os.fchmod(self.file.fd, stat.S_IMODE(there.st_mode))

    def _make(self) -> Handle:
        if (unnamed := getattr(os, "O_TMPFILE", 0)) and os.path.isdir("/proc/self/fd"):
            try:
                flags = unnamed | os.O_WRONLY | os.O_CLOEXEC
                return Handle(os.open(".", flags, 0o666, dir_fd=self._within.fd))
            except OSError:
                pass  # not in this file system
        name = _fresh_name()
        made = open_new(name, self._within)
        self._temporary = name
        return made

    def commit(self, durable: bool) -> None:
        """Gives the new contents their name.

        Args:
            durable: Waits until both are on the disk.

        Raises:
            OSError: They cannot have it.
        """
        if durable:
            os.fsync(self.file.fd)
        if self._temporary is None:
            name = _fresh_name()
            own = f"/proc/self/fd/{self.file.fd}"
            os.link(own, name, dst_dir_fd=self._within.fd, follow_symlinks=True)
            self._temporary = name
        try:
            replaced = os.stat(self._name, dir_fd=self._within.fd, follow_symlinks=False)
        except FileNotFoundError:
            replaced = None
        fd = self._within.fd
        os.rename(self._temporary, self._name, src_dir_fd=fd, dst_dir_fd=fd)
        self._temporary = None
        if replaced is not None:
            self._quota.give(count_of(replaced))
        if durable:
            # one to pass through may not be synced, so it is opened anew
            listed = Handle(os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd))
            os.fsync(listed.fd)

    def __del__(self, _unlink: Callable[..., None] = os.unlink) -> None:
        if getattr(self, "_temporary", None) is not None:
            with contextlib.suppress(OSError):
                _unlink(self._temporary, dir_fd=self._within.fd)


def _fresh_name() -> str:
    return f".loop-fsx-{os.urandom(8).hex()}.tmp"
