"""What every provider of `loop:core` must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from typing import Any

import loop_kit as loop
from loop_kit.conform import Provided, Scene, Suite, Unmet, expect, fails
from loop_kit.errors import LoopError, ProviderError

__all__ = ["SUITE"]

_REFUSED = LoopError


def _below(grant: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"loop:core": loop.builtin("core", **grant)}


SUITE = Suite(
    "loop:core",
    (
        Provided("builtin:core"),
        Provided("python:loop_kit.capabilities.core:Core"),
        Provided("component:loop:core/log-filter", ("log",), imports=_below),
        Provided(
            "component:loop:core/virtual-clock",
            ("clock", "timers"),
            imports=_below,
            config={"run": True},
            without={"timers: the grant bounds how many there are": "its own memory bounds them"},
        ),
    ),
)


@SUITE.case("log", "every level, with fields")
async def _(scene: Scene) -> None:
    async with scene.client({"log": {"level": "warn"}}) as core:
        for level in ("trace", "debug", "info", "warn", "error"):
            expect(
                await core.log.log(level, "site.search", "slow", [("ms", "12"), ("ms", "13")]), None, level
            )


@SUITE.case("log", "a grant that says what it may not is refused by its key")
async def _(scene: Scene) -> None:
    async def refused() -> None:
        async with scene.client({"log": {"level": "loud"}}):
            pass

    error = await fails(refused(), Exception, "a level that there is not")
    if "grant.log.level" not in str(error):
        raise Unmet(f"the key grant.log.level should be named, and it says: {error}")


@SUITE.case("clock", "the time of day moves forwards, within its units")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        before, after = await core.clock.now(), await core.clock.now()
        for instant in (before, after):
            expect(0 <= instant.nanoseconds < 10**9, True, "nanoseconds below a second")
        first = (before.seconds, before.nanoseconds)
        expect(first <= (after.seconds, after.nanoseconds), True, "a second reading is not before the first")


@SUITE.case("clock", "the stopwatch never decreases, and its step is told")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        readings = [await core.clock.monotonic_now() for _ in range(50)]
        expect(readings, sorted(readings), "readings in order")
        expect(await core.clock.resolution() >= 1, True, "a step of at least a nanosecond")


@SUITE.case("random", "as many bytes as asked for, never twice the same")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        for count in (0, 1, 32, 100_000):
            expect(len(await core.random.bytes(count)), count, "so many bytes")
        expect(len({bytes(await core.random.bytes(16)) for _ in range(64)}), 64, "different ones")
        numbers = [await core.random.u64() for _ in range(256)]
        expect(
            all(any(n >> bit & 1 for n in numbers) for bit in range(64)),
            True,
            "every bit is set now and then",
        )


@SUITE.case("random", "more bytes than a value may have are refused")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        await fails(core.random.bytes(0xFFFF_FFFF), ProviderError, "4 GiB of random bytes")
        expect(len(await core.random.bytes(8)), 8, "the next call")


@SUITE.case("cancel", "a token cancels what descends from it, and nothing else")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        top = await core.cancel.Token()
        left, right = await top.child(), await top.child()
        below = await left.child()
        await left.cancel()
        states = [await token.is_cancelled() for token in (top, left, below, right)]
        expect(states, [False, True, True, False], "top, left, below, right")
        await top.cancel()
        await top.cancel()
        expect(await right.is_cancelled(), True, "right, once its parent is cancelled")
        expect(await (await right.child()).is_cancelled(), True, "a child of a cancelled token")


@SUITE.case("cancel", "dropped ancestors still cancel, while somebody holds one")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        top = await core.cancel.Token()
        middle = await top.child()
        below = await middle.child()
        middle.close()
        await top.cancel()
        expect(await below.is_cancelled(), True, "a grandchild whose parent was dropped")


async def _first(stream: AsyncIterator[Any], count: int) -> list[int]:
    found: list[int] = []
    async for item in stream:
        found += [item] if isinstance(item, int) else item
        if len(found) >= count:
            break
    return found[:count]


@SUITE.case("timers", "a sleep lasts as long as it should, and never less")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        for how_long in (0, 1, 3_000_000):
            before = await core.clock.monotonic_now()
            expect(await core.timers.sleep(how_long), None, "nothing comes of it")
            expect(await core.clock.monotonic_now() - before >= how_long, True, f"{how_long} ns have passed")
        when = await core.clock.monotonic_now() + 3_000_000
        await core.timers.sleep_until(when)
        expect(await core.clock.monotonic_now() >= when, True, "the moment has come")
        await core.timers.sleep_until(0)


@SUITE.case("timers", "ticks are a period apart, and those that nobody read are not kept")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        period, before = 2_000_000, await core.clock.monotonic_now()
        ticks = await _first(await core.timers.every(period), 4)
        expect(ticks[0] >= before + period, True, "the first after one period")
        apart = [later - earlier for earlier, later in pairwise(ticks)]
        expect(all(each > 0 and each % period == 0 for each in apart), True, f"whole periods apart: {apart}")
        await fails(core.timers.every(0), _REFUSED, "a period of zero")


@SUITE.case("timers", "the grant bounds how many there are")
async def _(scene: Scene) -> None:
    async with scene.client({"timers": {"max": 1}}) as core:
        held = await core.timers.every(10**9)
        error = await fails(core.timers.sleep(10**6), _REFUSED, "a second timer")
        expect("timers.max" in str(error), True, f"the error names the key of the grant: {error}")
        del held


@SUITE.case("insecure-random", "a seed gives the numbers of xoshiro256++")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        generator = await core.insecure_random.Generator(0)
        expect(
            [await generator.next_u64() for _ in range(4)],
            [0x53175D61490B23DF, 0x61DA6F3DC380D507, 0x5C0FDF91EC9A7BFC, 0x02EEBF8C3BBE5E1A],
            "those of the authors' own program",
        )
        again, bytewise = [await core.insecure_random.Generator(7) for _ in range(2)]
        numbers = [await again.next_u64() for _ in range(2)]
        whole = b"".join(number.to_bytes(8, "little") for number in numbers)
        expect(bytes(await bytewise.next_bytes(11)), whole[:11], "bytes are those of the numbers")
        fraction = await generator.next_fraction()
        expect(0 <= fraction < 1, True, f"a fraction: {fraction}")
        await fails(generator.next_bytes(0xFFFF_FFFF), _REFUSED, "4 GiB")


@SUITE.case("insecure-random", "as many bytes as asked for, never twice the same")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        made = {bytes(await core.insecure_random.insecure_bytes(16)) for _ in range(64)}
        expect((len(made), {len(each) for each in made}), (64, {16}), "different ones of that size")
        expect(len({await core.insecure_random.insecure_u64() for _ in range(64)}), 64, "different numbers")
        await fails(core.insecure_random.insecure_bytes(0xFFFF_FFFF), _REFUSED, "4 GiB")


@SUITE.case("insecure-random", "the grant bounds how many generators there are")
async def _(scene: Scene) -> None:
    async with scene.client({"random": {"max": 1}}) as core:
        held = await core.insecure_random.Generator(1)
        error = await fails(core.insecure_random.Generator(2), _REFUSED, "a second generator")
        expect("random.max" in str(error), True, f"the error names the key of the grant: {error}")
        held.close()


@SUITE.case("cancel", "time runs out for a token and what is below it")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        top = await core.cancel.Token()
        expect(await top.remaining(), None, "a token of its own has no end")
        hour = await top.child_for(3600 * 10**9)
        soon = await hour.child_for(10**6)
        below = await soon.child_for(2**64 - 1)
        await core.timers.sleep(2 * 10**6)
        states = [await token.is_cancelled() for token in (top, hour, soon, below)]
        expect(states, [False, False, True, True], "top, hour, soon, below")
        expect((await soon.remaining(), await below.remaining()), (0, 0), "nothing is left")
        left = await hour.remaining()
        expect(3500 * 10**9 < left < 3600 * 10**9, True, f"most of an hour is left: {left}")


@SUITE.case("cancel", "the grant bounds how many tokens there are")
async def _(scene: Scene) -> None:
    async with scene.client({"cancel": {"max": 2}}) as core:
        top = await core.cancel.Token()
        child = await top.child()
        error = await fails(top.child(), _REFUSED, "a third token")
        expect("cancel.max" in str(error), True, f"the error names the key of the grant: {error}")
        child.close()


@SUITE.case("cancellation", "whoever waits for a token learns of it, however it ends")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        top = await core.cancel.Token()
        timed = await top.child_for(2 * 10**6)
        await core.cancellation.cancelled(timed)
        expect(await timed.is_cancelled(), True, "its time is up")
        below = await (await top.child()).child()
        waiting = asyncio.ensure_future(core.cancellation.cancelled(below))
        await core.timers.sleep(10**6)
        expect(waiting.done(), False, "nobody has cancelled it")
        await top.cancel()
        expect(await waiting, None, "nothing comes of it")


_ABOUT = {"unit": "ms", "description": "how long"}


@SUITE.case("metrics", "every instrument takes values with attributes")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        said = [
            {"key": "text", "value": ("text", "a")},
            {"key": "whole", "value": ("integer", -1)},
            {"key": "part", "value": ("number", 0.5)},
            {"key": "yes", "value": ("boolean", True)},
        ]
        counter = await core.metrics.Counter("requests", _ABOUT)
        gauge = await core.metrics.Gauge("load", _ABOUT)
        histogram = await core.metrics.Histogram("time", _ABOUT)
        for value in (1.0, -1.0, float("nan"), float("inf")):
            expect(await counter.add(value, said), None, f"a counter takes {value}")
            expect(await gauge.set(value, []), None, f"a gauge takes {value}")
            expect(await histogram.record(value, said), None, f"a histogram takes {value}")


@SUITE.case("metrics", "the grant bounds how many instruments there are")
async def _(scene: Scene) -> None:
    async with scene.client({"metrics": {"instruments": 1}}) as core:
        held = await core.metrics.Counter("a", _ABOUT)
        error = await fails(core.metrics.Gauge("b", _ABOUT), _REFUSED, "a second instrument")
        expect("metrics.instruments" in str(error), True, f"the error names the key of the grant: {error}")
        held.close()


@SUITE.case("trace", "a span is known by its context, below one from elsewhere")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        trace, above = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        parent = {"traceparent": f"00-{trace}-{above}-01", "tracestate": "a=1"}
        span = await core.trace.Span.beneath(parent, "work", "client", [])
        context = await span.context()
        version, its, own, flags = context.traceparent.split("-")
        expect((version, its, flags, context.tracestate), ("00", trace, "01", "a=1"), "the same trace")
        expect(own != above and len(own) == 16, True, f"an id of its own: {own}")
        await span.set_attributes([{"key": "k", "value": ("text", "v")}])
        await span.add_event("half way", [])
        for status in ("unset", "ok", ("error", "why")):
            await span.set_status(status)
        await span.end()
        await span.end()
        for none in ("", "00-0-0-00", f"ff-{trace}-{above}-01", f"00-{'0' * 32}-{above}-01"):
            alone = await core.trace.Span.beneath(
                {"traceparent": none, "tracestate": "a=1"}, "w", "server", []
            )
            context = await alone.context()
            expect((trace in context.traceparent, context.tracestate), (False, ""), f"beneath {none!r}")


@SUITE.case("trace", "the call's own span is the current one, and the parent of new ones")
async def _(scene: Scene) -> None:
    async with scene.client() as core:
        trace = "0af7651916cd43dd8448eb211c80319c"
        above = f"00-{trace}-b7ad6b7169203331-01"
        expect(await core.trace.current(), None, "nobody traces")
        with loop.traced(above):
            expect((await core.trace.current()).traceparent, above, "the caller's")
            span = await core.trace.Span("work", "internal", [])
            expect((await span.context()).traceparent.split("-")[1], trace, "the same trace")


@SUITE.case("trace", "the grant bounds how many spans there are")
async def _(scene: Scene) -> None:
    async with scene.client({"trace": {"spans": 1}}) as core:
        held = await core.trace.Span("a", "internal", [])
        error = await fails(core.trace.Span("b", "internal", []), _REFUSED, "a second span")
        expect("trace.spans" in str(error), True, f"the error names the key of the grant: {error}")
        held.close()
