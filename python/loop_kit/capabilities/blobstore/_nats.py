"""Objects in a NATS server.

A container is an object store of JetStream, laid out as the other clients of NATS have it (ADR-20): the chunks of an
object are messages of a subject of their own, and one more message, of the object's name, tells where they are. That
comes last, so that it is the object, and with the number of the one that it replaces, so that writers know each other.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.errors import Error, NoRespondersError
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NoStreamResponseError, NotFoundError

from loop_kit._types import Err
from loop_kit.capabilities._nats import Server
from loop_kit.capabilities._nats_connection import Connection, options
from loop_kit.capabilities.blobstore._backend import (
    EXISTS,
    NO_CONTAINER,
    NO_OBJECT,
    Backend,
    Info,
    invalid,
    other,
)

__all__ = ["Nats"]

_CHUNK = 128 << 10
_FETCHED = 8
_PATIENCE = 0.5
_IDLE = 300.0  # seconds until the server forgets a reader that does not go on
_LONGEST = 200
_NO_STREAM, _WRONG_LAST = 10059, 10071
_PLAIN = re.compile(r"[A-Za-z0-9-]")
# part of a subject: a wild card would be others' chunks
_NUID = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE = re.compile(r"_([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the server knows of an object: the number of the message, and what it says."""

    number: int
    size: int
    nuid: str
    digest: str
    created: int


class Nats(Backend):
    """A server's object stores.

    Args:
        server: Where it is, and whom to be there.
        prefix: What the names of all object stores begin with.

    Raises:
        OSError: A file of its TLS cannot be used.
    """

    label = "NATS"
    local = False
    failures = (Error, OSError, TimeoutError)

    def __init__(self, server: Server, prefix: str) -> None:
        self.key = "nats", *server.urls, prefix
        self._server = server
        self._prefix = prefix
        self._options = options(server.login, server.tls)
        self._timeout = float(server.timeout)
        self._client: Connection | None = None
        self._connecting = asyncio.Lock()
        self._ending: set[asyncio.Future[Any]] = set()

    async def create(self, container: str) -> None:
        """As `Backend` says."""
        js, stream = await self._js(), self._stream(container)
        try:
            await js.stream_info(stream)
        except NotFoundError:
            await js.create_object_store(stream.removeprefix("OBJ_"), replicas=self._server.replicas)
        else:
            raise Err(EXISTS)

    async def created(self, container: str) -> int:
        """As `Backend` says."""
        js = await self._js()
        try:
            found = await js.stream_info(self._stream(container))
        except NotFoundError:
            raise Err(NO_CONTAINER) from None
        return _seconds(found.created)

    async def remove(self, container: str) -> None:
        """As `Backend` says."""
        js = await self._js()
        try:
            await js.delete_stream(self._stream(container))
        except NotFoundError:
            raise Err(NO_CONTAINER) from None

    async def containers(self) -> Sequence[str]:
        """As `Backend` says."""
        js = await self._js()
        found: list[str] = []
        offset = 0
        while some := await js.streams_info(offset):
            offset += len(some)
            names = [stream.config.name or "" for stream in some]
            begin = f"OBJ_{self._prefix}"
            texts = [name.removeprefix(begin) for name in names if name.startswith(begin)]
            found += [name for text in texts if (name := _decode(text)) is not None]
        return found

    async def info(self, container: str, name: str) -> Info:
        """As `Backend` says."""
        found = await self._object(container, name)
        return Info(found.size, found.created)

    async def read(self, container: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `Backend` says."""
        return self._pieces(container, name, await self._object(container, name), start, end)

    async def write(self, container: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """As `Backend` says."""
        js, bucket, stream = await self._js(), self._bucket(container), self._stream(container)
        nuid = js._nc._nuid.next().decode()
        subject = f"$O.{bucket}.C.{nuid}"
        try:
            digest, size, number = hashlib.sha256(), 0, 0
            async with aclosing(_even(chunks)) as even:
                async for chunk in even:
                    digest.update(chunk)
                    await js.publish(subject, chunk, timeout=self._timeout)
                    size, number = size + len(chunk), number + 1
            said = api.ObjectInfo(
                name=name,
                bucket=bucket,
                nuid=nuid,
                size=size,
                chunks=number,
                mtime=datetime.now(UTC).isoformat(),
                digest=f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
                options=api.ObjectMetaOptions(max_chunk_size=_CHUNK),
            )
            old = await self._say(js, container, name, json.dumps(said.as_dict()).encode())
        except BaseException as error:
            self._later(js.purge_stream(stream, subject=subject))
            if isinstance(error, (NoStreamResponseError, NoRespondersError)):
                raise Err(NO_CONTAINER) from None
            raise
        if old is not None:
            await js.purge_stream(stream, subject=f"$O.{bucket}.C.{old.nuid}")

    async def entries(self, container: str) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """As `Backend` says."""
        await self.created(container)
        last = api.DeliverPolicy.LAST_PER_SUBJECT
        subject = f"$O.{self._bucket(container)}.M.>"
        async with aclosing(self._messages(container, subject, last)) as batches:
            async for batch in batches:
                said = [one for message in batch if (one := _told(message.data)) and not one.get("deleted")]
                yield [(one["name"], one.get("size") or 0) for one in said]

    async def delete(self, container: str, names: Sequence[str]) -> None:
        """As `Backend` says. No mark is left of what was there: marks would be without number."""
        js, bucket, stream = await self._js(), self._bucket(container), self._stream(container)
        for name in names:
            try:
                found = await self._object(container, name)
            except Err as error:
                if error.value != NO_OBJECT:
                    raise
                continue
            # this one and none that is written meanwhile
            await js.purge_stream(stream, seq=found.number + 1, subject=_meta(bucket, name))
            await js.purge_stream(stream, subject=f"$O.{bucket}.C.{found.nuid}")

    async def aclose(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        await asyncio.gather(*self._ending, return_exceptions=True)
        if client is not None:
            await client.close()

    async def _js(self) -> JetStreamContext:
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
            return self._client.jetstream(timeout=self._timeout)

    async def _connect(self) -> Connection:
        client = Connection(tls_only="tls" in self._options)
        try:
            async with asyncio.timeout(self._timeout):
                await client.connect(
                    self._server.urls,
                    name="loop-kit",
                    # whoever comes next makes a lost one anew
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    **self._options,
                )
        except BaseException:
            client.drop()
            raise
        return client

    def _bucket(self, container: str) -> str:
        name = f"{self._prefix}{_encode(container)}"
        if len(name) > _LONGEST:
            raise invalid(f"a name of {len(name)} bytes as NATS has it, which may have {_LONGEST}")
        return name

    def _stream(self, container: str) -> str:
        return f"OBJ_{self._bucket(container)}"

    async def _object(self, container: str, name: str) -> _Known:
        js = await self._js()
        try:
            found = await js.get_last_msg(self._stream(container), _meta(self._bucket(container), name))
        except NotFoundError as error:
            raise Err(NO_CONTAINER if error.err_code == _NO_STREAM else NO_OBJECT) from None
        said = _told(found.data)
        if said is None:
            raise other(
                "what the server has of this object was written by something else than a client of objects"
            )
        if said.get("deleted"):
            raise Err(NO_OBJECT)
        if (said.get("options") or {}).get("link"):
            raise other("a link to another object, which is not followed")
        return _Known(
            found.seq or 0,
            said.get("size") or 0,
            said["nuid"],
            said.get("digest") or "",
            _seconds(said.get("mtime")),
        )

    async def _say(self, js: JetStreamContext, container: str, name: str, text: bytes) -> _Known | None:
        """Publishes what tells of an object; what it has replaced."""
        while True:
            try:
                old = await self._object(container, name)
            except Err as error:
                if error.value != NO_OBJECT:
                    raise
                old = None
            headers = {
                api.Header.ROLLUP.value: "sub",
                "Nats-Expected-Last-Subject-Sequence": str(old.number if old else 0),
            }
            try:
                subject = _meta(self._bucket(container), name)
                await js.publish(subject, text, timeout=self._timeout, headers=headers)
            except BadRequestError as error:
                if error.err_code != _WRONG_LAST:
                    raise
                continue  # somebody else was faster
            return old

    async def _pieces(
        self, container: str, name: str, found: _Known, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        begun = False
        while start < found.size:
            digest, at = hashlib.sha256(), 0
            subject = f"$O.{self._bucket(container)}.C.{found.nuid}"
            async with aclosing(self._messages(container, subject, api.DeliverPolicy.ALL)) as batches:
                async for batch in batches:
                    data = b"".join(message.data for message in batch)
                    digest.update(data)
                    piece = data[max(0, start - at) : max(0, end + 1 - at)]
                    at += len(data)
                    if piece and (at > end or at == found.size or len(batch) == _FETCHED):
                        begun = True
                        yield piece
                    if at > end:
                        return
            wanted = found.digest.partition("=")[2]
            if at == found.size and base64.urlsafe_b64encode(digest.digest()).decode() == wanted:
                return
            if begun or at == found.size:
                raise other("the object was replaced or deleted while it was read, or is damaged")
            # there is another one now, or none
            found = await self._object(container, name)

    async def _messages(
        self, container: str, subject: str, policy: api.DeliverPolicy
    ) -> AsyncGenerator[Sequence[Any], None]:
        """The messages of a subject that are there now, some at a time and as they are asked for."""
        js, stream = await self._js(), self._stream(container)
        config = api.ConsumerConfig(
            deliver_policy=policy,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=_IDLE,
            mem_storage=True,
            num_replicas=1,
        )
        reader = await js.pull_subscribe(subject, stream=stream, config=config)
        known = await reader.consumer_info()
        try:
            left = known.num_pending or 0
            while left:
                batch: list[Any] = []
                while left and len(batch) < _FETCHED:
                    try:
                        batch += await reader.fetch(min(left, _FETCHED - len(batch)), timeout=_PATIENCE)
                        left = batch[-1].metadata.num_pending
                    except TimeoutError:
                        # slow, or deleted meanwhile
                        left = (await reader.consumer_info()).num_pending or 0
                yield batch
        finally:
            with suppress(*self.failures):
                await reader.unsubscribe()
                await js.delete_consumer(stream, known.name)

    def _later(self, work: Any) -> None:
        """Does what whoever is cancelled cannot wait for."""

        async def quietly() -> None:
            with suppress(*self.failures):
                await work

        ending = asyncio.ensure_future(quietly())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _even(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of one size, but for the last."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= _CHUNK:
            yield bytes(held[:_CHUNK])
            del held[:_CHUNK]
    if held:
        yield bytes(held)


def _told(data: bytes | None) -> dict[str, Any] | None:
    """What a message tells of an object; None: it does not, others have written it."""
    try:
        said: dict[str, Any] = json.loads(data or b"")
        fits = isinstance(said["name"], str) and (said.get("deleted") or _NUID.fullmatch(said["nuid"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return said if fits else None


def _meta(bucket: str, name: str) -> str:
    # a subject has no empty part; "=" is the base64 of no name
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode() or '='}"


def _encode(container: str) -> str:
    return "".join(
        character if _PLAIN.match(character) else "".join(f"_{byte:02X}" for byte in character.encode())
        for character in container
    )


def _decode(text: str) -> str | None:
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        name = data.encode("latin-1").decode()
    except UnicodeError:
        return None
    return name if _encode(name) == text else None


def _seconds(said: Any) -> int:
    """A time as the server says it; 0 where it says none."""
    if isinstance(said, datetime):
        return int(said.timestamp())
    try:
        # it says nanoseconds, which Python has no room for
        return int(datetime.fromisoformat(re.sub(r"\.\d+", "", said or "")).timestamp())
    except ValueError:
        return 0
