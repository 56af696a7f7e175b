"""Which tasks there are, what comes before what, and which somebody means."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from loop_kit.errors import LoopError, ManifestError
from loop_kit.task import _plan
from loop_kit.task._git import changed
from loop_kit.task._graph import closure, edges, find, order
from loop_kit.task._picture import picture
from loop_kit.task._where import locate
from tests.task.workspaces import Workspace, pair


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    return pair(tmp_path)


def planned(made: Workspace) -> _plan.Plan:
    return _plan.plan(str(made.root), {})


def test_members_have_their_own_tasks_and_those_of_all(two: Workspace) -> None:
    two.write(
        "packages/a/loop.toml",
        '[workspace]\nname = "a"\n[tasks.build]\nrun = ["true"]\n[tasks.test]\nrun = "true"\n',
    )
    two.write("packages/none/README", "no member")
    plan = planned(two)
    assert list(plan.tasks) == ["a:build", "a:test", "b:build"]
    assert plan.tasks["a:build"].run == ("true",)
    assert plan.tasks["b:build"].run == ("sh", "build.sh")
    assert edges(plan) == {"a:build": (), "a:test": (), "b:build": ("a:build",)}
    assert (find(plan, ["build"], ""), find(plan, ["build", "a:test"], "packages/b")) == (
        ["a:build", "b:build"],
        ["b:build", "a:test"],
    )


def test_tasks_of_what_it_depends_on_go_past_members_without(two: Workspace) -> None:
    two.write(
        "packages/c/loop.toml",
        '[workspace]\nname = "c"\ndepends = ["b"]\n[tasks.test]\nrun = "true"\ndeps = ["^test"]\n',
    )
    two.write("packages/a/loop.toml", '[workspace]\nname = "a"\n[tasks.test]\nrun = "true"\n')
    assert edges(planned(two))["c:test"] == ("a:test",)


A, TASK = '[workspace]\nname = "a"\n', '[tasks.t]\nrun = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[workspace]\nname = "b"\n', r'packages/.*"b" is the name of packages/. too'),
        (f'{A}depends = ["bb"]\n', r'"bb" \(did you mean "b"\?\)'),
        (f'{A}depends = ["b"]\n', "wait for each other: a:build → b:build → a:build"),
        (
            f'{A}{TASK}deps = ["biuld"]\n',
            r'.toml:5:1: tasks.t.deps: a has no task "biuld" \(did you mean "build"\?\)',
        ),
        (f'{A}{TASK}deps = ["c:x"]\n', 'there is no member "c"'),
        (f'{TASK}input = ["x"]\n', r'unknown key "input" \(did you mean "inputs"\?\)'),
        ('[tasks.explain]\nrun = ["x"]\n', '"explain" cannot be a task\'s name'),
        ("[tasks.t]\n", "there is nothing to do"),
        (f'{TASK}outputs = ["../x"]\n', "outputs are in the folder"),
        (f'{TASK}outputs = ["**"]\n', "outputs are not everywhere"),
        ('[workspace]\nmembers = ["../x"]\n', "expected a folder of the workspace"),
        ('[tasks.t]\nrun = ["{tool:es build}"]\n', "is no name of a tool"),
        ('[tasks]\ncache = "x"\n', "expected a repository"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(two: Workspace, text: str, said: str) -> None:
    two.write("packages/a/loop.toml", text)
    with pytest.raises(ManifestError, match=said):
        edges(planned(two))


def test_a_circle_of_one_manifest_is_named(tmp_path: Path) -> None:
    made = Workspace(tmp_path)
    tasks = "".join(f'[tasks.{a}]\ndeps = ["{b}"]\n' for a, b in ("ab", "bc", "cd", "db"))
    made.write("loop.toml", f'[workspace]\nname = "w"\n{tasks}')
    with pytest.raises(ManifestError, match="w:b → w:c → w:d → w:b"):
        edges(planned(made))


def test_names_that_are_none_are_told(two: Workspace) -> None:
    plan = planned(two)
    for name, hint in (
        ("biuld", "did you mean 'build'?"),
        ("a:biuld", "did you mean 'a:build'?"),
        ("zzz", "--list"),
    ):
        with pytest.raises(LoopError, match="there is no task") as told:
            find(plan, [name], "")
        assert hint in str(told.value.hint)


def test_only_manifests_that_changed_are_read_again(two: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _plan.plan(str(two.root), {}, 1 << 62).parsed
    assert planned(two).parsed == {}  # whoever reads within the grain of times knows nothing
    read: list[str] = []
    real = _plan._read

    def counted(path: str) -> dict[str, Any]:
        read.append(os.path.relpath(path, two.root))
        return real(path)

    monkeypatch.setattr(_plan, "_read", counted)
    assert _plan.plan(str(two.root), kept).tasks == planned(two).tasks
    read.clear()
    two.write("packages/b/loop.toml", '[workspace]\nname = "b2"\n')
    assert "b2:build" in _plan.plan(str(two.root), kept).tasks
    assert read == ["packages/b/loop.toml"]


def test_a_deep_chain_is_no_trouble() -> None:
    before = {"0": ()} | {str(n): (str(n - 1),) for n in range(1, 5000)}
    assert order(before, closure(before, ["4999"])) == [str(n) for n in range(5000)]


def test_the_workspace_of_a_member_is_found(two: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = two.root / "packages/a/src"
    monkeypatch.chdir(deep)
    assert locate(None) == (str(two.root), "packages/a")
    assert locate(two.root) == (str(two.root), "")
    assert locate(two.root / "packages/b/loop.toml") == (str(two.root), "packages/b")
    two.write("elsewhere/loop.toml", "")
    assert locate(two.root / "elsewhere") == (str(two.root / "elsewhere"), "")
    with pytest.raises(ManifestError):
        locate(deep)


def test_what_git_says_has_changed_is_affected(two: Workspace) -> None:
    git = ["git", "-C", str(two.root), "-c", "user.name=x", "-c", "user.email=x@localhost"]

    def run(*args: str) -> None:
        subprocess.run([*git, *args], check=True, capture_output=True)

    def affected(base: str | None = None) -> set[str]:
        with two.session() as session:
            return session.affected(changed(str(two.root), base))

    with pytest.raises(LoopError, match="git cannot tell"):
        affected()
    two.write(".gitignore", "dist\n.loop\n")
    run("init", "-qb", "main")
    run("add", "-A")
    run("commit", "-qm", "one")
    assert affected() == set()
    two.write("packages/b/src/new file", "x")
    assert affected() == {"b:build"}
    run("checkout", "-qb", "branch")
    run("add", "-A")
    run("commit", "-qm", "two")
    (two.root / "packages/a/src/x").unlink()
    assert affected() == {"a:build", "b:build"}
    assert affected("HEAD") == {"a:build", "b:build"}
    run("checkout", "-q", "packages/a/src/x")
    assert affected() == {"b:build"}  # since it left main
    assert affected("HEAD") == set()
    two.write("packages/b/README", "no input")
    assert affected("HEAD") == set()
    two.write("packages/a/loop.toml", '[workspace]\nname = "a"\n# other\n')
    assert affected("HEAD") == {"a:build", "b:build"}
    with pytest.raises(LoopError, match="no commit 'nothing'"):
        affected("nothing")
    with pytest.raises(LoopError, match="no commit '--help'"):
        affected("--help")


def test_pictures(two: Workspace) -> None:
    graph = {"a:build": [], "b:build": ["a:build"]}
    assert picture(graph, "mermaid").splitlines()[-1] == "  t0 --> t1"
    assert '"a:build" -> "b:build";' in picture(graph, "dot")
    if shutil.which("dot"):
        subprocess.run(
            ["dot", "-Tsvg"], input=picture(graph, "dot"), text=True, check=True, capture_output=True
        )
    drawn = ElementTree.fromstring(picture(graph, "svg"))
    boxes = drawn.findall(".//{http://www.w3.org/2000/svg}rect")
    texts = [text.text for text in drawn.findall(".//{http://www.w3.org/2000/svg}text")]
    assert texts == ["a:build", "b:build"]
    assert float(boxes[0].attrib["y"]) < float(boxes[1].attrib["y"])
    wide: dict[str, list[str]] = {f"t{n}": [] for n in range(30)}
    places = [
        box.attrib["x"]
        for box in ElementTree.fromstring(picture(wide, "svg")).iter()
        if box.tag.endswith("rect")
    ]
    assert len(set(places)) == 30
