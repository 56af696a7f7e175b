"""Where each key and value of a TOML document stands.

`tomllib` keeps no positions, and neither do the maintained parsers on PyPI. This scanner finds them in a
document that `tomllib` has accepted, so it needs no grammar of values and reports no errors: it only has to
know where strings, comments, tables and arrays begin and end. Tests hold it to `tomllib`'s own keys.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Literal

__all__ = ["Block", "Keys", "Position", "Spot", "blocks", "line_and_column", "scan"]

# Deeper keys have the place of the one around them: a path is a tuple of all its keys, so without a bound the
# memory for a chain of keys would grow with the square of its length.
MAX_DEPTH = 100

Keys = tuple[str | int, ...]
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spot:
    """Offsets of a key and of its value; equal for tables and array elements, which have one place."""

    key: int
    value: int


@dataclass(slots=True)
class Block:
    """What a header is the header of.

    Attributes:
        path: The table's keys; () for what stands above all headers.
        end: Offset of the end of its last value, or of the header where it is empty.
    """

    path: Keys
    end: int


@dataclass(slots=True)
class _Frame:
    """A container being scanned: the document, an inline table, or an array and its next index."""

    kind: Literal["document", "table", "array"]
    prefix: Keys
    index: int = 0


_TOKEN = re.compile(
    r"""
      (?P<skip>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*')
    | (?P<mark>[\[\]{},.=])
    | (?P<bare>[A-Za-z0-9_-]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def scan(text: str) -> dict[Keys, Spot]:
    """Maps every key path of a valid TOML document to its place.

    A path has a string for a key and an int for an element of an array. Tables that only dotted keys or
    headers imply are included, at their first mention. Nothing deeper than `MAX_DEPTH` is.
    """
    return _Scanner(text).run()


def blocks(text: str) -> list[Block]:
    """The blocks of a valid TOML document, in their order."""
    scanner = _Scanner(text)
    scanner.run()
    return scanner.blocks


def line_and_column(text: str, offset: int) -> Position:
    """Returns the 1-based line and the 1-based column, in characters, of an offset."""
    before = text.count("\n", 0, offset)
    return before + 1, offset - text.rfind("\n", 0, offset)


class _Scanner:
    """Iterative, so that nesting which `tomllib` survived cannot exhaust the stack here."""

    def __init__(self, text: str) -> None:
        self.tokens = [
            (match.lastgroup or "", match.group(), match.start())
            for match in _TOKEN.finditer(text)
            if match.lastgroup != "skip"
        ]
        self.at = 0
        self.spots: dict[Keys, Spot] = {}
        self.elements: dict[Keys, int] = {}
        self.stack = [_Frame("document", ())]
        self.blocks = [Block((), 0)]

    def run(self) -> dict[Keys, Spot]:
        """Scans to the end; each step consumes at least one token."""
        while self.at < len(self.tokens):
            frame = self.stack[-1]
            kind, token, offset = self.tokens[self.at]
            if kind == "newline" or token == ",":
                self.at += 1
            elif token in ("]", "}"):
                self.stack.pop()
                self.at += 1
            elif frame.kind == "array":
                path = self.note((*frame.prefix, frame.index), Spot(offset, offset))
                frame.index += 1
                self.value(path)
            elif token == "[" and frame.kind == "document":
                self.header(frame)
            else:
                self.pair(frame)
            if len(self.stack) == 1 and kind != "newline":
                _, last, start = self.tokens[self.at - 1]
                self.blocks[-1].end = start + len(last)
        return self.spots

    def note(self, path: Keys, spot: Spot, *, implied: bool = False) -> Keys:
        """Records a place and returns the path for what is inside; the first mention of a table stays."""
        if len(path) > MAX_DEPTH:
            return path[:MAX_DEPTH]
        if not implied or path not in self.spots:
            self.spots[path] = spot
        return path

    def header(self, document: _Frame) -> None:
        """`[a.b]` or `[[a.b]]`: what follows belongs to the table, or to the array's new element."""
        self.at += 1
        is_array = self.tokens[self.at][:2] == ("mark", "[")
        self.at += is_array
        *parents, (last, offset) = self.dotted()
        path: Keys = ()
        for name, place in parents:
            path = self.note(self.last_element((*path, name)), Spot(place, place), implied=True)
        spot = Spot(offset, offset)
        path = self.note((*path, last), spot, implied=is_array)
        if is_array:
            self.elements[path] = self.elements.get(path, 0) + 1
            path = self.note(self.last_element(path), spot)
        document.prefix = path
        self.blocks.append(Block(path, offset))
        self.at += 1 + is_array

    def last_element(self, path: Keys) -> Keys:
        """A header through an array of tables means its newest element."""
        count = self.elements.get(path)
        return path if count is None else (*path, count - 1)

    def pair(self, frame: _Frame) -> None:
        """`a.b = value`."""
        *parents, (last, offset) = self.dotted()
        self.at += 1  # the "="
        path = frame.prefix
        for name, place in parents:
            path = self.note((*path, name), Spot(place, place), implied=True)
        self.value(self.note((*path, last), Spot(offset, self.tokens[self.at][2])))

    def dotted(self) -> list[tuple[str, int]]:
        """Reads a key up to its `=` or `]`."""
        names = []
        while True:
            kind, token, offset = self.tokens[self.at]
            names.append((_unquote(token) if kind == "string" else token, offset))
            self.at += 1
            if self.tokens[self.at][1] != ".":
                return names
            self.at += 1

    def value(self, path: Keys) -> None:
        """Enters a container, or passes over a scalar, which may be several tokens (`-1.5e3`, dates)."""
        kind, token, _ = self.tokens[self.at]
        if token in ("[", "{"):
            self.stack.append(_Frame("array" if token == "[" else "table", path))
            self.at += 1
            return
        if kind == "string":
            self.at += 1
        while self.at < len(self.tokens):
            kind, token, _ = self.tokens[self.at]
            if kind == "newline" or token in (",", "]", "}"):
                return
            self.at += 1


def _unquote(token: str) -> str:
    """Returns the key that a quoted token means; `tomllib` is the authority on escapes."""
    if "\\" not in token:
        return token[1:-1]
    (key,) = tomllib.loads(f"{token} = 0")
    return key
