"""What a storage must be able to do; the provider does the rest: grants, bounds and streams."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from loop_kit._types import Err

__all__ = ["EXISTS", "NO_CONTAINER", "NO_OBJECT", "Backend", "Info", "invalid", "other"]

NO_CONTAINER: Any = "no-such-container"
NO_OBJECT: Any = "no-such-object"
EXISTS: Any = "container-exists"


def invalid(words: str) -> Err[Any]:
    """The error of something that makes no sense."""
    return Err(("invalid", words))


def other(words: str) -> Err[Any]:
    """The error of a storage that failed."""
    return Err(("other", words))


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of an object: its bytes, and the second of 1970 when it was written."""

    size: int
    created: int


class Backend(ABC):
    """A storage of containers and objects by name.

    Every method may raise `Err` with an `error` of the interface, and what is in `failures`, which is told as `other`.

    Attributes:
        label: What it is, in words.
        local: Whether what it keeps takes room of the host.
        copies: Whether it copies objects by itself, without handing out their bytes.
        failures: What the storage's own library raises.
        key: The same for all of one process that are the same storage.
    """

    label: str
    local: bool
    copies = False
    failures: tuple[type[Exception], ...]
    key: Hashable

    @abstractmethod
    async def create(self, container: str) -> None:
        """Makes an empty container.

        Raises:
            Err: `container-exists`.
        """

    @abstractmethod
    async def created(self, container: str) -> int:
        """When a container was made, in seconds since 1970; 0: nobody knows.

        Raises:
            Err: `no-such-container`.
        """

    @abstractmethod
    async def remove(self, container: str) -> None:
        """Deletes a container with all that is in it.

        Raises:
            Err: `no-such-container`.
        """

    @abstractmethod
    async def containers(self) -> Sequence[str]:
        """All containers."""

    @abstractmethod
    async def info(self, container: str, name: str) -> Info:
        """What is known of an object.

        Raises:
            Err: `no-such-object`, `no-such-container`.
        """

    @abstractmethod
    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`, both counted in, as far as there are any; `start` is not after `end`.

        Raises:
            Err: `no-such-object`, `no-such-container`.
        """

    @abstractmethod
    async def write(self, container: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Makes an object of what comes, at once, after the last of it.

        What `chunks` raises ends it, and so does cancelling; then nothing is stored.

        Raises:
            Err: `no-such-container`.
        """

    @abstractmethod
    def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """All objects with their bytes, some at a time, in any order.

        Raises:
            Err: `no-such-container`, with the first of them.
        """

    @abstractmethod
    async def delete(self, container: str, names: Sequence[str]) -> tuple[int, int] | None:
        """Deletes objects; those that are not there are left out.

        Returns:
            Bytes and number of those that were there; None: nobody knows.

        Raises:
            Err: `no-such-container`.
        """

    async def page(self, container: str, after: str | None, most: int) -> Sequence[str]:
        """The first `most` names after one, in an order that is always the same."""
        best: list[str] = []
        async with aclosing(self.entries(container)) as batches:
            async for batch in batches:
                names = (name for name, _ in batch if after is None or name > after)
                best = heapq.nsmallest(most, chain(best, names))
        return best

    async def copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Makes an object of what another holds; only where `copies`.

        Raises:
            Err: `no-such-object`, `no-such-container`.
        """
        raise NotImplementedError

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to close
        """Lets go of connections. What comes later makes them anew."""
