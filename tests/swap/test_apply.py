"""A running workspace that goes over to another manifest: all of it, or nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import loop_kit as loop
from loop_kit._diff import Change, changes
from loop_kit.errors import LoadError, LoopError, ManifestError
from loop_kit.manifest import load, loads
from loop_kit.workspace import Workspace
from tests import running
from tests.async_guests import AsyncGuest
from tests.children import is_gone, started
from tests.guests import HOST, Guest
from tests.swap import places
from tests.swap.places import PACKAGE, USES
from tests.wit_types import U32

TOLD = f"""\
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Told:
    def __init__(self, config=None, grant=None):
        self.said = (config or {{}}).get("say", 0) + (grant or {{}}).get("more", 0)

    def ask(self, n):
        return n + self.said

    def wait(self, milliseconds):
        return milliseconds + self.said
"""
MANIFEST = f"""\
[components.app]
path = "app.wasm"
imports."{HOST}" = {{ provider = "told", grant = {{ more = 5 }} }}
[components.second]
path = "app.wasm"
imports."{HOST}" = {{ provider = "near" }}
[providers.told]
use = "python:told:Told"
trusted = true
config = {{ say = 100 }}
[providers.near]
use = "{USES["sidecar"]}"
trusted = true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("near", "told"):  # of another test's folder
        sys.modules.pop(module, None)
    places.workspace(tmp_path)
    (tmp_path / "loop.toml").write_text(MANIFEST)
    (tmp_path / "told.py").write_text(TOLD)
    return tmp_path


class Space:
    """The workspace, with both components loaded."""

    def __init__(self, workspace: Workspace, app: loop.App, second: loop.App) -> None:
        self.workspace, self.app, self.second = workspace, app, second

    async def answers(self) -> tuple[int, int]:
        return await self.app.call("ask", 0), await self.second.call("ask", 0)

    async def apply(self, *pairs: tuple[str, str], **options: Any) -> dict[str, tuple[str, str]]:
        """Goes over to the first manifest with replacements; what was told of."""
        text = MANIFEST
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        manifest = loads(text, self.workspace.manifest.path)
        return {c.member: (c.before, c.after) for c in await self.workspace.apply(manifest, **options)}

    def generations(self) -> dict[str, tuple[str, int]]:
        return {m.name: (str(m.phase), m.generation) for m in self.workspace.members()}

    def links(self) -> dict[str, str]:
        return {link.importer.name: link.provider.name for link in self.workspace.links()}


@pytest.fixture
async def space(folder: Path) -> AsyncIterator[Space]:
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        yield Space(workspace, await workspace.load("app"), await workspace.load("second"))


BEFORE = {"app": ("ready", 1), "second": ("ready", 1), "near": ("ready", 1), "told": ("ready", 1)}


async def test_nothing_changes_where_nothing_is_said_otherwise(space: Space) -> None:
    assert await space.apply() == {}
    assert await space.apply(("[components.app]", "# a comment\n[components.app]")) == {}
    assert space.generations() == BEFORE
    assert await space.answers() == (105, 1000)


async def test_another_config_starts_the_provider_anew(space: Space) -> None:
    told = await space.apply(("say = 100", "say = 200"))
    assert told == {"told.config": ('{"say": 100}', '{"say": 200}')}
    assert await space.answers() == (205, 1000)
    assert space.generations() == {**BEFORE, "told": ("ready", 2)}


async def test_another_grant_goes_to_the_same_provider(space: Space) -> None:
    told = await space.apply(("more = 5", "more = 7"))
    [(member, (before, after))] = told.items()
    assert member == f"app/{HOST}"
    assert before.startswith(f"told: use {PACKAGE} by python:told:Told, TRUSTED")
    assert before.endswith("under { more = 5 }")
    assert after.endswith("under { more = 7 }")
    assert await space.answers() == (107, 1000)
    assert space.generations() == BEFORE


async def test_an_import_goes_over_to_another_provider(space: Space) -> None:
    begun = asyncio.ensure_future(space.second.call("wait", 200))
    await asyncio.sleep(0.05)
    to_told = (
        f'imports."{HOST}" = {{ provider = "near" }}',
        f'imports."{HOST}" = {{ provider = "told" }}',
    )
    told = await space.apply(to_told)
    assert list(told) == [f"second/{HOST}"]
    assert await space.answers() == (105, 100)
    assert await begun == 1200
    assert space.links() == {"app": "told", "second": "told"}
    assert space.generations() == BEFORE  # it is still declared, and stays
    await space.apply()
    assert await space.answers() == (105, 1000)


async def test_a_provider_that_is_new_and_one_that_is_gone(space: Space) -> None:
    pid = started(space.workspace, "near").running.child.pid
    told = await space.apply(("near", "far"), ("sidecar:python:far:Near", USES["component"]))
    assert told == {
        "far": ("", USES["component"]),
        "near": (USES["sidecar"], ""),
        f"second/{HOST}": (
            f"near: use {PACKAGE} by {USES['sidecar']}",
            f"far: use {PACKAGE} by {USES['component']}",
        ),
    }
    assert await space.answers() == (105, 1000)
    assert space.generations() == {
        "app": ("ready", 1),
        "second": ("ready", 1),
        "told": ("ready", 1),
        "far": ("ready", 1),
    }
    while not is_gone(pid):
        await asyncio.sleep(0.01)


async def test_one_that_is_new_and_not_needed_is_not_started(space: Space) -> None:
    told = await space.apply(("[providers.near]", '[providers.idle]\nuse = "builtin:core"\n[providers.near]'))
    assert told == {"idle": ("", "builtin:core")}
    assert space.generations() == {**BEFORE, "idle": ("stopped", 0)}


async def test_a_component_with_other_limits_is_loaded_anew(space: Space) -> None:
    again = ('path = "app.wasm"\nimports', 'path = "app.wasm"\nlimits = { memory = "64MiB" }\nimports')
    told = await space.apply(again)
    assert set(told) == {"app.limits", "second.limits"}
    assert await space.answers() == (105, 1000)
    assert space.generations() == {**BEFORE, "app": ("ready", 2), "second": ("ready", 2)}


async def test_a_component_that_is_gone_ends(space: Space) -> None:
    begun = asyncio.ensure_future(space.second.call("wait", 200))
    await asyncio.sleep(0.05)
    cut = MANIFEST[MANIFEST.index("[components.second]") : MANIFEST.index("[providers.told]")]
    assert set(await space.apply((cut, ""))) == {"second"}
    assert await begun == 1200
    assert space.links() == {"app": "told"}
    assert space.workspace.loaded("second") is None
    again = await space.apply()
    assert again == {"second": ("", str(space.workspace.manifest.folder / "app.wasm"))}
    second = await space.workspace.load("second")
    assert await second.call("ask", 0) == 1000


async def test_what_would_change_is_told(space: Space) -> None:
    pairs = ("say = 100", "say = 200"), ("more = 5", "more = 7"), (USES["sidecar"], USES["python"])
    told = await space.apply(*pairs, dry_run=True)
    assert set(told) == {"told.config", f"app/{HOST}", "near"}
    assert await space.answers() == (105, 1000)
    assert space.generations() == BEFORE
    assert await space.apply(*pairs) == told
    assert await space.answers() == (207, 1000)
    assert space.generations() == {**BEFORE, "told": ("ready", 2), "near": ("ready", 2)}


FAULTS = {
    "one provider does not start": (USES["sidecar"], "sidecar:python:nowhere:Near"),
    "a component is not there": (
        '"app.wasm"\nimports."loop-test:host/host" = { provider = "near" }',
        '"none.wasm"\nimports."loop-test:host/host" = { provider = "near" }',
    ),
    "one serves something else": (USES["sidecar"], "component:./app.wasm"),
    "nothing provides an import": (f'imports."{HOST}" = {{ provider = "near" }}', ""),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_where_one_of_several_fails_nothing_changes(space: Space, fault: str) -> None:
    old, new = FAULTS[fault]
    old, new = (text.replace("loop-test:host/host", HOST) for text in (old, new))
    pid = started(space.workspace, "near").running.child.pid
    links, manifest = space.links(), space.workspace.manifest
    with pytest.raises(LoopError):
        await space.apply(("say = 100", "say = 200"), ("more = 5", "more = 7"), (old, new))
    assert await space.answers() == (105, 1000)
    assert space.generations() == BEFORE
    assert space.links() == links
    assert space.workspace.manifest is manifest
    assert started(space.workspace, "near").running.child.pid == pid
    await space.apply(("say = 100", "say = 300"))
    assert await space.answers() == (305, 1000)


async def test_a_manifest_that_must_not_be_is_refused(space: Space, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="must be trusted"):
        await space.apply(("trusted = true", ""))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(ManifestError, match="the workspace that runs is"):
        await space.workspace.apply(loads("", elsewhere / "loop.toml"))
    assert await space.answers() == (105, 1000)


async def test_what_a_swap_made_is_undone_by_the_manifest(space: Space) -> None:
    await space.workspace.swap("near", USES["component"])
    await space.workspace.swap("told", "sidecar:python:told:Told")
    assert [p.use for p in space.workspace.manifest.providers.values()] == [
        "sidecar:python:told:Told",
        USES["component"],
    ]
    assert await space.apply() == {
        "near": (USES["component"], USES["sidecar"]),
        "told": ("sidecar:python:told:Told", "python:told:Told"),
    }
    assert await space.answers() == (105, 1000)


async def test_links_of_an_interface_become_those_of_a_package(space: Space) -> None:
    """And what the workspace says for all counts as what a component says."""
    one = f'imports."{HOST}" = {{ provider = "near" }}\n'
    told = await space.apply(
        (one, ""), ("[components.app]", f'[links]\n"{PACKAGE}" = {{ provider = "near" }}\n[components.app]')
    )
    assert set(told) == {f"second/{HOST}", f"links/{PACKAGE}"}
    assert space.generations() == BEFORE
    assert await space.answers() == (105, 1000)


async def test_nothing_is_lost_while_the_manifest_changes(space: Space) -> None:
    over, counts = False, [0, 0]

    async def caller(of: int, app: loop.App) -> None:
        while not over:
            await app.call("ask", 1)
            counts[of] += 1
            await asyncio.sleep(0)

    callers = [asyncio.ensure_future(caller(n % 2, (space.app, space.second)[n % 2])) for n in range(8)]
    for turn in range(6):
        pairs = [("say = 100", f"say = {turn}"), ("more = 5", f"more = {turn}")]
        if turn % 2:
            pairs.append((USES["sidecar"], USES["component"]))
        if turn % 3 == 1:
            pairs.append(('path = "app.wasm"\n', 'path = "app.wasm"\nlimits = { memory = "64MiB" }\n'))
        await space.apply(*pairs)
        before = [*counts]
        while counts[0] < before[0] + 20 or counts[1] < before[1] + 20:
            await asyncio.sleep(0.001)
            for task in callers:
                if task.done():
                    task.result()
    over = True
    await asyncio.gather(*callers)
    assert all(counts)


async def test_a_component_that_is_told_of_changes_is_refused(space: Space) -> None:
    with pytest.raises(LoadError, match="is told of changes in buckets"):
        await space.apply(('path = "app.wasm"\n', 'path = "app.wasm"\nwatch = ["a"]\n'))


async def test_a_component_that_serves_another_goes_over_with_it(folder: Path) -> None:
    """And one that is new, with the provider that it is."""
    manifest = places.MANIFEST.replace(USES["sidecar"], "component:other").replace("trusted = true", "")
    (folder / "loop.toml").write_text(manifest)
    (folder / "else.wasm").write_bytes(places.answering(800_000))
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app, other = await workspace.load("app"), await workspace.load("other")
        assert await app.call("ask", 1) == 900_001
        again = loads(manifest.replace("other.wasm", "else.wasm"), folder / "loop.toml")
        assert [c.member for c in await workspace.apply(again)] == ["other"]
        assert await app.call("ask", 1) == await other.call("ask", 1) == 800_001
        assert workspace.loaded("other") is other
        # a component that is new, as a provider that is new
        (folder / "new.wasm").write_bytes(places.answering(700_000))
        more = manifest.replace("component:other", "component:new")
        more += '[components.new]\npath = "new.wasm"\n'
        broken = loads(more.replace('"new.wasm"', '"none.wasm"'), folder / "loop.toml")
        with pytest.raises(LoadError, match=r"none\.wasm"):
            await workspace.apply(broken)
        assert await app.call("ask", 1) == 800_001
        assert [m.name for m in workspace.members()] == ["app", "other", "near"]
        await workspace.apply(loads(more, folder / "loop.toml"))
        assert await app.call("ask", 1) == 700_001
        found = {(m.kind, m.name): (str(m.phase), m.generation) for m in workspace.members()}
        assert found["component", "new"] == ("ready", 1)
        assert found["provider", "near"] == ("ready", 2)


async def test_what_a_link_has_for_itself_begins_anew(space: Space) -> None:
    alone = (USES["sidecar"] + '"\ntrusted', USES["sidecar"] + '"\nisolate = true\ntrusted')
    assert await space.apply(alone) == {"near.isolate": ("false", "true")}
    assert await space.answers() == (105, 1000)
    [pid] = [m.pid for m in space.workspace.members() if m.name.startswith("near")]
    moved = (f'imports."{HOST}" = {{ provider = "near" }}', f'imports."{HOST}" = {{ provider = "told" }}')
    await space.apply(alone, moved)
    assert await space.answers() == (105, 100)
    assert pid is not None
    while not is_gone(pid):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("loads_first", [True, False])
async def test_what_is_loaded_meanwhile_is_linked_to_what_serves_then(
    folder: Path, loads_first: bool
) -> None:
    third = f'[components.third]\npath = "app.wasm"\nimports."{HOST}" = {{ provider = "near" }}\n'
    (folder / "loop.toml").write_text(third + MANIFEST)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        second = await workspace.load("second")
        pid = started(workspace, "near").running.child.pid
        places.write(folder, 2)
        works = [workspace.load("third"), workspace.swap("near", USES["component"])]
        tasks = [asyncio.ensure_future(work) for work in works[:: 1 if loads_first else -1]]
        await asyncio.gather(*tasks)
        while not is_gone(pid):
            await asyncio.sleep(0.01)
        assert await (await workspace.load("third")).call("ask", 0) == 2000
        assert await second.call("ask", 0) == 2000


async def test_a_component_that_was_replaced_ends_with_those_who_serve_then(folder: Path) -> None:
    """What the old code still does is served though its provider is exchanged, too."""
    guest = AsyncGuest().imports("ask", [U32], U32, waits=False).imports("wait", [U32], U32, waits=False)
    guest.exports("both", [U32], U32, "(call $done-both (call $ask (call $wait (local.get 0))))")
    (folder / "both.wasm").write_bytes(guest.wasm())
    manifest = MANIFEST.replace('path = "app.wasm"\nimports', 'path = "both.wasm"\nimports')
    (folder / "loop.toml").write_text(manifest)
    async with loop.Host(cache=None) as host, Workspace(host, load(folder)) as workspace:
        app = await workspace.load("second")
        pid = started(workspace, "near").running.child.pid
        begun = asyncio.ensure_future(app.call("both", 500))
        await asyncio.sleep(0.05)
        (folder / "both.wasm").write_bytes(guest.wasm() + bytes([0, 4, 3]) + b"new")
        assert await workspace.replace("second")
        places.write(folder, 2)
        await workspace.swap("near", USES["component"])
        assert not begun.done()
        assert await begun == 500 + 1000 + 2000
        assert await app.call("both", 0) == 4000
        while not is_gone(pid):
            await asyncio.sleep(0.01)


async def test_one_that_no_longer_serves_http_has_all_stay(tmp_path: Path) -> None:
    manifest = """\
[components.one]
path = "one.wasm"
[components.two]
path = "two.wasm"
[providers.near]
use = "component:./near.wasm"
[links]
"acme:near" = { provider = "near" }
"""
    (tmp_path / "loop.toml").write_text(manifest)
    (tmp_path / "near.wasm").write_bytes(
        Guest().exports("ask", [], U32, "(i32.const 200)", of="acme:near/near").wasm()
    )
    for name, said in (("one", b"Hello"), ("two", b"Hello"), ("again", b"Again")):
        (tmp_path / f"{name}.wasm").write_bytes(running.site().replace(b"Hello", said))
    (tmp_path / "none.wasm").write_bytes(Guest().exports("ask", [], U32, "(i32.const 0)").wasm())
    async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
        servers = []
        for name in ("one", "two"):
            await workspace.load(name)
            servers.append(workspace.serve(name, "127.0.0.1:0"))
        once = manifest.replace("one.wasm", "again.wasm")

        async def asked() -> list[str]:
            return [await asyncio.to_thread(word, server.address) for server in servers]

        with pytest.raises(LoadError, match="wasi:http"):
            await workspace.apply(loads(once.replace("two.wasm", "none.wasm"), tmp_path / "loop.toml"))
        assert await asked() == ["Hello", "Hello"]
        assert {m.generation for m in workspace.members()} == {1}
        await workspace.apply(loads(once, tmp_path / "loop.toml"))
        assert await asked() == ["Again", "Hello"]
        for server in servers:
            await asyncio.to_thread(server.shutdown, 1.0)


def word(address: str) -> str:
    with urlopen(f"http://{address}/a", timeout=20) as answer:
        return str(answer.read(5), "ascii")


def test_secrets_are_named_and_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sesame")
    path = folder / "loop.toml"
    new = loads(MANIFEST.replace("say = 100", 'say = 100, key = { env = "KEY" }'), path)
    assert changes(loads(MANIFEST, path), new) == [
        Change("told.config", '{"say": 100}', '{"say": 100, "key": {"env": "KEY"}}')
    ]
