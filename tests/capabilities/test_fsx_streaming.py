"""What `loop:fsx/streaming` promises, of every provider in every host."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from tests.capabilities.serving import Serving, error_of
from tests.capabilities.test_fsx import ODD, ODD_FILES, ODD_PATHS
from tests.capabilities.trees import grow, special

DATA = os.urandom(1 << 16) * 33 + b"the end"
ALL = 1 << 30


def load(serve: Serving, folder: Path, files: Any, **grant: Any) -> Callable[..., Any]:
    root = str(grow(folder / "top", files))
    call = serve("streaming", "fsx", {"roots": {"r": {"path": root}}, **grant})
    return lambda name, path, *args: call(name, "r", path, *args)


@pytest.mark.parametrize("once", [1 << 20, 1 << 16, 9999])
def test_a_stream_gives_all_bytes_and_ends_well(serve: Serving, tmp_path: Path, once: int) -> None:
    call = load(serve, tmp_path, {"f": DATA, "l": "-> f"})
    for path in ("f", "l"):
        data, end = call("stream", path, 0, once, ALL)
        assert (data == DATA, end) == (True, loop.Ok(None))


@pytest.mark.parametrize("once", [1 << 20, 1 << 17, 5000])
def test_a_file_that_is_in_memory_in_parts(serve: Serving, tmp_path: Path, once: int) -> None:
    """Those go to the guest at once, the others are read ahead, and they come in order."""
    call = load(serve, tmp_path, {"f": DATA})
    with (tmp_path / "top/f").open("rb") as file:
        os.fsync(file.fileno())
        for offset in range(0, len(DATA), 3 << 17):
            os.posix_fadvise(file.fileno(), offset, 1 << 17, os.POSIX_FADV_DONTNEED)
    data, end = call("stream", "f", 0, once, ALL)
    assert (data == DATA, end) == (True, loop.Ok(None))


def test_one_byte_at_a_time(serve: Serving, tmp_path: Path) -> None:
    call = load(serve, tmp_path, {"f": DATA[:1000]})
    assert call("stream", "f", 0, 1, ALL) == (DATA[:1000], loop.Ok(None))


@pytest.mark.parametrize(
    "offset", [1, len(DATA) - 3, len(DATA), len(DATA) + 1, 1 << 32, 1 << 62, (1 << 64) - 1]
)
def test_a_stream_starts_at_its_offset(serve: Serving, tmp_path: Path, offset: int) -> None:
    data, end = load(serve, tmp_path, {"f": DATA})("stream", "f", offset, 1 << 16, ALL)
    assert (data == DATA[offset:], end) == (True, loop.Ok(None))


def test_an_empty_file(serve: Serving, tmp_path: Path) -> None:
    assert load(serve, tmp_path, {"f": ""})("stream", "f", 0, 10, ALL) == (b"", loop.Ok(None))


@pytest.mark.parametrize("limit", [0, 1, 1000, 300_000])
def test_a_stream_may_be_dropped_early(serve: Serving, tmp_path: Path, limit: int) -> None:
    """Nobody reads on then, and that is no error."""
    call = load(serve, tmp_path, {"f": DATA})
    data, end = call("stream", "f", 0, 1000, limit)
    assert (len(data) >= limit, len(data) < limit + 1000) == (True, True)
    assert (DATA.startswith(data), end) == (True, loop.Ok(None))


def test_the_size_limit_of_whole_files_does_not_apply(serve: Serving, tmp_path: Path) -> None:
    call = load(serve, tmp_path, {"f": DATA}, **{"max-read": 4})
    data, end = call("stream", "f", 0, 1 << 16, ALL)
    assert (data == DATA, end) == (True, loop.Ok(None))


@pytest.mark.parametrize("once", [1 << 20, 777])
def test_two_streams_of_one_file(serve: Serving, tmp_path: Path, once: int) -> None:
    one, other = load(serve, tmp_path, {"f": DATA[:500_000]})("both", "f", once)
    assert (one == DATA[:500_000], other == DATA[:500_000]) == (True, True)


@pytest.mark.parametrize(("path", "code"), [*ODD_PATHS, *ODD_FILES])
def test_what_cannot_be_opened_fails_at_once(serve: Serving, tmp_path: Path, path: str, code: str) -> None:
    call = load(serve, tmp_path, ODD)
    special(tmp_path / "top")
    assert error_of(call, "stream", path, 0, 10, ALL) == code


def test_how_reading_failed(serve: Serving) -> None:
    """A process's memory has nothing at its start."""
    call = serve("streaming", "fsx", {"roots": {"r": {"path": "/proc/self"}}})
    data, end = call("stream", "r", "mem", 0, 10, ALL)
    assert (data, end.value.case) == (b"", "io")


def test_files_that_call_themselves_empty(serve: Serving) -> None:
    call = serve("streaming", "fsx", {"roots": {"r": {"path": "/proc"}}})
    assert call("stream", "r", "version", 0, 7, ALL) == (Path("/proc/version").read_bytes(), loop.Ok(None))


def test_streams_leave_no_file_open(serve: Serving, tmp_path: Path) -> None:
    call = load(serve, tmp_path, {"f": DATA[:300_000]})

    def use() -> None:
        for limit in (0, 1000, ALL):
            call("stream", "f", 0, 1000, limit)
        call("both", "f", 1 << 20)

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        use()
    assert len(os.listdir("/proc/self/fd")) <= before
