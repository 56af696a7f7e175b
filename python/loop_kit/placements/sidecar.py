"""Providers in processes of their own, which this host starts, supervises and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from loop_kit import _core, _remote
from loop_kit import manifest as manifests
from loop_kit._login import as_environment
from loop_kit.manifest import Provider
from loop_kit.placements._lifecycle import Lifecycle
from loop_kit.placements._process import Child, Command
from loop_kit.placements._supervisor import Supervisor

__all__ = ["LAST_WORDS", "LOOK", "Sidecar", "command", "start"]

LOOK = 2.0
"""Seconds between looks at whether a session has ended."""
LAST_WORDS = 0.5
"""Seconds that a process has to end when its session has."""


class Sidecar:
    """One generation of a sidecar: its process and the session with it."""

    def __init__(self, child: Child, session: _remote.Session, routes: _remote.Routes) -> None:
        self.child = child
        self.session = session
        self.routes = routes

    def over(self) -> str | None:
        """Why the process or the session has ended, if so."""
        over = self.child.exit or self.session.remote.over()
        return None if over is None else str(over)

    async def gone(self) -> str:
        """Waits until the process ends, and tells why with its last lines; or until the session has ended.

        One that hangs ends the session: it answers no PING.
        """
        ended = asyncio.ensure_future(self.child.stopped())
        try:
            while not ended.done() and self.session.remote.over() is None:
                await asyncio.wait({ended}, timeout=LOOK)
            await asyncio.wait({ended}, timeout=LAST_WORDS)  # a process that ends closes its session first
            return str(ended.result()) if ended.done() else f"does not answer: {self.session.remote.over()}"
        finally:
            ended.cancel()

    async def aclose(self) -> None:
        """Ends the session, which lets open calls finish, then the process."""
        try:
            await self.session.aclose()
        finally:
            await self.child.stop()


async def start(
    engine: _core.Engine,
    provider: Provider,
    folder: Path,
    lifecycle: Lifecycle | None = None,
    asked: Callable[[], object] | None = None,
    ill: Callable[[Sidecar], Awaitable[str | None]] | None = None,
    admit: Callable[[], Awaitable[Provider]] | None = None,
) -> Supervisor[Sidecar]:
    """Starts a sidecar and keeps it running until the supervisor is closed.

    Args:
        engine: The host's.
        provider: What the manifest says of it.
        folder: The workspace's, in which it runs where it has none of its own.
        lifecycle: The rules of starting it again.
        asked: As in `_remote.connect`.
        ill: As in `Supervisor`.
        admit: Judges what it runs from, each time before it is started, and says how it runs. Raises LoadError.

    Raises:
        LoadError: It cannot be started, or not be connected to.
        ManifestError: A secret cannot be read.
    """
    routes = _remote.Routes()

    async def again() -> Sidecar:
        runs = provider if admit is None else await admit()
        child = await Child.start(command(runs, runs.folder or folder))
        try:
            session = await _connect(engine, child, runs, asked)
            await routes.move(session)
            return Sidecar(child, session, routes)
        except BaseException:
            child.kill()
            await asyncio.shield(child.stopped())
            raise

    supervisor = Supervisor(provider.name, again, lifecycle, ill=ill)
    await supervisor.start()
    return supervisor


def command(provider: Provider, folder: Path) -> Command:
    """What runs for a provider of the manifest, with its secrets.

    Raises:
        ManifestError: A secret cannot be read.
    """
    return Command(
        provider.name,
        provider.argv(),
        folder,
        manifests.reveal(provider.env) | as_environment(manifests.reveal(provider.login)),
        provider.transport,
        provider.address,
        provider.handshake,
        provider.start_timeout,
        provider.stop_timeout,
    )


async def _connect(
    engine: _core.Engine, child: Child, provider: Provider, asked: Callable[[], object] | None
) -> _remote.Session:
    """The session with a sidecar that is ready; it has `aclose()`."""
    where = child.take_pipes() if child.address == "stdio:" else child.address
    return await _remote.connect(
        engine,
        where,
        name=provider.name,
        handshake=provider.handshake,
        token=child.token,
        tls=None,
        login=manifests.reveal(provider.login),
        start_timeout=provider.start_timeout,
        asked=asked,
    )
