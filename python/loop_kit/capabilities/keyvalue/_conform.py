"""What every provider of `wasi:keyvalue` must do."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from loop_kit import Err
from loop_kit.capabilities.keyvalue._server import running
from loop_kit.conform import Provided, Scene, Suite, expect, fails

__all__ = ["SUITE"]

_NO_FILE = "it keeps all in its own memory"
_NO_SIZE = "JetStream bounds its buckets itself, and counts its own bytes too"


def _in_nats(folder: Path) -> dict[str, Any]:
    """Buckets of a case's own."""
    return {"url": running(), "prefix": hashlib.sha256(bytes(folder)).hexdigest()[:16]}


SUITE = Suite(
    "wasi:keyvalue",
    (
        Provided("builtin:keyvalue"),
        Provided("python:loop_kit.capabilities.keyvalue:KeyValue"),
        Provided(
            "python:loop_kit.capabilities.keyvalue:NatsKeyValue",
            place=_in_nats,
            without={
                "store: a bucket has a bound": _NO_SIZE,
                "store: a bound holds for what was there before it": _NO_SIZE,
            },
        ),
        Provided(
            "component:loop:keyvalue/memory",
            without={
                "store: a bound holds for what was there before it": _NO_FILE,
                "store: what was set stays, and is seen by everybody": _NO_FILE,
                "atomics: no increment is lost, whoever makes it": _NO_FILE,
            },
        ),
    ),
)

_BUCKET = "b"


def _grant(**more: Any) -> dict[str, Any]:
    """A bucket to read and write."""
    return {"buckets": {_BUCKET: {"mode": "rw"} | more.pop("bucket", {})}} | more


def _shared(scene: Scene, **more: Any) -> dict[str, Any]:
    """The config by which clients share what is kept."""
    return {} if scene.way.provided.place else {"path": str(scene.folder / "kv.db"), **more}


async def _refused(made: Any, what: str) -> tuple[str, Any]:
    """The `error` that a call fails with, and its words."""
    error = await fails(made, Err, what)
    assert isinstance(error, Err)
    code: Any = error.value
    return str(code.case), getattr(code, "value", None)


async def _keys(bucket: Any) -> list[str]:
    """All keys, page after page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await bucket.list_keys(cursor)
        found += page.keys
        cursor = page.cursor
        if cursor is None:
            return found


@SUITE.case("store", "a value is what was set last, byte for byte")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as kv:
        bucket = await kv.store.open(_BUCKET)
        expect((await bucket.get("k"), await bucket.exists("k")), (None, False), "what is not there")
        for value in (b"", b"v", bytes(range(256)) * 100, b"last"):
            await bucket.set("k", value)
            expect(bytes(await bucket.get("k")) == value, True, f"{len(value)} bytes")
        expect(await bucket.exists("k"), True, "a key that is there")
        for key in ("", " ", "é\0ü", "'; DROP TABLE x; --", "k" * 1024):
            await bucket.set(key, key.encode())
            expect(bytes(await bucket.get(key)), key.encode(), repr(key[:30]))


@SUITE.case("store", "a deleted key is not there, and again is nothing")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as kv:
        bucket = await kv.store.open(_BUCKET)
        await bucket.set("k", b"v")
        for _ in range(2):
            await bucket.delete("k")
            expect((await bucket.get("k"), await bucket.exists("k")), (None, False), "a deleted key")


@SUITE.case("store", "buckets are apart from one another, and handles of one are the same bucket")
async def _(scene: Scene) -> None:
    async with scene.client({"buckets": {"a": {"mode": "rw"}, "": {"mode": "rw"}}}) as kv:
        first, other, again = [await kv.store.open(name) for name in ("a", "", "a")]
        await first.set("k", b"a")
        expect(await other.get("k"), None, "the same key in another bucket")
        expect(bytes(await again.get("k")), b"a", "the same bucket")


@SUITE.case("store", "what was not granted is denied")
async def _(scene: Scene) -> None:
    grant = {"buckets": {"ro": {}, "rw": {"mode": "rw"}}}
    async with scene.client(grant) as kv:
        for name in ("none", "", "RW", "rw "):
            expect((await _refused(kv.store.open(name), name))[0], "access-denied", repr(name))
        bucket = await kv.store.open("ro")
        expect(await bucket.get("k"), None, "reading")
        for what, made in (
            ("set", bucket.set("k", b"v")),
            ("delete", bucket.delete("k")),
            ("increment", kv.atomics.increment(bucket, "k", 1)),
            ("set-many", kv.batch.set_many(bucket, [("k", b"v")])),
            ("delete-many", kv.batch.delete_many(bucket, ["k"])),
        ):
            expect((await _refused(made, what))[0], "access-denied", what)
        expect(await _keys(bucket), [], "what is there afterwards")


@SUITE.case("store", "every key is listed once, a page at a time")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-list": 7})) as kv:
        bucket = await kv.store.open(_BUCKET)
        expect(await _keys(bucket), [], "an empty bucket")
        for count in (7, 8, 30):
            keys = [f"k{i}" for i in range(count)]
            await kv.batch.set_many(bucket, [(key, b"") for key in keys])
            page = await bucket.list_keys(None)
            expect((len(page.keys), page.cursor is None), (7, count == 7), f"the first page of {count}")
            found = await _keys(bucket)
            expect((len(found), set(found)), (count, set(keys)), f"all of {count}")
        page = await bucket.list_keys(None)
        await kv.batch.delete_many(bucket, [f"k{i}" for i in range(0, 30, 2)])
        rest = set(page.keys)
        while page.cursor is not None:
            page = await bucket.list_keys(page.cursor)
            rest |= set(page.keys)
        expect({f"k{i}" for i in range(1, 30, 2)} <= rest, True, "what stayed, while others were deleted")
        expect((await bucket.list_keys(2**53 - 1)).keys, [], "a page after the last")


@SUITE.case("store", "keys and values have bounds")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-key": 4, "max-value": 10})) as kv:
        bucket = await kv.store.open(_BUCKET)
        await bucket.set("éé", b"x" * 10)
        for what, made, key in (
            ("a key to set", bucket.set("ééx", b""), "max-key"),
            ("a key to get", bucket.get("ééx"), "max-key"),
            ("a value", bucket.set("k", b"x" * 11), "max-value"),
            ("a value among others", kv.batch.set_many(bucket, [("a", b""), ("k", b"x" * 11)]), "max-value"),
        ):
            case, words = await _refused(made, what)
            expect((case, f"`grant.{key}`" in str(words)), ("other", True), f"{what}: {words}")
        expect(await _keys(bucket), ["éé"], "what is there afterwards")


@SUITE.case("store", "a bucket has a bound")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(bucket={"max-size": 30})) as kv:
        bucket = await kv.store.open(_BUCKET)
        await bucket.set("éé", b"x" * 10)
        await bucket.set("b", b"x" * 10)  # 14 + 11 bytes
        case, words = await _refused(bucket.set("cc", b"x" * 10), "too much in all")
        expect((case, "`max-size`" in str(words)), ("other", True), f"too much in all: {words}")
        expect(await bucket.get("cc"), None, "what was too much")
        await bucket.set("b", b"")
        await bucket.set("cc", b"x" * 10)
        await bucket.delete("cc")
        await bucket.set("dd", b"x" * 10)
        expect(len(await _keys(bucket)), 3, "keys, once there is room again")


@SUITE.case("store", "a bound holds for what was there before it")
async def _(scene: Scene) -> None:
    config = _shared(scene)
    async with scene.client(_grant(), config) as kv:
        await (await kv.store.open(_BUCKET)).set("k", b"x" * 90)
    async with scene.client(_grant(bucket={"max-size": 100}), config) as kv:
        bucket = await kv.store.open(_BUCKET)
        expect((await _refused(bucket.set("l", b"x" * 9), "one byte too many"))[0], "other", "one too many")
        await bucket.set("l", b"x" * 8)


@SUITE.case("store", "what was set stays, and is seen by everybody")
async def _(scene: Scene) -> None:
    config = _shared(scene)
    async with scene.client(_grant(), config) as kv:
        bucket = await kv.store.open(_BUCKET)
        await bucket.set("k", b"v")
        async with scene.client({"buckets": {_BUCKET: {}}}, config) as other:
            seen = await other.store.open(_BUCKET)
            expect(bytes(await seen.get("k")), b"v", "what was there")
            await bucket.set("k", b"w")
            expect(bytes(await seen.get("k")), b"w", "what was written meanwhile")
    async with scene.client(_grant(), _shared(scene, durability="normal")) as kv:
        expect(bytes(await (await kv.store.open(_BUCKET)).get("k")), b"w", "what was left")


@SUITE.case("atomics", "a number grows, from nothing and from what is there")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as kv:
        bucket = await kv.store.open(_BUCKET)
        expect(await kv.atomics.increment(bucket, "n", 5), 5, "from nothing")
        expect(await kv.atomics.increment(bucket, "n", 0), 5, "by nothing")
        expect(bytes(await bucket.get("n")), b"5", "what is stored")
        await bucket.set("n", b"41")
        expect(await kv.atomics.increment(bucket, "n", 1), 42, "from what was set")
        for value in (b"x", b"", b"-1", b"1.5", str(2**64).encode(), "٣".encode()):
            await bucket.set("n", value)
            made = kv.atomics.increment(bucket, "n", 1)
            expect((await _refused(made, repr(value)))[0], "other", repr(value))
            expect(bytes(await bucket.get("n")), value, "what is left")
        await bucket.set("n", str(2**53 - 2).encode())
        expect(await kv.atomics.increment(bucket, "n", 1), 2**53 - 1, "a large number")
        await bucket.set("n", str(2**64 - 1).encode())
        expect((await _refused(kv.atomics.increment(bucket, "n", 1), "too large"))[0], "other", "too large")


@SUITE.case("atomics", "no increment is lost, whoever makes it")
async def _(scene: Scene) -> None:
    config = _shared(scene, durability="normal")
    async with scene.client(_grant(), config) as one, scene.client(_grant(), config) as two:
        buckets = [(kv, await kv.store.open(_BUCKET)) for kv in (one, two)]
        made = [kv.atomics.increment(bucket, "n", 1) for _ in range(50) for kv, bucket in buckets]
        expect(sorted(await asyncio.gather(*made)), list(range(1, 101)), "a hundred increments at once")


@SUITE.case("batch", "many keys are read, set and deleted at once")
async def _(scene: Scene) -> None:
    async with scene.client(_grant()) as kv:
        bucket = await kv.store.open(_BUCKET)
        expect(await kv.batch.get_many(bucket, []), [], "none")
        await kv.batch.set_many(bucket, [])
        await kv.batch.set_many(bucket, [("a", b"1"), ("b", b"2"), ("a", b"3")])
        got = await kv.batch.get_many(bucket, ["b", "x", "a", "b"])
        got = [pair and (pair[0], bytes(pair[1])) for pair in got]
        expect(got, [("b", b"2"), None, ("a", b"3"), ("b", b"2")], "in the order asked for")
        await kv.batch.delete_many(bucket, ["a", "x"])
        expect(await _keys(bucket), ["b"], "what is left")


@SUITE.case("batch", "no more keys at once than the grant says")
async def _(scene: Scene) -> None:
    async with scene.client(_grant(**{"max-batch": 2})) as kv:
        bucket = await kv.store.open(_BUCKET)
        await kv.batch.set_many(bucket, [("a", b""), ("b", b"")])
        for what, made in (
            ("get-many", kv.batch.get_many(bucket, ["a", "b", "c"])),
            ("set-many", kv.batch.set_many(bucket, [(key, b"") for key in "cde"])),
            ("delete-many", kv.batch.delete_many(bucket, ["a", "b", "c"])),
        ):
            case, words = await _refused(made, what)
            expect((case, "`grant.max-batch`" in str(words)), ("other", True), f"{what}: {words}")
        expect(await _keys(bucket), ["a", "b"], "what is there afterwards")
