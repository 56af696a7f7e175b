"""Has what is locked there: fetched as it is locked, unpacked, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from loop_kit.pkg._model import Asked, Locked, Platform, failed

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest

__all__ = ["Installer", "pinned"]

Tell = Callable[[str], object]


class Installer:
    """Installs what is locked; as an async context manager. It asks a source only for what is not in the store.

    Args:
        manifest: The workspace's, which says where things come from.
        tell: Told, in words, what takes a while.
    """

    def __init__(self, manifest: Manifest, tell: Tell = lambda text: None) -> None:
        from loop_kit.pkg._store import Store

        self.manifest = manifest
        self.folder = manifest.folder
        self.here = Platform.here()
        self.store = Store()
        self._tell = tell
        self._online: tuple[Any, Any] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def online(self) -> tuple[Any, Any]:
        """The resolvers, and what fetches: made when they are first needed."""
        if self._online is None:
            from loop_kit.pkg._fetch import Fetcher
            from loop_kit.pkg._resolver import Resolvers

            resolvers = await self._stack.enter_async_context(Resolvers(self.manifest))
            fetcher = Fetcher(self.store.blobs, self.store.temporary, self._tell)
            self._online = resolvers, await self._stack.enter_async_context(fetcher)
        return self._online

    async def have(self, locked: Locked, lock: Path, *, offline: bool = False) -> Path:
        """Has a package there, and its files stay for as long as the lock names them.

        Args:
            locked: The package.
            lock: The file that it is locked in.
            offline: Whether nothing may be fetched.

        Returns:
            The folder that it runs from.

        Raises:
            Damaged: What comes is not what is locked.
            PackageError: It does not come, or cannot be put together.
        """
        from loop_kit.pkg._install import assembled

        with self.store.use():  # nobody sweeps away meanwhile what is not pinned yet
            await self._fetched(locked, offline=offline)
            place = await assembled(self.store, locked, self.here, self._tell)
            self.store.pin(f"{lock} packages.{locked.asked.alias}", locked, self.here, lock)
        return place

    async def _fetched(self, locked: Locked, *, offline: bool) -> None:
        """Has all files of a package in the store, as the lock has them."""
        missing = [
            (node, file)
            for node in locked.nodes
            if (file := node.file_for(self.here)) is not None
            and self.store.blobs.size(file.digest) is None
            and not self.store.tree(file).is_dir()
        ]
        if not missing:
            return
        if offline:
            names = ", ".join(file.file for _, file in missing[:5])
            raise failed(
                f"{locked.asked.alias}: not in the store: {names}", "`loop pkg install` with the network"
            )
        resolvers, fetcher = await self.online()
        resolver, name = await resolvers.of(locked.asked)

        async def get(node: Any, file: Any) -> None:
            called = name if node is locked.nodes[0] else node.name
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


def pinned(known: Mapping[str, Locked], asked: Asked, here: Platform) -> Locked:
    """A package as a lock has it.

    Raises:
        PackageError: It is not locked, or for something else.
    """
    found = known.get(asked.alias)
    if found is not None and found.asked == asked and found.here(here):
        return found
    what = "is not locked" if found is None else "is locked for something else"
    if found is not None and found.asked == asked:
        what = f"is not locked for {here.key} with Python {here.python}"
    raise failed(f"{asked.alias} ({asked}) {what}", "`loop pkg install`, with the network, locks it")
