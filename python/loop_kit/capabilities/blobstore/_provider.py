"""The provider of `wasi:blobstore`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.blobstore import _container
from loop_kit.capabilities.blobstore._backend import NO_CONTAINER
from loop_kit.capabilities.blobstore._config import backend_of
from loop_kit.capabilities.blobstore._grant import Grant
from loop_kit.capabilities.blobstore._store import Store
from loop_kit.provider import provider

__all__ = ["BlobStore"]

_ALL = (1 << 64) - 1


@provider(wit="wit")
class BlobStore:
    """Serves `wasi:blobstore`: blobstore, container and whole.

        app = await host.load("app.wasm", imports={
            "wasi:blobstore": BlobStore(
                config={"backend": "files", "path": "/srv/blobs"},
                grant={"containers": {"photos": {"mode": "rw"}}},
            ),
        })

    Args:
        config: `backend`: `memory` (the default), `files`, `s3` or `nats`, and what that takes: see the README.
        grant: `containers` by name, or by what their names begin with before a `*`, each with its `mode`, `ro` or `rw`,
            `create`, `max-size` and `max-objects`; `max-name`, `max-object`, `max-whole`, `max-list`, `max-batch`,
            `max-streams`, `max-containers`.

    Raises:
        ValueError: A key of the config or grant is not known, or its value does not do.
    """

    Container = _container.Container

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        backend = backend_of(config)
        self._store = Store(backend, Grant(grant, local=backend.local))

    async def aclose(self) -> None:
        """Lets go of connections."""
        await self._store.aclose()

    async def create_container(self, name: str) -> _container.Container:
        """Makes an empty container."""
        await self._store.create(name)
        return _container.Container(self._store, name)

    async def get_container(self, name: str) -> _container.Container:
        """The container of this name."""
        await self._store.created(name)
        return _container.Container(self._store, name)

    async def delete_container(self, name: str) -> None:
        """Deletes a container with all that is in it."""
        await self._store.remove(name)

    async def container_exists(self, name: str) -> bool:
        """Whether there is such a container."""
        try:
            await self._store.created(name)
        except Err as error:
            if error.value != NO_CONTAINER:
                raise
            return False
        return True

    async def copy_object(self, src: Any, dest: Any) -> None:
        """Makes a second object of what one holds."""
        await self._store.copy((src.container, src.object), (dest.container, dest.object))

    async def move_object(self, src: Any, dest: Any) -> None:
        """Gives an object another name."""
        await self._store.move((src.container, src.object), (dest.container, dest.object))

    async def read_object(self, id: Any) -> bytes:
        """`whole`."""
        return await self._store.read_whole(id.container, id.object, 0, _ALL)

    async def read_range(self, id: Any, start: int, end: int) -> bytes:
        """`whole`."""
        return await self._store.read_whole(id.container, id.object, start, end)

    async def write_object(self, id: Any, data: bytes) -> None:
        """`whole`."""
        await self._store.write(id.container, id.object, _once(data), None)

    async def delete_object(self, id: Any) -> None:
        """`whole`."""
        await self._store.delete(id.container, [id.object])

    async def object_info(self, id: Any) -> _container.ObjectMetadata:
        """`whole`."""
        return await _container.metadata(self._store, id.container, id.object)

    async def list_objects(self, container: str, after: str | None) -> Sequence[str]:
        """`whole`."""
        return await self._store.page(container, after)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
