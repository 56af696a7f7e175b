"""The loop of changing code: what has changed is built and takes the place of what ran, while everything goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit import manifest as manifests
from loop_kit import telemetry
from loop_kit.dev import page
from loop_kit.dev._builds import Builder
from loop_kit.dev._command import check
from loop_kit.dev._events import Begun, Done, Event, Failed, Member, Place
from loop_kit.dev._host import Looked
from loop_kit.dev._journal import Journal
from loop_kit.dev._places import places
from loop_kit.dev._shown import Shown
from loop_kit.dev._watch import Batch, Watcher
from loop_kit.errors import LoadError, LoopError
from loop_kit.host import App, Host
from loop_kit.manifest import Component, Manifest
from loop_kit.workspace import Workspace

__all__ = ["Live", "Settings", "Told", "Unserved", "dev"]

_log = logging.getLogger("loop_kit.dev")


@dataclass(frozen=True, slots=True)
class Live:
    """New code serves.

    Attributes:
        member: Whose.
        milliseconds: How long it took to put it in its place, without its build.
        first: It is there for the first time.
    """

    member: Member
    milliseconds: float
    first: bool = False


@dataclass(frozen=True, slots=True)
class Unserved:
    """Code that was built cannot serve; what ran before goes on.

    Attributes:
        member: Whose.
        reason: Why.
        places: The files and lines that the reason names.
    """

    member: Member
    reason: str
    places: tuple[Place, ...] = ()


Told = Event | Live | Unserved


@dataclass(frozen=True, slots=True)
class Settings:
    """How `dev` runs.

    Attributes:
        command: Runs a component with `run = "run"` to its end.
        page: Where the page is served; None: nowhere.
        audit: As in `Workspace`.
        grace: Seconds that requests have to end when the workspace ends.
    """

    command: Callable[[App], int]
    page: str | None = None
    audit: bool = False
    grace: float = 1.5


async def dev(
    manifest: Manifest,
    attend: Callable[[Workspace], AbstractAsyncContextManager[Looked]],
    tell: Callable[[Told], object],
    settings: Settings,
) -> None:
    """Runs a workspace until it is to end; what cannot be built or loaded is tried again once it has changed.

    Args:
        manifest: The workspace.
        attend: Looks after it, as in `run`.
        tell: Told of builds, and of what serves; at once and on the event loop.
        settings: The rest.

    Raises:
        LoadError: The folder cannot be watched, or the page cannot be served.
    """
    with telemetry.exporting():
        async with Host(incremental=True) as host, Watcher(manifest) as watcher:
            journal: list[Journal] = []

            shown = Shown(manifest)

            def told(event: Told) -> None:
                for one in journal:
                    record(one, event)
                show(shown, event)
                tell(event)

            async with Builder(manifest, told) as builder:
                loop = _Loop(manifest, host, builder, watcher, told, shown, settings)
                async with attend(loop.workspace) as looked, loop.workspace:
                    journal.append(looked.devserver.journal)
                    await loop.run(looked)


class _Unbuilt(LoadError):
    """A component has no build that succeeded."""


class _Loop:
    def __init__(
        self,
        manifest: Manifest,
        host: Host,
        builder: Builder,
        watcher: Watcher,
        tell: Callable[[Told], object],
        shown: Shown,
        settings: Settings,
    ) -> None:
        self.workspace = Workspace(host, manifest, audit=settings.audit, make=self._make)
        self._host = host
        self._builder = builder
        self._watcher = watcher
        self._tell = tell
        self._shown = shown
        self._settings = settings
        self._loaded: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._order: dict[Member, asyncio.Lock] = {}
        self._loading = asyncio.Lock()

    async def run(self, looked: Looked) -> None:
        """Until it is to end."""
        urls: dict[str, str] = {}
        looked.devserver.measured()  # from the beginning on
        if self._settings.page is not None:
            try:
                urls["page"] = await page.serve(self._host, looked.devserver.visit(), self._settings.page)
            except (ValueError, OSError) as e:
                raise LoadError(f"the page cannot be served at {self._settings.page}: {e}") from None
        self._looked = looked
        stopped = asyncio.ensure_future(looked.stop.wait())
        try:
            beginning = asyncio.ensure_future(self._begin())
            await self._until(beginning, stopped)
            if beginning.done():
                beginning.result()
                looked.ready({**self._shown.urls(), **urls})
                await self._until(self._spawn(self._follow()), stopped)
        finally:
            stopped.cancel()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._shown.aclose(self._settings.grace)

    async def _until(self, work: asyncio.Future[Any], stopped: asyncio.Future[Any]) -> None:
        """Until the work is done, or the end is wanted, which ends the work."""
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        elif not work.cancelled():
            work.result()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _make(self, component: Component) -> Path:
        """What the workspace has a component loaded from: its last good build."""
        member = Member("component", component.name)
        for made in await self._builder.build([member]):
            if isinstance(made, Failed) and not self._builder.digest(member):
                raise _Unbuilt(f"building {component.name}: {made.reason}")
        path = self._builder.output(component.name)
        check(component, path)
        return path

    async def _begin(self) -> None:
        """Builds what must be, and loads what the manifest says is to run."""
        members = await self._builder.scan()
        while members:
            await self._builder.build(members)
            # what builds have written is known before anything is loaded, which is so not loaded again for it
            members = await self._builder.changed(())
        await self._load_all()

    async def _load_all(self) -> None:
        async with self._loading:
            wanted = [c for c in self.workspace.manifest.components.values() if c.run or c.watch]
            await asyncio.gather(*(self._load(c) for c in wanted if c.name not in self._loaded))
            if not self.workspace.manifest.components:
                # nobody would have them start, and their errors are what whoever writes them is after
                alone = (p for p in self.workspace.manifest.providers.values() if p.placement == "sidecar")
                await asyncio.gather(*(self._start(p.name) for p in alone if not p.isolate))

    async def _start(self, name: str) -> None:
        member, began = Member("provider", name), time.perf_counter()
        try:
            if await self.workspace.start(name):
                self._tell(Live(member, (time.perf_counter() - began) * 1000, first=True))
        except (LoopError, OSError) as e:
            self._tell(Unserved(member, str(e)))

    async def _load(self, component: Component) -> None:
        member = Member("component", component.name)
        began = time.perf_counter()
        try:
            app = await self.workspace.load(component.name)
            if component.run == "serve":
                await self._shown.serve(self.workspace, component, self._failed)
        except _Unbuilt:
            return  # why was told as it failed
        except (LoopError, OSError) as e:
            self._tell(self._unserved(member, e))
            return
        self._loaded.add(component.name)
        self._tell(Live(member, (time.perf_counter() - began) * 1000, first=True))
        self._run_again(component, app)

    def _unserved(self, member: Member, error: Exception) -> Unserved:
        return Unserved(member, str(error), places(str(error), self.workspace.manifest.folder))

    def _run_again(self, component: Component, app: App) -> None:
        if component.run == "run":
            self._spawn(asyncio.to_thread(self._settings.command, app))

    def _failed(self, request: str, text: str) -> None:
        _log.error("%s: %s", request, text)

    async def _follow(self) -> None:
        """Takes up changes as they come; each member's one after the other."""
        async for batch in self._watcher:
            await self._changed(batch)

    async def _changed(self, batch: Batch) -> None:
        await self._assets(batch)
        for member in sorted(await self._builder.changed(batch)):
            self._shown.touched(member, batch.paths, self._builder.files(member))
            self._spawn(self._take_up(member))

    async def _assets(self, batch: Batch) -> None:
        """Tells whoever shows files of the workspace that they have changed."""
        if batch.everything:
            self._shown.everything()
        elif changed := await self._shown.changed(batch.paths):
            folder = self.workspace.manifest.folder
            paths = [os.path.relpath(path, folder) for path in changed[:1000]]
            size = sum(map(len, paths))
            self._looked.devserver.journal.tell("assets", ("assets", paths), size)

    async def _take_up(self, member: Member) -> None:
        async with self._order.setdefault(member, asyncio.Lock()):
            for made in await self._builder.build([member]):
                if isinstance(made, Failed):
                    return
                began = time.perf_counter()
                try:
                    live = await self._put(member)
                except (LoopError, OSError) as e:
                    self._tell(self._unserved(member, e))
                    continue
                if not made.fresh:
                    # going back to what was built mends what failed, and nothing else tells so
                    self._tell(made)
                if live:
                    self._tell(Live(member, (time.perf_counter() - began) * 1000))
        # what could not be loaded before may be now
        await self._load_all()

    async def _put(self, member: Member) -> bool:
        """Has a member's new code serve; whether there was anything to be done."""
        workspace = self.workspace
        if member.kind == "manifest":
            return await self._redeclare()
        if member.kind == "component":
            app = workspace.loaded(member.name)
            if app is None:
                return False
            if not await workspace.replace(member.name, path=self._builder.output(member.name)):
                return False
            self._run_again(workspace.manifest.components[member.name], app)
            return True
        if member.kind == "provider" and member.name in workspace.manifest.providers:
            return await workspace.reread(member.name)
        return False

    async def _redeclare(self) -> bool:
        old, manifest = self.workspace.manifest, manifests.load(self.workspace.manifest.path)
        changed = await self._builder.replace(manifest)  # what is loaded anew is what it makes
        try:
            for change in await self.workspace.apply(manifest):
                _log.info("%s: %s → %s", change.member, change.before or "nothing", change.after or "nothing")
        except BaseException:
            await self._builder.replace(old)
            raise
        await self._watcher.replace(manifest)
        for name in self._loaded - manifest.components.keys():
            self._loaded.discard(name)
        self._shown.define(manifest)
        for member in changed:
            if member.kind != "manifest":
                self._spawn(self._take_up(member))
        return True


def show(shown: Shown, event: Told) -> None:
    """Tells pages that are shown."""
    match event:
        case Live():
            shown.served(event.member)
        case Failed() | Unserved():
            shown.failed(event.member, event.reason)


def record(journal: Journal, event: Told) -> None:
    """Tells the control plane, and with it the page, as `loop:devserver/events` has it."""
    match event:
        case Begun():
            _build(journal, event.member, "begun")
        case Done():
            _build(journal, event.member, "done", event.milliseconds, event.output)
        case Failed():
            output = event.output or event.reason
            _build(journal, event.member, "failed", event.milliseconds, output, event.places)
        case Unserved():
            # nothing of it serves, whatever made it: for whoever looks it is as a build that failed
            _build(journal, event.member, "failed", 0, event.reason, event.places)


def _build(
    journal: Journal,
    member: Member,
    step: str,
    milliseconds: int = 0,
    output: str = "",
    places: Iterable[Place] = (),
) -> None:
    told: list[dict[str, Any]] = [
        {"file": p.file, "line": p.line, "column": p.column, "excerpt": p.excerpt or p.message}
        for p in places
    ]
    said: dict[str, Any] = {"member": member.name, "step": step}
    said |= {"milliseconds": milliseconds, "output": output, "places": told}
    journal.tell("builds", ("build", said), len(output) + sum(len(p["excerpt"]) for p in told))
