"""A reading of WIT types of its own, for tests that compare it with the engine's."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Node:
    kind: str
    """The keyword: `list`, `record`, `u8`, …"""
    names: list[str]
    """Of fields, cases or flags."""
    items: list[Node]
    """Item, fields, payloads; the ok and the err of a result."""
    text: str


NOTHING = Node("_", [], [], "_")
"""The payload where there is none."""


def parse(text: str) -> Node:
    tokens = re.findall(r"[\w-]+|[<>(){},:]", text)
    node, at = _node(tokens, 0)
    assert at == len(tokens), tokens[at:]
    return node


def _node(tokens: list[str], at: int) -> tuple[Node, int]:
    start, kind = at, tokens[at]
    names: list[str] = []
    items: list[Node] = []
    at += 1
    if tokens[at : at + 1] == ["{"]:
        while tokens[at] != "}":
            names.append(tokens[at + 1])
            at += 2
            item = NOTHING
            if tokens[at] in ":(":
                closed = tokens[at] == "("
                item, at = _node(tokens, at + 1)
                at += closed
            items.append(item)
        at += 1
    elif tokens[at : at + 1] == ["<"] and kind in ("own", "borrow"):
        names, at = [tokens[at + 1]], at + 3
    elif tokens[at : at + 1] == ["<"]:
        while tokens[at] != ">":
            if tokens[at + 1] == "_":
                items.append(NOTHING)
                at += 2
            else:
                item, at = _node(tokens, at + 1)
                items.append(item)
        at += 1
    if kind == "result":
        items += [NOTHING] * (2 - len(items))
    return Node(kind, names, items, " ".join(tokens[start:at])), at
