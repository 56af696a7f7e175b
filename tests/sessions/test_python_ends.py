"""A Python provider called from Python, over every transport."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit import Err, errors, peer, provider
from loop_kit.manifest import Tls
from tests.sessions.kv import store
from tests.sessions.ways import CALLING, KEYS, ROOT, SERVING, WIT, session


async def test_values(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        assert await kv.call("nothing") is None
        assert await kv.call("get", "a") is None
        assert await kv.call("put", {"key": "a", "value": b"xy"}) == 1
        assert await kv.call("acme:kv/store#get", "a") == b"xy"
        assert await kv.call("acme:kv/store@0.1.0#add", 2**32 - 1, 0) == 2**32 - 1
        with pytest.raises(Err) as caught:
            await kv.call("put", {"key": "a" * 11, "value": b""})
        problem: Any = caught.value.value
        assert (problem.case, problem.value) == ("too-long", 11)


async def test_any_number_of_futures_follow_one_another_in_a_stream(way: str, tmp_path: Path) -> None:
    async def text(i: int) -> str:
        return f"a{i}"

    async def items() -> AsyncIterator[Any]:
        for i in range(1000):
            yield text(i)

    async with session(way, tmp_path) as kv:
        upper = [word async for word in await kv.call("nested", items())]
        assert upper == [f"A{i}" for i in range(1000)]


async def test_wrong_arguments_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    async with session("pair", tmp_path) as kv:
        with pytest.raises(errors.ArgumentError) as caught:
            await kv.call("add", 1, "x")
        assert (caught.value.parameter, caught.value.expected) == ("b", "u32")
        with pytest.raises(errors.ArgumentError, match="takes 2 arguments, got 1"):
            await kv.call("add", 1)
        with pytest.raises(errors.NoSuchExport, match="no export 'ad'"):
            await kv.call("ad", 1, 2)
        assert await kv.call("add", 1, 2) == 3


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (256 << 10) - 8, 256 << 10, 1 << 20, 64 << 20])
async def test_payloads_of_every_size(size: int, tmp_path: Path) -> None:
    data = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    async with session("unix", tmp_path) as kv:
        assert await kv.call("echo", data) == data


async def test_a_payload_beyond_the_limit_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        with pytest.raises(errors.Overloaded):
            await kv.call("echo", bytes((64 << 20) + (128 << 10)))
        assert await kv.call("add", 1, 2) == 3


async def test_an_idle_session_leaves_the_processor_alone(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        for _ in range(100):
            await kv.call("add", 1, 2)
        worked, begun = time.process_time(), time.monotonic()
        await asyncio.sleep(0.3)
        # whoever looks for more before it sleeps may not look for ever
        assert time.process_time() - worked < (time.monotonic() - begun) / 2
        assert await kv.call("add", 1, 2) == 3


async def test_a_call_that_failed_keeps_no_session(tmp_path: Path) -> None:
    async def fails(kv: peer.Peer) -> None:
        call = kv.call("wait", "a")  # a local of a frame that the error knows
        await kv.close()
        await call

    async def failed() -> weakref.ref[Any]:
        async with session("unix", tmp_path) as kv:
            with pytest.raises(errors.ProviderGone):
                await fails(kv)
            return weakref.ref(kv._wire)

    async def never_awaited() -> weakref.ref[Any]:
        async with session("unix", tmp_path) as kv:
            call: Any = kv.call("wait", "a")
            cycle = [call]
            cycle.append(cycle)
            return weakref.ref(kv._wire)

    for once in (failed, never_awaited):
        wire = await once()
        gc.collect()
        assert wire() is None, once.__name__


async def test_a_thousand_calls_in_flight(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        waiting = [asyncio.ensure_future(kv.call("wait", str(i % 7))) for i in range(1000)]
        assert await kv.call("add", 1, 2) == 3
        for i in range(7):
            await kv.call("release", str(i))
        assert await asyncio.gather(*waiting) == [1] * 1000


async def test_more_calls_than_the_peer_takes_wait_for_their_turn(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        waiting = [asyncio.ensure_future(kv.call("wait", "a")) for _ in range(1023)]
        more = [asyncio.ensure_future(kv.call("add", i, 1)) for i in range(100)]
        assert await asyncio.gather(*more) == [i + 1 for i in range(100)]
        await kv.call("release", "a")
        await asyncio.gather(*waiting)


async def test_failures_of_a_provider(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        with pytest.raises(errors.ProviderError, match="ValueError: on purpose") as caught:
            await kv.call("fail", "on purpose")
        assert (caught.value.interface, caught.value.function) == ("acme:kv/store@0.1.0", "fail")
        assert await kv.call("add", 1, 2) == 3


async def test_deadline(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await kv.call("wait", "never", deadline=0.02)
        assert caught.value.seconds == 0.02
        while await kv.call("cancelled") != 1:
            await asyncio.sleep(0)  # the provider's own clock ends it


async def test_cancelling_a_call_cancels_it_at_the_peer(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        waiting = asyncio.ensure_future(kv.call("wait", "never"))
        assert await kv.call("add", 1, 2) == 3
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while await kv.call("cancelled") != 1:
            await asyncio.sleep(0)
        while kv._wire.busy:
            await asyncio.sleep(0)


async def test_streams_and_futures(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        assert [i async for i in await kv.call("count", 1000)] == list(range(1000))
        assert [w async for w in await kv.call("words", "to be or not")] == ["to", "be", "or", "not"]
        assert await kv.call("total", range(100_000)) == sum(range(100_000))
        assert await kv.call("length", [bytes(100_000)] * 50) == 5_000_000
        assert await (await kv.call("later", "hello")) == "HELLO"
        while kv._wire.busy:
            await asyncio.sleep(0)


async def test_futures_within_streams(tmp_path: Path) -> None:
    async def word(text: str) -> str:
        return text

    async with session("unix", tmp_path) as kv:
        upper = await kv.call("nested", [word("a"), word("b"), word("c")])
        assert [w async for w in upper] == ["A", "B", "C"]


async def test_a_slow_reader_holds_the_writer(tmp_path: Path) -> None:
    """Of 64 MiB no more is made than the windows take, until somebody reads."""
    async with session("unix", tmp_path) as kv:
        stream = await kv.call("bytes", 1024, 64 << 10)
        before = -1
        while (asked := await kv.call("asked")) != before:
            before = asked
        assert asked < 64  # 1 MiB of credit is 16 chunks
        length = 0
        async for chunk in stream:
            length += len(chunk)
        assert length == 64 << 20
        assert await kv.call("asked") == 1024


async def test_a_reader_that_leaves_stops_the_writer(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        stream = await kv.call("bytes", 1024, 64 << 10)
        async for _ in stream:
            break
        await stream.aclose()
        del stream
        gc.collect()
        while kv._wire.busy:
            await asyncio.sleep(0)
        assert await kv.call("asked") < 1024


async def test_a_stream_that_breaks_tells_its_reader(tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        got = []

        async def read() -> None:
            async for i in await kv.call("broken"):
                got.append(i)

        with pytest.raises(errors.ProviderError, match="broken in the middle"):
            await read()
        assert got == [1]


async def test_resources(way: str, tmp_path: Path) -> None:
    async with session(way, tmp_path) as kv:
        bucket = await kv.call("[constructor]bucket", "a")
        await kv.call("[method]bucket.put", bucket, "k", b"v")
        assert await kv.call("[method]bucket.get", bucket, "k") == b"v"
        # nobody else holds that one: it may not be dropped before the call has come
        assert await kv.call("[method]bucket.size", await kv.call("[constructor]bucket", "b")) == 0
        one, two = await kv.call("[static]bucket.open", ["x", "y"])
        await kv.call("[method]bucket.put", two, "l", b"w")
        assert await kv.call("[method]bucket.merge", one, two) == 1
        with pytest.raises(errors.ArgumentError, match="given away"):
            await kv.call("[method]bucket.size", two)
        bucket.drop()
        with pytest.raises(errors.ArgumentError, match="given away"):
            await kv.call("[method]bucket.size", bucket)


async def test_dropped_proxies_are_dropped_at_the_peer(tmp_path: Path) -> None:
    class Counted(store.Store):
        live = 0

        class Bucket(store.Bucket):
            def __init__(self, name: str) -> None:
                Counted.live += 1

            def __del__(self) -> None:
                Counted.live -= 1

    async with session("unix", tmp_path, Counted) as kv:
        for _ in range(100):
            await kv.call("[constructor]bucket", "a")
        gc.collect()
        while Counted.live:
            await kv.call("nothing")
        kept = [await kv.call("[constructor]bucket", "a") for _ in range(10)]
        assert len(kept) == Counted.live
    gc.collect()
    assert Counted.live == 0
    assert len(kept) == 10


async def test_links_have_instances_of_their_own(tmp_path: Path) -> None:
    async with session("unix", tmp_path, store.Granted) as kv:
        with pytest.raises(errors.NotGranted, match="bind one first"):
            await kv.call("get", "grant")
        await kv.link(1, "a/kv", '["x"]', '{"size": 1}')
        await kv.link(2, "b/kv", '["y"]')
        assert await kv.call("get", "grant", link=1) == b"['x']"
        assert await kv.call("get", "config", link=1) == b"{'size': 1}"
        assert await kv.call("get", "grant", link=2) == b"['y']"
        bucket = await kv.call("[constructor]bucket", "a", link=1)
        with pytest.raises(errors.ArgumentError):
            await kv.call("[method]bucket.size", bucket, link=2)
        with pytest.raises(errors.NotGranted, match="this grant is refused"):
            await kv.link(3, "c/kv", '"refuse"')
        kv.unlink(1)
        with pytest.raises(errors.NotGranted, match="link 1 was not bound"):
            await kv.call("get", "grant", link=1)
        assert await kv.call("get", "grant", link=2) == b"['y']"


async def test_what_served_a_link_is_closed_when_it_ends(tmp_path: Path) -> None:
    closed: list[Any] = []

    class Closing(store.Granted):
        def __init__(self, grant: Any = None, config: Any = None) -> None:
            super().__init__(grant, config)
            self.mine = grant

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            closed.append(self.mine)

    async with session("unix", tmp_path, Closing) as kv:
        await kv.link(1, "a/kv", '["x"]')
        await kv.link(2, "b/kv", '["y"]')
        kv.unlink(1)
        while not closed:
            await kv.call("get", "grant", link=2)
        assert closed == [["x"]]
    # the server has waited for it
    assert closed == [["x"], ["y"]]


async def test_a_server_does_not_wait_for_ever_for_what_it_closes(tmp_path: Path) -> None:
    begun, leave, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Stuck(store.Granted):
        async def aclose(self) -> None:
            begun.set()
            await leave.wait()
            ended.set()

    server = await provider.serve(Stuck, on=f"unix:{tmp_path / 's'}")
    async with asyncio.timeout(60), await peer.connect(server.address, wit=WIT) as kv:
        await kv.link(1, "a/kv", '["x"]')
        kv.unlink(1)
        await begun.wait()
    async with asyncio.timeout(60):
        await server.close(0.01)
        leave.set()
        await ended.wait()


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    server = await provider.serve(store.Store, on=f"unix:{tmp_path / 's'}", token="secret")
    for token in (None, "", "secreT", "secret2"):
        with pytest.raises(errors.Unauthenticated):
            await peer.connect(server.address, wit=WIT, token=token)
    async with await peer.connect(server.address, wit=WIT, token="secret") as kv:
        assert await kv.call("add", 1, 2) == 3
    await server.close()


async def test_another_contract_is_refused_with_both_sides_words(tmp_path: Path) -> None:
    wit = tmp_path / "wit"
    wit.mkdir()
    text = (WIT / "kv.wit").read_text()
    server = await provider.serve(store.Store, on=f"unix:{tmp_path / 's'}")
    (wit / "kv.wit").write_text(
        text.replace("add: func(a: u32, b: u32) -> u32", "add: func(a: u32, b: u32) -> u64")
    )
    with pytest.raises(errors.VersionMismatch, match="the WIT differs") as caught:
        await peer.connect(server.address, wit=wit)
    assert len(caught.value.ours) == len(caught.value.theirs) == 64
    assert caught.value.ours != caught.value.theirs
    (wit / "kv.wit").write_text(text.replace("kv@0.1.0", "kv@0.2.0"))
    with pytest.raises(errors.VersionMismatch, match=r"store@0\.2\.0 is wanted, .*store@0\.1\.0 is offered"):
        await peer.connect(server.address, wit=wit)
    (wit / "kv.wit").write_text(text.replace("acme:kv", "acme:cache"))
    with pytest.raises(errors.NotOffered, match=r"acme:cache/store@0\.1\.0 is not offered") as missing:
        await peer.connect(server.address, wit=wit)
    assert missing.value.offered == "acme:kv/store@0.1.0"
    await server.close()


@pytest.mark.parametrize("how", ["kill", "exit"])
async def test_a_provider_that_dies_fails_its_calls(how: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loop_kit.serve", "tests.sessions.kv.store:Store", "--on", address),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    while True:
        try:
            kv = await peer.connect(address, wit=WIT)
            break
        except errors.PeerError:
            await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(kv.call("wait", "never"))
    stream = await kv.call("bytes", 1024, 64 << 10)
    with pytest.raises(errors.ProviderGone):
        await kv.call("fail", how)
    with pytest.raises((errors.ProviderGone, errors.Cancelled)):
        await waiting  # a process that ends by itself cancels its tasks first, and may still say so
    with pytest.raises(errors.ProviderGone):
        async for _ in stream:
            pass
    with pytest.raises(errors.ProviderGone) as caught:
        await kv.call("add", 1, 2)
    assert caught.value.retryable
    assert isinstance(await kv.closed(), errors.ProviderGone)
    await process.wait()


async def test_sessions_leave_no_descriptors(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with session("unix", tmp_path) as kv:
        await kv.call("add", 1, 2)
    gc.collect()
    before = descriptors()
    for i in range(20):
        async with session("unix", tmp_path) as kv:
            assert await kv.call("add", i, 2) == i + 2
    gc.collect()
    assert descriptors() <= before


async def test_new_code_serves_new_calls_and_the_old_ends_what_it_began(tmp_path: Path) -> None:
    class New(store.Store):
        def add(self, a: int, b: int) -> int:
            return 7

    old = store.Store()
    server = await provider.serve(old, on=f"unix:{tmp_path / 's'}", reload=New)
    async with await peer.connect(server.address, wit=WIT) as kv:
        bucket = await kv.call("[constructor]bucket", "a")
        await kv.call("[method]bucket.put", bucket, "k", b"v")
        begun = asyncio.ensure_future(kv.call("wait", "gate"))
        assert await kv.call("add", 1, 2) == 3
        await kv.reload()
        assert await kv.call("add", 1, 2) == 7
        assert await kv.call("[method]bucket.get", bucket, "k") == b"v"  # what the peer holds stays
        old.release("gate")
        assert await begun == 1
    await server.close()


async def test_a_socket_is_for_its_owner_alone_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = await provider.serve(store.Store, on=f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(errors.PeerError, match="somebody listens there already"):
        await provider.serve(store.Store, on=f"unix:{path}")
    await server.close()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await provider.serve(store.Store, on=f"unix:{path}")
    await server.close()
    path.write_text("not a socket")
    with pytest.raises(errors.PeerError, match="a file that is no socket"):
        await provider.serve(store.Store, on=f"unix:{path}")
    assert path.read_text() == "not a socket"


async def test_who_connects_is_known_by_its_certificate(tmp_path: Path) -> None:
    for scheme in ("tcp", "quic", "http2", "ws"):
        server = await provider.serve(store.Store, on=f"{scheme}://127.0.0.1:0", tls=SERVING)
        async with await peer.connect(server.address, wit=WIT, tls=CALLING, identity="kv-client") as kv:
            assert await kv.call("add", 1, 2) == 3
        with pytest.raises(errors.Unauthenticated, match="its certificate is for kv-client"):
            await peer.connect(server.address, wit=WIT, tls=CALLING, identity="somebody else")
        for tls in (Tls(KEYS / "ca.pem"), Tls(), None):  # it shows none, trusts nobody, or speaks in the open
            with pytest.raises(errors.LoopError):
                await peer.connect(server.address, wit=WIT, tls=tls, patience=5)
        await server.close()


@pytest.mark.parametrize("way", ["quic", "http2", "ws"])
async def test_a_token_is_asked_for_over_every_transport(way: str) -> None:
    server = await provider.serve(store.Store, on=f"{way}://127.0.0.1:0", token="open sesame")
    with pytest.raises(errors.Unauthenticated):
        await peer.connect(server.address, wit=WIT)
    with pytest.raises(errors.Unauthenticated):
        await peer.connect(server.address, wit=WIT, token="open says me")
    async with await peer.connect(server.address, wit=WIT, token="open sesame") as kv:
        assert await kv.call("add", 1, 2) == 3
    await server.close()


async def test_people_are_told_what_an_http2_listener_serves() -> None:
    server = await provider.serve(store.Store, on="http2://127.0.0.1:0")
    url = server.address.replace("http2:", "http:") + "/"
    curl = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--http2-prior-knowledge", url, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await curl.communicate()
    assert "acme:kv/store@0.1.0\n  " in said.decode()
    await server.close()


async def test_serving_beyond_this_machine_is_refused() -> None:
    with pytest.raises(errors.Unauthenticated, match=r"add tls\.certificate"):
        await provider.serve(store.Store, on="tcp://0.0.0.0:0")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"LOOP\x02",
        b"LOOP\x01" + b"\xff\xff\xff\x01\x00\x00\x00\x00",
        b"LOOP\x01" + b"\x01\x00\x00\x10\x01\x00\x00\x00\x00",
        b"LOOP\x01" + b"\x04\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff",
    ],
)
async def test_hostile_peers_are_cut_off_and_others_go_on(sent: bytes, tmp_path: Path) -> None:
    async with session("unix", tmp_path) as kv:
        hostile = socket.socket(socket.AF_UNIX)
        hostile.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(hostile, str(tmp_path / "s"))
        await loop.sock_sendall(hostile, sent)
        while await loop.sock_recv(hostile, 1 << 16):
            pass
        hostile.close()
        assert await kv.call("add", 1, 2) == 3


async def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    async def run(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loop_kit.serve", *arguments),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, text = await process.communicate()
        assert b"Traceback" not in text
        return process.returncode, text.decode()

    assert await run("no.such:Store") == (1, f"error: there is no module 'no' in {tmp_path}, nor installed\n")
    (tmp_path / "mine.py").write_text(
        "class Store:\n    class Needy:\n        def __init__(self):\n            self.x = undefined\n"
        "        __loop_provider__ = None\n"
    )
    code, text = await run("mine:Stroe")
    assert (code, text) == (1, "error: there is no 'Stroe' in the module 'mine' (did you mean 'Store'?)\n")
    code, text = await run("mine:Store.Needy")
    assert (code, text) == (1, "error: Store.Needy is no provider: decorate it with @loop_kit.provider(…)\n")
    (tmp_path / "broken.py").write_text("import os\n\nclass Store(undefined):\n    pass\n")
    code, text = await run("broken:Store")
    why = f"NameError: name 'undefined' is not defined ({tmp_path / 'broken.py'}:3)"
    assert (code, text) == (1, f"error: broken:Store: {why}\n")
    code, text = await run("tests.sessions.kv.store:Bucket")
    assert code == 1
    assert "Bucket is no provider: decorate it" in text
    code, text = await run("store")
    assert code == 2
    assert "expected MODULE:CLASS" in text
    code, text = await run("tests.sessions.kv.store:Store", "--on", "ftp://x")
    assert code == 1
    assert "there is no transport `ftp`; an example: `stdio:`, `unix:" in text
