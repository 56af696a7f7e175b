"""What goes through streams between Python and guests, both ways."""

import hashlib
import random
from array import array
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError, ProviderError
from tests.pumps import POINT, collect, each, load, plain
from tests.wit_types import F64, S8, S16, S64, STRING, U8, U16, U32, List, Option, Tuple, Type

each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])


@pytest.fixture
async def host() -> AsyncIterator[loop.Host]:
    async with loop.Host(cache=None) as host:
        yield host


# ---- bytes


DATA = random.Random(5).randbytes(200_000)


def chunks(size: int) -> Iterator[bytes]:
    return (DATA[i : i + size] for i in range(0, len(DATA), size))


@each_instance
@pytest.mark.parametrize("size", [1021, 4096, 65_537, 200_000])
@pytest.mark.parametrize("cap", [777, 65_536, 300_000])
async def test_bytes_both_ways(host: loop.Host, instances: Any, size: int, cap: int) -> None:
    app = await load(host, U8, instances)
    sources = (
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        array("B", DATA),
        chunks(size),
        list(chunks(size)),
        each(chunks(size)),
        (bytearray(c) for c in chunks(size)),
    )
    for source in sources:
        got = await collect(await app.call("pump", source, cap))
        assert all(type(c) is bytes for c in got)
        assert max(map(len, got)) <= min(cap, 65_536)
        assert b"".join(got) == DATA


async def test_single_bytes_as_numbers(host: loop.Host) -> None:
    app = await load(host)
    for source in ([1, 2, 255], each([1, 2, 255]), (n for n in (1, 2, 255)), [b"\1", [2], 255]):
        assert b"".join(await collect(await app.call("pump", source, 2))) == bytes([1, 2, 255])


async def test_empty_streams_and_empty_chunks(host: loop.Host) -> None:
    app = await load(host)
    for source in (b"", [], iter(()), each([]), [b"", b""], each([b"", b""])):
        assert await collect(await app.call("pump", source, 64)) == []
        assert await app.call("sink", b"", 64, 64) == 0
    assert b"".join(await collect(await app.call("pump", [b"", b"a", b"", b"bc", b""], 64))) == b"abc"


async def test_reads_of_chosen_sizes(host: loop.Host) -> None:
    app = await load(host)
    stream = await app.call("pump", DATA[:1000], 300)
    got = [await stream.read(n) for n in (1, 7, 292, 299, 10_000)]
    assert [len(g) for g in got] == [1, 7, 292, 299, 1]
    rest = await stream.read(10_000)
    assert b"".join([*got, rest]) == DATA[:900]
    assert await stream.read() == DATA[900:1000]
    assert await stream.read() == b""
    assert await stream.read() == b""
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_hundred_megabytes(host: loop.Host) -> None:
    app = await load(host, U8, deadline=None, cpu=None)
    block = random.Random(1).randbytes(1 << 20)
    sent, got = hashlib.sha256(), hashlib.sha256()

    async def produce() -> AsyncIterator[bytes]:
        for n in range(100):
            chunk = block[n:] + block[:n]
            sent.update(chunk)
            yield chunk

    size = 0
    async for chunk in await app.call("pump", produce(), 65_536):
        got.update(chunk)
        size += len(chunk)
    assert size == 100 << 20
    assert got.digest() == sent.digest()


# ---- other elements


ITEMS: dict[str, tuple[Type, Any]] = {
    "s8": (S8, lambda n: n % 256 - 128),
    "u16": (U16, lambda n: n * 31 % 65_536),
    "s16": (S16, lambda n: -n),
    "u32": (U32, lambda n: n * 7_919),
    "s64": (S64, lambda n: -n * 10**12),
    "f64": (F64, lambda n: n / 3),
    "string": (STRING, lambda n: f"é{n}" * (n % 5)),
    "record": (POINT, lambda n: SimpleNamespace(name=f"n{n}", x=n)),
    "tuple": (Tuple((U8, STRING, F64)), lambda n: (n % 256, f"{n}", n / 7)),
    "option": (Option(List(STRING)), lambda n: None if n % 3 else [f"{n}", "x"]),
    "list": (List(U32), lambda n: list(range(n % 4))),
}


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("cap", [1, 7, 1000])
async def test_elements_both_ways(host: loop.Host, name: str, cap: int) -> None:
    item, make = ITEMS[name]
    items = [make(n) for n in range(500)]
    app = await load(host, item)
    for source in (items, iter(items), each(items)):
        got = await collect(await app.call("pump", source, cap))
        assert [plain(g) for g in got] == [plain(i) for i in items]


@pytest.mark.parametrize("name", ITEMS)
async def test_elements_are_read_in_parts(host: loop.Host, name: str) -> None:
    """The guest writes blocks of 50; the reader takes 1, 6, 43, and what is left."""
    item, make = ITEMS[name]
    items = [make(n) for n in range(150)]
    app = await load(host, item)
    stream = await app.call("pump", items, 50)
    got: list[Any] = []
    for size in (1, 6, 43, 49, 200, 8):
        part = await stream.read(size)
        assert 0 < len(part) <= size
        got.extend(part)
    while part := await stream.read(1000):
        got.extend(part)
    assert [plain(g) for g in got] == [plain(i) for i in items]


async def test_blocks_of_numbers(host: loop.Host) -> None:
    app = await load(host, U32)
    block = array("I", range(1000))
    for source in (block, [block[:400], list(range(400, 1000))], each([block[:1], block[1:]])):
        stream = await app.call("pump", source, 300)
        part = await stream.read(100)
        assert type(part) is loop.Numbers
        assert [*part, *await collect(stream)] == block.tolist()


async def test_streams_of_nothing(host: loop.Host) -> None:
    app = await load(host, None)
    assert await collect(await app.call("pump", [None] * 500, 7)) == [None] * 500
    assert await app.call("sink", each([None] * 100), 7, 1000) == 100
    assert await (await app.call("source", 100, 100)).read(30) == [None] * 30


@pytest.mark.parametrize(
    ("item", "source", "expected", "got"),
    [
        (U8, [1, 256], "u8", "int 256"),
        (U8, ["text"], "u8", "str 'text'"),
        (U32, each([1, -1]), "u32", "int -1"),
        (STRING, ["a", 5], "string", "int 5"),
        (POINT, [SimpleNamespace(name="a", x=1), SimpleNamespace(name="b")], "u32", "namespace"),
    ],
)
async def test_an_element_that_does_not_fit(
    host: loop.Host, item: Type, source: Any, expected: str, got: str
) -> None:
    """Found when the guest reads it: the error names the type and the value."""
    app = await load(host, item)
    with pytest.raises((ArgumentError, ProviderError)) as caught:
        await app.call("sink", source, 10, 10)
    assert expected in str(caught.value)
    assert got in str(caught.value)


@pytest.mark.parametrize("wrong", [5, None, object(), 1.5])
async def test_what_is_no_stream(host: loop.Host, wrong: Any) -> None:
    app = await load(host)
    with pytest.raises(ArgumentError) as caught:
        await app.call("sink", wrong, 10, 10)
    assert (caught.value.parameter, caught.value.expected) == ("p0", "stream<u8>")
