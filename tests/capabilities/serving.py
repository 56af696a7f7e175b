"""What serves a capability to a guest, and in which host.

A provider is one line of `PROVIDERS`, a placement one of `HOSTS`: every test runs over all of both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import loop_kit as loop
from loop_kit import _core, manifest
from loop_kit.capabilities.core import Core
from loop_kit.capabilities.fsx import Files
from loop_kit.placements import sidecar
from loop_kit.placements._supervisor import Supervisor
from tests.guests import assemble

PYTHON = {"core": Core, "fsx": Files}


class Sidecars:
    """Providers of capabilities in processes of their own, which all links share, driven by a loop in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engine = _core.Engine()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._started: dict[str, Supervisor[sidecar.Sidecar]] = {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def link(self, capability: str, grant: Mapping[str, Any]) -> Any:
        """A link of its own to the provider, which is started first where it does not run."""
        if capability not in self._started:
            cls = PYTHON[capability]
            use = f"sidecar:python:{cls.__module__}:{cls.__qualname__}"
            text = f'[providers.{capability}]\nuse = "{use}"\n'
            declared = manifest.loads(text, self._folder / "loop.toml").providers[capability]
            self._started[capability] = self._run(sidecar.start(self._engine, declared, self._folder))
        routes = self._started[capability].running.routes
        return self._run(routes.bind(f"test/{capability}", grant=grant, config={}, budget=None))

    def close(self) -> None:
        for started in self._started.values():
            self._run(started.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Provide = Callable[[str, Mapping[str, Any]], Any]

# How a capability is provided under a grant, by the provider's name; `sidecar` is added once there is a folder for it.
PROVIDERS: dict[str, Provide] = {
    "builtin": lambda capability, grant: loop.builtin(capability, **grant),
    "python": lambda capability, grant: PYTHON[capability](grant=grant),
}


class Host(Protocol):
    """A host whose calls are made the same way in every placement."""

    def __enter__(self) -> Host: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def load(self, wasm: bytes, imports: Mapping[str, Any], limits: loop.Limits) -> Callable[..., Any]:
        """Loads a component; returns what calls its exports by name, and waits."""


class Blocking:
    """The blocking host."""

    def __init__(self, cache: Path) -> None:
        self._host = loop.blocking.Host(cache=cache)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self._host.close()

    def load(self, wasm: bytes, imports: Mapping[str, Any], limits: loop.Limits) -> Callable[..., Any]:
        return self._host.load(wasm, imports, limits=limits).call


class Asynchronous:
    """The host of an event loop, which runs while a call does."""

    def __init__(self, cache: Path) -> None:
        self._runner = asyncio.Runner()
        self._host = loop.Host(cache=cache)

    def __enter__(self) -> Asynchronous:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._host.aclose())
        self._runner.close()

    def load(self, wasm: bytes, imports: Mapping[str, Any], limits: loop.Limits) -> Callable[..., Any]:
        app = self._runner.run(self._host.load(wasm, imports, limits=limits))

        async def call(*args: Any) -> Any:
            return await app.call(*args)

        return lambda *args: self._runner.run(call(*args))


# How a host is made, by its name; compiled guests are kept in a folder.
HOSTS: dict[str, Callable[[Path], Host]] = {"asynchronous": Asynchronous, "blocking": Blocking}


@cache
def guest(name: str) -> bytes:
    """The component of `guests/NAME.wat`."""
    return assemble((Path(__file__).parent / "guests" / f"{name}.wat").read_text())


class Serving:
    """One provider in one host."""

    def __init__(self, provide: Provide, host: Host) -> None:
        self._provide = provide
        self._host = host

    def __call__(
        self, name: str, capability: str, grant: Mapping[str, Any] | None = None, **limits: Any
    ) -> Callable[..., Any]:
        """Loads a guest whose package `loop:CAPABILITY` is served under a grant; returns what calls it."""
        provider = self._provide(capability, grant or {})
        return self._host.load(guest(name), {f"loop:{capability}": provider}, loop.Limits(**limits))


def error_of(call: Callable[..., Any], *args: Any) -> str:
    """The `error-code` that a call answers."""
    try:
        answer = call(*args)
    except loop.Err as e:
        code: Any = e.value
        return str(code.case)
    raise AssertionError(f"{args} answered {str(answer)[:200]}")
