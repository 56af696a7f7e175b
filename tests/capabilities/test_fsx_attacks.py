"""Attempts to leave a root, from `tests/data/fs-escape.json`, against every provider in every host.

The roots of `loop:fsx` are read-only, so the host does for the guest what only prepares an attempt: it writes, makes
links and deep trees inside the root. A case without any reading is one that the interface has no function for.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from tests.capabilities.serving import Serving
from tests.capabilities.trees import grow
from tests.checkout import ROOT

CASES = json.loads((ROOT / "tests/data/fs-escape.json").read_text())["cases"]

NO_WRITING = "loop:fsx has no function that writes"
NO_DIGEST = "loop:fsx has no digest"
NO_WATCH = "loop:fsx does not watch"
NO_REVOKING = "a grant of loop:fsx cannot be revoked, and it gives no handles to files"
NOT_UTF_8 = "a string of WIT is UTF-8: no component can send these bytes"
WINDOWS = "it is about the paths of Windows"
APPLY_NOT = {
    "rename-in": NO_WRITING,
    "dotdot-digest": NO_DIGEST,
    "dotdot-watch": NO_WATCH,
    "link-out": NO_WRITING,
    "dotdot-write": NO_WRITING,
    "dotdot-truncate": NO_WRITING,
    "dotdot-remove": NO_WRITING,
    "copy-tree-with-link": NO_WRITING,
    "remove-through": NO_WRITING,
    "dangling-out-create": NO_WRITING,
    "swap-between-check-and-atomic": NO_WRITING,
    "overlong-utf8-bytes": NOT_UTF_8,
    "ads": WINDOWS,
    "backslash-dotdot-windows": WINDOWS,
    "trailing-dot-windows": WINDOWS,
    "name-255": NO_WRITING,
    "handle-outlives-revoke": NO_REVOKING,
    "link-into-writable-from-readonly": NO_WRITING,
    "rename-across-roots": NO_WRITING,
    "readonly-hardlink": NO_WRITING,
    "readonly-write-atomic": NO_WRITING,
    "readonly-set-times": NO_WRITING,
    "open-create-excl-readonly": NO_WRITING,
    "readonly-truncate": NO_WRITING,
    "readonly-write": NO_WRITING,
}
APPLY = [case for case in CASES if case["name"] not in APPLY_NOT]

# What of a race is tried: enough that both states of the path are met at every step of the walk.
TRIES = 1000


def test_which_cases_apply() -> None:
    assert APPLY_NOT.keys() <= {case["name"] for case in CASES}
    assert (len(CASES), len(APPLY)) == (87, 62)


class Attack:
    """One case in a fresh base folder."""

    def __init__(self, serve: Serving, base: Path, case: dict[str, Any]) -> None:
        self.base, self.root = base, base / "root"
        grow(self.root, {"file.txt": "INSIDE", "dir/sub/f.txt": "DEEP"})
        grow(base, {"outside/dir": None, "outside/secret.txt": "SECRET", "root-twin/secret.txt": "SECRET"})
        for step in case["setup"]:
            self.prepare(step)
        self.outside = self._outside()
        self.granted = case.get("root", str(self.root))
        self.call = serve("files", "fsx", {"roots": {"r": {"path": self.granted}}})
        self.told: list[str] = []

    def _outside(self) -> list[tuple[str, bytes | None]]:
        paths = sorted([*(self.base / "outside").rglob("*"), *(self.base / "root-twin").rglob("*")])
        return [(str(path), None if path.is_dir() else path.read_bytes()) for path in paths]

    def prepare(self, step: dict[str, Any]) -> None:
        """Does what the interface cannot do, within the root."""
        path = self.root / step.get("path", step.get("name", ""))
        match step["op"]:
            case "symlink" | "make-symlink":
                path.symlink_to(step["target"].replace("@ABS@", str(self.base)))
            case "file" | "write":
                path.write_text(step["data"])
            case "fifo":
                os.mkfifo(path)
            case "mknod":
                # without the right to make one, a link to a device of the same kind, which leads out
                try:
                    os.mknod(path, 0o20666, os.makedev(*step["dev"]))
                except PermissionError:
                    path.symlink_to("/dev/zero")
            case "hardlink":
                os.link(path, self.root / step["to"], follow_symlinks=False)
            case "mkdir-deep":
                deep(self.root, step["name"], step["count"])
            case "remove-tree":
                subprocess.run(["rm", "-rf", path], check=True)  # shutil's recurses too deep
            case op:
                raise AssertionError(f"nothing does {op!r}")

    def ask(self, step: dict[str, Any]) -> Any:
        """The guest's answer to a step that reads, or its error as `Err`."""
        try:
            match step["op"]:
                case "glob":
                    answer = self.call("glob", "r", step["pattern"])
                case "read" | "list" | "stat":
                    answer = self.call(step["op"], "r", step["path"])
                case op:
                    raise AssertionError(f"the guest cannot {op!r}")
        except loop.Err as e:
            answer = e
        self.told.append(repr(answer))
        return answer

    def check_always(self) -> None:
        """What must hold after every case."""
        for text in self.told:
            assert "SECRET" not in text
            assert str(self.base) not in text
        assert self._outside() == self.outside
        expected = "INSIDE" if self.granted == str(self.root) else Path(self.granted, "version").read_text()
        assert self.call("read", "r", "file.txt" if expected == "INSIDE" else "version").decode() == expected


def deep(folder: Path, name: str, count: int) -> None:
    """Makes a chain of directories, deeper than a path can be long."""
    at = os.open(folder, os.O_DIRECTORY)
    for _ in range(count):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def check(expect: dict[str, Any], answer: Any) -> None:
    """Whether an answer is what a case expects of its last step."""
    error: Any = answer.value if isinstance(answer, loop.Err) else None
    code = error and error.case
    match expect["verdict"]:
        case "denied" if expect.get("or_empty") and code is None:
            assert answer == []
        case "denied" | "error":
            assert code in expect["errors"], answer
        case "allowed":
            assert code is None, answer
            names = answer if isinstance(answer, list) else []
            names = [getattr(name, "name", name) for name in names]
            if "content" in expect:
                assert answer.decode() == expect["content"]
            if "type" in expect:
                assert answer.kind.name == {"symlink": "SYMBOLIC_LINK"}[expect["type"]]
            assert set(expect.get("contains", [])) <= set(names)
            assert not [name for name in names for no in expect.get("no_names", []) if name.endswith(no)]
        case "either":
            assert code is None or code in expect.get("errors", [code])
        case verdict:
            raise AssertionError(f"nothing checks {verdict!r}")


READING = ("read", "list", "stat", "glob")


@pytest.mark.parametrize("case", [c for c in APPLY if c["area"] != "race"], ids=lambda case: case["name"])
def test_an_attempt(serve: Serving, tmp_path: Path, case: dict[str, Any]) -> None:
    attack = Attack(serve, tmp_path, case)
    answers = []
    for step in case["steps"]:
        if step["op"] in READING:
            answers.append(attack.ask(step))
        else:
            attack.prepare(step)
    check(case["expect"], answers[-1])
    attack.check_always()


@contextlib.contextmanager
def flipping(folder: Path, path: str, first: str, second: str) -> Iterator[None]:
    program = [sys.executable, str(Path(__file__).with_name("flip.py")), str(folder), path, first, second]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "both were there\n"
        yield
        assert process.poll() is None  # it raced to the end
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("case", [c for c in APPLY if c["area"] == "race"], ids=lambda case: case["name"])
def test_a_race(serve: Serving, tmp_path: Path, case: dict[str, Any]) -> None:
    """Never is anything of the outside seen, and at the end all is as before."""
    attack = Attack(serve, tmp_path, case)
    grow(attack.root, {"f": "INSIDE", "d/inside.txt": "INSIDE", "d/deep/inside.txt": "INSIDE"})
    (step,) = case["steps"]
    flip = step["flip"]
    with flipping(attack.root, flip["path"], *flip["between"]):
        for _ in range(TRIES):
            answer = attack.ask(step["loop"])
            assert answer == b"INSIDE" or isinstance(answer, (loop.Err, list))
            for name in answer if isinstance(answer, list) else []:
                assert name.endswith("inside.txt")
    attack.check_always()
