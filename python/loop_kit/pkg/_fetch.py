"""Downloads: bounded, checked, into the store whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

from loop_kit._types import Err
from loop_kit.errors import Damaged
from loop_kit.exports import Exports
from loop_kit.oci.blobs import CHUNK, Blobs
from loop_kit.pkg._model import MOST, failed
from loop_kit.pkg._resolver import Resolver, proxied
from loop_kit.placements.builtin import builtin, driven

__all__ = ["MOST", "Fetcher", "digests_of"]

_AT_ONCE = 6
_TELL = 1.0
"""Seconds between words about downloads that go on."""

Tell = Callable[[str], object]


class Fetcher:
    """Downloads for one command; as an async context manager.

    Args:
        blobs: Where files go.
        temporary: Makes a folder for what is not known yet, on the same file system.
        tell: Told, in words, what takes a while.
    """

    def __init__(self, blobs: Blobs, temporary: Callable[[], Any], tell: Tell) -> None:
        self._blobs = blobs
        self._temporary = temporary
        self._tell = tell
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[tuple[str, ...], Exports] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._telling: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._going: dict[str, tuple[int, int | None]] = {}
        self.fetched = 0
        """Bytes that came."""

    async def __aenter__(self) -> Fetcher:
        self._telling = asyncio.create_task(self._tells())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._stack.aclose()

    async def _client(self, resolver: Resolver) -> Exports:
        key = (*resolver.downloads, "", *resolver.ca)
        if key not in self._clients:
            grant: dict[str, Any] = {"allow": list(resolver.downloads)} | proxied()
            net = builtin("netx", config={"ca": list(resolver.ca)} if resolver.ca else None, **grant)
            self._clients[key] = await self._stack.enter_async_context(driven(net))
        return self._clients[key]

    async def get(
        self, resolver: Resolver, asset: Any, digest: str | None, size: int | None, *, most: int | None = None
    ) -> tuple[str, int]:
        """Has a file in the store.

        Args:
            resolver: Who says where it is.
            asset: What that says, as `loop:pkg` has it.
            digest: What it must be: as it is locked, or as the source says. None: that is not known.
            size: Its bytes, if they are known.
            most: The most bytes that are fetched; None: as many as of any file.

        Returns:
            Its digest and its size.

        Raises:
            Damaged: It is another.
            PackageError: It does not come, or is too long.
        """
        most = MOST if most is None else most
        usable = digest is not None and not digest.startswith("sha1:")
        there = self._blobs.size(digest) if digest is not None and usable else None
        known = size if there is None else there  # whatever its source says
        if known is not None and known > most:
            raise failed(f"{asset.file} has {known} bytes; {most} are the most that is fetched")
        if digest is not None and there is not None:
            return digest, there
        client = await self._client(resolver)
        async with self._gate:
            try:
                if digest is not None and usable and await self._own(resolver, asset, digest):
                    return digest, self._blobs.size(digest) or 0
                if digest is not None and usable and size is not None:
                    await self._straight(client, asset, digest, size)
                    return digest, size
                return await self._unknown(client, asset, digest, most)
            except Damaged as error:
                error.hint = (
                    "what came is not what its source, or the lock, says, and is not kept: do not use it"
                )
                raise
            finally:
                self._going.pop(asset.file, None)

    async def _own(self, resolver: Resolver, asset: Any, digest: str) -> bool:
        """Fetches a file in a way of its source's own, if that has one."""
        got = 0

        def came(more: int) -> None:
            nonlocal got
            got += more
            self._going[asset.file] = (got, asset.size)

        found = await resolver.pull(asset, digest, self._blobs, came)
        self.fetched += got
        return found

    async def _straight(self, client: Exports, asset: Any, digest: str, size: int) -> None:
        """What is known is written where it belongs, and goes on where it broke off."""
        with self._blobs.writer(digest, size) as writer:
            if writer is None or writer.offset == size:
                return
            async for status, chunk in self._pieces(client, asset, writer.offset):
                if status == 200 and writer.offset and chunk is None:
                    writer.restart()
                if chunk is not None:
                    self._going[asset.file] = (writer.offset + len(chunk), size)
                    writer.write(chunk)

    async def _unknown(self, client: Exports, asset: Any, digest: str | None, most: int) -> tuple[str, int]:
        """What is not known yet is written aside, measured, and then put where it belongs."""
        with self._temporary() as folder:
            path = folder / "file"
            algorithm, _, wanted = (digest or "sha256:").partition(":")
            found = {name: hashlib.new(name) for name in {"sha256", algorithm}}
            size = 0
            with path.open("w+b") as file:
                async for _, chunk in self._pieces(client, asset, 0):
                    if chunk is None:
                        continue
                    size += len(chunk)
                    if size > most:
                        raise failed(
                            f"{asset.file} has more than {most} bytes, which are the most that is fetched"
                        )
                    self._going[asset.file] = (size, None)
                    for one in found.values():
                        one.update(chunk)
                    file.write(chunk)
                if wanted and found[algorithm].hexdigest() != wanted:
                    raise Damaged(
                        f"{algorithm}:{wanted}", f"{algorithm}:{found[algorithm].hexdigest()}", asset.file
                    )
                kept = algorithm if algorithm != "sha1" else "sha256"
                name = f"{kept}:{found[kept].hexdigest()}"
                file.seek(0)
                await asyncio.to_thread(self._put, file, name, size)
            return name, size

    def _put(self, file: BinaryIO, digest: str, size: int) -> None:
        with self._blobs.writer(digest, size) as writer:
            if writer is not None:
                writer.restart()
                while chunk := file.read(CHUNK):
                    writer.write(chunk)

    async def _pieces(
        self, client: Exports, asset: Any, offset: int
    ) -> AsyncIterator[tuple[int, bytes | None]]:
        """The status, then the body, piece by piece."""
        headers = [("user-agent", b"loop-kit"), ("accept", b"application/octet-stream, */*")]
        headers += [(name, value.encode()) for name, value in asset.headers]
        if offset:
            headers.append(("range", f"bytes={offset}-".encode()))
        options = {
            "connect_timeout": None, "first_byte_timeout": None, "between_bytes_timeout": None, "total_timeout": None,
            "redirects": None, "decompress": False, "max_body": None,
        }  # fmt: skip
        request = {"method": "GET", "url": asset.url, "headers": headers, "options": options}
        try:
            head, stream, end = await client.http_streaming.send(request, None, None)
            if head.status not in (200, 206) or (head.status == 206 and not offset):
                raise failed(
                    f"{asset.file}: {_origin(asset.url)} answers {head.status}",
                    "is it within reach, and is there a login for it?",
                )
            yield head.status, None
            async with stream:
                while piece := await stream.read(CHUNK):
                    self.fetched += len(piece)
                    yield head.status, bytes(piece)
            if isinstance(ended := await end, Err):
                raise ended
        except Err as error:
            case = getattr(error.value, "case", str(error.value))
            said = getattr(error.value, "value", None)
            words = f"{case}: {said}" if isinstance(said, str) else str(case)
            raise failed(
                f"{asset.file} cannot be fetched from {_origin(asset.url)}: {words}",
                "is it within reach? The next try goes on where this one ended",
            ) from None

    async def _tells(self) -> None:
        while True:
            await asyncio.sleep(_TELL)
            if self._going:
                parts = []
                for name, (got, size) in sorted(self._going.items())[:3]:
                    parts.append(f"{name} {got / 1e6:.1f}" + (f" of {size / 1e6:.1f} MB" if size else " MB"))
                more = f" and {len(self._going) - 3} more" if len(self._going) > 3 else ""
                self._tell(
                    f"fetching {', '.join(parts)}{more} after {time.monotonic() - self._began:.0f} s …"
                )


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def digests_of(path: Path) -> list[tuple[str, str]]:
    """The digests of a file that a resolver is told for `verify`."""
    found = {name: hashlib.new(name) for name in ("sha256", "sha512", "sha1")}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for one in found.values():
                one.update(chunk)
    digests = [(name, one.hexdigest()) for name, one in found.items()]
    if (sum_ := _h1(path)) is not None:
        digests.append(("h1", sum_))
    return digests


def _h1(path: Path) -> str | None:
    """Go's digest of a zip: that of a list of its files with theirs."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = sorted((item.filename for item in packed.infolist()), key=lambda name: name.encode())
            whole, total = hashlib.sha256(), 0
            for name in names:
                one = hashlib.sha256()
                with packed.open(name) as file:
                    while chunk := file.read(CHUNK):
                        total += len(chunk)
                        if total > MOST:
                            return None
                        one.update(chunk)
                whole.update(f"{one.hexdigest()}  {name}\n".encode("utf-8", "surrogateescape"))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        return None
    return f"h1:{base64.b64encode(whole.digest()).decode()}"
