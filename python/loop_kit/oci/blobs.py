"""Blobs by their digest, in a folder as OCI image layouts have them: `blobs/sha256/HEX`.

A blob is there whole or not at all, whatever processes are killed; readers need no lock. A download that broke off stays
beside them, so that it goes on where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from loop_kit.errors import Damaged, PackageError

__all__ = ["CHUNK", "Blobs", "Writer", "digest_of", "is_digest"]

CHUNK = 1 << 20
"""Bytes that are read and written at once."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_PARTIAL = ".partial"


def digest_of(data: bytes) -> str:
    """The SHA-256 of bytes, as `sha256:HEX`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether it is the digest of an algorithm that loop-kit checks: SHA-256 or SHA-512, in small letters."""
    return _DIGEST.fullmatch(text) is not None


class Writer:
    """Takes the bytes of one blob, from `offset` on. Made by `Blobs.writer`."""

    def __init__(self, file: BinaryIO, digest: str, size: int) -> None:
        self._file = file
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(digest.partition(":")[0])
        self.offset = 0
        """Bytes that are there already."""
        file.seek(0)
        while chunk := file.read(CHUNK):
            self._hash.update(chunk)
            self.offset += len(chunk)
        if self.offset > size:
            self.restart()

    def restart(self) -> None:
        """Forgets what is there: whoever sends cannot go on from `offset`."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.new(self._digest.partition(":")[0])
        self.offset = 0

    def write(self, data: bytes | memoryview) -> None:
        """Adds bytes.

        Raises:
            Damaged: There are more than there should be.
            OSError: They cannot be written.
        """
        if self.offset + len(data) > self._size:
            self.restart()
            raise Damaged(self._digest, f"more than {self._size} bytes", "what came")
        self._file.write(data)
        self._hash.update(data)
        self.offset += len(data)

    def check(self) -> None:
        """Raises Damaged unless all is there, and is what it should be."""
        if self.offset < self._size:
            raise Damaged(self._digest, f"{self.offset} of {self._size} bytes", "what came")
        found = f"{self._digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self._digest:
            self.restart()
            raise Damaged(self._digest, found, "what came")


class Blobs:
    """A folder of blobs, which any number of processes may use at once.

    Args:
        folder: The folder that has `blobs` in it; made when something is added.
        sync: Whether a blob is on the disk once it is added. Without, one may be torn after the machine has lost its
            power: it is for what is verified whenever it is read, and can be made again.
    """

    def __init__(self, folder: str | os.PathLike[str], *, sync: bool = True) -> None:
        self.folder = Path(folder)
        self._synced = sync
        self._blobs = self.folder / "blobs"

    def path(self, digest: str) -> Path:
        """The file of a blob, whether it is there or not.

        Raises:
            PackageError: It is no digest.
        """
        if not is_digest(digest):
            raise PackageError(
                f"{digest!r} is not a digest such as sha256:{'0' * 8}…, in 64 hexadecimal digits"
            )
        algorithm, _, name = digest.partition(":")
        return self._blobs / algorithm / name

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None, if it is not there."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, *, most: int = 64 << 20) -> bytes:
        """The bytes of a blob, checked.

        Raises:
            Damaged: They are others.
            PackageError: It is not there, or has more than `most` bytes.
        """
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            raise PackageError(f"{digest} is not in {self.folder}") from None
        if len(data) > most:
            raise PackageError(f"{path} has more than {most} bytes")
        self._compare(digest, hashlib.new(digest.partition(":")[0], data).hexdigest())
        return data

    def verify(self, digest: str) -> None:
        """Reads a blob and compares it, whatever its size.

        Raises:
            Damaged: It is another.
            PackageError: It is not there.
        """
        try:
            with self.path(digest).open("rb") as file:
                self._compare(digest, hashlib.file_digest(file, digest.partition(":")[0]).hexdigest())
        except FileNotFoundError:
            raise PackageError(f"{digest} is not in {self.folder}") from None

    def _compare(self, digest: str, found: str) -> None:
        algorithm = digest.partition(":")[0]
        if digest != f"{algorithm}:{found}":
            raise Damaged(digest, f"{algorithm}:{found}", os.fspath(self.path(digest)))

    def add(self, data: bytes) -> str:
        """Adds bytes, unless they are there, and returns their digest."""
        digest = digest_of(data)
        with self.writer(digest, len(data)) as writer:
            if writer is not None:
                writer.restart()
                writer.write(data)
        return digest

    @contextlib.contextmanager
    def writer(self, digest: str, size: int) -> Iterator[Writer | None]:
        """Adds a blob piece by piece: it is there once the `with` has ended well.

        If it ends otherwise, what came stays for the next one, who goes on from its `offset`. Of several who write the
        same at once one goes on from there, and the others begin anew.

        Args:
            digest: The blob's.
            size: Its bytes.

        Returns:
            What takes the bytes; None, if the blob is there already.

        Raises:
            Damaged: The bytes are not those of the digest; they are not kept.
            OSError: They cannot be written, for one as the disk is full.
        """
        path = self.path(digest)
        if self.size(digest) == size:
            yield None
            return
        folder = self.folder / _PARTIAL
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            partial = folder / path.name
            file = stack.enter_context(open(partial, "a+b", opener=_private))
            while not _locked(file, partial):  # somebody writes it, has just finished, or has swept it away
                partial = folder / f"{path.name}.{secrets.token_hex(4)}"
                stack.callback(partial.unlink, missing_ok=True)
                file = stack.enter_context(open(partial, "a+b", opener=_private))
            writer = Writer(file, digest, size)
            yield writer
            writer.check()
            file.flush()
            if self._synced:
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            os.fchmod(file.fileno(), 0o444)  # nothing writes to it by mistake
            partial.replace(path)
            if self._synced:
                _sync(path.parent)

    def mend(self, digest: str) -> None:
        """Removes a blob that is there and is not what its digest says, so that it can be added anew."""
        if self.size(digest) is not None:
            try:
                self.verify(digest)
            except Damaged:
                self.remove(digest)

    def adopt(self, file: Path, digest: str) -> None:
        """Takes over a file, which is then gone from its place, in the place of what was there by that digest.

        Args:
            file: On the same file system, whole, and of nobody who still writes to it.
            digest: That of its bytes, which was compared.

        Raises:
            OSError: It cannot be moved.
        """
        path = self.path(digest)
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)
        path.parent.mkdir(parents=True, exist_ok=True)
        file.replace(path)
        _sync(path.parent)

    def __iter__(self) -> Iterator[str]:
        """The digests of all blobs that are there."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(os.listdir(self._blobs / algorithm)):
                    if is_digest(f"{algorithm}:{name}"):
                        yield f"{algorithm}:{name}"

    def remove(self, digest: str) -> None:
        """Removes a blob, if it is there."""
        self.path(digest).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Removes what broke off and nobody writes; returns how many bytes that were."""
        gone = 0
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.folder / _PARTIAL):
                with open(entry.path, "a+b", opener=_private) as file:
                    if _locked(file, Path(entry.path)):
                        gone += os.fstat(file.fileno()).st_size
                        os.unlink(entry.path)
        return gone


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _locked(file: BinaryIO, path: Path) -> bool:
    """Takes a file for this process alone; false, if another has it, or if it has its name no more."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = path.stat()
    except (BlockingIOError, FileNotFoundError):
        return False
    return named.st_ino == os.fstat(file.fileno()).st_ino


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
