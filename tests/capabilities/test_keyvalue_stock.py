"""Components that know nothing but the stock interfaces, wasmCloud's and Spin's, over each store, unchanged.

The guests are `components/test-keyvalue-*`, built from vendored WIT.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import inspect, manifest
from loop_kit.capabilities.keyvalue._server import running
from loop_kit.errors import LinkError
from loop_kit.workspace import Workspace

GUESTS = Path(__file__).parent / "guests"
# what a component imports, and what its manifest calls that
IMPORTS = {
    "keyvalue-draft": ("wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue"),
    "keyvalue-draft2": ("wasi:keyvalue/store@0.2.0-draft2", "wasi:keyvalue"),
    "keyvalue-spin": ("fermyon:spin/key-value@2.0.0", "fermyon:spin"),
}
STORES = {
    "sqlite": "builtin:keyvalue",
    "python": "python:loop_kit.capabilities.keyvalue:KeyValue",
    "nats": "python:loop_kit.capabilities.keyvalue:NatsKeyValue",
    "memory": "component:loop:keyvalue/memory",
}
GRANT = '{ max-list = 7, buckets = { default = { mode = "rw" }, other = {} } }'
Load = Callable[..., AbstractAsyncContextManager[loop.App]]


@pytest.fixture(params=STORES)
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """Loads a guest in a workspace that has one store."""
    store: str = request.param
    config = {"sqlite": 'path = "kv.db"', "python": f'path = "{tmp_path / "kv.db"}"'}.get(store, "")
    if store == "nats":
        config = f'url = "{running()}", prefix = "{abs(hash(tmp_path))}-"'

    @asynccontextmanager
    async def loaded(guest: str, grant: str = GRANT) -> AsyncIterator[loop.App]:
        _, key = IMPORTS[guest]
        by = "kv" if guest == "keyvalue-draft" else "spin"
        text = f"""
            components.app.path = "{GUESTS / guest}.wasm"
            components.app.imports."{key}" = {{ provider = "{by}"{", grant = " + grant if by == "kv" else ""} }}
            links."wasi:keyvalue" = {{ provider = "kv", grant = {grant} }}
            providers.spin.use = "component:loop:keyvalue/spin"
            providers.kv = {{ use = "{STORES[store]}", config = {{ {config} }} }}
        """
        declared = manifest.loads(text, tmp_path / "loop.toml")
        async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
            yield await workspace.load("app")

    return loaded


@pytest.mark.parametrize("guest", IMPORTS)
def test_the_guests_import_the_stock_interface_alone(guest: str) -> None:
    package = IMPORTS[guest][0].partition("/")[0]
    version = IMPORTS[guest][0].partition("@")[2]
    names = inspect.imports(GUESTS / f"{guest}.wasm")
    assert IMPORTS[guest][0] in names
    assert all(name.startswith(f"{package}/") and name.endswith(f"@{version}") for name in names)


@pytest.mark.parametrize("guest", IMPORTS)
async def test_a_stock_component_runs_unchanged(guest: str, load: Load) -> None:
    async with load(guest) as app:
        for count in (1, 2, 3):
            assert await app.call("visit", "/index.html") == count
        assert set(await app.call("sweep")) == {"/index.html", "k0", "k1"}


@pytest.mark.parametrize("guest", IMPORTS)
async def test_it_is_told_what_was_not_granted(guest: str, load: Load) -> None:
    async with load(guest, "{ buckets.default = {} }") as app:
        with pytest.raises(loop.Err, match="access denied"):
            await app.call("visit", "k")
    async with load(guest, "{ buckets.other = {} }") as app:
        with pytest.raises(loop.Err, match="access denied"):
            await app.call("visit", "k")
    async with load(guest, '{ max-key = 3, buckets.default.mode = "rw" }') as app:
        with pytest.raises(loop.Err, match=r"a key of 4 bytes; `grant\.max-key` lets it have 3"):
            await app.call("visit", "four")


async def test_what_the_second_draft_has_and_the_first_has_not_is_refused(load: Load) -> None:
    async with load("keyvalue-draft2") as app:
        assert await app.call("add", 5) == 5
        with pytest.raises(loop.Err, match="a number is not made smaller"):
            await app.call("add", -1)
        with pytest.raises(loop.Err, match="compare-and-swap is not served"):
            await app.call("swap")
        assert await app.call("add", 2**63 - 6) == 2**63 - 1
        with pytest.raises(loop.Err, match="larger than 63 bits"):
            await app.call("add", 1)


async def test_the_second_draft_is_not_taken_for_the_first(tmp_path: Path) -> None:
    made: Any = loop.builtin("keyvalue", buckets={"default": {"mode": "rw"}})
    async with loop.Host(cache=tmp_path) as host:
        with pytest.raises(LinkError, match=r"0\.2\.0-draft2"):
            await host.load(GUESTS / "keyvalue-draft2.wasm", {"wasi:keyvalue": made})
