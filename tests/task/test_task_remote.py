"""Results in a registry: taken by others, verified, and no need."""

from __future__ import annotations

import asyncio
import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_kit.oci.model import Descriptor, Manifest
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.task import _remote
from loop_kit.task._cache import Cache, Output, Result
from loop_kit.task._remote import KIND, Remote
from loop_kit.task._signed import Signed
from tests import registries
from tests.task.workspaces import PAIR, Workspace, pair

BOTH = ("a:build", "b:build")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker(tmp_path_factory.mktemp("registry")) as host:
        yield host


def sharing(folder: Path, repository: str) -> Workspace:
    made = pair(folder)
    made.write("loop.toml", f'{PAIR}\n[tasks]\ncache = "{repository}"\n')
    made.write(
        "packages/a/build.sh", "cat src/* > dist/out; chmod 755 dist/out; ln -s out dist/link; echo made a\n"
    )
    return made


def test_others_take_what_one_has_made(registry: str, tmp_path: Path) -> None:
    first, second = (sharing(tmp_path / name, f"{registry}/team/cache") for name in ("first", "second"))
    assert first.run("build") == dict.fromkeys(BOTH, "ran")
    assert second.run("build") == dict.fromkeys(BOTH, "cached")
    out = second.root / "packages/a/dist/out"
    assert (out.read_text(), out.stat().st_mode & 0o777) == ("one ", 0o755)
    assert (out.parent / "link").readlink() == Path("out")
    assert second.ended["a:build"].log == "made a\n"
    assert second.run("build") == dict.fromkeys(BOTH, "fresh")
    shutil.rmtree(second.cache.folder)
    shutil.rmtree(out.parent)
    assert second.run("build") == {"a:build": "cached", "b:build": "fresh"}


def test_a_registry_that_does_not_answer_is_told_once_and_no_need(tmp_path: Path) -> None:
    made = sharing(tmp_path, "127.0.0.1:1/team/cache")
    told: list[str] = []
    assert made.run("build", tell=told.append) == dict.fromkeys(BOTH, "ran")
    assert len(told) == 1
    assert "results in 127.0.0.1:1/team/cache are not used" in told[0]


async def put(host: str, repository: str, tag: str, data: bytes, layers: list[bytes], folder: Path) -> None:
    """Puts an artifact that nobody has made."""
    blobs = Cache(folder).blobs
    config = Descriptor(KIND, blobs.add(data), len(data))
    parts = [Descriptor("application/octet-stream", blobs.add(layer), len(layer)) for layer in layers]
    async with Registry(host) as registry:
        for blob in (config, *parts):
            await registry.push_blob(repository, blob, blobs)
        await registry.push_manifest(repository, Manifest(config, tuple(parts)).to_bytes(), tag=tag)


def fetched(remote: Remote, key: str) -> Result | None:
    answers: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
    remote.fetch(key, "w", answers.put)
    return answers.get(timeout=30)


@pytest.mark.parametrize(
    ("path", "key", "lacks", "said"),
    [
        ("w/../../x", "1" * 64, False, "an output elsewhere"),
        ("x", "1" * 64, False, "an output elsewhere"),
        ("w/x", "2" * 64, False, f"the result of {'2' * 64}"),
        ("w/x", "1" * 64, True, "which its result names"),
    ],
)
def test_what_is_not_a_result_of_the_key_is_refused(
    registry: str, tmp_path: Path, path: str, key: str, lacks: bool, said: str
) -> None:
    repository = f"bad/{abs(hash((path, key, lacks)))}"
    digest = Cache(tmp_path / "x").blobs.add(b"x")
    result = Result(key, (Output(path, digest, 0o644, 1),), "", 0.0)
    layers = [b"other" if lacks else b"x"]
    asyncio.run(put(registry, repository, "1" * 64, result.to_bytes(), layers, tmp_path / "put"))
    told: list[str] = []
    remote = Remote(f"{registry}/{repository}", Cache(tmp_path / "mine"), Signed(), told.append)
    try:
        assert fetched(remote, "1" * 64) is None
        assert said in told[0]
        assert fetched(remote, "3" * 64) is None  # it is left alone from then on
        assert len(told) == 1
    finally:
        remote.close()


def test_a_result_without_end_is_not_fetched(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote, "_MOST_TOGETHER", 1)
    key, mine = "1" * 64, Cache(tmp_path / "mine")
    outputs = tuple(Output(f"w/{name}", mine.blobs.add(name.encode()), 0o644, 1) for name in "xy")
    for output in outputs:
        mine.blobs.remove(output.digest)
    data = Result(key, outputs, "", 0.0).to_bytes()
    asyncio.run(put(registry, "large/cache", key, data, [b"x", b"y"], tmp_path / "put"))
    told: list[str] = []
    remote = Remote(f"{registry}/large/cache", mine, Signed(), told.append)
    try:
        assert fetched(remote, key) is None
        assert "has more bytes than a result may have" in told[0]
        assert all(mine.blobs.size(output.digest) is None for output in outputs)
    finally:
        remote.close()


def test_a_blob_that_was_changed_in_the_registry_is_refused(tmp_path: Path) -> None:
    with registries.docker(tmp_path / "registry") as host:
        first, second = (sharing(tmp_path / name, f"{host}/team/cache") for name in ("first", "second"))
        first.run("build")
        changed = 0
        for path in (tmp_path / "registry/data").rglob("data"):
            if path.is_file() and path.read_bytes() == b"one ":
                path.write_bytes(b"ONE ")
                changed += 1
        assert changed == 1
        told: list[str] = []
        assert second.run("build", tell=told.append) == dict.fromkeys(BOTH, "ran")
        assert second.read("packages/b/dist/out") == "two one "
        assert "are not used" in told[0]


def test_the_tag_is_the_key(registry: str, tmp_path: Path) -> None:
    made = sharing(tmp_path, f"{registry}/tags/cache")
    made.run("build")

    async def tags() -> list[str]:
        async with Registry(registry) as found:
            return await found.tags(Reference.parse(f"{registry}/tags/cache").repository)

    kept = sorted(path.name for path in made.cache.folder.glob("results/*/*"))
    assert sorted(asyncio.run(tags())) == kept


def test_what_is_put_delays_no_task(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = (sharing(tmp_path / name, f"{registry}/late/cache") for name in ("made", "other"))
    later = threading.Event()
    push = Remote._push
    told: list[tuple[int, int]] = []

    async def slow(self: Remote, result: Result) -> None:
        assert await asyncio.to_thread(later.wait, 30)  # until the task that comes after runs
        await push(self, result)

    monkeypatch.setattr(Remote, "_push", slow)
    found = made.run(
        "build",
        began=lambda task: later.set() if task == "b:build" else None,
        progress=lambda done, of: told.append((done, of)),
    )
    assert found == dict.fromkeys(BOTH, "ran")
    assert told[-1] == (2, 2)
    assert other.run("build") == dict.fromkeys(BOTH, "cached")


MANY = 6


def many(folder: Path, repository: str) -> Workspace:
    made = Workspace(folder)
    made.write(
        "loop.toml",
        f"""
        [workspace]
        name = "top"
        members = ["packages/*"]
        [tasks]
        cache = "{repository}"
        [workspace.tasks.build]
        run = "cp in out; echo >> ../../ran"
        inputs = ["in"]
        outputs = ["out"]
        """,
    )
    for number in range(MANY):
        made.write(f"packages/p{number}/loop.toml", f'[workspace]\nname = "p{number}"\n')
        made.write(f"packages/p{number}/in", str(number))
    return made


def test_results_are_fetched_together(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (many(tmp_path / name, f"{registry}/many/cache") for name in ("first", "second"))
    assert set(first.run("build", jobs=1).values()) == {"ran"}
    all_of_them = asyncio.Barrier(MANY)
    fetch = Remote._fetch

    async def at_once(self: Remote, key: str, at: str, whole: bool) -> Result | None:
        async with asyncio.timeout(30):
            await all_of_them.wait()
        return await fetch(self, key, at, whole)

    monkeypatch.setattr(Remote, "_fetch", at_once)
    assert list(second.run("build", jobs=1).values()) == ["cached"] * MANY


def test_what_others_do_not_have_runs_so_many_at_once(registry: str, tmp_path: Path) -> None:
    made = many(tmp_path, f"{registry}/none/cache")
    running: set[str] = set()
    most = 0
    with made.session() as session:
        names = session.find(["build"])

        def began(task: str) -> None:
            nonlocal most
            running.add(task)
            most = max(most, len(running))

        for ended in session.run(names, jobs=2, began=began):
            assert ended.how == "ran"
            running.discard(ended.task)
    assert most <= 2
    assert len(made.read("ran").splitlines()) == MANY


def test_who_stops_waits_for_nothing_on_its_way(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sharing(tmp_path, f"{registry}/never/cache")

    async def never(self: Remote, result: Result) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Remote, "_push", never)
    with made.session() as session:
        going = session.run(session.find(["build"]))
        assert next(going).how == "ran"
        going.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "loop-results"]
