"""Results in a repository of a registry, for others too: each is an artifact, whose tag is its key.

The config is the result, the layers are its outputs; all of it is fetched into the cache, and verified there as
anything else. Digests say that nothing was changed on the way, and not who made it: whoever may push to the repository
decides what others take for the result of a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from loop_kit.errors import LoopError, PackageError
from loop_kit.oci import media_types
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.task._cache import MOST_OUTPUTS, Cache, Result

__all__ = ["KIND", "Remote"]

T = TypeVar("T")

KIND = "application/vnd.loop-kit.task.result.v1+json"
_MOST_BYTES = 16 << 20
"""Of the description of one result."""


class Remote:
    """A repository of results. What goes wrong is told once, and from then on it is left alone: a cache is no need.

    Args:
        repository: `REGISTRY/REPOSITORY`.
        cache: Where what is fetched is kept.
        tell: Told why it cannot be used.
    """

    def __init__(self, repository: str, cache: Cache, tell: Callable[[str], object]) -> None:
        self._reference = Reference.parse(repository)
        self._cache = cache
        self._tell = tell
        self._runner = asyncio.Runner()
        self._registry = Registry(self._reference.registry)
        self._usable = True
        self._pushable = True

    def close(self) -> None:
        """Ends the connection."""
        self._run(self._registry.__aexit__(None, None, None))
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.get_loop().run_until_complete(work)

    def find(self, key: str, at: str) -> Result | None:
        """The result of a key, which is in the cache then with all its outputs; None, if there is none.

        Args:
            key: The key.
            at: The folder that all outputs must be in, from the workspace's.
        """
        if not self._usable:
            return None
        try:
            return self._run(self._fetch(key, at))
        except (LoopError, OSError, ValueError) as error:
            self._usable = self._pushable = False
            self._tell(f"results in {self._reference} are not used: {error}")
            return None

    async def _fetch(self, key: str, at: str) -> Result | None:
        reference = self._reference.at(tag=key)
        if await self._registry.find(reference) is None:
            return None
        descriptor, data = await self._registry.manifest(reference)
        manifest = parse(data, descriptor.media_type, what=str(reference))
        if not isinstance(manifest, Manifest) or manifest.config.media_type != KIND:
            raise PackageError(f"{reference} is no result of a task")
        if manifest.config.size > _MOST_BYTES or len(manifest.layers) > MOST_OUTPUTS:
            raise PackageError(f"{reference} is larger than a result may be")
        repository, blobs = self._reference.repository, self._cache.blobs
        await self._registry.pull_blob(repository, manifest.config, blobs)
        result = Result.parse(key, at, blobs.read(manifest.config.digest, most=_MOST_BYTES))
        layers = {layer.digest: layer for layer in manifest.layers}
        for digest in dict.fromkeys(output.digest for output in result.outputs if not output.is_link):
            if digest not in layers:
                raise PackageError(f"{reference} does not have {digest}, which its result names")
            await self._registry.pull_blob(repository, layers[digest], blobs)
        blobs.remove(manifest.config.digest)
        return result if self._cache.keep(result) else None

    def keep(self, results: list[Result]) -> None:
        """Puts results there, unless they are."""
        for result in results:
            if not self._pushable:
                return
            try:
                self._run(self._push(result))
            except (LoopError, OSError) as error:
                self._pushable = False
                self._tell(f"results are not put into {self._reference}: {error}")

    async def _push(self, result: Result) -> None:
        reference, blobs = self._reference.at(tag=result.key), self._cache.blobs
        if await self._registry.find(reference) is not None:
            return
        data = result.to_bytes()
        config = Descriptor(KIND, blobs.add(data), len(data))
        layers = {
            output.digest: Descriptor(media_types.OCTETS, output.digest, output.size)
            for output in result.outputs
            if not output.is_link
        }
        if not layers:  # an artifact has at least one
            layers = {blobs.add(b"{}"): EMPTY_CONFIG}
        try:
            for blob in (config, *layers.values()):
                await self._registry.push_blob(reference.repository, blob, blobs)
            manifest = Manifest(config, tuple(layers.values()), artifact_type=KIND)
            await self._registry.push_manifest(reference.repository, manifest.to_bytes(), tag=result.key)
        finally:
            blobs.remove(config.digest)
