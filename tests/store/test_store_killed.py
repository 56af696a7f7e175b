"""Processes that fetch, pack, unpack and clean up, and are killed at any moment: the store is always as it should be."""

import asyncio
import contextlib
import multiprocessing
import os
import random
from pathlib import Path

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.layout import Layout
from loop_kit.oci.model import Descriptor, Manifest, parse
from loop_kit.store import Store
from loop_kit.store.alone import code, pull
from tests.soaking import Soak
from tests.store.artifacts import put, unpacked
from tests.store.killing import kill
from tests.store.packed import component

KINDS = 12
"""So many artifacts, so that processes want the same ones, and gc takes what another has just put there."""
SIZE = 400_000


def _made(folder: Path) -> list[tuple[Descriptor, dict[str, bytes]]]:
    """The artifacts that a layout has, with all that belongs to each."""
    layout = Layout(folder)
    found = []
    for kind in range(KINDS):
        root = layout.resolve(str(kind))
        data = layout.blobs.read(root.digest)
        manifest = parse(data)
        assert isinstance(manifest, Manifest)
        found.append(
            (
                root,
                {root.digest: data}
                | {part.digest: layout.blobs.read(part.digest) for part in manifest.parts},
            )
        )
    return found


def _work(folder: Path, seed: int) -> None:
    """Does this and that until it is killed. What it does not expect ends it with another code."""
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    chosen, store, made = random.Random(seed), Store(), _made(folder / "dist")
    while True:
        kind = chosen.randrange(KINDS)
        root, parts = made[kind]
        reference = f"oci-layout:{folder / 'dist'}:{kind}"
        match chosen.choice(["pull", "pull", "pack", "unpack", "run", "gc", "verify"]):
            case "pull":
                assert asyncio.run(pull(reference, folder))[0].digest == root.digest
            case "pack":
                with store.use() as use:
                    put(use.blobs, parts, piece=1 << 14)
                    store.pin(f"packed {kind}", root, parts)
                    # what is in use does not go, whatever others do
                    assert [digest_of(use.blobs.read(digest)) for digest in parts] == [*parts]
            case "unpack":
                with store.use() as use:
                    store.trees.make(use, root.digest, unpacked(parts))
                    assert len(list(store.trees.check(root.digest).files.rglob("*"))) == 5
            case "run":
                try:
                    assert asyncio.run(code(reference, folder, offline=True)) == _code(kind)
                except Damaged:
                    raise
                except PackageError:
                    pass  # it may well not be there
            case "gc":
                with contextlib.suppress(PackageError):  # there is no such root, or not any more
                    store.gc(forget=[chosen.choice([reference, f"packed {kind}"])])
            case "verify":
                assert store.verify() == []


def _code(kind: int) -> bytes:
    return random.Random(kind).randbytes(SIZE)


@pytest.mark.timeout(3600)
def test_whoever_is_killed_at_any_moment_the_store_verifies(tmp_path: Path, soak: Soak) -> None:
    folder, rounds = tmp_path / "data" / "loop-kit" / "store", soak(12, 100)
    layout = Layout(tmp_path / "dist").create()
    for kind in range(KINDS):
        component(layout, str(kind), _code(kind))
    chosen = random.Random(2026)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    killed = trees = blobs = 0
    for number in range(rounds):
        workers = [context.Process(target=_work, args=(tmp_path, 1000 * number + at)) for at in range(3)]
        kill(workers, chosen.uniform(0.05, 0.6))
        killed += len(workers)
        store = Store(folder)
        assert store.verify() == []
        found = list(Blobs(folder))
        assert all(digest_of(Blobs(folder).read(digest)) == digest for digest in found)
        for root in store.roots():
            assert {*root.digests} <= {*found}
        trees += len(list(store.trees))
        blobs += len(found)
        if number % 3 == 2:  # nobody is left who needs what is not pinned
            store.gc()
            needed = {digest for root in store.roots() for digest in root.digests}
            assert set(Blobs(folder)) == needed
            assert set(store.trees) <= needed
            assert os.listdir(folder / "users") == os.listdir(folder / ".partial") == []
            assert store.verify() == []
    assert trees > rounds / 3, "there was hardly anything to find fault with"
    assert blobs > rounds
    soak.note(rounds=rounds, killed=killed, blobs=blobs, trees=trees)
