"""Calls all kinds through what `loop bind` says of them: of a component, and of providers elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import cast

import bindings as b

import loop_kit as loop
from loop_kit import blocking, peer

POINT = b.Point(-1, class_="a", import_=1 << 40, ids=[1, 2], bytes=b"xy")
SHAPES: list[b.AnyShape] = [
    b.Shape.None_(),
    b.Shape.Circle(1.5),
    b.Shape.Many([POINT, POINT]),
    b.Shape.Nested(None),
    b.Shape.Nested(loop.Some(None)),
    b.Shape.Nested(loop.Some(7)),
    b.Shape.Outcome(loop.Ok()),
    b.Shape.Outcome(loop.Err(b.Color.RED)),
]


async def raised(call: Awaitable[object]) -> object:
    """The error of a call's result."""
    try:
        await call
    except loop.Err as error:
        return error.value
    raise AssertionError("it was to fail")


async def kinds(k: b.KindsClient) -> None:
    """Everything that takes no time."""
    point = await k.echo_point(POINT)
    assert isinstance(point, b.Point)
    assert point == POINT
    assert (point.class_, point.import_, bytes(point.bytes)) == ("a", 1 << 40, b"xy")
    assert (await k.echo_point(b.Point(0, None, 0, [], b""))).class_ is None
    for shape in SHAPES:
        back = await k.echo_shape(shape)
        assert isinstance(back, type(shape))
        assert (back, back.case) == (shape, shape.case)
    for color in b.Color:
        assert await k.echo_color(color) is color
    rights = await k.echo_rights(b.Rights.WRITE | b.Rights.LAMBDA)
    assert b.Rights.WRITE in rights
    assert not rights & b.Rights.READ
    assert rights == b.Rights.WRITE | b.Rights.LAMBDA
    assert await k.echo_char("\N{SNOWMAN}") == "\N{SNOWMAN}"
    nested: list[loop.Some[str | None] | None] = [None, loop.Some(None), loop.Some("x")]
    assert [await k.echo_nested(each) for each in nested] == nested
    results: list[loop.Ok[int] | loop.Err[str]] = [loop.Ok(1), loop.Err("no")]
    got = await k.echo_results(results)
    assert [type(each) for each in got] == [loop.Ok, loop.Err]
    assert got[1].value == "no"
    assert await k.echo_units((loop.Ok(), loop.Err(), True)) == (loop.Ok(), loop.Err(), True)
    ids: loop.Numbers[int] = await k.echo_ids(range(3))
    assert memoryview(ids).tolist() == [0, 1, 2]
    assert sum(await k.echo_floats([0.5, 0.25])) == 0.75
    assert (await k.echo_wide([-1, 1 << 40]))[1] == 1 << 40
    assert await k.echo_many([[POINT], []]) == [[POINT], []]
    assert await k.bytes(bytearray(b"a"), "b") == b"ab"
    assert (await k.list())[0] == ("a", 0.5)
    assert await k.type("t", False) == "t"
    circle = await raised(k.type("t", True))
    assert circle == b.Shape.Circle(2.0)
    assert isinstance(circle, b.Shape.Circle)
    await k.none()
    await resources(k)


async def resources(k: b.KindsClient) -> None:
    """A counter's life."""
    async with await k.Counter(1) as counter:
        assert await counter.add(2) == 3
        assert await counter.list() == ["3"]
        assert await counter.await_("n") == "n3"
        assert await raised(counter.await_("")) is b.Color.DARK_GREEN
        assert await k.look(counter) == 3
        merged = await k.Counter.merge(await k.Counter(0), counter)
        assert await merged.add(0) == 3
        merged.close()


async def holding(k: b.KindsClient, f: b.FlowClient) -> None:
    """A resource within a record."""
    held = await f.hold(b.Held("held", await k.Counter(3)))
    assert held.name == "HELD"
    mine: b.CounterClient = held.counter
    assert await mine.add(0) == 4
    mine.close()


async def flow(f: b.FlowClient) -> None:
    """What takes its time."""
    assert list(await f.echo_fixed([1, 2, 3])) == [1, 2, 3]
    assert b"".join([part async for part in await f.pump([b"ab", b"c"])]) == b"abc"
    assert [each async for each in await f.count(3)] == [0, 1, 2]

    async def places() -> AsyncIterator[b.Point]:
        yield POINT

    moved = [place async for place in await f.places(places())]
    assert isinstance(moved[0], b.Point)
    assert [place.x for place in moved] == [0]

    async def soon(text: str) -> str:
        return text

    async def number(n: int | None) -> int | None:
        return n

    assert await (await f.later(soon("now"))) == "now!"
    assert await f.both(([1, 2], number(4))) == 7
    assert await raised(f.both(([], number(None)))) == "nothing to add"
    assert len([each async for each in await f.ticks(3)]) == 3
    assert await f.why("because") == "because"


def blockingly(k: b.KindsBlocking) -> None:
    """A little without an event loop."""
    assert k.echo_point(POINT) == POINT
    with k.Counter(1) as counter:
        assert counter.add(1) == 2
    ids: loop.Numbers[int] = k.echo_ids([1])
    assert ids == [1]


async def main(mode: str, where: str) -> None:
    if mode == "session":
        interfaces = ["acme:all/kinds@0.1.0", "acme:all/flow@0.1.0"]
        async with await peer.connect(where, interfaces, wit=Path(__file__).with_name("all.wit")) as session:
            exports = session.exports()
            k = cast(b.KindsClient, exports["acme:all/kinds@0.1.0"])
            f = cast(b.FlowClient, exports["acme:all/flow@0.1.0"])
            await kinds(k)
            await flow(f)
            await holding(k, f)
        return
    async with loop.Host() as host:
        if mode == "serving":
            app = await host.load(where)
            await kinds(cast(b.KindsClient, app.exports["acme:all/kinds"]))
        else:
            import calling
            import provider

            # the component's own world, whose types are those of the package by another name
            imports: calling.Imports = {"acme:all/kinds@0.1.0": provider.Kinds()}  # type: ignore[typeddict-item]
            app = await host.load(where, imports)
            wrong = await cast(calling.RootClient, app.exports[""]).try_all(True)
            assert wrong == "", wrong


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
    if sys.argv[1] == "serving":
        with blocking.Host() as host:
            blockingly(cast(b.KindsBlocking, host.load(sys.argv[2]).exports["acme:all/kinds"]))
    print("all kinds agree")
