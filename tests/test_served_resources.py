"""Resources of a component that `loop serve --on` and `provider.serve_component` make the provider of others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import peer, provider
from loop_kit.errors import BadHandle, GuestTrap, LoadError, ProviderGone
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests import linked_guests, test_resources
from tests.guests import API, HOST, assemble
from tests.test_cli_providers import serving

PACKAGE = API.partition("/")[0]
THINGS_WIT = f"""
package {PACKAGE};

interface api {{
  resource thing {{
    constructor(n: u32);
    get: func() -> u32;
    add: func(n: u32) -> u32;
    merge: static func(a: thing, b: thing) -> thing;
  }}
  resource other {{
    get: func() -> u32;
  }}
  make-other: func(n: u32) -> other;
  peek: func(t: borrow<thing>) -> u32;
  take: func(t: thing) -> u32;
  same: func(t: thing) -> thing;
  many: func(n: u32) -> list<thing>;
  sum: func(things: list<borrow<thing>>) -> u32;
  take-all: func(things: list<thing>) -> u32;
  twice: func(t: thing) -> tuple<thing, thing>;
  forge: func(handle: u32) -> thing;
  disguise: func(t: thing) -> other;
  drops: func() -> u32;
  calls: func() -> u32;
  boom: func();
}}
"""
ADDRESSES = ["unix:{}/s", "tcp://127.0.0.1:0", "http2://127.0.0.1:0"]


LEASES_WIT = f"package {PACKAGE};\n\ninterface api {{\n  resource lease {{ constructor(n: u32); }}\n}}\n"


@asynccontextmanager
async def served(
    wasm: bytes, wit: str, folder: Path, address: str = ADDRESSES[0], **imports: Any
) -> AsyncIterator[provider.Server]:
    """A component that is served; its WIT is `api.wit` in `folder`."""
    (folder / "api.wit").write_text(wit)
    async with loop.Host(cache=None) as host:
        app = await host.load(wasm, {HOST: SimpleNamespace(**imports)} if imports else {})
        server = await provider.serve_component(app, on=address.format(folder))
        yield server
        await server.close()


def connected(server: provider.Server, folder: Path) -> Any:
    return peer.connect(server.address, API, wit=folder / "api.wit")


@pytest.mark.parametrize("address", ADDRESSES)
async def test_resources_are_served(address: str, tmp_path: Path) -> None:
    async with (
        served(test_resources.things(), THINGS_WIT, tmp_path, address) as server,
        await connected(server, tmp_path) as api,
    ):
        thing = await api.call("[constructor]thing", 40)
        assert await api.call("[method]thing.add", thing, 2) == 42
        assert [await api.call(name, thing) for name in ("[method]thing.get", "peek")] == [42, 42]
        more = await api.call("many", 4)
        assert await api.call("sum", [thing, *more]) == 48
        merged = await api.call("[static]thing.merge", thing, more.pop())
        assert await api.call("[method]thing.get", merged) == 45
        same = await api.call("same", merged)
        assert await api.call("take", same) == 45
        assert await api.call("take-all", more) == 3
        assert await api.call("[method]other.get", await api.call("make-other", 7)) == 7


async def test_a_handle_is_good_for_its_own_type_alone(tmp_path: Path) -> None:
    async with (
        served(test_resources.things(), THINGS_WIT, tmp_path) as server,
        await connected(server, tmp_path) as api,
    ):
        other = await api.call("make-other", 7)
        with pytest.raises(BadHandle, match="thing"):
            await api.call("peek", other)
        assert await api.call("[method]other.get", other) == 7


async def test_resources_go_with_an_instance_that_traps(tmp_path: Path) -> None:
    async with (
        served(test_resources.things(), THINGS_WIT, tmp_path) as server,
        await connected(server, tmp_path) as api,
    ):
        thing = await api.call("[constructor]thing", 1)
        with pytest.raises(GuestTrap):
            await api.call("boom")
        with pytest.raises(ProviderGone):
            await api.call("[method]thing.get", thing)
        again = await api.call("[constructor]thing", 2)
        assert await api.call("[method]thing.get", again) == 2


async def test_what_a_client_drops_is_dropped(tmp_path: Path) -> None:
    async with (
        served(test_resources.things(), THINGS_WIT, tmp_path) as server,
        await connected(server, tmp_path) as api,
        asyncio.timeout(30),
    ):
        kept, *gone = await api.call("many", 10)
        for thing in gone:
            thing.drop()
        while await api.call("drops") < 9:
            pass
        await api.call("[method]thing.get", kept)
        assert await api.call("drops") == 9


DIES = """
import asyncio, sys
from loop_kit import peer
async def main():
    async with await peer.connect(sys.argv[1], sys.argv[2], wit=sys.argv[3]) as api:
        held = await api.call("many", 100)
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("address", ADDRESSES)
async def test_what_a_client_held_is_dropped_when_it_dies(address: str, tmp_path: Path) -> None:
    async with (
        served(test_resources.things(), THINGS_WIT, tmp_path, address) as server,
        await connected(server, tmp_path) as watcher,
    ):
        mine = await watcher.call("[constructor]thing", 5)
        wit = str(tmp_path / "api.wit")
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DIES, server.address, API, wit, stdout=subprocess.PIPE
        )
        assert client.stdout is not None
        assert await client.stdout.readline() == b"held\n"
        assert await watcher.call("drops") == 0
        client.kill()
        await client.wait()
        async with asyncio.timeout(30):
            while await watcher.call("drops") < 100:
                await asyncio.sleep(0)
        assert await watcher.call("[method]thing.get", mine) == 5
        assert await watcher.call("drops") == 100


@pytest.mark.parametrize("how", ["drop", "close"])
async def test_destructors_wait_for_no_other_call(how: str, tmp_path: Path) -> None:
    gone: asyncio.Queue[int] = asyncio.Queue()
    async with (
        served(linked_guests.leases(), LEASES_WIT, tmp_path, gone=gone.put_nowait) as server,
        asyncio.timeout(30),
    ):
        api = await connected(server, tmp_path)
        one, two = [await api.call("[constructor]lease", n) for n in (1, 2)]
        if how == "drop":
            one.drop()
            assert await gone.get() == 1
            two.drop()
            assert await gone.get() == 2
            await api.close()
        else:
            await api.close()
            assert {await gone.get(), await gone.get()} == {1, 2}
        assert gone.empty()


@pytest.mark.parametrize("address", ADDRESSES)
async def test_another_component_uses_them(address: str, tmp_path: Path) -> None:
    (tmp_path / "things.wasm").write_bytes(linked_guests.things())
    (tmp_path / "user.wasm").write_bytes(linked_guests.using_things())
    with serving(str(tmp_path / "things.wasm"), "--on", address.format(tmp_path)) as where:
        (tmp_path / "loop.toml").write_text(f"""\
[components.user]
path = "user.wasm"
limits = {{ instances = "shared" }}
imports."{HOST}" = {{ provider = "things" }}
[providers.things]
use = "remote:{where}"
""")
        async with loop.Host(cache=None) as host, Workspace(host, load(tmp_path)) as workspace:
            app = await workspace.load("user")
            assert await app.call("use", 20, 22) == 42
            assert await app.call("drops") == 3  # the two that were made, and what they became
            await app.call("hold", 7)
            assert [await app.call("held") for _ in range(3)] == [7, 7, 7]
            await app.call("let-go")
            assert await app.call("drops") == 4


async def test_resources_of_others_are_not_served(tmp_path: Path) -> None:
    passing = assemble(f"""
      (import "{HOST}" (instance $h (export "thing" (type (sub resource)))))
      (alias export $h "thing" (type $thing))
      (core func $drop (canon resource.drop $thing))
      (func $take (param "t" (own $thing)) (canon lift (core func $drop)))
      (instance $e (export "take" (func $take)))
      (export "{API}" (instance $e))""")

    class Thing:
        pass

    async with loop.Host(cache=None) as host:
        app = await host.load(passing, {HOST: SimpleNamespace(Thing=Thing)})
        with pytest.raises(LoadError, match=f"take: passes a thing of {HOST}, which is not served"):
            await provider.serve_component(app, on=f"unix:{tmp_path / 's'}")
