"""`examples/site` with its providers in processes of their own: one line moves them, the pages are the same."""

from __future__ import annotations

import asyncio
import re
import secrets
import urllib.request
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import inspect
from loop_kit.manifest import explain, load
from loop_kit.workspace import Workspace
from tests.checkout import ROOT, copied

PAGES = ("", "values", "wire", "search?q=stream")
LOG = """\
import { serve } from '@loop-kit/provider';

const log = (level, target, message, fields) =>
  console.error(JSON.stringify({ level, target, message, fields: Object.fromEntries(fields) }));

await serve({ wit: 'core', provides: { 'loop:core/log@0.1.0': { log } }, signals: true });
"""
TRANSPORTS = ("stdio", "unix", "shm", "tcp", "quic", "http2", "ws", "nats")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, with a provider of its own."""
    site = copied("site", tmp_path_factory.mktemp("site"))
    (site / "log.mjs").write_text(LOG)
    (site / "core").symlink_to(ROOT / "python/loop_kit/capabilities/core/wit")
    (site / "node_modules/@loop-kit").mkdir(parents=True)
    (site / "node_modules/@loop-kit/provider").symlink_to(ROOT / "sdk/node")
    return site


async def pages(site: Path, manifest: str) -> list[bytes]:
    """What the site answers under a manifest."""
    (site / "loop.toml").write_text(manifest)
    async with loop.Host() as host, Workspace(host, load(site)) as workspace:
        server = (await workspace.load("site")).serve("127.0.0.1:0")

        def read(path: str) -> bytes:
            with urllib.request.urlopen(f"http://{server.address}/{path}") as answer:
                found: bytes = answer.read()
            return found

        try:
            return [await asyncio.to_thread(read, path) for path in PAGES]
        finally:
            await asyncio.to_thread(server.shutdown, 1.0)


@pytest.fixture(scope="module")
def expected(site: Path) -> list[bytes]:
    """What it answers with its providers where the example has them."""
    text = (ROOT / "examples/site/loop.toml").read_text()
    return asyncio.run(pages(site, text))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_same_pages_over(
    transport: str,
    site: Path,
    expected: list[bytes],
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "loop_kit.provider.log")
    text = (ROOT / "examples/site/loop.toml").read_text()
    left = ("build", "dev", "config")  # `expected` has built it
    text = re.sub(r"(?m)^sources = \[[^\]]*\]\n", "", text)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(left))
    for use, program in (
        ("sidecar:builtin:fsx", "python:loop_kit.capabilities.fsx:Files"),
        ("component:loop:core/log-filter", "node:log.mjs"),
    ):
        where = f'transport = "{transport}"'
        if transport == "nats":
            where = f'address = "{request.getfixturevalue("nats")}/site.{secrets.token_hex(8)}"'
        assert use in text
        text = text.replace(f'use = "{use}"', f'use = "sidecar:{program}"\n{where}')
    assert await pages(site, text) == expected
    assert any(
        "/values" in record.getMessage()
        for record in caplog.records
        if record.name == "loop_kit.provider.log"
    )
    (explained,) = explain.explain(load(site), inspect.imports)
    placed = {i.name.partition("/")[0]: i for i in explained.imports if i.name.startswith("loop:")}
    assert set(placed) == {"loop:fsx", "loop:core"}
    for found in placed.values():
        assert (found.placement, found.transport) == ("sidecar", transport)
