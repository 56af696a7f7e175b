"""Timers: waiting once, and ticks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from loop_kit.capabilities.core._quota import Quota

__all__ = ["Timers"]

_SECOND = 10**9
# The longest that is waited for in one go; loops refuse what their own timers cannot hold.
_LONGEST = 86_400.0


class Timers:
    """The timers of one component.

    Args:
        quota: How many there may be.
        elapsed: The monotonic clock, in nanoseconds.
    """

    def __init__(self, quota: Quota, elapsed: Callable[[], int]) -> None:
        self.quota = quota
        self.elapsed = elapsed

    async def until(self, due: int) -> None:
        """Waits until the monotonic clock has reached `due`."""
        held = self.quota.take()
        await self.reach(due)
        del held

    def every(self, period: int) -> AsyncIterator[int]:
        """Ticks, each the time at which it was due; those that nobody read in time are not kept.

        Raises:
            ValueError: The period is zero.
        """
        if period == 0:
            raise ValueError("a timer needs a period above zero")
        return _Ticks(self, period)

    async def reach(self, due: int) -> None:
        """Waits without being counted."""
        while (left := due - self.elapsed()) > 0:  # noqa: ASYNC110, the clock may be another than the loop's
            await asyncio.sleep(min(left / _SECOND, _LONGEST))


class _Ticks:
    """A tick is made when it is asked for. It counts as a timer until it is let go of."""

    def __init__(self, timers: Timers, period: int) -> None:
        self._held = timers.quota.take()
        self._timers = timers
        self._period = period
        self._from = self._last = timers.elapsed()

    def __aiter__(self) -> _Ticks:
        return self

    async def __anext__(self) -> int:
        await self._timers.reach(self._last + self._period)
        elapsed = self._timers.elapsed()
        self._last = elapsed - (elapsed - self._from) % self._period
        return self._last
