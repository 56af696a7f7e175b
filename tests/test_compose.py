"""Components that serve the imports of other components."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import (
    DeadlineExceeded,
    GuestTrap,
    LimitExceeded,
    LinkError,
    LoopError,
    ProviderError,
    ProviderGone,
    Reentered,
)
from tests.guests import API, HOST
from tests.linked_guests import DEEP, inner, outer, passing, relaying, step, things, using_things
from tests.pumps import collect, each
from tests.stream_guests import pumping
from tests.wit_types import (
    BOOL,
    CHAR,
    F32,
    F64,
    S64,
    STRING,
    U8,
    U32,
    Enum,
    Flags,
    List,
    Option,
    Record,
    Result,
    Tuple,
    Type,
    Variant,
)

INNER = {"func": inner(False), "async func": inner(True)}
OUTER = {"func": outer(False), "async func": outer(True)}
THINGS, USING = things(), using_things()
each_kind = pytest.mark.parametrize("kind", INNER)
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])


class Both:
    """A host of either kind, with one way of calling it. A blocking one has a thread without a loop."""

    def __init__(self, host: loop.Host | loop.blocking.Host, thread: Executor | None = None) -> None:
        self.host = host
        self.thread = thread

    async def load(self, wasm: bytes, imports: Any = None, **limits: Any) -> Any:
        return await self._do(self.host.load, wasm, imports, limits=loop.Limits(**limits))

    async def call(self, app: Any, export: str, *args: Any) -> Any:
        async with asyncio.timeout(10):
            return await self._do(app.call, export, *args)

    async def _do(self, function: Any, *args: Any, **named: Any) -> Any:
        if self.thread is None:
            return await function(*args, **named)
        return await asyncio.get_running_loop().run_in_executor(
            self.thread, partial(function, *args, **named)
        )


@pytest.fixture(params=["asynchronous", "blocking"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    if request.param == "asynchronous":
        async with loop.Host(cache=None) as asynchronous:
            yield Both(asynchronous)
        return
    with ThreadPoolExecutor(1) as thread:
        host = thread.submit(lambda: loop.blocking.Host(cache=None)).result()
        yield Both(host, thread)
        thread.submit(host.close).result()


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


async def pair(
    both: Both, kind: str, instances: Any = None, inside: Any = None, **limits: Any
) -> tuple[Any, Any]:
    """The outer and the inner one; `inside` are the limits of the inner."""
    get = inside.pop("get", lambda n: 2 * n) if inside else lambda n: 2 * n
    deep = {DEEP: SimpleNamespace(get=get)}
    one = await both.load(INNER[kind], deep, **{"instances": instances, **(inside or {})})
    return await both.load(OUTER[kind], {HOST: one}, instances=instances, **limits), one


# ---- values


KINDS: list[tuple[Type, Any]] = [
    (BOOL, True),
    (U8, 255),
    (S64, -(1 << 63)),
    (F32, 0.5),
    (F64, 1e300),
    (CHAR, "é"),
    (STRING, "Grüße 🎉"),
    (List(U8), bytes(range(256)) * 1000),
    (List(U32), list(range(10_000))),
    (List(STRING), ["", "a", "é" * 100]),
    (List(List(Option(U8))), [[1, None], [], [255]]),
    (Tuple((U8, F64, STRING)), (1, 2.5, "x")),
    (Option(Option(U32)), loop.Some(None)),
    (Result(U32, STRING), loop.Err("no")),
    (Result(None, None), loop.Ok(None)),
    (Enum(("red", "blue"), "colour"), "blue"),
    (Flags(tuple(f"f{n}" for n in range(32)), "bits"), 0x8000_0001),
    (Variant((("a", None), ("b", STRING), ("c", F32)), "choice"), ("b", "text")),
    (Record(tuple((f"f{n}", U32) for n in range(20)), "wide"), {f"f{n}": n for n in range(20)}),
]


def comparable(v: Any) -> Any:
    """What a value is, whatever classes it came in."""
    if hasattr(v, "case"):
        return (v.case, v.value)
    if hasattr(v, "__dataclass_fields__") and hasattr(v, "f0"):
        return {f"f{n}": getattr(v, f"f{n}") for n in range(20)}
    if hasattr(v, "name") and hasattr(v, "value"):
        return v.name.lower() if isinstance(v.value, int) and v.name in ("RED", "BLUE") else v.value
    return v


@pytest.mark.parametrize(("t", "value"), KINDS, ids=lambda v: type(v).__name__)
async def test_values_of_all_kinds(both: Both, t: Type, value: Any) -> None:
    """Python → outer → inner → Python and back."""
    seen: list[Any] = []

    def echo(v: Any) -> Any:
        seen.append(v)
        # an error is raised, or stands beside Ok
        return v

    one = await both.load(passing(t, DEEP, HOST).wasm(), {DEEP: SimpleNamespace(echo=echo)})
    two = await both.load(passing(t, HOST, API).wasm(), {HOST: one})
    try:
        got = await both.call(two, "echo", value)
        if isinstance(value, loop.Ok):
            got = loop.Ok(got)
    except loop.Err as e:
        got = e
    assert comparable(got) == comparable(value)
    assert [comparable(v) for v in seen] == [comparable(value)]


# ---- linking


@each_kind
@each_instance
async def test_calls_pass_through(both: Both, kind: str, instances: Any) -> None:
    two, one = await pair(both, kind, instances)
    assert [await both.call(two, "get", n) for n in range(5)] == [0, 2, 4, 6, 8]
    seen = [await both.call(two, "next") for _ in range(3)]
    assert seen == ([1, 1, 1] if instances == "per-call" else [1, 2, 3])
    assert await both.call(one, f"{HOST}#next") == (1 if instances == "per-call" else 4)


@each_kind
@each_instance
async def test_many_at_once(host: loop.Host, kind: str, instances: Any) -> None:
    async def get(n: int) -> int:
        for _ in range(n % 3):
            await asyncio.sleep(0)
        return 2 * n

    two, _ = await pair(Both(host), kind, instances, {"get": get})
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(two.call("get", n) for n in range(100)))
    assert answers == [2 * n for n in range(100)]


@pytest.mark.parametrize(("first", "second"), [("func", "async func"), ("async func", "func")])
async def test_what_does_not_fit_is_listed(both: Both, first: str, second: str) -> None:
    one = await both.load(INNER[first], {DEEP: SimpleNamespace(get=lambda n: n)})
    with pytest.raises(LinkError) as caught:
        await both.load(OUTER[second], {HOST: one})
    assert {p.item for p in caught.value.problems} == {"get", "next", "boom", "spin", "grow"}
    assert "async func" in str(caught.value)
    other = await both.load(passing(STRING, DEEP, HOST).wasm(), {DEEP: SimpleNamespace(echo=str)})
    with pytest.raises(LinkError) as caught:
        await both.load(passing(U32, HOST, API).wasm(), {HOST: other})
    assert "is func(p0: string) -> string, wanted func(p0: u32) -> u32" in str(caught.value)
    with pytest.raises(LinkError, match="next: is not exported"):
        await both.load(OUTER[first], {HOST: other})


@each_kind
async def test_the_inner_one_lives_as_long_as_the_outer(both: Both, kind: str) -> None:
    two, one = await pair(both, kind, "shared")
    del one
    gc.collect()
    assert await both.call(two, "get", 4) == 8
    assert [await both.call(two, "next") for _ in range(2)] == [1, 2]


# ---- traps and limits


@each_kind
@each_instance
async def test_a_trap_of_the_inner_one(both: Both, kind: str, instances: Any) -> None:
    """It is named as the inner one's, and ends both instances: the outer one has no answer to go on with."""
    two, one = await pair(both, kind, instances)
    assert await both.call(two, "mine") == await both.call(two, "next") == 1
    with pytest.raises(GuestTrap) as caught:
        await both.call(two, "boom")
    assert caught.value.code == "UnreachableCodeReached"
    assert f"{HOST}#boom" in str(caught.value)
    assert await both.call(two, "mine") == 1
    assert await both.call(two, "next") == 1
    assert await both.call(one, f"{HOST}#get", 1) == 2


@each_kind
@each_instance
async def test_an_error_of_the_provider_below(both: Both, kind: str, instances: Any) -> None:
    error = ZeroDivisionError("deep down")

    def get(n: int) -> int:
        if n == 13:
            raise error
        return n

    two, _ = await pair(both, kind, instances, {"get": get})
    with pytest.raises(ProviderError, match="deep down") as caught:
        await both.call(two, "get", 13)
    assert (caught.value.interface, caught.value.function) == (DEEP, "get")
    assert caught.value.__cause__ is error
    assert await both.call(two, "get", 3) == 3


@each_kind
@each_instance
async def test_the_inner_ones_deadline(both: Both, kind: str, instances: Any) -> None:
    two, _ = await pair(both, kind, instances, {"deadline": 0.05, "cancel_grace": 0.05})
    with pytest.raises(DeadlineExceeded) as caught:
        await both.call(two, "spin")
    assert caught.value.seconds == 0.05
    assert await both.call(two, "get", 1) == 2


@each_kind
@each_instance
async def test_the_outer_ones_deadline(both: Both, kind: str, instances: Any) -> None:
    """A call takes no longer than its own limit, wherever it spends its time."""
    inside = {"deadline": 3, "cancel_grace": 0.05}
    two, _ = await pair(both, kind, instances, inside, deadline=0.05, cancel_grace=0.05)
    with pytest.raises(DeadlineExceeded) as caught:
        await both.call(two, "spin")
    assert caught.value.seconds == 0.05
    got = None
    async with asyncio.timeout(2):  # less than the inner one would spin if nobody stopped it
        while got is None:
            # what comes to a shared instance within its grace goes with it
            with contextlib.suppress(ProviderGone, DeadlineExceeded):
                got = await both.call(two, "get", 1)
    assert got == 2


@each_kind
@each_instance
async def test_cpu_time_is_the_spenders(both: Both, kind: str, instances: Any) -> None:
    limits = {"deadline": None, "cpu": 0.05}
    two, _ = await pair(both, kind, instances, dict(limits), deadline=None, cpu=20)
    with pytest.raises(LimitExceeded) as caught:
        await both.call(two, "spin")
    assert (caught.value.what, caught.value.limit) == ("cpu", 0.05)
    assert await both.call(two, "get", 1) == 2


@each_kind
@each_instance
async def test_memory_is_each_ones_own(both: Both, kind: str, instances: Any) -> None:
    two, _ = await pair(both, kind, instances, {"memory": "3MiB"}, memory="6MiB")
    with pytest.raises(LimitExceeded) as caught:
        await both.call(two, "grow")
    assert (caught.value.what, caught.value.limit) == ("memory", 3 << 20)
    two, _ = await pair(both, kind, instances, {"memory": "16MiB"}, memory="6MiB")
    await both.call(two, "grow")


async def test_who_waits_for_a_shared_instance_that_traps_gets_the_next(host: loop.Host) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def get(n: int) -> int:
        if n == 0:
            entered.set()
            await leave.wait()
            raise ZeroDivisionError
        return 2 * n

    app = await host.load(
        INNER["func"], {DEEP: SimpleNamespace(get=get)}, limits=loop.Limits(instances="shared")
    )
    assert await app.call(f"{HOST}#next") == 1
    async with asyncio.timeout(10):
        breaks = asyncio.ensure_future(app.call(f"{HOST}#get", 0))
        await entered.wait()
        waiting = [asyncio.ensure_future(app.call(f"{HOST}#next")) for _ in range(3)]
        await asyncio.sleep(0)
        leave.set()
        with pytest.raises(ProviderError, match="ZeroDivisionError"):
            await breaks
        assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3]


def test_threads_that_wait_for_a_shared_instance_that_traps_get_the_next() -> None:
    entered, leave = threading.Event(), threading.Event()

    def get(n: int) -> int:
        entered.set()
        leave.wait(10)
        raise ZeroDivisionError

    with loop.blocking.Host(cache=None) as host, ThreadPoolExecutor(4) as threads:
        app = host.load(
            INNER["func"], {DEEP: SimpleNamespace(get=get)}, limits=loop.Limits(instances="shared")
        )
        breaks = threads.submit(app.call, f"{HOST}#get", 0)
        entered.wait(10)
        waiting = [threads.submit(app.call, f"{HOST}#next") for _ in range(3)]
        leave.set()
        with pytest.raises(ProviderError, match="ZeroDivisionError"):
            breaks.result(10)
        assert sorted(each.result(10) for each in waiting) == [1, 2, 3]


# ---- resources


@each_instance
async def test_resources_across(both: Both, instances: Any) -> None:
    one = await both.load(THINGS)
    two = await both.load(USING, {HOST: one}, instances=instances)
    assert await both.call(two, "use", 20, 22) == 42
    assert await both.call(two, "use", 1, 2) == 3
    # three a call: the two that were made, and what they became
    assert await both.call(two, "drops") == 6
    with pytest.raises(GuestTrap):
        await both.call(two, "use", 0, 1)
    assert await both.call(two, "use", 1, 2) == 3


async def test_a_resource_is_kept_between_calls(both: Both) -> None:
    one = await both.load(THINGS)
    two = await both.load(USING, {HOST: one}, instances="shared")
    await both.call(two, "hold", 7)
    assert [await both.call(two, "held") for _ in range(3)] == [7, 7, 7]
    assert await both.call(two, "drops") == 0
    await both.call(two, "let-go")
    assert await both.call(two, "drops") == 1
    with pytest.raises(GuestTrap):
        await both.call(two, "held")


@pytest.mark.parametrize("instances", ["per-call", 1])
async def test_what_an_instance_held_goes_with_it(both: Both, instances: Any) -> None:
    """Its handles are dropped where they come from, or the inner one would fill up for ever."""
    one = await both.load(THINGS)
    two = await both.load(USING, {HOST: one}, instances=instances)
    for _ in range(5):
        await both.call(two, "hold", 7)
    del two
    gc.collect()
    await asyncio.sleep(0)  # the loop still knows what it did last
    assert await both.call(one, f"{HOST}#drops") == 5


# ---- circles and chains


@each_kind
@each_instance
async def test_a_circle_through_python(both: Both, kind: str, instances: Any) -> None:
    """outer → inner → Python → outer: refused where it would wait for itself, answered where it would not."""

    def get(n: int) -> int:
        return n if n == 0 else int(two.call("get", n - 1))

    async def aget(n: int) -> int:
        return n if n == 0 else int(await two.call("get", n - 1))

    blocking = both.thread is not None
    if blocking and kind == "async func":
        return  # a blocking call within a loop has a test of its own
    two, _ = await pair(both, kind, instances, {"get": get if blocking else aget})
    if (kind, instances) == ("func", "shared"):
        with pytest.raises(Reentered):
            await both.call(two, "get", 3)
    else:
        assert await both.call(two, "get", 3) == 0
    assert await both.call(two, "get", 0) == 0


@each_kind
@pytest.mark.parametrize("length", [5, 30])
async def test_a_chain_of_components(both: Both, kind: str, length: int) -> None:
    """It either answers or says that the stack is used up; it does not crash."""
    app: Any = SimpleNamespace(up=lambda n: n)
    kept = []
    for n in range(length):
        app = await both.load(step(n, kind == "async func"), {f"test:guest/n{n}": app})
        kept.append(app)
    try:
        got = await both.call(app, "up", 100)
    except LimitExceeded as e:
        got = e.what
    assert got in ((105,) if length == 5 else (100 + length, "stack"))
    assert await both.call(kept[0], "up", 100) == 101


@each_kind
async def test_a_long_chain_that_calls_itself_through_python(both: Both, kind: str) -> None:
    if both.thread is not None and kind == "async func":
        return
    app: Any = None
    blocking = both.thread is not None

    def up(n: int) -> int:
        return int(app.call("up", n))

    async def aup(n: int) -> int:
        return int(await app.call("up", n))

    app = SimpleNamespace(up=up if blocking else aup)
    for n in range(5):
        wasm = step(n, kind == "async func")
        app = await both.load(wasm, {f"test:guest/n{n}": app}, concurrent_calls=10_000)
    with pytest.raises((LoopError, RecursionError)):
        await both.call(app, "up", 1)


# ---- cancelling


@each_kind
@each_instance
async def test_cancelling_reaches_the_provider_below(host: loop.Host, kind: str, instances: Any) -> None:
    inside, ended = asyncio.Event(), asyncio.Event()

    async def get(n: int) -> int:
        if n == 0:
            return n
        try:
            inside.set()
            return await asyncio.Event().wait()
        finally:
            ended.set()

    limits = {"get": get, "cancel_grace": 0.05}
    two, _ = await pair(Both(host), kind, instances, limits, cancel_grace=0.05)

    async def call() -> Any:
        return await two.call("get", 1)

    task = asyncio.create_task(call())
    async with asyncio.timeout(5):
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        await ended.wait()
    assert task.cancelled()
    assert await two.call("get", 0) == 0


# ---- streams


async def pumps(host: loop.Host, t: Type, instances: Any) -> loop.App:
    """Two that pump, the outer one by the inner one's export."""
    provider = {HOST: SimpleNamespace(wrote=lambda *_: None)}
    limits = loop.Limits(instances=instances)
    one = await host.load(pumping(t).wasm(), provider, limits=limits)
    return await host.load(relaying(t).wasm(), {API: one}, limits=limits)


@each_instance
@pytest.mark.parametrize(
    ("t", "values"), [(U8, [b"abc", b"defg"] * 50), (STRING, ["a", "é"] * 50)], ids=["u8", "string"]
)
async def test_streams_across(host: loop.Host, instances: Any, t: Type, values: list[Any]) -> None:
    """Python → outer → inner → outer → Python."""
    app = await pumps(host, t, instances)
    for _ in range(3):
        got = await collect(await app.call("relay", each(values), 3))
        assert (b"".join(got) if t is U8 else got) == (b"".join(values) if t is U8 else values)


@each_instance
async def test_a_reader_that_stops_is_heard_across(host: loop.Host, instances: Any) -> None:
    """Through both components, back to the Python generator."""
    app = await pumps(host, U8, instances)
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"abc"
        finally:
            ended.set()

    stream = await app.call("relay", endless(), 3)
    assert len(await anext(stream)) == 3
    await stream.aclose()
    async with asyncio.timeout(3):
        await ended.wait()


@each_instance
async def test_a_generator_that_raises_across(host: loop.Host, instances: Any) -> None:
    app = await pumps(host, U8, instances)

    async def fails() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ZeroDivisionError("in the middle")

    stream = await app.call("relay", fails(), 3)
    with pytest.raises(LoopError, match="in the middle"):
        await collect(stream)
