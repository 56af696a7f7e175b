"""What a provider may know of the call that it answers, wherever it runs."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import peer, provider
from loop_kit.errors import DeadlineExceeded
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.async_guests import AsyncGuest
from tests.children import until
from tests.guests import HOST, Guest, echo
from tests.wit_types import STRING, U32

PACKAGE, _, INTERFACE = HOST.partition("/")
WIT = f"package {PACKAGE};\n\ninterface {INTERFACE} {{\n  echo: func(what: string) -> string;\n}}\n"
NEAR = f"""\
import asyncio
import json
from pathlib import Path

import loop_kit as loop
from loop_kit.provider import provider

def said():
    call = loop.invocation()
    return json.dumps([call.deadline, call.trace, call.identity, call.link])

@provider({HOST!r}, wit="near.wit")
class Plain:
    def echo(self, what):
        return said()

@provider({HOST!r}, wit="near.wit")
class Waiting:
    async def echo(self, what):
        if what == "wait":
            try:
                await asyncio.sleep(1000)
            finally:
                Path("ended").touch()
        first = said()
        await asyncio.sleep(0.001)
        return json.dumps([json.loads(first), json.loads(said())])
"""
LINK = f"a/{HOST}"


def manifest(use: str, deadline: str = "20s") -> str:
    trusted = "" if use.startswith("sidecar") else "trusted = true"
    return f"""\
[components.a]
path = "a.wasm"
limits.deadline = "{deadline}"
imports."{HOST}" = {{ provider = "near" }}
[providers.near]
use = "{use}"
{trusted}
"""


def traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "a.wasm").write_bytes(echo(STRING).wasm())
    # modules of this process are loaded once, and each test has its own
    module = f"near_{secrets.token_hex(4)}"
    (tmp_path / f"{module}.py").write_text(NEAR)
    (tmp_path / "near.wit").write_text(WIT)
    (tmp_path / "module").write_text(module)
    return tmp_path


@pytest.mark.parametrize("placement", ["python", "sidecar:python"])
async def test_the_same_provider_is_told_in_every_placement(folder: Path, placement: str) -> None:
    module = (folder / "module").read_text()
    who = ["a", LINK] if placement.startswith("sidecar") else [None, None]
    for kind in ("Plain", "Waiting"):
        (folder / "loop.toml").write_text(manifest(f"{placement}:{module}:{kind}"))
        async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
            app = await workspace.load("a")
            for trace in (None, traceparent(), None):
                if trace is None:
                    answer = json.loads(await app.call("echo", ""))
                else:
                    with loop.traced(trace):
                        answer = json.loads(await app.call("echo", ""))
                told = [answer] if kind == "Plain" else answer
                for deadline, *rest in told:
                    assert 0 < deadline <= 20.02
                    assert rest == [trace, *who]


async def test_a_late_call_ends_what_its_provider_awaits(folder: Path) -> None:
    module = (folder / "module").read_text()
    (folder / "loop.toml").write_text(manifest(f"sidecar:python:{module}:Waiting", "100ms"))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("a")
        with pytest.raises(DeadlineExceeded) as caught:
            await app.call("echo", "wait")
        assert caught.value.seconds == 0.1
        await asyncio.to_thread(until, (folder / "ended").exists)


class Told:
    """Answers with what it is told, to be read as Python."""

    def echo(self, what: str) -> str:
        call = loop.invocation()
        return repr((call.deadline, call.trace, call.identity, call.link))


class ToldLater(Told):
    async def echo(self, what: str) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().echo(what)


@pytest.mark.parametrize("cls", [Told, ToldLater])
async def test_peers_say_who_they_are_and_how_long_they_wait(cls: type, tmp_path: Path) -> None:
    (tmp_path / "near.wit").write_text(WIT)
    server = await provider.serve(cls(), on=f"unix:{tmp_path}/s", interfaces=HOST, wit=tmp_path / "near.wit")
    async with await peer.connect(server.address, wit=tmp_path / "near.wit", identity="me") as session:
        assert eval(await session.call("echo", "")) == (None, None, "me", None)
        await session.link(3, "b/some:thing/here")
        trace = traceparent()
        with loop.traced(trace):
            deadline, *rest = eval(await session.call("echo", "", deadline=5, link=3))
        assert rest == [trace, "me", "b/some:thing/here"]
        assert 0 < deadline <= 5
    await server.close()


async def test_calls_of_one_instance_are_told_apart(tmp_path: Path) -> None:
    """On a shared instance whoever polls runs the imports of all."""
    plain = AsyncGuest()
    plain.imports("waits", [U32], U32).imports("now", [U32], U32, waits=False)
    both = "(call $done-ask (i32.add (call $waits (local.get 0)) (call $now (local.get 0))))"
    guest = plain.exports("ask", [U32], U32, both)
    told: dict[int, list[str | None]] = {}
    deadlines: list[float | None] = []

    class Near:
        async def waits(self, n: int) -> int:
            told.setdefault(n, []).append(loop.invocation().trace)
            await asyncio.sleep(0.001 * (n % 3))
            told[n].append(loop.invocation().trace)
            return n

        def now(self, n: int) -> int:
            call = loop.invocation()
            told[n].append(call.trace)
            deadlines.append(call.deadline)
            return n

    traces = [traceparent() for _ in range(30)]

    async def ask(app: loop.App, n: int) -> None:
        with loop.traced(traces[n]):
            assert await app.call("ask", n) == 2 * n

    async with loop.Host(cache=None) as host:
        limits = loop.Limits(instances="shared", deadline="10s")
        app = await host.load(guest.wasm(), imports={HOST: Near()}, limits=limits)
        await asyncio.gather(*(ask(app, n) for n in range(30)))
    assert told == {n: [traces[n]] * 3 for n in range(30)}
    assert all(d is not None and 0 < d <= 10.02 for d in deadlines)


def test_a_blocking_host_tells_too() -> None:
    seen: list[loop.Invocation] = []

    def ask() -> int:
        seen.append(loop.invocation())
        return 7

    guest = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")
    with loop.blocking.Host(cache=None) as host:
        for deadline in ("10s", None):
            app = host.load(
                guest.wasm(), imports={HOST: SimpleNamespace(ask=ask)}, limits=loop.Limits(deadline=deadline)
            )
            trace = traceparent()
            with loop.traced(trace):
                assert app.call("ask") == 7
            assert seen[-1].trace == trace
    assert seen[0].deadline is not None
    assert 0 < seen[0].deadline <= 10.02
    assert seen[1].deadline is None


async def test_code_that_answers_no_call_is_told_nothing() -> None:
    nothing: tuple[Any, ...] = (None, None, None, None)
    call = loop.invocation()
    assert (call.deadline, call.trace, call.identity, call.link) == nothing

    def elsewhere() -> loop.Invocation:
        return loop.invocation()

    assert await asyncio.to_thread(elsewhere) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-1-2-3",
        f"00-{'0' * 32}-{'1' * 16}-00",
        f"00-{'1' * 32}-{'0' * 16}-00",
        f"ff-{'1' * 32}-{'1' * 16}-00",
        f"00-{'1' * 32}-{'1' * 16}-00-more",
        f"00-{'g' * 32}-{'1' * 16}-00",
    ],
)
def test_what_is_no_traceparent_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a traceparent"), loop.traced(text):
        pass
