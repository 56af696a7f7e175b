"""A workspace's sidecars and remote providers: started when they are needed, told what they need, ended with it."""

import asyncio
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import LoadError
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.children import is_gone, nothing_is_left, until
from tests.guests import HOST, Guest
from tests.wit_types import U32

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MANIFEST = f"""\
[components.a]
path = "a.wasm"
imports."{HOST}" = {{ provider = "near", grant = {{ x = 1 }}, budget = "5ms" }}
[components.b]
path = "a.wasm"
imports."{HOST}" = {{ provider = "near" }}
[components.c]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[components.d]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[providers.near]
use = "sidecar:./near"
config = {{ size = {{ env = "LOOP_TEST_SIZE" }} }}
env = {{ READY = "yes" }}
stop-timeout = "20s"
[providers.far]
use = "remote:tcp://127.0.0.1:7"
token = {{ env = "LOOP_TEST_SIZE" }}
"""
GUEST = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")
NEAR = '#!/bin/sh\ntest "$READY" || exit 7\necho "$LOOP_PROVIDER_ADDRESS" >&3\nexec sleep 1000\n'


class Sessions(types.ModuleType):
    """Stands in for what makes sessions, and keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__("loop_kit._remote")
        self.events: list[Any] = []

    async def connect(self, where: Any, **rest: Any) -> Any:
        if isinstance(where, tuple):
            for fd in where:
                os.close(fd)
        self.events.append(("connect", where, rest))

        async def aclose() -> None:
            self.events.append(("close", where))

        return SimpleNamespace(aclose=aclose)

    def bind(self, to: Any, name: str, **rest: Any) -> Any:
        self.events.append(("bind", to, name, rest))
        return SimpleNamespace(ask=lambda: len(self.events))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    monkeypatch.setenv("LOOP_TEST_SIZE", "7")
    made = Sessions()
    monkeypatch.setitem(sys.modules, made.__name__, made)
    with loop.blocking.Host(cache=None) as host:
        host.load(GUEST.wasm(), {HOST: SimpleNamespace(ask=int)})  # what the engine opens once, for good
    with nothing_is_left():
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.wasm").write_bytes(GUEST.wasm())
    (tmp_path / "loop.toml").write_text(MANIFEST)
    (tmp_path / "near").write_text(NEAR)
    (tmp_path / "near").chmod(0o755)
    return tmp_path


async def test_a_sidecar_serves_all_its_links(folder: Path, sessions: Sessions) -> None:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("a")
        await workspace.load("b")
        (_, where, told), (_, near, called, bound), second = sessions.events
        assert where.startswith("unix:")
        assert told == {"name": "near", "handshake": True, "token": None, "tls": None}
        assert called == f"a/{HOST}"
        assert bound == {"grant": {"x": 1}, "config": {"size": "7"}, "budget": 0.005}
        assert second == ("bind", near, f"b/{HOST}", {"grant": {}, "config": {"size": "7"}, "budget": None})
        assert await app.call("ask") == 3
        pid = near.running.child.pid
        assert os.readlink(f"/proc/{pid}/cwd") == str(folder)
    assert sessions.events[-1] == ("close", where)
    assert is_gone(pid)


async def test_isolated_links_have_a_process_each(folder: Path, sessions: Sessions) -> None:
    (folder / "loop.toml").write_text(MANIFEST.replace("stop-timeout", "isolate = true\nstop-timeout"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        await workspace.load("a")
        await workspace.load("b")
        started = [event[1] for event in sessions.events if event[0] == "bind"]
        assert started[0].running.child.pid != started[1].running.child.pid
    assert [event[0] for event in sessions.events[-2:]] == ["close", "close"]


async def test_one_line_moves_it_to_pipes(folder: Path, sessions: Sessions) -> None:
    text = MANIFEST.replace("stop-timeout", 'transport = "stdio"\nstop-timeout')
    (folder / "loop.toml").write_text(text)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        await workspace.load("a")
        assert [type(fd) for fd in sessions.events[0][1]] == [int, int]


async def test_remote_providers_share_a_session(folder: Path, sessions: Sessions) -> None:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        await workspace.load("c")
        await workspace.load("d")
        told = {"name": "far", "handshake": True, "token": "7", "tls": None}
        assert sessions.events[0] == ("connect", "tcp://127.0.0.1:7", told)
        assert [event[0] for event in sessions.events] == ["connect", "bind", "bind"]
    assert sessions.events[-1] == ("close", "tcp://127.0.0.1:7")


async def test_what_dies_is_connected_to_again(folder: Path, sessions: Sessions) -> None:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        await workspace.load("a")
        near = sessions.events[1][1]
        first = near.running.child
        first.kill()
        end = await first.stopped()
        assert end.reason == "killed by SIGKILL"
        while near.lifecycle.generation == 1:
            await asyncio.sleep(0.005)
        assert (await near.ready()).child.pid != first.pid
        assert [event[0] for event in sessions.events] == ["connect", "bind", "close", "connect"]
    until(lambda: is_gone(first.pid))


async def test_why_it_does_not_start_is_said(folder: Path, sessions: Sessions) -> None:
    (folder / "loop.toml").write_text(MANIFEST.replace('READY = "yes"', 'OTHER = "1"'))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        with pytest.raises(LoadError, match=r"^sidecar near: exited with 7 before it was ready$"):
            await workspace.load("a")


async def test_a_session_that_fails_leaves_no_process(
    folder: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise LoadError("speaks version 2")

    monkeypatch.setattr(sessions, "connect", refuse)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        with pytest.raises(LoadError, match="speaks version 2"):
            await workspace.load("a")
