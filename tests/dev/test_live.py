"""Pages that take up changes: the server before the server, and what it lets through."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loop_kit.dev.live import Live, is_own
from loop_kit.dev.live._http import Head, admitting

PAGE = b"<!doctype html>\n<title>page</title>\n"
DOCUMENT = {"sec-fetch-dest": "document"}
Answer = Callable[[Head, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def fixed(head: str, body: bytes = b"") -> Answer:
    async def answer(_request: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    return answer


WHOLE = f"HTTP/1.1 200 OK\ncontent-type: text/html; charset=utf-8\ncontent-length: {len(PAGE)}"


class Site:
    """A component, as far as its front can tell; what it is asked is in `asked`."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.asked: list[Head] = []
        self.answer: Answer = fixed(WHOLE, PAGE)
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = Head.parse(await reader.readuntil(b"\r\n\r\n"))
        self.asked.append(request)
        await self.answer(request, reader, writer)
        await writer.drain()
        writer.close()

    async def send(self, request: str, **fields: str) -> tuple[Head, bytes]:
        """Sends a request as a browser would, and reads its answer to the end."""
        reader, writer = await asyncio.open_connection(*self.address.split(":"))
        told = {"host": self.address, **{key.replace("_", "-"): value for key, value in fields.items()}}
        head = Head(f"{request} HTTP/1.1", [*told.items()])
        writer.write(head.bytes())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        first, _, rest = answer.partition(b"\r\n\r\n")
        return Head.parse(first + b"\r\n\r\n"), rest

    async def document(self, path: str = "/", **fields: str) -> tuple[Head, bytes]:
        return await self.send(f"GET {path}", **{"sec-fetch-dest": "document", **fields})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    live = Live()
    made = Site(live)
    upstream = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    front = await live.open("127.0.0.1:0", f"127.0.0.1:{port}")
    made.address = front.address
    yield made
    await front.aclose()
    upstream.close()
    await upstream.wait_closed()


def script(body: bytes) -> re.Match[bytes]:
    found = re.search(
        rb'<script src="/@loop/live.js" nonce="([\w-]+)" data-version="([\w-]+)"></script>\n$', body
    )
    assert found, body
    return found


async def test_a_document_loads_the_script_and_is_whole(site: Site) -> None:
    head, body = await site.document()
    assert body.startswith(PAGE)
    assert script(body)[2].decode() == site.live.version
    assert int(head.get("content-length")) == len(body)
    assert head.get("cache-control") == "no-store"
    code, text = await site.send("GET /@loop/live.js")
    assert code.line == "HTTP/1.1 200 OK"
    assert b"loopHot" in text


async def test_a_document_in_chunks_has_one_more(site: Site) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (PAGE[:5], PAGE[5:])) + b"0\r\n\r\n"
    site.answer = fixed("HTTP/1.1 200 OK\ncontent-type: text/html\ntransfer-encoding: chunked", chunks)
    _, body = await site.document()
    parts, rest = [], body
    while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
        data = rest.partition(b"\r\n")[2]
        parts.append(data[:size])
        rest = data[size + 2 :]
    assert b"".join(parts[:-1]) == PAGE
    script(parts[-1])
    assert rest == b"0\r\n\r\n"


async def test_a_document_that_breaks_off_is_no_whole_one(site: Site) -> None:
    site.answer = fixed(WHOLE.replace(str(len(PAGE)), str(len(PAGE) + 7)), PAGE)
    head, body = await site.document()
    assert len(body) < int(head.get("content-length"))
    assert b"live.js" not in body
    site.answer = fixed("HTTP/1.1 200 OK\ncontent-type: text/html\ntransfer-encoding: chunked", b"ff\r\nhalf")
    _, body = await site.document()
    assert not body.endswith(b"0\r\n\r\n")
    assert b"live.js" not in body


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (WHOLE, {"sec_fetch_dest": "empty"}),
        (WHOLE.replace("text/html", "text/plain"), DOCUMENT),
        (WHOLE + "\ncontent-encoding: gzip", DOCUMENT),
        (WHOLE.replace("200 OK", "206 Partial Content"), DOCUMENT),
        (WHOLE, {**DOCUMENT, "host": "shop.example"}),
        (WHOLE, {}),
    ],
)
async def test_all_else_is_handed_on_as_it_is(site: Site, head: str, fields: dict[str, str]) -> None:
    site.answer = fixed(head, PAGE)
    answer, body = await site.send("GET /", **fields)
    assert answer.bytes().decode() == head.replace("\n", "\r\n") + "\r\n\r\n"
    assert body == PAGE


async def test_a_document_is_asked_for_anew_and_plain(site: Site) -> None:
    fields = {"if-none-match": '"a"', "accept-encoding": "br", "cookie": "a=b", "range": "bytes=0-1"}
    await site.document("/a%20b?c=d", **fields)
    (asked,) = site.asked
    assert asked.line == "GET /a%20b?c=d HTTP/1.1"
    assert asked.get("host") == site.address
    assert asked.get("cookie") == "a=b"
    assert asked.get("accept-encoding") == "identity"
    assert not asked.all("if-none-match")
    assert not asked.all("range")


async def test_a_body_goes_up_and_a_stream_comes_down_as_it_is_made(site: Site) -> None:
    more = asyncio.Event()

    async def answer(request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(int(request.get("content-length")))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + body)
        await writer.drain()
        await more.wait()
        writer.write(b"second")

    site.answer = answer
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(f"POST /news HTTP/1.1\r\nhost: {site.address}\r\ncontent-length: 5\r\n\r\n".encode())
    writer.write(b"first")
    async with asyncio.timeout(10):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"first"
        more.set()
        assert await reader.read() == b"second"
    writer.close()


async def test_a_client_that_goes_is_not_waited_for(site: Site) -> None:
    left = asyncio.Event()

    async def answer(_request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()

    site.answer = answer
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(f"GET /news HTTP/1.1\r\nhost: {site.address}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    async with asyncio.timeout(10):
        await left.wait()


async def test_an_error_that_is_no_document_becomes_one(site: Site) -> None:
    site.answer = fixed("HTTP/1.1 500 Internal Server Error\ncontent-length: 9", b"<trapped>")
    head, body = await site.document()
    assert head.line == "HTTP/1.1 500 Internal Server Error"
    assert b"&lt;trapped&gt;" in body
    script(body)


async def test_a_component_that_is_not_there_is_said(site: Site) -> None:
    async def gone(_request: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    site.answer = gone
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(Head("GET / HTTP/1.1", [("host", site.address), *DOCUMENT.items()]).bytes())
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_nonsense_is_refused_and_bounded(site: Site) -> None:
    for sent in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n a: b\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(*site.address.split(":"))
        writer.write(sent)
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(b"GET / HTTP/1.1\r\na: " + b"b" * (200 << 10))
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # it is closed while there is more to be read
            assert await reader.read() == b""
    writer.close()
    assert not site.asked


# ---- what pages listen to

KEY = base64.b64encode(b"k" * 16).decode()


def handshake(site: Site, **fields: str) -> dict[str, str]:
    told = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    return {**told, "origin": f"http://{site.address}", **fields}


@asynccontextmanager
async def listening(site: Site) -> AsyncIterator[Callable[[], Awaitable[dict[str, object]]]]:
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    fields = [("host", site.address), *handshake(site).items()]
    writer.write(Head("GET /@loop/live HTTP/1.1", fields).bytes())
    head = Head.parse(await reader.readuntil(b"\r\n\r\n"))
    proof = hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert head.line.startswith("HTTP/1.1 101 ")
    assert head.get("sec-websocket-accept") == base64.b64encode(proof).decode()

    async def told() -> dict[str, object]:
        async with asyncio.timeout(10):
            kind, size = await reader.readexactly(2)
            assert kind == 0x81
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8))
            return dict(json.loads(await reader.readexactly(size)))

    yield told
    writer.close()


async def test_pages_are_told_what_changes(site: Site) -> None:
    async with listening(site) as told, listening(site) as other:
        first = site.live.version
        for page in (told, other):
            assert await page() == {"kind": "hello", "version": first}
        site.live.assets(["/w/b.css", "/w/a.css"])
        site.live.code("site", styles=True)
        site.live.failed("site", "x" * 100_000)
        for page in (told, other):
            said = [await page() for _ in range(3)]
            assert [each["kind"] for each in said] == ["assets", "code", "failed"]
            assert said[0]["paths"] == ["/w/a.css", "/w/b.css"]
            assert said[1]["styles"] is True
            assert len(str(said[2]["reason"])) < 5000
            assert said[1]["version"] == said[2]["version"] == site.live.version != first


async def test_thousands_of_files_are_told_as_everything(site: Site) -> None:
    async with listening(site) as told:
        await told()
        site.live.assets([f"/w/{number}" for number in range(5000)])
        assert (await told())["kind"] == "code"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"host": "shop.example"}, "it is for another host"),
        ({"origin": "https://news.example"}, "it comes from another site"),
        ({"sec-fetch-site": "cross-site"}, "it comes from another site"),
        ({"origin": "null"}, "it comes from another site"),
    ],
)
@pytest.mark.parametrize("path", ["/@loop/live", "/@loop/live.js"])
async def test_other_sites_hear_nothing(site: Site, path: str, fields: dict[str, str], why: str) -> None:
    head, body = await site.send(f"GET {path}", **handshake(site, **fields))
    assert head.line == "HTTP/1.1 403 Forbidden"
    assert body.decode() == f"refused: {why}\n"


async def test_a_socket_must_say_where_it_comes_from(site: Site) -> None:
    fields = handshake(site)
    del fields["origin"]
    head, _ = await site.send("GET /@loop/live", **fields)
    assert head.line == "HTTP/1.1 403 Forbidden"


async def test_a_page_that_reads_nothing_is_let_go(site: Site) -> None:
    with site.live.listening() as queue:
        for _ in range(1000):
            site.live.code("site")
        said = []
        while (text := queue.get_nowait()) is not None:
            said.append(text)
        assert len(said) < 100


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        ("", ""),
        ("img-src 'self'", "img-src 'self'"),
        (
            "default-src 'none'; style-src 'self'",
            "default-src 'none'; style-src 'self'; script-src 'nonce-N'; connect-src 'self' ws://h:1",
        ),
        (
            "script-src 'self' 'strict-dynamic'; connect-src https://a.example",
            "script-src 'self' 'strict-dynamic' 'nonce-N'; connect-src https://a.example 'self' ws://h:1",
        ),
        ("script-src-elem 'none'; script-src 'self'", "script-src-elem 'nonce-N'; script-src 'self'"),
        ("Script-Src 'NONE';; ", "script-src 'nonce-N'"),
    ],
)
def test_a_policy_lets_the_script_in_and_nothing_else(policy: str, becomes: str) -> None:
    assert admitting(policy, "h:1", "N") == becomes


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1:80", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("0.0.0.0:80", False),
        ("a.example:1", False),
    ],
)
def test_own_addresses(address: str, own: bool) -> None:
    assert is_own(address) is own
