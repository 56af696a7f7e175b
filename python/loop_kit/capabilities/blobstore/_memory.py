"""Objects in memory, which are gone with the provider."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

from loop_kit._types import Err
from loop_kit.capabilities.blobstore._backend import EXISTS, NO_CONTAINER, NO_OBJECT, Backend, Info

__all__ = ["Memory"]

_CHUNK = 256 << 10


@dataclass
class _Container:
    created: int
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)


class Memory(Backend):
    """A dictionary for each container."""

    label = "memory"
    local = True
    failures = ()

    def __init__(self) -> None:
        self.key = id(self)
        self._containers: dict[str, _Container] = {}

    def _container(self, name: str) -> _Container:
        if name not in self._containers:
            raise Err(NO_CONTAINER)
        return self._containers[name]

    def _object(self, container: str, name: str) -> tuple[bytes, int]:
        found = self._container(container).objects.get(name)
        if found is None:
            raise Err(NO_OBJECT)
        return found

    async def create(self, container: str) -> None:
        """As `Backend` says."""
        if container in self._containers:
            raise Err(EXISTS)
        self._containers[container] = _Container(_now())

    async def created(self, container: str) -> int:
        """As `Backend` says."""
        return self._container(container).created

    async def remove(self, container: str) -> None:
        """As `Backend` says."""
        self._container(container)
        del self._containers[container]

    async def containers(self) -> Sequence[str]:
        """As `Backend` says."""
        return list(self._containers)

    async def info(self, container: str, name: str) -> Info:
        """As `Backend` says."""
        data, created = self._object(container, name)
        return Info(len(data), created)

    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `Backend` says."""
        data, _ = self._object(container, name)
        return _pieces(memoryview(data)[start : end + 1])

    async def write(self, container: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """As `Backend` says."""
        self._container(container)
        data = b"".join([chunk async for chunk in chunks])
        self._container(container).objects[name] = data, _now()

    async def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """As `Backend` says."""
        objects = self._container(container).objects
        yield [(name, len(data)) for name, (data, _) in objects.items()]

    async def delete(self, container: str, names: Sequence[str]) -> tuple[int, int]:
        """As `Backend` says."""
        objects = self._container(container).objects
        gone = [found for name in names if (found := objects.pop(name, None)) is not None]
        return sum(len(data) for data, _ in gone), len(gone)


async def _pieces(data: memoryview) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), _CHUNK):
        yield bytes(data[at : at + _CHUNK])


def _now() -> int:
    return int(time.time())
