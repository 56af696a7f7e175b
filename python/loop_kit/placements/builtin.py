"""Native providers that ship with loop-kit, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit._records import emit
from loop_kit.errors import LinkError, LinkProblem, LoadError
from loop_kit.exports import Exports
from loop_kit.limits import Limits

__all__ = ["Builtin", "Opened", "anchored", "builtin", "contract_of", "driven", "plain"]


@dataclass(frozen=True, slots=True)
class Builtin:
    """A native provider and its grant; made by `builtin`. `importer`: who uses it, for the log."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    grant: Mapping[str, Any] = field(default_factory=dict)
    importer: str = ""

    def native(self, engine: _core.Engine, payload: int) -> _core.Native:
        """The provider, ready to be linked. `payload`: bytes that one answer may have.

        Raises:
            LoadError: There is no such provider, or its config or grant does not do.
        """
        try:
            config, grant = (json.dumps(plain(value)) for value in (self.config, self.grant))
            # of what `core` tells, the component chose every word; the others tell what a grant lacks
            log = functools.partial(emit, component=self.importer, refusal=self.name != "core")
            return _core.Native(engine, self.name, config, grant, log, payload)
        except (ValueError, TypeError) as e:
            raise LoadError(f"builtin:{self.name}: {e}") from None


class Opened:
    """A native provider that is called without a component: by a session, or by Python itself."""

    def __init__(self, made: Builtin, engine: _core.Engine, hub: _core.Hub) -> None:
        """`hub`: of the running event loop.

        Raises:
            LoadError: The config or grant does not do.
        """
        self._name = made.name
        self._native = made.native(engine, Limits().core()["payload"])
        self._hub = hub

    def functions(self, contract: _core.Contract) -> list[_core.NativeFunction]:
        """What answers each function of `contract`, in its order.

        Raises:
            LinkError: It has functions that this provider lacks; every one is listed.
        """
        asked = [function for interface in contract.interfaces() for function in interface.functions]
        found = self._native.functions(contract, self._hub)
        problems = [
            LinkProblem(function.interface, function.name, f"is not served by builtin:{self._name}")
            for function, native in zip(asked, found, strict=True)
            if native is None
        ]
        if problems:
            raise LinkError(problems)
        return [native for native in found if native is not None]

    def _loop_targets(self, contract: _core.Contract) -> list[tuple[Any, bool]]:
        return [(native, native.waits) for native in self.functions(contract)]


def contract_of(name: str) -> _core.Contract:
    """All interfaces of a native provider, by their WIT.

    Raises:
        LoadError: There is no such provider.
    """
    served = dict(_core.capabilities())
    if name not in served:
        raise LoadError(f"there is no native provider {name!r}; there are {', '.join(served)}")
    return _core.Contract(Path(__file__).parents[1] / "capabilities" / name / "wit", served[name])


@contextlib.asynccontextmanager
async def driven(made: Builtin) -> AsyncIterator[Exports]:
    """A native provider's interfaces as objects, on the running event loop.

    Raises:
        LoadError: There is no such provider, or its config or grant does not do.
    """
    engine = _core.Engine()
    hub = _core.Hub.create(asyncio.get_running_loop(), engine)
    functions: list[_core.NativeFunction] = []
    try:
        contract = contract_of(made.name)
        functions += Opened(made, engine, hub).functions(contract)

        async def call(number: int, *args: Any) -> Any:
            function = functions[number]
            answer = function(*args)
            return await answer if function.waits else answer

        # the collector sees through the contract what the classes of resources hold
        call.__dict__["contract"] = contract
        yield Exports.of_contract(contract, call)
    finally:
        functions.clear()  # with them the provider goes, and all that it holds for its user
        hub.close()


def builtin(name: str, *, config: Mapping[str, Any] | None = None, **grant: Any) -> Builtin:
    """A native provider for `imports`, with what it may touch as keywords.

        app = await host.load("site.wasm", imports={
            "loop:fsx": loop.builtin("fsx", roots={"docs": {"path": "/srv/docs"}}),
            "loop:core": loop.builtin("core"),
        })

    Args:
        name: `core`, `fsx`, `keyvalue`, `netx` or `process`.
        config: What the provider is configured with.
        **grant: What it may touch; its README lists the keys (with `_` for `-`).
    """
    return Builtin(name, dict(config or {}), {key.replace("_", "-"): value for key, value in grant.items()})


def anchored(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config of a provider of loop-kit's own as `loop.toml` has it: a `path` is one from the manifest's folder."""
    path = config.get("path")
    return dict(config) | ({"path": os.path.join(folder, path)} if isinstance(path, str) else {})


def plain(value: Any) -> Any:
    """Paths as text, mappings as dicts: what JSON takes."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
