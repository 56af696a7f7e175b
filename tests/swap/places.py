"""A workspace whose provider can be put in every placement, and says which generation of it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loop_kit import provider
from tests.async_guests import AsyncGuest
from tests.guests import HOST, Guest
from tests.wit_types import U32

PACKAGE, _, INTERFACE = HOST.partition("/")
WIT = f"""\
package {PACKAGE};

interface {INTERFACE} {{
  /// `n` and which code answers.
  ask: func(n: u32) -> u32;
  /// The same, after so many milliseconds.
  wait: func(milliseconds: u32) -> u32;
}}
"""
PROVIDER = f"""\
import asyncio
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Near:
    def ask(self, n):
        return n + 1000

    async def wait(self, milliseconds):
        await asyncio.sleep(milliseconds / 1000)
        return milliseconds + 1000
"""
MANIFEST = f"""\
[components.app]
path = "app.wasm"
imports."{HOST}" = {{ provider = "near" }}
[components.other]
path = "other.wasm"
[providers.near]
use = "sidecar:python:near:Near"
trusted = true
"""
CALLER = AsyncGuest().imports("ask", [U32], U32, waits=False).imports("wait", [U32], U32, waits=False)
CALLER.exports("ask", [U32], U32, "(call $done-ask (call $ask (local.get 0)))")
CALLER.exports("wait", [U32], U32, "(call $done-wait (call $wait (local.get 0)))")


def answering(code: int) -> bytes:
    """A component that serves the interface, by `code`."""
    guest = Guest()
    answer = f"(i32.add (local.get 0) (i32.const {code}))"
    guest.exports("ask", [U32], U32, answer, of=HOST)
    return guest.exports("wait", [U32], U32, answer, of=HOST).wasm()


def workspace(folder: Path, code: int = 1) -> Path:
    """Writes it; the code of the first provider is `code`."""
    (folder / "app.wasm").write_bytes(CALLER.wasm())
    (folder / "other.wasm").write_bytes(answering(900_000))
    (folder / "loop.toml").write_text(MANIFEST)
    (folder / "near.wit").write_text(WIT)
    write(folder, code)
    return folder


def write(folder: Path, code: int) -> None:
    """Puts another code into every file that the provider may be made of."""
    (folder / "near.py").write_text(PROVIDER.replace("+ 1000", f"+ {code * 1000}"))
    (folder / "near.wasm").write_bytes(answering(code * 1000))


@asynccontextmanager
async def remote(folder: Path, code: int) -> AsyncIterator[str]:
    """One in a session of its own, at the address that is given."""

    class Near:
        def ask(self, n: int) -> int:
            return n + code * 1000

        async def wait(self, milliseconds: int) -> int:
            return milliseconds + code * 1000

    made: Any = Near()
    server = await provider.serve(made, on=f"unix:{folder}/r{code}", interfaces=HOST, wit=folder / "near.wit")
    try:
        yield f"remote:unix:{folder}/r{code}"
    finally:
        await server.close()


USES = {
    "sidecar": "sidecar:python:near:Near",
    "python": "python:near:Near",
    "component": "component:./near.wasm",
}
