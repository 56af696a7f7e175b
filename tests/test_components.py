"""The components that ship with loop-kit, as anyone's."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools.build_components import crates, stale

import loop_kit as loop
from loop_kit import manifest
from loop_kit._shipped import shipped_names
from loop_kit.errors import CallError, LoadError, ManifestError
from loop_kit.workspace import Workspace
from tests.capabilities import serving
from tests.checkout import ROOT

SECOND = 10**9


def test_they_are_what_their_sources_make() -> None:
    assert stale(crates()) == []
    assert shipped_names() == [name for name in crates() if not name.startswith("test/")]


def test_the_check_tells_what_differs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "build_components.py"), "--check", "core/nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "there is no core/nothing" in done.stderr) == (2, True)


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    assert loop.shipped("core/virtual-clock").instances == "shared"
    with pytest.raises(LoadError, match=r"no component 'other' .*there are blobstore/memory"):
        loop.shipped("other")
    with pytest.raises(LoadError, match=r"did you mean 'core/log-filter'\?"):
        loop.shipped("core/logfilter")
    text = '[providers.p]\nuse = "component:loop:core/virtual-clok"\n'
    with pytest.raises(ManifestError, match='did you mean "loop:core/virtual-clock"'):
        manifest.loads(text, Path("loop.toml"))


def test_the_log_filter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(5, "loop_kit.guest")
    config = {"rules": {"": "warn", "site": "debug", "site.db": "error"}, "redact": ["token"]}
    with loop.blocking.Host() as host:
        imports = {"loop:core": loop.builtin("core"), "loop:provider/settings": loop.Settings(config)}
        log = host.load(loop.shipped("core/log-filter"), imports=imports)
        for level, target in [("info", ""), ("warn", "sites"), ("trace", "site"), ("debug", "site.x"),
                              ("warn", "site.db.y")]:  # fmt: skip
            log.call("log", level, target, target, [("token", "secret"), ("user", "ann")])
        log.call("allow", "site.db", "trace")
        log.call("redact", "user")
        log.call("log", "trace", "site.db", "db", [("user", "ann")])
        assert log.call("dropped") == 3
    assert [r.getMessage() for r in caplog.records] == [
        "sites token=*** user=ann",
        "site.x token=*** user=ann",
        "db user=***",
    ]


@pytest.mark.parametrize(
    ("config", "grant", "said"),
    [
        ({"rule": {}}, {}, "config: unknown field `rule`, expected `rules` or `redact`"),
        ({"rules": {"a": "loud"}}, {}, "config: unknown variant `loud`"),
        ({}, {"log": {}}, "grant: a log filter grants what the log below it is granted"),
    ],
)
def test_what_a_component_may_not_be_told_is_said(config: Any, grant: Any, said: str) -> None:
    with loop.blocking.Host() as host:
        imports = {"loop:core": loop.builtin("core"), "loop:provider/settings": loop.Settings(config, grant)}
        log = host.load(loop.shipped("core/log-filter"), imports=imports)
        with pytest.raises(CallError, match=said):
            log.call("log", "info", "", "", [])


async def test_the_virtual_clock_moves_when_it_is_told() -> None:
    async with loop.Host() as host:
        clock = await host.load(loop.shipped("core/virtual-clock"), {"loop:core": loop.builtin("core")})
        await clock.call("set", {"seconds": -1, "nanoseconds": 5})
        done: list[str] = []

        async def wait(name: str, *seconds: int) -> None:
            for each in seconds:
                await clock.call("sleep", each * SECOND)
            done.append(f"{name} at {await clock.call('monotonic-now') / SECOND:g}")

        tasks = [asyncio.create_task(w) for w in (wait("a", 3600), wait("b", 10, 20), wait("c", 0))]
        while await clock.call("waiting") < 2:
            await asyncio.sleep(0)
        assert (done, await clock.call("next")) == (["c at 0"], 10 * SECOND)
        await clock.call("advance", 60 * SECOND)  # b has its second turn within
        while len(done) < 2:
            await asyncio.sleep(0)
        assert done[0] == "c at 0"
        assert done[1].startswith("b at ")
        now = await clock.call("now")
        assert (now.seconds, now.nanoseconds) == (59, 5)
        tasks[0].cancel()
        await asyncio.wait(tasks)
        while await clock.call("waiting"):
            await asyncio.sleep(0)


async def test_an_hour_by_itself_takes_no_time() -> None:
    async with loop.Host() as host:
        clock = await host.load(loop.shipped("core/virtual-clock"), {"loop:core": loop.builtin("core")})
        await clock.call("run", True)
        for _ in range(24):
            await clock.call("sleep", 3600 * SECOND)
        assert await clock.call("monotonic-now") == 86_400 * SECOND
        await clock.call("sleep-until", 5)
        ticks: list[int] = []
        async for tick in await clock.call("every", SECOND):
            ticks += [tick] if isinstance(tick, int) else tick
            if len(ticks) >= 3:
                break
        assert ticks[:3] == [(86_400 + n) * SECOND for n in (1, 2, 3)]
        with pytest.raises(CallError):
            await clock.call("every", 0)


LOOP = """
[components.app]
path = "app.wasm"
[components.app.imports]
"loop:core/clock" = { provider = "still" }
"loop:core/log" = { provider = "filter" }
[providers.still]
use = "component:loop:core/virtual-clock"
[providers.filter]
use = "component:loop:core/log-filter"
config = { rules = { "" = "warn" } }
[providers.core]
use = "builtin:core"
[links]
"loop:core".provider = "core"
"""


async def test_a_manifest_links_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loop_kit.guest")
    (tmp_path / "app.wasm").write_bytes(serving.guest("core"))
    declared = manifest.loads(LOOP, tmp_path / "loop.toml")
    async with loop.Host() as host, Workspace(host, declared) as workspace:
        app = await workspace.load("app")
        await app.call("log", "info", "t", "held back", [])
        await app.call("log", "warn", "t", "passed on", [])
        assert list(await app.call("ticks", 3)) == [0, 0, 0]
        assert len(await app.call("bytes", 3)) == 3
    assert [r.getMessage() for r in caplog.records] == ["passed on"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (('{ provider = "still" }', '{ provider = "still", grant = { log = { level = "info" } } }'),
         CallError, "grant: a virtual clock grants what the one below it is granted"),
        (('use = "component:loop:core/virtual-clock"', 'use = "component:loop:core/virtual-clock"\nconfig = { a = 1 }'),
         CallError, "config: unknown field `a`, expected `run` or `now`"),
        (('"loop:core".provider', '"loop:core/clock".provider = "still"\n"loop:core".provider'),
         ManifestError, "still would be linked to itself"),
    ],
)  # fmt: skip
async def test_what_a_manifest_may_not_say_of_them(
    tmp_path: Path, change: tuple[str, str], error: type[Exception], said: str
) -> None:
    (tmp_path / "app.wasm").write_bytes(serving.guest("core"))
    declared = manifest.loads(LOOP.replace(*change), tmp_path / "loop.toml")
    async with loop.Host() as host, Workspace(host, declared) as workspace:

        async def ask() -> None:
            await (await workspace.load("app")).call("now")

        with pytest.raises(error, match=said):
            await ask()


async def test_a_component_that_asks_nothing_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(serving.guest("core"))
    text = '[components.app]\npath = "app.wasm"\n[components.kv]\npath = "app.wasm"\n'
    text += '[providers.kv]\nuse = "component:kv"\nconfig = { a = 1 }\n[links]\n"loop:core".provider = "kv"\n'
    declared = manifest.loads(text, tmp_path / "loop.toml")
    async with loop.Host() as host, Workspace(host, declared) as workspace:
        with pytest.raises(LoadError, match="does not import loop:provider/settings takes no config"):
            await workspace.load("app")
