"""What `loop:fsx` in memory answers, beside what the native provider does of the same files on a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loop_kit as loop
from loop_kit.capabilities.fsx._conform import in_memory
from loop_kit.testing import Placed, client
from tests.capabilities.test_fsx_agreement import all_equal, pieces
from tests.capabilities.test_fsx_attacks import APPLY, SUITE, Attack, check
from tests.capabilities.test_fsx_glob_cases import APPLY as GLOBS
from tests.capabilities.test_fsx_glob_cases import DATA
from tests.capabilities.test_fsx_ignores import IGNORES, named
from tests.capabilities.trees import grow, tangled

[MEMORY] = SUITE.provided("component:loop:fsx/memory")
GRANT: dict[str, Any] = {"roots": {"r": {}}}


@asynccontextmanager
async def seeded(grant: dict[str, Any]) -> AsyncIterator[Any]:
    """The component under a grant, with what its roots have on the disk."""
    assert MEMORY.imports is not None
    imports, settings = MEMORY.imports(grant), in_memory(grant)
    placed = Placed(SUITE.capability, MEMORY.provider, imports=imports, settings=settings)
    async with placed, placed.client() as fsx:
        yield fsx


class Seeded:
    """Stands in for what a provider runs in."""

    def client(self, *, grant: dict[str, Any]) -> Any:
        return seeded(grant)


# What needs others who change the files, devices and pipes, or a root of the machine.
BEYOND = {"race", "special"}
ATTACKS = [
    case
    for case in APPLY
    if case["area"] not in BEYOND and "root" not in case and case["steps"][0]["op"] != "mkdir-deep"
]


def test_which_attempts_apply() -> None:
    assert (len(APPLY), len(ATTACKS)) == (82, 72)


@pytest.mark.parametrize("case", ATTACKS, ids=lambda case: case["name"])
async def test_an_attempt(tmp_path: Path, case: dict[str, Any]) -> None:
    placed: Any = Seeded()
    attack = Attack(tmp_path, case)
    async with attack.guest(placed) as ask:
        answers = [await ask(step) for step in case["steps"]]
    refused = [answer for answer in answers if isinstance(answer, loop.Err)]
    denied = case["expect"]["verdict"] == "denied" and refused
    check(case["expect"], refused[0] if denied else answers[-1])
    await attack.check_always(placed)


@pytest.mark.parametrize("case", IGNORES, ids=named)
async def test_what_git_ignores_is_left_out(tmp_path: Path, case: dict[str, Any]) -> None:
    path = case["path"].rstrip("/")
    lines = {name: "".join(f"{line}\n" for line in lines) for name, lines in case["ignore_files"].items()}
    files: dict[str, Any] = {path: {} if case["is_dir"] else ""} | lines
    config, grant = {"files": {"r": files}}, GRANT
    imports = {"loop:core": loop.builtin("core")}
    async with client(
        "loop:fsx", provider=MEMORY.provider, config=config, grant=grant, imports=imports
    ) as fsx:
        options = {"globs": [], "gitignore": True, "hidden": True, "max_depth": None}
        stream, _end = await fsx.walking.walk(await fsx.files.root("r"), ".", options)
        found = set()
        async for folder in stream:
            above = "" if folder.path == "." else f"{folder.path}/"
            found |= {above + name for name in (*folder.files, *folder.directories)}
    assert (path not in found) == case.get("tools_disagree", {}).get("ripgrep", case["ignored"])


class Both:
    """One root, on a disk and in memory, and a loop that asks both."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._opened = self._loop.run_until_complete(self._open(folder))

    async def _open(self, folder: Path) -> list[tuple[Any, Any]]:
        grant = {"roots": {"r": {"path": str(folder)}}}
        opened = []
        for made in (client("loop:fsx", grant=grant), seeded(grant)):
            fsx = await self._stack.enter_async_context(made)
            opened.append((fsx, await fsx.files.root("r")))
        return opened

    def ask(self, question: Callable[[Any, Any], Awaitable[Any]]) -> list[Any]:
        """What each answers."""
        return self._loop.run_until_complete(self._ask(question))

    async def _ask(self, question: Callable[[Any, Any], Awaitable[Any]]) -> list[Any]:
        told = []
        for fsx, root in self._opened:
            try:
                told.append(await question(fsx, root))
            except loop.Err as e:
                code: Any = e.value
                told.append(f"error: {code.case}")
        return told

    def close(self) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    top = tmp_path_factory.mktemp("both") / "top"
    tangled(top)
    grow(top, dict.fromkeys((name for name in DATA["format"]["tree"] if not (top / name).exists()), ""))
    made = Both(top)
    yield made
    made.close()


@given(st.lists(pieces, max_size=8).map("".join))
def test_patterns(both: Both, pattern: str) -> None:
    told = both.ask(lambda _, root: root.glob(pattern))
    assert all_equal([*map(_plain, told)]), told


@pytest.mark.parametrize("case", GLOBS, ids=lambda case: f"{case['kind']}-{case['pattern']}")
async def test_a_glob(case: dict[str, Any]) -> None:
    files = dict.fromkeys(DATA["format"]["tree"], "")
    pattern = case["pattern"] if case["kind"] == "glob" else f"/{case['pattern']}"
    config, grant = {"files": {"r": files}}, GRANT
    imports = {"loop:core": loop.builtin("core")}
    async with client(
        "loop:fsx", provider=MEMORY.provider, config=config, grant=grant, imports=imports
    ) as fsx:
        assert list(await (await fsx.files.root("r")).glob(pattern)) == case["matches"]


parts = st.sampled_from([
    "a", "b", "c", "d", "l", "up", "out", "back", "abs", "r", "x", "s", "fs", "é", ".a", "..", ".", "",
    "none", "\0", "a" * 256,
])  # fmt: skip
paths = st.lists(parts, min_size=1, max_size=7).map("/".join)


@given(st.sampled_from(["list", "stat", "read", "read_link"]), paths)
def test_paths(both: Both, function: str, path: str) -> None:
    told = both.ask(lambda _, root: getattr(root, function)(path))
    assert all_equal([*map(_plain, told)]), told


@given(paths, st.integers(0, 20) | st.integers(0, (1 << 64) - 1), st.integers(0, 20) | st.just((1 << 32) - 1))
def test_ranges(both: Both, path: str, offset: int, length: int) -> None:
    told = both.ask(lambda _, root: root.read_range(path, offset, length))
    assert all_equal([*map(_plain, told)]), told


def _plain(answer: Any) -> Any:
    """Without times, and without the class that a provider's own bindings give it."""
    if isinstance(answer, (str, int)):
        return answer
    if isinstance(answer, (bytes, memoryview)):
        return bytes(answer)
    if hasattr(answer, "kind"):
        return answer.name, answer.kind.name, answer.size
    return [_plain(one) for one in answer]


# What changes something: an argument of `step` each.
STEPS = [
    "write", "write_new", "append", "truncate", "write_range", "write_atomic", "create_directory",
    "create_directories", "remove_file", "remove_directory", "remove_tree", "rename", "copy", "copy_tree", "link",
    "symlink", "stream",
]  # fmt: skip
short = st.lists(st.sampled_from(["a", "b", "d", "..", ".", "", "l"]), min_size=1, max_size=3).map("/".join)
steps = st.lists(st.tuples(st.sampled_from(STEPS), short, short), max_size=12)


@given(steps)
def test_what_is_left_of_changes(tmp_path_factory: pytest.TempPathFactory, script: list[Any]) -> None:
    """Every answer on the way, and all that is there in the end. Which of two errors is told nobody promises."""
    folder = grow(tmp_path_factory.mktemp("changed"), {"d/a": "A", "l": "-> d"})
    grant = {"roots": {"r": {"path": str(folder), "mode": "rw", "links": "create"}}}
    told = asyncio.run(_changed(grant, script))
    assert told[0] == told[1]


async def _changed(grant: dict[str, Any], script: list[Any]) -> list[Any]:
    told = []
    memory = seeded(grant)
    async with memory as second, client("loop:fsx", grant=grant) as first:
        for fsx in (first, second):
            root = await fsx.files.root("r")
            answers = [await _step(fsx, root, *step) for step in script]
            options = {"globs": [], "gitignore": False, "hidden": True, "max_depth": None}
            stream, _end = await fsx.walking.walk(root, ".", options)
            found = [(f.path, sorted(f.files), sorted(f.directories), sorted(f.links)) async for f in stream]
            data = [(path, bytes(await root.read(path))) for path in await root.glob("**")]
            told.append((answers, sorted(found), data))
    return told


async def _step(fsx: Any, root: Any, name: str, path: str, other: str) -> Any:
    w, data = fsx.writing, other.encode()

    async def bytes_of() -> AsyncIterator[bytes]:
        yield data

    try:
        match name:
            case "write" | "write_new" | "append":
                return await getattr(w, name)(root, path, data)
            case "truncate":
                return await w.truncate(root, path, len(other))
            case "write_range":
                return await w.write_range(root, path, len(other), data)
            case "write_atomic":
                return await w.write_atomic(root, path, data, False)
            case "rename" | "copy" | "link":
                return await getattr(w, name)(root, path, root, other)
            case "copy_tree":
                copied = await w.copy_tree(root, path, root, other)
                return copied.entries, copied.bytes, copied.left_out
            case "symlink":
                return await w.symlink(root, other, path)
            case "stream":
                return await fsx.streaming.write_stream(root, path, ("at", len(other)), bytes_of())
            case _:
                return await getattr(w, name)(root, path)
    except loop.Err:
        return "refused"
