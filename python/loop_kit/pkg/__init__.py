"""Packages of a workspace: tools that `[packages]` of `loop.toml` asks for, pinned by `loop.lock`.

`loop:pkg` is how a resolver, a component, says where they are; what is done with that is done here.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_kit.pkg._model import Asked, Locked, Platform
    from loop_kit.pkg._packages import Packages
    from loop_kit.pkg._tools import TOOLS, NoTool, Scope, Tools, named

__all__ = ["TOOLS", "WIT", "Asked", "Locked", "NoTool", "Packages", "Platform", "Scope", "Tools", "named"]

WIT = Path(__file__).resolve().parents[1] / "capabilities/pkg/wit"
"""The folder of `loop:pkg`, for `@loop_kit.provider("loop:pkg/resolver@0.1.0-dev", wit=WIT)`."""

# every manifest that is read imports this package, for what it says of packages
_HOMES = {
    "_model": ("Asked", "Locked", "Platform"),
    "_packages": ("Packages",),
    "_tools": ("TOOLS", "NoTool", "Scope", "Tools", "named"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"loop_kit.pkg.{home}"), name)
            return value
    raise AttributeError(f"module 'loop_kit.pkg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
