"""Native providers that ship with loop-kit, in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loop_kit import _core
from loop_kit._records import emit
from loop_kit.errors import LoadError

__all__ = ["Builtin", "builtin"]


@dataclass(frozen=True, slots=True)
class Builtin:
    """A native provider and its grant; made by `builtin`."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    grant: Mapping[str, Any] = field(default_factory=dict)

    def native(self, engine: _core.Engine, payload: int) -> _core.Native:
        """The provider, ready to be linked. `payload`: bytes that one answer may have.

        Raises:
            LoadError: There is no such provider, or its config or grant does not do.
        """
        try:
            config, grant = (json.dumps(_plain(value)) for value in (self.config, self.grant))
            return _core.Native(engine, self.name, config, grant, emit, payload)
        except (ValueError, TypeError) as e:
            raise LoadError(f"builtin:{self.name}: {e}") from None


def builtin(name: str, *, config: Mapping[str, Any] | None = None, **grant: Any) -> Builtin:
    """A native provider for `imports`, with what it may touch as keywords.

        app = await host.load("site.wasm", imports={
            "loop:fsx": loop.builtin("fsx", roots={"docs": {"path": "/srv/docs"}}),
            "loop:core": loop.builtin("core"),
        })

    Args:
        name: `core` or `fsx`.
        config: What the provider is configured with.
        **grant: What it may touch; its README lists the keys (with `_` for `-`).
    """
    return Builtin(name, dict(config or {}), {key.replace("_", "-"): value for key, value in grant.items()})


def _plain(value: Any) -> Any:
    """Paths as text, mappings as dicts: what JSON takes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
