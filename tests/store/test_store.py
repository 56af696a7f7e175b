"""The store: what stays, what goes, and what is found that is not as it should be."""

import multiprocessing
import os
import signal
import stat
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs
from loop_kit.store import Damage, Store
from tests.store.artifacts import artifact, pulled, put, unpacked

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def there(store: Store) -> set[str]:
    return set(Blobs(store.folder))


def test_the_default_is_in_the_users_data_folder_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    store = Store()
    assert store.folder == tmp_path / "loop-kit" / "store"
    assert (store.verify(), store.roots(), store.gc().size) == ([], [], 0)
    assert list(tmp_path.iterdir()) == []  # nothing is made for that
    with store.use() as use:
        use.blobs.add(b"x")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/nowhere")
    assert Store().folder == Path("/nowhere/.local/share/loop-kit/store")


def test_gc_keeps_what_roots_need_and_removes_the_rest(store: Store) -> None:
    with pulled(store, 1) as (use, root, parts):
        lone = use.blobs.add(b"nobody's")
        store.trees.make(use, root.digest, unpacked(parts))
        assert store.gc().size == 0  # all of it is in use
    swept = store.gc(dry_run=True)
    assert (swept.roots, swept.blobs, swept.trees) == ((), ((lone, 8),), ())
    assert lone in there(store)
    assert store.gc() == swept
    assert there(store) == set(parts)
    assert list(store.trees) == [root.digest]
    swept = store.gc(forget=["artifact 1"])
    assert swept.roots == ("artifact 1",)
    assert {digest for digest, _ in swept.blobs} == set(parts)
    assert [digest for digest, _ in swept.trees] == [root.digest]
    assert (there(store), list(store.trees), store.roots()) == (set(), [], [])


def test_what_two_roots_share_stays_for_the_other(store: Store) -> None:
    with pulled(store, 1) as (_, root, parts):
        store.pin("another", root, parts)
    store.gc(forget=["artifact 1"])
    assert there(store) == set(parts)
    with pytest.raises(PackageError, match="there is no root 'artifact 1'"):
        store.gc(forget=["artifact 1"])


def test_a_root_of_a_workspace_goes_with_the_lock_that_names_it(store: Store, tmp_path: Path) -> None:
    lock = tmp_path / "loop.lock"
    root, parts = artifact(1)
    with store.use() as use:
        put(use.blobs, parts)
        lock.write_text(root.digest)
        store.pin(f"{lock} components.a", root, parts, lock=lock)
    assert store.gc().size == 0
    lock.write_text("of another digest")
    assert store.gc().roots == (f"{lock} components.a",)
    assert there(store) == set()


def test_what_is_not_there_is_not_pinned(store: Store) -> None:
    root, parts = artifact(1)
    with store.use() as use:
        put(use.blobs, dict([*parts.items()][:-2]))
        with pytest.raises(PackageError, match="is not in"):
            store.pin("a", root, parts)
    assert store.roots() == []


@pytest.mark.parametrize("part", ["config", "layer", "manifest"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_verify_names_each_blob_that_is_damaged(store: Store, part: str, how: str) -> None:
    with pulled(store, 1) as (_, root, parts):
        pass
    digest = {"config": next(iter(parts)), "layer": [*parts][1], "manifest": root.digest}[part]
    path = Blobs(store.folder).path(digest)
    data = bytearray(path.read_bytes())
    path.unlink()
    if how == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-1])
    found = store.verify()
    if how == "gone":
        assert found == [Damage("root", "artifact 1", f"{digest}, which belongs to it, is not there")]
    else:
        assert [(one.kind, one.name) for one in found] == [("blob", digest)]


def _swap(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)
    file.chmod(0o444)


TAMPERING = {
    "a file": (lambda tree: _swap(next((tree / "files" / "bin").iterdir())), "is not what it was"),
    "a right": (lambda tree: next((tree / "files" / "bin").iterdir()).chmod(0o555), "is not what it was"),
    "one more": (lambda tree: (tree / "files" / "new").write_text(""), "new was not there"),
    "one less": (lambda tree: (tree / "files" / "link").unlink(), "link is gone"),
    "a link": (
        lambda tree: ((tree / "files" / "link").unlink(), (tree / "files" / "link").symlink_to("/etc")),
        "link is not what it was",
    ),
    "a pipe": (lambda tree: os.mkfifo(tree / "files" / "bin" / "pipe"), "bin/pipe was not there"),
    "the listing": (lambda tree: _swap(tree / "listing"), "its listing is not the one"),
    "the record": (lambda tree: (tree / "record.json").write_text("{}"), "cannot be read"),
    "no record": (lambda tree: (tree / "record.json").unlink(), "cannot be read"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_a_tree_that_was_tampered_with_is_refused_and_named(store: Store, what: str) -> None:
    with pulled(store, 1) as (use, root, parts):
        tree = store.trees.make(use, root.digest, unpacked(parts))
        assert store.trees.check(root.digest) == tree
        for folder in (tree.files, tree.files / "bin"):
            folder.chmod(0o755)
        change, said = TAMPERING[what]
        change(tree.files.parent)
        with pytest.raises(Damaged, match=said) as caught:
            store.trees.make(use, root.digest, unpacked(parts))
        assert caught.value.hint == "`loop pull` makes it anew"
        assert [(one.kind, one.name) for one in store.verify()] == [("tree", root.digest)]


def test_a_tree_has_nothing_that_can_be_written(store: Store) -> None:
    with pulled(store, 1) as (use, root, parts):
        tree = store.trees.make(use, root.digest, unpacked(parts))
        assert not any(path.stat().st_mode & 0o222 for path in tree.files.rglob("*"))
        store.trees.remove(root.digest)
        assert list(store.trees) == []
        assert store.trees.left() == []


def test_what_cannot_be_unpacked_leaves_nothing(store: Store) -> None:
    def fill(place: Path) -> None:
        place.mkdir()
        (place / "a").write_text("half")
        raise PackageError("no")

    with pulled(store, 1) as (use, root, _):
        with pytest.raises(PackageError, match="no"):
            store.trees.make(use, root.digest, fill)
        assert list((store.folder / "trees").iterdir()) == []


@pytest.mark.parametrize("at", range(0, 400, 40))
def test_a_damaged_root_is_named_and_nothing_is_removed(store: Store, at: int) -> None:
    with pulled(store, 1) as (_, _, parts):
        pass
    (path,) = (store.folder / "roots").iterdir()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    (found,) = store.verify()
    assert (found.kind, found.name) == ("root", path.name)
    with pytest.raises(PackageError, match=f"the root {path} is damaged") as caught:
        store.gc()
    assert "loop pull" in str(caught.value.hint)
    assert there(store) == set(parts)


def test_a_root_under_the_name_of_another_is_damaged(store: Store) -> None:
    with pulled(store, 1), pulled(store, 2):
        pass
    one, other = sorted((store.folder / "roots").iterdir())
    other.write_bytes(one.read_bytes())
    assert [(found.kind, found.name) for found in store.verify()] == [("root", other.name)]


def _user(folder: Path, seed: int, ready: Connection) -> None:
    store = Store(folder)
    root, parts = artifact(seed)
    with store.use() as use:
        put(use.blobs, parts)
        store.trees.make(use, root.digest, unpacked(parts))
        ready.send(None)
        signal.pause()


def test_what_another_process_uses_stays_until_it_ends_however_it_ends(store: Store) -> None:
    ours, theirs = SPAWN.Pipe()
    user = SPAWN.Process(target=_user, args=(store.folder, 7, theirs))
    user.start()
    ours.recv()
    root, parts = artifact(7)
    assert store.gc().size == 0
    assert there(store) == set(parts)
    user.kill()
    user.join()
    swept = store.gc()
    assert {digest for digest, _ in swept.blobs} == set(parts)
    assert [digest for digest, _ in swept.trees] == [root.digest]
    assert list((store.folder / "users").iterdir()) == []


def test_what_is_asked_for_after_gc_has_begun_is_not_removed_under_ones_hands(store: Store) -> None:
    """Who lists what it needs waits for gc, and then sees that it is gone."""
    root, parts = artifact(3)
    with store.use() as use:
        put(use.blobs, parts)
    seen: list[int | None] = []
    from loop_kit.store import _use

    with store.use() as use:
        with _use.alone(store.folder, print):
            asking = threading.Thread(target=lambda: seen.append(use.blobs.size(root.digest)))
            asking.start()
            asking.join(0.2)
            assert asking.is_alive()
            Blobs(store.folder).remove(root.digest)
        asking.join()
    assert seen == [None]


def test_gc_says_what_it_waits_for(store: Store) -> None:
    from loop_kit.store import _use

    told: list[str] = []
    released = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        released.set()

    with store.use() as use:
        use.blobs.add(b"x")
    with _use.shared(store.folder):
        collecting = threading.Thread(target=lambda: store.gc(tell=tell))
        collecting.start()
        assert released.wait(20)
    collecting.join()
    assert told == ["waiting for a process that checks the store, or cleans it up …"]


def _break_off(store: Store, digest: str) -> None:
    with store.use() as use, use.blobs.writer(digest, 5000) as writer:
        assert writer is not None
        writer.write(b"x" * 100)
        raise ConnectionError("lost")


def test_what_broke_off_is_removed(store: Store) -> None:
    root, parts = artifact(1)
    with pytest.raises(ConnectionError, match="lost"):
        _break_off(store, [*parts][1])
    assert store.gc(dry_run=True).left == 100
    assert store.gc().left == 100
    assert store.gc().left == 0
    assert root.digest not in there(store)
