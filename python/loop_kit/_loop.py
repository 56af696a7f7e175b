"""What the compiled core needs of asyncio, written in Python."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from typing import Any

__all__ = ["abandon", "coroutine"]

_ending: set[asyncio.Task[None]] = set()


def coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """The awaitable as a coroutine, which is what a task takes."""
    if inspect.iscoroutine(awaitable):
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return wait()


def abandon(
    loop: asyncio.AbstractEventLoop, iterator: Iterator[Any], waiting: asyncio.Future[Any] | None
) -> None:
    """Ends a started coroutine that nobody resumes any more: by CancelledError, in a task that lets it clean up."""
    if waiting is not None:
        waiting.cancel()
    if loop.is_closed():
        return

    async def end() -> None:
        await _Cancelled(iterator)

    task = loop.create_task(end())
    _ending.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # its provider's, whom nobody asks any more


class _Cancelled:
    """A started coroutine, resumed by CancelledError."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            wanted = self._iterator.throw(asyncio.CancelledError())
            while True:
                try:
                    given = yield wanted
                except BaseException as error:
                    wanted = self._iterator.throw(error)
                else:
                    wanted = self._iterator.send(given)
        except StopIteration:
            return
