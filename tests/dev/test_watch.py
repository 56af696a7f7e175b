"""What is watched, and when it is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from loop_kit import manifest
from loop_kit.dev import Watcher, _watch
from loop_kit.dev._watch import MOST, plan
from loop_kit.errors import LoadError
from tests.children import nothing_is_left
from tests.dev.workspaces import PATIENCE, Workspace, session


class Told:
    """What a watcher tells, until a file of a given name."""

    def __init__(self, ws: Workspace, watcher: Watcher) -> None:
        self._ws = ws
        self.watcher = watcher
        self._number = 0

    async def __call__(self, folder: str = ".") -> set[str]:
        """What was told since the last call: from the workspace's folder on."""
        self._number += 1
        mark = self._ws.write(f"{folder}/mark{self._number}")
        told: set[Path] = set()
        async with asyncio.timeout(PATIENCE):
            while mark not in told:
                batch = await anext(self.watcher)
                assert not batch.everything
                told |= batch.paths
        shown = {os.path.relpath(path, self._ws.folder) for path in told}
        return {path for path in shown if not os.path.basename(path).startswith("mark")}


@contextlib.asynccontextmanager
async def watching(ws: Workspace) -> AsyncIterator[Told]:
    async with Watcher(manifest.load(ws.folder)) as watcher:
        yield Told(ws, watcher)


async def test_what_is_told(ws: Workspace) -> None:
    ws.build(output="src/site.wasm")
    ws.write("src/a")
    async with watching(ws) as told:
        ws.write("src/a", "1")
        assert await told() == {"src/a"}
        ws.write("src/site.wasm", "made")
        for name in (
            "4913",
            "a~",
            ".a.swp",
            ".a.swx",
            "#a#",
            ".#a",
            "a___jb_tmp___",
            "a___jb_old___",
            "a.vsctmp",
        ):
            ws.write(f"src/{name}").unlink()
        for folder in (".git", "node_modules/x", ".venv/lib", "src/__pycache__", ".loop/dev"):
            ws.write(f"{folder}/x")
        assert await told() <= {"src"}
        os.rename(ws.folder / "src", ws.folder / "other")
        assert await told() == {"src", "other"}
        ws.write("other/deep/b", "1")
        assert await told() >= {"other/deep/b"}
        shutil.rmtree(ws.folder / "other")
        assert await told() >= {"other/a", "other/deep/b", "other/deep", "other"}


async def test_nothing_is_lost_while_folders_are_renamed(ws: Workspace) -> None:
    """Neither what is in them, nor what changes elsewhere meanwhile."""
    ws.build(output="src/site.wasm")
    ws.write("src/a")
    async with watching(ws) as told:
        for turn in range(50):
            (ws.folder / "new").mkdir()
            os.rename(ws.folder / "new", ws.folder / f"d{turn}")
            ws.write("src/a", str(turn))
            ws.write(f"d{turn}/b", "1")
            assert await told() >= {"src/a", f"d{turn}", f"d{turn}/b"}
            ws.write(f"d{turn}/b", "2")
            assert await told() >= {f"d{turn}/b"}


async def test_a_change_is_told_at_once(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for: bench/dev.py measures how long it takes."""
    monkeypatch.setattr(_watch, "REST", 1e6)
    ws.build()
    path = ws.write("src/a")
    async with watching(ws) as told:
        for number in range(20):
            path.write_text(str(number))
            assert await told() == {"src/a"}


async def test_what_comes_meanwhile_comes_together(ws: Workspace) -> None:
    ws.build()
    async with watching(ws) as told:
        for number in range(3000):
            ws.write(f"src/{number % 7}/{number}", "1")
        paths: set[Path] = set()
        batches = 0
        while len(paths) < 3000:
            batch = await anext(told.watcher)
            paths |= {path for path in batch.paths if path.parent.parent.name == "src"}
            batches += 1
        assert batches <= 2


async def test_git_is_waited_for(ws: Workspace) -> None:
    ws.build()
    ws.write(".git/HEAD")
    ws.write("src/there")
    async with watching(ws) as told:
        lock = ws.write(".git/index.lock")
        waiting = asyncio.ensure_future(anext(told.watcher))
        for number in range(3):
            ws.write(f"src/{number}")
            await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        lock.unlink()
        batch = await waiting
        assert {ws.folder / f"src/{number}" for number in range(3)} <= batch.paths


async def test_big_folders_are_left_out(ws: Workspace) -> None:
    ws.build()
    ws.ignore("data/\n")
    for number in range(60):
        ws.write(f"node_modules/m{number}/index.js")
        ws.write(f"data/{number}/x")
    for folder in ("src/deep", "lib", "member/node_modules/x", "member/src"):
        ws.write(f"{folder}/x")
    async with watching(ws) as told:
        watched = {(os.path.relpath(path, ws.folder), deep) for path, deep in told.watcher._pumps}
        assert watched == {
            (".", False),
            ("src", True),
            ("lib", True),
            ("member", False),
            ("member/src", True),
        }
        ws.write("src/deep/x", "1")
        assert await told("src") == {"src/deep/x"}
        ws.write("node_modules/m1/index.js", "1")
        ws.write("data/1/x", "1")
        ws.write("new/deep/x", "1")
        await seen(told.watcher, ws.folder / "new/deep/x")
        await seen(told.watcher, ws.folder / "new/deep/er/x")
        # gone, and there again
        shutil.rmtree(ws.folder / "src")
        ws.write("src/deep/x", "1")
        await seen(told.watcher, ws.folder / "src/deep/x")


async def seen(watcher: Watcher, path: Path) -> None:
    """Until what happens to a file is told: it is watched from some time on, and told of what is above it until then."""
    async with asyncio.timeout(PATIENCE):
        for number in itertools.count():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(number))
            with contextlib.suppress(TimeoutError):
                if path in (await asyncio.wait_for(anext(watcher), 0.05)).paths:
                    return


def test_as_many_watches_as_there_may_be(ws: Workspace) -> None:
    root = str(ws.folder)
    for number in range(200):
        ws.write(f"m{number}/node_modules/x/y")
        ws.write(f"m{number}/src/x")
    visible = {root, *(f"{root}/m{n}" for n in range(200)), *(f"{root}/m{n}/src" for n in range(200))}
    assert plan(root, visible) == [(root, True)]
    assert len(plan(root, visible, 1000)) == 401
    few = {root, f"{root}/m1", f"{root}/m1/src"}
    shutil.rmtree(ws.folder / "m1/node_modules")
    assert plan(root, few) == [(root, True)]  # the others are small
    for name in ("node_modules/x", "m1/node_modules/x"):
        ws.write(name)
    assert plan(root, few) == [(root, False), (f"{root}/m1", False), (f"{root}/m1/src", True)]
    assert len(plan(root, visible)) <= MOST


async def test_what_the_manifest_names_outside_is_watched(ws: Workspace, tmp_path: Path) -> None:
    for name in ("shared/deep/x", "secret/token", "secret/other", "lib/one.wasm", "lib/two.wasm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    ws.build(sources=["src/**", "../shared/**", "node_modules/own"])
    ws.component("ready", path="../lib/one.wasm")
    ws.provider("far", "remote:tcp://127.0.0.1:1", config={"a": {"file": "../secret/token"}})
    ws.write("node_modules/own/x")
    ws.write("node_modules/other/x")
    (ws.folder / "src").mkdir()
    (ws.folder / "src/link").symlink_to(tmp_path / "secret/other")
    async with Watcher(manifest.load(ws.folder)) as watcher:
        wanted = {tmp_path / "shared/deep/x", tmp_path / "secret/token", tmp_path / "secret/other"}
        wanted |= {tmp_path / "lib/one.wasm", ws.folder / "node_modules/own/x"}
        (tmp_path / "lib/two.wasm").write_text("2")
        ws.write("node_modules/other/x", "2")
        for path in wanted:
            path.write_text("2")
        told: set[Path] = set()
        async with asyncio.timeout(PATIENCE):
            while not wanted <= told:
                told |= (await anext(watcher)).paths
        assert tmp_path / "lib/two.wasm" not in told
        assert ws.folder / "node_modules/other/x" not in told
        # a link that is made later
        (tmp_path / "late").mkdir()
        (tmp_path / "late/x").write_text("1")
        (ws.folder / "src/late").symlink_to(tmp_path / "late/x")
        await seen(watcher, tmp_path / "late/x")


async def test_another_manifest_is_watched(ws: Workspace, tmp_path: Path) -> None:
    ws.build()
    outside = tmp_path / "lib" / "one.wasm"
    outside.parent.mkdir()
    outside.write_text("1")
    async with watching(ws) as told:
        outside.write_text("2")
        assert await told() == set()
        ws.component("ready", path="../lib/one.wasm")
        await told.watcher.replace(manifest.load(ws.folder))
        outside.write_text("3")
        async with asyncio.timeout(PATIENCE):
            while outside not in (await anext(told.watcher)).paths:
                pass


def test_other_event_loops(ws: Workspace) -> None:
    ws.build()
    ws.write("src/a", "1")

    async def follow() -> None:
        async with session(ws) as s:
            ws.write("src/a", "2")
            await s.quiet()
            assert s.output() == ws.fresh()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(follow())


async def to_the_end(watcher: Watcher) -> None:
    async for _ in watcher:
        pass


async def test_the_end(ws: Workspace) -> None:
    ws.build()
    found = manifest.load(ws.folder)
    async with Watcher(found):
        pass  # the engine's threads stay
    with nothing_is_left():
        watcher = Watcher(found)
        async with watcher:
            shutil.rmtree(ws.folder)
            with pytest.raises(LoadError, match="is gone, and with it what was watched"):
                await asyncio.wait_for(to_the_end(watcher), PATIENCE)
        await watcher.aclose()
