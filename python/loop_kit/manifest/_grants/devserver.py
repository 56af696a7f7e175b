"""The grant of `loop:devserver`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Choice, Field, ListOf, Table

__all__ = ["GRANT", "sentences"]

# What each lets a component do, as the end of "NAME may".
_ACTIONS = {
    "restart": "restart members of this workspace",
    "swap": "have any program take the place of a provider of this workspace, with your rights",
    "apply": "have this workspace go over to what its manifest says",
    "load": "have components of this workspace built and loaded",
    "stop": "end this workspace",
}

GRANT = Table(
    "grant-loop-devserver",
    "What the component may do with the workspace besides looking at it.",
    dict,
    {"allow": Field(ListOf(Choice(tuple(_ACTIONS))), "What it may do; nothing if absent.")},
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    allowed = grant.get("allow", ())
    return [
        "see the members, links and grants of this workspace, and what happens in it, its log included",
        *(sentence for action, sentence in _ACTIONS.items() if action in allowed),
    ]
