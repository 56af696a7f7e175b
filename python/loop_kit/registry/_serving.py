"""The registry's HTTP server: `loop:netx`, as components have it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from loop_kit._types import Err
from loop_kit.oci.blobs import CHUNK
from loop_kit.placements.builtin import builtin, driven
from loop_kit.registry._answers import Answer, Gone, Part, Refused, Request
from loop_kit.registry._api import Api

__all__ = ["Server", "serving"]

_NAME = "registry"
_READ = 1 << 16
_DRAIN = 32 << 20
_DRAIN_SECONDS = 10
"""Bytes of a body that are taken in after it was refused, and for how long."""
_SOON = (("retry-after", "5"),)
_LOOK = 0.02
_LINGER = 0.2
"""Seconds between two looks whether all is sent, and after the last piece was taken over."""
_TIDY = 3600.0
"""Seconds between two looks for what has been given up."""


class Server:
    """A registry that is served. Made by `serving`.

    Attributes:
        address: Where it listens, as `127.0.0.1:5000`.
    """

    def __init__(self, api: Api, listener: Any, address: str, tell: Callable[[str], object]) -> None:
        self.address = address
        self._api = api
        self._listener = listener
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: weakref.WeakSet[_Pieces] = weakref.WeakSet()
        self._stopping = False

    async def stopped(self, stop: asyncio.Event, now: asyncio.Event | None = None) -> None:
        """Serves until it is to stop; what is going on then ends, as far as the time suffices.

        Args:
            stop: Set, when it is to stop.
            now: Set, when it is to wait no longer.
        """
        bounds = self._api.content.bounds
        seats = asyncio.Semaphore(bounds.connections)
        accepting = asyncio.create_task(self._accept(seats))
        tidying = asyncio.create_task(self._tidy())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopping, accepting}, return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                accepting.result()  # nothing can come any more, and this says why
            self._stopping = True
            leave = asyncio.create_task((now or asyncio.Event()).wait())
            ended = asyncio.create_task(self._ended())
            await asyncio.wait({leave, ended}, timeout=bounds.grace, return_when=asyncio.FIRST_COMPLETED)
            leave.cancel()
            ended.cancel()
        finally:
            self._stopping = True
            ending = [accepting, tidying, stopping, *self._tasks]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _ended(self) -> None:
        while True:
            if self._tasks:
                await asyncio.wait(self._tasks)
            elif await self._answering():
                await asyncio.sleep(_LOOK)
            else:
                await asyncio.sleep(_LINGER)  # for what is written, and not yet sent
                return

    async def _answering(self) -> int:
        """How many files are being sent."""
        # what native code has let go of is freed when some of it is called the next time
        await self._listener.address()
        return len(self._sending)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY)
            try:
                await asyncio.to_thread(self._api.content.tidy)
            except OSError as error:
                self._tell(str(error))

    async def _accept(self, seats: asyncio.Semaphore) -> None:
        while True:
            await seats.acquire()
            try:
                exchange = await self._listener.accept()
            except BaseException:
                seats.release()
                raise
            task = asyncio.create_task(self._exchange(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: seats.release())
            del exchange, task  # its connection goes with it, and not only when the next one comes

    async def _exchange(self, exchange: Any) -> None:
        body = _Body(exchange)
        try:
            request = _request(exchange, await exchange.request(), body)
            if self._stopping:
                answer = Refused(503, "UNAVAILABLE", "the registry is being stopped", _SOON).answer()
            else:
                answer = await self._api.answer(request)
            await self._respond(exchange, request, answer)
            if answer.status >= 400 and request.length != 0:
                await body.drain()
        except (Err, Gone):
            pass  # the client went away
        except Exception as error:
            self._tell(f"unexpected {type(error).__name__}: {error}")
            with contextlib.suppress(Err):
                await exchange.respond(500, [], b"")
        finally:
            await body.close()

    async def _respond(self, exchange: Any, request: Request, answer: Answer) -> None:
        body = answer.body
        if isinstance(body, Part) and request.method != "HEAD":
            most = self._api.content.bounds.connections
            if len(self._sending) >= most and await self._answering() >= most:
                answer = Refused(503, "TOOMANYREQUESTS", "too much is sent at once", _SOON).answer()
            else:
                pieces = _Pieces(body)
                self._sending.add(pieces)
                await exchange.respond_streaming(answer.status, _fields(answer), pieces, None)
                return
        whole = answer.body if isinstance(answer.body, bytes) and request.method != "HEAD" else b""
        await exchange.respond(answer.status, _fields(answer), whole)


def _fields(answer: Answer) -> list[tuple[str, bytes]]:
    return [(name, value.encode("latin-1", "replace")) for name, value in answer.headers]


@contextlib.asynccontextmanager
async def serving(
    api: Api,
    address: str,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    tell: Callable[[str], object] = lambda text: None,
) -> AsyncIterator[Server]:
    """Listens.

    Args:
        api: What answers.
        address: IP address and port; port 0 takes any that is free.
        certificate: Its certificates, a PEM file: it then speaks TLS.
        key: Their key, a PEM file.
        tell: Told, in words, of what went wrong.

    Raises:
        OSError: It cannot listen there.
        LoadError: The address, or the certificate, does not do.
    """
    place: dict[str, Any] = {"address": address}
    if certificate is not None:
        place |= {"certificate": certificate, "key": key}
    bounds = api.content.bounds
    grant = builtin("netx", listen={_NAME: place}, max_connections=bounds.connections)
    async with driven(grant) as netx:
        try:
            listener = await netx.http_server.listen(_NAME, [])
        except Err as error:
            said = getattr(error.value, "value", None) or error.value.case
            raise OSError(f"cannot listen on {address}: {said}") from None
        yield Server(api, listener, await listener.address(), tell)


class _Body:
    """The body of a request."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._taken: tuple[Any, Any] | None = None
        self._ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is left of it.

        Raises:
            Gone: The client went away.
        """
        if self._taken is None:
            self._taken = await self._exchange.body()
        stream, end = self._taken
        while chunk := await stream.read(_READ):
            yield bytes(chunk)
        self._ended = True
        try:
            outcome = await end
        except Err as error:
            outcome = error
        if isinstance(outcome, Err):
            raise Gone

    async def drain(self) -> None:
        """Takes in what nobody wants, if it is not too much: many clients look for an answer only once all is sent."""
        with contextlib.suppress(TimeoutError, Err, Gone):
            async with asyncio.timeout(_DRAIN_SECONDS):
                left = _DRAIN
                async for chunk in self.chunks():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def close(self) -> None:
        """Lets go of it, and with it, if it has not ended, of the connection."""
        if self._taken is not None:
            await self._taken[0].aclose()


def _request(exchange: Any, head: Any, body: _Body) -> Request:
    headers = tuple((name.lower(), bytes(value).decode("latin-1")) for name, value in head.headers)
    # of HTTP/2, or of a URL in the place of a path, which may name another
    if head.authority is not None and ("host", head.authority) not in headers:
        headers = (("host", head.authority), *headers)
    peer = head.peer.rpartition(":")[0].strip("[]")
    return Request(
        head.method,
        head.path,
        head.query or "",
        headers,
        head.content_length,
        body.chunks,
        peer,
        head.scheme == "https",
    )


class _Pieces:
    """The bytes of a part of a file, outside of the event loop; the last of them once all were compared."""

    def __init__(self, part: Part) -> None:
        self._file = part.path.open("rb", buffering=0)
        self._file.seek(part.start)
        self._left = part.size
        self._digest = part.digest
        self._hash = hashlib.new(part.digest.partition(":")[0]) if part.digest else None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        data = self._file.read(min(self._left, CHUNK))
        if not data:
            raise OSError("the blob is shorter than it was")
        self._left -= len(data)
        if self._hash is not None:
            self._hash.update(data)
            if not self._left and not str(self._digest).endswith(self._hash.hexdigest()):
                raise OSError("the blob is damaged")  # the client sees an answer that broke off
        return data
