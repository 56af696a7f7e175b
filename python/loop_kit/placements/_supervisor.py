"""Keeps one provider running: starts it again when it ends by itself, and says why where it no longer does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from loop_kit.errors import LoopError, ProviderGone
from loop_kit.placements._lifecycle import Lifecycle, State

__all__ = ["HEALTH", "Running", "Supervisor"]

HEALTH = 10.0
"""Seconds from one question how a provider is to the next."""


class Running(Protocol):
    """A provider that was started and can be called."""

    async def gone(self) -> str:
        """Waits until it ends by itself, and tells why."""

    async def aclose(self) -> None:
        """Ends it in good order."""


R = TypeVar("R", bound=Running)


class Supervisor(Generic[R]):
    """Runs what `start` starts until it is closed.

    Args:
        name: The provider's, for messages.
        start: Starts it; it may raise LoopError or OSError.
        lifecycle: Its state, with the rules of restarting.
        sleep: Waits for so many seconds.
        ill: Asks what runs why it cannot do what it provides, if so. One that says so twice is started again.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[R]],
        lifecycle: Lifecycle | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        ill: Callable[[R], Awaitable[str | None]] | None = None,
    ) -> None:
        self.name = name
        self.lifecycle = lifecycle or Lifecycle()
        self._start = start
        self._sleep = sleep
        self._ill = ill
        self._running: R | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    async def start(self) -> R:
        """Starts the provider for the first time: what is wrong with it is raised, and it is not tried again.

        Raises:
            LoadError: It cannot be started.
        """
        running = await self._start()
        self._is_ready(running)
        self._task = asyncio.create_task(self._keep(running), name=f"loop-provider-{self.name}")
        return running

    @property
    def running(self) -> R:
        """The provider, where it can be called now.

        Raises:
            ProviderGone: It is not ready; the text says why.
        """
        if self._running is None:
            raise self._gone()
        return self._running

    async def ready(self) -> R:
        """Waits while it is started again.

        Raises:
            ProviderGone: It is not started again; the text says why.
        """
        while self._running is None:
            if self._task is None or (self._task.done() and not self._order.locked()):
                raise self._gone()
            await self._changed.wait()
        return self._running

    async def restart(self) -> None:
        """Ends the provider in good order and starts it again, also one that is no longer started by itself.

        Calls meanwhile fail with ProviderGone.

        Raises:
            LoadError: It cannot be started; that is tried again, as after any failure.
            ProviderGone: It was closed.
        """
        async with self._order:
            if self._task is None:
                raise self._gone()
            with contextlib.suppress(LoopError, OSError):
                await self._end()
            self.lifecycle.anew()
            try:
                running = await self._start()
            except (LoopError, OSError) as e:
                self._task = asyncio.create_task(self._recover(str(e)), name=f"loop-provider-{self.name}")
                raise
            self._is_ready(running)
            self._task = asyncio.create_task(self._keep(running), name=f"loop-provider-{self.name}")

    async def aclose(self) -> None:
        """Ends the provider; again is harmless."""
        try:
            async with self._order:
                if self._task is not None:
                    try:
                        await self._end()
                    finally:
                        self._task = None
        finally:
            self._change()

    async def _end(self) -> None:
        task, running = self._task, self._running
        assert task is not None
        self._running = None
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._change()
        if self.lifecycle.state in (State.STARTING, State.READY):
            self.lifecycle.drain()
        try:
            if running is not None:
                await running.aclose()
        finally:
            if self.lifecycle.state is not State.STOPPED:
                self.lifecycle.stopped()

    async def _recover(self, reason: str) -> None:
        if (running := await self._again(reason)) is not None:
            await self._keep(running)

    async def _keep(self, running: R) -> None:
        while True:
            reason = await self._over(running)
            self._running = None
            with contextlib.suppress(LoopError, OSError):  # there is nobody left to part from in good order
                await running.aclose()
            started = await self._again(reason)
            if started is None:
                return
            running = started

    async def _over(self, running: R) -> str:
        """Waits until it ends by itself, or is to be ended since it is not well, and tells why."""
        if self._ill is None:
            return await running.gone()
        gone = asyncio.ensure_future(running.gone())
        ill = asyncio.ensure_future(_unwell(self._ill, running))
        try:
            done, _ = await asyncio.wait({gone, ill}, return_when=asyncio.FIRST_COMPLETED)
            return (gone if gone in done else ill).result()
        finally:
            gone.cancel()
            ill.cancel()

    async def _again(self, reason: str) -> R | None:
        while (pause := self.lifecycle.failed(reason)) is not None:
            self._change()
            await self._sleep(pause)
            self.lifecycle.again()
            try:
                running = await self._start()
            except (LoopError, OSError) as e:
                reason = str(e)
                continue
            self._is_ready(running)
            return running
        asyncio.get_running_loop().call_soon(self._change)
        return None

    def _is_ready(self, running: R) -> None:
        self.lifecycle.ready()
        self._running = running
        self._change()

    def _change(self) -> None:
        """Wakes all who wait in `ready`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _gone(self) -> ProviderGone:
        state, reason = self.lifecycle.state, self.lifecycle.reason
        often = " over and over, and is not started again" if self.lifecycle.crash_loop else ""
        why = f": {reason}" if reason else ""
        return ProviderGone(f"provider {self.name} is {state}{often}{why}")


async def _unwell(ill: Callable[[R], Awaitable[str | None]], running: R) -> str:
    """Waits until it says twice that it cannot do what it provides, and tells why."""
    before = False
    while True:
        await asyncio.sleep(HEALTH)
        why = await ill(running)
        if why is not None and before:
            return f"is not well: {why}"
        before = why is not None
