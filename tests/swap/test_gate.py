"""Providers that are exchanged while calls run, at the gate that components are linked to."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit._gate import Gate
from loop_kit.errors import LinkError, ProviderGone
from tests.guests import API, HOST
from tests.linked_guests import DEEP, outer, passing, relaying, things, using_things
from tests.pumps import collect, each
from tests.stream_guests import pumping
from tests.swap.ways import WAYS, Reaching, reaching
from tests.test_compose import KINDS, comparable
from tests.wit_types import STRING, U8, Type

TURNS = list(itertools.product(WAYS, WAYS))
each_turn = pytest.mark.parametrize(("before", "after"), TURNS)
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])


@pytest.fixture
async def reach(tmp_path: Path) -> AsyncIterator[Reaching]:
    async with reaching(tmp_path) as reach:
        yield reach


def gate(reach: Reaching, provider: Any) -> Gate:
    return Gate(reach.host._attach(), provider)


async def exchange(gate: Gate, provider: Any, seconds: float = 5) -> bool:
    """Whether the one before ended by itself."""
    return await gate.prepare(provider)().drained(seconds)


async def echoing(reach: Reaching, way: str, t: Type, seen: list[str]) -> Any:
    """A provider of `echo`, which says in `seen` that it was asked."""

    def echo(v: Any) -> Any:
        seen.append(way)
        return v

    if way == "python":
        return SimpleNamespace(echo=echo)
    app = await reach.host.load(passing(t, DEEP, HOST).wasm(), {DEEP: SimpleNamespace(echo=echo)})
    return app if way == "component" else await reach.remote(app)


@each_turn
@pytest.mark.parametrize(("t", "value"), KINDS, ids=lambda v: type(v).__name__)
async def test_values_of_all_kinds(reach: Reaching, before: str, after: str, t: Type, value: Any) -> None:
    seen: list[str] = []
    through = gate(reach, await echoing(reach, before, t, seen))
    app = await reach.host.load(
        passing(t, HOST, API).wasm(), {HOST: through}, limits=loop.Limits(instances="shared")
    )

    async def echo() -> Any:
        try:
            got = await app.call("echo", value)
        except loop.Err as e:
            got = e
        return loop.Ok(got) if isinstance(value, loop.Ok) else got

    first = await echo()
    assert await exchange(through, await echoing(reach, after, t, seen))
    second = await echo()
    assert seen == [before, after]
    assert comparable(first) == comparable(second) == comparable(value)


async def pumps(reach: Reaching, way: str, t: Type) -> Any:
    if way == "python":

        async def pump(items: Any, _cap: int) -> Any:
            async def moved() -> AsyncIterator[Any]:
                async for chunk in items:
                    yield chunk

            return moved()

        return SimpleNamespace(pump=pump)
    app = await reach.host.load(pumping(t).wasm(), {HOST: SimpleNamespace(wrote=lambda *_: None)})
    return app if way == "component" else await reach.remote(app)


@each_turn
@pytest.mark.parametrize(
    ("t", "values"), [(U8, [b"abc", b"defg"] * 50), (STRING, ["a", "é"] * 50)], ids=["u8", "string"]
)
async def test_streams(reach: Reaching, before: str, after: str, t: Type, values: list[Any]) -> None:
    """One that was begun goes on in the provider that it was begun in."""
    whole = b"".join(values) if t is U8 else values
    through = gate(reach, await pumps(reach, before, t))
    app = await reach.host.load(relaying(t).wasm(), {API: through}, limits=loop.Limits(instances="shared"))
    go_on = asyncio.Event()

    async def halting() -> AsyncIterator[Any]:
        for i, value in enumerate(values):
            if i == len(values) // 2:
                await go_on.wait()
            yield value

    begun = asyncio.ensure_future(collect(await app.call("relay", halting(), 3)))
    retired = through.prepare(await pumps(reach, after, t))()
    for _ in range(2):
        got = await collect(await app.call("relay", each(values), 3))
        assert (b"".join(got) if t is U8 else got) == whole
    drained = asyncio.ensure_future(retired.drained(20))
    await asyncio.sleep(0)
    assert not drained.done()
    go_on.set()
    got = await begun
    assert (b"".join(got) if t is U8 else got) == whole
    assert await drained


class Thing:
    alive = 0

    def __init__(self, v: int) -> None:
        self.v = v
        Thing.alive += 1

    def get(self) -> int:
        return self.v

    def __exit__(self, *_: object) -> None:
        Thing.alive -= 1


class Things:
    """`test:guest/host` of `things`, in Python."""

    def __init__(self) -> None:
        class Own(Thing):
            pass

        self.Thing = Own  # a class of its own, as code that was read anew has

    def join(self, a: Thing, b: Thing) -> Thing:
        assert isinstance(a, self.Thing)
        assert isinstance(b, self.Thing)
        a.__exit__()
        return self.Thing(a.v + b.v)

    def drops(self) -> int:
        return 0


async def holding(reach: Reaching, way: str) -> Any:
    if way == "python":
        return Things()
    app = await reach.host.load(things())
    return app if way == "component" else await reach.remote(app)


@each_turn
async def test_a_resource_goes_to_the_provider_that_made_it(reach: Reaching, before: str, after: str) -> None:
    Thing.alive = 0
    through = gate(reach, await holding(reach, before))
    app = await reach.host.load(using_things(), {HOST: through}, limits=loop.Limits(instances="shared"))
    await app.call("hold", 7)
    retired = through.prepare(await holding(reach, after))()
    drained = asyncio.ensure_future(retired.drained(20))
    assert await app.call("use", 1, 2) == 3
    assert await app.call("held") == 7
    assert not drained.done()
    await app.call("let-go")
    assert await drained
    await app.call("hold", 8)
    assert await app.call("held") == 8
    await app.call("let-go")
    assert await app.call("use", 3, 4) == 7
    assert Thing.alive == 0


@each_turn
async def test_a_resource_past_the_deadline_is_gone(reach: Reaching, before: str, after: str) -> None:
    through = gate(reach, await holding(reach, before))
    app = await reach.host.load(using_things(), {HOST: through}, limits=loop.Limits(instances="shared"))
    await app.call("hold", 7)
    assert not await exchange(through, await holding(reach, after), seconds=0.01)
    with pytest.raises(ProviderGone, match="exchanged"):
        await app.call("held")
    assert await app.call("use", 1, 2) == 3


def waiting(number: int, go_on: asyncio.Event) -> Any:
    async def get(n: int) -> int:
        if n:
            await go_on.wait()
        return number

    nothing = SimpleNamespace(next=lambda: number, boom=lambda: None, spin=lambda: None, grow=lambda: None)
    nothing.get = get
    return nothing


@each_instance
@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_ends_where_it_began(reach: Reaching, waits: bool, instances: Any) -> None:
    go_on = asyncio.Event()
    through = gate(reach, waiting(1, go_on))
    app = await reach.host.load(outer(waits), {HOST: through}, limits=loop.Limits(instances=instances))
    begun = asyncio.ensure_future(app.call("get", 1))
    while not any(slot.tally == (0, 0, 0) for slot in through.slots()):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    retired = through.prepare(waiting(2, go_on))()
    if instances != "shared" or waits:
        assert await app.call("get", 0) == 2
    go_on.set()
    assert await begun == 1
    assert await retired.drained(5)
    assert await app.call("get", 0) == 2


async def test_a_call_past_the_deadline_fails(reach: Reaching) -> None:
    never = asyncio.Event()
    through = gate(reach, waiting(1, never))
    app = await reach.host.load(outer(True), {HOST: through})
    begun = asyncio.ensure_future(app.call("get", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not await exchange(through, waiting(2, never), seconds=0.01)
    with pytest.raises(ProviderGone, match="exchanged"):
        await begun
    assert await app.call("get", 0) == 2


async def test_one_that_does_not_fit_changes_nothing(reach: Reaching) -> None:
    through = gate(reach, waiting(1, asyncio.Event()))
    app = await reach.host.load(outer(True), {HOST: through})
    with pytest.raises(LinkError, match="next"):
        through.prepare(SimpleNamespace(get=lambda n: n))
    app2 = await reach.host.load(passing(STRING, DEEP, HOST).wasm(), {DEEP: SimpleNamespace(echo=str)})
    with pytest.raises(LinkError, match="is not exported"):
        through.prepare(app2)
    assert await app.call("get", 0) == 1


async def test_nothing_is_left_of_providers_that_were_exchanged(reach: Reaching) -> None:
    through = gate(reach, waiting(0, asyncio.Event()))
    app = await reach.host.load(outer(True), {HOST: through})
    gone = []
    for number in range(1, 50):
        made = waiting(number, asyncio.Event())
        gone.append(weakref.ref(made.get))
        assert await exchange(through, made)
        assert await app.call("get", 0) == number
    del made
    gc.collect()
    assert [ref() is None for ref in gone[:-1]] == [True] * (len(gone) - 1)


async def test_what_links_come_to_is_counted(reach: Reaching) -> None:
    through = gate(reach, SimpleNamespace(echo=lambda v: v))
    app = await reach.host.load(passing(STRING, HOST, API).wasm(), {HOST: through})
    for _ in range(3):
        await app.call("echo", "a")
    [slot] = through.slots()
    calls, errors, busy = slot.tally
    assert (calls, errors) == (3, 0)
    assert busy > 0


async def test_a_component_that_went_is_not_linked_any_more(reach: Reaching) -> None:
    through = gate(reach, SimpleNamespace(echo=lambda v: v))
    app = await reach.host.load(passing(STRING, HOST, API).wasm(), {HOST: through})
    assert len(through.slots()) == 1
    del app
    await asyncio.sleep(0)  # the loop lets go of the thread's answer
    gc.collect()
    assert through.slots() == []
    assert await exchange(through, SimpleNamespace())
