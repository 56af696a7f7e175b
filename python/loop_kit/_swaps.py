"""Exchanges of a running workspace's providers and components: all of one, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_kit import _core
from loop_kit import manifest as manifests
from loop_kit._gate import Retired
from loop_kit._members import Entry, Key, digest_of
from loop_kit._parts import Bound, Parts
from loop_kit.errors import LoadError, LoopError
from loop_kit.host import App
from loop_kit.placements._lifecycle import State

if TYPE_CHECKING:
    from loop_kit.workspace import Workspace

__all__ = ["DRAIN", "Change", "Swaps"]

DRAIN = 10.0
"""Seconds that a provider has to finish what it has begun, once another serves in its place."""

_log = logging.getLogger("loop_kit.swap")


@dataclass(frozen=True, slots=True)
class Change:
    """What an exchange changes of a member, in words.

    Attributes:
        member: Its name, or that of the import of a component: `site/loop:fsx/files`.
        before: What was.
        after: What is.
    """

    member: str
    before: str
    after: str


class Swaps:
    """Exchanges one after the other; what they have retired ends in the background."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._bound: list[tuple[weakref.ref[App], Bound]] = []
        self._servers: dict[str, list[_core.Server]] = {}
        self._order = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def bound(self, app: App, bound: Iterable[Bound]) -> None:
        """Notes what a component that was loaded is linked to."""
        self._bound = [known for known in self._bound if known[0]() is not None]
        self._bound += [(weakref.ref(app), one) for one in bound]

    def serve(self, name: str, app: App, address: str, **options: Any) -> _core.Server:
        """Serves a component over HTTP, and what takes its place."""
        server = app.serve(address, **options)
        self._servers.setdefault(name, []).append(server)
        return server

    def tallies(self) -> dict[tuple[Key, str], tuple[int, int, int]]:
        """Calls, those of them that failed, and nanoseconds of all together, by who imports what.

        Counted since the importer was loaded, whoever served them.
        """
        found: dict[tuple[Key, str], tuple[int, int, int]] = {}
        for app, one in self._bound:
            for slot in one.gate.slots() if app() is not None else ():
                key = one.asked.importer, slot.interface.name
                calls, errors, busy = found.get(key, (0, 0, 0))
                more = slot.tally
                found[key] = calls + more[0], errors + more[1], busy + more[2]
        return found

    async def aclose(self) -> None:
        """Ends what was retired, without waiting for what it has begun."""
        for task in [*self._retiring]:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def provider(self, name: str, use: str, *, dry_run: bool, drain: float) -> list[Change]:
        """As `Workspace.swap`."""
        async with self._order:
            workspace = self._workspace
            before = workspace.manifest.providers[name]
            manifest = manifests.with_use(workspace.manifest, name, use)
            after = manifest.providers[name]
            bound = [one for app, one in self._bound if app() is not None and one.asked.provider == name]
            changes = [Change(name, before.use, after.use)]
            changes += [
                Change(f"{one.asked.called}/{one.asked.wanted}", before.use, after.use) for one in bound
            ]
            if dry_run:
                return changes
            self._refuse_watched(name)
            parts = Parts(workspace._parts, {name: after})
            part = parts.of(name)
            try:
                commits = []
                for one in bound:
                    served = await workspace._provide(one.asked, parts)
                    # linked on another thread: what is compiled or opened must not hold up the loop
                    commits.append(await asyncio.to_thread(one.gate.prepare, served))
            except BaseException:
                await self._end(part.entries.values())
                raise
            # from here on nothing waits, and nothing fails
            workspace.manifest = manifest
            workspace._members.redeclare(manifest)
            retired = [commit() for commit in commits]
            old = workspace._members.succeed(part.entries.values(), name, "provider")
            if bound:
                part.fresh = False
                workspace._parts[name] = part
                workspace._apps.update(part.apps)
            else:
                workspace._parts.pop(name, None)  # nobody has needed it: it is started when it is
            self._retire(self._drained(name, retired, old, drain))
            return changes

    async def reread(self, name: str, *, drain: float) -> bool:
        """As `Workspace.reread`."""
        workspace = self._workspace
        provider = workspace.manifest.providers[name]
        part = workspace._parts.get(name)
        if part is None:
            return False  # it is read when it is needed
        if provider.placement == "sidecar" and provider.target.startswith("python:"):
            async with self._order:
                for member, made in part.supervised.items():
                    if made.lifecycle.state is State.READY:
                        await made.running.session.reload()
                        workspace._members.reread(member)
            return True
        await self.provider(name, provider.use, dry_run=False, drain=drain)
        return True

    async def component(
        self,
        name: str,
        path: Path | None = None,
        *,
        dry_run: bool = False,
        anew: bool = False,
        drain: float = DRAIN,
    ) -> list[Change]:
        """As `Workspace.replace`; `anew`: also where it is the same code, which so begins anew."""
        async with self._order:
            workspace = self._workspace
            app = workspace._apps[name]
            key = Key("component", name)
            now = workspace._members.entry(key)
            path = path or await workspace.code(name)
            held = await asyncio.to_thread(digest_of, path)
            if held is not None and held == now.digest and not anew:
                return []
            if dry_run:
                return [Change(name, str(now.digest), held or f"{path}, which is not there")]
            entry = workspace._members.successor(key, name, far=False)
            try:
                with workspace._members.starting(entry):
                    made = await workspace._load_component(entry, path, Parts(workspace._parts))
                commits = []
                for _, one in self._bound:
                    if one.gate.provider is app:
                        commits.append(await asyncio.to_thread(one.gate.prepare, made))
                gates = [one.gate for _, one in self._bound if one.gate.provider is app]
                for server in self._servers.get(name, ()):
                    server.exchange(made._program)  # or it serves no HTTP, as its servers all find
            except BaseException:
                await self._end([entry])
                raise
            retired = [commit() for commit in commits]
            old_program = app._program
            app._become(made)
            for gate in gates:
                gate.provider = app
            self._bound = [
                (weakref.ref(app) if of() is made else of, one) for of, one in self._bound if of() is not app
            ]
            old = workspace._members.succeed([entry], name, "component")
            self._retire(self._drained(name, retired, old, drain, old_program))
            return [Change(name, str(now.digest), str(entry.digest))]

    def _refuse_watched(self, name: str) -> None:
        manifest = self._workspace.manifest
        for component in manifest.components.values():
            link = manifest.link_for(component.name, "wasi:keyvalue/store@0.2.0-draft")
            if component.watch and link is not None and link.provider == name:
                raise LoadError(
                    f"{name} cannot be exchanged: {component.name} watches its buckets; start the workspace again"
                )

    def _retire(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drained(
        self,
        name: str,
        retired: list[Retired],
        old: list[Entry],
        seconds: float,
        program: _core.Program | None = None,
    ) -> None:
        """Lets what has begun end, and ends what is left."""
        try:
            ended = await asyncio.gather(*(one.drained(seconds) for one in retired))
            if program is not None:
                ended.append(await _idle(lambda: program.calls == 0, seconds))
            if not all(ended):
                _log.warning("%s had not finished %g s after it was exchanged", name, seconds)
        finally:
            await self._end(old)

    async def _end(self, entries: Iterable[Entry]) -> None:
        for entry in [*entries]:
            with contextlib.suppress(LoopError, OSError):  # there is nobody left to part from in good order
                await self._workspace._members.end(entry)


async def _idle(is_idle: Callable[[], bool], seconds: float) -> bool:
    """Waits until something is so, `seconds` at most; whether it is."""
    end = asyncio.get_running_loop().time() + seconds
    while not is_idle():
        if asyncio.get_running_loop().time() >= end:
            return False
        await asyncio.sleep(0.01)
    return True
