"""Futures between Python and guests, both ways."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError, CallError, DeadlineExceeded, ProviderError
from tests.guests import HOST
from tests.pumps import POINT, later, plain
from tests.stream_guests import settling
from tests.wit_types import F64, STRING, U8, U32, List, Option, Result, Tuple, Type

VALUES: list[tuple[Type | None, Any]] = [
    (U8, 200),
    (U32, 1 << 31),
    (F64, 0.1),
    (STRING, "é"),
    (POINT, SimpleNamespace(name="n", x=5)),
    (Tuple((U8, STRING)), (1, "x")),
    (Option(STRING), None),
    (List(STRING), ["a", "b"]),
    (Result(U32, STRING), loop.Err("no")),
    (None, None),
]
WASM = {item: settling(item).wasm() for item, _ in VALUES}
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


async def take(_: Any) -> int:
    raise AssertionError("not asked for")


async def give() -> Any:
    raise AssertionError("not asked for")


async def load(
    host: loop.Host,
    item: Type | None = U32,
    instances: Any = None,
    take: Any = take,
    give: Any = give,
    **limits: Any,
) -> loop.App:
    made = loop.Limits(instances=instances, **limits)
    return await host.load(WASM[item], {HOST: SimpleNamespace(take=take, give=give)}, limits=made)


async def soon(awaitable: Any) -> Any:
    async with asyncio.timeout(3):
        return await awaitable


@each_instance
@pytest.mark.parametrize(("item", "value"), VALUES)
async def test_values_both_ways(host: loop.Host, instances: Any, item: Type | None, value: Any) -> None:
    settled = asyncio.get_running_loop().create_future()
    settled.set_result(value)
    app = await load(host, item, instances)
    for source in (later(value), settled, asyncio.create_task(later(value))):
        for export in ("relay", "same"):
            if export == "same" and asyncio.iscoroutine(source):
                source = later(value)
            future = await soon(app.call(export, source))
            assert plain(await soon(future)) == plain(value)


async def test_a_future_may_be_awaited_again(host: loop.Host) -> None:
    """As asyncio's own, and by several at once."""
    app = await load(host)
    future = await app.call("relay", later(7))
    assert [await soon(future), await soon(future)] == [7, 7]
    release = asyncio.Event()

    async def wait() -> int:
        await release.wait()
        return 8

    future = await app.call("same", wait())
    both = asyncio.gather(asyncio.ensure_future(future), asyncio.ensure_future(future))
    await asyncio.sleep(0)
    release.set()
    assert await soon(both) == [8, 8]


@each_instance
async def test_a_future_that_settles_later(host: loop.Host, instances: Any) -> None:
    app = await load(host, U32, instances)
    source = asyncio.get_running_loop().create_future()
    call = asyncio.create_task(soon(app.call("relay", source)))
    await asyncio.sleep(0)
    assert not call.done()
    source.set_result(3)
    assert await soon(await call) == 3


@each_instance
async def test_imports_take_and_give_futures(host: loop.Host, instances: Any) -> None:
    async def take(future: Any) -> int:
        return 2 * await future

    async def give() -> Any:
        return later(5)

    app = await load(host, U32, instances, take, give)
    assert await soon(app.call("put", later(4))) == 8
    assert await soon(await soon(app.call("fetch"))) == 5


@each_instance
async def test_a_future_that_never_settles(host: loop.Host, instances: Any) -> None:
    """Waiting for it may be given up; it goes with its instance."""
    app = await load(host, U32, instances)
    future = await app.call("never")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await future
    waiting = asyncio.ensure_future(future)
    await asyncio.sleep(0)
    await host.aclose()
    done, _ = await asyncio.wait([waiting], timeout=3)
    assert done
    assert isinstance(waiting.exception(), loop.LoopError)


@each_instance
async def test_a_python_future_that_never_settles(host: loop.Host, instances: Any) -> None:
    app = await load(host, U32, instances, deadline=0.05, cancel_grace=0.05)
    source = asyncio.get_running_loop().create_future()
    with pytest.raises(DeadlineExceeded):
        await soon(app.call("relay", source))
    assert await soon(await soon(app.call("relay", later(4)))) == 4


@each_instance
async def test_a_trap_reaches_who_waits(host: loop.Host, instances: Any) -> None:
    app = await load(host, U32, instances)
    release = asyncio.get_running_loop().create_future()
    future = await app.call("fail", release)
    release.set_result(1)
    with pytest.raises(CallError, match="unreachable"):
        await soon(future)


@each_instance
async def test_an_awaitable_that_raises(host: loop.Host, instances: Any) -> None:
    error = ZeroDivisionError("in the end")

    async def fail() -> int:
        raise error

    app = await load(host, U32, instances)
    with pytest.raises(ProviderError, match="in the end") as caught:
        await soon(app.call("relay", fail()))
    assert caught.value.__cause__ is error
    assert await soon(await soon(app.call("relay", later(4)))) == 4


@each_instance
async def test_a_future_that_the_guest_drops(host: loop.Host, instances: Any) -> None:
    """What would have settled it is cancelled if it began, and let go."""
    app = await load(host, U32, instances)
    running = 0

    async def wait() -> int:
        nonlocal running
        running += 1
        try:
            return await asyncio.Event().wait()
        finally:
            running -= 1

    def gone() -> bool:
        gc.collect()
        return alive() is None

    for make in (lambda c: c, asyncio.ensure_future):
        source = make(wait())
        alive = weakref.ref(source)
        await asyncio.sleep(0)
        await soon(app.call("drop", source))
        del source
        async with asyncio.timeout(5):
            while running or not gone():
                await asyncio.sleep(0)


@pytest.mark.parametrize("wrong", [5, None, "text", object()])
async def test_what_is_no_future(host: loop.Host, wrong: Any) -> None:
    app = await load(host)
    with pytest.raises(ArgumentError) as caught:
        await app.call("relay", wrong)
    assert (caught.value.parameter, caught.value.expected) == ("p0", "future<u32>")


@each_instance
async def test_a_value_that_does_not_fit(host: loop.Host, instances: Any) -> None:
    app = await load(host, U32, instances)
    with pytest.raises((ArgumentError, ProviderError)) as caught:
        await soon(app.call("relay", later("text")))
    assert "u32" in str(caught.value)
    assert "str 'text'" in str(caught.value)


@each_instance
async def test_a_future_goes_on_to_another_component(host: loop.Host, instances: Any) -> None:
    one, two = await load(host, U32, instances), await load(host, U32, instances)
    future = await soon(one.call("relay", later(6)))
    future = await soon(two.call("relay", future))
    assert await soon(await soon(one.call("relay", future))) == 6
