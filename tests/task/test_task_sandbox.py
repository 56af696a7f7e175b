"""A task reads what it names, and nothing else of its workspace."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from loop_kit.task import _sandbox
from tests.task.workspaces import Workspace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="landlock is Linux's")

# Each tries to read `secret`, which is no input, and ends with 0 if it can.
ATTEMPTS = {
    "plainly": "cat secret",
    "by an absolute path": "cat $PWD/secret",
    "by a detour": "cat src/../secret",
    "by a link of its own": "ln -s ../secret dist/link && cat dist/link",
    "by a hard link into its outputs": "ln secret dist/hard && cat dist/hard",
    "by a hard link out of the workspace": "ln secret $TMPDIR/hard && cat $TMPDIR/hard",
    "by moving it": "mv secret dist/moved && cat dist/moved",
    "by moving its folder": "mv inner dist/inner && cat dist/inner/secret",
    "by exchanging it": "ln -f secret src/x && cat src/x && grep -q hidden src/x",
    "by the folder that it works in": "cat /proc/self/cwd/secret",
    "by another process": "cat /proc/$PPID/cwd/secret",
    "by a child": "(cd / && sh -c 'cat '$PWD'/secret')",
    "in the background": "cat secret > $TMPDIR/x & wait $!",
    "by a new session": "setsid -w cat secret",
    "as another program": "sh secret",
    "by executing it": "./program",
    "by what another task writes": "cat other/out",
    "as git keeps it": "cat .git/HEAD",
    "by a mount": "mount --bind . dist && cat dist/secret",
    "by a namespace of its own": "unshare -rm sh -c 'mount --bind . /mnt && cat /mnt/secret'",
    "by another root": "unshare -r chroot . /program || chroot . /program",
    "by a loosened hold": "{python} -c 'import ctypes; ctypes.CDLL(None).prctl(38, 0, 0, 0, 0); open(\"secret\")'",
    "by a descriptor": '{python} -c \'import os; f = os.open("secret", os.O_PATH); os.open(f"/proc/self/fd/{f}", 0)\'',
    "by its host's memory": "dd if=/proc/$PPID/mem of=/dev/null bs=1 count=1 skip=4096",
}


@pytest.fixture
def held(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.write("secret", "echo hidden\n")
    made.write("program", "#!/bin/sh\necho hidden\n", 0o755)
    made.write("inner/secret", "hidden")
    made.write("other/out", "hidden")
    made.write(".git/HEAD", "hidden")
    made.write("src/x", "known")
    made.write("led", "to")
    (made.root / "src/link").symlink_to("../led")
    return made


def task(made: Workspace, run: str, more: str = "") -> None:
    made.write(
        "loop.toml",
        f"""[workspace]\nname = "w"\n[tasks.t]\nrun = ["sh", "-c", '''{run}''']\n"""
        f'inputs = ["src/**"]\noutputs = ["dist/**"]\n{more}\n'
        '[tasks.other]\nrun = "echo > other/out"\noutputs = ["other/**"]\n',
    )


def test_this_machine_has_what_is_tested() -> None:
    assert _sandbox.available()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda name: name.replace(" ", "-"))
def test_what_is_not_named_cannot_be_read(held: Workspace, attempt: str) -> None:
    task(held, ATTEMPTS[attempt].replace("{python}", sys.executable))
    assert held.run("t") == {"w:t": "failed"}, held.lines
    assert "hidden" not in held.ended["w:t"].log


def test_the_same_can_be_read_without(held: Workspace) -> None:
    task(held, ATTEMPTS["plainly"], "sandbox = false")
    assert held.run("t") == {"w:t": "ran"}
    assert held.ended["w:t"].log == "echo hidden\n"


def test_the_reason_is_told(held: Workspace) -> None:
    task(held, "cat secret")
    held.run("t")
    assert "it may read its inputs alone" in held.notes("w:t")


ALLOWED = {
    "inputs": "cat src/x",
    "what a link among them leads to, which counts": "cat src/link",
    "a listing of them": "ls src && test $(ls src | wc -l) = 2",
    "its outputs": "echo a > dist/a && cat dist/a",
    "its temporary files": "f=$(mktemp) && echo a > $f && cat $f && mv $f dist/b && cat dist/b",
    "moves among outputs": "mkdir dist/x && echo a > dist/x/a && mv dist/x/a dist/b && cat dist/b",
    "what is outside": "cat /etc/passwd ../outside",
    "Python": '{python} -c \'import json, subprocess; subprocess.run(["cat", "src/x"], check=True)\'',
    "names and metadata of anything": "ls inner && test -e secret && stat secret",
    "writing anywhere": "echo > inner/new",
}


@pytest.mark.parametrize("what", ALLOWED, ids=lambda name: name.replace(" ", "-"))
def test_what_a_task_needs_can_be_read(held: Workspace, what: str) -> None:
    held.write("../outside", "x")
    task(held, ALLOWED[what].replace("{python}", sys.executable))
    assert held.run("t") == {"w:t": "ran"}, held.lines


def test_outputs_of_tasks_before_it_can_be_read(held: Workspace) -> None:
    task(held, "cat other/out", 'deps = ["other"]')
    assert held.run("t") == {"w:other": "ran", "w:t": "ran"}


def test_this_process_is_not_held(held: Workspace) -> None:
    def held_open() -> list[str]:
        names = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        found = [os.readlink(name) for name in names if os.path.lexists(name)]
        return sorted(name for name in found if "landlock" in name or name.startswith("/"))

    task(held, "true")
    before = held_open()
    for _ in range(3):
        held.run("t", force=True)
    assert held.read("secret") == "echo hidden\n"
    assert held_open() == before
