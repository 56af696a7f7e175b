"""Load on the lanes of a workspace at a constant rate, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from loop_kit.host import App
from loop_kit.workspace import Workspace
from tests.swap.lanes import PLACES, Lane

WAITS = 50
"""One call in so many takes its time, so that some are under way whenever a provider goes."""


@dataclass
class Told:
    """What callers have seen.

    Attributes:
        calls: How many were begun; they have the numbers below that.
        before: Milliseconds that each call took that was due while no provider had been exchanged yet.
        during: The same of those after that.
        failed: What went wrong, in words.
        streams: Streams that were read to their end, and items in them.
        handles: Resources that were made and dropped, and how often they were asked.
        swaps: Milliseconds that each exchange took, by the placements and the transport.
    """

    calls: int = 0
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    streams: Counter[str] = field(default_factory=Counter)
    handles: Counter[str] = field(default_factory=Counter)
    swaps: dict[str, list[float]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "calls": self.calls,
            "failed": len(self.failed),
            "before": percentiles(self.before),
            "during": percentiles(self.during),
            "streams": dict(self.streams),
            "handles": dict(self.handles),
            "swaps": {pair: [round(ms, 1) for ms in took] for pair, took in sorted(self.swaps.items())},
        }


def percentiles(samples: list[float]) -> dict[str, float]:
    """p50, p99 and the longest, in ms."""
    ordered = sorted(samples)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(ordered[round(last * part)], 3) for name, part in at.items()} if ordered else {}


class Load:
    """Calls, streams and resources on lanes, until it is told that it is over.

    Args:
        apps: The components of the lanes.
        rate: Calls a second, over all lanes: each is due at its time, whether those before it were answered or not.
        seed: Which calls take their time.
    """

    def __init__(self, apps: dict[Lane, App], *, rate: float, seed: int) -> None:
        self.told = Told()
        self.swapping = False
        self._apps = apps
        self._rate = rate
        self._random = random.Random(seed)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Goes on until `end`, and until all that was begun has ended."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._calls(group))
            for lane, app in self._apps.items():
                if lane.kind != "ask":
                    work = self._streams(app) if lane.kind == "pump" else self._handles(app)
                    group.create_task(self._noted(lane.name, work))

    def end(self) -> None:
        self._over.set()

    async def _calls(self, group: asyncio.TaskGroup) -> None:
        apps = [(lane.name, app) for lane, app in self._apps.items() if lane.kind == "ask"]
        start = time.perf_counter()
        while not self._over.is_set():
            due = int((time.perf_counter() - start) * self._rate)
            while self.told.calls < due:
                number, self.told.calls = self.told.calls, self.told.calls + 1
                name, app = apps[number % len(apps)]
                call = self._call(app, number, start + number / self._rate)
                group.create_task(self._noted(f"{name}: {number}", call))
            await asyncio.sleep(0.001)

    async def _call(self, app: App, number: int, due: float) -> None:
        during = self.swapping
        if number % WAITS:
            assert await app.call("ask", number) == number + 1
            # one that takes its time on purpose tells nothing of latency
            (self.told.during if during else self.told.before).append((time.perf_counter() - due) * 1e3)
        else:
            assert await app.call("wait", number, self._random.randrange(20, 400)) == number + 1

    async def _noted(self, what: str, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self.told.failed.append(f"{what}: {type(error).__name__}: {error}")

    async def _streams(self, app: App) -> None:
        numbers = itertools.count()
        while not self._over.is_set():
            first = next(numbers)
            sent = [first]

            async def items(sent: list[int] = sent) -> AsyncIterator[int]:
                yield sent[0]
                for _ in range(self._random.randrange(100, 400)):
                    await asyncio.sleep(0.005)
                    sent.append(next(numbers))
                    yield sent[-1]

            got: list[int] = []
            async for chunk in await app.call("relay", items(), 7):
                got += chunk if isinstance(chunk, Iterable) else [chunk]
            assert got == sent, (
                f"a stream from {first} on came as {got[:5]}... of {len(got)}, not {len(sent)}"
            )
            self.told.streams.update(ended=1, items=len(got))

    async def _handles(self, app: App) -> None:
        for number in itertools.count(1):
            if self._over.is_set():
                return
            await app.call("hold", number)
            for _ in range(self._random.randrange(20, 200)):
                await asyncio.sleep(0.01)
                assert await app.call("held") == number
                self.told.handles.update(asked=1)
            await app.call("let-go")
            self.told.handles.update(dropped=1)


class Swapper:
    """Exchanges the providers of lanes in turn, each for a placement that it has come from least yet."""

    def __init__(self, space: Workspace, lanes: list[Lane], remotes: list[dict[str, str]], seed: int) -> None:
        self._space = space
        self._lanes = lanes
        self._remotes = remotes
        self._random = random.Random(seed)
        self._at = dict.fromkeys(lanes, "sidecar-python")
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._turns = itertools.count()

    async def swap(self, told: Told) -> None:
        """The next one."""
        turn = next(self._turns)
        lane = self._lanes[turn % len(self._lanes)]
        before = self._at[lane]
        after = min(PLACES, key=lambda to: (self._pairs[before, to], self._random.random()))
        start = time.perf_counter()
        use = lane.use(after, self._remotes[turn % len(self._remotes)], turn)
        await self._space.swap(lane.provider, use)
        took = (time.perf_counter() - start) * 1e3
        self._pairs[before, after] += 1
        self._at[lane] = after
        pair = f"{self._spoken(lane, before)} to {self._spoken(lane, after, use)}"
        told.swaps.setdefault(pair, []).append(took)

    def pairs(self) -> set[tuple[str, str]]:
        """Those of placements that there were."""
        return set(self._pairs)

    def _spoken(self, lane: Lane, place: str, use: str = "") -> str:
        how = (
            lane.transport
            if place.startswith("sidecar")
            else use.split(":")[1]
            if use.startswith("remote")
            else ""
        )
        return f"{place} {how}".strip()
