"""`loop call ADDRESS` and `loop serve --on`: providers called from the shell, and components that are providers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import peer, provider
from loop_kit.errors import LoadError, NotGranted
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.cli import LOOP
from tests.guests import API, Guest
from tests.sessions.kv import store
from tests.wit_types import U32

WIT = Path(store.__file__).parent / "wit"
SQUARES = Guest().exports("square", [U32], U32, "(i32.mul (local.get 0) (local.get 0))")
PACKAGE, _, INTERFACE = API.partition("/")
SQUARES_WIT = f"package {PACKAGE};\n\ninterface {INTERFACE} {{\n  square: func(p0: u32) -> u32;\n}}\n"


def run(*arguments: str, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [LOOP, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """`loop serve …`, and the address that it says."""
    with subprocess.Popen([LOOP, "serve", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split(" at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


async def call(address: str, *arguments: str, **env: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(run, "call", address, *arguments, **env)


async def test_a_provider_is_called_from_the_shell(tmp_path: Path) -> None:
    server = await provider.serve(store.Store, on=f"unix:{tmp_path / 's'}")
    wit = ("--wit", str(WIT))
    assert await call(server.address, "add(1, 2)", *wit) == (0, "3\n", "")
    assert await call(server.address, "acme:kv/store#add(1, 2)", *wit, "--json") == (0, '{"result": 3}\n', "")
    code, out, _ = await call(server.address, *wit, "--json")
    assert code == 0
    assert {"function": "acme:kv/store@0.1.0#add", "wit": "func(a: u32, b: u32) -> u32"} in json.loads(out)
    too_long = 'put({key: "aaaaaaaaaaa", value: []})'
    assert await call(server.address, too_long, *wit) == (1, "err(too-long(11))\n", "")
    for arguments, expected, code in (
        (["add(1)"], "func(a: u32, b: u32) -> u32: ", 2),
        (["nothing-such()"], "no export 'nothing-such'", 2),
        (["add(1, 2"], "expected a call such as", 2),
    ):
        status, _, said = await call(server.address, *arguments, *wit)
        assert (status, expected in said) == (code, True), said
    status, _, said = await call(server.address, "add(1, 2)")
    assert (status, "--wit" in said) == (2, True)
    status, _, said = await call(f"unix:{tmp_path / 'nobody'}", "add(1, 2)", *wit)
    assert (status, "cannot connect to unix:" in said) == (1, True)
    await server.close()


async def test_what_is_asked_of_callers_can_be_shown(tmp_path: Path) -> None:
    server = await provider.serve(store.Store, on="quic://127.0.0.1:0", token="sesame")
    wit = ("--wit", str(WIT))
    assert (await call(server.address, "add(1, 2)", *wit))[0] == 1
    assert await call(server.address, "add(1, 2)", *wit, "--token", "sesame") == (0, "3\n", "")
    assert await call(server.address, "add(1, 2)", *wit, LOOP_PROVIDER_TOKEN="sesame") == (0, "3\n", "")
    await server.close()


@pytest.mark.parametrize(
    "address", ["unix:{}/s", "tcp://127.0.0.1:0", "quic://127.0.0.1:0", "http2://127.0.0.1:0"]
)
async def test_a_component_is_the_provider_of_another(address: str, tmp_path: Path) -> None:
    (tmp_path / "squares.wasm").write_bytes(SQUARES.wasm())
    (tmp_path / "api.wit").write_text(SQUARES_WIT)
    guest = Guest().imports("square", [U32], U32, of=API)
    guest.exports("ask", [U32], U32, "(call $square (local.get 0))", of="")
    (tmp_path / "a.wasm").write_bytes(guest.wasm())
    with serving(str(tmp_path / "squares.wasm"), "--on", address.format(tmp_path)) as where:
        assert await call(where, "square(7)", "--wit", str(tmp_path / "api.wit")) == (0, "49\n", "")
        (tmp_path / "loop.toml").write_text(f"""\
[components.a]
path = "a.wasm"
imports."{API}" = {{ provider = "squares" }}
[providers.squares]
use = "remote:{where}"
""")
        async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
            app = await workspace.load("a")
            assert await app.call("ask", 9) == 81


async def test_what_a_component_cannot_serve(tmp_path: Path) -> None:
    async with loop.Host(cache=None) as host:
        app = await host.load(SQUARES.wasm())
        with pytest.raises(LoadError, match="the component exports no acme:other/thing"):
            await provider.serve_component(app, on=f"unix:{tmp_path / 's'}", interfaces="acme:other/thing")
        server = await provider.serve_component(app, on=f"unix:{tmp_path / 's'}")
        (tmp_path / "api.wit").write_text(SQUARES_WIT)
        async with await peer.connect(server.address, wit=tmp_path / "api.wit") as there:
            with pytest.raises(NotGranted, match="granted nothing"):
                await there.link(1, "a/b", grant='{"x": 1}')
            assert await there.call("square", 3) == 9
        await server.close()
