"""Lanes to swap under load: a component each, and its provider, which can be put in every placement.

Every provider writes down what it is asked and what it answers: a call has a number of its own, and each record is
one write to the end of one file, whichever process makes it.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.async_guests import AsyncGuest
from tests.checkout import ROOT
from tests.guests import API, HOST, Guest
from tests.linked_guests import DEEP, relaying, things, using_things
from tests.stream_guests import pumping
from tests.wit_types import U32

PLACES = ("component", "python", "sidecar-python", "sidecar-node", "remote")
TRANSPORTS = ("unix", "shm", "tcp", "quic", "ws", "stdio")
REMOTE = ("unix", "tcp", "quic", "ws")
RECORD = struct.Struct("<BI")
ASKED, ANSWERED = 0, 1

PACKAGE = HOST.partition("/")[0]
WIT = {
    "ask": """\
interface host {
  /// `n + 1`.
  ask: func(n: u32) -> u32;
  /// The same, after so many milliseconds.
  wait: func(n: u32, milliseconds: u32) -> u32;
}
""",
    "pump": """\
interface api {
  /// What is read, at once.
  pump: async func(items: stream<u32>, cap: u32) -> stream<u32>;
}
""",
    "thing": """\
interface host {
  resource thing {
    constructor(v: u32);
    get: func() -> u32;
  }
  join: func(a: own<thing>, b: borrow<thing>) -> thing;
  drops: func() -> u32;
}
""",
    "saw": """\
interface deep {
  /// Writes down that a call was asked (0) or answered (1).
  saw: func(what: u32, n: u32);
}
""",
}
# What serves each kind of lane, and the WIT interface of it.
KINDS = {"ask": ("Near", HOST), "pump": ("Pump", API), "thing": ("Things", HOST)}

PYTHON = f"""\
import asyncio, os, struct
from loop_kit.provider import provider

def saw(what, n):
    book = os.open(@BOOK@, os.O_WRONLY | os.O_APPEND)
    os.write(book, struct.pack("<BI", what, n))
    os.close(book)

@provider({DEEP!r}, wit="saw.wit")
class Book:
    def saw(self, what, n):
        saw(what, n)

@provider({HOST!r}, wit="ask.wit")
class Near:
    def ask(self, n):
        saw(0, n)
        saw(1, n)
        return n + 1

    async def wait(self, n, milliseconds):
        saw(0, n)
        await asyncio.sleep(milliseconds / 1000)
        saw(1, n)
        return n + 1

@provider({API!r}, wit="pump.wit")
class Pump:
    async def pump(self, items, cap):
        async def moved():
            async for chunk in items:
                yield chunk
        return moved()

class Thing:
    def __init__(self, v):
        self.v = v

    def get(self):
        return self.v

@provider({HOST!r}, wit="thing.wit")
class Things:
    Thing = Thing

    def join(self, a, b):
        return Thing(a.v + b.v)

    def drops(self):
        return 0
"""
NODE = """\
import { openSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { serve } from @SDK@;

const book = openSync(@BOOK@, 'a');

function saw(what, n) {
  const record = Buffer.alloc(5);
  record.writeUInt8(what, 0);
  record.writeUInt32LE(n, 1);
  writeSync(book, record);
}

class Thing {
  constructor(v) { this.v = v; }
  get() { return this.v; }
}

async function* moved(items) {
  for await (const item of items) yield item;
}

const provided = {
  ask: {
    ask(n) { saw(0, n); saw(1, n); return n + 1; },
    async wait(n, milliseconds) { saw(0, n); await setTimeout(milliseconds); saw(1, n); return n + 1; },
  },
  pump: { pump: (items, cap) => moved(items) },
  thing: { Thing, join: (a, b) => new Thing(a.v + b.v), drops: () => 0 },
};
await serve({ wit: '@KIND@.wit', provides: { '@INTERFACE@': provided['@KIND@'] }, signals: true });
"""
# Serves every kind at every transport, and tells where, until it is killed.
FAR = """\
import asyncio, json, os
from loop_kit import provider
import near

async def main():
    where = {}
    for kind, cls in @KINDS@.items():
        for transport in @REMOTE@:
            on = f"unix:{os.getcwd()}/{kind}@NAME@" if transport == "unix" else f"{transport}://127.0.0.1:0"
            server = await provider.serve(getattr(near, cls), on=on)
            where[f"{kind} {transport}"] = str(server.address)
    print(json.dumps(where), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Lane:
    """A component, what it is for, and what a sidecar of it is reached by."""

    name: str
    kind: str
    transport: str

    @property
    def provider(self) -> str:
        return f"{self.name}-near"

    def use(self, place: str, remote: dict[str, str], turn: int) -> str:
        """What the manifest says of its provider in a placement; addresses elsewhere are used in turn."""
        match place:
            case "component":
                return f"component:./{self.kind}-near.wasm"
            case "python":
                return f"python:near:{KINDS[self.kind][0]}"
            case "sidecar-python":
                return f"sidecar:python:near:{KINDS[self.kind][0]}"
            case "sidecar-node":
                return f"sidecar:node:./{self.kind}.mjs"
            case _:
                return f"remote:{remote[f'{self.kind} {REMOTE[turn % len(REMOTE)]}']}"


LANES = [
    *(Lane(f"ask-{transport}", "ask", transport) for transport in TRANSPORTS),
    *(Lane(f"pump-{transport}", "pump", transport) for transport in ("unix", "tcp")),
    *(Lane(f"thing-{transport}", "thing", transport) for transport in ("shm", "quic")),
]


def _callers() -> dict[str, bytes]:
    caller = AsyncGuest()
    near = Guest().imports("saw", [U32, U32], of=DEEP)
    record = "(call $saw (i32.const 0) (local.get 0)) (call $saw (i32.const 1) (local.get 0))"
    for name, params in (("ask", [U32]), ("wait", [U32, U32])):
        given = " ".join(f"(local.get {i})" for i in range(len(params)))
        caller.imports(name, params, U32, waits=False)
        caller.exports(name, params, U32, f"(call $done-{name} (call ${name} {given}))")
        near.exports(name, params, U32, f"{record} (i32.add (local.get 0) (i32.const 1))", of=HOST)
    return {
        "ask": caller.wasm(),
        "ask-near": near.wasm(),
        "pump": relaying(U32).wasm(),
        "pump-near": pumping(U32).wasm(),
        "thing": using_things(),
        "thing-near": things(),
    }


def write(folder: Path, lanes: list[Lane]) -> Path:
    """Writes the workspace; returns the file that the providers write to."""
    for module in ("near", "none"):
        sys.modules.pop(module, None)  # of another folder
    book = folder / "book"
    book.touch()
    for name, wasm in _callers().items():
        (folder / f"{name}.wasm").write_bytes(wasm)
    for name, text in WIT.items():
        (folder / f"{name}.wit").write_text(f"package {PACKAGE};\n\n{text}")
    (folder / "near.py").write_text(PYTHON.replace("@BOOK@", repr(str(book))))
    (folder / "none.py").write_text("class Wrote:\n    def wrote(self, count, code):\n        pass\n")
    sdk = json.dumps((ROOT / "sdk/node/dist/index.js").as_uri())
    node = NODE.replace("@SDK@", sdk).replace("@BOOK@", json.dumps(str(book)))
    tables = [
        f'[links]\n"{DEEP}" = {{ provider = "book" }}\n"{HOST}" = {{ provider = "wrote" }}',
        '[providers.book]\nuse = "python:near:Book"\ntrusted = true',
        '[providers.wrote]\nuse = "python:none:Wrote"\ntrusted = true',
    ]
    for kind, (_, interface) in KINDS.items():
        (folder / f"{kind}.mjs").write_text(node.replace("@KIND@", kind).replace("@INTERFACE@", interface))
    for lane in lanes:
        limits = "" if lane.kind == "ask" else 'limits = { instances = "shared" }\n'
        interface = KINDS[lane.kind][1]
        tables.append(
            f'[components.{lane.name}]\npath = "{lane.kind}.wasm"\n{limits}'
            f'imports."{interface}" = {{ provider = "{lane.provider}" }}\n'
            f'[providers.{lane.provider}]\nuse = "{lane.use("sidecar-python", {}, 0)}"\n'
            f'transport = "{lane.transport}"\ntrusted = true'
        )
    (folder / "loop.toml").write_text("\n\n".join(tables) + "\n")
    return book


@asynccontextmanager
async def elsewhere(folder: Path, name: str) -> AsyncIterator[dict[str, str]]:
    """A process that nobody supervises, and the addresses in it by kind and transport."""
    kinds = {kind: cls for kind, (cls, _) in KINDS.items()}
    program = FAR.replace("@KINDS@", repr(kinds)).replace("@REMOTE@", repr(REMOTE)).replace("@NAME@", name)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=folder, stdout=pipe)
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True)
class Counted:
    """How often each call was asked, and answered."""

    asked: Counter[int]
    answered: Counter[int]

    def lost(self, calls: int) -> list[int]:
        """Calls that some step is missing of."""
        return [n for n in range(calls) if not (self.asked[n] and self.answered[n])]

    def duplicated(self) -> list[int]:
        """Calls that some step was done of more than once."""
        both = (self.asked, self.answered)
        return sorted({n for counted in both for n, times in counted.items() if times > 1})


def counted(book: Path) -> Counted:
    found: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for what, n in RECORD.iter_unpack(book.read_bytes()):
        found[what][n] += 1
    return Counted(*found)
