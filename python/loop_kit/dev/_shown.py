"""What of a workspace browsers show: its components that are served, and how their pages learn of changes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from loop_kit import _core
from loop_kit.dev._assets import Assets
from loop_kit.dev._events import Member
from loop_kit.dev.live import Front, Live, is_own
from loop_kit.manifest import Component, Manifest
from loop_kit.workspace import Workspace

__all__ = ["Shown"]

_log = logging.getLogger("loop_kit.dev")
_BEHIND = "127.0.0.1:0"
"""Where a component is served whose pages are live: what is asked of it goes through what is before it."""


class Shown:
    """Serves the components of a workspace.

    Args:
        manifest: The workspace.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._live = Live()
        self._assets = Assets(manifest)
        self._servers: dict[str, tuple[_core.Server, Front | None]] = {}
        self._touched: defaultdict[Member, set[str]] = defaultdict(set)

    def define(self, manifest: Manifest) -> None:
        """Goes on with another manifest."""
        self._assets.define(manifest)
        for name in self._servers.keys() - manifest.components.keys():
            _, front = self._servers.pop(name)
            if front is not None:
                asyncio.ensure_future(front.aclose())  # noqa: RUF006 # nobody waits for its end

    async def serve(
        self, workspace: Workspace, component: Component, on_error: Callable[[str, str], None]
    ) -> None:
        """Serves a component that is loaded.

        Raises:
            LoadError: It serves no HTTP.
            OSError: Its address cannot be used.
        """
        name, address = component.name, component.serve.addr
        if not component.serve.live or not is_own(address):
            if component.serve.live:
                _log.info("pages of %s are not live: others than this machine reach %s", name, address)
            self._servers[name] = workspace.serve(name, address, on_error=on_error), None
            return
        server = workspace.serve(name, _BEHIND, on_error=on_error)
        try:
            front = await self._live.open(address, server.address)
        except BaseException:
            await asyncio.to_thread(server.shutdown, 0)
            raise
        self._servers[name] = server, front

    def urls(self) -> dict[str, str]:
        """Where each component is served."""
        return {
            name: f"http://{server.address if front is None else front.address}/"
            for name, (server, front) in self._servers.items()
        }

    async def aclose(self, grace: float) -> None:
        """Ends what is served, requests within `grace` seconds."""
        fronts = [front for _, front in self._servers.values() if front is not None]
        servers = [server for server, _ in self._servers.values()]
        await asyncio.gather(*(asyncio.to_thread(server.shutdown, grace) for server in servers))
        await asyncio.gather(*(front.aclose() for front in fronts))

    async def changed(self, paths: Iterable[Path]) -> list[str]:
        """Tells pages of those files that they show, and returns them."""
        if changed := await self._assets.changed(paths):
            self._live.assets(changed)
        return changed

    def everything(self) -> None:
        """Tells pages that any file may have changed."""
        self._live.code("")

    def touched(self, member: Member, paths: Iterable[Path], files: frozenset[Path]) -> None:
        """Which files a member is to be made anew for."""
        self._touched[member] |= {os.fspath(path) for path in paths if path in files or not path.exists()}

    def served(self, member: Member) -> None:
        """Tells pages that new code of a member serves."""
        paths = self._touched.pop(member, set())
        styles = bool(paths) and all(path.endswith(".css") for path in paths)
        self._live.code(member.name, styles=styles)

    def failed(self, member: Member, reason: str) -> None:
        """Tells pages that new code of a member cannot serve."""
        self._live.failed(member.name, reason)
