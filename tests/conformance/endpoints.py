"""The HTTP servers that a case of wasi-testsuite wants to talk to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Headers = list[tuple[str, str]]


class Server(ThreadingHTTPServer):
    """Answers by the endpoints of one server of a case."""

    daemon_threads = True

    def __init__(self, endpoints: list[Json]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoints = {(e.get("method", "GET").upper(), e.get("path", "/")): e for e in endpoints}


class Handler(BaseHTTPRequestHandler):
    """One request a connection, as the suite's own servers do."""

    protocol_version = "HTTP/1.1"  # trailers need chunks, and chunks need 1.1
    server: Server

    def _answer(self) -> None:
        body, trailers = self._body()
        endpoint = self.server.endpoints.get((self.command, self.path))
        if endpoint is None:
            self._send(404, [], b"")
            return
        match endpoint.get("mode", "static"):
            case "echo-body":
                self._send(200, [], body)
            case "echo-headers":
                self._send(200, self._echoes(trailers), b"")
            case "static":
                self._static(endpoint.get("response", ""))
            case mode:
                self._send(500, [], f"unknown mode {mode}".encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer

    def _body(self) -> tuple[bytes, Headers]:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0))), []
        body = b""
        while line := self.rfile.readline():
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                break
            body += self.rfile.read(size)
            self.rfile.readline()
        trailers = []
        while (line := self.rfile.readline()).strip():
            name, _, value = line.decode().partition(":")
            trailers.append((name.strip().lower(), value.strip()))
        return body, trailers

    def _echoes(self, trailers: Headers) -> Headers:
        echoes = [("x-request-method", self.command), ("x-request-path", self.path)]
        echoes += [(f"x-echo-{name.lower()}", value) for name, value in self.headers.items()]
        return echoes + [(f"x-trailer-{name}", value) for name, value in trailers]

    def _static(self, response: Json | str) -> None:
        made: Json = {"body": response} if isinstance(response, str) else response
        headers = list(made.get("headers", {}).items())
        if "chunks" in made:
            self._send_chunks(made, headers)
        else:
            self._send(made.get("status", 200), headers, made.get("body", "").encode())

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        self._head(status, [*headers, ("Content-Length", str(len(body)))])
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_chunks(self, response: Json, headers: Headers) -> None:
        trailers = response.get("trailers", {})
        headers.append(("Transfer-Encoding", "chunked"))
        if trailers:
            headers.append(("Trailer", ", ".join(trailers)))
        self._head(response.get("status", 200), headers)
        if self.command == "HEAD":
            return
        for chunk in response["chunks"]:
            data = chunk.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        ends = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        self.wfile.write(f"0\r\n{ends}\r\n".encode())

    def _head(self, status: int, headers: Headers) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(servers: list[Json]) -> Iterator[dict[str, str]]:
    """Runs the servers of a case; gives their addresses by the environment variables that tell the guest."""
    running: list[Server] = []
    addresses = {}
    try:
        for spec in servers:
            variable = f"HTTP_SERVER_{spec['name'].upper()}"
            if spec.get("kind", "listening") == "closed":
                addresses[variable] = _closed()
                continue
            server = Server(spec.get("endpoints", []))
            running.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            addresses[variable] = f"127.0.0.1:{server.server_port}"
        yield addresses
    finally:
        for server in running:
            server.shutdown()
            server.server_close()


def _closed() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()
    return f"{host}:{port}"
