"""The position scanner, held to `tomllib`: the same keys, each where it is written."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_kit.manifest._scan import MAX_DEPTH, Keys, line_and_column, scan
from loop_kit.manifest._toml import string

NAMES = st.one_of(
    st.sampled_from(["a", "b", "a-b", "1", "3-4", "true"]),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.text("\"'\\#=[]{}., \t\n", max_size=4),
)
SCALARS = st.sampled_from([
    "true", "-1.5e+3", "inf", "0xF", "1979-05-27 07:32:00Z", "1979-05-27T07:32:00.5-07:00", "07:32:00",
    '""', "''", '"# ] } = , \\" \\\\"', "'# ] } = , \\'", '"""\n[x] # \\""" ""\n= 1"""', '""""x""""',
    "'''\n'x' = {,\n\\'''", "''''x'''''", '"""a\\\n   b"""', '""""""', "''''''",
])  # fmt: skip


def paths(value: Any, prefix: Keys = ()) -> Iterator[Keys]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*prefix, key)
        yield from paths(item, (*prefix, key))


class Writer:
    """Writes a tree as TOML in one of the many ways there are, as hypothesis chooses."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.numbers = itertools.count(1_000_000)

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def key(self, name: str) -> str:
        styles = ["basic"]
        if re.fullmatch("[A-Za-z0-9_-]+", name):
            styles.append("bare")
        if "'" not in name and not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", name):
            styles.append("literal")
        match self.pick(*styles):
            case "bare":
                return name
            case "literal":
                return f"'{name}'"
        return string(name)

    def dotted(self, names: tuple[str, ...]) -> str:
        return self.pick(".", " . ", ".\t").join(map(self.key, names))

    def value(self, node: Any) -> str:
        if node is None:
            return self.draw(SCALARS) if self.pick("odd", "number") == "odd" else str(next(self.numbers))
        space = self.pick("", " ")
        if isinstance(node, dict):
            pairs = (f"{self.key(name)}{space}={space}{self.value(item)}" for name, item in node.items())
            return "{" + space + f"{space},{space}".join(pairs) + space + "}"
        gap = self.pick("", " ", "\n", " # ]\"'\n")
        return "[" + gap + f"{gap},{gap}".join(map(self.value, node)) + gap + "]"

    def pairs(self, prefix: tuple[str, ...], table: dict[str, Any]) -> None:
        for name, node in table.items():
            if isinstance(node, dict) and node and self.pick("dotted", "inline") == "dotted":
                self.pairs((*prefix, name), node)
            else:
                end = self.pick("", " # = [\"'", "\n", "\r")
                equals = self.pick("=", " = ")
                self.lines.append(
                    f"{self.dotted((*prefix, name))}{equals}{self.value(node)}{end}".rstrip("\r")
                )

    def table(self, path: tuple[str, ...], table: dict[str, Any]) -> None:
        headers = [
            name for name, node in table.items() if self.may_have_header(node) and self.pick("h", "p") == "h"
        ]
        self.pairs((), {name: node for name, node in table.items() if name not in headers})
        for name in headers:
            deeper = (*path, name)
            many = table[name] if isinstance(table[name], list) else None
            for node in [table[name]] if many is None else many:
                left, right = ("[", "]") if many is None else ("[[", "]]")
                self.lines.append(
                    f"{self.pick('', '  ')}{left}{self.dotted(deeper)}{right}{self.pick('', ' # [x]')}"
                )
                self.table(deeper, node)

    @staticmethod
    def may_have_header(node: Any) -> bool:
        return isinstance(node, dict) or (
            isinstance(node, list) and bool(node) and all(isinstance(item, dict) for item in node)
        )


TREES = st.dictionaries(
    NAMES,
    st.recursive(
        st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=5,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    writer.table((), draw(TREES))
    return "\n".join(writer.lines)


def check(text: str) -> None:
    document = tomllib.loads(text)
    spots = scan(text)
    assert set(spots) == set(paths(document))
    for path, spot in spots.items():
        value: Any = document
        for key in path:
            value = value[key]
        if isinstance(path[-1], str):
            token = re.match(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|[A-Za-z0-9_-]+", text[spot.key :])
            assert token is not None
            assert tomllib.loads(f"{token[0]} = 0") == {path[-1]: 0}
        if isinstance(value, int) and value >= 1_000_000:
            assert text.startswith(str(value), spot.value)


@given(documents())
def test_finds_every_key_that_tomllib_finds(text: str) -> None:
    check(text)


@given(documents(), st.lists(st.tuples(st.integers(0, 400), st.sampled_from(list("ab.1=[]{}\"'#\\,\n")))))
def test_agrees_with_tomllib_on_whatever_else_it_accepts(text: str, edits: list[tuple[int, str]]) -> None:
    for position, char in edits:
        text = text[:position] + char + text[position + 1 :]
    try:
        tomllib.loads(text)
    except ValueError:
        return
    check(text)


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ("[components.site]\npath = 'x'", ("components", "site"), (1, 13)),
        ("[components.site]\npath = 'x'", ("components", "site", "path"), (2, 1)),
        ("[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3", ("a", 1, "b"), (4, 1)),
        ("[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3", ("a", 1, "c", "d"), (6, 1)),
        ('x = """\n[y]\n"""\nz = { "q.r" = [1, { s = 2 }] }', ("z", "q.r", 1, "s"), (4, 21)),
        ("[a.b]\nc = 1\n[a]\nd = 2", ("a",), (3, 2)),
        ('"é"."ü" = 1', ("é", "ü"), (1, 5)),
    ],
)
def test_places(text: str, path: Keys, place: tuple[int, int]) -> None:
    check(text)
    assert line_and_column(text, scan(text)[path].key) == place


def test_a_long_chain_costs_no_more_than_a_deep_one() -> None:
    spots = scan("a." * 20_000 + "a = " + "[" * 20_000 + "]" * 20_000)
    assert len(spots) == max(map(len, spots)) == MAX_DEPTH
