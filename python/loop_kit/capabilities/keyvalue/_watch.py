"""Has a component's `wasi:keyvalue/watcher` called for what changes in a bucket."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from loop_kit.errors import HostClosed, LoadError, LoopError

if TYPE_CHECKING:
    from loop_kit.host import App

__all__ = ["Change", "Watched", "Watching", "watch"]

_LOG = logging.getLogger("loop_kit.keyvalue")
_WATCHER = "wasi:keyvalue/watcher@0.2.0-draft"
_AGAIN = 0.2
"""Seconds after which what was cancelled and goes on is cancelled again."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was set or deleted.

    Attributes:
        key: The key.
        value: What it was set to; None: it was deleted.
        lost: Changes before this that were forgotten before they were read.
    """

    key: str
    value: bytes | None
    lost: int = 0


class Watched(Protocol):
    """A provider in this process whose buckets can be watched."""

    def open(self, identifier: str) -> Any:
        """The bucket, or a coroutine's; it has `changes(started)`, which yields each `Change`."""


@dataclass(slots=True)
class Watching:
    """What has come of a watch so far.

    Attributes:
        told: Calls that the component has answered.
        failed: Calls that it has not: it trapped, or took too long. They are logged, and not made again.
        lost: Changes that were forgotten before the component could be told.
    """

    told: int = 0
    failed: int = 0
    lost: int = 0


@contextlib.asynccontextmanager
async def watch(app: App, store: Watched, *buckets: str) -> AsyncIterator[Watching]:
    """Calls `on-set` and `on-delete` of a component for what changes in buckets, whoever changes it.

        async with watch(app, kv, "jobs"):
            ...

    Changes that are made once the block is entered are told, those of one bucket one after the other. A call that fails
    is logged, and not made again. Of a key that changes faster than the component follows, the last change is told.

    Args:
        app: The component, which exports `wasi:keyvalue/watcher@0.2.0-draft`.
        store: What its import of `wasi:keyvalue` is linked to: the object itself.
        buckets: Those that the store's grant names.

    Raises:
        LoadError: The component does not export the interface.
        Err: A bucket cannot be opened or watched.
    """
    if _WATCHER not in [*app.exports]:  # in any other version it is another interface
        raise LoadError(f"the component does not export {_WATCHER}, which is called for changes")
    watching = Watching()
    async with contextlib.AsyncExitStack() as stack:
        for name in dict.fromkeys(buckets):  # of one that is named twice each change is told once
            await stack.enter_async_context(_followed(app, store, name, watching))
        yield watching


@contextlib.asynccontextmanager
async def _followed(app: App, store: Watched, name: str, watching: Watching) -> AsyncIterator[None]:
    started = asyncio.Event()
    task = asyncio.create_task(_follow(app, store, name, watching, started.set))
    waiting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        left = {task, waiting}
        while left:
            for each in left:
                each.cancel()
            # again where it was lost: `wait_for` of Python 3.11, by which nats-py waits, may forget it
            _, left = await asyncio.wait(left, timeout=_AGAIN)
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _follow(
    app: App, store: Watched, name: str, watching: Watching, started: Callable[[], None]
) -> None:
    opened = store.open(name)
    bucket = await opened if inspect.isawaitable(opened) else opened
    async with contextlib.aclosing(bucket.changes(started)) as changes:
        async for change in changes:
            if change.lost:
                watching.lost += change.lost
                _LOG.warning(
                    "%d changes of the bucket `%s` were forgotten before they were told", change.lost, name
                )
            try:
                if change.value is None:
                    await app.call(f"{_WATCHER}#on-delete", bucket, change.key)
                else:
                    await app.call(f"{_WATCHER}#on-set", bucket, change.key, change.value)
                watching.told += 1
            except HostClosed:
                return
            except LoopError as error:
                watching.failed += 1
                _LOG.warning("the watcher of the bucket `%s` failed at a key: %s", name, error)
