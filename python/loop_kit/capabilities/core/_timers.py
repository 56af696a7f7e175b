"""Timers: waiting once, and ticks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from loop_kit.capabilities import _settings

__all__ = ["Timers"]

_SECOND = 10**9
# The longest that is waited for in one go; loops refuse what their own timers cannot hold.
_LONGEST = 86_400.0


class Timers:
    """The timers of one component, and the key `timers` of its grant.

    Args:
        grant: `max`, the timers at once (1024).
        elapsed: The monotonic clock, in nanoseconds.

    Raises:
        ValueError: A key is not known, or its value does not do.
    """

    def __init__(self, grant: Any, elapsed: Callable[[], int]) -> None:
        given = _settings.table("grant.timers", grant, ("max",))
        self._max = _settings.positive("grant.timers.max", given.get("max"), 1024)
        self._running = 0
        self._elapsed = elapsed

    async def until(self, due: int) -> None:
        """Waits until the monotonic clock has reached `due`."""
        self._start()
        try:
            await self._reach(due)
        finally:
            self._running -= 1

    def every(self, period: int) -> AsyncIterator[int]:
        """Ticks, each the time at which it was due; those that nobody read in time are not kept.

        Raises:
            ValueError: The period is zero.
        """
        if period == 0:
            raise ValueError("a timer needs a period above zero")
        self._start()
        return _Ticks(self, period)

    async def _reach(self, due: int) -> None:
        while (left := due - self._elapsed()) > 0:  # noqa: ASYNC110, the clock may be another than the loop's
            await asyncio.sleep(min(left / _SECOND, _LONGEST))

    def _start(self) -> None:
        if self._running >= self._max:
            raise ValueError(f"a timer too many: `timers.max` of the grant is {self._max}")
        self._running += 1


class _Ticks:
    """A tick is made when it is asked for. It counts as a timer until it is let go of."""

    def __init__(self, timers: Timers, period: int) -> None:
        self._timers = timers
        self._period = period
        self._from = self._last = timers._elapsed()

    def __aiter__(self) -> _Ticks:
        return self

    async def __anext__(self) -> int:
        await self._timers._reach(self._last + self._period)
        elapsed = self._timers._elapsed()
        self._last = elapsed - (elapsed - self._from) % self._period
        return self._last

    def __del__(self) -> None:
        self._timers._running -= 1
