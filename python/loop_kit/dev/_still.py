"""Runs a command of a workspace that does not run: its component is loaded here, with what it is linked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from loop_kit import inspect
from loop_kit._members import Key, Linked, Member
from loop_kit._session import instance_id
from loop_kit.dev._command import check
from loop_kit.dev._devserver import Devserver
from loop_kit.errors import LoopError
from loop_kit.host import Host
from loop_kit.manifest import Component, Manifest
from loop_kit.workspace import Workspace

__all__ = ["commands", "run"]


class _Still(Devserver):
    """Shows the links that there would be, and tells nobody of what it loads."""

    def _changed(self, member: Member) -> None:
        pass

    def links(self) -> list[dict[str, Any]]:
        """All links, by what components import; of one that is not built yet, by what the manifest says of it."""
        manifest, found = self._workspace.manifest, []
        importers: list[tuple[Key, str | None, Path, Iterable[str]]] = [
            (Key("component", name), name, component.path, component.imports)
            for name, component in manifest.components.items()
        ]
        importers += [
            (Key("provider", name), None, provider.path, ())
            for name, provider in manifest.providers.items()
            if provider.placement == "component" and provider.path is not None
        ]
        for key, name, path, otherwise in importers:
            for wanted in _imports(path, otherwise):
                with contextlib.suppress(LoopError):  # it contradicts itself, which `loop explain` tells
                    if (link := manifest.link_for(name, wanted)) is not None:
                        linked = Linked(key, wanted, Key("provider", link.provider), link)
                        found.append(self._link(linked, {}, {}))
        return found


def _imports(path: Path, otherwise: Iterable[str]) -> list[str]:
    try:
        return [*inspect.imports(path)]
    except (LoopError, OSError):
        return [*otherwise]


async def commands(manifest: Manifest, version: str) -> list[dict[str, str]]:
    """All commands, as `Devserver.commands`; nothing is built for that."""

    async def there(component: Component) -> Path:
        check(component, component.path)
        return component.path

    async with _looked_at(manifest, version, there) as devserver:
        return await devserver.commands()


async def run(manifest: Manifest, version: str, name: str, args: Sequence[str]) -> tuple[int, str]:
    """Runs a command, as `Devserver.run`; what it takes is built.

    Raises:
        Err: Why it did not run, in words.
    """
    async with _looked_at(manifest, version, None) as devserver:
        return await devserver.run(name, [*args])


@contextlib.asynccontextmanager
async def _looked_at(manifest: Manifest, version: str, make: Any) -> AsyncIterator[Devserver]:
    over = asyncio.Event()
    async with Host() as host:
        workspace = Workspace(host, manifest, stdio=False, make=make)
        devserver = _Still(workspace, instance=instance_id(), version=version, stop=over.set)
        try:
            async with workspace:
                yield devserver
        finally:
            devserver.close()
