"""Workspaces whose builds say that they ran, and a session that watches one as `loop dev` does."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loop_kit import manifest
from loop_kit.dev import Batch, Builder, Done, Event, Failed, Member, Watcher
from loop_kit.manifest._toml import inline
from tests.dev import join

PATIENCE = 20


def component(name: str) -> Member:
    return Member("component", name)


def provider(name: str) -> Member:
    return Member("provider", name)


class Workspace:
    """A folder with a manifest.

    Attributes:
        folder: The folder.
        log: A file outside of it, to which builds write a line each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ws"
        self.folder.mkdir()
        self.log = folder / "log"
        self.log.touch()
        self._members: dict[str, str] = {}
        self.ignore("")

    def ignore(self, text: str) -> None:
        """What git ignores, besides what this session marks its time with."""
        self.write(".gitignore", f"/marks-*\n{text}")

    def write(self, path: str, text: str = "") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def build(
        self, name: str = "site", *, of: str = "src", output: str | None = None, more: str = "", **keys: Any
    ) -> None:
        """Has a component whose build puts the files of a folder together, by name and contents; `more` runs before."""
        path = output or f"out/{name}.wasm"
        keys = {"build": self.command(name, of, path, more), "sources": [f"{of}/**"]} | keys
        self.component(name, path=path, **{key: value for key, value in keys.items() if value is not None})

    def command(self, name: str, of: str, path: str, more: str = "") -> str:
        return f"echo {name} >> {self.log}; {more} {sys.executable} -SI {join.__file__} {of} {path}"

    def component(self, name: str, **keys: Any) -> None:
        self._member(f"components.{name}", keys)

    def provider(self, name: str, use: str, **keys: Any) -> None:
        self._member(f"providers.{name}", {"use": use, **keys})

    def _member(self, table: str, keys: Mapping[str, Any]) -> None:
        lines = (f"{key} = {inline(value)}" for key, value in keys.items())
        self._members[table] = "\n".join((f"[{table}]", *lines))
        self.write("loop.toml", "\n".join(self._members.values()) + "\n")

    def fresh(self, of: str = "src") -> str:
        """What a build of the folder as it is now makes."""
        return join.join(str(self.folder), of) or "\n"

    def ran(self) -> Counter[str]:
        """How often each build was started since the last time that this was asked."""
        lines = self.log.read_text().split()
        self.log.write_text("")
        return Counter(lines)


class Session:
    """A workspace that is watched and built.

    Attributes:
        told: What the builder told of.
        changed: The members that have changed, a set for each batch.
        batches: The batches.
    """

    def __init__(self, workspace: Workspace, builder: Builder, told: list[Event], watcher: Watcher) -> None:
        self.workspace = workspace
        self.builder = builder
        self.told = told
        self.batches: list[Batch] = []
        self.changed: list[frozenset[Member]] = []
        self._watcher = watcher
        self._building: set[asyncio.Task[Any]] = set()
        self._looked = asyncio.Condition()
        self._marks = itertools.count()

    async def follow(self) -> None:
        async for batch in self._watcher:
            members = await self.builder.changed(batch)
            self.batches.append(batch)
            if members:
                self.changed.append(members)
                self._building.add(asyncio.create_task(self.builder.build(members)))
            async with self._looked:
                self._looked.notify_all()

    async def looked(self) -> None:
        """Until all that has happened was looked at: what comes from the system comes in its order."""
        mark = self.workspace.write(f"marks-{next(self._marks)}")
        seen = len(self.batches)
        async with self._looked:
            await self._looked.wait_for(
                lambda: any(mark in b.paths or b.everything for b in self.batches[seen:])
            )

    async def quiet(self) -> None:
        """Until nothing is left to be done."""
        while True:
            async with asyncio.timeout(PATIENCE):
                await self.looked()
                if not self._building:
                    return
                done = await asyncio.gather(*self._building)
                self._building -= {task for task in self._building if task.done()}
                del done

    def output(self, name: str = "site") -> str:
        return self.builder.output(name).read_text()

    def failures(self) -> list[Failed]:
        return [event for event in self.told if isinstance(event, Failed)]


@asynccontextmanager
async def session(workspace: Workspace, **options: Any) -> AsyncIterator[Session]:
    """Watches and builds a workspace; all that is missing is built."""
    found = manifest.load(workspace.folder)
    told: list[Event] = []
    async with Watcher(found) as watcher, Builder(found, told.append, **options) as builder:
        running = Session(workspace, builder, told, watcher)
        await builder.build(await builder.scan())
        following = asyncio.create_task(running.follow())
        try:
            await running.quiet()
            running.changed.clear()
            running.batches.clear()
            yield running
            assert not following.done(), following.exception()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def built(workspace: Workspace) -> list[Done | Failed]:
    """Builds what must be built, once."""
    async with Builder(manifest.load(workspace.folder)) as builder:
        return await builder.build(await builder.scan())
