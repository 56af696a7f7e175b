"""Packages of a workspace: tools that `[packages]` of `loop.toml` asks for, pinned by `loop.lock`.

`loop:pkg` is how a resolver, a component, says where they are; what is done with that is done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_kit.pkg._model import Asked, Locked, Platform, failed

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.pkg._install import Program

__all__ = ["WIT", "Asked", "Locked", "Packages", "Platform"]

WIT = Path(__file__).resolve().parents[1] / "capabilities/pkg/wit"
"""The folder of `loop:pkg`, for `@loop_kit.provider("loop:pkg/resolver@0.1.0-dev", wit=WIT)`."""

Tell = Callable[[str], object]


class Packages:
    """The packages of a workspace.

    Args:
        manifest: The workspace's.
        tell: Told, in words, what takes a while.
    """

    def __init__(self, manifest: Manifest, tell: Tell = lambda text: None) -> None:
        from loop_kit.pkg._store import Store

        self.manifest = manifest
        self.folder = manifest.folder
        self.here = Platform.here()
        self._lock_file = manifest.path.with_suffix(".lock")
        self.store = Store()
        self._tell = tell
        self._resolvers: Any = None
        self._fetcher: Any = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Packages:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _online(self) -> tuple[Any, Any]:
        if self._resolvers is None:
            from loop_kit.pkg._fetch import Fetcher
            from loop_kit.pkg._resolver import Resolvers

            resolvers = Resolvers(self.manifest)
            self._resolvers = await self._stack.enter_async_context(resolvers)
            fetcher = Fetcher(self.store.blobs, self.store.temporary, self._tell)
            self._fetcher = await self._stack.enter_async_context(fetcher)
        return self._resolvers, self._fetcher

    def locked(self) -> dict[str, Locked]:
        """What the lock has, by alias.

        Raises:
            PackageError: It is damaged.
        """
        from loop_kit.pkg import _lock

        return _lock.read(self._lock_file)

    async def lock(self, aliases: Iterable[str] | None = None, *, anew: bool = False) -> dict[str, Locked]:
        """Locks what the manifest asks for and the lock has not, and drops what it does not ask for any more.

        Args:
            aliases: Only these; None: all.
            anew: Whether what is locked is looked for again.

        Returns:
            All that is locked.

        Raises:
            PackageError: Something cannot be found, or does not fit together.
        """
        from loop_kit.pkg import _lock
        from loop_kit.pkg._solve import solved

        chosen = set(self.manifest.packages if aliases is None else aliases)
        known = self.locked()
        made: dict[str, Locked] = {}
        for alias, asked in self.manifest.packages.items():
            old = known.get(alias)
            if alias not in chosen or (
                not anew and old is not None and old.asked == asked and old.here(self.here)
            ):
                continue
            resolvers, fetcher = await self._online()
            resolver, name = await resolvers.of(asked)
            found = await solved(asked, resolver, name, self.store, fetcher, self.here, self._tell)
            made[alias] = _joined(old, found) if not anew else found
        if made or set(known) - set(self.manifest.packages):
            with _lock.changing(self._lock_file) as packages:
                packages |= made
                for alias in set(packages) - set(self.manifest.packages):
                    del packages[alias]
                return dict(packages)
        return known

    async def install(self, *, offline: bool = False, locked: bool = False) -> list[Program]:
        """Has everything there that the manifest asks for, and the scripts that start it.

        Args:
            offline: Whether nothing may be fetched.
            locked: Whether the lock must have all of it already.

        Returns:
            The programs.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: Something is not locked, does not come, or two packages have a program of the same name.
        """
        with self.store.use():  # nobody sweeps away meanwhile what is not pinned yet
            return await self._install(offline, locked)

    async def _install(self, offline: bool, locked: bool) -> list[Program]:
        from loop_kit.pkg._install import assembled, programs, write_shims

        known = self.locked() if offline or locked else await self.lock()
        found: dict[str, Program] = {}
        wanted = {alias: self._pinned(known, alias) for alias in self.manifest.packages}
        for alias, pinned in wanted.items():
            await self._fetched(pinned, offline=offline)
            await assembled(self.store, pinned, self.here, self._tell)
            self.store.pin(f"{self._lock_file} packages.{alias}", pinned, self.here, self._lock_file)
            for program in programs(self.store, pinned, self.here):
                other = found.setdefault(program.name, program)
                if other is not program:
                    raise failed(
                        f"{other.alias} and {alias} both have a program {program.name}",
                        "`loop pkg remove` one of them",
                    )
        write_shims(self.folder, found.values())
        return list(found.values())

    def _pinned(self, known: dict[str, Locked], alias: str) -> Locked:
        pinned, asked = known.get(alias), self.manifest.packages[alias]
        if pinned is None or pinned.asked != asked or not pinned.here(self.here):
            what = "is not locked" if pinned is None else "is locked for something else"
            if pinned is not None and pinned.asked == asked:
                what = f"is not locked for {self.here.key} with Python {self.here.python}"
            raise failed(f"{alias} ({asked}) {what}", "`loop pkg install`, with the network, locks it")
        return pinned

    async def _fetched(self, pinned: Locked, *, offline: bool) -> None:
        """Has all files of a package in the store, as the lock has them."""
        files = [(node, node.file_for(self.here)) for node in pinned.nodes]
        missing = [
            (node, file)
            for node, file in files
            if file is not None
            and self.store.blobs.size(file.digest) is None
            and not self.store.tree(file).is_dir()
        ]
        if not missing:
            return
        if offline:
            names = ", ".join(file.file for _, file in missing[:5])
            raise failed(
                f"{pinned.asked.alias}: not in the store: {names}", "`loop pkg install` with the network"
            )
        resolvers, fetcher = await self._online()
        resolver, name = await resolvers.of(pinned.asked)

        async def get(node: Any, file: Any) -> None:
            called = name if node is pinned.nodes[0] else node.name
            asset = await resolver.call("artifact", called, node.version, self.here.record())
            if asset.file != file.file:
                raise failed(f"{resolver.source} now has {asset.file} where the lock has {file.file}")
            await fetcher.get(resolver, asset, file.digest, file.size)

        tasks = [asyncio.ensure_future(get(node, file)) for node, file in missing]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def programs(self) -> list[Program]:
        """The programs of what is installed.

        Raises:
            PackageError: Something is not.
        """
        from loop_kit.pkg._install import place_of, programs

        found: list[Program] = []
        known = self.locked()
        for alias in self.manifest.packages:
            pinned = self._pinned(known, alias)
            if not place_of(self.store, pinned, self.here).is_dir():
                raise failed(f"{alias} is not installed", "`loop pkg install`")
            found += programs(self.store, pinned, self.here)
        return found

    async def newest(self, asked: Asked) -> tuple[str, str]:
        """The newest version that fits, and the newest of all.

        Raises:
            PackageError: There is none.
        """
        resolvers, _ = await self._online()
        resolver, name = await resolvers.of(asked)
        fits = await resolver.call("resolve", name, [asked.range] if asked.range else [])
        return str(fits), str(await resolver.call("resolve", name, []))

    async def asked_here(self, asked: Asked) -> str | None:
        """The range that a file of the workspace, such as `.nvmrc`, asks for; None: none does."""
        resolvers, _ = await self._online()
        resolver, name = await resolvers.of(asked)
        for file in await resolver.call("looks_at"):
            path = self.folder / os.path.basename(file)
            if path.name == file and path.is_file() and path.stat().st_size <= 1 << 20:
                for one in await resolver.call("detect", file, path.read_bytes()):
                    if one.name == name:
                        return str(one.range)
        return None


def _joined(old: Locked | None, new: Locked) -> Locked:
    """What is locked for other machines stays, where the version is the same."""
    if old is None or old.asked != new.asked or old.version != new.version or old.layout != "alone":
        return new
    from dataclasses import replace

    known = {key for file in new.nodes[0].files for key in file.platforms}
    kept = tuple(file for file in old.nodes[0].files if not set(file.platforms) & known)
    return replace(new, nodes=(replace(new.nodes[0], files=new.nodes[0].files + kept),))
