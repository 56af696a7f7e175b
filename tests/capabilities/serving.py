"""What serves a capability to a guest, and in which host.

A provider is one line of `PROVIDERS`, a placement one of `HOSTS`: every test runs over all of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import loop_kit as loop
from loop_kit.capabilities.core import Core
from loop_kit.capabilities.fsx import Files
from tests.guests import assemble

PYTHON = {"core": Core, "fsx": Files}

# How a capability is provided under a grant, by the provider's name.
PROVIDERS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
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

    def __init__(self, provider: str, host: Host) -> None:
        self._provide = PROVIDERS[provider]
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
