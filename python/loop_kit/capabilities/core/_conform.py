"""What every provider of `loop:core` must do."""

from __future__ import annotations

from loop_kit.conform import Provided, Scene, Suite, Unmet, expect, fails
from loop_kit.errors import ProviderError

__all__ = ["SUITE"]

SUITE = Suite("loop:core", (Provided("builtin:core"), Provided("python:loop_kit.capabilities.core:Core")))


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
