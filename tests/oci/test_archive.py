"""Archives: the same bytes from the same files, and nothing outside of the folder from anybody's."""

import gzip
import io
import os
import stat
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from loop_kit.errors import PackageError
from loop_kit.oci.archive import Bounds, Entry, safe_name, untar, unzip, write_tar


def packed(*entries: Entry) -> bytes:
    out = io.BytesIO()
    write_tar(out, entries)
    return out.getvalue()


def tar(*members: tuple[str, dict[str, Any], bytes]) -> bytes:
    """A tar that `write_tar` would not write."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, said, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in said.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    archives = []
    for index, name in enumerate(("one", "two")):
        at = tmp_path / name
        at.mkdir()
        for file in ("b", "a") if index else ("a", "b"):
            (at / file).write_text(file)
        os.chmod(at / "a", 0o700 if index else 0o755)
        os.chmod(at / "b", 0o600 if index else 0o664)
        os.utime(at / "a", (index, index))
        (at / "link").symlink_to("a")
        names = sorted(("a", "b", "link"), reverse=bool(index))
        archives.append(packed(*(Entry.of(f"folder/{file}", at / file) for file in names)))
    assert archives[0] == archives[1]
    assert untar(io.BytesIO(archives[0]), tmp_path / "out") == 2
    out = tmp_path / "out" / "folder"
    assert {
        path.name: stat.S_IMODE(path.lstat().st_mode) for path in out.iterdir() if path.name != "link"
    } == {
        "a": 0o755,
        "b": 0o644,
    }
    assert (os.readlink(out / "link"), (out / "link").read_text()) == ("a", "a")


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress])
def test_folders_are_left_out_where_asked(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = tar(
        ("top", {"type": tarfile.DIRTYPE}, b""), ("./top/bin/tool", {"mode": 0o755}, b"x"), ("note", {}, b"y")
    )
    assert untar(io.BytesIO(compress(data)), tmp_path, strip=1) == 1
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "bin",
        "bin/tool",
    ]


HOSTILE: dict[str, tuple[tuple[str, dict[str, Any], bytes], ...]] = {
    "absolute": (("/etc/passwd", {}, b""),),
    "leads out of the folder": (("a/../../b", {}, b""),),
    "may lead out of the folder": (("a/b", {"type": tarfile.SYMTYPE, "linkname": "../../c"}, b""),),
    "is a link to '/etc'": (("a", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, b""),),
    # `l` is the folder itself, so that `x/y/l/..` is what is around it
    "'m' is a link to 'x/y/l/../b'": (
        ("x/y/l", {"type": tarfile.SYMTYPE, "linkname": "../.."}, b""),
        ("m", {"type": tarfile.SYMTYPE, "linkname": "x/y/l/../b"}, b""),
    ),
    "lie in 'a', which is a link": (("a", {"type": tarfile.SYMTYPE, "linkname": "."}, b""), ("a/b", {}, b"")),
    "lie in 'a', which is a file": (("a", {}, b""), ("a/b", {}, b"")),
    "is there twice": (("a", {}, b"1"), ("a", {}, b"2")),
    "is a device": (("a", {"type": tarfile.CHRTYPE}, b""),),
    "is a pipe": (("a", {"type": tarfile.FIFOTYPE}, b""),),
    "is a hard link": (("a", {}, b""), ("b", {"type": tarfile.LNKTYPE, "linkname": "a"}, b"")),
    "setuid": (("a", {"mode": 0o4755}, b""),),
    "has a character": (("a\nb", {}, b""),),
    "is too long": (("a" * 256, {}, b""),),
    "more than 4 entries": tuple((f"{n}", {}, b"") for n in range(5)),
    "more than 100 bytes": (("a", {}, b"x" * 60), ("b", {}, b"x" * 60)),
}


@pytest.mark.parametrize("said", HOSTILE)
def test_what_would_do_harm_is_refused(said: str, tmp_path: Path) -> None:
    place = tmp_path / "place" / "within"
    with pytest.raises(PackageError, match=f"^layer .*{said}"):
        untar(io.BytesIO(tar(*HOSTILE[said])), place, Bounds(entries=4, size=100), what="layer x")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert list((tmp_path / "place").iterdir()) == [place]
    assert not any(path.is_symlink() for path in place.rglob("*"))


def test_links_that_stay_inside_are_made(tmp_path: Path) -> None:
    untar(
        io.BytesIO(packed(Entry("bin/tool", None, link="../lib/tool.js"), Entry("lib/tool.js", b"x", True))),
        tmp_path,
    )
    assert (tmp_path / "bin/tool").resolve() == tmp_path / "lib/tool.js"
    with pytest.raises(PackageError, match="may lead out"):
        packed(Entry("a", None, link="../b"))


def test_a_folder_that_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(PackageError, match="is not empty"):
        untar(io.BytesIO(packed(Entry("a", b""))), tmp_path)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-9], lambda data: data[:40], lambda data: b"no archive" * 100]
)
def test_what_is_damaged_is_said(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = packed(Entry("a", os.urandom(5000)))
    with pytest.raises(PackageError, match=r"^the archive"):
        untar(io.BytesIO(change(data)), tmp_path)
    with pytest.raises(PackageError, match=r"^wheel is damaged"):
        unzip(io.BytesIO(change(data)), tmp_path / "b", what="wheel")


def test_headers_are_bounded(tmp_path: Path) -> None:
    """A header that says more of a file may say that it is as long as it likes."""
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 512 << 20
    data = gzip.compress(header.tobuf() + bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PackageError, match="a header of"):
            untar(io.BytesIO(data), tmp_path / "a")
        deep = tarfile.TarInfo("deep")
        deep.type, deep.size = tarfile.XGLTYPE, 512
        with pytest.raises(PackageError):
            untar(io.BytesIO((deep.tobuf() + b"11 foo=bar\n".ljust(512, b"\0")) * 5000), tmp_path / "b")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_is_stopped_by_what_it_is_and_not_by_what_it_says(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(4 << 20))
    data = bytearray(out.getvalue())
    for at in (data.index(b"PK\x01\x02") + 24, data.index(b"PK\x03\x04") + 22):
        data[at : at + 4] = (100).to_bytes(4, "little")  # its length, by its own words
    with pytest.raises(PackageError):
        unzip(io.BytesIO(bytes(data)), tmp_path, Bounds(size=1 << 20))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


def test_a_zip_is_unpacked_as_a_tar_is(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a/b.py", "x")
        for name, mode, data in (("a/run", 0o100755, "y"), ("a/link", 0o120777, "run")):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data)
    assert unzip(out, tmp_path / "out") == 2
    assert stat.S_IMODE((tmp_path / "out/a/run").stat().st_mode) == 0o755
    assert os.readlink(tmp_path / "out/a/link") == "run"
    for index, (name, mode) in enumerate({"../a": 0o100644, "pipe": 0o010644, "suid": 0o104755}.items()):
        with zipfile.ZipFile(out := io.BytesIO(), "w") as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, "")
        with pytest.raises(PackageError):
            unzip(out, tmp_path / str(index))


def test_names_are_tidied() -> None:
    assert safe_name("./a//b/./c/") == "a/b/c"
    for name in ("C:/x", "a\\b", "x/" * 65, "\0"):
        with pytest.raises(PackageError):
            safe_name(name)


FILES: tuple[tuple[str, dict[str, Any], bytes], ...] = (
    ("a/one.txt", {}, b"one"),
    ("a/two.txt", {"mode": 0o755}, b"two" * 1000),
)


def test_what_zstd_has_folded_is_read(tmp_path: Path) -> None:
    folded = zstd.compress(tar(*FILES))
    assert untar(io.BytesIO(folded), tmp_path / "out") == 3003
    assert (tmp_path / "out/a/one.txt").read_bytes() == b"one"
    two_frames = zstd.compress(tar(*FILES)[:700]) + zstd.compress(tar(*FILES)[700:])
    assert untar(io.BytesIO(two_frames), tmp_path / "two") == 3003


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: data[:-9],
        lambda data: data[: len(data) // 2] + b"\0" * 40 + data[len(data) // 2 + 40 :],
        lambda data: data[:4],
        lambda data: data + b"more",
    ],
)
def test_what_zstd_has_folded_and_is_damaged(broken: Callable[[bytes], bytes], tmp_path: Path) -> None:
    checked = {int(zstd.CompressionParameter.checksum_flag): 1}
    folded = zstd.compress(tar(*FILES, ("b", {}, os.urandom(5000))), options=checked)
    with pytest.raises(PackageError, match=r"a layer (is damaged|cannot be read)"):
        untar(io.BytesIO(broken(folded)), tmp_path / "out", what="a layer")


def test_what_zstd_has_folded_is_bounded(tmp_path: Path) -> None:
    folded = zstd.compress(tar(("zeros", {}, bytes(64 << 20))))
    assert len(folded) < 1 << 16
    tracemalloc.start()
    with pytest.raises(PackageError, match="has more than 1048576 bytes"):
        untar(io.BytesIO(folded), tmp_path / "out", Bounds(size=1 << 20))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    window, sized = (
        int(zstd.CompressionParameter.window_log),
        int(zstd.CompressionParameter.content_size_flag),
    )
    wide = zstd.compress(os.urandom(1 << 20), options={window: 31, sized: 0})
    with pytest.raises(PackageError, match="is damaged, or no archive"):
        untar(io.BytesIO(wide), tmp_path / "wide")


def test_without_the_library_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(PackageError, match="a layer is compressed by zstd") as told:
        untar(io.BytesIO(zstd.compress(tar(*FILES))), tmp_path / "out", what="a layer")
    assert told.value.hint == "install loop-kit[zstd]"
