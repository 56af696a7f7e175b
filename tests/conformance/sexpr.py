"""The s-expressions of WebAssembly text, with where each begins and ends in its source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
    (?P<space>\s+|;;[^\n]*)
  | (?P<comment>\(;)
  | (?P<open>\((?!;))
  | (?P<close>\))
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<atom>[^\s()";]+(?:"(?:[^"\\\n]|\\.)*")?)
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_EDGE = re.compile(r"\(;|;\)")
ESCAPE = re.compile(rb"\\(?:u\{([0-9a-fA-F_]+)\}|([0-9a-fA-F]{2})|(.))", re.DOTALL)
PLAIN = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b'"': b'"', b"'": b"'", b"\\": b"\\"}


class SyntaxFault(Exception):
    """The source is not a sequence of s-expressions."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal: the bytes it stands for."""

    value: bytes

    def __str__(self) -> str:
        return self.value.decode()


@dataclass(frozen=True, slots=True)
class Node:
    """A parenthesized expression, and its place in the source, from `(` to behind `)`."""

    items: tuple[Item, ...]
    start: int
    end: int

    @property
    def head(self) -> str:
        """Its first word, "" where it has none."""
        return self.items[0] if self.items and isinstance(self.items[0], str) else ""


Item = Node | Text | str


def parse(source: str) -> list[Node]:
    """The top-level expressions of a source.

    Raises:
        SyntaxFault: Something else stands there; the text names the line.
    """
    stack: list[tuple[int, list[Item]]] = [(0, [])]
    for kind, start, end in _tokens(source):
        if kind == "open":
            stack.append((start, []))
            continue
        if kind == "close":
            if len(stack) == 1:
                raise _fault(source, start, "`)` without `(`")
            begin, items = stack.pop()
            stack[-1][1].append(Node(tuple(items), begin, end))
            continue
        token = source[start:end]
        stack[-1][1].append(Text(unescape(token[1:-1])) if kind == "string" else token)
    if len(stack) > 1:
        raise _fault(source, stack[-1][0], "`(` without `)`")
    nodes = [item for item in stack[0][1] if isinstance(item, Node)]
    if len(nodes) != len(stack[0][1]):
        raise _fault(source, 0, "words outside of any expression")
    return nodes


def unescape(literal: str) -> bytes:
    """The bytes that the inside of a string literal stands for.

    Raises:
        SyntaxFault: An escape that there is not.
    """

    def escaped(match: re.Match[bytes]) -> bytes:
        scalar, byte, plain = match.groups()
        if scalar:
            return chr(int(scalar, 16)).encode()
        if byte:
            return bytes([int(byte, 16)])
        if plain not in PLAIN:
            raise SyntaxFault(f"invalid string escape {match[0]!r}")
        return PLAIN[plain]

    return ESCAPE.sub(escaped, literal.encode())


def line_of(source: str, position: int) -> int:
    """The 1-based line of a position."""
    return source.count("\n", 0, position) + 1


def _tokens(source: str) -> Iterator[tuple[str, int, int]]:
    at = 0
    while at < len(source):
        match = TOKEN.match(source, at)
        if match is None:
            raise _fault(source, at, "no token")
        kind, end = str(match.lastgroup), match.end()
        if kind == "comment":
            end = _comment_end(source, at)
        elif kind != "space":
            yield kind, at, end
        at = end


def _comment_end(source: str, start: int) -> int:
    """Where the block comment that begins at `start` ends; such comments nest."""
    depth = 0
    for edge in COMMENT_EDGE.finditer(source, start):
        depth += 1 if edge[0] == "(;" else -1
        if depth == 0:
            return edge.end()
    raise _fault(source, start, "a comment without an end")


def _fault(source: str, position: int, message: str) -> SyntaxFault:
    return SyntaxFault(f"line {line_of(source, position)}: {message}")
