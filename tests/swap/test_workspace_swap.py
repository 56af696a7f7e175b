"""Providers and components of a running workspace, exchanged while it is called."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit.errors import LinkError, LoadError, LoopError, ManifestError, ProviderGone
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.children import is_gone, started
from tests.guests import HOST, Guest
from tests.swap import places
from tests.swap.places import USES
from tests.wit_types import U32

PLACES = [*USES, "remote"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("near", None)  # of another test's folder
    return places.workspace(tmp_path)


@pytest.fixture
async def space(folder: Path) -> AsyncIterator[Workspace]:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        yield space


def phases(space: Workspace, name: str) -> list[tuple[str, int, str]]:
    return [(m.phase, m.generation, m.source) for m in space.members() if m.name == name]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(PLACES, PLACES)])
async def test_from_each_placement_to_each(folder: Path, before: str, after: str) -> None:
    async with places.remote(folder, 1) as far, places.remote(folder, 2) as farther:
        first = USES.get(before, far)
        manifest = folder / "loop.toml"
        manifest.write_text(manifest.read_text().replace(USES["sidecar"], first))
        async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
            app = await space.load("app")
            assert await app.call("ask", 7) == 1007
            places.write(folder, 2)
            second = USES.get(after, farther)
            changes = await space.swap("near", second)
            assert [(c.before, c.after) for c in changes] == [(first, second)] * 2
            assert await app.call("ask", 7) == 2007
            assert phases(space, "near") == [("ready", 2, second)]


async def test_a_call_ends_where_it_began(space: Workspace) -> None:
    app = await space.load("app")
    pid = started(space, "near").running.child.pid
    begun = asyncio.ensure_future(app.call("wait", 200))
    await asyncio.sleep(0.05)
    places.write(space.manifest.folder, 2)
    await space.swap("near", USES["python"])
    assert await app.call("ask", 1) == 2001
    assert not begun.done()
    assert await begun == 1200
    while not is_gone(pid):
        await asyncio.sleep(0.01)


async def test_one_that_does_not_finish_in_time_is_ended(space: Workspace) -> None:
    app = await space.load("app")
    pid = started(space, "near").running.child.pid
    begun = asyncio.ensure_future(app.call("wait", 3_600_000))
    await asyncio.sleep(0.05)
    await space.swap("near", USES["component"], drain=0.05)
    with pytest.raises(ProviderGone):
        await begun
    assert await app.call("ask", 1) == 1001
    while not is_gone(pid):
        await asyncio.sleep(0.01)


FAULTS = {
    "raises as it is read": ("near.py", "raise SystemExit('no disk')", USES["sidecar"], "no disk"),
    "no Python": ("near.py", "def", USES["python"], "near.py"),
    "lacks a function": (
        "near.py",
        places.PROVIDER.replace("def ask", "def asked"),
        USES["python"],
        "ask",
    ),
    "has another type": (
        "near.wit",
        places.WIT.replace("func(n: u32) -> u32", "func(n: u32) -> string"),
        USES["sidecar"],
        "ask: is of another type at the provider; needed for func",
    ),
    "no WebAssembly": ("near.wasm", "(module)", USES["component"], "no WebAssembly"),
    "is not there": ("near.wasm", None, USES["component"], "near.wasm"),
    "nobody there": ("near.py", "", "remote:unix:/nowhere/near", "/nowhere/near"),
    "says nothing": ("near.py", "import time; time.sleep(1000)", USES["sidecar"], "was not ready"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_changes_nothing(folder: Path, fault: str) -> None:
    file, text, use, words = FAULTS[fault]
    manifest = folder / "loop.toml"
    manifest.write_text(manifest.read_text() + 'start-timeout = "1s"\n' * (fault == "says nothing"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        app = await space.load("app")
        pid = started(space, "near").running.child.pid
        if text is None:
            (folder / file).unlink()
        else:
            (folder / file).write_text(text)
        with pytest.raises(LoopError, match=words):
            await space.swap("near", use)
        assert await app.call("ask", 1) == 1001
        assert started(space, "near").running.child.pid == pid
        assert phases(space, "near") == [("ready", 1, USES["sidecar"])]
        (folder / "near.wit").write_text(places.WIT)
        places.write(folder, 3)
        await space.swap("near", use if "remote" not in use else USES["python"])
        assert await app.call("ask", 1) == 3001


async def test_one_with_another_interface_is_refused(space: Workspace) -> None:
    app = await space.load("app")
    wasm = Guest().exports("ask", [U32, U32], U32, "(i32.const 0)", of=HOST).wasm()
    (space.manifest.folder / "near.wasm").write_bytes(wasm)
    with pytest.raises(LinkError, match="wanted"):
        await space.swap("near", USES["component"])
    assert await app.call("ask", 1) == 1001


async def test_what_would_change_is_told(space: Workspace) -> None:
    app = await space.load("app")
    changes = await space.swap("near", USES["python"], dry_run=True)
    assert [c.member for c in changes] == ["near", f"app/{HOST}"]
    assert {(c.before, c.after) for c in changes} == {(USES["sidecar"], USES["python"])}
    assert phases(space, "near") == [("ready", 1, USES["sidecar"])]
    assert await app.call("ask", 1) == 1001


async def test_code_of_the_users_own_must_be_trusted(folder: Path) -> None:
    manifest = folder / "loop.toml"
    manifest.write_text(manifest.read_text().replace("trusted = true", ""))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        await space.load("app")
        with pytest.raises(ManifestError, match="must be trusted"):
            await space.swap("near", USES["python"])
        with pytest.raises(KeyError):
            await space.swap("nobody", USES["python"])


async def test_one_that_nobody_needs_yet_is_started_when_it_is(space: Workspace) -> None:
    await space.swap("near", USES["python"])
    assert phases(space, "near") == [("stopped", 0, USES["python"])]
    app = await space.load("app")
    assert await app.call("ask", 1) == 1001
    assert phases(space, "near") == [("ready", 1, USES["python"])]


async def test_a_component_is_replaced_by_what_its_file_holds(folder: Path) -> None:
    """Whoever calls it, and whoever is linked to it."""
    manifest = folder / "loop.toml"
    manifest.write_text(
        manifest.read_text().replace(USES["sidecar"], "component:other").replace("trusted = true", "")
    )
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as space:
        app, other = await space.load("app"), await space.load("other")
        assert await app.call("ask", 1) == 900_001
        assert not await space.replace("other")
        (folder / "other.wasm").write_bytes(places.answering(800_000))
        assert await space.replace("other")
        assert await app.call("ask", 1) == 800_001
        assert await other.call("ask", 1) == 800_001
        assert phases(space, "other") == [("ready", 2, "other.wasm")]
        (folder / "other.wasm").write_bytes(Guest().exports("ask", [], U32, "(i32.const 0)").wasm())
        with pytest.raises(LinkError):
            await space.replace("other")
        (folder / "other.wasm").write_bytes(b"no")
        with pytest.raises(LoadError):
            await space.replace("other")
        assert await app.call("ask", 1) == await other.call("ask", 1) == 800_001
        assert phases(space, "other") == [("ready", 2, "other.wasm")]


async def test_a_component_that_is_replaced_keeps_its_providers(space: Workspace) -> None:
    app = await space.load("app")
    pid = started(space, "near").running.child.pid
    begun = asyncio.ensure_future(app.call("wait", 200))
    await asyncio.sleep(0.05)
    wasm = bytearray(places.CALLER.wasm())
    wasm += bytes([0, 4, 3]) + b"new"  # a custom section: other bytes, the same code
    (space.manifest.folder / "app.wasm").write_bytes(wasm)
    assert await space.replace("app")
    assert await app.call("ask", 1) == 1001
    assert await begun == 1200
    assert started(space, "near").running.child.pid == pid
    await space.swap("near", USES["python"])
    assert await app.call("ask", 1) == 1001
    while not is_gone(pid):
        await asyncio.sleep(0.01)


async def test_nothing_is_lost_while_a_provider_moves(folder: Path) -> None:
    """Many callers, and an exchange after the other through all placements."""
    async with (
        places.remote(folder, 1) as far,
        loop.Host(cache=None) as host,
        Workspace(host, load(folder)) as space,
    ):
        app = await space.load("app")
        over = False
        counts = {"asked": 0, "answered": 0}

        async def caller(number: int) -> None:
            while not over:
                counts["asked"] += 1
                ask = app.call("ask", number) if number % 8 else app.call("wait", 3)
                assert await ask in (number + 1000, 1003)
                counts["answered"] += 1
                await asyncio.sleep(0)

        callers = [asyncio.ensure_future(caller(n)) for n in range(16)]
        uses = [*USES.values(), far]
        for turn in range(12):
            await space.swap("near", uses[(turn * 3 + 1) % len(uses)])
            before = counts["answered"]
            while counts["answered"] < before + 50:
                await asyncio.sleep(0.001)
                for task in callers:
                    if task.done():
                        task.result()
        over = True
        await asyncio.gather(*callers)
        assert counts["asked"] == counts["answered"]
        assert phases(space, "near")[0][1] == 13
