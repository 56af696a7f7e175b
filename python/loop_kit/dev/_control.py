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
from loop_kit.provider import Server, server_of

__all__ = ["INTERFACES", "WIT", "Door", "dial"]

WIT = Path(__file__).resolve().parents[1] / "capabilities" / "devserver" / "wit"
INTERFACES = tuple(f"loop:devserver/{name}" for name in ("workspace", "loader", "events", "command"))

_SESSIONS = 64
"""Sessions at once; more are closed again at once."""
_PATIENCE = 2.0

_log = logging.getLogger("loop_kit.workspace")


class Door:
    """Where a workspace is spoken with: a socket in a folder that only its user can open. A context manager.

    Whoever connects all the same, as through a folder that somebody has opened, is refused unless it is the same user,
    or root.

    Attributes:
        address: `unix:/…/control`.
    """

    def __init__(self) -> None:
        """Makes the socket, which nobody answers before `open`.

        Raises:
            OSError: There is no folder for it.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="loop-", dir=runtime_folder()))
        path = self._folder / "control"
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
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.asynccontextmanager
    async def open(self, served: Devserver) -> AsyncIterator[None]:
        """Answers while it lasts."""
        server = server_of(served, interfaces=INTERFACES, wit=WIT)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._come, server)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)
            await server.close(_PATIENCE)

    def _come(self, server: Server) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return  # it has gone again, or there is no descriptor left
        with connection:
            user = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if user not in (0, os.geteuid()):
                _log.warning("refused user %d at the control plane: it is user %d's", user, os.geteuid())
                return
            if len(server._sessions) >= _SESSIONS:
                _log.warning("refused a session of the control plane: there are %d", _SESSIONS)
                return
            connection.setblocking(False)
            fd = connection.detach()
        server.accept(fd, fd)


async def dial(address: str, patience: float = 5.0) -> Peer:
    """A session with a workspace's control plane.

    Raises:
        PeerError: Nobody answers there.
    """
    return await connect(address, INTERFACES, wit=WIT, patience=patience, identity="loop")
