"""Objects in files whose writer is killed, and bounds that hold whatever comes at once."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.capabilities.blobstore import BlobStore
from loop_kit.capabilities.blobstore._conform import PROVIDER
from loop_kit.testing import client
from tests.children import killed
from tests.soaking import Soak

GRANT = {"containers": {"c": {"mode": "rw"}}}
ALL = (1 << 64) - 1

# Tells of what it does, on standard output, once that was answered: object kN has N over and over, as has `last`, and of
# the other objects the last ten are there. N says how long an object is.
WRITER = """
import asyncio, sys
from loop_kit.testing import client

def content(n):
    return str(n).encode() * (1 + n * 7919 % 40_000)

async def pieces(data):
    for at in range(0, len(data), 20_000):
        yield data[at : at + 20_000]

async def main(path, durability, first, provider):
    config = {"backend": "files", "path": path, "durability": durability}
    grant = {"containers": {"c": {"mode": "rw"}}}
    async with client("wasi:blobstore", provider=provider, config=config, grant=grant) as blobs:
        c = await blobs.blobstore.get_container("c")
        n = int(first)
        while True:
            await c.write_data(f"k{n}", pieces(content(n)), None)
            await c.write_data("last", pieces(content(n)), None)
            await c.delete_object(f"k{n - 10}")
            print(n, flush=True)
            n += 1

asyncio.run(main(*sys.argv[1:5]))
"""


def content(n: int) -> bytes:
    return str(n).encode() * (1 + n * 7919 % 40_000)


async def check(path: Path, last: int) -> int:
    """That all up to `last` is there, whole, and what was deleted is not; returns the first number that is free."""
    async with client(
        "wasi:blobstore", provider=PROVIDER, config={"backend": "files", "path": str(path)}, grant=GRANT
    ) as blobs:
        names = set(await blobs.whole.list_objects("c", None))
        told = {f"k{n}" for n in range(max(0, last - 9), last + 1)} | {"last"}
        # what was in flight is there, or not
        assert told - {f"k{last - 9}"} <= names <= told | {f"k{last + 1}"}
        assert f"k{last - 9}" in names or f"k{last + 1}" in names
        for n in (n for n in range(last - 9, last + 2) if f"k{n}" in names):
            got = await blobs.whole.read_object({"container": "c", "object": f"k{n}"})
            assert bytes(got) == content(n), n
        got = bytes(await blobs.whole.read_object({"container": "c", "object": "last"}))
        assert got in (content(last), content(last + 1))
        # who writes next clears away what was left half done
        await blobs.whole.write_object({"container": "c", "object": "last"}, content(last))
        left = {file.name for file in (path / "c").iterdir()} - names
        assert left == set()
    return last + 1


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_what_was_answered_outlives_a_kill(durability: str, tmp_path: Path, soak: Soak) -> None:
    rounds = soak(4, 50)
    chosen = random.Random(11)
    path, first = tmp_path / "blobs", 0
    for number in range(rounds):
        delay, after = chosen.random() * 0.02, chosen.randrange(12, 40)
        args = (path, durability, first, PROVIDER)
        last = await asyncio.to_thread(killed, WRITER, *args, after=after, delay=delay)
        assert last >= first, number
        first = await check(path, last)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_an_answer_comes_after_the_disk_has_it(
    durability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename, unlink, mkdir = os.fsync, os.rename, os.unlink, os.mkdir

    def synced(fd: int) -> None:
        done.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def told(name: str, call: Callable[..., None]) -> None:
        def instead(*args: Any, **more: Any) -> None:
            done.append(name)
            call(*args, **more)

        monkeypatch.setattr(os, name, instead)

    monkeypatch.setattr(os, "fsync", synced)
    told("rename", rename)
    told("unlink", unlink)
    told("mkdir", mkdir)
    config = {"backend": "files", "path": str(tmp_path / "blobs"), "durability": durability}
    store = BlobStore(config=config, grant={"containers": {"c": {"mode": "rw", "create": True}}})
    done.clear()
    container = await store.create_container("c")
    await container.write_data("k", pieces_of(b"v"), None)
    await container.delete_object("k")
    await store.delete_container("c")
    steps = ["mkdir", "sync folder", "sync file", "rename", "sync folder", "unlink", "sync folder"]
    steps += ["rename", "sync folder"]
    wanted = steps if durability == "full" else [step for step in steps if not step.startswith("sync")]
    assert done[: len(wanted)] == wanted


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize("backend", ["memory", "files"])
async def test_bounds_hold_whatever_comes_at_once(backend: str, tmp_path: Path, soak: Soak) -> None:
    """Writes, replaces, deletes, copies and gives up some names at once; what is there never exceeds the bounds."""
    most_size, most_objects = 1000, 6
    config = {"backend": backend} | ({"path": str(tmp_path / "blobs")} if backend == "files" else {})
    grant = {"containers": {"c": {"mode": "rw", "max-size": most_size, "max-objects": most_objects}}}
    store = BlobStore(config=config, grant=grant)
    container = await store.get_container("c")
    chosen = random.Random(5)
    refused = 0

    async def pieces(count: int, stop: bool) -> AsyncIterator[bytes]:
        for _ in range(count):
            await asyncio.sleep(0)
            yield b"x" * 50
        if stop:
            raise Stopped

    def finish(end: object) -> asyncio.Future[object]:
        said = asyncio.get_running_loop().create_future()
        said.set_result(end)
        return said

    async def one() -> None:
        nonlocal refused
        name = f"k{chosen.randrange(9)}"
        what = chosen.randrange(10)
        try:
            if what < 6:
                done = finish(loop.Err(None) if what == 5 else loop.Ok(None))
                await container.write_data(name, pieces(chosen.randrange(9), what == 4), done)
            elif what < 8:
                await container.delete_objects([name, f"k{chosen.randrange(9)}"])
            else:
                await store.copy_object(Of("c", name), Of("c", f"k{chosen.randrange(9)}"))
        except loop.Err as error:
            code: Any = error.value
            case = code if isinstance(code, str) else code[0]
            assert case in ("quota", "no-such-object", "given-up")
            refused += case == "quota"
        except Stopped:
            pass

    for _ in range(soak(60, 2000)):
        await asyncio.gather(*(one() for _ in range(8)))
        names, _ = await container.list_objects()
        sizes = [(await container.object_info(name)).size async for name in names]
        assert len(sizes) <= most_objects
        assert sum(sizes) <= most_size
    assert refused
    await container.clear()
    await container.write_data("k", pieces(20, False), None)
    assert (await container.object_info("k")).size == most_size


class Stopped(Exception):
    """What a component's stream does when it breaks."""


class Of:
    """An `object-id`."""

    def __init__(self, container: str, name: str) -> None:
        self.container = container
        self.object = name
