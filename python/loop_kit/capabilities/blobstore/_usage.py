"""How much is in a container, as far as a grant bounds it.

Objects are counted once, by listing them; from then on by those of this process who write. Where it cannot be known what
became of a change (it was cancelled, or two changed one object at once) they are counted anew before the next.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.blobstore._backend import Backend

__all__ = ["Most", "Usage", "Write", "forget", "quota", "usage_of"]


def quota(words: str) -> Err[Any]:
    """The error of what a bound is in the way of."""
    return Err(("quota", words))


@dataclass(frozen=True, slots=True)
class Most:
    """Bounds of a container: bytes of all objects, and how many there are; None: any number."""

    size: int | None
    objects: int | None

    @property
    def anything(self) -> bool:
        """Whether there is no bound."""
        return self.size is None and self.objects is None


class Usage:
    """What is in a container, and what is on its way there: never less than there is.

    Attributes:
        counts: How often it was counted.
    """

    def __init__(self, backend: Backend, container: str) -> None:
        self._backend = backend
        self._container = container
        self.counts = 0
        self._known = False
        self._counting: Future[None] | None = None
        self._changes = 0
        self._size = self._objects = 0
        self._coming_size = self._coming_objects = 0
        self._writes: dict[str, list[Write]] = {}

    async def ready(self) -> None:
        """Counts what is there, where that is not known.

        Raises:
            Err, or what the storage fails with: It could not be counted.
        """
        while not self._known:
            if self._counting is not None:
                # who waits looks for itself what came of it
                await asyncio.wrap_future(self._counting)
                continue
            counting: Future[None] = Future()
            self._counting = counting
            try:
                changes = None
                while changes != self._changes:
                    changes = self._changes
                    counted = await self._count()
                self._size, self._objects = counted
                self._known = True
                # what is told from now on may have been counted already
                self._changes += 1
                self.counts += 1
            finally:
                self._counting = None
                counting.set_result(None)

    async def _count(self) -> tuple[int, int]:
        size = objects = 0
        async with aclosing(self._backend.entries(self._container)) as batches:
            async for batch in batches:
                objects += len(batch)
                size += sum(length for _, length in batch)
        return size, objects

    def forget(self) -> None:
        """Has it be counted anew."""
        self._changes += 1
        self._known = False

    def changes(self) -> int:
        """How often something has changed, to be told by `deleted`."""
        return self._changes

    def deleted(self, names: Sequence[str], gone: tuple[int, int] | None, since: int) -> None:
        """Tells that objects were deleted.

        Args:
            names: They.
            gone: Bytes and number of those that were there, or None.
            since: What `changes` was before. Another change may have been counted with or without them.
        """
        for name in names:
            for write in self._writes.get(name, ()):
                self._not_alone(write)
        if gone is None or since != self._changes:
            self.forget()
        else:
            self._changes += 1
            self._size -= gone[0]
            self._objects -= gone[1]

    def check(self, most: Most, size: int, objects: int) -> None:
        """Raises `quota` if so much more is more than may be."""
        size += self._size + self._coming_size
        objects += self._objects + self._coming_objects
        for key, what, would, may in (
            ("max-size", "bytes", size, most.size),
            ("max-objects", "objects", objects, most.objects),
        ):
            if may is not None and would > may:
                raise quota(
                    f"the container would have {would} {what}; `{key}` of its grant lets it have {may}"
                )

    def begin(self, write: Write) -> None:
        """A write has begun."""
        writes = self._writes.setdefault(write.name, [])
        writes.append(write)
        if len(writes) > 1:
            for one in writes:
                self._not_alone(one)

    def come(self, size: int, objects: int) -> None:
        """So much more is on its way."""
        self._coming_size += size
        self._coming_objects += objects

    def end(self, write: Write, stored: bool | None) -> None:
        """A write has ended; None: nobody knows whether by storing."""
        if stored is None or write.since != self.counts:
            self._not_alone(write)
        self._writes[write.name].remove(write)
        if not self._writes[write.name]:
            del self._writes[write.name]
        self.come(-write.size, -write.objects)
        if stored is not False:
            known = self._known and write.alone
            self._changes += 1
            self._size += write.size - write.old
            self._objects += write.objects
            if not known:
                self.forget()

    def _not_alone(self, write: Write) -> None:
        """What it replaces may be gone before it ends, and then there is more for it."""
        write.alone = False
        write.old = 0
        self.come(0, 1 - write.objects)
        write.objects = 1


class Write:
    """One write, and what it has counted.

    Attributes:
        name: The object.
        old: Bytes of what it replaces, as far as that is sure.
        objects: How many there are more for it, 1 or 0.
        size: Bytes so far.
        alone: Whether nobody else changed the object meanwhile.
        since: How often the container had been counted when it began.
    """

    def __init__(self, usage: Usage, most: Most, name: str) -> None:
        self.name = name
        self.old = self.objects = self.size = 0
        self.alone = True
        self.since = usage.counts
        self._usage = usage
        self._most = most
        usage.begin(self)

    def replaces(self, old: int | None) -> None:
        """What it replaces, in bytes, was found out after it had begun; None: nothing.

        Raises:
            Err: `quota`: one more object is one too many.
        """
        if not self.alone or old is None:
            self._usage.check(self._most, 0, 1 - self.objects)
            self._usage.come(0, 1 - self.objects)
            self.objects = 1
        else:
            self.old = old

    def take(self, size: int) -> None:
        """Counts what comes next.

        Raises:
            Err: `quota`.
        """
        self._usage.check(self._most, size - self.old, 0)
        self._usage.come(size, 0)
        self.size += size

    def end(self, stored: bool | None) -> None:
        """It has ended; None: nobody knows whether by storing."""
        self._usage.end(self, stored)


_known: weakref.WeakValueDictionary[Hashable, Usage] = weakref.WeakValueDictionary()


def usage_of(backend: Backend, container: str) -> Usage:
    """That of a container; the same for all of this process that have it."""
    key = backend.key, container
    found = _known.get(key)
    if found is None:
        found = _known[key] = Usage(backend, container)
    return found


def forget(backend: Backend, container: str) -> None:
    """Has a container be counted anew, if anybody counts it."""
    found = _known.get((backend.key, container))
    if found is not None:
        found.forget()
