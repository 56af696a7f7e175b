"""What the asynchronous and the blocking host have in common."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit.errors import HostClosed, LoadError
from loop_kit.limits import Limits
from loop_kit.placements.builtin import Builtin
from loop_kit.placements.component import Settings, wants_settings
from loop_kit.routes import link_imports, match
from loop_kit.wasi import Wasi

__all__ = ["Base", "default_cache", "read"]

DEFAULT: Any = object()


def default_cache() -> Path:
    """The folder of compiled code in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "loop-kit" / "compiled"


def read(component: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of a component named by its path, or given.

    Raises:
        LoadError: They are no WebAssembly.
        OSError: The file cannot be read.
    """
    wasm = component if isinstance(component, bytes) else Path(component).read_bytes()
    if not wasm.startswith(b"\0asm"):
        what = "these bytes are" if isinstance(component, bytes) else f"{os.fspath(component)}: this is"
        raise LoadError(f"{what} no WebAssembly, which begins with the bytes 00 61 73 6d")
    return wasm


# What the engine serves by itself. Other packages of WASI's, such as `wasi:keyvalue`, are provided as any.
_WASI = [f"wasi:{name}/" for name in ("cli", "clocks", "filesystem", "http", "io", "random", "sockets")]


class Base:
    """Engine and links of a host."""

    def __init__(self, *, cache: str | os.PathLike[str] | None = DEFAULT, incremental: bool = False) -> None:
        folder = default_cache() if cache is DEFAULT else cache
        self._engine = _core.Engine(None if folder is None else os.fspath(folder), incremental)
        self._closed = False
        self._programs: list[weakref.ref[_core.Program]] = []

    def _link(
        self,
        wasm: bytes,
        imports: Mapping[str, Any],
        limits: Limits,
        wasi: Wasi | None = None,
        hub: _core.Hub | None = None,
        *,
        asynchronous: bool = False,
        audit: Callable[[str, str, str], None] | None = None,
    ) -> _core.Program:
        self._check_open()
        # a provider of the user's own for a `wasi:` interface takes the place of ours
        link = _core.Link(self._engine, wasm, _WASI, limits.fuel is not None, hub)
        core = limits.core()
        providers = {
            name: _of_component(value, self._engine, core["payload"]) for name, value in imports.items()
        }
        if audit is not None:
            link.audit(audit)
        asks = wants_settings(wanted.name for wanted in link.imports())
        if asks is not None and match(asks, providers) is None:
            providers[asks] = Settings()  # nobody has set it up
        link_imports(link, providers)
        program = link.finish(
            **core, asynchronous=asynchronous or hub is not None, wasi=(wasi or Wasi()).core()
        )
        self._programs = [known for known in self._programs if known() is not None]
        self._programs.append(weakref.ref(program))
        return program

    def _close_programs(self) -> None:
        """Ends what was loaded: calls are refused from now on."""
        self._closed = True
        for known in self._programs:
            if (program := known()) is not None:
                program.close()

    def _check_open(self) -> None:
        if self._closed:
            raise HostClosed("this host is closed")


def _of_component(provider: Any, engine: _core.Engine, payload: int) -> Any:
    """What serves one component, whose answers may have `payload` bytes; most providers serve all alike."""
    if isinstance(provider, Builtin):
        return provider.native(engine, payload)
    # asked of the class, since a mock has every attribute
    way = getattr(type(provider), "_loop_way", None)
    if way is not None:
        return way(provider, lambda found: _of_component(found, engine, payload))
    within = getattr(type(provider), "_loop_within", None)
    return provider if within is None else within(provider, payload)
