"""What a provider knows when it is exchanged, and providers that ask to be."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import _handover, _swaps
from loop_kit._members import Member
from loop_kit.errors import LoadError, LoopError
from loop_kit.manifest import load
from loop_kit.placements import _supervisor
from loop_kit.provider import ask_exchange
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.guests import HOST
from tests.swap import places

USES = {"python": "python:near:Near", "sidecar": "sidecar:python:near:Near"}
# `ask` adds to a sum, and `wait` does when it ends; 99 has it ask for another one.
COUNTING = f"""\
import asyncio
from pathlib import Path
from loop_kit import Err
from loop_kit.provider import ask_exchange, provider

@provider({HOST!r}, "loop:core/lifecycle@0.1.0", "loop:core/health@0.1.0", wit="near.wit")
class Near:
    def __init__(self):
        self.sum = 0

    async def ask(self, n):
        if n == 99:
            await ask_exchange(self)
            return self.sum
        await asyncio.sleep(0)
        self.sum += n
        return self.sum

    async def wait(self, milliseconds):
        await asyncio.sleep(milliseconds / 1000)
        self.sum += milliseconds
        return self.sum

    async def check(self):
        if Path("ill").exists():
            raise Err("it has a cold")

    def snapshot(self):
        if Path("mute").exists():
            raise Err("it has no words")
        return str(self.sum).encode()

    async def restore(self, state):
        await asyncio.sleep(0)
        if Path("deaf").exists():
            raise Err("it cannot read")
        self.sum = int(state)
"""


def counting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in this folder, which is the current one, whose provider is `COUNTING`."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)
    sys.modules.pop("near", None)  # of another test's folder
    places.workspace(folder)
    (folder / "near.py").write_text(COUNTING)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return counting(tmp_path, monkeypatch)


@pytest.fixture(params=USES)
async def space(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Workspace]:
    manifest = folder / "loop.toml"
    manifest.write_text(manifest.read_text().replace(USES["sidecar"], USES[request.param]))
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        yield space


def near(space: Workspace) -> Member:
    return next(member for member in space.members() if member.name == "near")


def generation(space: Workspace) -> int:
    return near(space).generation


@pytest.mark.parametrize(("before", "after"), [*itertools.product(USES, USES)])
async def test_what_is_known_goes_along(folder: Path, before: str, after: str) -> None:
    manifest = folder / "loop.toml"
    manifest.write_text(manifest.read_text().replace(USES["sidecar"], USES[before]))
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        app = await space.load("app")
        assert await app.call("ask", 5) == 5
        await space.swap("near", USES[after])
        assert await app.call("ask", 2) == 7
        await space.reread("near")
        assert await app.call("ask", 1) == 8
        assert generation(space) == 3


async def test_nothing_is_lost_and_nothing_counted_twice(space: Workspace) -> None:
    app = await space.load("app")
    seen: list[int] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            seen.append(await app.call("ask", 0))
            seen.append(await app.call("wait", 1))

    callers = [asyncio.create_task(ask()) for _ in range(4)]
    for use in [*USES.values()] * 3:
        await asyncio.sleep(0.05)
        await space.swap("near", use)
    stop.set()
    await asyncio.gather(*callers)
    waits = len(seen) // 2
    assert await app.call("ask", 0) == waits
    assert generation(space) == 7


async def test_calls_that_have_begun_end_first(space: Workspace) -> None:
    app = await space.load("app")
    begun = asyncio.ensure_future(app.call("wait", 150))
    await asyncio.sleep(0.05)
    swapped = asyncio.ensure_future(space.swap("near", USES["python"]))
    assert await begun == 150
    await swapped
    assert await app.call("ask", 1) == 151


async def test_calls_that_do_not_end_refuse_it(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handover, "QUIET", 0.1)
    app = await space.load("app")
    await app.call("ask", 3)
    begun = asyncio.ensure_future(app.call("wait", 1500))
    await asyncio.sleep(0.05)
    swapped = asyncio.ensure_future(space.swap("near", USES["sidecar"]))
    with pytest.raises(LoadError, match=r"near: calls had not ended within 0\.1 s"):
        await swapped
    assert await app.call("ask", 1) == 4
    assert await begun == 1504
    assert generation(space) == 1


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("mute", "near cannot tell what it knows: it has no words"),
        ("deaf", "near cannot go on with what was known: it cannot read"),
    ],
)
async def test_what_cannot_be_handed_over_changes_nothing(space: Workspace, file: str, words: str) -> None:
    app = await space.load("app")
    await app.call("ask", 3)
    Path(file).touch()
    with pytest.raises(LoadError, match=words):
        await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 4
    assert generation(space) == 1
    Path(file).unlink()
    await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 5


async def test_one_that_is_not_well_does_not_serve(space: Workspace) -> None:
    app = await space.load("app")
    await app.call("ask", 3)
    Path("ill").touch()
    with pytest.raises(LoadError, match="near is not well: it has a cold"):
        await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 4
    assert generation(space) == 1


async def test_one_that_is_never_well_is_not_linked(folder: Path) -> None:
    Path("ill").touch()
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        with pytest.raises(LoadError, match="near is not well: it has a cold"):
            await space.load("app")
        Path("ill").unlink()
        assert await (await space.load("app")).call("ask", 1) == 1


async def test_a_process_that_is_not_well_any_more_is_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_supervisor, "HEALTH", 0.02)
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        app = await space.load("app")
        assert await app.call("ask", 3) == 3
        Path("ill").touch()
        while (member := near(space)).restarts == 0:
            await asyncio.sleep(0.01)
        assert member.reason == "is not well: it has a cold"
        Path("ill").unlink()
        while near(space).phase != "ready":
            await asyncio.sleep(0.01)
        assert await app.call("ask", 1) == 1


async def test_one_that_keeps_nothing_begins_anew(space: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    app = await space.load("app")
    await app.call("ask", 3)
    places.write(space.manifest.folder, 2)
    await space.swap("near", USES["sidecar"])
    assert await app.call("ask", 1) == 2001
    assert "near does not export loop:core/lifecycle: what was known is not handed over" in caplog.text


async def test_a_restart_begins_anew(space: Workspace) -> None:
    app = await space.load("app")
    await app.call("ask", 3)
    await space.restart("near")
    assert await app.call("ask", 1) == 1


async def test_one_that_asks_is_exchanged(
    space: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swaps, "ASKED", 60)
    caplog.set_level(logging.INFO, "loop_kit.swap")
    app = await space.load("app")
    assert await app.call("ask", 3) == 3
    assert await app.call("ask", 99) == 3
    while generation(space) < 2:
        await asyncio.sleep(0.01)
    assert await app.call("ask", 1) == 4
    assert "near was exchanged, as it asked" in caplog.text
    with pytest.raises(LoopError, match="a moment ago"):
        await app.call("ask", 99)


async def test_one_that_asks_and_cannot_be_goes_on(
    space: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    app = await space.load("app")
    assert await app.call("ask", 3) == 3
    (space.manifest.folder / "near.py").write_text("def")
    await app.call("ask", 99)
    while "asked to be exchanged, and goes on as before" not in caplog.text:
        await asyncio.sleep(0.01)
    assert await app.call("ask", 1) == 4


async def test_what_serves_nothing_cannot_ask() -> None:
    with pytest.raises(LoopError, match="nobody can exchange object"):
        await ask_exchange(object())


KV = f"""\
[components.app]
path = "{ROOT / "tests" / "capabilities" / "guests" / "keyvalue-draft.wasm"}"
imports."wasi:keyvalue" = {{ provider = "kv", grant = {{ buckets = {{ default = {{ mode = "rw" }} }} }} }}
[providers.kv]
use = "component:loop:keyvalue/memory"
"""


async def test_a_component_hands_on_what_it_keeps(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(KV)
    async with loop.Host() as host, Workspace(host, load(tmp_path)) as space:
        app = await space.load("app")
        for count in (1, 2, 3):
            assert await app.call("visit", "/index.html") == count
            await space.swap("kv", "component:loop:keyvalue/memory")
        assert await app.call("visit", "/index.html") == 4
        assert [m.generation for m in space.members() if m.name == "kv"] == [4]
        await space.restart("kv")
        assert await app.call("visit", "/index.html") == 1
