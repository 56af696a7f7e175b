"""What is built, when, and what stays when it fails."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit import manifest
from loop_kit.dev import Begun, Builder, Cancelled, Done, Failed, Member, run
from loop_kit.errors import LoadError
from tests.children import is_gone, nothing_is_left, until
from tests.dev.workspaces import Workspace, built, component, provider, session

HOLD = "read -r _ < {fifo};"


def held(ws: Workspace) -> Path:
    """A pipe that a build waits for: whoever opens it to write lets one go on."""
    fifo = ws.folder.parent / "fifo"
    os.mkfifo(fifo)
    return fifo


async def begun(ws: Workspace) -> None:
    while not ws.log.read_text():
        await asyncio.sleep(0.002)


async def test_what_is_built_is_not_built_again(ws: Workspace) -> None:
    ws.build()
    ws.write("src/a", "1")
    first = await built(ws)
    assert [(done.member, type(done)) for done in first] == [(component("site"), Done)]
    assert ws.ran() == {"site": 1}
    assert await built(ws) == []
    path = ws.folder / "out/site.wasm"
    path.unlink()
    assert await built(ws) == []
    assert path.read_text() == ws.fresh()  # the copy that is kept
    path.write_text("somebody else's")
    assert await built(ws) == first or ws.ran() == {"site": 1}
    assert path.read_text() == ws.fresh()


@pytest.mark.parametrize("broken", ["builds.json", "files.json", "outputs", "all"])
async def test_what_is_kept_may_be_lost(ws: Workspace, broken: str) -> None:
    ws.build()
    ws.write("src/a", "1")
    await built(ws)
    kept = ws.folder / ".loop/dev"
    if broken == "outputs":
        next(kept.joinpath("outputs").iterdir()).write_text("broken")
    elif broken == "all":
        subprocess.run(["rm", "-r", kept], check=True)
    else:
        for text in (
            "",
            "[]",
            "{",
            '{"version": 1, "data": {"components.site": {"a": 1}}}',
            '{"version": 0}',
        ):
            (kept / broken).write_text(text)
            await built(ws)
    await built(ws)
    path = manifest.load(ws.folder).components["site"].path
    assert path.read_text() == ws.fresh()
    ws.ran()
    assert await built(ws) == []
    assert ws.ran() == {}
    subprocess.run(["git", "init", "-q"], cwd=ws.folder, check=True)
    untracked = subprocess.run(["git", "status", "--short"], cwd=ws.folder, check=True, capture_output=True)
    assert b".loop" not in untracked.stdout


async def test_all_that_is_kept_may_go_while_it_is_used(ws: Workspace) -> None:
    ws.build()
    ws.write("src/a", "1")
    async with session(ws) as s:
        ws.ran()
        shutil.rmtree(ws.folder / ".loop")
        shutil.rmtree(ws.folder / "out")
        await s.quiet()
        assert ws.ran() == {}  # nobody needs it now
        await s.builder.build([component("site")])
        assert ws.ran() == {"site": 1}
        assert s.output() == ws.fresh()
        shutil.rmtree(ws.folder / ".loop")
        ws.write("src/a", "2")
        await s.quiet()
        assert ws.ran() == {"site": 1}
    assert await built(ws) == []


async def test_a_failed_build_leaves_what_was_there(ws: Workspace) -> None:
    says = 'echo "src/a.js:1:3: it is broken"; exit 3;'
    fails = f"grep -q broken src/a.js && {{ mkdir -p out; printf trunc > out/site.wasm; {says} }};"
    ws.build(more=fails)
    ws.write("src/a.js", "fine")
    async with session(ws) as s:
        good = ws.fresh()
        digest = s.builder.digest(component("site"))
        ws.write("src/a.js", "broken")
        await s.quiet()
        (failed,) = s.failures()
        assert failed.reason.endswith("exited with 3")
        assert failed.output == "src/a.js:1:3: it is broken"
        (place,) = failed.places
        assert (place.file, place.line, place.column, place.message) == ("src/a.js", 1, 3, "it is broken")
        assert place.excerpt == "> 1 | broken\n    |   ^"
        assert s.output() == good == (ws.folder / "out/site.wasm").read_text()
        assert s.builder.digest(component("site")) == digest
        # once for each change
        assert await s.builder.build([component("site")]) == [failed]
        assert ws.ran() == {"site": 2}
        ws.write("src/a.js", "fine")
        await s.quiet()
        assert ws.ran() == {}  # as it was before
        ws.write("src/a.js", "better")
        await s.quiet()
        assert s.output() == ws.fresh()
    ws.write("src/a.js", "broken")
    assert [type(event) for event in await built(ws)] == [Failed]
    assert [type(event) for event in await built(ws)] == [Failed]  # there may be a remedy by now


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (["no-such-program"], "`no-such-program` cannot be started: No such file or directory"),
        (["./no-such-program"], "`./no-such-program` cannot be started: No such file or directory"),
        ("true", "`true` did not make {path}"),
        ("mkdir -p out && : > out/site.wasm", "`mkdir -p out && : > out/site.wasm` left {path} empty"),
        ("kill -9 $$", "`kill -9 $$` killed by SIGKILL"),
        ("mkdir -p out/site.wasm", "what `mkdir -p out/site.wasm` made cannot be kept: Is a directory"),
    ],
)
async def test_builds_that_cannot_do(ws: Workspace, build: str | list[str], reason: str) -> None:
    ws.build(build=build)
    ws.write("src/a")
    (failed,) = await built(ws)
    assert isinstance(failed, Failed)
    assert failed.reason == reason.format(path=ws.folder / "out/site.wasm")
    assert failed.places == ()


async def test_a_build_ends_with_all_that_it_started(ws: Workspace) -> None:
    pids, fifo = ws.folder.parent / "pids", held(ws)
    more = f"grep -q slow src/a && {{ sleep 1000 & echo $! $$ >> {pids}; {HOLD.format(fifo=fifo)} }};"
    ws.build(more=more)
    ws.write("src/a", "slow 1")
    found = manifest.load(ws.folder)
    async with Builder(found):
        pass  # the engine's threads stay
    with nothing_is_left():
        told: list[object] = []
        async with Builder(found, told.append) as builder:
            building = asyncio.create_task(builder.build(await builder.scan()))
            while not (pids.exists() and pids.read_text().endswith("\n")):
                await asyncio.sleep(0.002)
            ws.write("src/a", "fast 2")
            assert await builder.changed([ws.folder / "src/a"]) == {component("site")}
            await building
            assert [type(event) for event in told] == [Begun, Cancelled, Begun, Done]
            assert builder.output("site").read_text() == ws.fresh()
            for pid in map(int, pids.read_text().split()):
                until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
            pids.unlink()
            ws.write("src/a", "slow 3")
            await builder.changed([ws.folder / "src/a"])
            building = asyncio.create_task(builder.build([component("site")]))
            while not (pids.exists() and pids.read_text().endswith("\n")):
                await asyncio.sleep(0.002)
        # which ends them too
        for pid in map(int, pids.read_text().split()):
            until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
        assert await building == []
        assert "fast 2" in (ws.folder / "out/site.wasm").read_text()
    ws.write("src/a", "fast 4")
    assert len(await built(ws)) == 1


HOST = """
import asyncio, sys
from tests.dev.workspaces import *
ws = Workspace.__new__(Workspace)
ws.folder = Path(sys.argv[1])
asyncio.run(built(ws))
"""


async def test_a_host_that_is_killed_leaves_no_build_and_nothing_half_made(
    ws: Workspace, tmp_path: Path
) -> None:
    pids, fifo = tmp_path / "pids", held(ws)
    ws.build(
        more=f"mkdir -p out; echo half > out/site.wasm; sleep 1000 & echo $! $$ >> {pids}; {HOLD.format(fifo=fifo)}"
    )
    ws.write("src/a", "1")
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", HOST, ws.folder], cwd=root) as host:
        until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        host.kill()
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
    assert (ws.folder / "out/site.wasm").read_text() == "half\n"
    building = asyncio.create_task(built(ws))
    await asyncio.to_thread(fifo.write_text, "go\n")
    assert [type(done) for done in await building] == [Done]
    assert (ws.folder / "out/site.wasm").read_text() == ws.fresh()


async def test_only_so_many_at_once(ws: Workspace) -> None:
    at_once = ws.folder.parent / "at-once"
    at_once.mkdir()
    for number in range(8):
        name = f"c{number}"
        ws.build(
            name,
            of=name,
            more=f"touch {at_once}/{name}; ls {at_once} | wc -l >> {at_once}.log; sleep 0.05; rm {at_once}/{name};",
        )
        ws.write(f"{name}/a")
    async with Builder(manifest.load(ws.folder), jobs=3) as builder:
        members = await builder.scan()
        done = await builder.build(members)
        assert [event.member for event in done] == list(members)
    counts = [int(line) for line in Path(f"{at_once}.log").read_text().split()]
    assert max(counts) <= 3
    assert len(counts) == 8


async def test_whoever_asks_for_the_same_gets_the_same_build(ws: Workspace) -> None:
    ws.build()
    ws.write("src/a", "1")
    async with Builder(manifest.load(ws.folder)) as builder:
        members = await builder.scan()
        first, second = await asyncio.gather(builder.build(members), builder.build(members))
        assert first == second
        assert ws.ran() == {"site": 1}
        (again,) = await builder.build(members)
        assert isinstance(again, Done)
        assert not again.fresh
        assert await builder.build([component("gone"), Member("bind", "gone")]) == []
        waiting = asyncio.create_task(builder.build(members))
        waiting.cancel()


async def test_a_component_that_provides_for_another_is_left_alone(ws: Workspace) -> None:
    ws.build("cache", of="cache")
    ws.build("site", of="site", imports={})
    ws.provider("kv", "component:cache")
    ws.write("cache/a")
    ws.write("site/a")
    async with session(ws) as s:
        ws.ran()
        ws.write("site/a", "2")
        await s.quiet()
        assert ws.ran() == {"site": 1}
        ws.write("cache/a", "2")
        await s.quiet()
        assert ws.ran() == {"cache": 1}
        assert s.changed == [{component("site")}, {component("cache")}]


async def test_a_component_that_is_built_from_another(ws: Workspace) -> None:
    ws.build("inner", of="inner")
    ws.component(
        "outer",
        path="out/outer.wasm",
        build=f"echo outer >> {ws.log}; cat out/inner.wasm outer/a > out/outer.wasm",
        sources=["out/inner.wasm", "outer/**"],
    )
    ws.write("inner/a", "1")
    ws.write("outer/a", "1")
    async with session(ws) as s:
        ws.ran()
        ws.write("inner/a", "2")
        await s.quiet()
        assert ws.ran() == {"inner": 1, "outer": 1}
        assert s.output("outer") == s.output("inner") + "1"


async def test_another_manifest(ws: Workspace) -> None:
    ws.build("a", of="a")
    ws.build("b", of="b")
    for name in "abc":
        ws.write(f"{name}/x", name)
    async with session(ws) as s:
        ws.ran()
        ws.build("c", of="c")
        ws.build("a", of="a", more="true;")
        await s.quiet()
        assert s.changed == [{Member("manifest", "loop.toml")}]
        assert ws.ran() == {}
        changed = await s.builder.replace(manifest.load(ws.folder))
        assert changed == {component("a"), component("c")}
        await s.builder.build(changed)
        assert ws.ran() == {"a": 1, "c": 1}
        ws.write("c/x", "2")
        await s.quiet()
        assert ws.ran() == {"c": 1}
        text = (ws.folder / "loop.toml").read_text()
        ws.write("loop.toml", text.partition("[components.b]")[0])
        await s.builder.replace(manifest.load(ws.folder))
        ws.write("b/x", "2")
        await s.quiet()
        assert ws.ran() == {}


async def test_what_a_component_is_loaded_with_is_no_reason_to_build(ws: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one")
    ws.build("site", env={"TOKEN": {"file": str(secret)}})
    ws.component("ready", path="ready.wasm")
    ws.write("src/a")
    ws.write("ready.wasm", "1")
    async with session(ws) as s:
        ws.ran()
        digest = s.builder.digest(component("ready"))
        secret.write_text("two")
        ws.write("ready.wasm", "2")
        while {m for found in s.changed for m in found} != {component("site"), component("ready")}:
            await s.looked()
        await s.quiet()
        assert ws.ran() == {}
        assert s.builder.digest(component("ready")) not in ("", digest)


async def test_providers_are_what_they_import(ws: Workspace) -> None:
    ws.write("acme/__init__.py")
    ws.write("acme/index.py", "import json\nfrom .words import split\nfrom acme import extra, missing\n")
    ws.write("acme/words.py", "import shared.deep\n")
    ws.write("acme/extra.py")
    ws.write("acme/other.py")
    ws.write("shared/deep.py", "def lazily():\n    import late\n")
    ws.write("late.py")
    ws.write("acme/wit/acme.wit", "package a:b;")
    ws.write(
        "js/src/main.js",
        "import a from './a.js';\nexport * from '../lib/index.js';\nimport 'node:fs'; import('./lazy.mjs')",
    )
    for path in ("js/src/a.js", "js/src/lazy.mjs", "js/src/unused.js", "js/wit/x.wit"):
        ws.write(path)
    ws.write("js/lib/index.js", "const b = require('./b');\nnew URL('./data.json', import.meta.url)")
    ws.write("js/lib/b.js")
    ws.write("js/lib/data.json", "{}")
    ws.write("bin/run", "#!/bin/sh")
    ws.write("tool.py", "import late")
    ws.write("templates/a.html")
    ws.write("templates/a.md")
    ws.provider("index", "python:acme.index:Index", trusted=True)
    ws.provider("aside", "sidecar:python:acme.index:Index.Inner")
    ws.provider("node", "sidecar:node:js/src/main.js")
    ws.provider("own", "sidecar:./bin/run")
    ws.provider("by-command", "sidecar", command=["python", "tool.py", "--port", "1"])
    ws.provider("given", "sidecar:python:tool:Tool", sources=["tool.py", "templates", "!templates/*.md"])
    ws.provider("shipped", "builtin:core")
    ws.provider("shipped-aside", "sidecar:python:loop_kit.capabilities.core:Core")

    def names(s_: Builder, name: str) -> set[str]:
        return {path.relative_to(ws.folder).as_posix() for path in s_.files(provider(name))}

    async with session(ws) as s:
        index = {
            "acme/__init__.py",
            "acme/index.py",
            "acme/words.py",
            "acme/extra.py",
            "shared/deep.py",
            "late.py",
            "acme/wit/acme.wit",
        }
        assert names(s.builder, "index") == names(s.builder, "aside") == index
        node = {
            "js/src/main.js",
            "js/src/a.js",
            "js/src/lazy.mjs",
            "js/lib/index.js",
            "js/lib/b.js",
            "js/lib/data.json",
            "js/wit/x.wit",
        }
        assert names(s.builder, "node") == node
        assert names(s.builder, "own") == {"bin/run"}
        assert names(s.builder, "by-command") == {"tool.py", "late.py"}
        assert names(s.builder, "given") == {"tool.py", "templates/a.html"}
        assert names(s.builder, "shipped") == names(s.builder, "shipped-aside") == set()

        async def wakes(path: str, *expected: str) -> None:
            s.changed.clear()
            ws.write(path, (ws.folder / path).read_text() + " " if (ws.folder / path).exists() else "")
            await s.quiet()
            found = {m for members in s.changed for m in members}
            assert found == set(map(provider, expected)), path

        await wakes("late.py", "index", "aside", "by-command")
        await wakes("acme/other.py")
        await wakes("acme/missing.py", "index", "aside")
        await wakes("acme/missing.py", "index", "aside")
        await wakes("js/lib/b.js", "node")
        await wakes("js/wit/x.wit", "node")
        await wakes("js/src/unused.js")
        await wakes("templates/a.html", "given")
        await wakes("templates/a.md")
        await wakes("templates/new.css", "given")
        await wakes("bin/run", "own")
        # what is wrong has no imports, until it is mended
        ws.write("acme/words.py", "import (")
        await wakes("late.py", "index", "aside", "by-command")
        ws.write("acme/words.py", "import shared.deep")
        await wakes("late.py", "index", "aside", "by-command")
        (ws.folder / "acme/index.py").unlink()
        await s.quiet()
        ws.write("acme/index.py", "import late")
        await wakes("late.py", "index", "aside", "by-command")
        assert names(s.builder, "index") == {
            "acme/__init__.py",
            "acme/index.py",
            "late.py",
            "acme/wit/acme.wit",
        }


async def test_where_nothing_can_be_kept(ws: Workspace) -> None:
    ws.build()
    ws.write(".loop", "a file")
    with pytest.raises(LoadError, match=r"cannot keep what is built: .*/\.loop/dev/outputs: Not a directory"):
        await built(ws)


async def test_the_output_of_a_command_is_bounded(tmp_path: Path) -> None:
    ran = await run("echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo last >&2", tmp_path)
    assert ran.ok
    assert len(ran.output) < 140_000
    assert ran.output.startswith("first\nxxx")
    assert ran.output.endswith("xxx\nlast")
    assert "bytes left out" in ran.output


async def test_a_command_that_leaves_something_running(tmp_path: Path) -> None:
    with nothing_is_left():
        ran = await run("sleep 1000 & echo $!", tmp_path)
        until(lambda: is_gone(int(ran.output)))
        waiting = asyncio.create_task(run("echo $$ > pid; exec sleep 1000", tmp_path))
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
            await asyncio.sleep(0.002)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert is_gone(int((tmp_path / "pid").read_text()))
        ran = await run(("sh", "-c", "kill -TERM $$"), tmp_path)
        assert ran.exit.signal == signal.SIGTERM
