"""A workspace's components, built and linked as its manifest says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit._loader import Loader
from loop_kit._members import Key, Linked, Member, Members
from loop_kit._parts import Part, Parts
from loop_kit._swaps import DRAIN, Change, Swaps
from loop_kit.host import App, Host
from loop_kit.manifest import Component, Manifest
from loop_kit.placements import sidecar
from loop_kit.placements._lifecycle import State

__all__ = ["Workspace"]


class Workspace:
    """Loads the components of a manifest into a host; a provider that is a component is loaded once.

    As an async context manager, within that of the host, it ends the sidecars, the sessions with remote providers, and
    Python providers that have an `aclose()`.

    Args:
        host: The host.
        manifest: The manifest.
        stdio: Whether components have this process's standard streams where the manifest grants them.
        audit: Whether each call of an import is logged, by the logger `loop_kit.audit`.
        make: Builds a component before it is loaded, and says which file to load. None: as `build` says.

    Attributes:
        shown: Makes what `builtin:devserver` provides, of a grant and for an importer; None: nothing looks after it.
    """

    shown: Callable[[Mapping[str, Any], str], Any] | None = None

    def __init__(
        self,
        host: Host,
        manifest: Manifest,
        *,
        stdio: bool = True,
        audit: bool = False,
        make: Callable[[Component], Awaitable[Path]] | None = None,
    ) -> None:
        self.host = host
        self.manifest = manifest
        self._apps: dict[str, App] = {}
        self._parts: dict[str, Part] = {}
        self._members = Members(manifest)
        self._loader = Loader(self, stdio, audit, make)
        self._swaps = Swaps(self)

    async def __aenter__(self) -> Workspace:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all that runs, in good order: whoever uses a provider before it. Again is harmless."""
        await self._loader.quiet()
        await self._swaps.aclose()
        self._parts.clear()
        try:
            await self._members.aclose()
        finally:
            self._loader.artifacts.close()

    def members(self) -> list[Member]:
        """All components and providers of the manifest, as they are now; what nobody has needed yet is stopped."""
        return self._members.all()

    def links(self) -> list[Linked]:
        """The imports of what is loaded, and who provides them."""
        return self._members.links()

    def listen(self, told: Callable[[Member], object]) -> Callable[[], None]:
        """Has `told` called with each member that comes into another phase; returns what ends that."""
        return self._members.listen(told)

    def tallies(self) -> dict[tuple[Key, str], tuple[int, int, int]]:
        """What went over each link of what is loaded: calls, those that failed, and nanoseconds of all together.

        By the importer and the interface with its version, as `links` has them.
        """
        return self._swaps.tallies()

    async def restart(self, name: str) -> None:
        """Ends a member in good order and starts it again; calls of it fail meanwhile.

        What runs in the host's own process is exchanged for itself, its code read anew, and no call fails. What it knew
        is gone.

        Raises:
            KeyError: There is none of that name that was needed.
            LoadError: It cannot be started.
            LinkError: Its code no longer serves what the components import; the old one goes on.
        """
        entry = self._members.find(name)
        if entry is None:
            raise KeyError(name)
        if entry.restart is not None:
            await entry.restart()
        elif (component := entry.of if entry.key.kind == "component" else self._served_by(entry.of)) is None:
            await self._swaps.provider(entry.of, self.manifest.providers[entry.of].use, forget=True)
        elif component in self._apps:
            await self._swaps.component(component, anew=True)
        else:
            await self.load(component)

    def _served_by(self, provider: str) -> str | None:
        """The component of the workspace that a provider is, where that is loaded."""
        declared = self.manifest.providers[provider]
        own = declared.placement == "component" and declared.path is None and declared.target in self._apps
        return declared.target if own else None

    async def reload(self) -> None:
        """Has every sidecar that runs read its code anew, all at once.

        Raises:
            ExceptionGroup: A LoadError for each that could not, and goes on as before.
        """
        sessions = [made.session for made in self._ready() if isinstance(made, sidecar.Sidecar)]
        results = await asyncio.gather(*(session.reload() for session in sessions), return_exceptions=True)
        if failed := [item for item in results if isinstance(item, Exception)]:
            raise ExceptionGroup("sidecars that did not reload", failed)

    def routes(self) -> dict[str, _core.Route]:
        """Where the links go that leave this process and are there, by `component/interface`."""
        return {name: route for made in self._ready() for name, route in made.routes.routes.items()}

    def _ready(self) -> list[Any]:
        """The sidecars and sessions that can be called."""
        supervised = [made for part in self._parts.values() for made in part.supervised.values()]
        return [made.running for made in supervised if made.lifecycle.state is State.READY]

    async def build(self, name: str) -> Path:
        """Runs the component's `build`, if it has one, in the manifest's folder; returns the file to load.

        Raises:
            LoadError: The command cannot be started, fails, or leaves no component. Or it is an artifact that is not in
                the store as `loop.lock` has it.
        """
        return await self._loader.build(self.manifest.components[name])

    async def code(self, name: str) -> Path:
        """The file to load a component from, without running the manifest's `build`."""
        component = self.manifest.components[name]
        if self._loader.make is None or component.artifact is not None:
            return component.path
        return await self._loader.make(component)

    async def load(self, name: str) -> App:
        """Loads a component with everything that its imports are linked to.

        Raises:
            LoadError: It, or a provider, cannot be loaded.
            ManifestError: The manifest is not decided about an import, or a secret cannot be read.
        """
        if name not in self._apps:
            async with self._swaps.loading():
                await self._loader.own(name, Parts(self._parts, self.manifest))
        return self._apps[name]

    async def start(self, provider: str) -> bool:
        """Has a sidecar run before any component needs it; returns whether it did not yet.

        Raises:
            KeyError: There is no such provider.
            LoadError: It cannot be started.
        """
        async with self._swaps.loading():
            return await self._loader.start(provider, Parts(self._parts, self.manifest))

    async def swap(
        self, provider: str, use: str | None = None, *, dry_run: bool = False, drain: float = DRAIN
    ) -> list[Change]:
        """Has another provider serve in the place of one, while calls run: `use` is as the manifest would have it.

        None: the same, its code read anew; nothing changes where it is a component of the workspace with the same code.

        The new one is started and linked before it serves. Calls that have begun, and the resources and streams of the
        old one, end there, or after `drain` seconds by ProviderGone; then it is ended. Returns what changes, in words;
        `dry_run`: only that.

        Raises:
            KeyError: There is no such provider.
            ManifestError: The manifest must not say so.
            LoadError: The new one cannot be started, or refuses a link; all is as before, as after a LinkError.
            LinkError: It does not serve what the components import.
        """
        if use is None and (component := self._served_by(provider)) is not None:
            return await self._swaps.component(component, dry_run=dry_run, drain=drain)
        use = use or self.manifest.providers[provider].use
        return await self._swaps.provider(provider, use, dry_run=dry_run, drain=drain)

    async def apply(self, manifest: Manifest, *, dry_run: bool = False, drain: float = DRAIN) -> list[Change]:
        """Has the workspace be what another manifest of its folder says, while calls run: all of it, or nothing.

        What the manifest says of a provider or a component that runs, and no longer is so, is started anew and linked
        before anything serves; imports go over to other providers and grants; then all that changes takes its place at
        once. What is not named any more ends like what was exchanged. What is new is started when it is needed: load
        it. Returns what changes, in words; `dry_run`: only that. When and where components are served is for the next
        start.

        Raises:
            LoadError: Something cannot be started, or is told of changes of a bucket; all is as before.
            LinkError: Something does not serve what is imported; all is as before.
            ManifestError: The manifest is not decided about an import, or of another folder; all is as before.
        """
        return await self._swaps.manifest(manifest, dry_run=dry_run, drain=drain)

    async def replace(
        self, component: str, *, path: Path | None = None, dry_run: bool = False, drain: float = DRAIN
    ) -> list[Change]:
        """Has a component that is loaded served by what its file holds now; returns what changes: its digest.

        Nothing changes where the file holds the same code. Calls that have begun end in the old code, as in `swap`.
        `path`: another file than the manifest's.

        Raises:
            KeyError: It is not loaded.
            LoadError: The file cannot be loaded; all is as before, as after a LinkError.
            LinkError: Its imports, or those of components that it serves, do not fit.
        """
        return await self._swaps.component(component, path, dry_run=dry_run, drain=drain)

    def loaded(self, component: str) -> App | None:
        """A component, where it is loaded."""
        return self._apps.get(component)

    async def reread(self, provider: str, *, drain: float = DRAIN) -> bool:
        """Has a provider read its code anew, and returns whether it had any yet; calls that have begun end in the old.

        A sidecar that can do so by itself does; anything else is exchanged for a new one, as in `swap`.

        Raises:
            KeyError: There is no such provider.
            LoadError: The new code cannot be loaded; all is as before, as after a LinkError.
            LinkError: It does not serve what the components import.
        """
        return await self._swaps.reread(provider, drain=drain)

    def serve(self, name: str, address: str, **options: Any) -> _core.Server:
        """Serves a component that is loaded over HTTP, as `App.serve` does, and what takes its place."""
        return self._swaps.serve(name, self._apps[name], address, **options)
