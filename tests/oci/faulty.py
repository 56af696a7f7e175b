"""A registry in front of a real one, with whatever faults a test gives it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[["Request"], bool]
"""Answers a request, or returns False and leaves it to the rules after it, and to the real registry at last."""


class Request(BaseHTTPRequestHandler):
    """One request, and how to answer it."""

    protocol_version = "HTTP/1.1"
    server: Faulty
    taken: bool
    """Whether a rule has read the body."""

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def _do(self) -> None:
        self.taken = False
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        for rule in self.server.rules:
            if rule(self):
                return
        self.forward()

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length") or 0)

    def answer(
        self, status: int, body: bytes = b"", fields: Mapping[str, str] | None = None, **headers: str
    ) -> bool:
        """Answers; `_` in names of fields stands for `-`."""
        if not self.taken:
            self.rfile.read(self.length)
        self.send_response(status)
        for name, value in ({"content_length": str(len(body))} | headers | dict(fields or {})).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def json(self, value: Any, status: int = 200, fields: Mapping[str, str] | None = None) -> bool:
        return self.answer(status, json.dumps(value).encode(), fields, content_type="application/json")

    def endless(self, media_type: str = "application/json", status: int = 200) -> bool:
        """A body that does not end before whoever asked has gone."""
        self.send_response(status)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("content-type", media_type)
        self.end_headers()
        piece = b" " * 65536
        while True:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def hang_up(self) -> bool:
        """Ends the connection in the middle of what was said."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)
        return True

    def broken(self, body: bytes, sent: int, status: int = 200, **headers: str) -> bool:
        """Begins to answer and then ends the connection."""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])
        return self.hang_up()

    def forward(self, *, only: int | None = None, unanswered: bool = False) -> bool:
        """Asks the real registry.

        `only`: passes so many bytes of the body on, and then ends both connections. `unanswered`: the answer is lost.
        """
        real = http.client.HTTPConnection(self.server.real, timeout=30)
        try:
            fields = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "connection")
            }
            real.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in fields.items():
                real.putheader(name, value)
            real.endheaders()
            real.send(self.rfile.read(self.length if only is None else only))
            if only is not None:
                return self.hang_up()
            response = real.getresponse()
            body = response.read()
            if unanswered:
                return self.hang_up()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value.replace(self.server.real, self.server.host))
            self.end_headers()
            self.wfile.write(body)
            return True
        finally:
            real.close()


class Faulty(ThreadingHTTPServer):
    """A registry with faults.

    Attributes:
        rules: What answers in place of the real one; tests change it as they go.
        asked: Method, path and header fields of each request.
        connections: How many there were.
    """

    daemon_threads = True

    def __init__(self, real: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.real = real
        self.host = f"127.0.0.1:{self.server_port}"
        self.rules: list[Rule] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0

    def handle_error(self, *_: object) -> None:
        pass

    def count(self, method: str, part: str = "") -> int:
        """How many requests there were."""
        return sum(asked == method and part in path for asked, path, _ in self.asked)


@contextmanager
def faulty(real: str) -> Iterator[Faulty]:
    """A registry with faults in front of a real one."""
    server = Faulty(real)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(status: int, body: bytes = b"", **headers: str) -> Rule:
    """A rule that answers everything."""
    return lambda request: request.answer(status, body, headers)


def times(count: int, rule: Rule) -> Rule:
    """A rule that holds for so many requests that it takes, and then no more."""
    left = [count]

    def limited(request: Request) -> bool:
        if not left[0]:
            return False
        left[0] -= 1  # before the client hears of it, who may come back at once
        if rule(request):
            return True
        left[0] += 1
        return False

    return limited


def on(method: str, part: str, then: Rule) -> Rule:
    """A rule for requests of a method whose path has a part."""
    return lambda request: request.command == method and part in request.path and then(request)


class Uploads:
    """A rule: uploads in pieces as the specification has them, by a registry that keeps what came of a piece.

    docker-registry forgets an upload that broke off in the middle of a piece.
    """

    def __init__(self, cut: int, after: int) -> None:
        """The first piece but one ends `after` bytes, `cut` times."""
        self.data = bytearray()
        self.cut = cut
        self.after = after

    def __call__(self, request: Request) -> bool:
        where = {"location": "/v2/any/blobs/uploads/1", "range": f"0-{max(len(self.data) - 1, 0)}"}
        match request.command:
            case "HEAD":
                return request.answer(404)
            case "POST":
                return request.answer(202, fields=where)
            case "GET":
                return request.answer(204, fields=where)
            case "PATCH":
                start = int(request.headers["content-range"].partition("-")[0])
                if start != len(self.data):
                    return request.answer(416, fields=where)
                if start and self.cut:
                    self.cut -= 1
                    self.data += request.rfile.read(min(self.after, request.length))
                    return request.hang_up()
                self.data += request.rfile.read(request.length)
                request.taken = True
                return request.json({}, 202, {**where, "range": f"0-{len(self.data) - 1}"})
        return request.answer(201)
