"""What a provider in Node.js knows when it is exchanged, and providers there that ask to be."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import _swaps
from loop_kit.errors import LoadError, LoopError
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.guests import HOST
from tests.swap.test_handover import COUNTING, USES, counting, generation

NODE = "sidecar:node:./near.mjs"
ELSEWHERE = USES["sidecar"]
# As `COUNTING` is; each link has a sum of its own where it has a grant.
NEAR = f"""\
import {{ existsSync, writeFileSync }} from 'node:fs';
import {{ setTimeout }} from 'node:timers/promises';
import {{ ResultError, serve }} from {json.dumps((ROOT / "sdk/node/dist/index.js").as_uri())};

class Near {{
  sum = 0;

  async ask(n) {{
    if (n === 99) await server.askExchange();
    else this.sum += n;
    return this.sum;
  }}

  async wait(milliseconds) {{
    if (milliseconds > 100) writeFileSync('begun', '');
    await setTimeout(milliseconds);
    return this.sum += milliseconds;
  }}

  snapshot() {{
    if (existsSync('mute')) throw new ResultError('it has no words');
    return Buffer.from(String(this.sum));
  }}

  async restore(state) {{
    await setTimeout(0);
    if (existsSync('deaf')) throw new ResultError('it cannot read');
    this.sum = Number(Buffer.from(state).toString());
  }}
}}

const made = new WeakMap();
const of = (link) => made.get(link) ?? made.set(link, new Near()).get(link);
const near = process.env.EACH ? of : new Near();
const server = await serve({{
  wit: 'wit',
  provides: {{ '{HOST}': near, 'loop:core/lifecycle@0.1.0': near }},
  signals: true,
}});
"""
ASKS = "near asked to be exchanged, and goes on as before"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = counting(tmp_path, monkeypatch)
    (folder / "near.mjs").write_text(NEAR)
    core = Path(loop.__file__).parent / "capabilities" / "core" / "wit"
    shutil.copytree(core, folder / "wit" / "deps" / "core")
    shutil.copy(folder / "near.wit", folder / "wit")
    manifest = folder / "loop.toml"
    manifest.write_text(manifest.read_text().replace(ELSEWHERE, NODE))
    return folder


@pytest.fixture
async def space(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Workspace]:
    if transport := getattr(request, "param", None):
        with (folder / "loop.toml").open("a") as manifest:
            manifest.write(f'transport = "{transport}"\n')
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        yield space


async def test_what_is_known_goes_to_python_and_back(space: Workspace) -> None:
    app = await space.load("app")
    assert await app.call("ask", 5) == 5
    for count, use in enumerate([ELSEWHERE, NODE, NODE, USES["python"], NODE], 1):
        await space.swap("near", use)
        assert await app.call("ask", 1) == 5 + count
    await space.reread("near")
    assert await app.call("ask", 1) == 11
    assert generation(space) == 7


async def test_nothing_is_lost_and_nothing_counted_twice(space: Workspace) -> None:
    app = await space.load("app")
    calls = 0
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal calls
        while not stop.is_set():
            await app.call("ask", 2)
            await app.call("wait", 1)
            calls += 1

    callers = [asyncio.create_task(ask()) for _ in range(4)]
    for use in [ELSEWHERE, NODE] * 3:
        before = calls
        while calls < before + 8:  # they go on after each exchange
            await asyncio.sleep(0.005)
        await space.swap("near", use)
    stop.set()
    await asyncio.gather(*callers)
    assert await app.call("ask", 0) == calls * 3
    assert generation(space) == 7


async def test_calls_that_have_begun_end_first(space: Workspace) -> None:
    app = await space.load("app")
    begun = asyncio.ensure_future(app.call("wait", 400))
    while not Path("begun").exists():
        await asyncio.sleep(0.005)
    await space.swap("near", ELSEWHERE)
    assert begun.done()
    assert await begun == 400
    assert await app.call("ask", 1) == 401


@pytest.mark.parametrize(
    ("file", "use", "words"),
    [
        ("mute", ELSEWHERE, "near cannot tell what it knows: it has no words"),
        ("deaf", NODE, "near cannot go on with what was known: it cannot read"),
    ],
)
async def test_what_cannot_be_handed_over_changes_nothing(
    space: Workspace, file: str, use: str, words: str
) -> None:
    app = await space.load("app")
    await app.call("ask", 3)
    Path(file).touch()
    with pytest.raises(LoadError, match=words):
        await space.swap("near", use)
    assert await app.call("ask", 1) == 4
    assert generation(space) == 1
    Path(file).unlink()
    await space.swap("near", use)
    assert await app.call("ask", 1) == 5


async def test_each_link_is_handed_over_by_itself(folder: Path) -> None:
    manifest = folder / "loop.toml"
    link = f'imports."{HOST}" = {{ provider = "near" }}'
    more = f'[components.second]\npath = "app.wasm"\n{link.replace(" }", ", grant = { of = 2 } }")}\n'
    text = manifest.read_text().replace(link, link.replace(" }", ", grant = { of = 1 } }"))
    manifest.write_text(text + 'env = { EACH = "yes" }\n' + more)
    (folder / "near.py").write_text(COUNTING.replace("__init__(self)", "__init__(self, grant)"))
    async with loop.Host() as host, Workspace(host, load(folder)) as space:
        first, second = await space.load("app"), await space.load("second")
        assert [await first.call("ask", 10), await second.call("ask", 20)] == [10, 20]
        for count, use in enumerate([ELSEWHERE, NODE, NODE], 1):
            await space.swap("near", use)
            assert [await first.call("ask", 1), await second.call("ask", 1)] == [10 + count, 20 + count]


@pytest.mark.parametrize("space", ["unix", "stdio", "tcp", "quic", "http2"], indirect=True)
async def test_one_that_asks_is_exchanged(
    space: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_swaps, "ASKED", 600.0)
    caplog.set_level(logging.INFO, "loop_kit.swap")
    app = await space.load("app")
    assert await app.call("ask", 3) == 3
    code = space.manifest.folder / "near.mjs"
    code.write_text(NEAR.replace("this.sum += n", "this.sum += 1000 * n"))
    assert await app.call("ask", 99) == 3
    while "near was exchanged, as it asked" not in caplog.text:
        await asyncio.sleep(0.01)
    assert generation(space) == 2
    assert await app.call("ask", 1) == 1003
    with pytest.raises(LoopError, match="a moment ago"):
        await app.call("ask", 99)
    assert await app.call("ask", 1) == 2003


async def test_one_that_asks_and_cannot_be_goes_on(
    space: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    app = await space.load("app")
    assert await app.call("ask", 3) == 3
    (space.manifest.folder / "near.mjs").write_text("const")
    assert await app.call("ask", 99) == 3
    while ASKS not in caplog.text:
        await asyncio.sleep(0.01)
    assert await app.call("ask", 1) == 4
    assert generation(space) == 1
