"""Old results are removed, and what others use stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop_kit.task._cache import Cache, Result
from loop_kit.task._clean import AGE, SIZE, clean, daily
from tests.cli import LOOP
from tests.task.workspaces import pair

DAY = 86400.0


def keep(cache: Cache, folder: Path, number: int, text: str, *, days: float) -> Result:
    """A result with one output, which was used some days ago."""
    file = folder / "out"
    file.write_text(text)
    result = Result(f"{number:064x}", (cache.take(str(file), "out"),), "", 0.0)
    assert cache.keep(result)
    then = time.time() - days * DAY
    for path in (cache._path(result.key), cache.blobs.path(result.outputs[0].digest)):
        os.utime(path, (then, then))
    return result


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def there(cache: Cache, *results: Result) -> list[bool]:
    return [cache.read(result.key, "") is not None for result in results]


def test_what_is_old_goes_and_what_is_shared_stays(cache: Cache, tmp_path: Path) -> None:
    old = keep(cache, tmp_path, 1, "old", days=40)
    also = keep(cache, tmp_path, 2, "shared", days=40)
    new = keep(cache, tmp_path, 3, "shared", days=2)
    done = clean(cache, SIZE, AGE)
    assert done is not None
    assert (done.removed, done.results) == (2, 1)
    assert there(cache, old, also, new) == [False, False, True]
    assert list(cache.blobs) == [new.outputs[0].digest]


def test_of_too_much_goes_what_was_used_longest_ago(cache: Cache, tmp_path: Path) -> None:
    some = [keep(cache, tmp_path, n, str(n) * 10_000, days=10 - n) for n in range(5)]
    assert cache.find(some[1].key, "") is not None  # it is used
    done = clean(cache, 22_000, AGE)
    assert done is not None
    assert done.size <= 22_000
    assert there(cache, *some) == [False, True, False, False, True]
    assert sorted(cache.blobs) == sorted(some[n].outputs[0].digest for n in (1, 4))


def test_what_is_being_kept_stays(cache: Cache, tmp_path: Path) -> None:
    """Its blob is there, its result not yet."""
    before = keep(cache, tmp_path, 1, "same", days=40)
    (tmp_path / "out").write_text("same")
    output = cache.take(str(tmp_path / "out"), "out")
    done = clean(cache, SIZE, AGE)
    assert done is not None
    assert there(cache, before) == [False]
    late = Result("2" * 64, (output,), "", 0.0)
    assert cache.keep(late)
    cache.blobs.verify(output.digest)


def test_a_result_is_not_kept_whose_files_went_in_between(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    output = cache.take(str(tmp_path / "out"), "out")
    clean(cache, 0, 0, grace=0)
    assert not cache.keep(Result("1" * 64, (output,), "", 0.0))
    assert list(cache.folder.glob("results/*/*")) == []


def test_once_a_day_at_most(cache: Cache, tmp_path: Path) -> None:
    old = keep(cache, tmp_path, 1, "old", days=40)
    daily(cache)
    assert there(cache, old) == [True]
    os.utime(cache.folder / "cleaned", (time.time() - 2 * DAY,) * 2)
    daily(cache)
    assert there(cache, old) == [False]
    again = keep(cache, tmp_path, 1, "old", days=40)
    daily(cache)
    assert there(cache, again) == [True]


CLEANS = """
import sys
from pathlib import Path
from loop_kit.task._cache import Cache
from loop_kit.task._clean import clean
print(flush=True)
while True:
    clean(Cache(Path(sys.argv[1])), 0, 0, grace=0)
"""


def test_tasks_are_right_while_all_is_removed_again_and_again(tmp_path: Path) -> None:
    made = pair(tmp_path)
    command = [sys.executable, "-c", CLEANS, str(made.cache.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as cleaner:
        assert cleaner.stdout is not None
        cleaner.stdout.readline()
        for number in range(12):
            made.write("packages/a/src/x", f"{number % 3} ")
            assert set(made.run("build").values()) <= {"ran", "cached", "fresh"}
            assert made.read("packages/b/dist/out") == f"two {number % 3} "
        cleaner.kill()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setenv("LOOP_TASK_CACHE", str(cache.folder))
    keep(cache, tmp_path, 1, "old", days=3)

    def said(*args: str) -> str:
        done = subprocess.run(
            [LOOP, "task", "clean", *args], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        return done.stdout or done.stderr

    assert json.loads(said("--json"))["results"] == 1
    assert "expected a size" in said("--size", "much")
    assert said("--age", "2d").startswith("removed 1 results")
    keep(cache, tmp_path, 1, "new", days=0)
    assert "0 results stay, 0 B" in said("--all")
    assert list(cache.blobs) == []
