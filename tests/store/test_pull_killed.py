"""Two pulls from a registry at once, beside one that cleans up and one that verifies, all killed at any moment."""

import asyncio
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from loop_kit.lock import lock_of, read
from loop_kit.manifest import load
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import push
from loop_kit.store import Store
from loop_kit.store.workspace import pull, ready
from tests.soaking import Soak
from tests.store.killing import kill
from tests.store.packed import component

KINDS = 6
SIZE = 3_000_000
"""So much that a pull takes its time, on this machine too."""
WORKSPACES = ("one", "two")


def _code(kind: int) -> bytes:
    return random.Random(kind).randbytes(SIZE)


async def _put_there(host: str, layout: Layout) -> None:
    async with Registry(host) as registry:
        for kind in range(KINDS):
            reference = Reference.parse(f"{host}/acme/kind{kind}:1")
            await push(layout.blobs, layout.resolve(str(kind)), registry, reference)


def _work(folder: Path, what: str) -> None:
    """Does one thing, again and again where that makes sense, until it is killed."""
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    store = Store()
    match what:
        case "gc":
            while True:
                store.gc()
        case "verify":
            while True:
                assert store.verify() == []
        case _:
            asyncio.run(pull(load(folder / what)))
            time.sleep(60)  # who is ready waits to be killed


@pytest.mark.timeout(3600)
def test_pulls_that_are_killed_leave_a_store_that_verifies(
    docker_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soak: Soak
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    layout = Layout(tmp_path / "dist").create()
    for kind in range(KINDS):
        component(layout, str(kind), _code(kind))
    asyncio.run(_put_there(docker_registry, layout))
    for at, name in enumerate(WORKSPACES):  # they have most in common
        (tmp_path / name).mkdir()
        (tmp_path / name / "loop.toml").write_text(
            "".join(
                f'[components.c{kind}]\npath = "oci:{docker_registry}/acme/kind{kind}:1"\n'
                for kind in range(at, KINDS - 1 + at)
            )
        )
    chosen, rounds = random.Random(9), soak(8, 100)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    store = Store(tmp_path / "data" / "loop-kit" / "store")
    killed = whole = broken = 0
    for number in range(rounds):
        workers = [
            context.Process(target=_work, args=(tmp_path, what)) for what in (*WORKSPACES, "gc", "verify")
        ]
        kill(workers, chosen.uniform(0.1, 1.2))
        killed += len(workers)
        assert store.verify() == []
        found = {*Blobs(store.folder)}
        for root in store.roots() if store.folder.is_dir() else ():
            assert {*root.digests} <= found
        for name in WORKSPACES:  # a lock is there whole, and with it all that it pins; or not at all
            lock = lock_of(tmp_path / name / "loop.toml")
            if not lock.exists():
                broken += 1
                continue
            assert len(read(lock).components) == KINDS - 1
            asyncio.run(ready(load(tmp_path / name), locked=True, offline=True))
            whole += 1
            lock.unlink()  # so the next one has it all to do again
        if number % 3 == 2:
            store.gc()
            assert store.verify() == []
            assert not list((store.folder / ".partial").iterdir()) if store.folder.is_dir() else True
    for name in WORKSPACES:
        assert len(asyncio.run(pull(load(tmp_path / name))).entries) == KINDS - 1
    assert store.verify() == []
    assert broken, "none was killed in time"
    soak.note(rounds=rounds, killed=killed, broken_off=broken, whole=whole)
