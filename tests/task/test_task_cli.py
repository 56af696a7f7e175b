"""`loop task` as a process: what it prints, how it ends, and several at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import is_gone, until
from tests.cli import LOOP
from tests.task.workspaces import Workspace, pair


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LOOP_TASK_CACHE", str(tmp_path / "results"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return pair(tmp_path)


def loop(made: Workspace, *args: str, at: str = "", code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [LOOP, "task", *args], cwd=made.root / at, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout, re.sub(r"in [\d.]+ m?s", "in TIME", done.stderr)


def begin(made: Workspace, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [LOOP, "task", *args], cwd=made.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_it_prints(two: Workspace) -> None:
    assert loop(two, "build", "-j1") == (
        "a:build | made a\n",
        "ran a:build in TIME\nran b:build in TIME\ndone 2 ran in TIME\n",
    )
    assert loop(two, "build") == ("", "up to date 2 tasks\n")
    assert loop(two, "build", "--replay") == ("a:build | made a\n", "up to date 2 tasks\n")
    shutil.rmtree(two.root / "packages/a/dist")
    assert loop(two, "build", "--replay") == (
        "a:build | made a\n",
        "restored a:build\ndone 1 restored, 1 up to date in TIME\n",
    )
    two.write("packages/a/build.sh", "echo why; exit 3\n")
    assert loop(two, "build", code=1) == (
        "a:build | why\n",
        "failed a:build: exited with 3\nskipped b:build: a:build failed\nfailed 1 failed, 1 skipped in TIME\n",
    )
    assert loop(two, "build", at="packages/a/src", code=1)[0] == "why\n"


def test_lists_explains_and_draws(two: Workspace) -> None:
    assert loop(two, "--list")[0] == "a:build  sh build.sh\nb:build  sh build.sh\n"
    listed = json.loads(loop(two, "--list", "--json")[0])
    assert [(task["id"], task["before"]) for task in listed["tasks"]] == [
        ("a:build", []),
        ("b:build", ["a:build"]),
    ]
    assert "a:build would run\n  it has not run here yet\n" in loop(two, "explain", "build")[0]
    loop(two, "build")
    assert loop(two, "explain", "b:build")[0] == "a:build is up to date\nb:build is up to date\n"
    assert loop(two, "build", "--dry-run") == ("", "up to date 2 tasks\n")
    two.write("packages/a/src/x", "other")
    said = "a:build would run\n  file packages/a/src/x has changed\nb:build would run\n  a:build runs before it\n"
    assert loop(two, "explain", "build")[0] == said
    assert loop(two, "build", "-n")[0] == "a:build would run\nb:build would run\n"
    told = json.loads(loop(two, "explain", "build", "--json")[0])
    assert told["tasks"][0] == {
        "task": "a:build", "how": "run", "reasons": ["file packages/a/src/x has changed"],
    }  # fmt: skip
    assert two.read("packages/b/dist/out") == "two one "
    assert loop(two, "build", "--graph", "dot")[0].startswith("digraph")
    assert loop(two, "--graph", "svg")[0].startswith("<svg")


def test_json_is_one_document(two: Workspace) -> None:
    for how in ("ran", "fresh", "fresh"):
        told = json.loads(loop(two, "build", "--json")[0])
        assert told["ok"] is True
        assert [(task["task"], task["how"]) for task in told["tasks"]] == [("a:build", how), ("b:build", how)]
        assert (told["tasks"][0]["log"] == "made a\n") == (how == "ran")


def test_affected(two: Workspace) -> None:
    two.write(".gitignore", "dist\n.loop\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for args in (["init", "-qb", "main"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *args], cwd=two.root, check=True)
    assert loop(two, "build", "--affected")[1] == "done nothing to do\n"
    two.write("packages/b/src/x", "other")
    assert (
        json.loads(loop(two, "build", "--affected=HEAD", "--dry-run", "--json")[0])["tasks"][-1]["task"]
        == "b:build"
    )
    assert "no commit 'x'" in loop(two, "build", "--affected=x", code=1)[1]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["biuld"], 1, "there is no task 'biuld'\nhint: did you mean 'build'?"),
        ([], 2, "name a task"),
        (["build", "--jobs", "0"], 2, "0 is not in the range"),
        (["build", "-m", "nowhere"], 3, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(two: Workspace, args: list[str], code: int, said: str) -> None:
    assert said in loop(two, *args, code=code)[1]


def test_a_wrong_manifest_is_told_even_where_all_was_up_to_date(two: Workspace) -> None:
    for _ in range(3):
        loop(two, "build")
    two.write("packages/b/loop.toml", '[workspace]\nname = "b"\ndepend = ["a"]\n')
    assert 'unknown key "depend" (did you mean "depends"?)' in loop(two, "build", code=3)[1]


ASK = """
import sys
from loop_kit.cli import main
main()
print(len({"click", "hashlib", "asyncio"} & set(sys.modules)))
"""


def test_nothing_to_do_is_answered_without_imports(two: Workspace) -> None:
    """What was just written may change again within the same tick: some runs later nothing need be read."""
    loop(two, "build")

    def imported() -> str:
        command = [sys.executable, "-c", ASK, "task", "build"]
        done = subprocess.run(command, cwd=two.root, capture_output=True, text=True, timeout=60)
        assert "up to date 2 tasks" in done.stderr
        return done.stdout.strip()

    until(lambda: imported() == "0")
    two.write("packages/a/src/x", "One ")
    assert "ran a:build" in loop(two, "build")[1]


def test_another_program_of_the_name_is_found(two: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (two.root.parent / name for name in ("first", "second"))
    two.write("../second/prog", "#!/bin/sh\necho old\n", 0o755)
    first.mkdir()
    monkeypatch.setenv("PATH", f"{first}:{second}:{os.environ['PATH']}")
    two.write(
        "loop.toml", '[workspace]\nname = "top"\n[tasks.t]\nrun = ["prog"]\ninputs = []\ntool = "prog"\n'
    )
    assert loop(two, "t")[0] == "old\n"
    folder = two.root / ".loop/task"

    def known() -> bool:
        assert loop(two, "t") == ("", "up to date 1 task\n")
        return any(path.name.startswith("fresh-") for path in folder.iterdir())

    until(known)
    (first / "prog").symlink_to(two.write("../third/prog", "#!/bin/sh\necho new\n", 0o755))
    assert loop(two, "t")[0] == "new\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_an_end_ends_all_that_runs(two: Workspace, signum: int) -> None:
    two.write(
        "packages/a/build.sh",
        "echo $$ > dist/pid; echo half > dist/out; (trap '' TERM; sleep 1000) & echo $! > dist/child; sleep 1000\n",
    )
    two.write("packages/c/loop.toml", '[workspace]\nname = "c"\n')
    two.write("packages/c/build.sh", "echo $$ > dist/pid; sleep 1000\n")
    run = begin(two, "build", "-j2")
    files = [two.root / f"packages/{name}/dist/pid" for name in "ac"]
    files.append(two.root / "packages/a/dist/child")
    until(lambda: all(file.exists() and file.read_text().strip() for file in files))
    pids = [int(file.read_text()) for file in files]
    run.send_signal(signum)
    run.communicate(timeout=30)
    assert run.returncode == (130 if signum == signal.SIGINT else -signal.SIGKILL)
    until(lambda: all(map(is_gone, pids)))
    two.write("packages/a/build.sh", "cat src/* > dist/out\n")
    two.write("packages/c/build.sh", "true\n")
    loop(two, "build")
    assert two.read("packages/b/dist/out") == "two one "
    assert sorted(os.listdir(files[0].parent)) == ["out"]  # and what the killed one has left is gone
    assert os.listdir(files[1].parent) == []
    assert not (two.root / ".loop/task/runs").exists()


def test_what_a_killed_run_left_is_gone_where_the_old_result_is_restored(two: Workspace) -> None:
    loop(two, "a:build")
    build = two.read("packages/a/build.sh")
    two.write("packages/a/build.sh", "echo > dist/left; echo > dist/pid; sleep 1000\n")
    run = begin(two, "a:build")
    until((two.root / "packages/a/dist/pid").exists)
    run.kill()
    run.communicate(timeout=30)
    two.write("packages/a/build.sh", build)
    assert "restored a:build" in loop(two, "a:build")[1]
    assert os.listdir(two.root / "packages/a/dist") == ["out"]


def test_two_at_once_wait_for_each_other(two: Workspace) -> None:
    two.write(
        "packages/a/build.sh",
        "cat src/* > dist/out\necho >> ../../ran\nwhile [ -e ../../wait ]; do sleep 0.02; done\n",
    )
    two.write("wait", "")
    first = begin(two, "build")
    until(lambda: (two.root / "ran").exists())
    others = [begin(two, "build") for _ in range(3)]
    assert others[0].stderr is not None
    assert "waiting for another `loop task`" in others[0].stderr.readline()
    (two.root / "wait").unlink()
    for run in (first, *others):
        run.communicate(timeout=60)
        assert run.returncode == 0
    assert two.read("ran") == "\n"
    assert two.read("packages/b/dist/out") == "two one "


def test_a_task_cannot_wait_for_itself(two: Workspace) -> None:
    two.write("packages/a/build.sh", f"{LOOP} task b:build -m ../..\n")
    two.write(
        "packages/a/loop.toml",
        '[workspace]\nname = "a"\n[tasks.build]\nrun = ["sh", "build.sh"]\nsandbox = false\n',
    )
    out, _ = loop(two, "build", code=1)
    assert "which cannot run its tasks" in out


def test_watching_runs_what_changes(two: Workspace) -> None:
    run = begin(two, "build", "--watch")
    assert run.stderr is not None
    try:
        for line in run.stderr:
            if "watching" in line:
                break
        two.write("packages/b/src/x", "TWO ")
        assert "ran b:build" in run.stderr.readline()
        assert two.read("packages/b/dist/out") == "TWO one "
        assert "done 1 ran, 1 up to date" in run.stderr.readline()
        two.write("packages/c/loop.toml", '[workspace]\nname = "c"\ndepends = ["b"]\n')
        two.write("packages/c/build.sh", "cat ../b/dist/out > dist/out\n")
        until(lambda: (two.root / "packages/c/dist/out").exists())
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=30)
        assert run.returncode == 0
    finally:
        run.kill()
        run.communicate()


def test_names_are_completed(two: Workspace) -> None:
    env = {**os.environ, "_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": "loop task b", "COMP_CWORD": "2"}
    done = subprocess.run([LOOP], cwd=two.root, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["plain,b:build", "plain,build"]
