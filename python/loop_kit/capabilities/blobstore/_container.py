"""The resource `container`, and the streams that come out of it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loop_kit._types import Err, Ok
from loop_kit.capabilities._settled import Settled
from loop_kit.capabilities.blobstore._backend import NO_OBJECT
from loop_kit.capabilities.blobstore._store import Store

__all__ = ["Container", "ContainerMetadata", "ObjectMetadata", "Reading", "metadata"]


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """What is known of a container."""

    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """What is known of an object."""

    name: str
    container: str
    created_at: int
    size: int


async def metadata(store: Store, container: str, name: str) -> ObjectMetadata:
    """That of an object."""
    found = await store.info(container, name)
    return ObjectMetadata(name, container, found.created, found.size)


class Reading(Settled):
    """Items of a store as they come, and in `ended` how that ended. Counts as a stream of the store until it is gone."""

    def __init__(self, store: Store, items: AsyncIterator[Any]) -> None:
        super().__init__()
        self._items = items
        weakref.finalize(self, store.give)

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self.settle(Ok(None))
        except Err as error:
            self.settle(error)
        raise StopAsyncIteration


async def _reading(store: Store, begun: Awaitable[AsyncIterator[Any]]) -> tuple[Reading, asyncio.Future[Any]]:
    try:
        store.take()
    except BaseException:
        with suppress(AttributeError):
            begun.close()  # type: ignore[attr-defined]  # a coroutine, which nobody will await
        raise
    try:
        reading = Reading(store, await begun)
    except BaseException:
        store.give()
        raise
    return reading, reading.ended


class Container:
    """A container under a grant. Methods raise `Err` with an `error`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def name(self) -> str:
        """Its name."""
        return self._name

    async def info(self) -> ContainerMetadata:
        """What is known of it."""
        return ContainerMetadata(self._name, await self._store.created(self._name))

    async def get_data(self, name: str, start: int, end: int) -> tuple[Reading, asyncio.Future[Any]]:
        """The bytes of an object from `start` to `end`, and how reading them will have ended."""
        return await _reading(self._store, self._store.read(self._name, name, start, end))

    async def write_data(self, name: str, data: AsyncIterable[bytes], finish: Awaitable[Any] | None) -> int:
        """Stores an object; its size."""
        return await self._store.write(self._name, name, data, finish)

    async def list_objects(self) -> tuple[Reading, asyncio.Future[Any]]:
        """All names, and how listing them will have ended."""
        return await _reading(self._store, self._names())

    async def _names(self) -> AsyncIterator[str]:
        return _flat(await self._store.entries(self._name))

    async def delete_object(self, name: str) -> None:
        """Deletes an object."""
        await self._store.delete(self._name, [name])

    async def delete_objects(self, names: Sequence[str]) -> None:
        """Deletes objects."""
        await self._store.delete(self._name, names)

    async def has_object(self, name: str) -> bool:
        """Whether there is an object."""
        try:
            await self._store.info(self._name, name)
        except Err as error:
            if error.value != NO_OBJECT:
                raise
            return False
        return True

    async def object_info(self, name: str) -> ObjectMetadata:
        """What is known of an object."""
        return await metadata(self._store, self._name, name)

    async def clear(self) -> None:
        """Deletes all objects."""
        await self._store.clear(self._name)


async def _flat(batches: AsyncIterator[Sequence[tuple[str, int]]]) -> AsyncIterator[str]:
    async for batch in batches:
        for name, _ in batch:
            yield name
