"""Putting one blob into a registry."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._session import Patience, Session
from loop_kit.oci._web import Answer, Broken
from loop_kit.oci.blobs import CHUNK as READ
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor

__all__ = ["CHUNK", "Upload"]

CHUNK = 16 << 20
"""Bytes of a piece; a blob that has no more is sent whole."""

Tell = Callable[[int], object]


class _Lost(PackageError):
    """The registry does not know the upload any more, or has other bytes of it."""


class Upload:
    """One blob on its way.

    Args:
        session: The registry.
        path: The repository's, below the registry.
        more: What `Session.ask` is told of the repository.
        blobs: Where it is.
        descriptor: Its digest and size.
    """

    def __init__(
        self, session: Session, path: str, more: dict[str, Any], blobs: Blobs, descriptor: Descriptor
    ) -> None:
        self._session = session
        self._path = path
        self._more = more
        self._blobs = blobs
        self._digest = descriptor.digest
        self._size = descriptor.size
        self._told = 0
        self._attempt: object = None
        """The request that has the say."""

    async def run(self, tell: Tell, chunk: int) -> None:
        """Sends it, in pieces of `chunk` bytes if it has more.

        Raises:
            Damaged: The bytes that are here are not the blob's.
            PackageError: The registry refuses it, or breaks off again and again.
        """
        patience = Patience(self._session.pause)
        while True:
            begun = await self._begin()
            try:
                # a file that another process removes meanwhile is read to its end
                with self._blobs.path(self._digest).open("rb") as file:
                    if self._size <= chunk:
                        await self._whole(begun, file, tell)
                    else:
                        await self._pieces(begun, file, tell, chunk)
                return
            except (_Lost, Broken) as error:
                if isinstance(error, Broken) and not error.again:
                    raise
                self._tell_to(0, tell)
                self._blobs.verify(self._digest)  # it may be ours that is wrong
                await patience.wait(error)
                if await self._is_there():  # it was the answer alone that was lost
                    self._tell_to(self._size, tell)
                    return

    async def _is_there(self) -> bool:
        target = f"{self._path}/blobs/{self._digest}"
        answer = await self._session.ask("HEAD", target, takes=(200, 404), **self._more)
        await answer.finish()
        return answer.status == 200

    def _reached(self, attempt: object, at: int, tell: Tell) -> None:
        if self._attempt is attempt:  # else it was given up meanwhile
            self._tell_to(at, tell)

    def _tell_to(self, at: int, tell: Tell) -> None:
        tell(at - self._told)
        self._told = at

    async def _begin(self) -> Answer:
        """What says where to send it."""
        target = f"{self._path}/blobs/uploads/"
        answer = await self._session.ask("POST", target, body=b"", takes=(202,), **self._more)
        await answer.finish()
        return answer

    def _location(self, answer: Answer) -> str:
        location = answer.header("location")
        if location is None:
            raise PackageError(f"{self._session.registry} does not say where to send {self._digest}")
        return self._session.web.resolve(answer.url, location)

    async def _send(
        self,
        method: str,
        url: str,
        at: int,
        count: int,
        file: BinaryIO,
        tell: Tell,
        *headers: tuple[str, str],
    ) -> Answer:
        loop = asyncio.get_running_loop()
        attempt = self._attempt = object()

        def pieces() -> Iterator[bytes]:
            left = count
            # whoever sends may still ask for a little more when all is over
            while left and self._attempt is attempt:
                data = os.pread(file.fileno(), min(left, READ), at + count - left)
                if not data:
                    return  # it has become shorter, which the length tells
                left -= len(data)
                # after the last piece nobody comes back here
                loop.call_soon_threadsafe(self._reached, attempt, at + count - left, tell)
                yield data

        try:
            return await self._session.ask(
                method,
                url,
                headers=[("content-type", media_types.OCTETS), *headers],
                body=(pieces, count),
                takes=(201, 202, 204, 400, 404, 408, 416, 429, 500, 502, 503, 504),
                once=True,
                **self._more,
            )
        finally:
            self._attempt = None

    async def _whole(self, begun: Answer, file: BinaryIO, tell: Tell) -> None:
        url = _with(self._location(begun), f"digest={self._digest}")
        answer = await self._send("PUT", url, 0, self._size, file, tell)
        await self._done(answer, tell)

    async def _done(self, answer: Answer, tell: Tell) -> None:
        if answer.status not in (201, 204):
            # the registry may have got other bytes, or forgotten: from the beginning, a few times
            raise _Lost(str(await self._session.refusal(answer, f"sending {self._digest}")))
        await answer.finish()
        self._tell_to(self._size, tell)

    async def _pieces(self, begun: Answer, file: BinaryIO, tell: Tell, chunk: int) -> None:
        least = begun.header("oci-chunk-min-length") or ""
        if least.isascii() and least.isdigit():
            chunk = max(chunk, min(int(least[:12]), self._size))
        url, at = self._location(begun), 0
        patience = Patience(self._session.pause)
        while at < self._size:
            count = min(chunk, self._size - at)
            content_range = ("content-range", f"{at}-{at + count - 1}")
            try:
                answer = await self._send("PATCH", url, at, count, file, tell, content_range)
                if answer.status in (201, 202, 204):
                    await answer.finish()
                    url, at = self._location(answer), at + count
                    self._tell_to(at, tell)
                    patience.renew()
                    continue
                error = await self._session.refusal(answer, f"sending {self._digest}")
            except Broken as broken:
                error = broken
            await patience.wait(error)
            url, further = await self._state(url, at)
            if further > at:
                patience.renew()
            at = further
            self._tell_to(at, tell)
        answer = await self._session.ask(
            "PUT",
            _with(url, f"digest={self._digest}"),
            body=b"",
            takes=(201, 204, 400, 404, 416),
            **self._more,
        )
        await self._done(answer, tell)

    async def _state(self, url: str, at: int) -> tuple[str, int]:
        """How far the registry is, which may be further than it has said."""
        answer = await self._session.ask("GET", url, takes=(200, 202, 204, 400, 404, 405), **self._more)
        await answer.finish()
        found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,19})", answer.header("range") or "")
        if answer.status not in (202, 204) or (found is None and at):
            raise _Lost(f"{self._session.registry} has lost what came of {self._digest}")
        reached = int(found[1]) + 1 if found is not None else 0
        if reached == 1:  # many say the same of nothing and of one byte
            reached = 0
        if not at <= reached <= self._size and reached:
            raise _Lost(f"{self._session.registry} has other bytes of {self._digest}")
        if reached < at:
            raise _Lost(f"{self._session.registry} has lost what came of {self._digest}")
        location = answer.header("location")
        return self._session.web.resolve(answer.url, location) if location else url, reached


def _with(url: str, parameter: str) -> str:
    """A URL with one more parameter, whose others are the registry's own and stay as they are."""
    return f"{url}{'&' if '?' in url else '?'}{parameter}"
