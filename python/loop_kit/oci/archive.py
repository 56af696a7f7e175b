"""Archives: written so that the same files give the same bytes, and unpacked so that nobody's archive can do harm.

What is unpacked comes from elsewhere. It lies in the folder that was named, whatever it says of itself; it has no more
files and bytes than `Bounds` allow; and there is nothing in it but files, folders and links to these.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import os
import re
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from loop_kit.errors import PackageError

__all__ = ["Bounds", "Entry", "safe_name", "untar", "unzip", "write_tar"]

CHUNK = 1 << 20
"""Bytes that are read and written at once."""

_HEADER = 64 << 10
"""Bytes of a header that names something, or says more of it."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WINDOW_LOG = 27
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_KINDS = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
    tarfile.LNKTYPE: "a hard link",
}


@dataclass(frozen=True)
class Bounds:
    """How much may be unpacked.

    Attributes:
        entries: Files, folders and links.
        size: Bytes of all files together.
        path: Characters of a name with its folders.
        depth: Folders within each other.
    """

    entries: int = 200_000
    size: int = 8 << 30
    path: int = 1024
    depth: int = 64


@dataclass(frozen=True)
class Entry:
    """One thing to write.

    Attributes:
        name: Where it is in the archive, with `/`.
        data: What it holds: a file, or bytes; None: it is a link.
        executable: Whether it is a program.
        link: What a link says.
    """

    name: str
    data: Path | bytes | None
    executable: bool = False
    link: str = ""

    @classmethod
    def of(cls, name: str, path: Path) -> Entry:
        """A file, or a link, as it is on the disk."""
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return cls(name, None, link=os.readlink(path))
        return cls(name, path, bool(found.st_mode & 0o111))

    @property
    def size(self) -> int:
        """Bytes of what it holds."""
        if self.data is None:
            return 0
        return len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size


def write_tar(out: BinaryIO, entries: Iterable[Entry]) -> int:
    """Writes a compressed tar: in the order of names, of nobody's, without times, and with two modes for files.

    Returns:
        The bytes of its files.

    Raises:
        PackageError: A name, or a link, is one that `untar` refuses.
        OSError: A file cannot be read, or the archive not be written.
    """
    total = 0
    with (
        gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = safe_name(entry.name)
            info = tarfile.TarInfo(name)
            if entry.data is None:
                info.type, info.linkname = tarfile.SYMTYPE, _safe_link(name, entry.link)
                tar.addfile(info)
                continue
            info.mode = 0o755 if entry.executable else 0o644
            with open(entry.data, "rb") if isinstance(entry.data, Path) else io.BytesIO(entry.data) as file:
                info.size = entry.size
                tar.addfile(info, file)
            total += info.size
    return total


def untar(
    archive: BinaryIO, place: Path, bounds: Bounds | None = None, *, strip: int = 0, what: str = "the archive"
) -> int:
    """Unpacks a tar, compressed by gzip, by zstd or not at all, into a folder that is new or empty.

    Args:
        archive: The tar, which is read once, from where it is.
        place: The folder.
        bounds: How much it may be.
        strip: Folders that are left out at the beginning of each name, with what is in none.
        what: What to call it in errors.

    Returns:
        The bytes of its files.

    Raises:
        PackageError: It is no such archive, or has something in it that is not unpacked; what was is left.
        OSError: Something cannot be written.
    """
    into = _Place(place, bounds or Bounds(), what)
    with into.reading(), contextlib.ExitStack() as stack:
        start = archive.read(len(_ZSTD))
        stream: Any = _Joined(start, archive)
        if start.startswith(_GZIP):
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif start == _ZSTD:
            stream = stack.enter_context(_unfolding(stream, what))
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Info))
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # which it would keep, however many come
            name = into.named(member.name, strip, member.size)
            if name is None:
                continue
            if member.isdir():
                into.folder(name)
            elif member.issym():
                into.link(name, member.linkname)
            elif member.isreg() and not member.issparse():
                if member.mode & (stat.S_ISUID | stat.S_ISGID):
                    raise into.refused(name, "would run as somebody else (setuid)")
                content = tar.extractfile(member)
                assert content is not None
                into.file(name, content, bool(member.mode & 0o111))
            else:
                kind = _KINDS.get(
                    member.type, "a file with holes" if member.isreg() else "of a kind of its own"
                )
                raise into.refused(name, f"is {kind}")
        while chunk := stream.read(CHUNK):  # so that a checksum at its end is compared
            into.count(len(chunk))
        into.finish()
    return into.size


@contextlib.contextmanager
def _unfolding(archive: Any, what: str) -> Iterator[Any]:
    """What zstd has folded, by Python's own library where it has one."""
    try:
        zstd: Any = importlib.import_module(
            "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        )
    except ImportError:
        error = PackageError(f"{what} is compressed by zstd, which this Python does not read")
        error.hint = "install loop-kit[zstd]"
        raise error from None
    try:
        # what it may ask to be kept in memory while it is read is 2 to the power of this
        with zstd.ZstdFile(
            archive, options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        ) as stream:
            yield stream
    except zstd.ZstdError as error:
        raise PackageError(f"{what} is damaged, or no archive: {error}") from None


def unzip(
    archive: BinaryIO, place: Path, bounds: Bounds | None = None, *, strip: int = 0, what: str = "the archive"
) -> int:
    """Unpacks a zip, as `untar` a tar."""
    into = _Place(place, bounds or Bounds(), what)
    with into.reading(), zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            name = into.named(member.filename, strip, member.file_size)
            if name is None:
                continue
            mode = member.external_attr >> 16
            if member.is_dir():
                into.folder(name)
            elif member.flag_bits & 1:
                raise into.refused(name, "is encrypted")
            elif stat.S_ISLNK(mode):
                if member.file_size > into.bounds.path:
                    raise into.refused(name, "is a link to something too long")
                into.link(name, packed.read(member).decode("utf-8", "surrogateescape"))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise into.refused(name, "is no file")
            elif mode & (stat.S_ISUID | stat.S_ISGID):
                raise into.refused(name, "would run as somebody else (setuid)")
            else:
                with packed.open(member) as content:
                    into.file(name, content, bool(mode & 0o111))
        into.finish()
    return into.size


def safe_name(name: str, bounds: Bounds | None = None) -> str:
    """A name that lies in the folder wherever that is, without `.` and doubled `/`.

    Raises:
        PackageError: It leads out of it, or is no name that every system can have.
    """
    limits = bounds or Bounds()
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        problem = "is absolute"
    elif ".." in parts:
        problem = "leads out of the folder"
    elif _CONTROL.search(name):
        problem = "has a character that is no part of a name"
    elif (
        len(name) > limits.path
        or len(parts) > limits.depth
        or any(len(p.encode("utf-8", "surrogateescape")) > 255 for p in parts)
    ):
        problem = "is too long"
    else:
        return "/".join(parts)
    raise PackageError(f"the name {_shown(name)} {problem}")


def _safe_link(name: str, target: str) -> str:
    """What a link may say: up to folders that it is in, then down. Links on the way down cannot lead out either."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if (
        target.startswith("/")
        or not target
        or ".." in parts[up:]
        or up > name.count("/")
        or _CONTROL.search(target)
    ):
        raise PackageError(f"{_shown(name)} is a link to {_shown(target)}, which may lead out of the folder")
    return target


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:100]}…")


class _Info(tarfile.TarInfo):
    """A header, none of which can be so long that reading it takes all memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type not in (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE) and self.size > _HEADER:
            raise PackageError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Joined(io.RawIOBase):
    """A file of which the beginning was read."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        start, self._start = (
            self._start[:size] if size >= 0 else self._start,
            self._start[size:] if size >= 0 else b"",
        )
        return start or self._rest.read(size)

    def readinto(self, into: Any) -> int:
        data = self.read(len(into))
        into[: len(data)] = data
        return len(data)


@dataclass
class _Place:
    """The folder that something is unpacked into."""

    root: Path
    bounds: Bounds
    what: str
    size: int = 0
    _entries: int = 0
    _said: int = 0
    _there: dict[str, str] = field(default_factory=lambda: {"": "folder"})
    _links: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if any(self.root.iterdir()):
            raise PackageError(f"{self.root} is not empty, and {self.what} would be unpacked into it")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turns what the readers of archives say into `PackageError`, with the archive's name."""
        try:
            yield
        except PackageError as error:
            if str(error).startswith(self.what):
                raise
            raise PackageError(f"{self.what}: {error}") from None
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise PackageError(f"{self.what} is damaged, or no archive: {error}") from None
        except (NotImplementedError, RuntimeError, UnicodeError, ValueError) as error:
            raise PackageError(f"{self.what} cannot be read: {error}") from None

    def refused(self, name: str, problem: str) -> PackageError:
        return PackageError(f"{self.what}: {_shown(name)} {problem}, and is not unpacked")

    def named(self, name: str, strip: int, size: int) -> str | None:
        """Counts an entry of so many bytes, by its own words, and checks its name; None: it is left out."""
        self._entries += 1
        if self._entries > self.bounds.entries:
            raise PackageError(f"{self.what} has more than {self.bounds.entries} entries")
        self.count(size)
        found = safe_name(name, self.bounds)
        return "/".join(found.split("/")[strip:]) or None

    def count(self, size: int) -> None:
        """Counts bytes that are read, or said to come."""
        self._said += size
        if self._said > self.bounds.size:
            raise PackageError(f"{self.what} has more than {self.bounds.size} bytes")

    def folder(self, name: str) -> None:
        """Makes a folder and those around it."""
        at = ""
        for part in name.split("/"):
            at = f"{at}/{part}" if at else part
            kind = self._there.get(at)
            if kind is None:
                (self.root / at).mkdir(mode=0o755)
                self._there[at] = "folder"
                if len(self._there) > self.bounds.entries:
                    raise PackageError(f"{self.what} has more than {self.bounds.entries} entries")
            elif kind != "folder":
                raise self.refused(name, f"is said to lie in {_shown(at)}, which is a {kind}")

    def file(self, name: str, content: IO[bytes], executable: bool) -> None:
        """Writes a file."""
        self._new(name, "file")
        with open(self.root / name, "xb") as out:
            while chunk := content.read(CHUNK):
                self.size += len(chunk)
                if self.size > self.bounds.size:
                    raise PackageError(f"{self.what} has more than {self.bounds.size} bytes")
                out.write(chunk)
            os.fchmod(out.fileno(), 0o755 if executable else 0o644)

    def link(self, name: str, target: str) -> None:
        """Remembers a link, which is made once all else is there."""
        target = _safe_link(name, target)
        if len(target) > self.bounds.path:
            raise self.refused(name, "is a link to something too long")
        self._new(name, "link")
        self._links[name] = target

    def _new(self, name: str, kind: str) -> None:
        if (folder := name.rpartition("/")[0]) != "":
            self.folder(folder)
        if name in self._there:
            raise self.refused(name, "is there twice")
        self._there[name] = kind

    def finish(self) -> None:
        """Makes the links."""
        for name, target in self._links.items():
            os.symlink(target, self.root / name)
