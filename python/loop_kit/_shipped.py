"""The components that ship with loop-kit."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_kit.errors import LoadError
from loop_kit.limits import Limits

__all__ = ["Shipped", "limits_of", "shipped", "shipped_names"]

_CAPABILITIES = Path(__file__).resolve().parent / "capabilities"


@dataclass(frozen=True, slots=True)
class Shipped(os.PathLike[str]):
    """A component that ships with loop-kit; made by `shipped`.

    Attributes:
        name: `core/virtual-clock`.
        path: Its file.
        instances: The instances that it needs unless `Limits` say otherwise; None: any.
    """

    name: str
    path: Path
    instances: Any = None

    def __fspath__(self) -> str:
        return str(self.path)


def shipped_names() -> list[str]:
    """The names of all components that ship with loop-kit, as `shipped` takes them."""
    return sorted(f"{path.parents[1].name}/{path.stem}" for path in _CAPABILITIES.glob("*/components/*.wasm"))


def shipped(name: str) -> Shipped:
    """A component that ships with loop-kit, to be loaded and linked as any other.

        core = loop.builtin("core")
        clock = await host.load(loop.shipped("core/virtual-clock"), imports={"loop:core": core})
        app = await host.load("app.wasm", imports={"loop:core/clock": clock, "loop:core": core})

    Args:
        name: `PACKAGE/WHAT`; `loop.toml` has it as `component:loop:PACKAGE/WHAT`.

    Raises:
        LoadError: There is no such component.
    """
    package, _, what = name.removeprefix("loop:").partition("/")
    known = shipped_names()
    if f"{package}/{what}" not in known:
        near = difflib.get_close_matches(f"{package}/{what}", known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise LoadError(f"no component {name!r} ships with loop-kit; {hint}")
    path = _CAPABILITIES / package / "components" / f"{what}.wasm"
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return Shipped(f"{package}/{what}", path, record["instances"])


def limits_of(component: object, limits: Limits | None) -> Limits:
    """The limits of a component that is to be loaded, with the instances that it needs where they say nothing."""
    limits = limits or Limits()
    if isinstance(component, Shipped) and limits.instances is None:
        return replace(limits, instances=component.instances)
    return limits
