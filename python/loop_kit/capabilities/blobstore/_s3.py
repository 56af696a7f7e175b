"""Objects in an S3 bucket, or in what speaks S3, by obstore.

A container is what the keys begin with, `PREFIX/CONTAINER/`; it is there as long as there is any such key. One that was
made here has the key `PREFIX/CONTAINER/%container`, which is the name of no object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from loop_kit._types import Err
from loop_kit.capabilities.blobstore._backend import EXISTS, NO_CONTAINER, NO_OBJECT, Backend, Info
from loop_kit.capabilities.blobstore._names import decode, encode

__all__ = ["S3", "Access"]

_MARK = "%container"
_PART = 5 << 20  # the least that S3 takes
_AT_ONCE = 2
_CHUNK = 256 << 10
# A proxy that nothing goes through: where none is said, obstore takes that of the environment.
_PROXY, _NOT_FOR = "http://127.0.0.1:9", "*,0.0.0.0/0,::/0"
# for a whole request, which may be a stream that somebody reads slowly
_LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Access:
    """Whom to be: with keys, by what the environment and the machine say (`ambient`), or nobody."""

    key_id: str | None = None
    secret: str | None = None
    token: str | None = None
    ambient: bool = False

    def options(self) -> dict[str, Any]:
        """As obstore takes it, which left alone looks in the environment."""
        if self.ambient:
            return {}
        if self.key_id is None:
            return {"skip_signature": True}
        said = {"access_key_id": self.key_id, "secret_access_key": self.secret, "token": self.token}
        return {"credential_provider": lambda: {**said, "expires_at": None}, "skip_signature": False}


class S3(Backend):
    """A bucket.

    Args:
        bucket: Its name; it must be there.
        endpoint: URL of the server.
        region: Its region.
        prefix: What all keys begin with, without a final slash; "": nothing.
        access: Whom to be.
        timeout: Seconds to connect, until more of an answer comes, and for all attempts.

    Raises:
        obstore's errors: It makes no sense.
    """

    label = "S3"
    local = False
    copies = True
    # what is not there is a FileNotFoundError, and some others are OSErrors too
    failures = (BaseError, OSError)

    def __init__(
        self, bucket: str, *, endpoint: str, region: str, prefix: str, access: Access, timeout: float
    ) -> None:
        self.key = "s3", endpoint, bucket, prefix
        self._prefix = f"{prefix}/" if prefix else ""
        limit = timedelta(seconds=timeout)
        self._store = S3Store(
            bucket,
            endpoint=endpoint,
            region=region,
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "allow_invalid_certificates": False,
                "connect_timeout": limit,
                "read_timeout": limit,
                "timeout": _LONGEST,
                "proxy_url": _PROXY,
                "proxy_excludes": _NOT_FOR,
            },
            retry_config={"max_retries": 3, "retry_timeout": limit},
            **access.options(),
        )
        self._ending: set[asyncio.Future[Any]] = set()

    async def create(self, container: str) -> None:
        """As `Backend` says."""
        try:
            await self.created(container)
        except Err:
            pass
        else:
            raise Err(EXISTS)
        await obstore.put_async(self._store, self._folder(container) + _MARK, b"")

    async def created(self, container: str) -> int:
        """As `Backend` says. That of the mark, or 0 where others have put the objects."""
        mark = self._folder(container) + _MARK
        try:
            return int((await obstore.head_async(self._store, mark))["last_modified"].timestamp())
        except FileNotFoundError:
            found = obstore.list(self._store, self._folder(container)[:-1], chunk_size=1)
            async for _ in found:
                return 0
        raise Err(NO_CONTAINER)

    async def remove(self, container: str) -> None:
        """As `Backend` says."""
        await self.created(container)
        async for batch in obstore.list(self._store, self._folder(container)[:-1]):
            await obstore.delete_async(self._store, [found["path"] for found in batch])

    async def containers(self) -> Sequence[str]:
        """As `Backend` says."""
        found = await obstore.list_with_delimiter_async(self._store, self._prefix[:-1] or None)
        texts = [path.removeprefix(self._prefix) for path in found["common_prefixes"]]
        return [name for text in texts if (name := decode(text, flat=True)) is not None]

    async def info(self, container: str, name: str) -> Info:
        """As `Backend` says."""
        found = await self._known(container, name)
        return Info(found["size"], int(found["last_modified"].timestamp()))

    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `Backend` says."""
        key = self._key(container, name)
        try:
            if not start:
                # the first byte of nothing cannot be asked for
                found = await obstore.get_async(self._store, key)
            else:
                size = (await self._known(container, name))["size"]
                if start >= size:
                    return _pieces(None, 0)
                options: Any = {"range": (start, min(end, size - 1) + 1)}
                found = await obstore.get_async(self._store, key, options=options)
        except FileNotFoundError:
            raise await self._missing(container) from None
        return _pieces(found.stream(_CHUNK), end - start + 1)

    async def write(self, container: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """As `Backend` says."""
        key = self._key(container, name)
        first = bytearray()
        async for chunk in chunks:
            first += chunk
            if len(first) >= _PART:
                await self._upload(key, bytes(first), chunks)
                return
        await obstore.put_async(self._store, key, bytes(first), use_multipart=False)

    async def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """As `Backend` says."""
        await self.created(container)
        async for batch in obstore.list(self._store, self._folder(container)[:-1]):
            yield self._named(container, batch)

    async def page(self, container: str, after: str | None, most: int) -> Sequence[str]:
        """As `Backend` says."""
        offset = None if after is None else self._key(container, after)
        names: list[str] = []
        async for batch in obstore.list(
            self._store, self._folder(container)[:-1], offset=offset, chunk_size=most + 1
        ):
            names += [name for name, _ in self._named(container, batch)]
            if len(names) >= most:
                break
        return names[:most]

    async def delete(self, container: str, names: Sequence[str]) -> None:
        """As `Backend` says."""
        if names:
            await obstore.delete_async(self._store, [self._key(container, name) for name in names])

    async def copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """As `Backend` says."""
        try:
            await obstore.copy_async(self._store, self._key(*source), self._key(*target))
        except FileNotFoundError:
            raise await self._missing(source[0]) from None

    def _folder(self, container: str) -> str:
        return f"{self._prefix}{encode(container, flat=True)}/"

    def _key(self, container: str, name: str) -> str:
        return self._folder(container) + encode(name, flat=False)

    def _named(self, container: str, batch: Sequence[Any]) -> list[tuple[str, int]]:
        start = len(self._folder(container))
        named = ((decode(found["path"][start:], flat=False), found["size"]) for found in batch)
        return [(name, size) for name, size in named if name is not None]

    async def _known(self, container: str, name: str) -> Any:
        try:
            return await obstore.head_async(self._store, self._key(container, name))
        except FileNotFoundError:
            raise await self._missing(container) from None

    async def _missing(self, container: str) -> Err[Any]:
        try:
            await self.created(container)
        except Err as error:
            return error
        return Err(NO_OBJECT)

    async def _upload(self, key: str, first: bytes, rest: AsyncIterator[bytes]) -> None:
        """Uploads in parts. Where that is given up, obstore is told by an error, and has the server let go of them."""
        coming: asyncio.Queue[bytes | _GivenUp | None] = asyncio.Queue(1)

        async def feed() -> AsyncIterator[bytes]:
            yield first
            while (chunk := await coming.get()) is not None:
                if isinstance(chunk, _GivenUp):
                    raise chunk
                yield chunk

        put = obstore.put_async(self._store, key, feed(), chunk_size=_PART, max_concurrency=_AT_ONCE)
        upload = asyncio.ensure_future(put)
        try:
            async for chunk in rest:
                await _hand(coming, chunk, upload)
            await _hand(coming, None, upload)
            await asyncio.shield(upload)
        except BaseException:
            if not upload.done():
                ending = asyncio.ensure_future(self._give_up(coming, upload))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
            raise

    async def _give_up(self, coming: asyncio.Queue[Any], upload: asyncio.Future[Any]) -> None:
        with suppress(_GivenUp, *self.failures):
            await _hand(coming, _GivenUp(), upload)
            await upload

    async def aclose(self) -> None:
        """Waits for uploads that were given up."""
        await asyncio.gather(*self._ending, return_exceptions=True)


class _GivenUp(Exception):
    """An upload is to end."""


async def _hand(queue: asyncio.Queue[Any], item: Any, upload: asyncio.Future[Any]) -> None:
    """Puts an item, unless nobody takes any more.

    Raises:
        obstore's errors: The upload has failed.
    """
    putting = asyncio.ensure_future(queue.put(item))
    try:
        await asyncio.wait((putting, upload), return_when=asyncio.FIRST_COMPLETED)
    finally:
        putting.cancel()
    if upload.done():
        upload.result()


async def _pieces(stream: Any, most: int) -> AsyncGenerator[bytes, None]:
    if stream is None:
        return
    async for piece in stream:
        data = bytes(piece)[:most]
        most -= len(data)
        yield data
        if not most:
            return
