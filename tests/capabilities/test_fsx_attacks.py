"""Attempts to leave a root, from `tests/data/fs-escape.json`, against every provider in every placement."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.conform import Suite, Way, ways
from loop_kit.conform._suite import suite_of
from loop_kit.testing import Placed
from tests.capabilities.test_conform import Started
from tests.capabilities.trees import grow
from tests.checkout import ROOT
from tests.soaking import Soak

CASES = json.loads((ROOT / "tests/data/fs-escape.json").read_text())["cases"]

NO_REVOKING = "a grant of loop:fsx cannot be revoked, and it gives no handles to files"
NOT_UTF_8 = "a string of WIT is UTF-8: no component can send these bytes"
WINDOWS = "it is about the paths of Windows"
APPLY_NOT = {
    "overlong-utf8-bytes": NOT_UTF_8,
    "ads": WINDOWS,
    "backslash-dotdot-windows": WINDOWS,
    "trailing-dot-windows": WINDOWS,
    "handle-outlives-revoke": NO_REVOKING,
}
APPLY = [case for case in CASES if case["name"] not in APPLY_NOT]

SUITE: Suite = suite_of("fsx")
# Remote ones differ from a sidecar in the wire alone; what is in memory has paths of its own, and no disk to escape to.
WAYS = [way for way in ways(SUITE) if way.placement != "remote" and not way.provided.is_component]

# What of a race is tried: enough that both states of the path are met at every step of the walk.
TRIES = 300


def test_which_cases_apply() -> None:
    assert APPLY_NOT.keys() <= {case["name"] for case in CASES}
    assert (len(CASES), len(APPLY)) == (87, 82)


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    made = Started()
    yield made
    made.close()


@pytest.fixture(params=WAYS, ids=lambda way: f"{way.provided.provider.partition(':')[0]}-{way.placement}")
def placed(request: pytest.FixtureRequest, started: Started) -> Placed:
    way: Way = request.param
    return started.of(SUITE, way)


class Attack:
    """One case in a fresh base folder."""

    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.root = base, base / "root"
        self.case = case
        grow(base, {"outside/dir": None, "outside/secret.txt": "SECRET", "root-twin/secret.txt": "SECRET"})
        self.names = [name.partition(":") for name in case.get("roots", [])]
        for name in [self.root, *(base / name for name, _, _ in self.names)]:
            grow(name, {"file.txt": "INSIDE", "dir/sub/f.txt": "DEEP"})
        for step in case.get("setup", []):
            self.prepare(step)
        self.outside = self._outside()
        self.granted = case.get("root", str(self.root))
        self.told: list[str] = []

    def grant(self) -> dict[str, Any]:
        """What the guest may touch."""
        roots = {"r": (self.granted, "ro" if "root" in self.case else self.case.get("root_mode", "rw"))}
        roots |= {name: (str(self.base / name), mode or "rw") for name, _, mode in self.names}
        return {
            "roots": {
                name: {"path": path, "mode": mode, **({"links": "create"} if mode == "rw" else {})}
                for name, (path, mode) in roots.items()
            }
        }

    def _outside(self) -> list[tuple[str, bytes | None, int]]:
        paths = sorted([*(self.base / "outside").rglob("*"), *(self.base / "root-twin").rglob("*")])
        times = [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]
        return [
            (str(path), None if path.is_dir() else path.read_bytes(), at)
            for path, at in zip(paths, times, strict=True)
        ]

    def prepare(self, step: dict[str, Any]) -> None:
        """Does what the host does, within the root."""
        path = self.root / step.get("path", step.get("name", ""))
        match step["op"]:
            case "symlink":
                path.symlink_to(step["target"].replace("@ABS@", str(self.base)))
            case "file":
                path.write_text(step["data"])
            case "fifo":
                os.mkfifo(path)
            case "mknod":
                # without the right to make one, a link to a device of the same kind, which leads out
                try:
                    os.mknod(path, 0o20666, os.makedev(*step["dev"]))
                except PermissionError:
                    path.symlink_to("/dev/zero")
            case op:
                raise AssertionError(f"nothing does {op!r}")

    @contextlib.asynccontextmanager
    async def guest(self, placed: Placed) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[Any]]]:
        """What asks a step of the provider: its answer, or its error as `Err`."""
        async with placed.client(grant=self.grant()) as fsx:
            roots = dict(await fsx.files.roots())

            async def ask(step: dict[str, Any]) -> Any:
                try:
                    answer = await self._ask(fsx, roots, step)
                except loop.Err as e:
                    answer = e
                self.told.append(repr(answer))
                return answer

            yield ask

    async def _ask(self, fsx: Any, roots: dict[str, Any], step: dict[str, Any]) -> Any:
        r = roots[step.get("root", "r")]
        to_root = roots[step.get("to_root", step.get("root", "r"))]
        path, to = step.get("path", ""), step.get("to", "")
        data = step.get("data", "").encode()
        w = fsx.writing
        match step["op"]:
            case "read" | "list" | "stat":
                return await getattr(r, step["op"])(path)
            case "glob":
                return await r.glob(step["pattern"])
            case "write":
                return await w.write(r, path, data)
            case "append":
                return await w.append(r, path, data)
            case "write-atomic":
                return await w.write_atomic(r, path, data, False)
            case "open":
                assert step["flags"] == ["create", "exclusive"]
                return await w.write_new(r, path, b"")
            case "truncate":
                return await w.truncate(r, path, step["size"])
            case "remove":
                return await w.remove_file(r, path)
            case "remove-tree":
                return await w.remove_tree(r, path)
            case "rename":
                return await w.rename(r, path, to_root, to)
            case "hardlink":
                return await w.link(r, path, to_root, to)
            case "make-symlink":
                return await w.symlink(r, step["target"], path)
            case "copy":
                return await w.copy(r, path, to_root, to)
            case "copy-tree":
                return await w.copy_tree(r, path, to_root, to)
            case "set-times":
                return await w.set_times(r, path, None, {"seconds": 1, "nanoseconds": 0})
            case "create-directory":
                return await w.create_directory(r, path)
            case "digest":
                return await fsx.digests.digest(r, path, "sha256")
            case "stream":
                stream, _ = await fsx.streaming.read_stream(r, path, 0)
                return b"".join([bytes(chunk) async for chunk in stream])
            case "walk":
                options = {"globs": [], "gitignore": False, "hidden": True, "max_depth": None}
                stream, _ = await fsx.walking.walk(r, path, options)
                return [
                    f"{f.path}/{name}" async for f in stream for name in (*f.files, *f.directories, *f.links)
                ]
            case "watch":
                return await fsx.watching.watch(r, path, {"recursive": True, "debounce": None})
            case "mkdir-deep":
                made = "/".join([step["name"]] * step["count"])
                with contextlib.suppress(loop.Err):
                    await w.create_directories(r, made)
                deep(self.root, step["name"], step["count"])  # deeper than the guest can say
                return None
            case op:
                raise AssertionError(f"nothing does {op!r}")

    async def check_always(self, placed: Placed) -> None:
        """What must hold after every case."""
        for text in self.told:
            assert "SECRET" not in text
            assert str(self.base) not in text
        assert self._outside() == self.outside
        name = "file.txt" if self.granted == str(self.root) else "version"
        async with self.guest(placed) as ask:
            assert await ask({"op": "read", "path": name}) == Path(self.granted, name).read_bytes()


def deep(folder: Path, name: str, count: int) -> None:
    """Makes a chain of directories, deeper than a path can be long."""
    at = os.open(folder, os.O_DIRECTORY)
    for _ in range(count):
        with contextlib.suppress(FileExistsError):
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
            assert list(answer) == []
        case "denied" | "error":
            assert code in expect["errors"], answer
        case "allowed":
            assert code is None, answer
            names = answer if isinstance(answer, list) else []
            names = [getattr(name, "name", name) for name in names]
            if "content" in expect:
                assert bytes(answer).decode() == expect["content"]
            if "type" in expect:
                assert answer.kind.name == {"symlink": "SYMBOLIC_LINK"}[expect["type"]]
            assert set(expect.get("contains", [])) <= set(names)
            assert not [name for name in names for no in expect.get("no_names", []) if name.endswith(no)]
        case "either":
            assert code is None or code in expect.get("errors", [code])
        case verdict:
            raise AssertionError(f"nothing checks {verdict!r}")


@pytest.mark.parametrize("case", [c for c in APPLY if c["area"] != "race"], ids=lambda case: case["name"])
async def test_an_attempt(placed: Placed, tmp_path: Path, case: dict[str, Any]) -> None:
    attack = Attack(tmp_path, case)
    async with attack.guest(placed) as ask:
        answers = [await ask(step) for step in case["steps"]]
    # what prepares an attempt may be what is refused
    refused = [answer for answer in answers if isinstance(answer, loop.Err)]
    denied = case["expect"]["verdict"] == "denied" and refused
    check(case["expect"], refused[0] if denied else answers[-1])
    if case["name"] == "deep-5000":
        assert not (attack.root / "d").exists()
    await attack.check_always(placed)


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
async def test_a_race(placed: Placed, tmp_path: Path, case: dict[str, Any], soak: Soak) -> None:
    """Never is anything of the outside seen or changed, and at the end all is as before."""
    attack = Attack(tmp_path, case)
    grow(attack.root, {"f": "INSIDE", "d/inside.txt": "INSIDE", "d/deep/inside.txt": "INSIDE"})
    (step,) = case["steps"]
    flip = step["flip"]
    async with attack.guest(placed) as ask:
        with flipping(attack.root, flip["path"], *flip["between"]):
            for _ in soak.rounds(TRIES):
                answer = await ask(step["loop"])
                assert answer in (b"INSIDE", None) or isinstance(answer, (loop.Err, list))
                for name in answer if isinstance(answer, list) else []:
                    assert name.endswith(("inside.txt", "d/f"))
    await attack.check_always(placed)


# What is done over and over below a directory that is swapped for a link to the outside.
RACING: list[dict[str, Any]] = [
    {"op": "write", "path": "d/secret.txt", "data": "PWNED"},
    {"op": "append", "path": "d/secret.txt", "data": "PWNED"},
    {"op": "truncate", "path": "d/secret.txt", "size": 0},
    {"op": "write-atomic", "path": "d/secret.txt", "data": "PWNED"},
    {"op": "set-times", "path": "d/secret.txt"},
    {"op": "digest", "path": "d/secret.txt"},
    {"op": "stream", "path": "d/secret.txt"},
    {"op": "copy", "path": "d/secret.txt", "to": "copied"},
    {"op": "copy", "path": "file.txt", "to": "d/planted"},
    {"op": "copy-tree", "path": "d", "to": "tree"},
    {"op": "remove-tree", "path": "tree"},
    {"op": "hardlink", "path": "d/secret.txt", "to": "linked"},
    {"op": "read", "path": "linked"},
    {"op": "remove", "path": "linked"},
    {"op": "hardlink", "path": "file.txt", "to": "d/planted"},
    {"op": "rename", "path": "d/secret.txt", "to": "taken"},
    {"op": "rename", "path": "taken", "to": "d/secret.txt"},
    {"op": "remove", "path": "d/planted"},
    {"op": "create-directory", "path": "d/planted"},
    {"op": "remove-tree", "path": "d/planted"},
    {"op": "make-symlink", "target": "file.txt", "path": "d/planted"},
    {"op": "remove-tree", "path": "d/planted"},
    {"op": "walk", "path": "."},
    {"op": "walk", "path": "d"},
    {"op": "watch", "path": "d"},
]


async def test_a_directory_is_swapped_whatever_is_done(placed: Placed, tmp_path: Path, soak: Soak) -> None:
    attack = Attack(tmp_path, {})
    grow(attack.root, {"d/secret.txt": "INSIDE", "d/deep/inside.txt": "INSIDE"})
    grow(attack.base, {"outside/only-outside.txt": "SECRET"})
    attack.outside = attack._outside()
    met = set()
    async with attack.guest(placed) as ask:
        with flipping(attack.root, "d", "directory d", "symlink d -> ../outside"):
            for number in soak.rounds(TRIES):
                answer = await ask(RACING[number % len(RACING)])
                met.add(type(answer) is loop.Err)
                assert "only-outside" not in str(answer)
    assert met == {True, False}
    await attack.check_always(placed)
