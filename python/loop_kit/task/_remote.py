"""Results in a repository of a registry, for others too: each is an artifact, whose tag is its key.

The config is the result, the layers are its outputs; all of it is fetched into the cache, and verified there as
anything else. Digests say that nothing was changed on the way, and not who made it: whoever may push to the repository
decides what others take for the result of a task, unless the workspace has a policy. Results are fetched and put on a
thread of its own, some at a time, while tasks go on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from loop_kit.errors import LoopError, PackageError, Untrusted
from loop_kit.oci import media_types
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.task._cache import MOST_OUTPUTS, Cache, Result
from loop_kit.task._clean import SIZE
from loop_kit.task._signed import Signed

__all__ = ["KIND", "Remote"]

T = TypeVar("T")

KIND = "application/vnd.loop-kit.task.result.v1+json"
_MOST_BYTES = 16 << 20
"""Of the description of one result."""
_MOST_TOGETHER = SIZE
"""Bytes of all files of one result: it would be removed at once from a cache that holds no more."""
_DOWN, _UP = 8, 4
"""Results that are fetched, and put, at once."""
_LOOK = 0.1
"""Seconds between two looks at how far the uploads are."""


class Remote:
    """A repository of results. What goes wrong is told once, and from then on it is left alone: a cache is no need.

    Args:
        repository: `REGISTRY/REPOSITORY`.
        cache: Where what is fetched is kept.
        signed: Who may have made a result, and whether those that are put are signed.
        tell: Told why it cannot be used, on any thread.
    """

    def __init__(self, repository: str, cache: Cache, signed: Signed, tell: Callable[[str], object]) -> None:
        self._reference = Reference.parse(repository)
        self._cache = cache
        self._signed = signed
        self._tell = tell
        self.refused: dict[str, str] = {}
        """Why results are not used that are there, by their keys."""
        self._registry = Registry(self._reference.registry)
        self._usable = True
        self._pushable = True
        self._puts: list[concurrent.futures.Future[None]] = []
        self._down, self._up = asyncio.Semaphore(_DOWN), asyncio.Semaphore(_UP)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop-results", daemon=True)
        self._thread.start()

    def _begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Ends the connection, and whatever is still on its way."""
        self._begin(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._registry.__aexit__(None, None, None)

    # ---- fetching

    def fetch(self, key: str, at: str, then: Callable[[Result | None], object]) -> None:
        """Fetches the result of a key, which is in the cache then with all its outputs.

        Args:
            key: The key.
            at: The folder that all outputs must be in, from the workspace's.
            then: Called with it on another thread, or with None, if there is none.
        """

        async def work() -> None:
            result = None
            try:
                result = await self._found(key, at)
            finally:
                then(result)

        self._begin(work())

    def ask(self, key: str, at: str) -> Result | None:
        """Returns what `fetch` would find, and fetches nothing."""
        return self._begin(self._found(key, at, whole=False)).result()

    async def _found(self, key: str, at: str, *, whole: bool = True) -> Result | None:
        async with self._down:
            if not self._usable:
                return None
            try:
                return await self._fetch(key, at, whole)
            except Untrusted as error:
                if not self.refused:
                    self._tell(f"a result in {self._reference} is not used: {error}")
                self.refused[key] = f"its result in {self._reference} is not used: {error}"
                return None
            except (LoopError, OSError, ValueError) as error:
                if self._usable:
                    self._usable = self._pushable = False
                    self._tell(f"results in {self._reference} are not used: {error}")
                return None

    async def _fetch(self, key: str, at: str, whole: bool) -> Result | None:
        reference = self._reference.at(tag=key)
        if await self._registry.find(reference) is None:
            return None
        descriptor, data = await self._registry.manifest(reference)
        manifest = parse(data, descriptor.media_type, what=str(reference))
        if not isinstance(manifest, Manifest) or manifest.config.media_type != KIND:
            raise PackageError(f"{reference} is no result of a task")
        if manifest.config.size > _MOST_BYTES or len(manifest.layers) > MOST_OUTPUTS:
            raise PackageError(f"{reference} is larger than a result may be")
        await self._signed.judge(self._registry, reference, descriptor)
        repository, blobs = self._reference.repository, self._cache.blobs
        await self._registry.pull_blob(repository, manifest.config, blobs)
        result = Result.parse(key, at, blobs.read(manifest.config.digest, most=_MOST_BYTES))
        result = replace(result, origin=self._reference.name)
        if not whole:
            return result
        layers = {layer.digest: layer for layer in manifest.layers}
        for digest in result.blobs:
            if digest not in layers:
                raise PackageError(f"{reference} does not have {digest}, which its result names")
        if sum(layers[digest].size for digest in result.blobs) > _MOST_TOGETHER:
            raise PackageError(f"{reference} has more bytes than a result may have")
        for digest in result.blobs:
            await self._registry.pull_blob(repository, layers[digest], blobs)
        blobs.remove(manifest.config.digest)
        return result if self._cache.keep(result) else None

    # ---- putting

    def keep(self, result: Result) -> None:
        """Puts a result there, unless it is; goes on with that until `finish`."""
        self._puts.append(self._begin(self._kept(result)))

    def finish(self, progress: Callable[[int, int], object] = lambda done, of: None) -> None:
        """Waits until all is there that was to be kept.

        Args:
            progress: Told now and then how many are, and of how many.
        """
        waiting = set(self._puts)
        while waiting:
            waiting = concurrent.futures.wait(waiting, timeout=_LOOK).not_done
            progress(len(self._puts) - len(waiting), len(self._puts))
        self._puts.clear()

    async def _kept(self, result: Result) -> None:
        async with self._up:
            if not self._pushable:
                return
            try:
                await self._push(result)
            except (LoopError, OSError) as error:
                if self._pushable:
                    self._pushable = False
                    self._tell(f"results are not put into {self._reference}: {error}")

    async def _push(self, result: Result) -> None:
        reference, blobs = self._reference.at(tag=result.key), self._cache.blobs
        there = await self._registry.find(reference)
        if there is not None and not await self._signed.needs(self._registry, reference, there):
            return
        data = result.to_bytes()
        config = Descriptor(KIND, blobs.add(data), len(data))
        layers = {
            digest: Descriptor(media_types.OCTETS, digest, size) for digest, size in result.blobs.items()
        }
        if not layers:  # an artifact has at least one
            layers = {blobs.add(b"{}"): EMPTY_CONFIG}
        try:
            for blob in (config, *layers.values()):
                await self._registry.push_blob(reference.repository, blob, blobs)
            manifest = Manifest(config, tuple(layers.values()), artifact_type=KIND)
            root = await self._registry.push_manifest(
                reference.repository, manifest.to_bytes(), tag=result.key
            )
            await self._signed.sign(self._registry, reference, root)
        finally:
            blobs.remove(config.digest)
