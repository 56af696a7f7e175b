"""Tasks as a picture: for Graphviz, for Mermaid, or drawn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["FORMATS", "picture"]

FORMATS = ("mermaid", "dot", "svg")

Graph = Mapping[str, Sequence[str]]
"""The tasks before each task."""

_HEIGHT, _GAP, _ROW, _LETTER, _EDGE = 26, 16, 70, 7.2, 12


def picture(graph: Graph, form: str) -> str:
    """The text of a picture.

    Args:
        graph: The tasks, each after those before it.
        form: One of `FORMATS`.
    """
    return {"mermaid": _mermaid, "dot": _dot, "svg": _svg}[form](graph)


def _mermaid(graph: Graph) -> str:
    ids = {name: f"t{number}" for number, name in enumerate(graph)}
    lines = ["flowchart TD", *(f'  {ids[name]}["{name}"]' for name in graph)]
    return "\n".join([*lines, *(f"  {ids[dep]} --> {ids[name]}" for name in graph for dep in graph[name])])


def _dot(graph: Graph) -> str:
    lines = ["digraph tasks {", "  node [shape=box];", *(f"  {json.dumps(name)};" for name in graph)]
    lines += [f"  {json.dumps(dep)} -> {json.dumps(name)};" for name in graph for dep in graph[name]]
    return "\n".join([*lines, "}"])


def _svg(graph: Graph) -> str:
    """In rows, each task below all that come before it, near the middle of these."""
    row: dict[str, int] = {}
    for name in graph:
        row[name] = max((row[dep] + 1 for dep in graph[name]), default=0)
    rows: dict[int, list[str]] = defaultdict(list)
    for name in graph:
        rows[row[name]].append(name)
    width = {name: len(name) * _LETTER + 20 for name in graph}
    middle: dict[str, float] = {}
    for number in sorted(rows):

        def wish(name: str) -> float:
            deps = [middle[dep] for dep in graph[name]]
            return sum(deps) / len(deps) if deps else 0.0

        at = float(_EDGE)
        for name in sorted(rows[number], key=wish):
            left = max(at, wish(name) - width[name] / 2)
            middle[name] = left + width[name] / 2
            at = left + width[name] + _GAP
    across = max((middle[name] + width[name] / 2 for name in graph), default=0) + _EDGE
    down = len(rows) * _ROW - (_ROW - _HEIGHT) + 2 * _EDGE
    top = {name: _EDGE + row[name] * _ROW for name in graph}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:.0f} {down}" width="{across:.0f}" '
        f'height="{down}" font-family="monospace" font-size="12">',
        '<g fill="none" stroke="#888">',
    ]
    for name in graph:
        for dep in graph[name]:
            start, end = top[dep] + _HEIGHT, top[name]
            bend = (start + end) / 2
            parts.append(
                f'<path d="M{middle[dep]:.1f} {start}C{middle[dep]:.1f} {bend} {middle[name]:.1f} {bend} '
                f'{middle[name]:.1f} {end}"/>'
            )
    parts.append("</g>")
    for name in graph:
        left = middle[name] - width[name] / 2
        parts.append(
            f'<rect x="{left:.1f}" y="{top[name]}" width="{width[name]:.1f}" height="{_HEIGHT}" rx="5" '
            f'fill="#eef3ff" stroke="#4668b0"/><text x="{middle[name]:.1f}" y="{top[name] + 17}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"])
