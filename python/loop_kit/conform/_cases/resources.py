"""Resources: made, lent, given away, dropped."""

from __future__ import annotations

import gc

from loop_kit import wire
from loop_kit.conform._raw import DROP, FAIL, RESULT, Raw, failure
from loop_kit.conform._scene import Scene, Unmet, case, expect

__all__: list[str] = []

_COUNTER = "resources#[method]counter"


@case("resources", "constructor and methods")
async def _(scene: Scene) -> None:
    counter = await scene.call("resources#[constructor]counter", 40)
    expect(await scene.call(f"{_COUNTER}.add", counter, 2), 42, "add")
    expect(await scene.call(f"{_COUNTER}.value", counter), 42, "value")
    counter.drop()


@case("resources", "a static function, and many at once")
async def _(scene: Scene) -> None:
    counters = await scene.call("resources#[static]counter.make", 1000)
    expect(len(counters), 1000, "counters")
    expect(
        await scene.call("resources#[static]counter.total", counters), sum(range(1000)), "total of those lent"
    )
    expect(await scene.call(f"{_COUNTER}.value", counters[999]), 999, "one of them afterwards")
    for counter in counters:
        counter.drop()


@case("resources", "one that is given back is the provider's again")
async def _(scene: Scene) -> None:
    one = await scene.call("resources#[constructor]counter", 1)
    two = await scene.call("resources#[constructor]counter", 2)
    expect(await scene.call(f"{_COUNTER}.merge", one, two), 3, "merge")
    expect(await scene.call(f"{_COUNTER}.value", one), 3, "value afterwards")
    one.drop()
    await scene.until("resources#live", 0)


@case("resources", "what is dropped is dropped at the provider")
async def _(scene: Scene) -> None:
    gc.collect()
    await scene.until("resources#live", 0)
    counters = await scene.call("resources#[static]counter.make", 10)
    expect(await scene.call("resources#live"), 10, "live counters")
    for counter in counters[:4]:
        counter.drop()
    await scene.until("resources#live", 6)
    del counter, counters
    gc.collect()
    await scene.until("resources#live", 0)


@case("resources", "a handle is good for its own link alone, and only until it is dropped")
async def _(scene: Scene) -> None:
    async with scene.target.connection() as where:
        raw = await Raw.open(where)
        try:
            await raw.greet(scene.target.token)
            await raw.link(1)
            await raw.link(2)
            make = raw.functions["loop:conform/resources#[constructor]counter"]
            value = raw.functions["loop:conform/resources#[method]counter.value"]
            raw.call(1, make, 1, wire.encode("u32", 7))
            kind, payload = await raw.answer()
            expect(kind, RESULT, "the answer to the constructor, as a kind of frame")
            handle = payload[1:]
            raw.call(3, value, 1, handle)
            expect(await raw.answer(), (RESULT, b"\x00\x07"), "the value")
            unknown = wire.encode("list<u8>", b"no handle of anybody")
            for stream, link, bytes_, what in (
                (5, 2, handle, "a handle in another link"),
                (7, 1, unknown, "a handle that nobody made"),
            ):
                raw.call(stream, value, link, bytes_)
                await _is_refused(raw, what)
            number = raw.resources["loop:conform/resources#counter"]
            raw.send(DROP, 0, wire.encode("tuple<u32, u32>", (1, number)) + handle)
            raw.call(9, value, 1, handle)
            await _is_refused(raw, "a handle that was dropped")
        finally:
            await raw.close()


async def _is_refused(raw: Raw, what: str) -> None:
    kind, payload = await raw.answer()
    if kind != FAIL:
        raise Unmet(f"{what} was taken")
    expect(failure(payload)[0], "bad-handle", f"the code for {what}")
