"""What is unpacked so that it can run: folders by the digest of what they were unpacked from, whole or not at all.

trees/HEX/files/…      what was unpacked, which nobody may write to
trees/HEX/listing      its files: rights, digest and name of each, in order
trees/HEX/record.json  of what it was made, and the digest of the listing
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import digest_of, is_digest
from loop_kit.store._folder import put, sync
from loop_kit.store._use import Use, ensure, living

__all__ = ["Tree", "Trees"]

_FILES, _LISTING, _RECORD = "files", "listing", "record.json"
_NEW, _GONE = ".new-", ".gone-"
_MOST = 64 << 20
"""Bytes of a listing."""

Fill = Callable[[Path], object]
"""Makes a folder, with files in it."""


@dataclass(frozen=True)
class Tree:
    """What was unpacked of an artifact.

    Attributes:
        digest: The artifact's.
        files: The folder.
    """

    digest: str
    files: Path


class Trees:
    """The trees of a store.

    Args:
        store: The store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._folder = store / "trees"
        self._store = store

    def __iter__(self) -> Iterator[str]:
        """The digests of what is there unpacked."""
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._folder)):
                if is_digest(digest := f"sha256:{name}"):
                    yield digest

    def path(self, digest: str) -> Path:
        """The folder of a tree with all that is noted of it, whether it is there or not."""
        if not is_digest(digest) or not digest.startswith("sha256:"):
            raise PackageError(f"{digest!r} is not a digest such as sha256:…, in 64 hexadecimal digits")
        return self._folder / digest.partition(":")[2]

    def size(self, digest: str) -> int:
        """Bytes of its files, as far as they can be seen."""
        total = 0
        for at, _, names in os.walk(self.path(digest)):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(at, name)).st_size
        return total

    def make(self, use: Use, digest: str, fill: Fill) -> Tree:
        """A tree, which is unpacked if it was not, and checked if it was.

        Args:
            use: Who needs it; it stays as long.
            digest: The artifact's.
            fill: Unpacks it.

        Raises:
            Damaged: It is there, and not as it was unpacked.
            OSError: It cannot be written.
        """
        use.hold(digest)
        place = self.path(digest)
        if place.is_dir():
            return self.check(digest)
        ensure(self._folder)
        new = self._folder / f"{_NEW}{use.name}-{secrets.token_hex(4)}"
        try:
            new.mkdir(mode=0o700)
            fill(new / _FILES)
            listing = _listed(new / _FILES)
            record = {"digest": digest, "listing": digest_of(listing)}
            put(new / _LISTING, listing)
            put(new / _RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
            _close(new / _FILES)
            try:
                new.rename(place)
            except OSError:
                if not place.is_dir():  # else another process was as quick
                    raise
            sync(self._folder)
        finally:
            _remove(new)
        return self.check(digest)

    def check(self, digest: str) -> Tree:
        """A tree that is there, every file of it looked at.

        Raises:
            Damaged: It is not as it was unpacked; the text names the first file that is not.
            PackageError: It is not there.
        """
        place = self.path(digest)
        if not place.is_dir():
            raise PackageError(f"{digest} is not unpacked in {self._folder}")

        def damaged(why: str) -> Damaged:
            error = Damaged(digest, why, f"what was unpacked in {place}")
            error.hint = "`loop pull` makes it anew"
            return error

        try:
            record = json.loads((place / _RECORD).read_bytes())
            listing = _bounded(place / _LISTING)
            expected, named = str(record["listing"]), str(record["digest"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(f"its {_RECORD} or {_LISTING} cannot be read ({error})") from None
        if named != digest:
            raise damaged(f"of {named}, as its {_RECORD} says")
        if digest_of(listing) != expected:
            raise damaged(f"changed: its {_LISTING} is not the one of its {_RECORD}")
        try:
            found = _listed(place / _FILES)
        except OSError as error:
            raise damaged(f"unreadable: {error.strerror}: {error.filename}") from None
        if found != listing:
            raise damaged(f"changed: {_first(listing, found)}")
        return Tree(digest, place / _FILES)

    def compare(self, digest: str, fill: Fill) -> None:
        """Unpacks a tree that is there once more, elsewhere, and compares.

        What is noted of a tree lies beside it, so that whoever can write to the store could change both.

        Raises:
            Damaged: Something else comes of it; the text names the first file that is another.
            OSError: It cannot be unpacked.
        """
        with tempfile.TemporaryDirectory(prefix="loop-tree-", ignore_cleanup_errors=True) as folder:
            fill(Path(folder) / _FILES)
            expected, found = _listed(Path(folder) / _FILES), _listed(self.path(digest) / _FILES)
        if expected != found:
            place = self.path(digest)
            error = Damaged(digest, f"changed: {_first(expected, found)}", f"what was unpacked in {place}")
            error.hint = "`loop pull` makes it anew"
            raise error

    def remove(self, digest: str) -> None:
        """Removes a tree, if it is there; at no time is half of it there by its name."""
        gone = self._folder / f"{_GONE}{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError):
            self.path(digest).rename(gone)
            _remove(gone)

    def left(self) -> list[Path]:
        """What was left by processes that were killed while they unpacked, or removed. Only with the store's lock."""
        alive = living(self._store)
        with contextlib.suppress(FileNotFoundError):
            return [
                self._folder / name
                for name in sorted(os.listdir(self._folder))
                if name.startswith(_GONE)
                or (name.startswith(_NEW) and name.removeprefix(_NEW).rpartition("-")[0] not in alive)
            ]
        return []

    def clear(self, path: Path) -> None:
        """Removes one of what is `left`."""
        _remove(path)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ValueError(f"larger than {_MOST} bytes")
    return data


def _listed(files: Path) -> bytes:
    """One line a file, folder or link, in the order of their names."""
    lines: list[tuple[bytes, bytes]] = []
    for at, folders, names in os.walk(os.fsencode(files), onerror=_raise):
        for name in (*folders, *names):
            path = os.path.join(at, name)
            shown = os.path.relpath(path, os.fsencode(files))
            lines.append((shown, _line(path)))
    # JSON keeps line ends in names from being lines
    text = "".join(f"{line.decode()} {json.dumps(os.fsdecode(name))}\n" for name, line in sorted(lines))
    return text.encode("utf-8", "surrogateescape")


def _raise(error: OSError) -> None:
    raise error


def _line(path: bytes) -> bytes:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return b"link " + hashlib.sha256(os.readlink(path)).hexdigest().encode()
    if stat.S_ISDIR(found.st_mode):
        return b"folder"
    if not stat.S_ISREG(found.st_mode):
        return b"other"
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (b"program " if found.st_mode & 0o100 else b"file ") + digest.encode()


def _first(expected: bytes, found: bytes) -> str:
    """What differs first between two listings, in words."""
    before, after = (
        {line.partition(b' "')[2]: line for line in text.splitlines()} for text in (expected, found)
    )
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name):
            continue
        shown = json.loads(b'"' + name)
        if name not in after:
            return f"{shown} is gone"
        return f"{shown} is not what it was" if name in before else f"{shown} was not there"
    return "its order"


def _close(files: Path) -> None:
    """Takes away the right to write: programs that keep something beside their code must not change it."""
    for at, _, names in os.walk(files, topdown=False):
        for name in names:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, 0o555 if mode & 0o100 else 0o444)
        os.chmod(at, 0o555)


def _remove(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    for at, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(at, 0o755)
    shutil.rmtree(folder, ignore_errors=True)
