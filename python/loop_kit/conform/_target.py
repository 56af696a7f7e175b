"""Where the provider under test is, and connections to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from loop_kit import peer
from loop_kit._address import Address
from loop_kit.errors import PeerError
from loop_kit.placements._process import Child, Command

__all__ = ["WIT", "Target"]

WIT = Path(__file__).parent / "wit"
"""The folder of the conformance interface."""

_START = 60.0


class Target:
    """A provider that is driven; an async context manager, which starts and ends its program where there is one.

    Attributes:
        address: Where it is.
        token: What it asks for, or None.
    """

    def __init__(
        self,
        address: str,
        *,
        command: Sequence[str] = (),
        token: str | None = None,
        wit: str | os.PathLike[str] = WIT,
    ) -> None:
        """Nothing is started or connected to yet.

        Args:
            address: `unix:PATH`, `tcp://HOST:PORT`, or, with a command, `stdio:`.
            command: The program that serves there. Without one somebody else has started it.
            token: What it asks for; a program is given one where it needs it.
            wit: The file or folder with the conformance interface.

        Raises:
            PeerError: The address cannot be used so.
        """
        try:
            self._transport = Address.parse(address).scheme
        except ValueError as error:
            raise PeerError(f"{error}; expected unix:PATH, tcp://HOST:PORT or stdio:") from None
        if self._transport not in ("unix", "tcp", "stdio"):
            raise PeerError(f"{address}: a run reaches unix:, tcp: and stdio: alone")
        if self._transport == "stdio" and not command:
            raise PeerError("stdio: needs the program to start: `loop conform stdio: -- PROGRAM …`")
        self.address = address
        self.token = token
        self.wit = Path(wit)
        self._command = tuple(command)
        self._child: Child | None = None

    async def __aenter__(self) -> Target:
        if self._command and self._transport != "stdio":
            self._child = await self._start()
            self.address, self.token = self._child.address, self._child.token
        return self

    async def __aexit__(self, *_: object) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    @property
    def is_shared(self) -> bool:
        """Whether connections reach the same process."""
        return self._transport != "stdio"

    async def _start(self) -> Child:
        fixed = None if self._transport == "stdio" else self.address
        run = Command("conform", self._command, Path.cwd(), {}, self._transport, fixed, start_timeout=_START)
        return await Child.start(run)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[str | tuple[int, int]]:
        """What `peer.connect` takes: an address, or descriptors that whoever connects owns from then on.

        Raises:
            LoadError: The program cannot be started.
        """
        if self.is_shared:
            yield self.address
            return
        child = await self._start()
        try:
            yield child.take_pipes()
        finally:
            await child.stop()

    @contextlib.asynccontextmanager
    async def session(
        self, wit: Path | None = None, token: str | None = None, grant: str | None = "{}", config: str = ""
    ) -> AsyncIterator[peer.Peer]:
        """A session, with link 1 bound unless `grant` is None.

        Raises:
            PeerError, LoadError: There is none.
        """
        async with self.connection() as where:
            shown = self.token if token is None else token
            async with await peer.connect(
                where, wit=wit or self.wit, token=shown, identity="conform"
            ) as session:
                if grant is not None:
                    await session.link(1, "conform/all", grant, config)
                yield session
