"""What is kept is not synced: whoever is killed while keeping it leaves nothing torn that is restored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.task._cache import Cache

KEEPS = """
import os, sys
from pathlib import Path
from loop_kit.task._cache import Cache, Result
cache, files = Cache(Path(sys.argv[1])), Path(sys.argv[2])
for number in range(1000):
    outputs = []
    for name in ("a", "b", "c"):
        path = files / name
        path.write_bytes(os.urandom(16) * (1 << 16))
        print(number, name, flush=True)
        outputs.append(cache.take(str(path), name))
    cache.keep(Result(f"{number:064x}", tuple(outputs), "", 0.0))
"""


@pytest.mark.parametrize("after", range(4, 16))
def test_who_is_killed_leaves_no_torn_result(tmp_path: Path, after: int) -> None:
    """It is killed as it says that it begins with a file: somewhere in keeping this one."""
    files, root, cache = tmp_path / "files", tmp_path / "root", Cache(tmp_path / "cache")
    files.mkdir()
    root.mkdir()
    command = [sys.executable, "-c", KEEPS, str(cache.folder), str(files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.kill()
    for digest in cache.blobs:
        cache.blobs.verify(digest)
    found = 0
    for path in cache.folder.glob("results/*/*"):
        if path.name.startswith("."):
            continue  # of no key, and so of nobody
        result = cache.find(path.name, "")
        assert result is not None
        cache.restore(str(root), result.outputs, tmp_path / "scratch")
        found += 1
    assert found >= (after - 1) // 3


def test_a_torn_blob_is_told_before_anything_is_restored(tmp_path: Path) -> None:
    cache, root = Cache(tmp_path / "cache"), tmp_path / "root"
    root.mkdir()
    outputs = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 9)
        outputs.append(cache.take(str(tmp_path / name), name))
    torn = cache.blobs.path(outputs[1].digest)
    torn.chmod(0o644)
    torn.write_bytes(bytes(9))
    with pytest.raises(PackageError):
        cache.restore(str(root), outputs, tmp_path / "scratch")
    assert list(root.iterdir()) == []
