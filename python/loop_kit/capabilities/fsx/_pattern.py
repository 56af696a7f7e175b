"""Patterns of `rg --glob`, matched in time linear in the path, whatever a guest asks for.

A pattern becomes an automaton over the bytes of paths, as in ripgrep's `globset`: `?` and `[...]` take one byte.
Its states are sets of positions, made when they are first reached; so a walk carries a state along and sees at once
which directories can hold no match.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from loop_kit._types import Err

__all__ = ["Pattern", "State"]

# No longer than a path may be on most systems: what a pattern costs grows with its length.
_MAX_PATTERN = 4096
# Braces within braces, which the parser takes by recursion.
_MAX_NESTING = 32
# Positions in all states together, before they are made anew.
_MAX_KNOWN = 1 << 18

# Unicode's, which `str.rstrip` would take for more than it is.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

# Sets of bytes are integers with a bit for each.
_ANY = (1 << 256) - 1
_IN_NAME = _ANY & ~(1 << ord("/"))
_SLASH = 1 << ord("/")

Wildcard = Literal["star", "prefix", "suffix", "between"]


@dataclass(frozen=True, slots=True)
class _Alternates:
    branches: Sequence[Sequence[_Token]]

    @property
    def empty(self) -> bool:
        return all(_is_empty(branch) for branch in self.branches)


# One of a set of bytes, a wildcard of any length, or alternatives.
_Token = int | Wildcard | _Alternates


def _is_empty(tokens: Iterable[_Token]) -> bool:
    return all(isinstance(token, _Alternates) and token.empty for token in tokens)


class State:
    """Where a match stands.

    Attributes:
        alive: Whether anything more can lead to a match, or this is one.
        accepts: Whether what was read so far matches.
    """

    __slots__ = ("accepts", "alive", "members", "next")

    def __init__(self, members: frozenset[int], alive: bool, accepts: bool) -> None:
        self.members = members
        self.alive = alive
        self.accepts = accepts
        self.next: dict[int, State] = {}


class Pattern:
    """A compiled pattern.

    Attributes:
        start: The state before anything was read.

    Raises:
        Err: `invalid`, `name-too-long`.
    """

    def __init__(self, pattern: str) -> None:
        tokens, self._directories_only = _parse(pattern)
        # by position: sets of bytes with where they lead, and where the way leads for nothing
        self._moves: list[list[tuple[int, int]]] = [[]]
        self._free: list[list[int]] = [[]]
        if tokens == ["prefix"]:  # nothing but `**`
            self._loop(0, _ANY)
            self._end = 0
        else:
            self._end = self._add(tokens, 0)
        self._known: dict[frozenset[int], State] = {}
        self._size = 0
        self.start = self._state([0])

    def step(self, state: State, data: bytes) -> State:
        """The state after some more bytes of a path."""
        for byte in data:
            following = state.next.get(byte)
            if following is None:
                following = state.next[byte] = self._state(
                    target
                    for position in state.members
                    for among, target in self._moves[position]
                    if among >> byte & 1
                )
            state = following
        return state

    def _state(self, positions: Iterable[int]) -> State:
        found = set(positions)
        waiting = list(found)
        while waiting:
            for free in self._free[waiting.pop()]:
                if free not in found:
                    found.add(free)
                    waiting.append(free)
        members = frozenset(found)
        state = self._known.get(members)
        if state is None:
            self._size += len(members) + 1
            if self._size > _MAX_KNOWN:
                for known in self._known.values():
                    known.next.clear()
                self._known.clear()
                self._size = len(members) + 1
            files = not self._directories_only
            state = State(members, files and bool(members), files and self._end in members)
            self._known[members] = state
        return state

    # ---- positions

    def _new(self) -> int:
        self._moves.append([])
        self._free.append([])
        return len(self._moves) - 1

    def _loop(self, position: int, among: int) -> None:
        self._moves[position].append((among, position))

    def _add(self, tokens: Iterable[_Token], at: int) -> int:
        """Adds a way through the tokens from the position `at`; returns where it ends."""
        for token in tokens:
            end = self._new()
            match token:
                case int():
                    self._moves[at].append((token, end))
                case "star":
                    self._free[at].append(end)
                    self._loop(end, _IN_NAME)
                case "suffix":
                    self._moves[at].append((_SLASH, end))
                    self._loop(end, _ANY)
                case "prefix" | "between":
                    middle = self._new()
                    self._loop(middle, _ANY)
                    self._moves[middle].append((_SLASH, end))
                    self._moves[at].append((_SLASH, end))
                    if token == "prefix":
                        self._free[at] += [middle, end]
                    else:
                        self._moves[at].append((_SLASH, middle))
                case _Alternates():
                    if token.empty:
                        self._free[at].append(end)
                    for branch in token.branches:
                        if not _is_empty(branch):  # `{a,}` is `{a}`
                            first = self._new()
                            self._free[at].append(first)
                            self._free[self._add(branch, first)].append(end)
            at = end
        return at


def _parse(pattern: str) -> tuple[list[_Token], bool]:
    """The tokens of a pattern, and whether it is one for directories only."""
    if len(pattern.encode()) > _MAX_PATTERN:
        raise Err("name-too-long")
    if "\0" in pattern or pattern.startswith(("!", "#")) or _nesting(pattern) > _MAX_NESTING:
        raise Err("invalid")
    line = pattern if pattern.endswith("\\ ") else pattern.rstrip(_SPACE)
    if not line:
        raise Err("invalid")
    tied = line.startswith("/")
    if line.startswith(("\\!", "\\#", "/")):
        line = line[1:]
    directories_only = line.endswith("/")
    if directories_only:
        line = line[:-1].removesuffix("\\")
    # without a slash it matches at any depth
    if not (tied or "/" in line or line == "**"):
        line = f"**/{line}"
    if line.endswith("/**"):
        line += "/*"  # what is in a directory, not the directory itself
    return _Parser(line).parse(), directories_only


def _nesting(pattern: str) -> int:
    """How deep braces nest, at most: an escaped one counts too."""
    depth = deepest = 0
    for c in pattern:
        depth = depth + 1 if c == "{" else max(depth - 1, 0) if c == "}" else depth
        deepest = max(deepest, depth)
    return deepest


class _Parser:
    """Reads what `globset` reads, in its way."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._branches: list[list[_Token]] = [[]]
        self._opened: list[int] = []

    def parse(self) -> list[_Token]:
        while self._at < len(self._text):
            c = self._take()
            match c:
                case "?":
                    self._push(_IN_NAME)
                case "*":
                    self._star()
                case "[":
                    self._push(self._class())
                case "{":
                    self._opened.append(len(self._branches))
                    self._branches.append([])
                case "}":
                    self._close()
                case "," if self._opened:
                    self._branches.append([])
                case "\\":
                    self._push(*_literal(self._take()))
                case _:
                    self._push(*_literal(c))
        if self._opened:
            raise Err("invalid")
        return self._branches[0]

    def _take(self) -> str:
        if self._at == len(self._text):
            raise Err("invalid")
        self._at += 1
        return self._text[self._at - 1]

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _push(self, *tokens: _Token) -> None:
        self._branches[-1] += tokens

    def _close(self) -> None:
        if not self._opened:
            raise Err("invalid")
        start = self._opened.pop()
        branches = self._branches[start:]
        del self._branches[start:]
        self._push(_Alternates(branches))

    def _star(self) -> None:
        before = self._text[self._at - 2 : self._at - 1]
        if self._next() != "*":
            self._push("star")
            return
        self._at += 1
        tokens, after = self._branches[-1], self._next()
        if not tokens:
            if after in ("", "/"):
                self._at += len(after)
                self._push("prefix")
            else:
                self._push("star")
            return
        inside = len(self._branches) > 1
        stands_alone = before == "/" or (inside and before in (",", "{"))
        ends = after == "" or (inside and after in (",", "}"))
        if not stands_alone or not (ends or after == "/"):
            self._push("star")
            return
        if not ends:
            self._at += 1
        if tokens[-1] not in ("prefix", "suffix"):
            tokens[-1] = "suffix" if ends else "between"

    def _class(self) -> int:
        negated = self._next() in ("!", "^")
        self._at += negated
        ranges: list[list[str]] = []
        first, in_range = True, False
        while (c := self._take()) != "]" or first:
            if c == "-" and not first and not in_range:
                in_range = True
            elif in_range:
                if c < ranges[-1][0]:
                    raise Err("invalid")
                ranges[-1][1] = c
                in_range = False
            else:
                ranges.append([c, c])
            first = False
        if in_range:
            ranges.append(["-", "-"])
        among = 0
        for low, high in ranges:
            among |= _between(low, high)
        return _ANY & ~among if negated else among


def _literal(c: str) -> list[_Token]:
    return [1 << byte for byte in c.encode()]


def _between(low: str, high: str) -> int:
    """A range of a class. Of a character with several bytes it has each, as `globset` has it."""
    if low == high:
        return sum(1 << byte for byte in set(low.encode()))
    *before, start = low.encode()
    end, *after = high.encode()
    among = (1 << end + 1) - (1 << start)
    for byte in (*before, *after):
        among |= 1 << byte
    return among
