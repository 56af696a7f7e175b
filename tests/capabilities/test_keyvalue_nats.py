"""`wasi:keyvalue` in NATS JetStream beyond its suite: several hosts, servers that go away, others' keys."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.keyvalue import NatsKeyValue
from loop_kit.capabilities.keyvalue._nats import _each
from loop_kit.capabilities.keyvalue._subject import bucket_name, key_of, key_token
from loop_kit.testing import client
from loop_kit.workspace import Workspace
from tests.capabilities.serving import guest
from tests.children import until
from tests.nats import PROGRAM, serving
from tests.soaking import Soak

NATS = "python:loop_kit.capabilities.keyvalue:NatsKeyValue"
GRANT: dict[str, Any] = {"buckets": {"b": {"mode": "rw"}}}


def jetstream(folder: Path, *options: str) -> Any:
    return serving(folder, "--jetstream", "--store_dir", str(folder / "js"), *options)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with jetstream(tmp_path_factory.mktemp("nats")) as address:
        yield address


@pytest.fixture
async def raw(server: str) -> AsyncIterator[Any]:
    """Another client of the server, which knows nothing of loop-kit."""
    import nats

    connected = await nats.connect(server)
    yield connected.jetstream()
    await connected.close()


def config(server: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Buckets of a test's own."""
    return {"url": server, "prefix": bucket_name(request.node.name).replace("=", "_") + "-"}


def words(error: loop.Err[Any]) -> str:
    code: Any = error.value
    case, text = code if isinstance(code, tuple) else (code.case, code.value)
    assert case == "other"
    return str(text)


async def said(made: Any) -> str:
    with pytest.raises(loop.Err) as caught:
        await made
    return words(caught.value)


@pytest.mark.parametrize(
    ("key", "token"),
    [
        ("", "="),
        ("a/b_c-D9", "a/b_c-D9"),
        ("user.name", "user.name"),
        (".", "=2E"),
        (".a..b.", "=2Ea.=2Eb=2E"),
        ("a=b c*>", "a=3Db=20c=2A=3E"),
        ("é\0", "=C3=A9=00"),
    ],
)
def test_keys_have_names_that_nats_allows(key: str, token: str) -> None:
    assert key_token(key) == token
    assert key_of(token) == key


@given(strategies.text())
def test_every_key_has_a_name_of_its_own(key: str) -> None:
    token = key_token(key)
    assert re.fullmatch(r"[A-Za-z0-9_/=-]+(\.[A-Za-z0-9_/=-]+)*", token)
    assert key_of(token) == key
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", bucket_name(key))


@given(strategies.text("=.0123456789ABCDEFabcdefg/", min_size=1))
def test_no_key_has_two_names(token: str) -> None:
    key = key_of(token)
    assert key is None or key_token(key) == token


@pytest.mark.parametrize("token", ["a=b", "=3d", "=41", "=FF", "a=", "a..b", "=00="])
def test_names_that_no_key_has_are_none(token: str) -> None:
    assert key_of(token) is None


async def test_two_hosts_see_each_others_writes(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Two workspaces of one manifest, as on two machines, with the provider in the process and beside it."""
    (tmp_path / "app.wasm").write_bytes(guest("keyvalue"))
    prefix = config(server, request)["prefix"]
    answers = []
    for use in (NATS, f"sidecar:{NATS}"):
        text = f"""
            components.app.path = "app.wasm"
            components.app.imports."wasi:keyvalue" = {{ provider = "kv", grant.buckets.b.mode = "rw" }}
            providers.kv = {{ use = "{use}", config = {{ url = "{server}", prefix = "{prefix}" }} }}
        """
        declared = manifest.loads(text, tmp_path / "loop.toml")
        async with (
            loop.Host(cache=tmp_path) as one,
            loop.Host(cache=tmp_path) as two,
            Workspace(one, declared) as here,
            Workspace(two, declared) as there,
        ):
            apps = [await workspace.load("app") for workspace in (here, there)]
            answers.append(await apps[1].call("get", "k"))
            for number in range(20):
                await apps[number % 2].call("set", "k", str(number).encode())
                assert await apps[1 - number % 2].call("get", "k") == str(number).encode()
    assert answers == [None, b"19"]


async def test_numbers_that_others_grow_too(server: str, raw: Any, request: pytest.FixtureRequest) -> None:
    own = config(server, request)
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        other = await raw.key_value(own["prefix"] + "b")
        await other.put("n", b"41")
        assert await kv.atomics.increment(bucket, "n", 1) == 42
        await other.delete("n")
        assert await kv.atomics.increment(bucket, "n", 5) == 5
        assert (await other.get("n")).value == b"5"


async def test_what_others_write_is_read_and_listed(
    server: str, raw: Any, request: pytest.FixtureRequest
) -> None:
    own = config(server, request)
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        other = await raw.key_value(own["prefix"] + "b")
        for key in ("user.name", "a/b", "no=key"):
            await other.put(key, b"v")
        assert bytes(await bucket.get("user.name")) == b"v"
        # a name that no key of ours has cannot be read, and so is not told
        assert list((await bucket.list_keys(None)).keys) == ["user.name", "a/b"]
        await bucket.set("é", b"ours")
        assert (await other.get("=C3=A9")).value == b"ours"
        await other.purge("a/b")
        assert await bucket.get("a/b") is None
        assert not await bucket.exists("a/b")
        assert list((await bucket.list_keys(None)).keys) == ["user.name", "é"]


async def test_a_page_passes_over_what_was_deleted(server: str, request: pytest.FixtureRequest) -> None:
    grant = {**GRANT, "max-list": 5}
    async with client("wasi:keyvalue", provider=NATS, config=config(server, request), grant=grant) as kv:
        bucket = await kv.store.open("b")
        names = [f"k{number}" for number in range(700)]
        await kv.batch.set_many(bucket, [(name, b"") for name in names])
        await kv.batch.delete_many(bucket, names[:690])
        # deleting what is not there leaves nothing behind
        await kv.batch.delete_many(bucket, [f"x{number}" for number in range(700)])
        first = await bucket.list_keys(None)
        assert list(first.keys) == names[690:695]
        last = await bucket.list_keys(first.cursor)
        assert list(last.keys) == names[695:]
        page = last
        while page.cursor is not None:
            page = await bucket.list_keys(page.cursor)
            assert list(page.keys) == []


async def test_no_consumer_is_left_on_the_server(
    server: str, raw: Any, request: pytest.FixtureRequest
) -> None:
    own = config(server, request)
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        await bucket.set("k", b"")
        for _ in range(3):
            await bucket.list_keys(None)
        info = await raw.stream_info(f"KV_{own['prefix']}b")
        assert info.state.consumer_count == 0


async def test_a_bucket_is_as_large_as_jetstream_lets_it_be(
    server: str, raw: Any, request: pytest.FixtureRequest
) -> None:
    own = config(server, request)
    await raw.create_key_value(bucket=own["prefix"] + "b", max_bytes=2000)
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        await bucket.set("k", b"x" * 1000)
        assert "as large as JetStream lets it be" in await said(bucket.set("l", b"x" * 1000))
        await bucket.set("k", b"x" * 500)

        # deleting makes room, though a marker is larger than what it stands for
        async def fill() -> None:
            for number in range(100):
                await bucket.set(f"small{number}", b"")

        assert "as large as JetStream lets it be" in await said(fill())
        for number in range(5):
            await bucket.delete(f"small{number}")
            assert not await bucket.exists(f"small{number}")
        await bucket.set("again", b"")


async def test_a_batch_of_large_values(server: str, request: pytest.FixtureRequest) -> None:
    async with client("wasi:keyvalue", provider=NATS, config=config(server, request), grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        pairs = [(f"k{number}", bytes([number]) * (1 << 20)) for number in range(40)]
        await kv.batch.set_many(bucket, pairs)
        got = await kv.batch.get_many(bucket, [key for key, _ in pairs])
        assert [(pair[0], bytes(pair[1])) for pair in got] == pairs


async def test_what_nats_cannot_hold_is_refused(server: str, request: pytest.FixtureRequest) -> None:
    grant = {**GRANT, "max-value": 4 << 20, "max-key": 1 << 20}
    async with client("wasi:keyvalue", provider=NATS, config=config(server, request), grant=grant) as kv:
        bucket = await kv.store.open("b")
        assert "`max_payload`" in await said(bucket.set("k", bytes(2 << 20)))
        assert "as NATS has it, which takes 3800" in await said(bucket.set("é" * 1000, b""))
        await bucket.set("k" * 3800, bytes(1 << 20))
        assert len(await bucket.get("k" * 3800)) == 1 << 20


async def test_a_bucket_that_somebody_deletes_is_made_again(
    server: str, raw: Any, request: pytest.FixtureRequest
) -> None:
    own = config(server, request)
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT) as kv:
        bucket = await kv.store.open("b")
        await bucket.set("k", b"v")
        await raw.delete_key_value(own["prefix"] + "b")
        assert "no such bucket" in await said(bucket.set("k", b"v"))
        again = await kv.store.open("b")
        await again.set("k", b"w")
        assert bytes(await bucket.get("k")) == b"w"


def started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    argv = [str(PROGRAM), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


async def opened(kv: Any) -> Any:
    """The bucket `b`, once the server is there."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await kv.store.open("b")
            except loop.Err:
                await asyncio.sleep(0.02)


async def until_set(bucket: Any, value: bytes) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await bucket.set("k", value)
            except loop.Err:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("placement", ["python", "sidecar"])
async def test_a_server_that_goes_away_is_told_and_comes_back(placement: str, tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        port = int(address.rpartition(":")[2])  # free again in a moment
    own = {"url": address, "timeout": 100}
    async with client("wasi:keyvalue", provider=NATS, config=own, grant=GRANT, placement=placement) as kv:
        assert f"at {address} cannot be reached" in await said(kv.store.open("b"))
        server = started(tmp_path / "js", port)
        try:
            bucket = await opened(kv)
            await bucket.set("k", b"kept")
            # the calls in flight, and those after them
            began = time.monotonic()
            asked = [asyncio.ensure_future(bucket.set("k", b"kept")) for _ in range(200)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            server.kill()
            server.wait()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            failed = [words(answer) for answer in answers if answer is not None]  # type: ignore[arg-type]
            assert all(address in text for text in failed), failed[:3]
            assert f"at {address} cannot be reached" in await said(bucket.get("k"))
            assert time.monotonic() - began < 50, "nobody waits for the patience of a request"
            server = started(tmp_path / "js", port)
            await until_set(bucket, b"again")
            assert bytes(await bucket.get("k")) == b"again"
        finally:
            server.kill()
            server.wait()


async def test_what_was_answered_outlives_a_server_that_is_killed(tmp_path: Path, soak: Soak) -> None:
    with serving(tmp_path) as address:
        port = int(address.rpartition(":")[2])
    async with client("wasi:keyvalue", provider=NATS, config={"url": address}, grant=GRANT) as kv:
        answered: list[int] = []
        for number in range(soak(3, 100)):
            server = started(tmp_path / "js", port)
            try:
                bucket = await opened(kv)
                await until_set(bucket, b"")
                keys = [f"k{each}" for each in answered[-900:]]
                got = await kv.batch.get_many(bucket, keys)
                assert [pair and bytes(pair[1]) for pair in got] == [key.encode() * 50 for key in keys]
                first = (answered or [0])[-1] + 1000

                async def write(key: int, bucket: Any = bucket) -> None:
                    await bucket.set(f"k{key}", f"k{key}".encode() * 50)
                    answered.append(key)

                writes = [asyncio.ensure_future(write(first + each)) for each in range(200)]
                for each in range(20 + number % 50):
                    await writes[each]
                server.kill()
                await asyncio.gather(*writes, return_exceptions=True)
            finally:
                server.kill()
                server.wait()
        assert len(answered) >= 60


async def test_who_waits_for_a_connection_is_told_when_the_provider_is_closed() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    own = {"url": f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", "timeout": 600}
    async with asyncio.timeout(60):
        kv = NatsKeyValue(config=own, grant=GRANT)
        opening = [asyncio.ensure_future(kv.open("b")) for _ in range(3)]
        await reached.wait()
        await kv.aclose()
        assert [await said(each) for each in opening] == ["the provider was closed"] * 3
        await left.wait()
    server.close()
    await server.wait_closed()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with NatsKeyValue(config={"url": address, "timeout": 1}, grant=GRANT) as kv:
        assert await said(kv.open("b")) == f"the NATS server at {address} cannot be reached within 1 s"
    server.close()
    await server.wait_closed()


async def test_a_batch_that_fails_leaves_nothing_on_its_way() -> None:
    done: list[int] = []

    async def ask(key: int) -> int:
        if key == 3:
            raise loop.Err(("other", "no"))
        for _ in range(5):
            await asyncio.sleep(0)
        done.append(key)
        return key

    assert await _each(range(3), ask) == {0: 0, 1: 1, 2: 2}
    done.clear()
    with pytest.raises(loop.Err):
        await _each(range(40), ask)
    assert done == [key for key in range(16) if key != 3]


async def test_a_server_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        port = int(address.rpartition(":")[2])
    server = started(tmp_path / "js", port)
    try:
        async with client(
            "wasi:keyvalue", provider=NATS, config={"url": address, "timeout": 1}, grant=GRANT
        ) as kv:
            bucket = await opened(kv)
            server.send_signal(signal.SIGSTOP)
            state = Path(f"/proc/{server.pid}/stat")
            until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
            assert "did not answer within 1 s" in await said(bucket.get("k"))
            server.send_signal(signal.SIGCONT)
            await until_set(bucket, b"v")
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


async def test_without_jetstream_it_is_said(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        async with client("wasi:keyvalue", provider=NATS, config={"url": address}, grant=GRANT) as kv:
            assert "start it with `--jetstream`" in await said(kv.store.open("b"))
