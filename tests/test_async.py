"""Awaited calls: what providers see, how many run at once, and what ends them."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import (
    ArgumentError,
    GuestTrap,
    NoSuchExport,
    Overloaded,
    ProviderError,
    ProviderTypeError,
    Reentered,
)
from tests.async_guests import AsyncGuest, asking, plain
from tests.guests import API, HOST
from tests.wit_types import U32

FUNC = {"func": plain().wasm(), "async func": asking().wasm()}
each_kind = pytest.mark.parametrize("kind", FUNC)
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


async def asynchronously(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def providing(get: Any = asynchronously, now: Any = lambda n: n, check: Any = lambda n: n) -> dict[str, Any]:
    return {HOST: SimpleNamespace(get=get, now=now, check=check)}


def task(call: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(call)


async def load(host: loop.Host, kind: str, instances: Any = None, **members: Any) -> loop.App:
    limits = loop.Limits(instances=instances)
    return await host.load(FUNC[kind], providing(**members), limits=limits)


# ---- calls


@each_kind
@each_instance
async def test_exports_are_awaited(host: loop.Host, kind: str, instances: Any) -> None:
    app = await load(host, kind, instances)
    assert await app.call("same", 7) == 7
    assert await app.call(f"{API}#same", 8) == 8
    assert await app.exports[API].ask(21) == 42
    assert await app.call("ask-now", 9) == 9
    counts = [await app.call("next") for _ in range(3)]
    assert counts == ([1, 1, 1] if instances == "per-call" else [1, 2, 3])


@each_kind
@each_instance
@pytest.mark.parametrize("sleeps", [0, 1, 3])
async def test_many_calls_at_once(host: loop.Host, kind: str, instances: Any, sleeps: int) -> None:
    async def get(n: int) -> int:
        for _ in range(n % (sleeps + 1)):
            await asyncio.sleep(0)
        return 2 * n

    app = await load(host, kind, instances, get=get)
    answers = await asyncio.gather(*(app.call("ask", n) for n in range(200)))
    assert answers == [2 * n for n in range(200)]


@each_kind
@each_instance
async def test_how_many_providers_run_at_once(host: loop.Host, kind: str, instances: Any) -> None:
    """A plain import that waits stalls its whole instance; each other call goes on."""
    running, most = 0, 0

    async def get(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):
            await asyncio.sleep(0)
        running -= 1
        return n

    app = await load(host, kind, instances, get=get)
    assert await asyncio.gather(*(app.call("ask", n) for n in range(10))) == list(range(10))
    assert most == (1 if (kind, instances) == ("func", "shared") else 10)


@each_kind
@each_instance
@pytest.mark.parametrize("member", ["get", "now"])
async def test_plain_and_asynchronous_providers(
    host: loop.Host, kind: str, instances: Any, member: str
) -> None:
    class Callable_:
        async def __call__(self, n: int) -> int:
            return await asynchronously(n)

    class Methods:
        async def get(self, n: int) -> int:
            return await asynchronously(n)

    export = {"get": "ask", "now": "ask-now"}[member]
    for provider in (lambda n: 2 * n, asynchronously, Callable_(), Methods().get):
        app = await load(host, kind, instances, **{member: provider})
        assert await app.call(export, 4) == 8


@each_kind
async def test_results_raise_their_error(host: loop.Host, kind: str) -> None:
    async def check(n: int) -> int:
        await asyncio.sleep(0)
        if n == 1:
            raise loop.Err(99)
        return loop.Err(98) if n == 2 else loop.Ok(n) if n == 3 else n  # type: ignore[return-value]

    app = await load(host, kind, check=check)
    assert (await app.call("check", 3), await app.call("check", 4)) == (3, 4)
    for n, error in ((1, 99), (2, 98)):
        with pytest.raises(loop.Err) as caught:
            await app.call("check", n)
        assert caught.value == loop.Err(error)


async def test_imports_of_one_call_run_side_by_side(host: loop.Host) -> None:
    """The first to be asked are the last to answer."""
    inside: list[int] = []
    free = [asyncio.Event() for _ in range(8)]

    async def get(n: int) -> int:
        inside.append(n)
        if len(inside) == 8:
            free[7].set()
        await free[n].wait()
        inside.remove(n)
        if n:
            free[n - 1].set()
        return 10**n

    for instances in ("per-call", 1, "shared"):
        app = await load(host, "async func", instances, get=get)
        for event in free:
            event.clear()
        assert await app.call("all", 8) == 11_111_111
        assert inside == []


async def test_a_guest_that_runs_on_after_its_result(host: loop.Host) -> None:
    release, answered = asyncio.Event(), asyncio.Event()

    async def get(n: int) -> int:
        await release.wait()
        answered.set()
        return n

    app = await load(host, "async func", "shared", get=get)
    assert await app.call("later", 5) == 5
    release.set()
    async with asyncio.timeout(20):
        await answered.wait()
    assert await app.call("same", 6) == 6


# ---- what a provider sees


@each_kind
@each_instance
async def test_context_variables_are_the_callers(host: loop.Host, kind: str, instances: Any) -> None:
    async def get(n: int) -> int:
        before = variable.get()
        await asyncio.sleep(0)
        return n if before == variable.get() == str(n) else 1_000_000

    app = await load(host, kind, instances, get=get)

    async def caller(n: int) -> int:
        variable.set(str(n))
        return await app.call("ask", n)

    tasks = [asyncio.create_task(caller(n)) for n in range(20)]
    assert await asyncio.gather(*tasks) == list(range(20))
    seen: list[str] = []

    def note(n: int) -> int:
        seen.append(variable.get())
        return n

    app = await load(host, kind, instances, now=note)
    variable.set("here")
    await app.call("ask-now", 1)
    assert seen == ["here"]


@each_instance
async def test_context_variables_of_imports_side_by_side(host: loop.Host, instances: Any) -> None:
    async def get(n: int) -> int:
        await asyncio.sleep(0)
        return int(variable.get())

    app = await load(host, "async func", instances, get=get)

    async def caller(n: int) -> int:
        variable.set(str(n))
        return await app.call("all", 4)

    tasks = [asyncio.create_task(caller(n)) for n in range(5)]
    assert await asyncio.gather(*tasks) == [4 * n for n in range(5)]


@each_kind
@each_instance
async def test_the_current_task(host: loop.Host, kind: str, instances: Any) -> None:
    """A provider runs in its caller's task, unless the instance serves others as well."""
    seen: list[asyncio.Task[Any] | None] = []

    async def get(n: int) -> int:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        return n

    app = await load(host, kind, instances, get=get)
    await app.call("ask", 1)
    assert seen[0] is seen[1] is not None
    assert (seen[0] is asyncio.current_task()) == ((kind, instances) != ("async func", "shared"))


@each_kind
@each_instance
async def test_timeouts_and_groups_within_a_provider(host: loop.Host, kind: str, instances: Any) -> None:
    async def get(n: int) -> int:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            n += 1
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asynchronously(i)) for i in range(4)]
        n += sum(t.result() for t in tasks)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                group.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.001))
        except* TimeoutError:
            n += 100
        return n

    app = await load(host, kind, instances, get=get)
    assert await app.call("ask", 1000) == 1113


# ---- what goes wrong


@each_kind
@each_instance
async def test_a_provider_that_raises(host: loop.Host, kind: str, instances: Any) -> None:
    error = ValueError("no such number")

    async def get(n: int) -> int:
        await asyncio.sleep(0)
        if n == 13:
            raise error
        return n

    app = await load(host, kind, instances, get=get)
    for _ in range(2):
        with pytest.raises(ProviderError, match="no such number") as caught:
            await app.call("ask", 13)
        assert (caught.value.interface, caught.value.function) == (HOST, "get")
        assert caught.value.__cause__ is error
        assert await app.call("ask", 12) == 12


@each_kind
@each_instance
async def test_a_provider_that_returns_the_wrong_type(host: loop.Host, kind: str, instances: Any) -> None:
    async def get(n: int) -> Any:
        return "text" if n == 13 else n

    app = await load(host, kind, instances, get=get)
    with pytest.raises(ProviderTypeError) as caught:
        await app.call("ask", 13)
    e = caught.value
    assert (e.interface, e.function, e.expected, e.got) == (HOST, "get", "u32", "str 'text'")
    assert await app.call("ask", 12) == 12


@each_kind
@each_instance
async def test_arguments_that_do_not_fit(host: loop.Host, kind: str, instances: Any) -> None:
    app = await load(host, kind, instances)
    assert await app.call("next") == 1
    with pytest.raises(ArgumentError) as caught:
        await app.call("same", "text")
    assert (caught.value.function, caught.value.expected) == ("same", "u32")
    with pytest.raises(ArgumentError):
        await app.call("same")
    with pytest.raises(NoSuchExport):
        await app.call("sane", 1)
    if instances == "shared":
        assert await app.call("next") == 2


@each_kind
@each_instance
async def test_a_trap_ends_its_instance_only(host: loop.Host, kind: str, instances: Any) -> None:
    app = await load(host, kind, instances)
    await app.call("next")
    with pytest.raises(GuestTrap) as caught:
        await app.call("boom")
    assert (caught.value.export, caught.value.code) == (f"{API}#boom", "UnreachableCodeReached")
    assert await app.call("next") == 1
    assert await app.call("ask", 2) == 4


@each_kind
async def test_too_many_calls_at_once(host: loop.Host, kind: str) -> None:
    free = asyncio.Event()

    async def get(n: int) -> int:
        await free.wait()
        return n

    limits = loop.Limits(concurrent_calls=3)
    app = await host.load(FUNC[kind], providing(get), limits=limits)
    calls = [task(app.call("ask", n)) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await app.call("same", 1)
    assert caught.value.limit == 3
    free.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]
    assert await app.call("same", 1) == 1


# ---- providers that call


@each_kind
@each_instance
async def test_a_provider_that_calls_its_own_component(host: loop.Host, kind: str, instances: Any) -> None:
    """A shared instance answers, or refuses: it never waits for itself."""

    async def get(n: int) -> int:
        return 1 + await app.call("same", n)

    app = await load(host, kind, instances, get=get)
    async with asyncio.timeout(10):
        if (kind, instances) == ("func", "shared"):
            with pytest.raises(Reentered):
                await app.call("ask", 1)
        else:
            assert await app.call("ask", 1) == 2
        assert await app.call("same", 3) == 3


@each_kind
async def test_a_task_of_a_provider_may_call_later(host: loop.Host, kind: str) -> None:
    tasks: list[asyncio.Task[int]] = []

    async def get(n: int) -> int:
        tasks.append(task(app.call("same", n)))
        return n

    app = await load(host, kind, "shared", get=get)
    async with asyncio.timeout(10):
        assert await app.call("ask", 1) == 1
        assert await tasks[0] == 1


@each_kind
@each_instance
async def test_a_provider_that_calls_another_component(host: loop.Host, kind: str, instances: Any) -> None:
    inner = await load(host, "async func", instances)
    other = await load(host, "func", instances)

    async def get(n: int) -> int:
        return await inner.call("ask", n) + await other.call("ask", n)

    app = await load(host, kind, instances, get=get)
    answers = await asyncio.gather(*(app.call("ask", n) for n in range(20)))
    assert answers == [4 * n for n in range(20)]


# ---- the awaitable


@each_kind
async def test_calls_as_tasks(host: loop.Host, kind: str) -> None:
    app = await load(host, kind)
    assert await task(app.call("ask", 4)) == 8
    assert await asyncio.wait_for(app.call("ask", 5), 20) == 10
    assert await asyncio.shield(asyncio.ensure_future(app.call("ask", 6))) == 12


@each_kind
async def test_a_call_that_is_never_awaited_does_nothing(host: loop.Host, kind: str) -> None:
    asked: list[int] = []

    def now(n: int) -> int:
        asked.append(n)
        return n

    app = await load(host, kind, "shared", now=now)

    class Number:
        def __index__(self) -> int:
            return 5

    argument = Number()
    alive = weakref.ref(argument)
    call = app.call("ask-now", argument)
    del call, argument
    gc.collect()
    assert (asked, alive()) == ([], None)
    assert await app.call("next") == 1


@each_kind
@each_instance
async def test_a_call_can_be_awaited_once(host: loop.Host, kind: str, instances: Any) -> None:
    app = await load(host, kind, instances)
    for export, args in (("same", (1,)), ("ask", (2,)), ("next", ())):
        call = app.call(export, *args)
        await call
        with pytest.raises(RuntimeError, match="already awaited"):
            await call
    call = app.call("boom")
    with pytest.raises(GuestTrap):
        await call
    with pytest.raises(RuntimeError, match="already awaited"):
        await call


async def test_an_awaited_call_by_two_tasks(host: loop.Host) -> None:
    free = asyncio.Event()

    async def get(n: int) -> int:
        await free.wait()
        return n

    app = await load(host, "async func", get=get)
    call = app.call("ask", 1)

    async def wait() -> Any:
        return await call

    one, two = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    free.set()
    async with asyncio.timeout(10):
        got = await asyncio.gather(one, two, return_exceptions=True)
    assert got[0] == 1
    assert isinstance(got[1], RuntimeError)


# ---- waiting for nothing


STUCK = "(drop (call $set.wait (call $set.new) (i32.const 64))) unreachable"


@pytest.mark.parametrize("instances", ["per-call", 2])
async def test_a_guest_that_waits_for_what_never_comes(host: loop.Host, instances: Any) -> None:
    """Nobody else can reach its instance, so the call ends at once and not at its deadline."""
    guest = (
        AsyncGuest()
        .exports("stuck", [], U32, STUCK)
        .exports("fine", [], U32, "(call $done-fine (i32.const 5))")
    )
    app = await host.load(guest.wasm(), limits=loop.Limits(instances=instances, deadline=None))
    for _ in range(3):
        async with asyncio.timeout(10):
            with pytest.raises(GuestTrap, match="deadlock detected"):
                await app.call("stuck")
        assert await app.call("fine") == 5


async def test_a_guest_that_waits_while_its_provider_works(host: loop.Host) -> None:
    """An import on its way, however slow, is no deadlock."""
    go = asyncio.Event()

    async def get(n: int) -> int:
        await go.wait()
        return n

    app = await load(host, "async func", get=get)
    call = asyncio.ensure_future(app.call("ask", 1))
    for _ in range(20):
        await asyncio.sleep(0)
    go.set()
    assert await call == 1
