"""Streams and futures, and how they hold each other back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from loop_kit.cli.call import plain
from loop_kit.conform._scene import Scene, Unmet, case, expect, fails
from loop_kit.errors import ProviderError

__all__: list[str] = []

_MIB = 1 << 20
# The window of a channel (1 MiB) and what either side may hold besides: a chunk that is made but not sent, one that
# is being taken apart, what waits to be written.
_AHEAD = 4 * _MIB


async def _all(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


async def _text(text: str) -> str:
    return text


@case("streams", "a stream of numbers comes whole")
async def _(scene: Scene) -> None:
    for upto in (0, 1, 100_000):
        expect(await _all(await scene.call("channels#count", upto)), list(range(upto)), f"count({upto})")


@case("streams", "a stream of strings comes whole")
async def _(scene: Scene) -> None:
    words = [f"wort-{i}-ü" for i in range(5000)]
    expect(await _all(await scene.call("channels#words", " ".join(words))), words, "words")


@case("streams", "a stream of numbers is taken whole")
async def _(scene: Scene) -> None:
    expect(await scene.call("channels#sum", []), 0, "the sum of nothing")
    expect(await scene.call("channels#sum", range(100_000)), sum(range(100_000)), "sum")


@case("streams", "bytes go there and back, 64 MiB of them")
async def _(scene: Scene) -> None:
    chunk = bytes(range(256)) * 256

    def source() -> Iterator[bytes]:
        for _ in range(64 * _MIB // len(chunk)):
            yield chunk

    length = 0
    async for part in await scene.call("channels#pipe", source()):
        at = length % 256
        if bytes(part[:256]) != (chunk + chunk)[at : at + len(part[:256])]:
            raise Unmet(f"other bytes than were sent after {length} of them")
        length += len(part)
    expect(length, 64 * _MIB, "bytes that came back")


@case("streams", "records go there and back")
async def _(scene: Scene) -> None:
    points = [{"x": i, "y_axis": None if i % 2 else i / 4} for i in range(-500, 500)]
    back = await _all(await scene.call("channels#points", points))
    expect([plain(point) for point in back], points, "points")


@case("futures", "a future goes there and back")
async def _(scene: Scene) -> None:
    expect(await (await scene.call("channels#later", _text("now"))), "now!", "later")
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    answer = await scene.call("channels#later", late)
    expect(await scene.call("calls#add", 1, 2), 3, "a call while a future waits")
    late.set_result("then")
    expect(await answer, "then!", "later, once it was settled")


@case("futures", "futures within a stream")
async def _(scene: Scene) -> None:
    texts = [_text(str(i)) for i in range(100)]
    each = await scene.call("channels#each", texts)
    expect(await _all(each), [f"{i}!" for i in range(100)], "each")


@case("futures", "more futures within a stream than there may be at once")
async def _(scene: Scene) -> None:
    async def texts() -> AsyncIterator[Awaitable[str]]:
        for i in range(1000):
            yield _text(str(i))

    each = await scene.call("channels#each", texts())
    expect(await _all(each), [f"{i}!" for i in range(1000)], "each")


@case("futures", "a stream within a future")
async def _(scene: Scene) -> None:
    async def numbers() -> range:
        return range(5_000)

    inner = await scene.call("channels#inner", numbers())
    expect(await _all(await inner), list(range(5_000)), "the items")


@case("futures", "streams and futures within records and tuples")
async def _(scene: Scene) -> None:
    async def ten() -> int:
        return 10

    tally = await scene.call("channels#both", (range(1000), ten()))
    expect(await _all(tally.items), [i + 10 for i in range(1000)], "items")
    expect(await tally.total, sum(range(1000)) + 10_000, "total")


@case("streams", "one that breaks tells its reader why")
async def _(scene: Scene) -> None:
    got = []

    async def read() -> None:
        async for item in await scene.call("channels#broken"):
            got.append(item)

    error = await fails(read(), ProviderError, "reading a stream that breaks")
    expect(got, [1], "what came before it broke")
    if "broken on purpose" not in str(error):
        raise Unmet(f"the reader should be told `broken on purpose`, and is told `{error}`")


@case("futures", "one that fails tells whoever awaits it why")
async def _(scene: Scene) -> None:
    lost = await scene.call("channels#lost")
    error = await fails(lost, ProviderError, "awaiting a future that fails")
    if "lost on purpose" not in str(error):
        raise Unmet(f"whoever awaits it should be told `lost on purpose`, and is told `{error}`")


@case("back-pressure", "a slow reader holds the provider")
async def _(scene: Scene) -> None:
    before = await scene.call("channels#drawn")
    stream = await scene.call("channels#endless", 64 << 10)
    read = 0
    async for part in stream:
        read += len(part)
        # as many round trips give it the time to run ahead as far as it ever would
        for _ in range(4):
            drawn = await scene.call("channels#drawn") - before
            if drawn > read + _AHEAD:
                raise Unmet(
                    f"{drawn} bytes were made while {read} were read; at most {_AHEAD} may be on their way"
                )
        if read > 16 * _MIB:
            break
    await stream.aclose()


@case("back-pressure", "a reader that leaves stops the provider")
async def _(scene: Scene) -> None:
    stream = await scene.call("channels#endless", 64 << 10)
    async for _ in stream:
        break
    await stream.aclose()
    last = -1
    while (drawn := await scene.call("channels#drawn")) != last:
        last = drawn


@case("back-pressure", "a provider that reads slowly holds its caller")
async def _(scene: Scene) -> None:
    given = 0

    def source() -> Iterator[bytes]:
        nonlocal given
        for _ in range(16 * 16):
            given += 64 << 10
            yield bytes(64 << 10)

    held = asyncio.ensure_future(scene.call("channels#hold", source(), "slow"))
    last = -1
    while given != last or not given:
        last = given
        for _ in range(20):
            await scene.call("calls#add", 1, 2)
        if given > _AHEAD:
            raise Unmet(
                f"{given} bytes were taken of a caller whose stream nobody reads; at most {_AHEAD} may be"
            )
    # it waits for the key only once it has the first chunk, and that takes its time
    while not held.done():
        await scene.call("channels#let-go", "slow")
        await asyncio.sleep(0)
    expect(await held, 16 * _MIB, "bytes that were read in the end")
