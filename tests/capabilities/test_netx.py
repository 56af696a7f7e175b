"""The native `loop:netx` and well-known peers: aiohttp, PyPI's websockets, grpcio, TLS by trustme."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import trustme
import websockets
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from loop_kit import Err, Ok, testing
from loop_kit.placements.builtin import builtin, driven

SCHEMES = ("http", "https", "ws", "wss")
LOCAL: dict[str, Any] = {
    "allow": [f"{scheme}://{host}:*" for scheme in SCHEMES for host in ("127.0.0.1", "localhost")]
}
LISTEN = LOCAL | {"listen": {"web": {"address": "127.0.0.1:0"}}}


def client(grant: Mapping[str, Any] = LOCAL, **config: Any) -> Any:
    return testing.client("loop:netx", grant=grant, config=config)


def request(url: str, method: str = "GET", **fields: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-"), value.encode()) for name, value in fields.items()]
    return {"method": method, "url": url, "headers": pairs, "options": None}


@asynccontextmanager
async def aiohttp_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def echo(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-method": asked.method})
        await response.prepare(asked)
        async for piece in asked.content.iter_any():
            await response.write(piece)
        return response

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"packed" * 1000), headers={"content-encoding": "gzip"})

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/packed", packed)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}"
    finally:
        await runner.cleanup()


class Counting(BaseHTTPRequestHandler):
    """Answers with how many bytes came."""

    def do_POST(self) -> None:
        size = left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        said = str(size).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_a_body_goes_on_while_nothing_else_wakes_the_event_loop(size: int) -> None:
    """Its server has a thread of its own: room for more is told by the engine's alone."""
    count = 200 if size == 1000 else 8
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        async def body() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield bytes(size)

        asked = request(f"http://127.0.0.1:{server.server_port}/", "POST", content_length=str(size * count))
        async with driven(builtin("netx", **LOCAL)) as netx:
            head, answer, _ = await netx.http_streaming.send(asked, body(), None)
            assert (head.status, b"".join([bytes(part) async for part in answer])) == (
                200,
                str(size * count).encode(),
            )
        server.shutdown()


async def test_aiohttp_answers_whole_and_streamed_requests() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * (64 << 10)

    async with aiohttp_server() as base, client() as netx:
        got = await netx.http_client.fetch(request(f"{base}/echo", "PUT"), b"hello")
        assert (got.status, bytes(got.body)) == (200, b"hello")
        assert (b"x-method", b"PUT") in [(name.encode(), bytes(value)) for name, value in got.headers]
        got = await netx.http_client.fetch(request(f"{base}/packed"), None)
        assert bytes(got.body) == b"packed" * 1000
        assert "content-encoding" not in [name for name, _ in got.headers]
        got = await netx.http_client.fetch(request(f"{base}/packed", accept_encoding="gzip"), None)
        assert gzip.decompress(bytes(got.body)) == b"packed" * 1000
        _, stream, end = await netx.http_streaming.send(request(f"{base}/echo", "POST"), pieces(), None)
        assert sum([len(chunk) async for chunk in stream]) == 4 << 20
        assert isinstance(await end, Ok)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def context(authority: trustme.CA, name: str, *protocols: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(made)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


async def test_certificates_are_checked_against_the_authorities_of_the_config(
    authority: trustme.CA, tmp_path: Path
) -> None:
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))

    async def code(base: str, **config: Any) -> str:
        async with client(**config) as netx:
            try:
                got = await netx.http_client.fetch(request(f"{base}/echo"), None)
            except Err as error:
                value: Any = error.value
                return str(value.case)
            return str(got.status)

    async with aiohttp_server(context(authority, "localhost")) as base:
        assert await code(base, ca=[str(pem)]) == "200"
        assert await code(base) == "TLS-certificate-error"
        assert await code(base.replace("localhost", "127.0.0.1"), ca=[str(pem)]) == "TLS-certificate-error"
    async with aiohttp_server(context(authority, "other.example")) as base:
        assert await code(base, ca=[str(pem)]) == "TLS-certificate-error"
    old = context(authority, "localhost")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with aiohttp_server(old) as base:
        assert await code(base, ca=[str(pem)]) == "200"


async def test_http2_is_spoken_with_a_server_that_has_it(authority: trustme.CA, tmp_path: Path) -> None:
    pem, pair = tmp_path / "ca.pem", authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(pem))
    (tmp_path / "chain.pem").write_bytes(pair.cert_chain_pems[0].bytes())
    pair.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    place = {"address": "127.0.0.1:0", "certificate": f"{tmp_path}/chain.pem", "key": f"{tmp_path}/key.pem"}
    async with client(LOCAL | {"listen": {"web": place}}, ca=[str(pem)]) as netx:
        listener = await netx.http_server.listen("web", [])
        port = (await listener.address()).rpartition(":")[2]

        async def answer() -> None:
            while True:
                exchange = await listener.accept()
                asked = await exchange.request()
                assert (asked.scheme, asked.authority) == ("https", f"localhost:{port}")
                # over HTTP/2 there is no such field
                assert "host" not in [name for name, _ in asked.headers]
                await exchange.respond(200, [], await exchange.read())

        serving = asyncio.ensure_future(answer())
        url = f"https://localhost:{port}/"
        bodies = [bytes([n]) * 100_000 for n in range(20)]
        # what comes after it shares its connection
        assert bytes((await netx.http_client.fetch(request(url, "POST"), b"first")).body) == b"first"
        got = await asyncio.gather(*(netx.http_client.fetch(request(url, "POST"), body) for body in bodies))
        assert [bytes(each.body) for each in got] == bodies
        # nobody reads the others until the one before has ended
        large = [bytes([n]) * 3_000_000 for n in range(12)]
        waiting = []
        for body in large:
            _, stream, _ = await netx.http_streaming.send(request(url, "POST"), once(body), None)
            waiting.append(stream)
        for body, stream in zip(large, waiting, strict=True):
            assert b"".join([bytes(piece) async for piece in stream]) == body
        serving.cancel()


async def once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_aiohttp_calls_a_component_s_server() -> None:
    async with client(LISTEN) as netx, aiohttp.ClientSession() as session:
        listener = await netx.http_server.listen(
            "web", [{"name": "up", "methods": ["POST"], "path": "/up/{name}"}]
        )
        base = f"http://{await listener.address()}"

        async def answer() -> None:
            for _ in range(3):
                exchange = await listener.accept()
                asked = await exchange.request()
                body = await exchange.read()
                await exchange.respond(200, [("x-name", asked.params[0][1].encode())], bytes(body)[::-1])

        serving = asyncio.ensure_future(answer())
        for n in range(3):
            async with session.post(f"{base}/up/n{n}", data=b"abc" * 1000) as got:
                assert (got.status, got.headers["x-name"]) == (200, f"n{n}")
                assert await got.read() == b"cba" * 1000
        async with session.get(f"{base}/up/x") as got:
            assert (got.status, got.headers["allow"]) == (405, "POST")
        await serving


async def test_websockets_as_the_server() -> None:
    async def echo(peer: ServerConnection) -> None:
        async for message in peer:
            if message == "fragments":
                await peer.send(["one ", "two ", "three"])
            elif message == "ping":
                await (await peer.ping())
                await peer.send("ponged")
            elif message == "close":
                await peer.close(4001, "enough")
            else:
                await peer.send(message)

    async with serve(echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=None) as server, client() as netx:  # type: ignore[list-item]
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        peer = await netx.websocket.connect(url, [], ["chat"], None)
        assert await peer.protocol() == "chat"
        for sent, wanted in (
            (("text", "héllo"), "héllo"),
            (("text", ""), ""),
            (("binary", b"\0\xff"), b"\0\xff"),
            (("binary", b"x" * (16 << 20)), b"x" * (16 << 20)),
            (("text", "fragments"), "one two three"),
            (("text", "ping"), "ponged"),
        ):
            await peer.send(sent)
            got = await peer.receive()
            assert got.case == ("text" if isinstance(wanted, str) else "binary")
            assert (got.value if isinstance(wanted, str) else bytes(got.value)) == wanted
        assert await peer.ping() > 0
        await peer.send(("text", "close"))
        with pytest.raises(Err) as met:
            await peer.receive()
        value: Any = met.value.value
        assert (value.case, value.value.code, value.value.reason, value.value.clean) == (
            "closed",
            4001,
            "enough",
            True,
        )
        with pytest.raises(Err):
            await netx.websocket.connect(url, [], ["other"], None)


async def test_websockets_as_the_client() -> None:
    async with client(LISTEN) as netx:
        listener = await netx.http_server.listen("web", [])
        url = f"ws://{await listener.address()}/"

        async def echo() -> Any:
            exchange = await listener.accept()
            peer = await exchange.upgrade("chat", [])
            try:
                while True:
                    got = await peer.receive()
                    await peer.send((got.case, got.value))
            except Err as error:
                return error.value

        serving = asyncio.ensure_future(echo())
        async with connect(url, subprotocols=["chat"], max_size=None) as peer:  # type: ignore[list-item]
            assert peer.subprotocol == "chat"
            assert peer.protocol.extensions == []
            for sent in ("héllo", b"\0\xff", b"x" * (16 << 20)):
                await peer.send(sent)
                assert await peer.recv() == sent
            await peer.send(["one ", "two"])
            assert await peer.recv() == "one two"
            await (await peer.ping())
            await peer.close(1001, "going")
        closed: Any = await serving
        assert (closed.value.code, closed.value.reason, closed.value.clean) == (1001, "going", True)

        serving = asyncio.ensure_future(echo())
        async with connect(url, subprotocols=["chat"]) as peer:  # type: ignore[list-item]
            # the other side may say so before all of it was sent
            with contextlib.suppress(websockets.ConnectionClosedError):
                await peer.send(b"x" * ((16 << 20) + 1))
            with pytest.raises(websockets.ConnectionClosedError) as met:
                await peer.recv()
            assert met.value.rcvd is not None
            assert met.value.rcvd.code == 1009
        closed = await serving
        assert (closed.value.code, closed.value.clean) == (1009, False)


async def test_a_slow_websocket_holds_up_its_sender_and_nothing_piles_up() -> None:
    """The peer reads nothing: sending stops after what the sockets hold, and goes on once it reads."""
    go = asyncio.Event()

    async def late(peer: ServerConnection) -> None:
        await go.wait()
        for _ in range(64):
            await peer.recv()
        await peer.send("all")

    async with serve(late, "127.0.0.1", 0, max_size=None, max_queue=1) as server, client() as netx:
        peer = await netx.websocket.connect(
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", [], [], None
        )
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(64):
                await peer.send(("binary", b"x" * (1 << 20)))
                sent += 1

        sending = asyncio.ensure_future(send())
        done, _ = await asyncio.wait([sending], timeout=1)
        assert not done
        assert sent < 40
        go.set()
        await sending
        assert (await peer.receive()).value == "all"


async def test_a_peer_that_only_pings_keeps_nobody_from_working() -> None:
    """Its pings are answered a turn at a time, and what comes behind them arrives; so does what was sent in a burst."""
    pings = b"\x89\x80\0\0\0\0" * 20_000
    async with client(LISTEN) as netx:
        listener = await netx.http_server.listen("web", [])
        host, _, port = (await listener.address()).rpartition(":")

        async def serve() -> list[str]:
            peer = await (await listener.accept()).upgrade(None, [])
            for n in range(100):  # most of them go out with the one before
                await peer.send(("text", str(n)))
            return [(await peer.receive()).value for _ in range(3)]

        serving = asyncio.ensure_future(serve())
        reader, writer = await asyncio.open_connection(host, int(port))
        key = base64.b64encode(bytes(16)).decode()
        writer.write(
            f"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        heard: list[bytes] = []
        pongs = 0

        async def listen() -> None:
            nonlocal pongs
            while len(heard) < 100 or pongs < 20_000:
                kind, length = await reader.readexactly(2)
                body = await reader.readexactly(length)
                pongs += kind == 0x8A
                heard.extend([body] if kind == 0x81 else [])

        listening = asyncio.ensure_future(listen())
        for text in (b"one", b"two", b"end"):
            writer.write(pings[: len(pings) // 3 // 6 * 6] + b"\x81\x83\0\0\0\0" + text)
            await writer.drain()
        writer.write(pings[: len(pings) - 3 * (len(pings) // 3 // 6 * 6)])
        async with asyncio.timeout(60):
            assert await serving == ["one", "two", "end"]
            await listening
        assert heard == [str(n).encode() for n in range(100)]
        writer.close()


class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Methods on bytes: `Reverse` with one message each way, `Each` with streams, `Fail`."""

    def service(self, details: Any) -> Any:
        async def reverse(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            given = dict(context.invocation_metadata())
            await context.send_initial_metadata(
                [("x-given", given.get("x-a", "")), ("b-bin", given.get("a-bin", b""))]
            )
            context.set_trailing_metadata([("x-after", "yes")])
            return message[::-1]

        async def each(messages: AsyncIterator[bytes], _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            async for message in messages:
                yield message.upper()

        async def fail(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            context.set_trailing_metadata([("x-why", "because")])
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nöt 100%")
            return b""

        async def slow(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            await asyncio.sleep(60)
            return b""

        match details.method:
            case "/a.B/Reverse":
                return grpc.unary_unary_rpc_method_handler(reverse)
            case "/a.B/Each":
                return grpc.stream_stream_rpc_method_handler(each)
            case "/a.B/Fail":
                return grpc.unary_unary_rpc_method_handler(fail)
            case "/a.B/Slow":
                return grpc.unary_unary_rpc_method_handler(slow)
        return None


@pytest.fixture
async def grpc_server() -> AsyncIterator[str]:
    server = grpc.aio.server(handlers=[Generic()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"http://127.0.0.1:{port}"
    await server.stop(0)


def call(server: str, method: str, *metadata: tuple[str, bytes], options: Any = None) -> dict[str, Any]:
    return {"server": server, "method": f"/a.B/{method}", "metadata": list(metadata), "options": options}


async def test_grpc_calls_a_grpcio_server(grpc_server: str) -> None:
    async with client() as netx:
        asked = call(grpc_server, "Reverse", ("x-a", b"1"), ("a-bin", b"\0\xff"))
        got = await netx.grpc.unary(asked, b"abc")
        assert bytes(got.message) == b"cba"
        metadata = {name: bytes(value) for name, value in got.metadata}
        assert (metadata["x-given"], metadata["b-bin"]) == (b"1", b"\0\xff")
        assert ("x-after", b"yes") in [(name, bytes(value)) for name, value in got.trailers]
        big = b"x" * (3 << 20)
        assert bytes((await netx.grpc.unary(call(grpc_server, "Reverse"), big)).message) == big
        for method, code, message in (
            ("Fail", "FAILED_PRECONDITION", "nöt 100%"),
            ("None", "UNIMPLEMENTED", "Method not found!"),
        ):
            with pytest.raises(Err) as met:
                await netx.grpc.unary(call(grpc_server, method), b"")
            failed: Any = met.value.value
            assert (failed.case, failed.value.code.name, failed.value.message) == ("status", code, message)
        options = {
            "connect_timeout": None, "first_byte_timeout": None, "between_bytes_timeout": None,
            "total_timeout": 200_000_000, "redirects": None, "decompress": True, "max_body": None,
        }  # fmt: skip
        with pytest.raises(Err) as met:
            await netx.grpc.unary(call(grpc_server, "Slow", options=options), b"")
        failed = met.value.value
        assert (failed.case, failed.value.code.name) == ("status", "DEADLINE_EXCEEDED")


async def test_grpc_streams_messages_both_ways(grpc_server: str) -> None:
    async def messages() -> AsyncIterator[bytes]:
        for n in range(100):
            yield b"m%d" % n

    async with client() as netx:
        _, answers, end = await netx.grpc_streaming.open(call(grpc_server, "Each"), messages())
        assert [bytes(answer) async for answer in answers] == [b"M%d" % n for n in range(100)]
        assert isinstance(await end, Ok)


async def test_grpc_bounds_its_messages(grpc_server: str) -> None:
    async with client(LOCAL | {"max-message": 100}) as netx:
        with pytest.raises(Err) as met:
            await netx.grpc.unary(call(grpc_server, "Reverse"), b"x" * 101)
        failed: Any = met.value.value
        assert (failed.case, failed.value.case) == ("transport", "HTTP-request-body-size")


async def test_a_proxy_is_used_only_by_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.split("\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nproxy")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("http_proxy", url)
    async with aiohttp_server() as base:
        asked = request(f"{base}/echo")
        async with client() as netx:
            assert bytes((await netx.http_client.fetch(asked, None)).body) == b""
        for named in ("environment", url):
            async with client(LOCAL | {"proxy": named}) as netx:
                assert bytes((await netx.http_client.fetch(asked, None)).body) == b"proxy"
                with pytest.raises(Err):
                    await netx.http_client.fetch(request("http://example.com/"), None)
    assert seen == [f"GET {base}/echo HTTP/1.1"] * 2
    server.close()
