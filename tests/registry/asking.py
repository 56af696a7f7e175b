"""Asking a registry as no well-behaved client would."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass
class Got:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        """Of its only error."""
        [error] = json.loads(self.body)["errors"]
        assert error["message"]
        return str(error["code"])

    def __getitem__(self, name: str) -> str | None:
        return self.headers[name]


class Client:
    """Asks one registry, by a connection for each request."""

    def __init__(self, host: str, headers: Mapping[str, str] | None = None) -> None:
        self.host = host
        self.headers = dict(headers or {})

    def ask(self, method: str, path: str, body: Any = None, /, **headers: str) -> Got:
        """`headers`: `_` for `-`."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            fields = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Got(response.status, response.headers, response.read())
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes) -> str:
        digest = digest_of(data)
        got = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        assert got.status == 201, got.body
        return digest

    def push(self, repository: str, name: str, *layers: bytes, **more: Any) -> tuple[str, bytes]:
        """A manifest with its blobs; its digest and bytes."""
        document = manifest(*layers, **more)
        for data in (b"{}", *layers):
            self.push_blob(repository, data)
        got = self.ask("PUT", f"/v2/{repository}/manifests/{name}", document, content_type=MANIFEST)
        assert got.status == 201, got.body
        return digest_of(document), document

    def begin(self, repository: str) -> str:
        """Where an upload goes on."""
        got = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert got.status == 202, got.body
        location = got["location"]
        assert location is not None
        return location


def described(data: bytes, media_type: str = "application/x") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest(*layers: bytes, **more: Any) -> bytes:
    made = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [described(data) for data in layers],
    }
    return json.dumps(made | more).encode()


@contextmanager
def half_sent(
    host: str, method: str, path: str, data: bytes, length: int
) -> Iterator[http.client.HTTPConnection]:
    """A request of whose body so many bytes are to come, and DATA have."""
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.putrequest(method, path)
        connection.putheader("content-length", str(length))
        connection.endheaders()
        connection.send(data)
        yield connection
    finally:
        connection.close()
