"""What the compiled core needs of asyncio, written in Python."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, NoReturn

__all__ = ["abandon", "coroutine", "discard", "finish", "pull", "resume"]

_ending: set[asyncio.Task[Any]] = set()


def coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """The awaitable as a coroutine, which is what a task takes."""
    if isinstance(awaitable, Coroutine):
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return wait()


def abandon(loop: asyncio.AbstractEventLoop, iterator: Any, waiting: asyncio.Future[Any] | None) -> None:
    """Ends a started coroutine that nobody resumes any more: by CancelledError, in a task that lets it clean up."""
    if waiting is not None:
        waiting.cancel()
    if not loop.is_closed():
        _run(loop, resume(iterator, None)).cancel()


def resume(iterator: Any, waiting: asyncio.Future[Any] | None) -> Coroutine[Any, Any, Any]:
    """Goes on with a started coroutine that waits for `waiting`, or for its next turn."""
    return _Resumed(iterator, waiting)


def discard(awaitable: Any) -> None:
    """Lets go of an awaitable that nobody will await, be it a coroutine, a future or a task."""
    end = getattr(awaitable, "close", None) or getattr(awaitable, "cancel", None)
    if end is not None:
        end()


def finish(loop: asyncio.AbstractEventLoop, iterator: Any, task: asyncio.Future[Any] | None) -> None:
    """Closes an async iterator before its end; `task` is to give its next value."""
    aclose = getattr(iterator, "aclose", None)
    if task is not None:
        task.cancel()
    if aclose is None or loop.is_closed():
        return

    async def end() -> None:
        if task is not None:
            await asyncio.wait([task])  # a generator cannot be closed while it runs
        await aclose()

    _run(loop, end())


async def pull(iterator: Any, sink: Any) -> None:
    """Gives `sink` what an async iterator gives, as long as it wants more."""
    following = iterator.__anext__
    try:
        while True:
            try:
                value = await following()
            except StopAsyncIteration:
                return
            if not sink.give(value):
                await sink.wanted()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = loop.create_task(coroutine)
    _ending.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # its provider's, whom nobody asks any more


class _Resumed(Coroutine[Any, Any, Any]):
    """A started coroutine, as a task takes it.

    No coroutine of its own: a task that is cancelled before its first step never begins one, and what had been started
    would not be told.
    """

    def __init__(self, iterator: Any, waiting: asyncio.Future[Any] | None) -> None:
        self._iterator = iterator
        self._waiting = waiting
        self._fresh = True

    def send(self, value: Any) -> Any:
        if not self._fresh:
            return self._iterator.send(value)
        self._fresh = False
        if self._waiting is not None:
            # what `Future.__await__` set before it yielded the future, and whoever drove the coroutine took back
            self._waiting._asyncio_future_blocking = True
        return self._waiting

    def throw(self, *error: Any) -> Any:
        if self._fresh and self._waiting is not None:
            self._waiting.cancel()
        self._fresh = False
        return self._iterator.throw(*error)

    def close(self) -> None:
        self._iterator.close()

    def __await__(self) -> NoReturn:
        raise TypeError("a task drives it, and nothing awaits it")
