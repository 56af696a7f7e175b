"""The commands that a workspace offers, by name: one registry for `loop x`, completion and the page.

It holds loop-kit's own that make sense within a workspace, those that ship as components, and those that `[commands]` of
the manifest names. Nothing is loaded to know that: completion asks it at each key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["BUILT_IN", "NAME", "SHIPPED", "Offered", "offered"]

NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
"""What a command may be called."""

BUILT_IN: Mapping[str, str] = {
    "ps": "",
    "logs": "[MEMBER]...",
    "restart": "MEMBER",
    "swap": "[MEMBER]",
    "explain": "[COMPONENTS]...",
    "inspect": "COMPONENT",
}
"""The commands of `loop` itself that are about a workspace, with their arguments: `loop x ps` is `loop ps`."""

SHIPPED: Mapping[str, str] = {"tree": "devserver/tree", "traffic": "devserver/traffic"}
"""The commands that components make which ship with loop-kit, and those. The manifest may replace them."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A command, and whose it is.

    Attributes:
        name: What it is called by.
        kind: `loop`: a command of loop-kit's own; `shipped`: of a component that ships with it; `component`: of one
            of the workspace.
        component: The component; "" for loop-kit's own.
    """

    name: str
    kind: Literal["loop", "shipped", "component"]
    component: str = ""


def offered(commands: Mapping[str, str]) -> dict[str, Offered]:
    """All commands of a workspace by name, loop-kit's own first.

    Args:
        commands: `[commands]` of its manifest: names, and the components that they are of.
    """
    found = {name: Offered(name, "loop") for name in BUILT_IN}
    found |= {name: Offered(name, "shipped", component) for name, component in SHIPPED.items()}
    found |= {name: Offered(name, "component", component) for name, component in sorted(commands.items())}
    return found
