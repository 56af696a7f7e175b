"""Python providers in plain mode: called by the official wRPC crates, and by hosts of ours as others' providers are."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import Err, peer, provider
from loop_kit.errors import LoadError, PeerError, ProviderGone
from loop_kit.manifest import Tls, load
from loop_kit.workspace import Workspace
from tests.guests import HOST, assemble, echo
from tests.sessions.test_invocation import WIT
from tests.test_sidecar_plain import GUEST, STORE
from tests.wit_types import STRING

ROOT = Path(__file__).parents[2]
INTEROP = ROOT / "tests/interop"
KEYS = ROOT / "tests/data/tls"
ECHO = echo(STRING).wasm()


class Kinds:
    """`test:interop/kinds`, which gives back what it is given."""

    class Counter:
        def __init__(self, start: int) -> None:
            self.start = start

        def add(self, n: int) -> int:
            return self.start + n

        @staticmethod
        def open(name: str) -> Kinds.Counter:
            return Kinds.Counter(len(name))

    def small(self, a: int, b: int) -> int:
        return a + b

    def numbers(self, *numbers: Any) -> tuple[Any, ...]:
        return numbers

    def compound(self, *values: Any) -> tuple[Any, ...]:
        return values

    async def bytes(self, data: bytes) -> bytes:
        await asyncio.sleep(0)
        return data

    def nothing(self) -> None:
        pass

    def fails(self) -> None:
        raise Err("it failed")

    def streams(self, data: AsyncIterator[Any], numbers: AsyncIterator[int]) -> tuple[Any, Any]:
        return data, numbers

    def later(self, first: Awaitable[str]) -> Awaitable[str]:
        async def value() -> str:
            return f"{await first}, world"

        return value()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
async def test_official_clients_call_a_python_provider(transport: str, tmp_path: Path) -> None:
    if "WRPC_KV" not in os.environ:
        pytest.fail("WRPC_KV does not say where the official programs are: `make test` builds them and does")
    client = Path(os.environ["WRPC_KV"]).with_name("wrpc-kinds")
    address = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix:{tmp_path}/s"}[transport]
    server = await provider.serve(
        Kinds(), on=address, interfaces="test:interop/kinds", wit=INTEROP / "wit", plain_handles=True
    )
    for _ in range(3):
        run = await asyncio.create_subprocess_exec(client, server.address, stderr=subprocess.PIPE)
        _, said = await run.communicate()
        assert run.returncode == 0, said.decode()
    # sessions are served at the same address
    async with await peer.connect(server.address, "test:interop/kinds", wit=INTEROP / "wit") as session:
        assert await session.call("small", 40, 2) == 42
    await server.close()


class Store:
    class Bucket:
        def __init__(self) -> None:
            self.values: dict[str, bytes] = {}

        def get(self, key: str) -> bytes | None:
            return self.values.get(key)

        def set(self, key: str, value: bytes) -> None:
            self.values[key] = value

        def delete(self, key: str) -> None:
            self.values.pop(key, None)

        def exists(self, key: str) -> bool:
            return key in self.values

        def keys(self) -> list[str]:
            return list(self.values)

    def open(self, name: str) -> Store.Bucket:
        return self.Bucket()


def manifest(interface: str, address: str, tls: bool = False) -> str:
    secured = 'tls = { ca = "ca.pem" }' if tls else ""
    return f"""\
[components.a]
path = "a.wasm"
imports."{interface}" = {{ provider = "kv" }}
[providers.kv]
use = "remote:{address}"
handshake = false
{secured}
"""


@pytest.mark.parametrize("transport", ["tcp", "unix", "quic", "ws", "tls"])
async def test_a_host_without_handshake_calls_a_python_provider(transport: str, tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    (tmp_path / "ca.pem").symlink_to(KEYS / "ca.pem")
    scheme = "tcp" if transport == "tls" else transport
    address = f"unix:{tmp_path}/s" if transport == "unix" else f"{scheme}://127.0.0.1:0"
    tls = Tls(None, KEYS / "localhost.pem", KEYS / "localhost.key") if transport == "tls" else None
    wit = INTEROP / "kv-wit"
    server = await provider.serve(Store(), on=address, interfaces=STORE, wit=wit, tls=tls, plain_handles=True)
    reached = server.address.replace("127.0.0.1", "localhost") if transport == "tls" else server.address
    (tmp_path / "loop.toml").write_text(manifest(STORE, reached, transport == "tls"))
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        assert await asyncio.gather(*(app.call("run") for _ in range(20))) == [len(b"hello")] * 20
    await server.close()
    assert not server._sessions


class Asked:
    def __init__(self) -> None:
        self.seen: list[loop.Invocation] = []

    async def echo(self, what: str) -> str:
        self.seen.append(loop.invocation())
        if what == "fail":
            raise ValueError(what)
        return what


async def test_a_call_that_fails_ends_alone(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(ECHO)
    (tmp_path / "near.wit").write_text(WIT)
    served = Asked()
    server = await provider.serve(
        served, on=f"unix:{tmp_path}/s", interfaces=HOST, wit=tmp_path / "near.wit", plain=True
    )
    (tmp_path / "loop.toml").write_text(manifest(HOST, server.address))
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        assert await app.call("echo", "hello") == "hello"
        call = served.seen[0]
        assert (call.deadline, call.trace, call.identity, call.link) == (None, None, None, None)
        words = ["a", "fail", "b", "fail"]
        answers = await asyncio.gather(*(app.call("echo", word) for word in words), return_exceptions=True)
        assert answers[::2] == ["a", "b"]
        assert [type(answer) for answer in answers[1::2]] == [ProviderGone] * 2
    await server.close()


async def test_resources_are_not_returned_without_being_told_to(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    wit = INTEROP / "kv-wit"
    server = await provider.serve(Store(), on=f"unix:{tmp_path}/s", interfaces=STORE, wit=wit, plain=True)
    (tmp_path / "loop.toml").write_text(manifest(STORE, server.address))
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        with pytest.raises(ProviderGone):
            await app.call("run")
    await server.close()


class Granted:
    def __init__(self, grant: Any = None) -> None:
        pass

    def echo(self, what: str) -> str:
        return what


async def test_what_cannot_be_served_plainly_is_refused(tmp_path: Path) -> None:
    (tmp_path / "near.wit").write_text(WIT)
    options: dict[str, Any] = {"interfaces": HOST, "wit": tmp_path / "near.wit", "plain": True}
    with pytest.raises(LoadError, match="can pass no grant"):
        await provider.serve(Granted, on=f"unix:{tmp_path}/s", **options)
    with pytest.raises(LoadError, match="no calls back"):
        await provider.serve(Granted(), on=f"unix:{tmp_path}/s", imports=HOST, **options)
    for address in ("stdio:", "http2://127.0.0.1:0"):
        with pytest.raises(PeerError, match="plain mode is served over tcp, unix, quic and ws"):
            await provider.serve(Granted(), on=address, **options)


async def test_a_token_shuts_out_who_cannot_show_it(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(ECHO)
    (tmp_path / "near.wit").write_text(WIT)
    options: dict[str, Any] = {"interfaces": HOST, "wit": tmp_path / "near.wit", "token": "secret"}
    served = Asked()
    server = await provider.serve(served, on=f"unix:{tmp_path}/s", plain=True, **options)
    (tmp_path / "loop.toml").write_text(manifest(HOST, server.address))
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        with pytest.raises(ProviderGone):
            await app.call("echo", "hello")
    async with await peer.connect(server.address, HOST, wit=tmp_path / "near.wit", token="secret") as session:
        assert await session.call("echo", "hello") == "hello"
    assert len(served.seen) == 1
    await server.close()


@pytest.mark.parametrize(
    "sent", [b"", b"\x00", b"\x00\x03a:b", b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\xff\xff\xff\xff"]
)
async def test_hostile_peers_are_cut_off_and_others_go_on(sent: bytes, tmp_path: Path) -> None:
    (tmp_path / "near.wit").write_text(WIT)
    server = await provider.serve(
        Asked(), on=f"unix:{tmp_path}/s", interfaces=HOST, wit=tmp_path / "near.wit", plain=True
    )
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.connect(f"{tmp_path}/s")
        hostile.sendall(sent)
        hostile.shutdown(socket.SHUT_WR)
        while await asyncio.to_thread(hostile.recv, 4096):
            pass
        async with await peer.connect(server.address, HOST, wit=tmp_path / "near.wit") as session:
            assert await session.call("echo", "hello") == "hello"
    await server.close()


async def test_the_command_serves_plainly(tmp_path: Path) -> None:
    (tmp_path / "near.wit").write_text(WIT)
    (tmp_path / "near.py").write_text(
        "from loop_kit.provider import provider\n\n\n"
        f"@provider({HOST!r}, wit='near.wit')\nclass Near:\n    def echo(self, what): return what\n"
    )
    (tmp_path / "a.wasm").write_bytes(ECHO)
    (tmp_path / "loop.toml").write_text(manifest(HOST, f"unix:{tmp_path}/s"))
    read, write = os.pipe()
    command = [sys.executable, "-m", "loop_kit.serve", "near:Near", "--on", f"unix:{tmp_path}/s", "--plain"]
    environment = {**os.environ, "LOOP_PROVIDER_READY": str(write)}
    serving = subprocess.Popen(command, cwd=tmp_path, env=environment, pass_fds=[write])
    os.close(write)
    try:
        with os.fdopen(read) as ready:
            assert await asyncio.to_thread(ready.read) == f"unix:{tmp_path}/s\n"
        async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
            app = await workspace.load("a")
            assert await app.call("echo", "hi") == "hi"
    finally:
        serving.terminate()
        assert await asyncio.to_thread(serving.wait, 20) == 0
