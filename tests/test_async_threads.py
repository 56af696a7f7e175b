"""Concurrent instances without Python on any import, which the engine's threads poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import GuestTrap, ProviderGone
from tests.async_guests import AsyncGuest
from tests.wit_types import U32, U64

PATIENCE = 30
HOUR = 3600 * 10**9
GUEST = AsyncGuest(code="(global $n (mut i32) (i32.const 0))")
GUEST.imports("sleep", [U64], None, of="loop:core/timers@0.1.0")
GUEST.exports("wait", [U64], U64, "(call $sleep (local.get 0)) (call $done-wait (local.get 0))")
GUEST.exports("boom", [U64], None, "(call $sleep (local.get 0)) unreachable")
GUEST.exports(
    "next",
    [],
    U32,
    "(global.set $n (i32.add (global.get $n) (i32.const 1))) (call $done-next (global.get $n))",
)


@pytest.fixture
async def app() -> AsyncIterator[Any]:
    async with loop.Host(cache=None) as host:
        limits = loop.Limits(instances="shared")
        yield await host.load(GUEST.wasm(), {"loop:core": loop.builtin("core")}, limits=limits)


async def test_no_wake_is_lost(app: Any) -> None:
    """Calls of one instance are begun on the loop's thread while others are polled by the engine's."""

    async def caller(number: int) -> None:
        for turn in range(100):
            nanoseconds = (number * 7919 + turn * 104_729) % 200_000
            assert await app.call("wait", nanoseconds) == nanoseconds

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(caller, range(64)))


async def test_a_call_that_is_cancelled_leaves_the_others_alone(app: Any) -> None:
    assert await app.call("next") == 1
    given_up = asyncio.ensure_future(app.call("wait", HOUR))
    others = [asyncio.ensure_future(app.call("wait", 1_000_000)) for _ in range(8)]
    await asyncio.sleep(0)
    given_up.cancel()
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*others) == [1_000_000] * 8
        assert await app.call("next") == 2
    assert given_up.cancelled()


async def test_a_trap_is_its_calls_and_ends_the_instance_for_the_others(app: Any) -> None:
    assert await app.call("next") == 1
    waiting = [asyncio.ensure_future(app.call("wait", HOUR)) for _ in range(4)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((GuestTrap, ProviderGone)):
            await app.call("boom", 1_000_000)
        for one in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(one, ProviderGone)
        assert await app.call("next") == 1  # another instance
