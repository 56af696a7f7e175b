"""Stores that cannot be used as they are: what is said, and that nothing is lost."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.store import Store
from tests.store.artifacts import artifact, pulled, put, unpacked

ROOT = os.geteuid() == 0


@pytest.mark.parametrize("below", ["", "blobs", "blobs/sha256", "roots", "trees", "users", ".partial"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, below: str) -> None:
    with pulled(Store(tmp_path / "store"), 1) as (use, root, parts):
        Store(tmp_path / "store").trees.make(use, root.digest, unpacked(parts))
    place = tmp_path / "store" / below
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        PackageError, match=f"{place} is a link: whoever can change it could exchange the store"
    ):
        Store(tmp_path / "store")


@pytest.mark.parametrize("below", ["", "blobs", "roots"])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, below: str) -> None:
    with pulled(Store(tmp_path / "store"), 1):
        pass
    place = tmp_path / "store" / below
    place.chmod(0o777)
    with pytest.raises(PackageError, match=f"others may write to {place}") as caught:
        Store(tmp_path / "store")
    assert caught.value.hint == f"chmod go-w {place}"


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(PackageError, match="is no folder"):
        Store(tmp_path / "store")


# As a user who is not root, whom rights concern.
AS_NOBODY = """
import os, sys
from loop_kit.errors import PackageError
from loop_kit.store import Store
os.setgid(65534); os.setuid(65534)  # who may not be allowed to read where Python is
try:
    store = Store(sys.argv[1])
    with store.use() as use:
        print("read", len(use.blobs.read(sys.argv[2])))
        use.blobs.add(b"more")
except PackageError as error:
    print(error)
    print(error.hint)
"""


def as_nobody(store: Path, digest: str) -> str:
    command = [sys.executable, "-c", AS_NOBODY, str(store), digest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
def test_a_store_of_another_user_is_refused(tmp_path: Path) -> None:
    with pulled(Store(tmp_path / "store"), 1):
        pass
    os.chown(tmp_path / "store" / "blobs", 12345, 12345)
    with pytest.raises(PackageError, match="blobs belongs to another user, 12345"):
        Store(tmp_path / "store")


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that every user can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
def test_what_may_be_read_alone_is_read_and_what_may_not_says_why(open_path: Path) -> None:
    store = open_path / "store"
    with pulled(Store(store), 1) as (_, root, _parts):
        pass
    said = as_nobody(store, root.digest)
    assert f"the store in {store}/blobs cannot be used" in said
    assert "Permission denied" in said
    for folder in (store, *(path for path in store.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    (store / "lock").chmod(0o644)
    read, why, hint = as_nobody(store, root.digest).splitlines()
    assert read == f"read {root.size}"  # of root's, who can do anything anyhow
    assert "cannot be used" in why
    assert "Permission denied" in why
    assert "XDG_DATA_HOME" in hint
    assert Store(store).verify() == []


IN_A_SMALL_DISK = """
import sys
from pathlib import Path
from tests.store.artifacts import artifact, pulled, put, unpacked
from loop_kit.errors import PackageError
from loop_kit.store import Store
store = Store(sys.argv[1])
with pulled(store, 1, size=100_000) as (_, kept, _):
    pass
for seed in range(2, 100):
    root, parts = artifact(seed, size=300_000)
    try:
        with store.use() as use:
            put(use.blobs, parts)
            store.trees.make(use, root.digest, unpacked(parts))
    except PackageError as error:
        print(error)
        print(error.hint)
        break
assert store.verify() == [], store.verify()
assert [root.digest for root in store.roots()] == [kept.digest]
store.gc()
assert store.verify() == []
with pulled(store, 1, size=100_000):
    print("goes on")
"""


def _run(script: str, *command: str) -> list[str]:
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not ROOT, reason="only root can mount")
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=2m none {tmp_path} && exec {sys.executable} - {tmp_path}/store"
    why, hint, after = _run(IN_A_SMALL_DISK, "unshare", "--mount", "sh", "-c", mount)
    assert why.startswith(f"the store in {tmp_path}/store cannot be used: No space left on device")
    assert "loop store gc" in hint
    assert after == "goes on"


def test_files_that_may_not_grow_lose_nothing(tmp_path: Path) -> None:
    limit = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({1 << 18}, {resource.RLIM_INFINITY}))\n"
    )
    why, hint, after = _run(limit + IN_A_SMALL_DISK, sys.executable, "-", f"{tmp_path}/store")
    assert why.startswith(f"the store in {tmp_path}/store cannot be used: File too large")
    assert "ulimit -f" in hint
    assert after == "goes on"


READ_ONLY = """
import sys
from tests.store.artifacts import artifact, put, unpacked
from loop_kit.errors import PackageError
from loop_kit.store import Store
store = Store(sys.argv[1])
root, parts = artifact(1)
with store.use() as use:
    print(len(use.blobs.read(root.digest)) == root.size, len(list(store.trees.check(root.digest).files.rglob("*"))))
assert store.verify() == []
for work in (lambda use: put(use.blobs, artifact(2)[1]), lambda use: store.gc(forget=["artifact 1"]),
             lambda use: store.pin("x", root, parts)):
    try:
        with store.use() as use:
            work(use)
    except PackageError as error:
        print(error)
"""


@pytest.mark.skipif(not ROOT, reason="only root can mount")
def test_a_store_that_is_read_only_is_read_and_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pulled(store, 1) as (use, root, parts):
        store.trees.make(use, root.digest, unpacked(parts))
    bind = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && exec {sys.executable} - "
    read, *refused = _run(READ_ONLY, "unshare", "--mount", "sh", "-c", bind + str(store.folder))
    assert read == "True 6"
    assert len(refused) == 3
    assert all(f"the store in {store.folder} cannot be used" in line for line in refused)
    assert all("Read-only file system" in line for line in refused)
    assert store.verify() == []
    assert artifact(1)[0].digest in {one.digest for one in store.roots()}
    with store.use() as use:
        put(use.blobs, artifact(2)[1])
