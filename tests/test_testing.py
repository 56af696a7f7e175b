"""`loop_kit.testing`, as users' tests use it."""

import asyncio
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import LinkError, LoadError, ProviderError, ProviderTypeError
from loop_kit.placements.python import python
from loop_kit.testing import Called, MockProvider
from tests.async_guests import asking, keeping, plain
from tests.guests import HOST

FUNC = {"func": plain().wasm(), "async func": asking().wasm()}
each_kind = pytest.mark.parametrize("kind", FUNC)


@each_kind
async def test_calls_are_recorded_in_order(kind: str) -> None:
    mock = MockProvider(get=7, now=8)
    async with loop.Host(cache=None) as host:
        app = await host.load(FUNC[kind], {HOST: mock})
        assert [await app.call("ask", 1), await app.call("ask-now", 2), await app.call("ask", 3)] == [7, 8, 7]
    assert mock.calls == [Called("get", (1,)), Called("now", (2,)), Called("get", (3,))]
    assert mock.called("get") == [(1,), (3,)]
    assert mock.called("check") == []


@each_kind
async def test_answers_one_after_the_other(kind: str) -> None:
    error = OSError("no")
    mock = MockProvider(get=[1, 2, error], now=0, check=[5, loop.Err(6), loop.Ok(7)])
    async with loop.Host(cache=None) as host:
        app = await host.load(FUNC[kind], {HOST: mock})
        assert [await app.call("ask", 0) for _ in range(2)] == [1, 2]
        with pytest.raises(ProviderError) as caught:
            await app.call("ask", 0)
        assert caught.value.__cause__ is error
        with pytest.raises(ProviderError, match="get was called more often than it has answers"):
            await app.call("ask", 0)
        assert await app.call("check", 0) == 5
        with pytest.raises(loop.Err) as err:
            await app.call("check", 0)
        assert err.value == loop.Err(6)
        assert await app.call("check", 0) == 7
    assert len(mock.called("get")) == 4


@each_kind
async def test_callables_and_their_kinds(kind: str) -> None:
    free = asyncio.Event()

    async def get(n: int) -> int:
        await free.wait()
        return 2 * n

    mock = MockProvider(get=get, now=lambda n: n + 1)
    async with loop.Host(cache=None) as host:
        app = await host.load(FUNC[kind], {HOST: mock})
        assert await app.call("ask-now", 1) == 2
        calls = asyncio.gather(*(app.call("ask", n) for n in range(3)))
        while len(mock.called("get")) < 3:
            await asyncio.sleep(0)
        free.set()
        assert await calls == [0, 2, 4]


def test_the_blocking_host_takes_it_too() -> None:
    mock = MockProvider(get=[1, 2])
    with loop.blocking.Host(cache=None) as host:
        app = host.load(FUNC["func"], {HOST: mock})
        assert (app.call("ask", 3), app.call("ask", 4)) == (1, 2)
        # without a script a function returns None, which is no u32
        with pytest.raises(ProviderTypeError, match="None"):
            app.call("ask-now", 5)
    assert mock.calls == [Called("get", (3,)), Called("get", (4,)), Called("now", (5,))]


@each_kind
async def test_an_error_every_time(kind: str) -> None:
    mock = MockProvider(check=loop.Err(3))
    async with loop.Host(cache=None) as host:
        app = await host.load(FUNC[kind], {HOST: mock})
        for _ in range(3):
            with pytest.raises(loop.Err) as caught:
                await app.call("check", 1)
            assert caught.value.value == 3


async def test_a_class_for_a_resource() -> None:
    class Thing:
        pass

    mock = MockProvider(Thing=Thing, get=1)
    async with loop.Host(cache=None) as host:
        app = await host.load(keeping(True), {HOST: mock})
        with pytest.raises(loop.errors.GuestTrap):
            await app.call("keep", Thing())
        with pytest.raises(loop.errors.ArgumentError):
            await app.call("keep", object())
    assert mock.calls == [Called("get", (1,))]


def test_it_answers_by_hand_as_well() -> None:
    mock = MockProvider(get=[1], put=lambda *args: args)
    assert mock.put(1, 2) == (1, 2)
    assert mock.get("x") == 1
    assert mock.other() is None
    assert mock.get is mock.get
    with pytest.raises(AssertionError, match="get was called more often"):
        mock.get()
    with pytest.raises(AttributeError):
        _ = mock._private
    assert [c.function for c in mock.calls] == ["put", "get", "other", "get"]
    assert repr(Called("get", (1,))) == "Called(function='get', args=(1,))"


def test_other_hosts_errors_stay_as_they_are() -> None:
    """A mock offers every member, so only what is no function is refused."""
    mock: Any = MockProvider(get=5)
    with loop.blocking.Host(cache=None) as host:
        with pytest.raises(LinkError, match="the component does not import it"):
            host.load(FUNC["func"], {HOST: mock, "acme:else/where": mock})
        assert host.load(FUNC["func"], {HOST: mock}).call("ask", 1) == 5


class Outer:
    """Has a provider within."""

    class Inner:
        """Is that provider."""


def test_a_provider_may_be_a_class_within_another() -> None:
    made = python(f"{__name__}:Outer.Inner", config={}, grant={}, folder=None)
    assert type(made) is Outer.Inner
    with pytest.raises(LoadError, match=r"no 'Outer\.Other' in"):
        python(f"{__name__}:Outer.Other", config={}, grant={}, folder=None)
