"""Requests that nobody means well with: they are answered, and leave nothing where it should not be."""

import asyncio
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop_kit.errors import PackageError
from loop_kit.registry import Api, Bounds, Content, _document
from loop_kit.registry._answers import Answer, Gone, Part, Request
from loop_kit.registry._api import Access
from loop_kit.store import Store
from tests.registry.asking import INDEX, MANIFEST, Client, described, digest_of, manifest

BLOB = b"a blob"
DIGEST = digest_of(BLOB)

parts = st.sampled_from(
    [
        "a",
        "b",
        "..",
        ".",
        "",
        "_tags",
        "_blobs",
        "%2e%2e",
        "a%2fb",
        "%00",
        "\0",
        "A",
        "a..b",
        "a" * 300,
        "é",
        "~",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "referrers",
        "v2",
        "sha256",
        DIGEST,
        "latest",
        "_catalog",
        DIGEST.replace(":", "%3A"),
        "sha256:..",
        "sha256:../../../etc/passwd",
        "sha512:" + "0" * 128,
        "md5:0",
        ".x",
    ]
)
paths = st.one_of(
    st.lists(parts, max_size=8).map("/".join).map("/v2/".__add__),
    st.builds(
        lambda name, kind, last: f"/v2/{name}/{kind}/{last}",
        st.one_of(parts, st.lists(parts, max_size=3).map("/".join)),
        st.sampled_from(["blobs", "blobs/uploads", "manifests", "tags", "referrers"]),
        st.one_of(parts, st.text(max_size=8)),
    ),
    st.text(max_size=30),
)
numbers = st.one_of(st.integers(-5, 20), st.sampled_from([1 << 31, 1 << 63, 1 << 64, 10**18, 10**40])).map(
    str
)
ranges = st.builds("{}{}-{}".format, st.sampled_from(["", "bytes=", "bytes "]), numbers, numbers)
keys = st.sampled_from(["digest", "mount", "from", "n", "last", "artifactType", "tag", "x", ""])
values = st.one_of(parts, numbers, st.text(max_size=10))
queries = st.lists(st.builds("{}={}".format, keys, values), max_size=4).map("&".join)
fields = st.one_of(
    st.tuples(st.sampled_from(["range", "content-range"]), ranges),
    st.tuples(st.just("content-type"), st.sampled_from([MANIFEST, INDEX, "text/html", ";;", "é"])),
    st.tuples(st.sampled_from(["if-range", "authorization", "host", "origin"]), st.text(max_size=10)),
)
bodies = st.one_of(
    st.sampled_from([b"", BLOB, manifest(), manifest(BLOB), b"{}", b"[]", b"null", b"\xff"]),
    st.binary(max_size=50),
)
GOOD = re.compile(
    r"(?:blobs/sha(?:256|512)/[0-9a-f]+|roots/[0-9a-f]+\.json|users/[0-9a-f-]+|lock|registry/lock"
    r"|registry/uploads/[0-9a-f-]+|registry/repositories/[a-z0-9/._-]+/(?:_blobs/sha(?:256|512)/[0-9a-f]+"
    r"|_tags/[A-Za-z0-9_][A-Za-z0-9._-]*|_referrers/sha[0-9]+-[0-9a-f]+/sha[0-9]+-[0-9a-f]+))"
)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Content]:
    bounds = Bounds(blob=1 << 16, uploads=20_000)  # room for long runs
    content = Content(Store(tmp_path_factory.mktemp("hostile") / "store"), bounds)
    with content.opened():
        yield content


def asked(method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Request:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 20):
            yield body[start : start + 20]

    named = [("host", "127.0.0.1"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return Request(method, path, query, tuple(named), len(body), chunks)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "PURGE", ""]),
            paths,
            queries,
            st.lists(fields, max_size=2),
            bodies,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_asked_is_answered(
    content: Content, requests: list[tuple[str, str, str, list[tuple[str, str]], bytes]]
) -> None:
    wrong: list[str] = []
    api = Api(content, Access(delete=True), tell=wrong.append)

    async def ask() -> list[Answer]:
        made = [
            asked(method, path, query, body, **{k.replace("-", "_"): v for k, v in headers})
            for method, path, query, headers, body in requests
        ]
        return [await api.answer(request) for request in made]

    for answer in asyncio.run(ask()):
        assert 200 <= answer.status < 500 or answer.status == 507
        if answer.status >= 400:
            assert isinstance(answer.body, bytes)
            assert json.loads(answer.body)["errors"][0]["code"].isupper()
        elif isinstance(answer.body, Part):
            assert (
                0
                <= answer.body.start
                <= answer.body.start + answer.body.size
                <= os.path.getsize(answer.body.path)
            )
        for name, value in answer.headers:
            assert "\n" not in name + value
            assert "\r" not in name + value
    assert wrong == []
    folder = content.store.folder
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert [path for path in found if GOOD.fullmatch(path) is None] == []
    assert os.listdir(folder.parent) == ["store"]
    assert content.store.verify() == []


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=8))
def test_pieces_that_overlap_or_leave_gaps(content: Content, pieces: list[tuple[int, int, bool]]) -> None:
    """What is there is what was next, and nothing else, and is its digest's."""
    whole = bytes(range(1, 40))
    api = Api(content)

    async def run() -> None:
        begun = await api.answer(asked("POST", "/v2/pieces/blobs/uploads/"))
        location = dict(begun.headers)["location"]
        model = b""
        for start, size, said in pieces:
            data = whole[start : start + size]
            headers = {"content_range": f"{start}-{start + size - 1}"} if said else {}
            answer = await api.answer(asked("PATCH", location, "", data, **headers))
            taken = not said or (start == len(model) and size > 0)
            assert answer.status == (202 if taken else 416)
            model += data if taken else b""
            state = dict((await api.answer(asked("GET", location))).headers)
            assert state["range"] == f"0-{max(0, len(model) - 1)}"
        wrong = await api.answer(
            asked("PUT", location, f"digest={digest_of(model)}", b"", content_range="5-1")
        )
        assert wrong.status == 416
        answer = await api.answer(asked("PUT", location, f"digest={digest_of(model)}"))
        assert answer.status == 201
        assert content.blobs.read(digest_of(model)) == model

    asyncio.run(run())


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_client_that_goes_leaves_what_came(content: Content, came: int, more: int) -> None:
    data = bytes(came + more)
    api = Api(content)

    def broken(method: str, path: str, sent: bytes) -> Request:
        async def chunks() -> AsyncIterator[bytes]:
            yield sent
            raise Gone

        return Request(method, path, "", (("host", "127.0.0.1"),), len(data), chunks)

    async def run() -> None:
        location = dict((await api.answer(asked("POST", "/v2/gone/blobs/uploads/"))).headers)["location"]
        with pytest.raises(Gone):
            await api.answer(broken("PATCH", location, data[:came]))
        said = {"content_range": f"{came}-{len(data) - 1}"} if more else {}
        answer = await api.answer(asked("PATCH", location, "", data[came:], **said))
        assert answer.status == 202
        assert (await api.answer(asked("PUT", location, f"digest={digest_of(data)}"))).status == 201

    asyncio.run(run())


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["mediaType", "config", "layers", "manifests", "subject", "artifactType", "annotations"]
        ),
        st.one_of(json_values, st.just(described(BLOB)), st.just([described(BLOB)])),
    ),
    st.sampled_from([MANIFEST, INDEX, None, "application/json"]),
)
def test_documents_are_read_or_refused(more: dict[str, object], media_type: str | None) -> None:
    data = json.dumps({"schemaVersion": 2} | more).encode()
    try:
        found = _document.read(data, media_type)
    except PackageError:  # and nothing else
        return
    assert found.media_type in (MANIFEST, INDEX)
    assert isinstance(json.loads(found.descriptor(DIGEST, len(data))), dict)
    assert all(isinstance(value, str) for value in found.annotations.values())


@pytest.mark.parametrize(
    "raw",
    [
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nGET /",
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: +5\r\n\r\nGET /",
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nhost : 127.0.0.1\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\n\r\n",
        "GET http://evil.example/v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        "GET http://127.0.0.1/v2/ HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\nsec-fetch-site: none\r\nsec-fetch-site: cross-site\r\n\r\n",
        "CONNECT evil.example:80 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\n" + "x: y\r\n" * 1000 + "\r\n",
        "GET /v2/" + "a" * 100_000 + " HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        "\x16\x03\x01 no HTTP at all\r\n\r\n",
    ],
)
def test_requests_that_could_be_read_in_two_ways(loop_registry: str, raw: str) -> None:
    host, _, port = loop_registry.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while more := connection.recv(1 << 16):
                answer += more
        except ConnectionResetError:
            pass
    assert re.match(rb"HTTP/1.[01] (?:4\d\d|501) ", answer) or answer == b"", answer
    assert answer.count(b"HTTP/1.") <= 1
    assert Client(loop_registry).ask("GET", "/v2/").status == 200
