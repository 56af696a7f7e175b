"""How streams end, who waits for whom, and where streams go."""

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import GuestTrap, LoopError, ProviderError, ProviderGone
from tests.guests import HOST
from tests.pumps import COMPLETED, DROPPED, POINT, collect, each, later, load, plain, pump_wasm
from tests.stream_guests import shipping
from tests.wit_types import STRING, U8, U32, Prim, Type

DATA = bytes(range(256)) * 400

each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


# ---- ends


async def test_the_guest_sees_how_much_was_taken(host: loop.Host) -> None:
    wrote: list[tuple[int, int]] = []
    app = await load(host, wrote=lambda n, code: wrote.append((n, code)))
    stream = await app.call("source", 100, 60)
    assert len(await stream.read(25)) == 25
    assert len(await stream.read(100)) == 60
    assert len(await stream.read(100)) == 15
    assert await stream.read() == b""
    assert wrote == [(25, COMPLETED), (60, COMPLETED), (15, COMPLETED)]


# A stream that is gone takes the instance that was its own along.
STOPS = [(how, i) for how in ("close", "aclose", "async with") for i in ("per-call", 2, "shared")]
STOPS += [("del", "shared"), ("unread", "shared")]


@pytest.mark.parametrize(("how", "instances"), STOPS)
@pytest.mark.parametrize("item", [U8, U32, STRING, None], ids=["u8", "u32", "string", "nothing"])
async def test_a_reader_that_stops(host: loop.Host, instances: Any, item: Type | None, how: str) -> None:
    """The guest's next write is answered: dropped."""
    wrote: list[tuple[int, int]] = []
    told = asyncio.Event()

    def record(n: int, code: int) -> None:
        wrote.append((n, code))
        if code == DROPPED:
            told.set()

    app = await load(host, item, instances, wrote=record)
    stream = await app.call("source", 1000, 10)
    if how != "unread":
        assert len(await stream.read(10)) == 10
        assert len(await stream.read(4)) == 4
    if how == "close":
        stream.close()
        stream.close()
        assert len(await stream.read()) == 0
    elif how == "aclose":
        await stream.aclose()
        assert await collect(stream) == []
    elif how == "async with":
        async with stream as same:
            assert same is stream
    if how in ("del", "unread"):
        del stream
        gc.collect()
    async with asyncio.timeout(3):
        await told.wait()
    assert wrote[-1] == (0, DROPPED)
    assert sum(n for n, _ in wrote) == (0 if how == "unread" else 14)


async def test_breaking_out_of_a_loop_leaves_the_rest(host: loop.Host) -> None:
    app = await load(host, U32)
    stream = await app.call("pump", list(range(20)), 6)
    seen = []
    async for n in stream:
        seen.append(n)
        if n == 7:
            break
    assert [*seen, *await collect(stream)] == list(range(20))


@each_instance
@pytest.mark.parametrize("item", [U8, U32, STRING], ids=["u8", "u32", "string"])
async def test_a_guest_that_stops_reading(host: loop.Host, instances: Any, item: Prim) -> None:
    """The producer is closed: its `finally` runs, soon and within the loop."""
    app = await load(host, item, instances)
    value: Any = {U8.wat: 1, U32.wat: 2, STRING.wat: "three"}[item.wat]
    ended = asyncio.Event()
    pulled = 0

    async def produce() -> AsyncIterator[Any]:
        nonlocal pulled
        try:
            while True:
                pulled += 1
                yield value
        finally:
            await asyncio.sleep(0)
            ended.set()

    assert await app.call("sink", produce(), 5, 5) == 5
    async with asyncio.timeout(3):
        await ended.wait()
    assert pulled == 5


@each_instance
async def test_a_guest_that_drops_a_stream_unread(host: loop.Host, instances: Any) -> None:
    app = await load(host, U8, instances)

    class Source:
        """An async iterator with `aclose`, not a generator."""

        def __init__(self) -> None:
            self.closed = asyncio.Event()

        def __aiter__(self) -> "Source":
            return self

        async def __anext__(self) -> bytes:
            raise AssertionError("nobody asked")

        async def aclose(self) -> None:
            self.closed.set()

    source = Source()
    assert await app.call("sink", source, 5, 0) == 0
    async with asyncio.timeout(3):
        await source.closed.wait()
    alive = weakref.ref(source)
    del source
    gc.collect()
    assert alive() is None


@each_instance
async def test_a_producer_that_waits_is_cancelled_with_its_reader(host: loop.Host, instances: Any) -> None:
    """The reader of what the guest makes goes away while the guest waits for its own input."""
    app = await load(host, U8, instances, cancel_grace=0.05)
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def produce() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            waiting.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    stream = await app.call("pump", produce(), 64)
    assert await anext(stream) == b"abc"
    await waiting.wait()
    await host.aclose()
    del stream
    gc.collect()
    async with asyncio.timeout(3):
        await ended.wait()


# ---- backpressure


@pytest.mark.parametrize("item", [U8, U32, STRING], ids=["u8", "u32", "string"])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_producer_is_not_pulled_ahead(host: loop.Host, item: Prim, asynchronous: bool) -> None:
    """One chunk a read of the guest; the guest's one write waits for its reader."""
    value: Any = {U8.wat: b"abc", U32.wat: 7, STRING.wat: "text"}[item.wat]
    pulled = 0

    def numbers() -> Iterator[Any]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield value

    async def asynchronously() -> AsyncIterator[Any]:
        for v in numbers():
            yield v

    app = await load(host, item)
    stream = await app.call("pump", asynchronously() if asynchronous else numbers(), 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert pulled <= 1
    for n in range(1, 10):
        assert len(await stream.read(3)) in (1, 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert pulled <= n + 1
    stream.close()


# ---- errors


@each_instance
async def test_a_trap_reaches_the_reader(host: loop.Host, instances: Any) -> None:
    """What the guest wrote before comes first; then the trap is raised, every time."""
    app = await load(host, U8, instances)
    stream = await app.call("fail", 10)
    assert len(await stream.read(10)) == 10
    for read in (stream.read, stream.__anext__):
        with pytest.raises((GuestTrap, ProviderGone), match="unreachable"):
            async with asyncio.timeout(3):
                await read()
    assert await app.call("sink", b"abc", 10, 10) == 3


@each_instance
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_producer_that_raises(host: loop.Host, instances: Any, asynchronous: bool) -> None:
    error = ZeroDivisionError("in the middle")

    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    async def asynchronously() -> AsyncIterator[int]:
        for n in numbers():
            yield n

    app = await load(host, U32, instances)
    with pytest.raises(ProviderError, match="in the middle") as caught:
        await app.call("sink", asynchronously() if asynchronous else numbers(), 1, 10)
    assert caught.value.__cause__ is error
    assert await app.call("sink", [1, 2], 1, 10) == 2


@each_instance
async def test_reading_is_cancelled_and_goes_on(host: loop.Host, instances: Any) -> None:
    app = await load(host, U8, instances)
    more = asyncio.Event()

    async def produce() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()
        yield b"two"

    stream = await app.call("pump", produce(), 64)
    assert await anext(stream) == b"one"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(stream)
    more.set()
    assert await collect(stream) == [b"two"]


async def test_two_readers_of_one_stream(host: loop.Host) -> None:
    """Each value reaches one of them, or one is refused; neither waits for ever."""
    app = await load(host, U32)
    stream = await app.call("pump", each(range(50)), 1)
    tasks = [asyncio.create_task(collect(stream)) for _ in range(2)]
    done, pending = await asyncio.wait(tasks, timeout=3)
    for task in pending:
        task.cancel()
    assert not pending
    got = [n for t in done if not t.exception() for n in t.result()]
    refused = [t.exception() for t in done if t.exception()]
    assert sorted(got) == list(range(50)) or (refused and isinstance(refused[0], (LoopError, RuntimeError)))


# ---- lives


@each_instance
async def test_a_stream_outlives_its_call(host: loop.Host, instances: Any) -> None:
    """It keeps its instance, which goes when the stream does."""
    app = await load(host, U8, instances)
    streams = [await app.call("pump", [bytes([n])] * 5, 1) for n in range(20)]
    assert await app.call("sink", b"abc", 1, 10) == 3
    gc.collect()
    got = await asyncio.gather(*(collect(s) for s in reversed(streams)))
    assert [b"".join(g) for g in got] == [bytes([n]) * 5 for n in reversed(range(20))]


@each_instance
async def test_streams_do_not_keep_what_they_are_done_with(host: loop.Host, instances: Any) -> None:
    """Far more instances than can be alive at once, each pinned by a stream for a while."""
    app = await load(host, U8, instances)
    for n in range(1500):
        stream = await app.call("pump", [b"abc", b"def"], 64)
        assert await anext(stream) == b"abc"
        if n % 2:
            assert await collect(stream) == [b"def"]
    del stream
    gc.collect()
    assert await app.call("sink", b"abc", 1, 10) == 3


@each_instance
async def test_a_deadline_does_not_end_what_a_call_left(host: loop.Host, instances: Any) -> None:
    """The call has returned in time: reading its stream later is not the call."""
    app = await load(host, U8, instances, deadline=0.05)
    stream = await app.call("source", 10, 5)
    assert len(await stream.read(5)) == 5
    await asyncio.sleep(0.12)
    assert len(await stream.read(5)) == 5


# What a loop goes over is dropped while the error that leaves the loop is on its way; a process that crashes
# there says nothing, so each has one of its own.
RAISING = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
import loop_kit as loop
from loop_kit.testing import client

class Mine(Exception):
    pass

async def component(path, name):
    async with loop.Host(cache=None) as host:
        for instances in ("per-call", 2, "shared"):
            imports = {name: SimpleNamespace(wrote=lambda *_: None)}
            limits = loop.Limits(instances=instances)
            app = await host.load(Path(path).read_bytes(), imports, limits=limits)
            yield f"unread-{instances}", await app.call("source", 10, 5)
            stream = await app.call("source", 10, 5)
            await stream.read(2)
            begun = [stream]
            del stream
            yield f"begun-{instances}", begun.pop()

async def provider(placement):
    grant = {"containers": {"c": {"mode": "rw"}}}
    use = "python:loop_kit.capabilities.blobstore:BlobStore"
    async with client("wasi:blobstore", provider=use, placement=placement, grant=grant) as blobs:
        await blobs.whole.write_object({"container": "c", "object": "k"}, b"x" * 100_000)
        container = await blobs.blobstore.get_container("c")
        yield "data", await container.get_data("k", 0, 100_000)
        yield "names", await container.list_objects()
        yield "handle", await blobs.blobstore.get_container("c")
        yield "call", container.list_objects()

async def main():
    async for what, made in globals()[sys.argv[1]](*sys.argv[2:]):
        held = [made]
        del made
        for _ in range(20):
            await asyncio.sleep(0)  # nothing is left that would wake the loop anyway
        try:
            for _ in (None, held.pop()):
                raise Mine
        except Mine:
            print(what, flush=True)

asyncio.run(main())
"""
PROVIDED = ["data", "names", "handle", "call"]
LOADED = [f"{how}-{i}" for i in ("per-call", 2, "shared") for how in ("unread", "begun")]


@pytest.mark.parametrize(
    ("whose", "told"), [("python", PROVIDED), ("sidecar", PROVIDED), ("component", LOADED)]
)
def test_what_is_dropped_while_an_error_is_raised(tmp_path: Path, whose: str, told: list[str]) -> None:
    arguments = ["provider", whose]
    if whose == "component":
        (tmp_path / "pump.wasm").write_bytes(pump_wasm(U8))
        arguments = ["component", str(tmp_path / "pump.wasm"), HOST]
    command = [sys.executable, "-c", RAISING, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, told), done.stderr


# ---- elsewhere


async def test_streams_within_values_and_imports(host: loop.Host) -> None:
    got: list[bytes] = []

    async def take(stream: Any) -> int:
        got.extend([c async for c in stream])
        return sum(map(len, got))

    async def give(n: int) -> AsyncIterator[bytes]:
        return each([b"\1"] * n)

    app = await host.load(shipping().wasm(), {HOST: SimpleNamespace(take=take, give=give)})
    assert await app.call("send", 1000) == 1000
    assert b"".join(got) == b"\7" * 1000
    assert await app.call("fetch", 50) == 50


async def test_a_plain_async_generator_serves_an_import(host: loop.Host) -> None:
    """As the docs promise: an async generator function is a provider of a stream."""

    async def give(n: int) -> AsyncIterator[bytes]:
        for _ in range(n):
            await asyncio.sleep(0)
            yield b"\2"

    async def take(stream: Any) -> int:
        await stream.aclose()
        return 9

    app = await host.load(shipping().wasm(), {HOST: SimpleNamespace(take=take, give=give)})
    assert await app.call("fetch", 50) == 100
    assert await app.call("send", 50) == 9


async def test_a_record_with_a_stream(host: loop.Host) -> None:
    app = await host.load(shipping().wasm(), {HOST: SimpleNamespace(take=len, give=int)})
    cargo = {"title": "boxes", "body": each([b"one", b"two"]), "size": later(2)}
    title, body, size = await app.call("ship", cargo)
    assert title == "boxes"
    assert b"".join(await collect(body)) == b"onetwo"
    async with asyncio.timeout(3):
        assert await size == 2
    with pytest.raises(loop.Err) as caught:
        await app.call("refuse", {"title": "no", "body": [b"one"], "size": later(2)})
    assert caught.value == loop.Err("no")


@each_instance
async def test_a_stream_is_handed_back(host: loop.Host, instances: Any) -> None:
    """Untouched by the guest, whole or begun."""
    app = await load(host, U8, instances)
    assert b"".join(await collect(await app.call("same", each([b"ab", b"cd"])))) == b"abcd"
    stream = await app.call("same", DATA)
    assert b"".join(await collect(await app.call("same", stream))) == DATA


@each_instance
@pytest.mark.parametrize("item", [U8, STRING, POINT], ids=["u8", "string", "record"])
async def test_a_stream_goes_on_to_another_component(host: loop.Host, instances: Any, item: Type) -> None:
    one, two = await load(host, item, instances), await load(host, item, instances)
    items: Any = {
        U8: [b"abc"] * 20,
        STRING: ["text", "é"] * 10,
        POINT: [{"name": "n", "x": 5}] * 10,
    }[item]
    stream = await one.call("pump", each(items), 4)
    stream = await two.call("pump", stream, 3)
    stream = await one.call("pump", stream, 5)
    got = await collect(stream)
    if item is U8:
        assert b"".join(got) == b"abc" * 20
    elif item is STRING:
        assert got == items
    else:
        assert [plain(g) for g in got] == [("n", 5)] * 10


async def test_a_stream_that_was_handed_on_cannot_be_read(host: loop.Host) -> None:
    app = await load(host, U8, "shared")
    stream = await app.call("same", DATA)
    back = await app.call("same", stream)
    with pytest.raises((LoopError, RuntimeError), match="handed on"):
        await stream.read()
    with pytest.raises((LoopError, RuntimeError), match="handed on"):
        await app.call("sink", stream, 5, 5)
    assert b"".join(await collect(back)) == DATA
