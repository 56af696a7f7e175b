"""Streams through a guest, for tests of streams."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import loop_kit as loop
from tests.guests import HOST
from tests.stream_guests import pumping
from tests.wit_types import STRING, U8, U32, Record, Type

COMPLETED, DROPPED = 0, 1
POINT = Record((("name", STRING), ("x", U32)), "point")
PUMPS: dict[Type | None, bytes] = {}


def pump_wasm(item: Type | None) -> bytes:
    if item not in PUMPS:
        PUMPS[item] = pumping(item).wasm()
    return PUMPS[item]


async def load(
    host: loop.Host,
    item: Type | None = U8,
    instances: Any = None,
    wrote: Any = lambda *_: None,
    **limits: Any,
) -> loop.App:
    made = loop.Limits(instances=instances, **limits)
    return await host.load(pump_wasm(item), {HOST: SimpleNamespace(wrote=wrote)}, limits=made)


async def collect(stream: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return [chunk async for chunk in stream]


async def each(items: Any) -> AsyncIterator[Any]:
    for n, item in enumerate(items):
        if n % 3 == 2:
            await asyncio.sleep(0)
        yield item


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def plain(value: Any) -> Any:
    """A record's fields, whatever its class."""
    return (value.name, value.x) if hasattr(value, "x") else value
