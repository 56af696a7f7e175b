"""Calls that are cancelled or run out of time, and what becomes of their instances."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import _loop
from loop_kit.errors import CallError, DeadlineExceeded, LimitExceeded, ProviderGone
from tests.async_guests import AsyncGuest, asking, keeping, plain
from tests.guests import HOST

FUNC = {"func": plain().wasm(), "async func": asking().wasm()}
KEEP = {"func": keeping(False), "async func": keeping(True)}
each_kind = pytest.mark.parametrize("kind", FUNC)
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])
alone = pytest.mark.parametrize("instances", ["per-call", 2])


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


class Provider:
    """`get` waits until it is freed; `now` tells that the guest has begun to compute."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[tuple[int, str]] = []
        self.free = asyncio.Event()
        self.inside = asyncio.Event()

    async def get(self, n: int) -> int:
        self.began.append(n)
        self.inside.set()
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.ended.append((n, "cancelled"))
            raise
        finally:
            self.ended.append((n, "finally"))
        return n

    def now(self, n: int) -> int:
        self.inside.set()
        return n

    def check(self, n: int) -> int:
        return n


async def load(host: loop.Host, kind: str, instances: Any, **limits: Any) -> tuple[loop.App, Provider]:
    provider = Provider()
    made = loop.Limits(instances=instances, **limits)
    return await host.load(FUNC[kind], {HOST: provider}, limits=made), provider


def start(app: loop.App, export: str, *args: Any) -> asyncio.Task[Any]:
    async def call() -> Any:
        return await app.call(export, *args)

    return asyncio.create_task(call())


async def reached(provider: Provider) -> None:
    async with asyncio.timeout(5):
        await provider.inside.wait()
    provider.inside.clear()


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancels, and asserts that the task ends by that."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


# ---- while an import waits


@each_kind
@each_instance
async def test_the_provider_is_cancelled(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances)
    task = start(app, "ask", 1)
    await reached(provider)
    await cancelled(task)
    await until(lambda: provider.ended == [(1, "cancelled"), (1, "finally")])
    provider.free.set()
    assert await app.call("ask", 2) == 2


@each_kind
@each_instance
async def test_a_timeout_around_a_call(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await app.call("ask", 1)
    assert not isinstance(caught.value, CallError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await until(lambda: provider.ended == [(1, "cancelled"), (1, "finally")])
    provider.free.set()
    assert await app.call("ask", 2) == 2


@each_kind
@each_instance
async def test_a_group_that_fails_cancels_its_calls(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances)

    async def fail() -> None:
        await provider.inside.wait()
        raise ZeroDivisionError

    async def call(n: int) -> None:
        await app.call("ask", n)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(call(n))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await together()
    assert [type(e) for e in caught.value.exceptions] == [ZeroDivisionError]
    await until(lambda: len(provider.ended) == 2 * len(provider.began))
    provider.free.set()
    assert await app.call("ask", 9) == 9


@each_kind
@alone
async def test_a_provider_that_will_not_be_cancelled(host: loop.Host, kind: str, instances: Any) -> None:
    """It runs in its caller's task, so what it makes of the cancellation is what the call makes of it."""
    stubborn = asyncio.Event()

    async def get(n: int) -> int:
        try:
            stubborn.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 100 + n
        return n

    limits = loop.Limits(instances=instances)
    provider = SimpleNamespace(get=get, now=get, check=get)
    app = await host.load(FUNC[kind], {HOST: provider}, limits=limits)
    task = start(app, "ask", 1)
    await stubborn.wait()
    task.cancel()
    async with asyncio.timeout(5):
        assert await task == 101


@each_kind
@each_instance
async def test_a_provider_cleans_up_asynchronously(host: loop.Host, kind: str, instances: Any) -> None:
    inside, cleaned = asyncio.Event(), asyncio.Event()

    async def get(n: int) -> int:
        try:
            inside.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.set()
        return n

    limits = loop.Limits(instances=instances)
    provider = SimpleNamespace(get=get, now=get, check=get)
    app = await host.load(FUNC[kind], {HOST: provider}, limits=limits)
    task = start(app, "ask", 1)
    await inside.wait()
    await cancelled(task)
    async with asyncio.timeout(5):
        await cleaned.wait()
    assert await app.call("same", 1) == 1


async def test_all_imports_in_flight_are_cancelled(host: loop.Host) -> None:
    for instances in ("per-call", 2, "shared"):
        app, provider = await load(host, "async func", instances)
        task = start(app, "all", 5)
        await until(lambda p=provider: len(p.began) == 5)
        await cancelled(task)
        await until(lambda p=provider: len(p.ended) == 10)
        assert {how for _, how in provider.ended} == {"cancelled", "finally"}


@each_kind
@each_instance
async def test_a_call_cancelled_before_it_began(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances)
    task = start(app, "ask", 1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert provider.began == []
    assert await app.call("next") == 1


@each_kind
async def test_calls_that_wait_their_turn_are_cancelled(host: loop.Host, kind: str) -> None:
    app, provider = await load(host, kind, "shared")
    tasks = [start(app, "ask", n) for n in range(4)]
    await reached(provider)
    await cancelled(tasks[2])
    provider.free.set()
    assert [await tasks[n] for n in (0, 1, 3)] == [0, 1, 3]


# ---- while the guest computes


@each_kind
@each_instance
async def test_a_guest_that_spins_lets_the_loop_run(host: loop.Host, kind: str, instances: Any) -> None:
    """At every epoch; and cancelling stops it."""
    app, provider = await load(host, kind, instances, deadline=None, cpu=None, cancel_grace=0.05)
    task = start(app, "spin")
    await reached(provider)
    for _ in range(3):
        await asyncio.sleep(0.001)
    await cancelled(task)
    async with asyncio.timeout(5):
        assert await app.exports["test:guest/api"].same(3) == 3


@each_kind
@alone
async def test_others_are_served_meanwhile(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances, deadline=None, cpu=None)
    provider.free.set()
    task = start(app, "spin")
    await reached(provider)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(app.call("ask", n) for n in range(5))) == list(range(5))
    await cancelled(task)


@each_kind
@each_instance
async def test_a_guest_that_spins_ends_at_its_limits(host: loop.Host, kind: str, instances: Any) -> None:
    for limits, error in (
        ({"deadline": 0.05}, DeadlineExceeded),
        ({"deadline": None, "cpu": 0.05}, LimitExceeded),
    ):
        app, _ = await load(host, kind, instances, **limits)
        with pytest.raises(error):
            await app.call("spin")
        assert await app.call("same", 1) == 1


@each_instance
async def test_its_caller_is_told_which_limit_it_was(host: loop.Host, instances: Any) -> None:
    """Also where the engine's own threads run it, and its caller looks at the very moment that it ends."""
    guest = AsyncGuest().exports("spin", [], None, "(loop $l (br $l)) unreachable")
    for limits, error in (
        ({"deadline": 0.02}, DeadlineExceeded),
        ({"deadline": None, "cpu": 0.02}, LimitExceeded),
    ):
        app = await host.load(guest.wasm(), limits=loop.Limits(instances=instances, **limits))
        for _ in range(20):
            with pytest.raises(error):
                await app.call("spin")


@each_kind
@alone
async def test_a_cancelled_instance_is_not_used_again(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances)
    assert await app.call("next") == 1
    task = start(app, "ask", 1)
    await reached(provider)
    await cancelled(task)
    assert await app.call("next") == 1


# ---- the shared instance


async def test_others_go_on_in_a_shared_instance(host: loop.Host) -> None:
    """The call that was cancelled ends within the guest once its import has been cancelled."""
    app, provider = await load(host, "async func", "shared", cancel_grace=30)
    assert await app.call("next") == 1
    one, two = start(app, "ask", 1), start(app, "ask", 2)
    await until(lambda: provider.began == [1, 2])
    await cancelled(one)
    provider.free.set()
    async with asyncio.timeout(5):
        assert await two == 2
    assert await app.call("next") == 2


async def test_a_shared_instance_is_retired_after_the_grace(host: loop.Host) -> None:
    """A provider that will not end keeps its guest: the others learn that their instance has gone."""
    forever = asyncio.Event()

    async def get(n: int) -> int:
        while not forever.is_set():
            try:
                await forever.wait()
            except asyncio.CancelledError:
                continue
        return n

    provider = Provider()
    members = SimpleNamespace(get=get, now=provider.now, check=provider.get)
    limits = loop.Limits(instances="shared", cancel_grace=0.05)
    app = await host.load(FUNC["async func"], {HOST: members}, limits=limits)
    assert await app.call("next") == 1
    one, two = start(app, "ask", 1), start(app, "check", 2)
    await reached(provider)
    one.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(ProviderGone):
            await two
    forever.set()
    assert await app.call("next") == 1


async def test_a_spinning_call_retires_its_shared_instance(host: loop.Host) -> None:
    app, provider = await load(host, "async func", "shared", deadline=None, cpu=None, cancel_grace=0.05)
    await app.call("next")
    waiting = start(app, "ask", 1)
    await reached(provider)
    spinning = start(app, "spin")
    await reached(provider)
    await cancelled(spinning)
    async with asyncio.timeout(5):
        with pytest.raises(ProviderGone):
            await waiting
        assert await app.call("next") == 1


# ---- deadlines


@each_kind
@each_instance
async def test_a_deadline_ends_a_call_that_waits(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances, deadline=0.5, cancel_grace=0.05)
    async with asyncio.timeout(5):
        with pytest.raises(DeadlineExceeded) as caught:
            await app.call("ask", 1)
    assert caught.value.seconds == 0.5
    await until(lambda: provider.ended == [(1, "cancelled"), (1, "finally")])
    provider.free.set()
    assert await app.call("ask", 2) == 2


@each_kind
async def test_a_deadline_ends_a_call_that_waits_its_turn(host: loop.Host, kind: str) -> None:
    """Whatever it waits for, a call takes no longer than its deadline."""
    app, _ = await load(host, kind, "shared", deadline=0.05, cancel_grace=30)
    tasks = [start(app, "ask", n) for n in range(3)]
    done, _ = await asyncio.wait(tasks, timeout=5)
    assert len(done) == 3
    for task in done:
        assert isinstance(task.exception(), (DeadlineExceeded, ProviderGone))
    assert any(isinstance(t.exception(), DeadlineExceeded) for t in done)


async def test_a_deadline_spares_the_others_in_a_shared_instance(host: loop.Host) -> None:
    app, provider = await load(host, "async func", "shared", deadline=1.0, cancel_grace=30)
    assert await app.call("next") == 1
    one = start(app, "ask", 1)
    await reached(provider)
    await asyncio.sleep(0.5)
    two = start(app, "ask", 2)
    with pytest.raises(DeadlineExceeded):
        await one
    provider.free.set()
    assert await two == 2
    assert await app.call("next") == 2


@each_kind
@each_instance
async def test_waiting_costs_no_cpu_time(host: loop.Host, kind: str, instances: Any) -> None:
    app, provider = await load(host, kind, instances, deadline=None, cpu=0.05)
    task = start(app, "ask", 1)
    await reached(provider)
    await asyncio.sleep(0.15)
    provider.free.set()
    assert await task == 1


# ---- what a dropped instance held


@each_kind
@each_instance
@pytest.mark.parametrize("how", ["cancel", "deadline", "trap"])
async def test_resources_of_a_dropped_instance_are_released(
    host: loop.Host, kind: str, instances: Any, how: str
) -> None:
    """`keep` takes an object of the provider's and then asks for something that never comes."""

    class Thing:
        exits = 0

        def __exit__(self, *_: object) -> None:
            Thing.exits += 1

    provider = Provider()
    members = SimpleNamespace(Thing=Thing, get=provider.get)
    deadline = 0.5 if how == "deadline" else None
    limits = loop.Limits(instances=instances, deadline=deadline, cancel_grace=0.05)
    app = await host.load(KEEP[kind], {HOST: members}, limits=limits)
    thing = Thing()
    alive = weakref.ref(thing)
    task = start(app, "keep", thing)
    del thing
    await reached(provider)
    assert alive() is not None
    if how == "cancel":
        await cancelled(task)
    else:
        if how == "trap":  # `get` answers, and the guest traps
            provider.free.set()
        await asyncio.wait([task], timeout=5)
        assert isinstance(task.exception(), CallError)
    del task  # its exception's traceback knows the arguments

    def gone() -> bool:
        gc.collect()
        return alive() is None

    async with asyncio.timeout(5):
        while not gone():
            await asyncio.sleep(0.01)


@each_kind
@each_instance
async def test_nothing_is_left_of_many_cancelled_calls(host: loop.Host, kind: str, instances: Any) -> None:
    """Instances come from pools with an end: one that stayed behind would be missed."""
    app, provider = await load(host, kind, instances, cancel_grace=0.05)
    for _ in range(30):
        tasks = [start(app, "ask", n) for n in range(50)]
        await reached(provider)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            # a shared instance may be retired under those that came later
            assert task.cancelled() or (instances == "shared" and isinstance(task.exception(), ProviderGone))
    provider.free.set()
    assert await app.call("ask", 1) == 1


async def test_a_started_provider_is_told_when_its_task_never_begins() -> None:
    told = asyncio.Event()

    async def provider() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.set()

    started = provider()
    waiting = started.send(None)
    waiting._asyncio_future_blocking = False
    task = asyncio.create_task(_loop.coroutine(_loop.resume(started, waiting)))
    await cancelled(task)
    assert waiting.cancelled()
    assert told.is_set()
