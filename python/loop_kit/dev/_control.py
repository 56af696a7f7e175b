"""The control plane of a running workspace: `loop:devserver` on a socket of the user's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from loop_kit.dev._devserver import Devserver
from loop_kit.peer import Peer, connect
from loop_kit.placements._watchdog import runtime_folder
from loop_kit.provider import server_of

__all__ = ["INTERFACES", "WIT", "Door", "dial"]

WIT = Path(__file__).resolve().parents[1] / "capabilities" / "devserver" / "wit"
INTERFACES = tuple(
    f"loop:devserver/{name}" for name in ("workspace", "loader", "events", "metrics", "command")
)

_LONGEST = 100
"""Bytes of a socket's path: 107 on Linux, 103 on some systems."""
_ROOT = 0
_SESSIONS = 64
"""Sessions at once; more are closed again at once."""
_PATIENCE = 2.0

_log = logging.getLogger("loop_kit.workspace")


class Door:
    """Where a workspace is spoken with: a socket in a folder that only its user can open. A context manager.

    Whoever connects all the same, as through a folder that somebody has opened, is refused unless it is the same user,
    or root.

    Attributes:
        address: `unix:/…`.
    """

    def __init__(self, path: Path) -> None:
        """Makes the socket, which nobody answers before `open`.

        Args:
            path: Where, in a folder that is this user's alone; what is there is replaced. Where its name is too long
                for a socket's, it is in a folder of its own for temporary files.

        Raises:
            OSError: It cannot be made.
        """
        self._folder = None
        if len(os.fsencode(path)) > _LONGEST:
            self._folder = Path(tempfile.mkdtemp(prefix="loop-", dir=runtime_folder()))
            path = self._folder / "control"
        self._path = path
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            before = os.umask(0o177)
            try:
                self._socket.bind(os.fspath(path))
            finally:
                os.umask(before)
            self._socket.listen(_SESSIONS)
        except BaseException:
            self.close()
            raise
        self.address = f"unix:{path}"

    def close(self) -> None:
        """Removes it. Again is harmless."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.asynccontextmanager
    async def open(self, served: Devserver) -> AsyncIterator[None]:
        """Answers while it lasts."""
        loop = asyncio.get_running_loop()
        sessions: set[asyncio.Task[None]] = set()

        def come() -> None:
            fd = self._accepted(len(sessions))
            if fd is not None:
                task = loop.create_task(_session(fd, served))
                sessions.add(task)
                task.add_done_callback(sessions.discard)

        loop.add_reader(self._socket, come)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)
            for task in sessions:
                task.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)

    def _accepted(self, sessions: int) -> int | None:
        """A connection of somebody who may come in."""
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return None  # it has gone again, or there is no descriptor left
        with connection:
            user = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if user not in (_ROOT, os.geteuid()):
                _log.warning("refused user %d at the control plane: it is user %d's", user, os.geteuid())
                return None
            if sessions >= _SESSIONS:
                _log.warning("refused a session of the control plane: there are %d", _SESSIONS)
                return None
            connection.setblocking(False)
            return connection.detach()


async def _session(fd: int, served: Devserver) -> None:
    """One session, until it ends; cancelled, it lets calls end that have begun."""
    visit = served.visit()
    server = server_of(visit, interfaces=INTERFACES, wit=WIT)
    server.accept(fd, fd)
    try:
        await server.idle()
    finally:
        visit.leave()
        await server.close(_PATIENCE)


async def dial(address: str, patience: float = 5.0) -> Peer:
    """A session with a workspace's control plane.

    Raises:
        PeerError: Nobody answers there.
    """
    return await connect(address, INTERFACES, wit=WIT, patience=patience, identity="loop")
