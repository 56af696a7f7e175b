"""Objects as files: a folder for each container, in one folder.

A file appears under its name by renaming, once it is whole and, if asked for, on the disk. Until then it has a hidden
name and is locked, so that whoever comes later knows what a killed writer has left. Nothing is reached by a path: all is
opened relative to an open folder, and no link is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.blobstore._backend import (
    EXISTS,
    NO_CONTAINER,
    NO_OBJECT,
    Backend,
    Info,
    invalid,
    other,
)
from loop_kit.capabilities.blobstore._names import decode, encode
from loop_kit.capabilities.fsx._beneath import Handle

__all__ = ["Files"]

_CHUNK = 256 << 10
_BATCH = 1000
_LONGEST = 255
_HIDDEN, _TEMPORARY, _GONE = ".loop-", ".tmp", ".gone"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Files(Backend):
    """Files below a folder.

    Args:
        path: The folder, which is made where there is none.
        durable: Whether what was answered is on the disk.

    Raises:
        OSError: It cannot be opened.
    """

    label = "the disk"
    local = True
    failures = (OSError,)

    def __init__(self, path: str | os.PathLike[str], *, durable: bool) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        # whoever configures it may name it by a link
        self._root = Handle(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        status = os.fstat(self._root.fd)
        self.key = status.st_dev, status.st_ino
        self._durable = durable
        self._swept: set[str] = set()
        for name in os.listdir(self._root.fd):
            if _is_hidden(name, _GONE):
                self._clear_away(name)

    async def create(self, container: str) -> None:
        """As `Backend` says."""
        await asyncio.to_thread(self._create, container)

    async def created(self, container: str) -> int:
        """As `Backend` says."""
        folder = await asyncio.to_thread(self._folder, container)
        return int(os.fstat(folder.fd).st_mtime)

    async def remove(self, container: str) -> None:
        """As `Backend` says."""
        await asyncio.to_thread(self._remove, container)

    async def containers(self) -> Sequence[str]:
        """As `Backend` says."""
        return await asyncio.to_thread(self._containers)

    async def info(self, container: str, name: str) -> Info:
        """As `Backend` says."""
        return await asyncio.to_thread(self._info, container, name)

    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `Backend` says."""
        return _pieces(await asyncio.to_thread(self._open, container, name), start, end)

    async def write(self, container: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """As `Backend` says."""
        to = _encoded(name)
        file = await asyncio.to_thread(self._begin, container)
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            await _through(file.commit, to, self._durable)
        finally:
            file.drop()

    async def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """As `Backend` says."""
        folder = await asyncio.to_thread(self._folder, container)
        with os.scandir(folder.fd) as found:
            while batch := await asyncio.to_thread(list, islice(found, _BATCH)):
                yield await asyncio.to_thread(list, _objects(batch))

    async def delete(self, container: str, names: Sequence[str]) -> tuple[int, int]:
        """As `Backend` says."""
        return await asyncio.to_thread(self._delete, container, names)

    def _folder(self, container: str) -> Handle:
        try:
            return Handle(os.open(_encoded(container), _FOLDER, dir_fd=self._root.fd))
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise Err(NO_CONTAINER) from None
            raise

    def _open(self, container: str, name: str) -> Handle:
        folder = self._folder(container)
        try:
            file = Handle(os.open(_encoded(name), os.O_RDONLY | _FILE, dir_fd=folder.fd))
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise Err(NO_OBJECT) from None
            raise
        if not stat.S_ISREG(os.fstat(file.fd).st_mode):
            raise Err(NO_OBJECT)
        return file

    def _info(self, container: str, name: str) -> Info:
        file = self._open(container, name)
        status = os.fstat(file.fd)
        return Info(status.st_size, int(status.st_mtime))

    def _create(self, container: str) -> None:
        try:
            os.mkdir(_encoded(container), dir_fd=self._root.fd)
        except FileExistsError:
            raise Err(EXISTS) from None
        self._sync(self._root)

    def _remove(self, container: str) -> None:
        self._folder(container)
        # away at once, whatever becomes of what is in it
        gone = f"{_HIDDEN}{secrets.token_hex(8)}{_GONE}"
        try:
            os.rename(_encoded(container), gone, src_dir_fd=self._root.fd, dst_dir_fd=self._root.fd)
        except FileNotFoundError:
            raise Err(NO_CONTAINER) from None
        self._sync(self._root)
        self._swept.discard(container)
        self._clear_away(gone)

    def _clear_away(self, gone: str) -> None:
        # what cannot be removed now is tried again by whoever comes next
        shutil.rmtree(gone, ignore_errors=True, dir_fd=self._root.fd)

    def _containers(self) -> list[str]:
        with os.scandir(self._root.fd) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
        return [name for text in names if (name := decode(text, flat=True)) is not None]

    def _begin(self, container: str) -> _Temporary:
        folder = self._folder(container)
        if container not in self._swept:
            self._swept.add(container)
            for name in os.listdir(folder.fd):
                if _is_hidden(name, _TEMPORARY):
                    _sweep(folder, name)
        return _Temporary(folder)

    def _delete(self, container: str, names: Sequence[str]) -> tuple[int, int]:
        folder = self._folder(container)
        size = objects = 0
        for name in map(_encoded, names):
            try:
                status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):  # all else is somebody else's
                    os.unlink(name, dir_fd=folder.fd)
                    size, objects = size + status.st_size, objects + 1
            except FileNotFoundError:
                continue
        if objects:
            self._sync(folder)
        return size, objects

    def _sync(self, folder: Handle) -> None:
        if self._durable:
            os.fsync(folder.fd)


class _Temporary:
    """A file that has a hidden name, and is locked, until it is whole."""

    def __init__(self, folder: Handle) -> None:
        self._folder = folder
        self._name: str | None = None
        while self._name is None:
            name = f"{_HIDDEN}{secrets.token_hex(8)}{_TEMPORARY}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
            self._file = Handle(os.open(name, flags, 0o666, dir_fd=folder.fd))
            fcntl.flock(self._file.fd, fcntl.LOCK_EX)
            # somebody who swept may have been faster than the lock
            self._name = name if os.fstat(self._file.fd).st_nlink else None

    def write(self, data: bytes) -> None:
        """Writes what comes next."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fd, view) :]

    def commit(self, to: str, durable: bool) -> None:
        """Gives it its name; `durable`: after its bytes, and before the answer, it is on the disk."""
        name = self._name
        if name is None:
            raise other("it was given up")
        if durable:
            os.fsync(self._file.fd)
        os.rename(name, to, src_dir_fd=self._folder.fd, dst_dir_fd=self._folder.fd)
        self._name = None
        if durable:
            os.fsync(self._folder.fd)

    def drop(self, _unlink: Callable[..., None] = os.unlink) -> None:
        """Removes it, unless it has its name."""
        name, self._name = self._name, None
        if name is not None:
            with contextlib.suppress(OSError):
                _unlink(name, dir_fd=self._folder.fd)

    def __del__(self) -> None:
        # a call that was cancelled never saw it
        if getattr(self, "_name", None) is not None:
            self.drop()


async def _through(work: Callable[..., None], *args: Any) -> None:
    """Has a thread do it. Who cancels waits for it, and so knows what there is."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((doing,))
        raise


def _sweep(folder: Handle, name: str) -> None:
    """Removes a file that nobody writes any more."""
    with contextlib.suppress(OSError):
        file = Handle(os.open(name, os.O_RDONLY | _FILE, dir_fd=folder.fd))
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder.fd)


def _is_hidden(name: str, end: str) -> bool:
    return name.startswith(_HIDDEN) and name.endswith(end)


def _encoded(name: str) -> str:
    text = encode(name, flat=True)
    length = len(text.encode())
    if length > _LONGEST:
        raise invalid(f"a name of {length} bytes as a file has it, which may have {_LONGEST}")
    return text


def _objects(batch: Sequence[os.DirEntry[str]]) -> Iterator[tuple[str, int]]:
    for entry in batch:
        name = decode(entry.name, flat=True)
        if name is None or not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            yield name, entry.stat(follow_symlinks=False).st_size


async def _pieces(file: Handle, start: int, end: int) -> AsyncGenerator[bytes, None]:
    at = start
    while at <= min(end, (1 << 63) - 1):
        piece = await asyncio.to_thread(os.pread, file.fd, min(_CHUNK, end + 1 - at), at)
        if not piece:
            return
        yield piece
        at += len(piece)
