"""Whatever is done to the files of a workspace: in the end it serves what a fresh build makes, without one too many."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.dev.workspaces import Session, Workspace, built, session

NAMES = ("x.js", "y.js", "z")
FOLDERS = ("a", "b", "a/d", "a/d/e", "b/d", "other")

folders = st.sampled_from(FOLDERS)
files = st.builds("{}/{}".format, folders, st.sampled_from(NAMES))
texts = st.sampled_from(["", "1", "2", "3" * 5000])
steps = st.one_of(
    st.tuples(st.just("write"), files, texts),
    st.tuples(st.just("write"), files, texts),
    st.tuples(st.just("replace"), files, texts),
    st.tuples(st.just("append"), files, texts),
    st.tuples(st.just("remove"), files, st.none()),
    st.tuples(st.just("move"), files, files),
    st.tuples(st.just("touch"), files, st.sampled_from([0, 10**9, 2 * 10**9])),
    st.tuples(st.just("link"), files, files),
    st.tuples(st.just("remove-folder"), folders, st.none()),
    st.tuples(st.just("move-folder"), folders, folders),
    st.tuples(st.just("copy-folder"), folders, folders),
    st.tuples(st.just("many"), folders, texts),
)
# What comes between two steps: nothing, a look at what has happened so far, or quiet.
pauses = st.sampled_from(["", "", "look", "quiet"])


def do(root: Path, step: tuple[str, str, Any]) -> None:
    what, path, more = step[0], root / step[1], step[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    there = os.path.lexists(path)
    if what in ("write", "replace", "append") and not path.is_dir():
        if what == "append" and path.is_file():
            with path.open("a") as file:
                file.write(more)
        elif what == "replace" or path.is_symlink():
            new = path.with_name("new~")
            new.write_text(more)
            new.rename(path)
        else:
            path.write_text(more)
    elif what == "remove" and there and not path.is_dir():
        path.unlink()
    elif what == "move" and there:
        (root / more).parent.mkdir(parents=True, exist_ok=True)
        path.rename(root / more)
    elif what == "touch" and path.is_file():
        os.utime(path, (more, more))
    elif what == "link" and not there:
        path.symlink_to(os.path.relpath(root / more, path.parent))
    elif what == "remove-folder" and path.is_dir():
        shutil.rmtree(path)
    elif what == "move-folder" and path.is_dir():
        to = root / more
        if not os.path.lexists(to) and path not in to.parents:
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)
    elif what == "copy-folder" and path.is_dir():
        to = root / more
        if not os.path.lexists(to) and path not in to.parents:
            shutil.copytree(path, to, symlinks=True)
    elif what == "many":
        for number in range(30):
            path.mkdir(exist_ok=True)
            (path / f"many{number}").write_text(more)


async def follow(ws: Workspace, plan: list[tuple[tuple[str, str, Any], str]]) -> None:
    changes: Counter[str] = Counter(a=1, b=1)
    async with session(ws) as s:
        for step, pause in plan:
            before = {name: state(ws, name) for name in "ab"}
            do(ws.folder, step)
            changes.update(name for name in "ab" if state(ws, name) != before[name])
            if pause == "look":
                await s.looked()
            elif pause == "quiet":
                await s.quiet()
                same(ws, s)
        await s.quiet()
        same(ws, s)
        assert not s.failures()
        ran = ws.ran()
        note(f"changes {changes}, builds {ran}")
        assert all(ran[name] <= changes[name] for name in "ab")
    # who comes later finds nothing to do
    assert await built(ws) == []


def state(ws: Workspace, name: str) -> tuple[str, set[tuple[str, str]]]:
    """What a build sees, and the links, which are inputs wherever they lead."""
    links = {path for path in (ws.folder / name).rglob("*") if path.is_symlink()}
    return ws.fresh(name), {(str(path), os.readlink(path)) for path in links}


async def generate(ws: Workspace, plan: list[tuple[tuple[str, str, Any], str]]) -> None:
    async with session(ws) as s:
        for step, pause in plan:
            do(ws.folder, step)
            if pause:
                await s.quiet()
        await s.quiet()
        served = s.output("a")
        assert ws.ran()["a"] <= 4 + 4 * len(plan)
        # the same command in the same tree
        command = str(s.builder.manifest.components["a"].build)
        subprocess.run(["sh", "-c", command], cwd=ws.folder, check=True)
        assert served == (ws.folder / "out/a.wasm").read_text()


def same(ws: Workspace, s: Session) -> None:
    for name in "ab":
        assert s.output(name) == ws.fresh(name)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(steps, pauses), max_size=12))
def test_in_the_end_all_is_as_if_it_were_built_afresh(plan: list[tuple[tuple[str, str, Any], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder).resolve())
        ws.build("a", of="a")
        # all of the folder that it works in
        command = ws.command("b", "b", "out/b.wasm")
        ws.build("b", sources=None, build=f"cd b; cd {ws.folder}; {command}")
        ws.write("a/x.js", "1")
        ws.write("b/x.js", "1")
        asyncio.run(follow(ws, plan))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(steps, pauses), max_size=8))
def test_a_build_that_writes_among_its_inputs_is_no_other(
    plan: list[tuple[tuple[str, str, Any], str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder).resolve())
        ws.build("a", of="a", more="mkdir -p a; find a -name y.js | LC_ALL=C sort > gen~; mv gen~ a/z;")
        ws.write("a/x.js", "1")
        asyncio.run(generate(ws, plan))
