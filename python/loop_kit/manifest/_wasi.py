"""Which grant of `[components.NAME.wasi]` opens which interfaces of WASI, for `loop explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loop_kit.manifest._match import ImportName
from loop_kit.manifest.model import Component

__all__ = ["Gate", "gate_of", "granted"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands between a component and some interfaces of WASI.

    Attributes:
        key: The grant's key under `wasi`; None where nothing needs granting.
        example: A value for it.
        without: What the component meets without it.
    """

    key: str | None
    example: Any = None
    without: str = ""


_OPEN = Gate(None)
_DIRS = Gate("dirs", [{"host": "data", "guest": "/data", "mode": "ro"}], "no directory is visible")
_NET = Gate("net", ["127.0.0.1:5432"], "every connection is refused")
_STDIO = Gate("stdio", True, "input is empty and output is dropped")
_ENV = Gate("env", ["LANG"], "no variable is visible, and there are no arguments")

# By package, then by interface; "" is for all other interfaces of the package.
_GATES: Mapping[str, Mapping[str, Gate]] = {
    "wasi:cli": {
        "": _OPEN,
        "environment": _ENV,
        **dict.fromkeys(("stdin", "stdout", "stderr"), _STDIO),
        **dict.fromkeys(("terminal-stdin", "terminal-stdout", "terminal-stderr"), _STDIO),
    },
    "wasi:clocks": {"": _OPEN},
    "wasi:filesystem": {"": _DIRS},
    "wasi:http": {"": _OPEN, "outgoing-handler": _NET, "client": _NET},
    "wasi:io": {"": _OPEN},
    "wasi:random": {"": _OPEN},
    "wasi:sockets": {"": _NET},
}


def gate_of(import_name: str) -> Gate | None:
    """Returns the gate of an import that loop-kit's own WASI serves, else None."""
    package, interface, _ = ImportName.parse(import_name)
    gates = _GATES.get(package)
    return None if gates is None else gates.get(interface or "", gates[""])


def granted(gate: Gate, component: Component) -> dict[str, Any]:
    """Returns what the manifest grants the component behind a gate, in the manifest's own words.

    Values of environment variables and arguments are left out: they may be secrets.
    """
    wasi = component.wasi
    match gate.key:
        case "dirs":
            dirs = [{"host": str(item.host), "guest": item.guest, "mode": item.mode} for item in wasi.dirs]
            return {"dirs": dirs} if dirs else {}
        case "net":
            return {"net": list(wasi.net)} if wasi.net else {}
        case "stdio":
            return {"stdio": True} if wasi.stdio else {}
        case "env":
            names = [*component.env, *wasi.env]
            args = {"args": len(component.args)} if component.args else {}
            return ({"env": names} if names else {}) | args
        case _:
            return {}
