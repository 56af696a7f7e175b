"""A server before the server: hands requests on as they are, and has documents load the script."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from loop_kit.dev.live._http import Head, admitting, new_nonce

if TYPE_CHECKING:
    from loop_kit.dev.live import Live

__all__ = ["Front"]

_HEAD = 64 << 10
"""Bytes of a head."""
_PATIENCE = 30.0
"""Seconds in which a client must have sent a head."""
_CONNECTIONS = 512
_PIECE = 64 << 10
_SCRIPT, _SOCKET = "/@loop/live.js", "/@loop/live"
_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DOCUMENTS = ("document", "iframe", "frame")
_ERROR = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>{status}</title>
<body style="font: 16px/1.5 system-ui; max-width: 60ch; margin: 10vh auto; padding: 0 1rem">
<h1>{status}</h1>
<p>The component failed; <code>loop dev</code> says why. This page loads anew once other code serves.</p>
<pre style="white-space: pre-wrap">{text}</pre>
"""


class Front:
    """Serves one component's pages.

    Args:
        live: What has changed.
        upstream: Where the component is served, `127.0.0.1:40123`.
        script: What documents load.
    """

    def __init__(self, live: Live, upstream: str, script: bytes) -> None:
        self._live, self._script = live, script
        host, _, port = upstream.rpartition(":")
        self._upstream = host.strip("[]"), int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    async def listen(self, address: str) -> None:
        """Listens; `address` is then where.

        Raises:
            OSError: It cannot be used.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        # one address: with port 0 there would be two ports
        bound = "127.0.0.1" if host == "localhost" else host
        self._server = await asyncio.start_server(self._accept, bound, int(port), limit=_HEAD)
        port = str(self._server.sockets[0].getsockname()[1])
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{port}"
        names = {shown.lower(), bound if ":" not in bound else shown, "localhost"}
        self._hosts = {f"{name}:{port}" for name in names} | (names if port == "80" else set())

    async def aclose(self) -> None:
        """Listens no longer, and ends what is under way. Again is harmless."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request: a browser that has more makes other connections, on one machine in no time."""
        try:
            # it is the client's own matter that it has gone
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    data = await reader.readuntil(b"\r\n\r\n")
                try:
                    request = Head.parse(data)
                except ValueError as error:
                    return self._answer(writer, "400 Bad Request", f"{error}\n".encode())
                if request.line.endswith((" HTTP/1.1", " HTTP/1.0")):
                    await self._request(request, reader, writer)
                else:
                    await self._relay(data, reader, writer)  # another version of HTTP
        finally:
            with contextlib.suppress(OSError):
                if writer.can_write_eof() and not writer.transport.is_closing():
                    await writer.drain()
            writer.close()

    async def _request(
        self, request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, _ = request.line.split(" ", 2)
        path = target.partition("?")[0]
        if path in (_SCRIPT, _SOCKET):
            if (why := self._refusal(request)) is not None:
                return self._answer(writer, "403 Forbidden", f"refused: {why}\n".encode())
            if path == _SOCKET:
                return await self._socket(request, reader, writer)
            return self._answer(writer, "200 OK", self._script, "text/javascript; charset=utf-8")
        if request.get("upgrade"):
            return await self._relay(request.bytes(), reader, writer)
        request.drop("keep-alive", "proxy-connection")
        request.set("connection", "close")
        if not self._is_document(method, request):
            return await self._relay(request.bytes(), reader, writer)
        # an old copy would not know what has changed since
        request.drop("if-none-match", "if-modified-since", "range", "if-range")
        request.set("accept-encoding", "identity")
        await self._document(request, reader, writer)
        return None

    def _is_document(self, method: str, request: Head) -> bool:
        told = request.get("sec-fetch-dest")
        wanted = told in _DOCUMENTS if told else "text/html" in request.get("accept")
        return wanted and method in ("GET", "POST") and request.get("host").lower() in self._hosts

    def _refusal(self, request: Head) -> str | None:
        """Why a request of the script, or of what it listens to, is not answered."""
        host = request.get("host")
        if host.lower() not in self._hosts:
            return "it is for another host"
        if any(origin != f"http://{host}" for origin in request.all("origin")):
            return "it comes from another site"
        if any(site not in ("same-origin", "none") for site in request.all("sec-fetch-site")):
            return "it comes from another site"
        if not request.line.startswith("GET "):
            return "it is no GET"
        return None

    def _answer(
        self, writer: asyncio.StreamWriter, status: str, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        fields = [
            ("content-type", kind), ("content-length", str(len(body))), ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"), ("x-content-type-options", "nosniff"),
            ("connection", "close"),
        ]  # fmt: skip
        writer.write(Head(f"HTTP/1.1 {status}", fields).bytes() + body)

    # ---- what the component answers

    async def _relay(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands on all bytes, both ways."""
        async with self._upwards(first, reader, writer) as upstream:
            if upstream is not None:
                await _pour(upstream, writer)

    @contextlib.asynccontextmanager
    async def _upwards(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[asyncio.StreamReader | None]:
        """What the component answers, while what the client sends goes there."""
        try:
            upstream, to = await asyncio.open_connection(*self._upstream, limit=_HEAD)
        except OSError:
            self._answer(writer, "503 Service Unavailable", b"the component is not served now\n")
            yield None
            return
        to.write(first)

        async def send() -> None:
            try:
                await _pour(reader, to)
            finally:
                to.transport.abort()  # the client has gone: nobody waits for the answer

        sending = asyncio.get_running_loop().create_task(send())
        try:
            yield upstream
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            to.transport.abort()

    async def _document(
        self, request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with self._upwards(request.bytes(), reader, writer) as upstream:
            if upstream is None:
                return None
            head = Head.parse(await upstream.readuntil(b"\r\n\r\n"))
            while (status := head.line.split(" ", 2)[1]).startswith("1"):
                writer.write(head.bytes())
                head = Head.parse(await upstream.readuntil(b"\r\n\r\n"))
            kind = head.get("content-type").partition(";")[0].strip().lower()
            if status.startswith("5") and kind != "text/html":
                return await self._failed(request, head, upstream, writer)
            if kind != "text/html" or head.all("content-encoding") or status in ("204", "206", "304"):
                writer.write(head.bytes())
                return await _pour(upstream, writer)
            element = self._prepare(request, head)
            await self._with(element, head, upstream, writer)
        return None

    def _prepare(self, request: Head, head: Head) -> bytes:
        """Has a document's head fit the script; returns the element that loads it."""
        nonce = new_nonce()
        name = "content-security-policy"
        policies = [admitting(policy, request.get("host"), nonce) for policy in head.all(name)]
        head.drop(name, "etag", "last-modified")
        head.fields += [(name, policy) for policy in policies]
        head.set("cache-control", "no-store")
        said = f'<script src="{_SCRIPT}" nonce="{nonce}" data-version="{self._live.version}"></script>\n'
        return said.encode()

    async def _with(
        self, element: bytes, head: Head, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hands a document on with an element behind its end, where parsers take it for the last of the body."""
        length = head.get("content-length")
        if length.isdecimal():
            head.set("content-length", str(int(length) + len(element)))
            writer.write(head.bytes())
            left = int(length)
            while left:
                piece = await upstream.read(min(left, _PIECE))
                if not piece:
                    return  # the client sees that there is too little
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
            writer.write(element)
        elif head.get("transfer-encoding").lower() == "chunked":
            writer.write(head.bytes())
            async for piece in _chunks(upstream):
                writer.write(_chunk(piece))
                await writer.drain()
            writer.write(_chunk(element) + b"0\r\n\r\n")
        else:
            writer.write(head.bytes())
            await _pour(upstream, writer)
            writer.write(element)

    async def _failed(
        self, request: Head, head: Head, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A document in the place of an error that is none, so that it is looked at again."""
        status = head.line.split(" ", 1)[1]
        text = b""
        if head.get("content-length").isdecimal():
            text = (await upstream.read(4096))[: int(head.get("content-length"))]
        shown = _ERROR.format(status=html.escape(status), text=html.escape(text.decode("utf-8", "replace")))
        made = Head(head.line, [("content-type", "text/html; charset=utf-8"), ("connection", "close")])
        body = shown.encode() + self._prepare(request, made)
        made.set("content-length", str(len(body)))
        writer.write(made.bytes() + body)

    # ---- what pages listen to

    async def _socket(
        self, request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A WebSocket on which pages are told what has changed; what they say is not listened to."""
        key = request.get("sec-websocket-key")
        if request.get("upgrade").lower() != "websocket" or not key or not request.all("origin"):
            return self._answer(writer, "403 Forbidden", b"refused: it is no WebSocket of a page\n")
        proof = base64.b64encode(hashlib.sha1(key.encode() + _KEY, usedforsecurity=False).digest()).decode()
        fields = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", proof)]
        writer.write(Head("HTTP/1.1 101 Switching Protocols", fields).bytes())
        gone = asyncio.get_running_loop().create_task(_gone(reader))
        with self._live.listening() as queue:
            try:
                while not gone.done():
                    told = asyncio.ensure_future(queue.get())
                    await asyncio.wait({told, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if not told.done():
                        told.cancel()
                        break
                    if (text := told.result()) is None:
                        break
                    writer.write(_frame(text))
                    await writer.drain()
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                with contextlib.suppress(OSError):
                    writer.write(b"\x88\x00")


async def _pour(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """Hands on what comes until it ends."""
    while piece := await source.read(_PIECE):
        to.write(piece)
        await to.drain()


async def _chunks(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a body in chunks; EOFError or ValueError where it breaks off."""
    while True:
        size = int((await source.readuntil(b"\r\n")).partition(b";")[0].strip(), 16)
        if size == 0:
            return
        while size:
            piece = await source.read(min(size, _PIECE))
            if not piece:
                raise EOFError
            size -= len(piece)
            yield piece
        await source.readexactly(2)


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _frame(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + data
    return b"\x81\x7f" + size.to_bytes(8) + data


async def _gone(reader: asyncio.StreamReader) -> None:
    """Until a page closes its WebSocket, or is no longer there."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            if data[0] & 0x0F == 8:
                return
