"""A storage under a grant: every rule and every bound, whatever keeps the objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.blobstore._backend import NO_CONTAINER, NO_OBJECT, Backend, Info, invalid, other
from loop_kit.capabilities.blobstore._grant import Grant, Rule
from loop_kit.capabilities.blobstore._usage import Usage, Write, forget, quota, usage_of

__all__ = ["Store"]

_GIVEN_UP: Any = "given-up"
_ALL = (1 << 64) - 1
_log = logging.getLogger("loop_kit.blobstore")


class Store:
    """What a link reaches. Methods raise `Err` with an `error` of the interface.

    Args:
        backend: What keeps the objects.
        grant: What may be done.

    Attributes:
        grant: The same.
    """

    def __init__(self, backend: Backend, grant: Grant) -> None:
        self.grant = grant
        self._backend = backend
        self._left = grant.bounds.streams
        self._usages: dict[str, Usage] = {}
        self._made: set[str] = set()
        # one after the other, so that each counts what came before
        self._creating = asyncio.Lock()

    @contextmanager
    def answering(self) -> Any:
        """Turns what the storage fails with into an error of the interface; its own words are for the host's log."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # nobody was cancelled: nats-py does this to those who wait when a connection ends
            raise other(f"{self._backend.label} failed: the connection was lost") from None
        except self._backend.failures as e:
            _log.warning("%s failed: %s: %s", self._backend.label, type(e).__name__, e)
            why = getattr(e, "strerror", None)
            raise other(f"{self._backend.label} failed: {why or type(e).__name__}") from None

    def take(self) -> None:
        """Counts a stream; to be given back.

        Raises:
            Err: `quota`: there are as many as may be.
        """
        if not self._left:
            most = self.grant.bounds.streams
            raise quota(f"{most} streams are open; `grant.max-streams` lets there be {most}")
        self._left -= 1

    def give(self) -> None:
        """A stream has ended."""
        self._left += 1

    async def create(self, container: str) -> None:
        """Makes a container."""
        self.grant.to_create(container)
        most = self.grant.bounds.containers
        async with self._creating:
            with self.answering():
                found = await self._backend.containers()
                if container not in found and sum(map(self.grant.may_create, found)) >= most:
                    raise quota(f"`grant.max-containers` lets there be {most} that may be created")
                await self._backend.create(container)
        forget(self._backend, container)

    async def created(self, container: str) -> int:
        """When a container was made."""
        with self.answering():
            await self._there(container, self.grant.rule(container), ask=False)
            return await self._backend.created(container)

    async def remove(self, container: str) -> None:
        """Deletes a container."""
        self.grant.to_create(container)
        with self.answering():
            await self._backend.remove(container)
        forget(self._backend, container)
        self._usages.pop(container, None)

    async def info(self, container: str, name: str) -> Info:
        """What is known of an object."""
        rule = self.grant.rule(container)
        self.grant.check_name(name)
        with self.answering():
            await self._there(container, rule, ask=False)
            return await self._backend.info(container, name)

    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`."""
        rule = self.grant.rule(container)
        self.grant.check_name(name)
        if start > end:
            raise invalid(f"the bytes from {start} to {end}: the first is after the last")
        with self.answering():
            await self._there(container, rule, ask=False)
            return self._told(await self._backend.read(container, name, start, end))

    async def read_whole(self, container: str, name: str, start: int, end: int) -> bytes:
        """The same at once."""
        most = self.grant.bounds.whole
        found = bytearray()
        async with self._streaming(), aclosing(await self.read(container, name, start, end)) as chunks:
            async for chunk in chunks:
                found += chunk
                if len(found) > most:
                    raise quota(f"more than the {most} bytes that `grant.max-whole` lets be read at once")
        return bytes(found)

    async def write(
        self, container: str, name: str, data: AsyncIterable[bytes], finish: Awaitable[Any] | None
    ) -> int:
        """Stores an object; its size."""
        rule = self.grant.to_write(container)
        self.grant.check_name(name)
        size = 0

        async def chunks(take: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
            nonlocal size
            async for chunk in self._bounded(data, take):
                size += len(chunk)
                yield chunk
            if finish is not None and isinstance(await finish, Err):
                raise Err(_GIVEN_UP)

        async with self._streaming():
            with self.answering():
                await self._there(container, rule)
            async with self._metered(container, name, rule) as take, aclosing(chunks(take)) as source:
                await self._backend.write(container, name, source)
        return size

    async def _bounded(
        self, data: AsyncIterable[bytes], take: Callable[[int], None]
    ) -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in data:
            size += len(chunk)
            self._check_size(size)
            take(len(chunk))
            yield bytes(chunk)

    async def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """All objects, some at a time."""
        rule = self.grant.rule(container)
        with self.answering():
            # what is not there is to be known at once, and not when the first is asked for
            await self._there(container, rule)
        return self._told(self._backend.entries(container))

    async def page(self, container: str, after: str | None) -> Sequence[str]:
        """Names that follow one."""
        rule = self.grant.rule(container)
        if after is not None:
            self.grant.check_name(after)
        async with self._streaming():
            with self.answering():
                await self._there(container, rule)
                return await self._backend.page(container, after, self.grant.bounds.list)

    async def delete(self, container: str, names: Sequence[str]) -> None:
        """Deletes objects."""
        rule = self.grant.to_write(container)
        most = self.grant.bounds.batch
        if len(names) > most:
            raise quota(f"{len(names)} names at once; `grant.max-batch` lets it be {most}")
        for name in names:
            self.grant.check_name(name)
        await self._delete(container, names, rule)

    async def clear(self, container: str) -> None:
        """Deletes all objects."""
        rule = self.grant.to_write(container)
        async with self._streaming(), aclosing(await self.entries(container)) as batches:
            async for batch in batches:
                await self._delete(container, [name for name, _ in batch], rule)

    async def copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Makes a second object."""
        size = (await self.info(*source)).size
        rule = self.grant.to_write(target[0])
        self.grant.check_name(target[1])
        self._check_size(size)
        if source == target:
            return
        async with self._streaming():
            with self.answering():
                await self._there(target[0], rule)
            async with self._metered(*target, rule) as take:
                if self._backend.copies:
                    take(size)
                    await self._backend.copy(source, target)
                    return
                async with (
                    aclosing(await self._backend.read(*source, 0, _ALL)) as data,
                    aclosing(self._bounded(data, take)) as chunks,
                ):
                    await self._backend.write(*target, chunks)

    async def move(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Gives an object another name."""
        self.grant.to_write(source[0])
        await self.copy(source, target)
        if source != target:
            await self.delete(source[0], [source[1]])

    async def aclose(self) -> None:
        """Lets go of connections."""
        await self._backend.aclose()

    async def _there(self, container: str, rule: Rule, *, ask: bool = True) -> None:
        """Sees to it that a container is there; `ask`: also one of which the next that is done would not tell.

        Raises:
            Err: `no-such-container`.
        """
        if not rule.there:
            if ask:
                await self._backend.created(container)
        elif container not in self._made:
            try:
                await self._backend.created(container)
            except Err as e:
                if e.value != NO_CONTAINER:
                    raise
                with suppress(Err):  # somebody else was faster
                    await self._backend.create(container)
            self._made.add(container)

    async def _delete(self, container: str, names: Sequence[str], rule: Rule) -> None:
        with self.answering():
            await self._there(container, rule)
            if rule.most.anything:
                await self._backend.delete(container, names)
                return
            usage = self._usage(container)
            since = usage.changes()
            try:
                usage.deleted(names, await self._backend.delete(container, names), since)
            except BaseException:
                usage.deleted(names, None, since)
                raise

    def _usage(self, container: str) -> Usage:
        return self._usages.setdefault(container, usage_of(self._backend, container))

    def _check_size(self, size: int) -> None:
        most = self.grant.bounds.object
        if size > most:
            raise quota(f"an object of more than {most} bytes, which `grant.max-object` lets it have")

    @asynccontextmanager
    async def _streaming(self) -> AsyncIterator[None]:
        self.take()
        try:
            yield
        finally:
            self.give()

    @asynccontextmanager
    async def _metered(self, container: str, name: str, rule: Rule) -> AsyncIterator[Callable[[int], None]]:
        """Counts what is written within, as far as there are bounds."""
        with self.answering():
            if rule.most.anything:
                yield lambda _: None
                return
            usage = self._usage(container)
            await usage.ready()
            write = Write(usage, rule.most, name)
            try:
                try:
                    write.replaces((await self._backend.info(container, name)).size)
                except Err as e:
                    if e.value != NO_OBJECT:
                        raise
                    write.replaces(None)
                yield write.take
            except Err:
                write.end(False)
                raise
            except BaseException:
                write.end(None)
                raise
            write.end(True)

    async def _told(self, found: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        with self.answering():
            async with aclosing(found) as items:
                async for item in items:
                    yield item
