"""One provider, reached in each way that links can go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import loop_kit as loop
from loop_kit import _remote, provider

WAYS = ("python", "component", "remote")


class Reaching:
    """Makes providers for a host; what it makes is there until it ends."""

    def __init__(self, host: loop.Host, folder: Path, stack: AsyncExitStack) -> None:
        self.host = host
        self._folder = folder
        self._stack = stack
        self._count = 0

    async def remote(self, app: loop.App) -> Any:
        """The route of a link to a component, in a session."""
        self._count += 1
        server = await provider.serve_component(app, on=f"unix:{self._folder / str(self._count)}")
        self._stack.push_async_callback(server.close)
        session = await _remote.connect(
            self.host._engine, server.address, name="it", handshake=True, token=None, tls=None
        )
        self._stack.push_async_callback(session.aclose)
        routes = _remote.Routes()
        await routes.move(session)
        return await routes.bind("it/it", grant={}, config={}, budget=None)


@asynccontextmanager
async def reaching(folder: Path) -> AsyncIterator[Reaching]:
    async with loop.Host() as host, AsyncExitStack() as stack:
        yield Reaching(host, folder, stack)
