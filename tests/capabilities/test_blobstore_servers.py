"""`wasi:blobstore` over S3 and NATS: the suite on real servers, and what other clients of theirs see."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
import tracemalloc
import urllib.request
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import nats as library
import pytest

import loop_kit as loop
from loop_kit.capabilities.blobstore import BlobStore
from loop_kit.capabilities.blobstore._conform import PROVIDER, SUITE
from loop_kit.conform import PLACEMENTS, Provided, Scene, SuiteCase, Way
from loop_kit.testing import client
from tests import nats, s3
from tests.capabilities.test_conform import Started

KEYS = {"access-key-id": "key", "secret-access-key": "secret"}


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    with s3.serving("bucket") as address:
        yield address


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nats")
    with nats.serving(folder, "--jetstream", "--store_dir", str(folder)) as address:
        yield address


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    made = Started()
    yield made
    made.close()


def of_s3(address: str, folder: Path) -> dict[str, Any]:
    """Each test has a prefix of its own."""
    return {"backend": "s3", "bucket": "bucket", "endpoint": address, "prefix": folder.name, **KEYS}


def of_nats(address: str, folder: Path) -> dict[str, Any]:
    return {"backend": "nats", "url": address, "prefix": re.sub("[^a-z0-9]", "-", folder.name.lower())}


WITHOUT = {
    "nats": {
        "container: what is being read stays as it was, whatever comes of it": "the server deletes the chunks at once"
    },
    "s3": {},
}
CASES = [
    pytest.param(storage, placement, case, id=f"{storage}-{placement}-{case}")
    for storage, without in WITHOUT.items()
    for placement in PLACEMENTS
    for case in SUITE.cases
    if str(case) not in without
]


@pytest.mark.parametrize(("storage", "placement", "case"), CASES)
async def test_a_storage_of_a_server_does_it(
    storage: str,
    placement: str,
    case: SuiteCase,
    started: Started,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    address = request.getfixturevalue(f"{storage}_server")
    config = of_s3 if storage == "s3" else of_nats
    provided = Provided(PROVIDER, label=storage, place=lambda folder: config(address, folder))
    way = Way(provided, placement)
    async with asyncio.timeout(60):
        await case.run(Scene(SUITE, way, tmp_path, started.of(SUITE, way)))


GRANT = {"containers": {"c": {"mode": "rw"}}}
K = {"container": "c", "object": "k"}


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_other_clients_of_s3_meet_the_same_objects(s3_server: str, tmp_path: Path) -> None:
    def request(method: str, key: str, data: bytes | None = None) -> bytes:
        url = f"{s3_server}/bucket/{tmp_path.name}/{key}"
        made = urllib.request.Request(url, data, {"Content-Type": "text/plain"}, method=method)
        with urllib.request.urlopen(made) as answer:
            return bytes(answer.read())

    await asyncio.to_thread(request, "PUT", "theirs/a/b.txt", b"of somebody else")
    grant = {"containers": {"c": {"mode": "rw"}, "theirs": {}}}
    async with client(
        "wasi:blobstore", provider=PROVIDER, config=of_s3(s3_server, tmp_path), grant=grant
    ) as blobs:
        await blobs.whole.write_object({"container": "c", "object": "a/é b.txt"}, b"of a component")
        theirs = {"container": "theirs", "object": "a/b.txt"}
        assert bytes(await blobs.whole.read_object(theirs)) == b"of somebody else"
        assert await blobs.whole.list_objects("theirs", None) == ["a/b.txt"]
        assert (await (await blobs.blobstore.get_container("theirs")).info()).created_at == 0
    listing = f"{s3_server}/bucket?list-type=2&prefix={tmp_path.name}/c/"
    with await asyncio.to_thread(urllib.request.urlopen, listing) as answer:
        assert f"<Key>{tmp_path.name}/c/a/é b.txt</Key>" in answer.read().decode()


async def test_an_upload_that_was_given_up_leaves_no_parts(s3_server: str, tmp_path: Path) -> None:
    store = BlobStore(config=of_s3(s3_server, tmp_path), grant=GRANT)
    container = await store.get_container("c")

    async def more_and_more(begun: asyncio.Event) -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * (1 << 20)
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()
    writing = asyncio.ensure_future(container.write_data("k", more_and_more(begun), None))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.aclose()
    with await asyncio.to_thread(urllib.request.urlopen, f"{s3_server}/bucket?uploads") as answer:
        assert b"<Upload>" not in answer.read()


async def test_nothing_of_the_environment_is_used_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str | None, str | None]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            shown.append((self.headers["Authorization"], self.headers["X-Amz-Security-Token"]))
            self.send_response(200)
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", "5")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient token")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            where = {"backend": "s3", "bucket": "b", "endpoint": f"http://127.0.0.1:{server.server_port}"}
            for whom in (
                KEYS,
                {**KEYS, "session-token": "token"},
                {"anonymous": True},
                {"ambient": True},
            ):
                store = BlobStore(config={**where, **whom}, grant={"containers": {"c": {}}})
                container = await store.get_container("c")
                assert (await container.object_info("k")).size == 5
        finally:
            server.shutdown()
            serving.join()
    # each object is asked for twice: whether its container is there, and itself
    told = [
        (None if said is None else said.partition("Credential=")[2].partition("/")[0], token)
        for said, token in shown[::2]
    ]
    assert told == [("key", None), ("key", "token"), (None, None), ("AMBIENT", "ambient token")]
    assert len(shown) == 2 * len(told)


async def test_other_clients_of_nats_meet_the_same_objects(nats_server: str, tmp_path: Path) -> None:
    config = of_nats(nats_server, tmp_path)
    connection = await library.connect(nats_server)
    js = connection.jetstream()
    async with client("wasi:blobstore", provider=PROVIDER, config=config, grant=GRANT) as blobs:
        container = await blobs.blobstore.get_container("c")
        store = await js.object_store(f"{config['prefix']}c")
        for data in (b"", b"v", bytes(range(256)) * 2000):
            await container.write_data("k", stream(data), None)
            assert (await store.get("k")).data == data
            await store.put("theirs", data)
            theirs = {"container": "c", "object": "theirs"}
            assert bytes(await blobs.whole.read_object(theirs)) == data
        await store.delete("theirs")
        assert await blobs.whole.list_objects("c", None) == ["k"]
        await container.clear()
        # neither chunks nor marks are left
        state = (await js.stream_info(f"OBJ_{config['prefix']}c")).state
        assert state.messages == 1  # what the other client has left of its own
    await connection.close()


@pytest.mark.parametrize(
    "written", [b"", b"no JSON", b"[]", b'{"name": "k"}', b'{"name": "k", "nuid": ">", "size": 1}']
)
async def test_what_is_no_object_of_nats_is_passed_over(
    written: bytes, nats_server: str, tmp_path: Path
) -> None:
    config = of_nats(nats_server, tmp_path)
    connection = await library.connect(nats_server)
    async with client("wasi:blobstore", provider=PROVIDER, config=config, grant=GRANT) as blobs:
        await blobs.whole.write_object({"container": "c", "object": "ours"}, b"v")
        subject = f"$O.{config['prefix']}c.M.{base64.urlsafe_b64encode(b'k').decode()}"
        await connection.jetstream().publish(subject, written)
        assert await blobs.whole.list_objects("c", None) == ["ours"]
        for asked in (blobs.whole.read_object(K), blobs.whole.delete_object(K)):
            with pytest.raises(loop.Err, match="something else than a client of objects"):
                await asked
        assert bytes(await blobs.whole.read_object({"container": "c", "object": "ours"})) == b"v"
    await connection.close()


async def test_a_login_is_shown_to_nats(tmp_path: Path) -> None:
    with nats.serving(
        tmp_path, "--jetstream", "--store_dir", str(tmp_path), "--user", "u", "--pass", "p"
    ) as url:
        for login, fits in (({"user": "u", "password": "p"}, True), ({"user": "u", "password": "x"}, False)):
            config = {"backend": "nats", "url": url, "login": login, "timeout": 2}
            async with client("wasi:blobstore", provider=PROVIDER, config=config, grant=GRANT) as blobs:
                if fits:
                    await blobs.whole.write_object(K, b"v")
                    continue
                with pytest.raises(loop.Err) as caught:
                    await blobs.whole.write_object(K, b"v")
                assert "NATS failed" in str(caught.value)


async def test_nothing_is_sent_in_the_clear_where_tls_is_asked_for(nats_server: str) -> None:
    store = BlobStore(config={"backend": "nats", "url": nats_server, "tls": {}}, grant=GRANT)
    with pytest.raises(loop.Err) as caught:
        await store.get_container("c")
    code: Any = caught.value.value
    assert code == ("other", "NATS failed: SecureConnRequiredError")


async def test_a_server_that_dies_fails_what_is_on_its_way(tmp_path: Path) -> None:
    async def halves(begun: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"x" * (1 << 20)
        begun.set()
        await go_on.wait()
        yield b"x" * (1 << 20)

    begun, go_on = asyncio.Event(), asyncio.Event()
    with nats.serving(tmp_path, "--jetstream", "--store_dir", str(tmp_path)) as url:
        store = BlobStore(config={"backend": "nats", "url": url, "timeout": 2}, grant=GRANT)
        container = await store.get_container("c")
        await container.write_data("k", stream(b"x" * (4 << 20)), None)
        data, ended = await container.get_data("k", 0, (1 << 64) - 1)
        assert await anext(data)
        writing = asyncio.ensure_future(container.write_data("l", halves(begun, go_on), None))
        await begun.wait()
    go_on.set()
    for made in (writing, container.object_info("k")):
        with pytest.raises(loop.Err) as caught:
            await made
        code: Any = caught.value.value
        assert code[0] == "other"
        assert code[1].startswith("NATS failed")
    assert sum([len(some) async for some in data]) < 4 << 20
    assert isinstance(await ended, loop.Err)
    await store.aclose()


@pytest.mark.parametrize("storage", ["files", "s3", "nats"])
async def test_nobody_holds_an_object_whole(
    storage: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if storage == "files":
        config = {"backend": "files", "path": str(tmp_path / "blobs"), "durability": "normal"}
    else:
        address = request.getfixturevalue(f"{storage}_server")
        config = (of_s3 if storage == "s3" else of_nats)(address, tmp_path)
    store = BlobStore(config=config, grant=GRANT)
    container = await store.get_container("c")
    pieces, piece = 64, 1 << 20  # S3 takes parts of 5 MiB, and some are on their way

    async def large() -> AsyncIterator[bytes]:
        for number in range(pieces):
            yield bytes([number]) * piece

    tracemalloc.start()
    try:
        assert await container.write_data("k", large(), None) == pieces * piece
        await store.copy_object(Of("c", "k"), Of("c", "l"))
        data, ended = await container.get_data("l", 0, (1 << 64) - 1)
        size = 0
        async for some in data:
            assert some[0] == size // piece
            size += len(some)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (size, await ended) == (pieces * piece, loop.Ok(None))
    assert peak < pieces * piece // 2
    await store.aclose()


class Of:
    """An `object-id`."""

    def __init__(self, container: str, name: str) -> None:
        self.container = container
        self.object = name
