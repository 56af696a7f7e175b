"""What every provider of `wasi:blobstore` must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from loop_kit import Err, Ok
from loop_kit.conform import Provided, Scene, Suite, expect, fails

__all__ = ["PROVIDER", "SUITE"]

PROVIDER = "python:loop_kit.capabilities.blobstore:BlobStore"

_IN_MEMORY = {
    f"container: {case}": "it keeps all in its own memory"
    for case in ("what was stored stays, and is seen by everybody", "a bound counts what was there before it")
}

SUITE = Suite(
    "wasi:blobstore",
    (
        Provided(PROVIDER, label="memory", without=_IN_MEMORY),
        Provided(
            PROVIDER,
            label="files",
            place=lambda folder: {"backend": "files", "path": str(folder / "blobs")},
        ),
        Provided(
            "component:loop:blobstore/memory",
            without=_IN_MEMORY
            | {
                "container: what is cancelled leaves what was there": "where it is served, a stream that "
                "breaks ends the instance, and with it all that it keeps"
            },
        ),
    ),
)

_ALL = (1 << 64) - 1
_C = "c"


def _grant(**more: Any) -> dict[str, Any]:
    """A container to read and write."""
    return {"containers": {_C: {"mode": "rw"} | more.pop("container", {})}} | more


async def refused(made: Any, what: str) -> tuple[str, str]:
    """The `error` that a call fails with, and its words."""
    error = await fails(made, Err, what)
    assert isinstance(error, Err)
    code: Any = error.value
    return str(code.case), str(getattr(code, "value", ""))


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _done(end: Any) -> Any:
    return end


async def _read(container: Any, name: str, start: int = 0, end: int = _ALL) -> bytes:
    stream, ended = await container.get_data(name, start, end)
    data = b"".join([bytes(chunk) async for chunk in stream])
    expect(await ended, Ok(None), f"the end of {name!r}")
    return data


async def _names(container: Any) -> list[str]:
    """All names, sorted."""
    stream, ended = await container.list_objects()
    found = sorted([name async for name in stream])
    expect(await ended, Ok(None), "the end of the names")
    return found


def _is_time(seconds: int) -> bool:
    return seconds == 0 or seconds > 1_700_000_000


def _of(name: str, container: str = _C) -> dict[str, str]:
    return {"container": container, "object": name}


@SUITE.case("blobstore", "a container is made, is there, and goes with what is in it")
async def _(scene: Scene) -> None:
    async with scene.client({"containers": {"own-*": {"mode": "rw", "create": True}}}) as blobs:
        store = blobs.blobstore
        for name in ("own-", "own-a/b", "own-..", "own-é %2F"):
            expect(await store.container_exists(name), False, f"{name!r}, before")
            expect((await refused(store.get_container(name), name))[0], "no-such-container", name)
            made = await store.create_container(name)
            expect(await made.name(), name, "its name")
            expect((await refused(store.create_container(name), name))[0], "container-exists", "again")
            await made.write_data("k", _stream(b"v"), None)
            known = await (await store.get_container(name)).info()
            expect((known.name, _is_time(known.created_at)), (name, True), "what is known of it")
            await store.delete_container(name)
            expect(await store.container_exists(name), False, f"{name!r}, after")
            expect((await refused(made.object_info("k"), name))[0], "no-such-container", "its object")
            case, _ = await refused(made.write_data("k", _stream(b"v"), None), name)
            expect(case, "no-such-container", "writing to it")
            expect((await refused(store.delete_container(name), name))[0], "no-such-container", "again")
            await store.create_container(name)
            expect(await _names(await store.get_container(name)), [], "a new one")
            await store.delete_container(name)


@SUITE.case("blobstore", "a container that the grant names is there")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(), {}) as blobs:
        expect(await blobs.blobstore.container_exists(_C), True, "the container")
        expect((await refused(blobs.whole.read_object(_of("k")), "k"))[0], "no-such-object", "an object")
        expect(await blobs.whole.list_objects(_C, None), [], "its names")


@SUITE.case("blobstore", "what was not granted is denied")
async def _(scene: Scene) -> None:
    grant = {
        "containers": {
            "rw": {"mode": "rw"},
            "own-*": {"mode": "rw", "create": True},
            "own-ro-*": {},
            "ro": {},
        }
    }
    async with scene.client(grant) as blobs:
        store, whole = blobs.blobstore, blobs.whole
        await whole.write_object(_of("k", "rw"), b"v")
        denied = {
            "another container": store.get_container("none"),
            "whether it is there": store.container_exists("none"),
            "a name that only begins so": store.get_container("rwx"),
            "a name in other letters": store.get_container("RW"),
            "making another one": store.create_container("none"),
            "making one that is there": store.create_container("rw"),
            "deleting one": store.delete_container("rw"),
            "making one that is read-only": store.create_container("own-ro-x"),
            "copying to read-only": store.copy_object(_of("k", "rw"), _of("k", "ro")),
            "copying from elsewhere": store.copy_object(_of("k", "none"), _of("k", "rw")),
            "moving from read-only": store.move_object(_of("k", "ro"), _of("k", "rw")),
            "writing to read-only": whole.write_object(_of("k", "ro"), b""),
            "deleting from read-only": whole.delete_object(_of("k", "ro")),
            "reading elsewhere": whole.read_object(_of("k", "none")),
            "listing elsewhere": whole.list_objects("none", None),
        }
        for what, made in denied.items():
            expect((await refused(made, what))[0], "access-denied", what)
        expect(bytes(await whole.read_object(_of("k", "rw"))), b"v", "what is there afterwards")


@SUITE.case("blobstore", "no more containers are made than the grant says")
async def _(scene: Scene) -> None:
    grant = {
        "containers": {"own-*": {"mode": "rw", "create": True}, "c": {"mode": "rw"}},
        "max-containers": 2,
    }
    async with scene.client(grant) as blobs:
        store = blobs.blobstore
        await store.get_container("c")
        for name in ("own-1", "own-2"):
            await store.create_container(name)
        case, words = await refused(store.create_container("own-3"), "a third")
        expect((case, "`grant.max-containers`" in words), ("quota", True), f"a third: {words}")
        for name in ("own-1", "own-2"):
            await store.delete_container(name)
        at_once = [store.create_container(f"own-{i}") for i in range(5)]
        made = await asyncio.gather(*at_once, return_exceptions=True)
        expect(sum(not isinstance(one, Exception) for one in made), 2, "those of five at once")


@SUITE.case("blobstore", "an object is copied and moved")
async def _(scene: Scene) -> None:
    async with scene.client({"containers": {"a": {"mode": "rw"}, "b": {"mode": "rw"}}}) as blobs:
        store, whole = blobs.blobstore, blobs.whole
        await whole.write_object(_of("k", "a"), b"v" * 300_000)
        await whole.write_object(_of("k", "b"), b"old")
        await store.copy_object(_of("k", "a"), _of("k", "b"))
        await store.move_object(_of("k", "a"), _of("l", "a"))
        for of in (_of("k", "b"), _of("l", "a")):
            expect(bytes(await whole.read_object(of)) == b"v" * 300_000, True, str(of))
        expect((await refused(whole.read_object(_of("k", "a")), "moved"))[0], "no-such-object", "moved")
        for move in (store.copy_object, store.move_object):
            await move(_of("l", "a"), _of("l", "a"))
            expect((await whole.object_info(_of("l", "a"))).size, 300_000, "one on itself")
            case, _ = await refused(move(_of("x", "a"), _of("l", "a")), "one that is not there")
            expect(case, "no-such-object", "one that is not there")
        expect((await whole.object_info(_of("l", "a"))).size, 300_000, "what is left")


@SUITE.case("container", "an object is what was written last, byte for byte")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        some = bytes(range(256)) * 4096
        for chunks in ([], [b"v"], [b"", b"a", b"", b"b"], [some] * 6, [some[:70_001]] * 3, [b"last"]):
            size = await container.write_data("k", _stream(*chunks), _done(Ok(None)))
            expect(size, sum(map(len, chunks)), "its size")
            expect(await _read(container, "k") == b"".join(chunks), True, f"{size} bytes")
            known = await container.object_info("k")
            expect((known.name, known.container, known.size), ("k", _C, size), "what is known of it")
            expect(_is_time(known.created_at), True, "when it was written")


@SUITE.case("container", "any name is the name of one object")
async def _(scene: Scene) -> None:
    names = [
        "",
        " ",
        ".",
        "..",
        "../k",
        "/",
        "/k",
        "a",
        "a/",
        "a//b",
        "a/b",
        "a/../b",
        "a/./b",
        ".loop-1.tmp",
    ]
    names += [
        "%",
        "%2F",
        "a%2Fb",
        "%container",
        "é\0ü",
        "\x7f\n",
        "A",
        "k" * 255,
        "*",
        "a*b",
        "'\"\\<>&?#",
        "日本",
    ]
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        for name in names:
            await container.write_data(name, _stream(name.encode()), None)
        expect(await _names(container), sorted(names), "all names")
        for name in names:
            expect(await _read(container, name), name.encode(), repr(name))
        for name in names[::2]:
            await container.delete_object(name)
        expect(await _names(container), sorted(names[1::2]), "those that are left")


@SUITE.case("container", "a part is read from the first to the last byte of it")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        data = bytes(range(251)) * 2000
        await container.write_data("k", _stream(data), None)
        await container.write_data("empty", _stream(), None)
        last = len(data) - 1
        for start, end in ((0, 0), (5, 9), (last, last), (last, _ALL), (300_000, 400_000), (1, last + 1)):
            expect(
                await _read(container, "k", start, end) == data[start : end + 1], True, f"{start} to {end}"
            )
        for start, end in ((last + 1, last + 1), (last + 1, _ALL), (_ALL, _ALL), (1 << 62, 1 << 63)):
            expect(await _read(container, "k", start, end), b"", f"{start} to {end}")
        expect(await _read(container, "empty", 0, 0), b"", "a part of nothing")
        expect((await refused(container.get_data("k", 2, 1), "2 to 1"))[0], "invalid", "2 to 1")
        expect((await refused(container.get_data("x", 0, 1), "none"))[0], "no-such-object", "none")


@SUITE.case("container", "what is not finished leaves what was there")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        await container.write_data("k", _stream(b"old"), None)
        for name in ("k", "l"):
            for data in ([b"new"], [b"x" * (1 << 20)] * 6):
                made = container.write_data(name, _stream(*data), _done(Err(None)))
                expect((await refused(made, name))[0], "given-up", f"{name}, unfinished")
        expect(await _names(container), ["k"], "what is there")
        expect(await _read(container, "k"), b"old", "what was there")


@SUITE.case("container", "what is cancelled leaves what was there")
async def _(scene: Scene) -> None:
    async def endless(begun: asyncio.Event) -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * (1 << 20)
        begun.set()
        await asyncio.Event().wait()

    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        await container.write_data("k", _stream(b"old"), None)
        for name in ("k", "l"):
            begun = asyncio.Event()
            writing = asyncio.ensure_future(container.write_data(name, endless(begun), None))
            await begun.wait()
            writing.cancel()
            await fails(writing, asyncio.CancelledError, name)
        expect(await _names(container), ["k"], "what is there")
        expect(await _read(container, "k"), b"old", "what was there")


@SUITE.case("container", "who reads sees what one call has written")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        await container.write_data("k", _stream(b"0" * 200_000), None)

        async def write(n: int) -> None:
            for _ in range(4):
                await container.write_data("k", _stream(*[str(n).encode() * 50_000] * 4), None)

        async def read() -> None:
            for _ in range(8):
                data = bytes(await blobs.whole.read_object(_of("k")))
                expect((len(data), len(set(data))), (200_000, 1), "bytes, and different ones")

        await asyncio.gather(*(write(n) for n in range(1, 4)), read(), read())


@SUITE.case("container", "what is being read stays as it was, whatever comes of it")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        container = await blobs.blobstore.get_container(_C)
        for replaced in (True, False):
            await container.write_data("k", _stream(*[b"x" * (1 << 20)] * 3), None)
            stream, ended = await container.get_data("k", 0, _ALL)
            if replaced:
                await container.write_data("k", _stream(b"new"), None)
            else:
                await container.delete_object("k")
            data = b"".join([bytes(chunk) async for chunk in stream])
            expect((len(data), set(data)), (3 << 20, {ord("x")}), "its bytes")
            expect(await ended, Ok(None), "its end")


@SUITE.case("container", "every object is listed once, and goes when it is deleted")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-batch": 40})) as blobs:
        container = await blobs.blobstore.get_container(_C)
        expect(await _names(container), [], "an empty container")
        names = [f"n{i:02}" for i in range(40)]
        for name in names:
            await container.write_data(name, _stream(b"v"), None)
        expect(await _names(container), names, "all")
        await container.delete_object("n00")
        await container.delete_object("n00")
        expect([await container.has_object(name) for name in names[:2]], [False, True], "what is there")
        await container.delete_objects(["n01", "none", "n03", "n03"])
        await container.delete_objects([])
        expect(await _names(container), ["n02", *names[4:]], "what is left")
        await container.clear()
        expect(await _names(container), [], "a cleared container")
        await container.clear()


@SUITE.case("container", "objects and containers have bounds")
async def _(scene: Scene) -> None:
    bounds = {"max-object": 20, "max-name": 4, "max-batch": 2}
    async with scene.client(_grant(container={"max-size": 30, "max-objects": 3}, **bounds)) as blobs:
        container = await blobs.blobstore.get_container(_C)
        store, whole = blobs.blobstore, blobs.whole

        async def beyond(made: Any, key: str, what: str) -> None:
            case, words = await refused(made, what)
            wanted = "invalid" if key == "grant.max-name" else "quota"
            expect((case, f"`{key}`" in words), (wanted, True), f"{what}: {words}")

        await container.write_data("éé", _stream(b"x" * 20), None)
        await beyond(container.write_data("ééx", _stream(b""), None), "grant.max-name", "a name to write")
        await beyond(container.get_data("ééx", 0, 0), "grant.max-name", "a name to read")
        await beyond(whole.write_object(_of("k"), b"x" * 21), "grant.max-object", "a large object")
        two = _stream(b"x" * 10, b"x" * 11)
        await beyond(container.write_data("k", two, None), "grant.max-object", "one in pieces")
        await beyond(container.delete_objects(["a", "b", "c"]), "grant.max-batch", "many names")
        await beyond(whole.write_object(_of("k"), b"x" * 11), "max-size", "too much in all")
        await beyond(store.copy_object(_of("éé"), _of("k")), "max-size", "a copy that is too much")
        expect(await _names(container), ["éé"], "what is there")
        await whole.write_object(_of("éé"), b"y" * 20)
        await whole.write_object(_of("b"), b"x" * 10)
        await beyond(whole.write_object(_of("b"), b"x" * 11), "max-size", "one byte more")
        expect(bytes(await whole.read_object(_of("b"))), b"x" * 10, "what could not be replaced")
        await whole.write_object(_of("c"), b"")
        await beyond(whole.write_object(_of("d"), b""), "max-objects", "a fourth")
        await container.delete_objects(["éé", "éé"])
        await whole.write_object(_of("d"), b"x" * 20)
        await beyond(whole.write_object(_of("c"), b"x"), "max-size", "one byte more, after deleting")
        await container.clear()
        await whole.write_object(_of("d"), b"x" * 20)
        await whole.write_object(_of("e"), b"x" * 10)
        await beyond(whole.write_object(_of("f"), b"x"), "max-size", "one byte more, after clearing")


@SUITE.case("container", "no more streams are open than the grant says")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-streams": 2})) as blobs:
        container = await blobs.blobstore.get_container(_C)
        size = 16 << 20  # more than is on its way at once
        await container.write_data("k", _stream(*[b"x" * (1 << 20)] * 16), None)
        opened = [await container.get_data("k", 0, _ALL) for _ in range(2)]
        for what, make in (
            ("a third to read", lambda: container.get_data("k", 0, 1)),
            ("one to list", container.list_objects),
            ("one to write", lambda: container.write_data("l", _stream(b"x"), None)),
        ):
            case, words = await refused(make(), what)
            expect((case, "`grant.max-streams`" in words), ("quota", True), f"{what}: {words}")
        while opened:
            stream, ended = opened.pop()
            expect(sum([len(chunk) async for chunk in stream]), size, "one that was open")
            expect(await ended, Ok(None), "its end")
        for _ in range(5):
            expect(await _read(container, "k", size - 1), b"x", "once there is room again")


@SUITE.case("container", "what was stored stays, and is seen by everybody")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        await blobs.whole.write_object(_of("k"), b"v")
        async with scene.client({"containers": {_C: {}}}) as others:
            expect(bytes(await others.whole.read_object(_of("k"))), b"v", "what was there")
            await blobs.whole.write_object(_of("k"), b"w")
            expect(bytes(await others.whole.read_object(_of("k"))), b"w", "what was written meanwhile")
    async with scene.client(_grant()) as blobs:
        expect(bytes(await blobs.whole.read_object(_of("k"))), b"w", "what was left")


@SUITE.case("container", "a bound counts what was there before it")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as blobs:
        await blobs.whole.write_object(_of("k"), b"x" * 90)
    async with scene.client(_grant(container={"max-size": 100})) as blobs:
        made = blobs.whole.write_object(_of("l"), b"x" * 11)
        expect((await refused(made, "one byte too many"))[0], "quota", "one byte too many")
        await blobs.whole.write_object(_of("l"), b"x" * 10)


@SUITE.case("whole", "an object is written and read at once")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-whole": 300_000})) as blobs:
        whole = blobs.whole
        for data in (b"", b"v", bytes(range(256)) * 1000):
            await whole.write_object(_of("k"), data)
            expect(bytes(await whole.read_object(_of("k"))) == data, True, f"{len(data)} bytes")
            expect((await whole.object_info(_of("k"))).size, len(data), "its size")
        expect(bytes(await whole.read_range(_of("k"), 1, 3)), b"\x01\x02\x03", "a part")
        await whole.write_object(_of("k"), b"x" * 300_001)
        case, words = await refused(whole.read_object(_of("k")), "a large one")
        expect((case, "`grant.max-whole`" in words), ("quota", True), f"a large one: {words}")
        expect(len(await whole.read_range(_of("k"), 1, _ALL)), 300_000, "a part of a large one")
        for _ in range(2):
            await whole.delete_object(_of("k"))
            for made in (whole.read_object(_of("k")), whole.object_info(_of("k"))):
                expect((await refused(made, "a deleted one"))[0], "no-such-object", "a deleted one")


@SUITE.case("whole", "names come a page at a time")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-list": 7})) as blobs:
        names = {f"n/{i}" for i in range(15)} | {"é", "a b"}
        for name in names:
            await blobs.whole.write_object(_of(name), b"")
        found: list[str] = []
        while page := await blobs.whole.list_objects(_C, found[-1] if found else None):
            expect(len(page) <= 7, True, "a page")
            found += page
        expect((len(found), set(found)), (17, names), "all pages")
