"""Whatever happens to files: what is needed is built, once, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loop_kit.dev import Begun, Event
from tests.dev.workspaces import Session, Workspace, built, component, session


def git(folder: Path, *args: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True)


def three(ws: Workspace) -> None:
    for name in "abc":
        ws.build(name, of=f"{name}/src")
        ws.write(f"{name}/src/main.js", f"{name} 1")


async def test_only_what_has_changed_is_built(ws: Workspace) -> None:
    three(ws)
    async with session(ws) as s:
        assert ws.ran() == {"a": 1, "b": 1, "c": 1}
        ws.write("b/src/main.js", "b 2")
        await s.quiet()
        assert ws.ran() == {"b": 1}
        assert s.output("b") == ws.fresh("b/src")
        assert s.changed == [{component("b")}]


async def test_a_branch_switch_is_one_change(ws: Workspace) -> None:
    three(ws)
    for index in range(800):
        ws.write(f"a/src/many/{index % 20}/{index}.js", f"one {index}")
    ws.ignore("/out/\n")
    git(ws.folder, "init", "-q", "-b", "one")
    git(ws.folder, "add", "-A")
    git(ws.folder, "commit", "-qm", "one")
    git(ws.folder, "switch", "-qc", "two")
    for index in range(800):
        ws.write(f"a/src/many/{index % 20}/{index}.js", f"two {index}")
    shutil.rmtree(ws.folder / "a/src/many/7")
    ws.write("b/src/more/new.js", "new")
    git(ws.folder, "add", "-A")
    git(ws.folder, "commit", "-qm", "two")
    async with session(ws) as s:
        ws.ran()
        for branch in ("one", "two", "one"):
            # in a thread of its own, so that it is seen while it happens
            await asyncio.to_thread(git, ws.folder, "switch", "-q", branch)
            await s.quiet()
            assert ws.ran() == {"a": 1, "b": 1}
            for name in "abc":
                assert s.output(name) == ws.fresh(f"{name}/src")
        await asyncio.to_thread(git, ws.folder, "switch", "-q", "one")
        git(ws.folder, "status")
        git(ws.folder, "gc", "-q")
        await s.quiet()
        assert ws.ran() == {}


async def test_rapid_saves(ws: Workspace) -> None:
    three(ws)
    async with session(ws) as s:
        ws.ran()
        for number in range(40):
            ws.write("a/src/main.js", f"a {number}")
            await s.looked()
        await s.quiet()
        assert 1 <= ws.ran()["a"] <= 40
        assert s.output("a") == ws.fresh("a/src") == "a/src/main.js\na 39\n"


async def test_what_is_written_as_it_was_is_no_change(ws: Workspace) -> None:
    three(ws)
    async with session(ws) as s:
        ws.ran()
        path = ws.write("a/src/main.js", "a 1")
        await s.quiet()
        path.touch()
        await s.quiet()
        path.rename(path.with_name("x"))
        path.with_name("x").rename(path)
        await s.quiet()
        path.write_text("something else")
        path.write_text("a 1")
        await s.quiet()
        path.chmod(0o600)
        await s.quiet()
        assert ws.ran() == {}
        assert s.changed == []


def vim(path: Path, text: str) -> None:
    trial = path.with_name("4913")
    trial.touch()
    trial.unlink()
    swap = path.with_name(f".{path.name}.swp")
    swap.write_text("swap")
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()
    swap.unlink()


def code(path: Path, text: str) -> None:
    copy = path.with_name(f"{path.name}.vsctmp")
    copy.write_text(text)
    copy.rename(path)


def idea(path: Path, text: str) -> None:
    new, old = path.with_name(f"{path.name}___jb_tmp___"), path.with_name(f"{path.name}___jb_old___")
    new.write_text(text)
    path.rename(old)
    new.rename(path)
    old.unlink()


def emacs(path: Path, text: str) -> None:
    lock, auto = path.with_name(f".#{path.name}"), path.with_name(f"#{path.name}#")
    lock.symlink_to("someone@machine.1:2")
    auto.write_text(text)
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)
    auto.unlink()
    lock.unlink()


def in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.flush()
        for letter in text:
            file.write(letter)
            file.flush()


def removed_first(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def linked(path: Path, text: str) -> None:
    """As those save who write a new file, link it under a name of their own, and rename that."""
    new = path.with_name(".saving~")
    new.write_text(text)
    os.link(new, path.with_name(".linked~"))
    new.unlink()
    path.with_name(".linked~").rename(path)


SAVES = [vim, code, idea, emacs, in_place, removed_first, linked]


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
async def test_editors_save_in_many_ways(ws: Workspace, save: Callable[[Path, str], None]) -> None:
    three(ws)
    async with session(ws) as s:
        ws.ran()
        for text in ("first", "second"):
            save(ws.folder / "a/src/main.js", text)
            await s.quiet()
            assert ws.ran() == {"a": 1}
            assert s.output("a") == f"a/src/main.js\n{text}\n"
        save(ws.folder / "a/src/main.js", "second")
        await s.quiet()
        assert ws.ran() == {}


async def test_the_output_may_lie_among_the_sources(ws: Workspace) -> None:
    ws.build("a", output="src/a.wasm", sources=None)
    ws.write("src/main.js", "1")
    async with session(ws) as s:
        for number in range(3):
            assert ws.ran() == {"a": 1}
            ws.write("src/main.js", f"again {number}")
            await s.quiet()
        assert s.output("a") == ws.fresh()


@pytest.mark.parametrize(
    "generated",
    [
        "cat src/main.js > src/gen.txt;",
        "date +%s%N > src/gen.txt;",
        "rm -rf src/gen; mkdir src/gen; date +%N > src/gen/x;",
    ],
    ids=["the same", "another each time", "in a new folder"],
)
async def test_a_build_may_write_into_its_sources(ws: Workspace, generated: str) -> None:
    ws.build("a", more=generated)
    ws.write("src/main.js", "1")
    async with session(ws) as s:
        # some more, by which it is found out
        assert 2 <= ws.ran()["a"] <= 4
        for number in range(3):
            ws.write("src/main.js", f"again {number}")
            await s.quiet()
            assert ws.ran() == {"a": 1}
            assert f"again {number}" in s.output("a")
    assert await built(ws) == []
    # what somebody else changes is an input
    async with session(ws) as s:
        for path in (ws.folder / "src").rglob("*"):
            if path.is_file() and path.name != "main.js":
                path.write_text("by hand")
        await s.quiet()
        # that it ends is what counts: how often it is found out anew depends on what is seen of the write, and when
        assert 1 <= ws.ran()["a"] <= 12


@pytest.mark.parametrize("file", ["main.js", "new.js"])
async def test_who_saves_while_builds_run_is_no_build(ws: Workspace, file: str) -> None:
    ws.build("a", more="sleep 0.05;")
    ws.write("src/main.js", "1")
    async with session(ws) as s:
        ws.ran()
        left = 5 if file == "main.js" else 2

        def save(event: Event) -> None:
            nonlocal left
            if isinstance(event, Begun) and left:
                left -= 1
                ws.write(f"src/{file}", f"{left} left")

        s.builder._tell = save
        ws.write("src/main.js", "2")
        await s.quiet()
        assert left == 0
        assert s.output("a") == ws.fresh()
        # nor is it taken for one later
        ws.write(f"src/{file}", "at last")
        await s.quiet()
        assert s.output("a") == ws.fresh()


async def test_two_builds_in_one_folder_do_not_wake_each_other(ws: Workspace) -> None:
    for name in "ab":
        ws.build(name, more=f"date +%N > src/{name}.txt;", sources=None)
    ws.write("src/main.js", "1")
    async with session(ws) as s:
        ws.ran()  # until each knows what is the other's, which takes as often as they happen to meet; then they rest
        ws.write("src/main.js", "2")
        await s.quiet()
        assert ws.ran() == {"a": 1, "b": 1}


@pytest.mark.parametrize("seconds", [-(10**9), 10**9, 0])
async def test_no_clock_is_believed(ws: Workspace, seconds: int) -> None:
    three(ws)
    path = ws.folder / "a/src/main.js"
    was = path.stat()
    when = (was.st_atime_ns, was.st_mtime_ns + seconds * 10**9)
    os.utime(path, ns=when)
    await built(ws)
    assert ws.ran() == {"a": 1, "b": 1, "c": 1}
    # of the same size, and with the same time
    path.write_text("A 2")
    os.utime(path, ns=when)
    assert [done.member for done in await built(ws)] == [component("a")]
    async with session(ws) as s:
        ws.ran()
        path.write_text("A 3")
        os.utime(path, ns=when)
        await s.quiet()
        assert ws.ran() == {"a": 1}
        os.utime(path, ns=(0, 0))
        await s.quiet()
        assert ws.ran() == {}
        assert s.output("a") == ws.fresh("a/src")


async def test_links_are_what_they_lead_to(ws: Workspace, tmp_path: Path) -> None:
    ws.build("a", of="a/src")
    inside, outside = ws.write("shared/x.js", "x 1"), tmp_path / "y.js"
    ws.write("shared/deep/z.js", "z 1")
    outside.write_text("y 1")
    for name, target in (
        ("x.js", "../../shared/x.js"),
        ("y.js", str(outside)),
        ("deep", "../../shared/deep"),
    ):
        (ws.folder / "a/src").mkdir(parents=True, exist_ok=True)
        (ws.folder / "a/src" / name).symlink_to(target)
    async with session(ws) as s:
        ws.ran()
        inside.write_text("x 2")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        outside.write_text("y 2")
        while component("a") not in {m for members in s.changed[1:] for m in members}:
            await s.looked()  # what is outside comes by another way
        await s.quiet()
        assert ws.ran() == {"a": 1}
        assert "y 2" in s.output("a")
        ws.write("shared/deep/new.js", "new")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        link = ws.folder / "a/src/x.js"
        link.unlink()
        link.symlink_to("../../shared/deep/z.js")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        assert "a/src/x.js\nz 1" in s.output("a")
        (ws.folder / "a/src/loop").symlink_to("loop")
        (ws.folder / "a/src/up").symlink_to("../..")
        await s.quiet()
        (ws.folder / "a/src/up").unlink()
        await s.quiet()
        assert not s.failures()


async def test_a_folder_is_removed_and_made_again(ws: Workspace) -> None:
    three(ws)
    async with session(ws) as s:
        ws.ran()
        shutil.rmtree(ws.folder / "a")
        await s.quiet()
        (ws.folder / "a").mkdir()
        await s.quiet()
        ws.write("a/src/deep/er/x.js", "x")
        await s.quiet()
        assert s.output("a") == ws.fresh("a/src")
        ws.ran()
        ws.write("a/src/deep/er/y.js", "y")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        (ws.folder / "a").rename(ws.folder / "other")
        (ws.folder / "other").rename(ws.folder / "a")
        await s.quiet()
        assert ws.ran() == {}
        shutil.copytree(ws.folder / "a", ws.folder / "copy")
        shutil.rmtree(ws.folder / "a")
        (ws.folder / "copy/src/deep/er/y.js").write_text("z")
        (ws.folder / "copy").rename(ws.folder / "a")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        assert s.output("a") == ws.fresh("a/src")
        ws.write("a/src/deep/er/y.js", "seen still")
        await s.quiet()
        assert ws.ran() == {"a": 1}


async def test_what_git_ignores_is_no_input(ws: Workspace) -> None:
    three(ws)
    ws.ignore("*.log\n")
    ws.write("a/src/keep.log", "1")
    async with session(ws) as s:
        ws.ran()
        ws.write("a/src/new.log", "1")
        ws.write("a/src/keep.log", "2")
        ws.write("a/src/node_modules/x/index.js", "1")
        ws.write("a/src/__pycache__/x.pyc", "1")
        await s.quiet()
        assert ws.ran() == {}
        ws.ignore("")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        ws.write("a/src/keep.log", "3")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        ws.write("a/.gitignore", "*.log\n")
        await s.quiet()
        assert ws.ran() == {"a": 1}
        ws.write("a/src/keep.log", "4")
        await s.quiet()
        assert ws.ran() == {}


async def test_too_much_to_be_told_is_looked_at_anew(ws: Workspace) -> None:
    three(ws)
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    async with session(ws) as s:
        ws.ran()
        # nobody reads meanwhile, for this is the event loop's own thread
        one, other = ws.folder / "a/src/one.js", ws.folder / "a/src/other.js"
        with one.open("w") as first, other.open("w") as second:
            for turn in range(most // 2 + 1000):
                for file in (first, second):
                    os.pwrite(file.fileno(), b"%d" % turn, 0)
        ws.write("b/src/main.js", "b 2")
        await s.quiet()
        assert ws.ran() == {"a": 1, "b": 1}
        assert any(batch.everything for batch in s.batches)
        assert s.output("a") == ws.fresh("a/src")
        ws.write("b/src/main.js", "b 3")
        await s.quiet()
        assert ws.ran() == {"b": 1}


KV = "package acme:kv@0.1.0;\ninterface store {{ {}: func(); }}\n"


def bound(ws: Workspace) -> None:
    three(ws)
    ws.build("a", of="a/src", bind={"wit": "a/wit", "python": "a/src/bindings.py"})
    ws.write("a/wit/kv.wit", KV.format("get"))


def steps(s: Session) -> list[str]:
    """What was begun, in its order, since the last time that this was asked."""
    found = [str(event.member) for event in s.told if isinstance(event, Begun)]
    s.told.clear()
    return found


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
async def test_a_change_of_wit_is_one_bind_and_one_build(
    ws: Workspace, save: Callable[[Path, str], None]
) -> None:
    bound(ws)
    wit = ws.folder / "a/wit/kv.wit"
    async with session(ws) as s:
        s.told.clear()
        for name in ("first", "second"):
            save(wit, KV.format(name))
            await s.quiet()
            assert steps(s) == ["components.a.bind", "components.a"]
            assert f"def {name}" in s.output("a")
        for text in (KV.format("second"), KV.format("third"), KV.format("second")):
            save(wit, text)
        await s.quiet()
        assert "def second" in s.output("a")
        assert not s.failures()


async def test_a_branch_switch_that_brings_wit_with_its_types(ws: Workspace) -> None:
    bound(ws)
    ws.ignore("/out/\n/.loop/\n")
    git(ws.folder, "init", "-q", "-b", "get")
    await built(ws)
    git(ws.folder, "add", "-A")
    git(ws.folder, "commit", "-qm", "get")
    git(ws.folder, "switch", "-qc", "put")
    ws.write("a/wit/kv.wit", KV.format("put"))
    await built(ws)
    git(ws.folder, "commit", "-qam", "put")
    async with session(ws) as s:
        for branch in ("get", "put", "get"):
            s.told.clear()
            await asyncio.to_thread(git, ws.folder, "switch", "-q", branch)
            await s.quiet()
            assert steps(s) == ["components.a.bind", "components.a"]
            assert f"def {branch}" in s.output("a")
            status = subprocess.run(["git", "status", "-s"], cwd=ws.folder, capture_output=True, text=True)
            assert "bindings" not in status.stdout  # what was made is what was committed


async def test_wit_that_is_saved_while_types_are_made(ws: Workspace) -> None:
    bound(ws)
    async with session(ws) as s:
        left = 4

        def save(event: Event) -> None:
            nonlocal left
            if isinstance(event, Begun) and left:
                left -= 1
                ws.write("a/wit/kv.wit", KV.format(f"left{left}"))

        s.builder._tell = save
        ws.write("a/wit/kv.wit", KV.format("put"))
        await s.quiet()
        assert left == 0
        assert s.output("a") == ws.fresh("a/src")
        assert "def left0" in s.output("a")
