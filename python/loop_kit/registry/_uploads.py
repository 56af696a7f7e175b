"""Blobs on their way in: one file for each, which goes on where it was after the server was killed, too."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from loop_kit.oci.blobs import CHUNK
from loop_kit.registry._answers import Refused
from loop_kit.registry._bounds import Bounds, Budget

__all__ = ["Upload", "Uploads", "finished"]

_T = TypeVar("_T")

_ID = re.compile(r"[0-9a-f]{8,12}-[0-9a-f]{32}")
_BUSY = 10.0
"""Seconds that a request waits for another of the same upload, such as one whose client went away."""


class Upload:
    """A blob on its way in.

    Attributes:
        id: What clients call it.
        size: Bytes that came.
    """

    def __init__(self, name: str, path: Path, most: int, budget: Budget) -> None:
        self.id = name
        self.path = path
        self.size = path.stat().st_size
        self._most = most
        self._budget = budget
        self._hash = hashlib.sha256() if not self.size else None
        self._lock = asyncio.Lock()
        self.users = 0

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keeps other requests from the upload meanwhile.

        Raises:
            Refused: Another one has it, or has ended it.
        """
        self.users += 1
        try:
            try:
                async with asyncio.timeout(_BUSY):
                    await self._lock.acquire()
            except TimeoutError:
                raise Refused(409, "BLOB_UPLOAD_INVALID", "another request writes to this upload") from None
            try:
                if not self.path.exists():
                    raise _unknown()
                yield
            finally:
                self._lock.release()
        finally:
            self.users -= 1

    async def append(self, chunks: AsyncIterator[bytes], exactly: int | None) -> None:
        """Adds bytes. What came before something goes wrong stays.

        Args:
            chunks: The bytes.
            exactly: How many there are to be.

        Raises:
            Refused: They are too many, or not as many.
        """
        before, waiting = self.size, bytearray()
        try:
            async for chunk in chunks:
                if exactly is not None and self.size - before + len(waiting) + len(chunk) > exactly:
                    raise Refused(
                        400, "SIZE_INVALID", f"there are more than the {exactly} bytes of its range"
                    )
                waiting += chunk
                if len(waiting) >= CHUNK:
                    piece, waiting = waiting, bytearray()
                    await self._flush(piece)
        finally:
            await self._flush(waiting)
        if exactly is not None and self.size - before != exactly:
            raise Refused(
                400, "SIZE_INVALID", f"there are {self.size - before} bytes, not the {exactly} of its range"
            )

    async def _flush(self, piece: bytearray) -> None:
        if not piece:
            return
        if self.size + len(piece) > self._most:
            raise Refused(413, "SIZE_INVALID", f"the blob has more than {self._most} bytes (--max-blob)")
        # to its end also where the request is cancelled: what is counted is what is there
        await finished(asyncio.to_thread(self._write, bytes(piece)))

    def _write(self, data: bytes) -> None:
        self._budget.take(len(data))
        try:
            with open(self.path, "r+b") as file:
                file.seek(self.size)
                file.write(data)
        except FileNotFoundError:  # it became too old
            self._budget.give(len(data))
            raise _unknown() from None
        except BaseException:
            self._budget.give(len(data))
            with contextlib.suppress(OSError):
                os.truncate(self.path, self.size)
            raise
        if self._hash is not None:
            self._hash.update(data)
        self.size += len(data)

    def matches(self, digest: str) -> bool:
        """Whether the bytes that came are those of a digest."""
        algorithm, _, wanted = digest.partition(":")
        if algorithm == "sha256" and self._hash is not None:
            return self._hash.hexdigest() == wanted
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest() == wanted

    def drop(self) -> None:
        """Gives it up."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
            self._budget.give(self.size, entries=1)


class Uploads:
    """The uploads of a registry. Those that are here are known by their files alone.

    Args:
        folder: Where they are.
        bounds: How many, and how long.
        budget: What all of them may take.
    """

    def __init__(self, folder: Path, bounds: Bounds, budget: Budget) -> None:
        self._folder = folder
        self._bounds = bounds
        self._budget = budget
        self._open: dict[Path, Upload] = {}

    def begin(self, repository: str, user: str, now: float | None = None) -> Upload:
        """A new upload, of a user into a repository.

        Raises:
            Refused: There are as many as there may be.
        """
        if len(os.listdir(self._folder)) >= self._bounds.uploads:
            raise Refused(
                429,
                "TOOMANYREQUESTS",
                f"{self._bounds.uploads} uploads have begun and not ended; "
                f"each is given up {self._bounds.upload_age / 3600:g} hours after its begin",
                [("retry-after", "10")],
            )
        name = f"{int(time.time() if now is None else now):08x}-{secrets.token_hex(16)}"
        self._budget.take(entries=1)
        path = self._path(name, repository, user)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return self._opened(name, path)

    def get(self, name: str, repository: str, user: str) -> Upload:
        """The upload of a name.

        Raises:
            Refused: There is none that this user has begun in that repository.
        """
        if _ID.fullmatch(name) is None:
            raise _unknown()
        try:
            return self._opened(name, self._path(name, repository, user))
        except FileNotFoundError:
            raise _unknown() from None

    def _path(self, name: str, repository: str, user: str) -> Path:
        whose = hashlib.sha256(f"{repository}\0{user}".encode()).hexdigest()[:16]
        return self._folder / f"{name}-{whose}"

    def _opened(self, name: str, path: Path) -> Upload:
        found = self._open.get(path)
        if found is None or not path.exists():
            found = Upload(name, path, self._bounds.blob, self._budget)
            for other, upload in list(self._open.items()):  # of those that have ended
                if not upload.users and not other.exists():
                    del self._open[other]
            self._open[path] = found
        return found

    def tidy(self, now: float) -> tuple[int, int]:
        """Gives up those that are too old; returns the bytes of the others, and how many they are."""
        used = count = 0
        for name in os.listdir(self._folder):
            path = self._folder / name
            began = int(name.partition("-")[0], 16) if _ID.match(name) else 0
            with contextlib.suppress(FileNotFoundError):
                if began > now + 3600 or now - began > self._bounds.upload_age:
                    path.unlink()
                else:
                    used += path.stat().st_size
                    count += 1
        return used, count


async def finished(work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits something to its end, and only then is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


def _unknown() -> Refused:
    return Refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload: it has ended, or was given up")
