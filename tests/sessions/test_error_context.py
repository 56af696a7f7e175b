"""`error-context` between processes: its message, as far as anybody knows it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import Err, peer, provider
from loop_kit.errors import ArgumentError, CallError
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.guests import assemble

NAME = "acme:why/not@0.1.0"
WIT = """\
package acme:why@0.1.0;

interface not {
  same: func(e: error-context) -> list<error-context>;
  fail: func() -> result<_, error-context>;
  each: func(of: stream<error-context>) -> stream<error-context>;
}
"""
# Makes an error-context and asks for the same.
GUEST = f"""\
(component
  (import "{NAME}" (instance $not
    (export "same" (func (param "e" error-context) (result (list error-context))))))
  (core module $memory (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $m (instantiate $memory))
  (core func $new (canon error-context.new (memory $m "memory")))
  (core func $same (canon lower (func $not "same") (memory $m "memory") (realloc (func $m "realloc"))))
  (core module $code
    (import "h" "new" (func $new (param i32 i32) (result i32)))
    (import "h" "same" (func $same (param i32 i32)))
    (func (export "run") (call $same (call $new (i32.const 0) (i32.const 0)) (i32.const 64))))
  (core instance $i (instantiate $code
    (with "h" (instance (export "new" (func $new)) (export "same" (func $same))))))
  (func (export "run") (canon lift (core func $i "run"))))
"""


class Not:
    def same(self, e: str) -> list[str]:
        return [e, e]

    def fail(self) -> None:
        raise Err("it was late")

    def each(self, of: AsyncIterator[str]) -> AsyncIterator[str]:
        return of


@pytest.fixture
def wit(tmp_path: Path) -> Path:
    (tmp_path / "wit").mkdir()
    (tmp_path / "wit/not.wit").write_text(WIT)
    return tmp_path / "wit"


async def test_a_message_goes_there_and_back(wit: Path, tmp_path: Path) -> None:
    server = await provider.serve(Not(), on=f"unix:{tmp_path}/s", interfaces=NAME, wit=wit)
    async with await peer.connect(server.address, NAME, wit=wit) as session:
        assert await session.call("same", "no such näh") == ["no such näh"] * 2
        with pytest.raises(Err) as caught:
            await session.call("fail")
        assert caught.value.value == "it was late"
        given: Iterable[str] = (f"e{n}" for n in range(300))
        assert [e async for e in await session.call("each", given)] == [f"e{n}" for n in range(300)]
        with pytest.raises(ArgumentError) as wrong:
            await session.call("same", 7)
        assert (wrong.value.parameter, wrong.value.expected, wrong.value.got) == (
            "e",
            "error-context",
            "int 7",
        )
    await server.close()


async def test_that_of_a_component_stays_there(wit: Path, tmp_path: Path) -> None:
    server = await provider.serve(Not(), on=f"unix:{tmp_path}/s", interfaces=NAME, wit=wit)
    (tmp_path / "a.wasm").write_bytes(assemble(GUEST))
    (tmp_path / "loop.toml").write_text(f"""\
[components.a]
path = "a.wasm"
imports."{NAME}" = {{ provider = "not" }}
[providers.not]
use = "remote:{server.address}"
""")
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        app = await workspace.load("a")
        said = "an error-context cannot leave its component: a host is not told its message; pass a string"
        with pytest.raises(CallError, match=re.escape(said)):
            await app.call("run")
    await server.close()
