"""A clock for tests: it stands still until the test moves it, or runs ahead to whatever is waited for."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any

from loop_kit._shipped import shipped
from loop_kit._units import parse_duration
from loop_kit.host import App, Host
from loop_kit.placements.builtin import builtin
from loop_kit.placements.component import SETTINGS, Settings

__all__ = ["VirtualClock", "virtual_clock"]

_SECOND = 10**9


class VirtualClock:
    """The component `core/virtual-clock` and its hands; made by `virtual_clock`.

    Attributes:
        app: The component, for `imports`: it serves `loop:core/clock` and `loop:core/timers`.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    @property
    def imports(self) -> dict[str, Any]:
        """What links a component to this clock, to be joined with its other imports."""
        return {"loop:core/clock": self.app, "loop:core/timers": self.app}

    async def advance(self, by: float | str) -> None:
        """Moves time forwards, from timer to timer: what each lets go on has its turn before time moves on.

        Args:
            by: Seconds, or text such as `"90m"`.
        """
        await self.app.call("loop:virtual-clock/control#advance", round(parse_duration(by) * _SECOND))

    async def set(self, now: datetime) -> None:
        """Sets the time of day; no timer is touched.

        Args:
            now: With its time zone.
        """
        since = now - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        seconds = since.days * 86_400 + since.seconds
        instant = {"seconds": seconds, "nanoseconds": since.microseconds * 1000}
        await self.app.call("loop:virtual-clock/control#set", instant)

    def run(self, by_itself: bool = True) -> Awaitable[None]:
        """Whether time moves to the earliest timer by itself as soon as all wait."""
        return self.app.call("loop:virtual-clock/control#run", by_itself)

    async def elapsed(self) -> float:
        """Seconds by the monotonic clock, which began at zero."""
        return float(await self.app.call("loop:core/clock#monotonic-now")) / _SECOND

    async def waiting(self) -> int:
        """How many timers wait."""
        return int(await self.app.call("loop:virtual-clock/control#waiting"))

    async def next(self) -> float | None:
        """When the earliest of them is due, by the monotonic clock, in seconds."""
        due = await self.app.call("loop:virtual-clock/control#next")
        return None if due is None else float(due) / _SECOND


async def virtual_clock(host: Host, *, run: bool = False) -> VirtualClock:
    """A clock for the components of a host.

        clock = await testing.virtual_clock(host, run=True)
        app = await host.load("app.wasm", imports={**clock.imports, "loop:core": loop.builtin("core")})
        await app.call("an-hour-of-work")  # in a millisecond
        assert await clock.elapsed() == 3600

    Args:
        host: Where it runs.
        run: Whether time moves by itself.
    """
    imports = {"loop:core": builtin("core"), SETTINGS: Settings({"run": run})}
    return VirtualClock(await host.load(shipped("core/virtual-clock"), imports))
