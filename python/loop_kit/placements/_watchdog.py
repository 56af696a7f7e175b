"""The process that ends the sidecars' process groups, and removes their sockets, when the host is killed.

One for all children of a host: a shell of a few hundred kilobytes that reads the groups that come and go from a
socket, and acts when the host's end of it closes, for whatever reason. It has a group of its own, so that nothing
meant for the sidecars or for the terminal reaches it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
from pathlib import Path

from loop_kit import _core

__all__ = ["Watchdog", "runtime_folder"]

_SHELL = "/bin/sh"
_SCRIPT = f'{_core.WATCHDOG}rm -rf "$1"\n'
# A socket's path has 108 bytes, 104 on some systems.
_LONGEST_ROOT = 60


class Watchdog:
    """Ends and removes what the host leaves behind; `acquire` one for each child, and `release` it.

    Attributes:
        folder: For sockets, readable for this user alone. It lives as long as the watchdog.
    """

    _lock = threading.Lock()
    _current: Watchdog | None = None

    def __init__(self) -> None:
        self._users = 0
        self._owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="loop-", dir=runtime_folder()))
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs, open(os.devnull, "r+b") as null:
            fds = [theirs.fileno(), null.fileno(), null.fileno()]
            argv = [_SHELL, "-c", _SCRIPT, "loop-watchdog", str(self.folder)]
            path = [("PATH", "/usr/bin:/bin")]
            try:
                self._process = _core.Child.spawn(_SHELL, argv, path, "/", fds)
            except OSError as e:
                ours.close()
                self.folder.rmdir()
                raise OSError(e.errno, f"the watchdog, {_SHELL}, cannot be started: {e.strerror}") from None

    @classmethod
    def acquire(cls) -> Watchdog:
        """The one that runs, or a new one.

        Raises:
            OSError: It cannot be started: there is no shell, or no folder for sockets.
        """
        with cls._lock:
            current = cls._current
            # one that somebody killed is replaced; that of the process this one was forked from is not ours
            if current is None or current._process.exit() is not None or current._owner != os.getpid():
                current = cls._current = Watchdog()
            current._users += 1
            return current

    def release(self) -> None:
        """The last one lets it end."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if Watchdog._current is self:
                Watchdog._current = None
        self._socket.close()
        del self._process  # it ends by itself
        shutil.rmtree(self.folder, ignore_errors=True)

    def fileno(self) -> int:
        """What it listens to."""
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid


def runtime_folder() -> str:
    """The user's folder for sockets, or that for temporary files; never one whose name is too long for a socket's."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in (own, tempfile.gettempdir()):
        try:
            found = os.stat(folder)
        except OSError:
            continue
        safe = folder != own or (found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH)
        if safe and len(os.fsencode(folder)) <= _LONGEST_ROOT:
            return os.path.abspath(folder)
    return "/tmp"
