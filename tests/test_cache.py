"""The cache of compiled code: it is used, and nothing that this user's loop-kit did not write is ever run.

A hit leaves the file alone; whatever is compiled is written anew, under a new inode.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from tests.guests import Guest
from tests.wit_types import U32


def wasm(n: int) -> bytes:
    return Guest().exports("n", [], U32, f"(i32.const {n})").wasm()


def load(folder: Path | None, n: int = 5, **options: Any) -> None:
    """Loads a component in a new host, and checks that it is the one that was asked for."""
    with loop.blocking.Host(cache=folder) as host:
        assert host.load(wasm(n), limits=loop.Limits(**options)).call("n") == n


def compiled(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.cwasm"))


def identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache that holds the component 5."""
    made = tmp_path / "some" / "cache"
    load(made)
    return made


def test_the_second_load_is_a_hit(folder: Path) -> None:
    [file] = compiled(folder)
    before = identity(file)
    load(folder)
    load(folder)
    assert identity(file) == before
    assert compiled(folder) == [file]


def test_what_is_compiled_incrementally_is_the_same() -> None:
    """Functions are taken from another component, which has them elsewhere, with what they refer to elsewhere too."""
    before = Guest().exports("n", [], U32, "(i32.const 5)")
    before.exports("fails", [], U32, "unreachable")
    after = Guest().exports("first", [], U32, "(i32.const 7)")
    after.exports("fails", [], U32, "unreachable").exports("n", [], U32, "(i32.const 5)")
    after.exports("m", [], U32, "(i32.const 6)")
    said = []
    for incremental in (False, True):
        with loop.blocking.Host(cache=None, incremental=incremental) as host:
            for guest in (before, after, before):
                app = host.load(guest.wasm())
                assert app.call("n") == 5
                with pytest.raises(loop.errors.GuestTrap) as trapped:
                    app.call("fails")
                said.append(str(trapped.value))
            app = host.load(after.wasm())
            assert (app.call("first"), app.call("m")) == (7, 6)
    assert said[:3] == said[3:]


def test_each_component_and_each_engine_has_its_own_file(folder: Path) -> None:
    load(folder, 6)
    assert len(compiled(folder)) == 2
    load(folder, 6, fuel=10_000)
    assert len(compiled(folder)) == 3


def test_everything_is_the_owners_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert sorted(f.suffix for f in files) == ["", ".cwasm"]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_the_default_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with loop.blocking.Host() as host:
        host.load(wasm(5))
    assert len(compiled(tmp_path / "loop-kit" / "compiled")) == 1


def test_no_cache_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load(None)
    assert list(tmp_path.iterdir()) == []


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "only a header": lambda data: data[:40],
    "magic": lambda data: flip(data, 0),
    "hash": lambda data: flip(data, 20),
    "first byte of code": lambda data: flip(data, 40),
    "middle": lambda data: flip(data, len(data) // 2),
    "last byte": lambda data: flip(data, len(data) - 1),
    "no header": lambda data: data[40:],
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"#!/bin/sh\n" * 100,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_compiled_anew(folder: Path, kind: str) -> None:
    [file] = compiled(folder)
    good = file.read_bytes()
    file.write_bytes(DAMAGE[kind](good))
    load(folder)
    assert file.read_bytes()[:8] == good[:8]
    assert len(file.read_bytes()) == len(good)
    after = identity(file)
    load(folder)
    assert identity(file) == after


def test_every_bit_of_the_header_counts(folder: Path) -> None:
    [file] = compiled(folder)
    for at in range(0, 40, 3):
        file.write_bytes(flip(file.read_bytes(), at))
        before = identity(file)
        load(folder)
        assert identity(file) != before, at


def test_another_components_code_under_this_name(folder: Path) -> None:
    """A file is genuine only for the component that it was compiled from."""
    [five] = compiled(folder)
    load(folder, 6)
    [six] = set(compiled(folder)) - {five}
    five.write_bytes(six.read_bytes())
    load(folder, 5)
    load(folder, 6)


def test_a_file_from_another_cache(folder: Path, tmp_path: Path) -> None:
    """Its key differs, so that copying compiled code about is of no use."""
    load(tmp_path / "other")
    [mine], [theirs] = compiled(folder), compiled(tmp_path / "other")
    assert mine.name == theirs.name
    mine.write_bytes(theirs.read_bytes())
    before = identity(mine)
    load(folder)
    assert identity(mine) != before


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640, 0o604, 0o666, 0o777])
def test_a_file_that_others_may_touch_is_not_loaded(folder: Path, mode: int) -> None:
    [file] = compiled(folder)
    file.chmod(mode)
    before = identity(file)
    load(folder)
    assert identity(file) != before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_of_another_user_or_elsewhere_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    [file] = compiled(folder)
    target = tmp_path / "target"
    target.write_bytes(file.read_bytes())
    target.chmod(0o600)
    file.unlink()
    file.symlink_to(target)
    load(folder)
    assert not file.is_symlink()
    if os.geteuid() == 0:  # nobody else may give files away
        os.chown(file, 12345, -1)
        before = identity(file)
        load(folder)
        assert identity(file) != before
        assert file.stat().st_uid == 0


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    [file] = compiled(folder)
    file.unlink()
    file.mkdir()
    (file / "inside").touch()
    load(folder)


@pytest.mark.parametrize("damage", ["gone", "short", "other", "readable"])
def test_a_key_that_changed_makes_all_files_void(folder: Path, damage: str) -> None:
    [file] = compiled(folder)
    key, before = folder / "key", identity(file)
    assert len(key.read_bytes()) == 32
    if damage == "gone":
        key.unlink()
    elif damage == "readable":
        key.chmod(0o644)
    else:
        key.write_bytes(b"short" if damage == "short" else bytes(32))
    load(folder)
    assert damage in ("short", "readable") or identity(file) != before
    load(folder)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707, 0o777])
def test_a_folder_that_is_not_private_is_not_used(tmp_path: Path, mode: int) -> None:
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(mode)
    load(open_)
    assert list(open_.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for folder in ("file", "file/below", "link", "dangling", "/dev/null", "/proc/loop-kit"):
        load(tmp_path / folder)
    assert list((tmp_path / "real").iterdir()) == []


def test_processes_share_a_cache(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for n in range(3):
        (tmp_path / f"{n}.wasm").write_bytes(wasm(n))
    script = f"""
import loop_kit as loop
for _ in range(5):
    for n in range(3):
        with loop.blocking.Host(cache={str(folder)!r}) as host:
            assert host.load({str(tmp_path)!r} + f"/{{n}}.wasm").call("n") == n
"""
    running = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(4)]
    assert [(p.communicate(timeout=60)[1], p.returncode) for p in running] == [(b"", 0)] * 4
    assert sorted(f.suffix for f in folder.iterdir()) == ["", ".cwasm", ".cwasm", ".cwasm"]
    before = [identity(f) for f in compiled(folder)]
    for n in range(3):
        load(folder, n)
    assert [identity(f) for f in compiled(folder)] == before
