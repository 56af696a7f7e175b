"""What a component is, without loading it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from loop_kit import _core
from loop_kit._host import read

__all__ = ["Inspection", "Item", "imports", "inspect"]


@dataclass(frozen=True, slots=True)
class Item:
    """One import or export.

    Attributes:
        name: The interface, or the function or type at the root of the world.
        functions: The functions of the interface, or the one function, by WIT name.
    """

    name: str
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a component is.

    Attributes:
        size: Bytes.
        module: It is a core module, which loading wraps for WASI preview 1.
        imports: What it imports.
        exports: What it exports.
        wit: Its world as WIT text.
    """

    size: int
    module: bool
    imports: tuple[Item, ...]
    exports: tuple[Item, ...]
    wit: str


def inspect(component: str | os.PathLike[str] | bytes) -> Inspection:
    """Decodes a component.

    Raises:
        LoadError: Not a component.
        OSError: The file cannot be read.
    """
    wasm = read(component)
    found = _core.inspect(wasm)
    imports_, exports = (
        tuple(Item(item["name"], tuple(item["functions"])) for item in found[side])
        for side in ("imports", "exports")
    )
    return Inspection(len(wasm), found["module"], imports_, exports, found["wit"])


def imports(component: str | os.PathLike[str] | bytes) -> Sequence[str]:
    """The names that a component imports.

    Raises:
        LoadError: Not a component.
        OSError: The file cannot be read.
    """
    return [item.name for item in inspect(component).imports]
