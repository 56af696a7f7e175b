"""What every provider of `loop:netx` must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from loop_kit import Err, Ok
from loop_kit.conform import Provided, Scene, Suite, expect, fails

__all__ = ["SUITE"]

SUITE = Suite("loop:netx", (Provided("builtin:netx"),))

Answer = Callable[[str], bytes]


@asynccontextmanager
async def _server(answer: Answer) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers each request with what `answer` gives for its head and body; its port and what it saw."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = b""
                if "content-length" in fields:
                    body = await reader.readexactly(int(fields["content-length"]))
                while fields.get("transfer-encoding") == "chunked":
                    size = int(await reader.readline(), 16)
                    if size == 0:
                        body += (await reader.readuntil(b"\r\n"))[:-2]
                        break
                    body += (await reader.readexactly(size + 2))[:-2]
                seen.append(head + body.decode())
                writer.write(answer(seen[-1]))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


def _ok(body: bytes, *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _request(url: str, method: str = "GET", headers: Any = (), **options: Any) -> dict[str, Any]:
    names = (
        "connect_timeout", "first_byte_timeout", "between_bytes_timeout", "total_timeout", "redirects", "max_body",
    )  # fmt: skip
    said = {name: options.get(name) for name in names} | {"decompress": options.get("decompress", True)}
    pairs = [(name, value.encode()) for name, value in headers]
    return {"method": method, "url": url, "headers": pairs, "options": said if options else None}


async def _code(made: Awaitable[Any], what: str) -> str:
    """The error-code that a call fails with."""
    error = await fails(made, Err, what)
    assert isinstance(error, Err)
    value: Any = error.value
    return str(value.case)


LOCAL = {"allow": ["http://127.0.0.1:*", "http://localhost:*", "ws://127.0.0.1:*"]}
LISTEN = LOCAL | {"listen": {"web": {"address": "127.0.0.1:0"}}}


@SUITE.case("http-client", "a response is whole")
async def _(scene: Scene) -> None:
    async with (
        _server(lambda _: _ok(b"hello", "x-a: 1", "x-a: 2")) as (port, seen),
        scene.client(LOCAL) as netx,
    ):
        url = f"http://127.0.0.1:{port}/a?b=c"
        for _ in range(2):
            got = await netx.http_client.fetch(_request(url, "POST", [("X-B", "3")]), b"body")
            expect((got.status, bytes(got.body), got.url), (200, b"hello", url), "status, body and URL")
            pairs = [(name, bytes(value)) for name, value in got.headers if name == "x-a"]
            expect(pairs, [("x-a", b"1"), ("x-a", b"2")], "fields that occur twice")
        expect(
            seen[0].startswith("POST /a?b=c HTTP/1.1\r\n") and "x-b: 3\r\n" in seen[0], True, "what was sent"
        )
        expect(seen[0].endswith("\r\n\r\nbody"), True, "the body that was sent")


@SUITE.case("egress", "nothing is reached that the grant does not name")
async def _(scene: Scene) -> None:
    async with _server(lambda _: _ok(b"secret")) as (port, seen):
        denied, prohibited, invalid = (
            "HTTP-request-denied", "destination-IP-prohibited", "HTTP-request-URI-invalid",
        )  # fmt: skip
        any_name, here = "http://*:*", "http://127.0.0.1:*"
        for allow, host, code in (
            ([], "127.0.0.1", denied),
            (["https://127.0.0.1:*"], "127.0.0.1", denied),
            (["http://127.0.0.1:1"], "127.0.0.1", denied),
            ([here], "localhost", denied),
            ([any_name], "127.0.0.1", denied),
            ([any_name], "localhost", prohibited),
            ([any_name], "[::1]", denied),
            ([any_name], "0.0.0.0", denied),
            ([any_name], "169.254.169.254", denied),
            ([any_name], "[64:ff9b::7f00:1]", denied),
            ([any_name], "[2002:7f00:1::]", denied),
            ([here], "[::ffff:127.0.0.1]", invalid),
            ([here], "2130706433", invalid),
            ([here], "0x7f.0.0.1", invalid),
            ([here], "0177.0.0.1", invalid),
            ([here], "127.1", invalid),
            ([here], "user:secret@127.0.0.1", invalid),
        ):
            async with scene.client({"allow": allow}) as netx:
                asked = netx.http_client.fetch(_request(f"http://{host}:{port}/"), None)
                expect(
                    await _code(asked, f"{host} under {allow}"), code, f"the error of {host} under {allow}"
                )
        expect(seen, [], "what the server saw")


@SUITE.case("egress", "a refusal names what to add to the grant")
async def _(scene: Scene) -> None:
    async with scene.client({}) as netx:
        error: Any = await fails(
            netx.http_client.fetch(_request("https://api.example.com/x"), None),
            Err,
            "a request without a grant",
        )
        expect('"https://api.example.com:443"' in error.value.value, True, f"the words: {error.value.value}")


@SUITE.case("egress", "redirects are asked for like anything else, and secrets stay with their origin")
async def _(scene: Scene) -> None:
    async with _server(lambda head: _ok(head.encode())) as (other, _):

        def answer(head: str) -> bytes:
            path = head.split(" ")[1]
            to = {"/far": f"http://127.0.0.1:{other}/", "/loop": "/loop", "/near": "there"}.get(path)
            return (
                _ok(b"")
                if to is None
                else f"HTTP/1.1 302 Go\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode()
            )

        async with _server(answer) as (port, _):
            base = f"http://127.0.0.1:{port}"
            async with scene.client({"allow": [base]}) as netx:
                fetch = netx.http_client.fetch
                expect(
                    await _code(fetch(_request(f"{base}/far"), None), "far"),
                    "HTTP-request-denied",
                    "a far hop",
                )
                expect(
                    await _code(fetch(_request(f"{base}/loop"), None), "loop"), "loop-detected", "a circle"
                )
                expect(
                    (await fetch(_request(f"{base}/near"), None)).url, f"{base}/there", "where a near hop led"
                )
                unfollowed = await fetch(_request(f"{base}/loop", redirects=0), None)
                expect(unfollowed.status, 302, "a redirect that is not followed")
            async with scene.client(LOCAL) as netx:
                fields = [("authorization", "Bearer x"), ("cookie", "a=b"), ("x-a", "1")]
                got = bytes(
                    (await netx.http_client.fetch(_request(f"{base}/far", headers=fields), None)).body
                )
                expect(
                    (b"Bearer" in got, b"a=b" in got, b"x-a: 1" in got), (False, False, True), "what crossed"
                )


@SUITE.case("http-client", "fields that could smuggle are refused")
async def _(scene: Scene) -> None:
    async with _server(lambda _: _ok(b"")) as (port, seen), scene.client(LOCAL) as netx:
        for name, value in (
            ("x", "a\r\nb: c"), ("x", "a\0"), ("x y", "a"), ("", "a"), ("host", "a"), ("transfer-encoding", "chunked"),
            ("connection", "close"), ("upgrade", "x"), ("content-length", "99"),
        ):  # fmt: skip
            asked = netx.http_client.fetch(
                _request(f"http://127.0.0.1:{port}/", "POST", [(name, value)]), b"body"
            )
            expect(
                await _code(asked, name), "HTTP-request-header-invalid", f"the error of {name!r}: {value!r}"
            )
        expect(seen, [], "what the server saw")


@SUITE.case("http-client", "bodies, heads and waits are bounded")
async def _(scene: Scene) -> None:
    def answer(head: str) -> bytes:
        match head.split(" ")[1]:
            case "/long":
                return _ok(b"x" * 2000)
            case "/head":
                return _ok(b"", "x: " + "y" * 20_000)
            case "/two":
                return b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
            case _:
                return b""

    bounds = LOCAL | {"max-body": 1000, "max-header": 8192, "first-byte-timeout": 0.3}
    async with _server(answer) as (port, _), scene.client(bounds) as netx:
        for path, code in (
            ("/long", "HTTP-response-body-size"),
            ("/head", "HTTP-response-header-section-size"),
            ("/two", "HTTP-protocol-error"),
            ("/never", "HTTP-response-timeout"),
        ):
            asked = netx.http_client.fetch(_request(f"http://127.0.0.1:{port}{path}"), None)
            expect(await _code(asked, path), code, f"the error of {path}")
        asked = netx.http_client.fetch(_request(f"http://127.0.0.1:{port}/", "POST"), b"x" * 1001)
        expect(await _code(asked, "a long body"), "HTTP-request-body-size", "the error of a long body")


@SUITE.case("http-streaming", "bodies stream both ways, with trailers")
async def _(scene: Scene) -> None:
    reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nsum: 5\r\n\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two ", b"three"):
            yield piece

    async with _server(lambda _: reply) as (port, seen), scene.client(LOCAL) as netx:
        asked = _request(f"http://127.0.0.1:{port}/", "PUT")
        head, stream, end = await netx.http_streaming.send(asked, pieces(), None)
        got = b"".join([bytes(chunk) async for chunk in stream])
        trailers = [(name, bytes(value)) for name, value in (await end).value]
        expect((head.status, got, trailers), (200, b"abcde", [("sum", b"5")]), "what came back")
        expect(seen[0].endswith("\r\n\r\none two three"), True, "what was sent")


@SUITE.case("dns", "names of the grant resolve, and no other")
async def _(scene: Scene) -> None:
    async with scene.client({"allow": ["http://localhost:1", "dns://other.localhost"]}) as netx:
        found = await netx.dns.resolve_addresses("localhost")
        expect({item.case for item in found} <= {"ipv4", "ipv6"}, True, "kinds of addresses")
        here = {tuple(item.value) for item in found}
        expect(
            here <= {(127, 0, 0, 1), (0, 0, 0, 0, 0, 0, 0, 1)} and here != set(), True, f"addresses: {here}"
        )
        denied = await _code(netx.dns.resolve_addresses("example.com"), "a name that is not granted")
        expect(denied, "HTTP-request-denied", "its error")


async def _serve(netx: Any, routes: Any = ()) -> tuple[Any, int]:
    listener = await netx.http_server.listen("web", list(routes))
    return listener, int((await listener.address()).rpartition(":")[2])


@SUITE.case("http-server", "requests come by their routes and are answered")
async def _(scene: Scene) -> None:
    routes = [
        {"name": "user", "methods": ["GET", "POST"], "path": "/users/{id}"},
        {"name": "file", "methods": [], "path": "/files/{*rest}"},
    ]
    async with scene.client(LISTEN) as netx:
        listener, port = await _serve(netx, routes)
        base = f"http://127.0.0.1:{port}"

        async def asked(path: str, method: str, body: bytes | None) -> tuple[int, bytes]:
            got = await netx.http_client.fetch(_request(base + path, method), body)
            return got.status, bytes(got.body)

        asking = asyncio.ensure_future(asked("/users/7?a=b", "POST", b"body"))
        exchange = await listener.accept()
        request = await exchange.request()
        expect(
            (request.method, request.path, request.query, request.route, list(request.params)),
            ("POST", "/users/7", "a=b", "user", [("id", "7")]),
            "the request",
        )
        expect(bytes(await exchange.read()), b"body", "its body")
        await exchange.respond(201, [("x-a", b"1")], b"done")
        expect(await asking, (201, b"done"), "the answer")
        expect((await asked("/none", "GET", None))[0], 404, "a path without a route")
        expect((await asked("/users/7", "PUT", b""))[0], 405, "a method without a route")
        denied = await _code(netx.http_server.listen("other", []), "a name that is not granted")
        expect(denied, "HTTP-request-denied", "its error")


@SUITE.case("http-server", "bodies stream both ways")
async def _(scene: Scene) -> None:
    async def pieces(*all_: bytes) -> AsyncIterator[bytes]:
        for piece in all_:
            yield piece

    async with scene.client(LISTEN) as netx:
        listener, port = await _serve(netx)
        asked = _request(f"http://127.0.0.1:{port}/", "POST")
        sending = asyncio.ensure_future(netx.http_streaming.send(asked, pieces(b"a" * 100_000, b"b"), None))
        exchange = await listener.accept()
        body, end = await exchange.body()
        expect(sum([len(chunk) async for chunk in body]), 100_001, "bytes that came")
        expect(isinstance(await end, Ok), True, "that it ended well")
        await exchange.respond_streaming(200, [], pieces(b"one", b"two"), None)
        _, stream, ended = await sending
        expect(b"".join([bytes(chunk) async for chunk in stream]), b"onetwo", "what was answered")
        expect(isinstance(await ended, Ok), True, "that it ended well")


@SUITE.case("websocket", "messages go both ways, and a close is told")
async def _(scene: Scene) -> None:
    async with scene.client(LISTEN | {"max-message": 2 << 20}) as netx:
        listener, port = await _serve(netx)
        opening = asyncio.ensure_future(
            netx.websocket.connect(f"ws://127.0.0.1:{port}/", [], ["chat", "other"], None)
        )
        exchange = await listener.accept()
        server = await exchange.upgrade("chat", [])
        client = await opening
        expect(await client.protocol(), "chat", "the protocol")
        for one, other in ((client, server), (server, client)):
            await one.send(("text", "héllo"))
            await one.send(("binary", b"x" * 1_000_000))
            text, binary = await other.receive(), await other.receive()
            expect((text.case, text.value), ("text", "héllo"), "a text")
            expect((binary.case, len(binary.value)), ("binary", 1_000_000), "bytes")
            expect(await one.ping() > 0, True, "a ping")
        long = await _code(client.send(("binary", b"x" * ((2 << 20) + 1))), "a long message")
        expect(long, "message-size", "its error")
        closed = await client.close(4000, "bye")
        expect((closed.code, closed.reason, closed.clean), (4000, "bye", True), "the close")
        error: Any = await fails(server.receive(), Err, "reading on")
        expect((error.value.case, error.value.value.code), ("closed", 4000), "how the other end was closed")


@SUITE.case("wrpc", "peers are those of the grant")
async def _(scene: Scene) -> None:
    grant = {"wrpc": {"kv": {"address": "tcp://127.0.0.1:1", "interfaces": ["acme:kv/store"]}}}
    async with scene.client(grant) as netx:
        for peer, instance, reason in (
            ("other", "acme:kv/store", "NOT_GRANTED"),
            ("kv", "acme:kv/admin", "NOT_GRANTED"),
            ("kv", "acme:kv/store", "PROVIDER_GONE"),
        ):
            error: Any = await fails(netx.wrpc.invoke(peer, instance, "get", b""), Err, f"{peer} {instance}")
            expect(error.value.reason.name, reason, f"why {peer} {instance} fails")


@SUITE.case("grpc", "calls are of servers of the grant, and of methods")
async def _(scene: Scene) -> None:
    async with scene.client({"allow": ["http://127.0.0.1:1"]}) as netx:
        for server, method, code in (
            ("http://127.0.0.1:2", "/a.B/C", "HTTP-request-denied"),
            ("http://127.0.0.1:1/x", "/a.B/C", "HTTP-request-URI-invalid"),
            ("http://127.0.0.1:1", "a.B/C", "HTTP-request-URI-invalid"),
            ("http://127.0.0.1:1", "/a.B/C", "connection-refused"),
        ):
            call: dict[str, Any] = {"server": server, "method": method, "metadata": [], "options": None}
            error: Any = await fails(netx.grpc.unary(call, b""), Err, f"{server}{method}")
            expect(
                (error.value.case, error.value.value.case), ("transport", code), f"why {server}{method} fails"
            )
