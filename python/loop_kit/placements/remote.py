"""Providers at an address: whoever runs them, it is not this host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loop_kit import _core, _remote
from loop_kit import manifest as manifests
from loop_kit.manifest import Provider
from loop_kit.placements._lifecycle import Lifecycle, Restarts
from loop_kit.placements._supervisor import Supervisor

__all__ = ["RESTARTS", "Connection", "start"]

RESTARTS = Restarts(budget=None)
"""Whoever runs the provider decides when it is there again: its sessions are never given up."""
_LOOK = 0.5
"""Seconds between looks at whether a session has ended."""


class Connection:
    """One session with a remote provider."""

    def __init__(self, session: _remote.Session, routes: _remote.Routes) -> None:
        self.session = session
        self.routes = routes

    def over(self) -> str | None:
        """Why the session has ended, if so."""
        why = self.session.remote.over()
        return None if why is None else str(why)

    async def gone(self) -> str:
        """Waits until the session has ended, and tells why."""
        while (why := self.over()) is None:  # noqa: ASYNC110 - the core can only be asked
            await asyncio.sleep(_LOOK)
        return why

    async def aclose(self) -> None:
        """Lets calls end that have begun, and ends the session."""
        await self.session.aclose()


async def start(
    engine: _core.Engine,
    provider: Provider,
    lifecycle: Lifecycle | None = None,
    asked: Callable[[], object] | None = None,
    ill: Callable[[Connection], Awaitable[str | None]] | None = None,
) -> Supervisor[Connection]:
    """Begins a session with a remote provider, and another one whenever that ends, until the supervisor is closed.

    Args:
        engine: The host's.
        provider: What the manifest says of it.
        lifecycle: The rules of beginning another one.
        asked: As in `_remote.connect`.
        ill: As in `Supervisor`.

    Raises:
        LoadError: It cannot be connected to, or is not what it should be.
        ManifestError: The token or login cannot be read.
    """
    routes = _remote.Routes()

    async def again() -> Connection:
        token = manifests.reveal(provider.token)
        session = await _remote.connect(
            engine,
            provider.target,
            name=provider.name,
            handshake=provider.handshake,
            token=token,
            tls=provider.tls,
            login=manifests.reveal(provider.login),
            asked=asked,
        )
        try:
            await routes.move(session)
        except BaseException:
            await session.aclose()
            raise
        return Connection(session, routes)

    supervisor = Supervisor(provider.name, again, lifecycle or Lifecycle(RESTARTS), ill=ill)
    await supervisor.start()
    return supervisor
