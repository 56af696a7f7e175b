"""The provider of `loop:core` in Python."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import Any

from loop_kit import _core
from loop_kit._invocation import current, invocation, read_traceparent
from loop_kit._records import emit
from loop_kit.capabilities import _settings
from loop_kit.capabilities.core import _cancel
from loop_kit.capabilities.core._cancel import Token
from loop_kit.capabilities.core._log import LogGrant
from loop_kit.capabilities.core._metrics import Counter, Gauge, Histogram, Metrics
from loop_kit.capabilities.core._quota import Quota
from loop_kit.capabilities.core._random import Generator, Xoshiro, check_length
from loop_kit.capabilities.core._timers import Timers
from loop_kit.capabilities.core._trace import Span, Tracer
from loop_kit.limits import Limits
from loop_kit.provider import provider

__all__ = ["Core", "Token"]

_SECOND = 10**9


@provider(*dict(_core.capabilities())["core"], wit="wit")
class Core:
    """Serves the whole package `loop:core`: log, metrics, trace, clock, timers, random and cancel.

        app = await host.load("app.wasm", imports={"loop:core": Core(grant={"log": {"level": "info"}})})

    Log records go to `logging`, below `loop_kit.guest`.

    Args:
        config: There is nothing to configure.
        grant: `log`: the lowest `level` (trace), the `targets` that may log (all), and `max-record`, the bytes of one
            record (65536). `metrics`: `instruments` at once (256), their `series` (2000). `trace`: `spans` at once
            (256), `events` of one (128). Both: `attributes` of one (64), and `text`, the bytes of one string (4096).
            `timers`, `random` and `cancel`: `max`, the timers, generators (1024 each) and tokens (16384) at once.

    Raises:
        ValueError: A key of the grant is not known, or its value does not do.
    """

    Counter = Counter
    Gauge = Gauge
    Generator = Generator
    Histogram = Histogram
    Span = Span
    Token = Token

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        _settings.no_config(config)
        given = _settings.table("grant", grant, ("log", "metrics", "trace", "timers", "random", "cancel"))
        self._log = LogGrant(given.get("log"))
        self._payload: int = Limits().core()["payload"]
        self._started = time.monotonic_ns()
        timers = Quota.of("timer", "timers", given.get("timers"), 1024)
        self._timers = Timers(timers, lambda: self.monotonic_now())
        self._fast = Xoshiro(int.from_bytes(os.urandom(8)))
        # each component's resources are counted against its own grant
        metrics, tracer = Metrics(given.get("metrics")), Tracer(given.get("trace"))
        generators = Quota.of("generator", "random", given.get("random"), 1024)
        tokens = Quota.of("token", "cancel", given.get("cancel"), 16384)
        for cls in (Counter, Gauge, Histogram):
            vars(self)[cls.__name__] = type(cls.__name__, (cls,), {"metrics": metrics})
        vars(self)["Span"] = type("Span", (Span,), {"tracer": tracer})
        vars(self)["Generator"] = type("Generator", (Generator,), {"quota": generators})
        vars(self)["Token"] = type("Token", (Token,), {"quota": tokens})

    def _loop_within(self, payload: int) -> Core:
        """This provider for a component whose values may have `payload` bytes."""
        within = copy.copy(self)
        within._payload = payload
        vars(within)["Generator"] = type("Generator", (self.Generator,), {"payload": payload})
        return within

    def log(self, level: Enum, target: str, message: str, fields: Sequence[tuple[str, str]]) -> None:
        """Emits one record, as far as the grant lets it."""
        if self._log.lets(level.value, target):
            trace = current()
            short = self._log.shortened(target, message, fields)
            emit(level.value, *short, None if trace is None else read_traceparent(trace))

    def current(self) -> Mapping[str, str] | None:
        """The span that the call belongs to, or None."""
        trace = current()
        return None if trace is None else {"traceparent": trace, "tracestate": ""}

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
        check_length(length, self._payload)
        return os.urandom(length)

    def u64(self) -> int:
        """A random number, uniform over all 64 bits."""
        return int.from_bytes(os.urandom(8))

    def insecure_bytes(self, length: int) -> Sequence[int]:
        """So many bytes that look random.

        Raises:
            ValueError: More than the component's payload limit.
        """
        check_length(length, self._payload)
        return self._fast.bytes(length)

    def insecure_u64(self) -> int:
        """A number that looks random."""
        return self._fast.u64()

    def time_left(self) -> int | None:
        """Nanoseconds until nobody waits for the component's call; None: its caller waits for ever."""
        left = invocation().deadline
        return None if left is None else round(left * _SECOND)

    async def cancelled(self, token: _cancel.Token) -> None:
        """Waits until the token is cancelled or its time is up."""
        held = self._timers.quota.take()
        await token.wait()
        del held
