"""The provider of `loop:core` in Python."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import Any

from loop_kit._records import emit
from loop_kit.capabilities import _settings
from loop_kit.capabilities.core._log import LogGrant
from loop_kit.capabilities.core._timers import Timers
from loop_kit.limits import Limits
from loop_kit.provider import provider

__all__ = ["Core", "Token"]

_SECOND = 10**9


class _Scope:
    """One scope of work: what its token may cancel, and the scope that it is part of."""

    __slots__ = ("cancelled", "held", "parent")

    def __init__(self, parent: _Scope | None) -> None:
        self.parent = parent
        self.cancelled = False
        self.held = True

    def is_cancelled(self) -> bool:
        at: _Scope | None = self
        while at is not None:
            if at.cancelled:
                self.cancelled = True
                return True
            # What no token can cancel any more is passed over from now on: a line of dropped ancestors costs nothing.
            while (parent := at.parent) is not None and not parent.held and not parent.cancelled:
                at.parent = parent.parent
            at = at.parent
        return False


class Token:
    """A scope of work that can be called off.

    Cancelling only marks the token; descendants look upwards. So a token keeps nothing of its children alive.
    """

    __slots__ = ("_scope",)

    def __init__(self, _parent: _Scope | None = None) -> None:
        self._scope = _Scope(_parent)

    def __del__(self) -> None:
        self._scope.held = False

    def child(self) -> Token:
        """A token that is cancelled with this one, and can be cancelled alone."""
        self._scope.is_cancelled()  # lets go of ancestors that were dropped
        return Token(self._scope)

    def cancel(self) -> None:
        """Cancels this token and all its descendants. Again is harmless."""
        self._scope.cancelled = True

    def is_cancelled(self) -> bool:
        """Whether this token or one of its ancestors was cancelled."""
        return self._scope.is_cancelled()


@provider(wit="wit")
class Core:
    """Serves the whole package `loop:core`: log, clock, timers, random and cancel.

        app = await host.load("app.wasm", imports={"loop:core": Core(grant={"log": {"level": "info"}})})

    Log records go to `logging`, below `loop_kit.guest`.

    Args:
        config: There is nothing to configure.
        grant: `log`: the lowest `level` (trace), the `targets` that may log (all), and `max-record`, the bytes of one
            record (65536). `timers`: `max`, the timers at once (1024).

    Raises:
        ValueError: A key of the grant is not known, or its value does not do.
    """

    Token = Token

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        _settings.no_config(config)
        given = _settings.table("grant", grant, ("log", "timers"))
        self._log = LogGrant(given.get("log"))
        self._payload: int = Limits().core()["payload"]
        self._started = time.monotonic_ns()
        self._timers = Timers(given.get("timers"), lambda: self.monotonic_now())

    def _loop_within(self, payload: int) -> Core:
        """This provider for a component whose values may have `payload` bytes."""
        within = copy.copy(self)
        within._payload = payload
        return within

    def log(self, level: Enum, target: str, message: str, fields: Sequence[tuple[str, str]]) -> None:
        """Emits one record, as far as the grant lets it."""
        if self._log.lets(level.value, target):
            emit(level.value, *self._log.shortened(target, message, fields))

    def now(self) -> Mapping[str, int]:
        """The time of day, in seconds and nanoseconds since 1970."""
        seconds, nanoseconds = divmod(time.time_ns(), _SECOND)
        return {"seconds": seconds, "nanoseconds": nanoseconds}

    def monotonic_now(self) -> int:
        """Nanoseconds since this provider was made."""
        return time.monotonic_ns() - self._started

    def resolution(self) -> int:
        """The smallest step of `monotonic_now`, in nanoseconds."""
        return max(1, round(time.get_clock_info("monotonic").resolution * _SECOND))

    async def sleep(self, how_long: int) -> None:
        """Waits so many nanoseconds; zero lets others have their turn."""
        if how_long == 0:
            await asyncio.sleep(0)
        else:
            await self._timers.until(self.monotonic_now() + how_long)

    async def sleep_until(self, when: int) -> None:
        """Waits until the monotonic clock has reached `when`."""
        await self._timers.until(when)

    async def every(self, period: int) -> AsyncIterator[int]:
        """A tick each `period` nanoseconds.

        Raises:
            ValueError: The period is zero.
        """
        return self._timers.every(period)

    def bytes(self, length: int) -> Sequence[int]:
        """So many random bytes.

        Raises:
            ValueError: More than the component's payload limit.
        """
        if length > self._payload:
            raise ValueError(f"{length} random bytes asked for, the payload limit is {self._payload}")
        return os.urandom(length)

    def u64(self) -> int:
        """A random number, uniform over all 64 bits."""
        return int.from_bytes(os.urandom(8))
