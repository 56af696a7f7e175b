"""A workspace's sidecars and remote providers: started when they are needed, told what they need, ended with it."""

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import provider
from loop_kit.capabilities.fsx import Files
from loop_kit.errors import LoadError, ProviderError, ProviderGone
from loop_kit.manifest import load
from loop_kit.placements import sidecar
from loop_kit.workspace import Workspace
from tests.capabilities.serving import guest
from tests.children import is_gone, started, until
from tests.guests import HOST, Guest
from tests.wit_types import U32

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PACKAGE, _, INTERFACE = HOST.partition("/")
MANIFEST = f"""\
[components.a]
path = "a.wasm"
imports."{HOST}" = {{ provider = "near", grant = {{ x = 1 }}, budget = "5ms" }}
[components.b]
path = "a.wasm"
imports."{HOST}" = {{ provider = "near", grant = {{ x = 2 }} }}
[providers.near]
use = "sidecar:python:near:Near"
config = {{ size = {{ env = "LOOP_TEST_SIZE" }} }}
env = {{ READY = "yes" }}
stop-timeout = "20s"
"""
NEAR = f"""\
import os
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Near:
    def __init__(self, grant, config):
        assert os.environ["READY"] == "yes"
        assert config == {{"size": "7"}}, config
        self.grant = grant

    def ask(self):
        if self.grant == {{"x": 1}}:
            return os.getpid()
        return self.grant["x"]
"""
WIT = f"package {PACKAGE};\n\ninterface {INTERFACE} {{\n  ask: func() -> u32;\n}}\n"
GUEST = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_TEST_SIZE", "7")
    with loop.blocking.Host(cache=None) as host:
        host.load(GUEST.wasm(), {HOST: SimpleNamespace(ask=int)})  # what the engine opens once, for good


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.wasm").write_bytes(GUEST.wasm())
    (tmp_path / "loop.toml").write_text(MANIFEST)
    (tmp_path / "near.py").write_text(NEAR)
    (tmp_path / "near.wit").write_text(WIT)
    return tmp_path


@pytest.mark.parametrize("transport", ["unix", "shm", "stdio", "tcp", "quic", "http2", "ws", "nats"])
async def test_one_line_moves_a_sidecar_to_another_transport(
    folder: Path, transport: str, request: pytest.FixtureRequest
) -> None:
    line = f'transport = "{transport}"'
    if transport == "nats":
        line = f'address = "{request.getfixturevalue("nats")}/near.{secrets.token_hex(8)}"'
    (folder / "loop.toml").write_text(MANIFEST.replace("stop-timeout", f"{line}\nstop-timeout"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        a, b = await workspace.load("a"), await workspace.load("b")
        pid = await a.call("ask")
        assert pid != 0
        assert await asyncio.gather(*(a.call("ask") for _ in range(100))) == [pid] * 100
        assert await b.call("ask") == 2  # the same process, under a grant of its own
        running = started(workspace, "near").running
        assert running.child.pid == pid
    until(lambda: is_gone(pid))


async def test_isolated_links_have_a_process_each(folder: Path) -> None:
    (folder / "loop.toml").write_text(
        MANIFEST.replace("stop-timeout", "isolate = true\nstop-timeout").replace("x = 2", "x = 1")
    )
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        a, b = await workspace.load("a"), await workspace.load("b")
        assert await a.call("ask") != await b.call("ask")


async def test_what_dies_is_started_again_and_serves_the_same_links(folder: Path) -> None:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("a")
        first = await app.call("ask")
        supervisor = started(workspace, "near")
        supervisor.running.child.kill()
        while True:
            try:
                second = await app.call("ask")
            except ProviderGone:
                await asyncio.sleep(0.005)
                continue
            if second != first:
                break
        assert second == (await supervisor.ready()).child.pid
    until(lambda: is_gone(first))


async def test_one_whose_session_ends_is_started_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of one that hangs does, when it has answered no PING for long."""
    monkeypatch.setattr(sidecar, "LOOK", 0.01)
    monkeypatch.setattr(sidecar, "LAST_WORDS", 0.01)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("a")
        first = await app.call("ask")
        supervisor = started(workspace, "near")
        await asyncio.to_thread(supervisor.running.session.remote.close, 0)
        async with asyncio.timeout(20):
            while supervisor.lifecycle.generation == 1:
                await asyncio.sleep(0.005)
        await supervisor.ready()
        assert supervisor.lifecycle.reason.startswith("does not answer: ")
        assert await app.call("ask") != first
    until(lambda: is_gone(first))


async def test_sidecars_read_their_code_anew(folder: Path) -> None:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        a, b = await workspace.load("a"), await workspace.load("b")
        pid = await a.call("ask")
        (folder / "near.py").write_text(NEAR.replace('self.grant["x"]', 'self.grant["x"] + 40'))
        await workspace.reload()
        assert (await a.call("ask"), await b.call("ask")) == (pid, 42)  # the same process, the same grants
        for broken in ("raise ValueError('no')", NEAR.replace("ask", "tell"), "def"):
            (folder / "near.py").write_text(broken)
            with pytest.raises(ExceptionGroup) as caught:
                await workspace.reload()
            assert "provider near did not reload: " in str(caught.value.exceptions[0])
            assert (await a.call("ask"), await b.call("ask")) == (pid, 42)
        (folder / "near.py").write_text(NEAR)
        os.kill(pid, signal.SIGHUP)
        while await b.call("ask") == 42:
            await asyncio.sleep(0.005)
        assert (await a.call("ask"), await b.call("ask")) == (pid, 2)


async def test_a_refused_grant_is_told_when_it_is_linked(folder: Path) -> None:
    (folder / "near.py").write_text(
        NEAR.replace("self.grant = grant", "raise ValueError('too much is asked')")
    )
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        with pytest.raises(LoadError, match=r"provider near refuses a/.*ValueError: too much is asked"):
            await workspace.load("a")


async def test_a_failing_provider_names_itself(folder: Path) -> None:
    (folder / "near.py").write_text(NEAR.replace("return os.getpid()", "raise ValueError('on purpose')"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("a")
        with pytest.raises(ProviderError, match="ValueError: on purpose") as caught:
            await app.call("ask")
        assert (caught.value.interface, caught.value.function) == (HOST, "ask")


async def test_a_provider_that_lacks_the_interface_is_refused(folder: Path) -> None:
    (folder / "near.wit").write_text(WIT.replace("ask", "tell"))
    (folder / "near.py").write_text(NEAR.replace("ask", "tell"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        with pytest.raises(LoadError, match="ask: is not offered by the provider"):
            await workspace.load("a")


async def test_a_remote_provider_serves_all_its_links(folder: Path) -> None:
    class Far:
        def __init__(self, config: Any = None) -> None:
            self.size = (config or {}).get("size")

        def ask(self) -> int:
            return int(self.size or 0)

    (folder / "loop.toml").write_text(f"""\
[components.c]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[components.d]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[providers.far]
use = "remote:unix:{folder}/far"
token = {{ env = "LOOP_TEST_SIZE" }}
config = {{ size = 7 }}
""")
    server = await provider.serve(
        Far, on=f"unix:{folder}/far", interfaces=HOST, wit=folder / "near.wit", token="7"
    )
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        c, d = await workspace.load("c"), await workspace.load("d")
        assert await c.call("ask") == 7
        assert await d.call("ask") == 7
        assert len(server._sessions) == 1
    await server.idle()
    await server.close()


async def test_a_sidecar_that_cannot_start_is_told_with_its_words(folder: Path) -> None:
    (folder / "near.py").write_text("raise SystemExit('no disk')")
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        with pytest.raises(LoadError, match="no disk"):
            await workspace.load("a")


@pytest.mark.parametrize(
    "use", ["builtin:fsx", "sidecar:builtin:fsx", f"sidecar:python:{Files.__module__}:Files"]
)
async def test_interfaces_of_a_package_hand_each_other_their_resources(use: str, tmp_path: Path) -> None:
    """A directory of `files` is read by `streaming`."""
    (tmp_path / "a.wasm").write_bytes(guest("streaming"))
    (tmp_path / "f").write_bytes(b"contents")
    (tmp_path / "loop.toml").write_text(f"""
        components.a.path = "a.wasm"
        components.a.imports."loop:fsx" = {{ provider = "files", grant.roots.r.path = "." }}
        providers.files.use = "{use}"
    """)
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        assert await app.call("stream", "r", "f", 0, 1 << 16, 1 << 30) == (b"contents", loop.Ok(None))


async def test_a_remote_provider_that_comes_back_serves_the_same_links(folder: Path) -> None:
    class Far:
        def ask(self) -> int:
            return 7

    (folder / "loop.toml").write_text(f"""\
[components.c]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[providers.far]
use = "remote:unix:{folder}/far"
""")
    where: dict[str, Any] = {"on": f"unix:{folder}/far", "interfaces": HOST, "wit": folder / "near.wit"}
    server = await provider.serve(Far, **where)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("c")
        phases: list[str] = []
        workspace.listen(lambda member: phases.append(str(member.phase)))
        assert await app.call("ask") == 7
        await server.close()
        far = workspace._members.find("far")
        assert far is not None
        async with asyncio.timeout(20):
            while phases.count("failed") < 7:  # a sidecar would be given up
                await asyncio.sleep(0.01)
                far.life._in_a_row = 1  # the pauses grow, for which the test has no time
        with pytest.raises(ProviderGone):
            await app.call("ask")
        server = await provider.serve(Far, **where)
        async with asyncio.timeout(20):
            while workspace.members()[1].phase != "ready":
                await asyncio.sleep(0.01)
        assert await app.call("ask") == 7
        assert len(server._sessions) == 1
        await workspace.restart("far")
        assert await app.call("ask") == 7
        assert workspace.members()[1].phase == "ready"
    await server.idle()
    await server.close()
