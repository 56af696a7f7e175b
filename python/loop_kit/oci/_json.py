"""JSON that others wrote: read strictly, and within bounds."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from loop_kit.errors import PackageError

__all__ = ["MOST_BYTES", "Place", "canonical", "load"]

MOST_BYTES = 4 << 20
"""Bytes of one document, as most registries bound them."""
MOST_DEEP = 32
"""Arrays and objects within each other."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def load(data: bytes, what: str) -> Any:
    """The value of a document.

    Args:
        data: The document.
        what: What it is, for messages.

    Raises:
        PackageError: It is no JSON, or JSON that two readers could read in two ways: not UTF-8, a key twice, too
            long, too deep.
    """

    def refuse(problem: str) -> NoReturn:
        raise PackageError(f"{what}: {problem}")

    if len(data) > MOST_BYTES:
        refuse(f"it has more than {MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        refuse(f"it is not UTF-8, at byte {e.start}")
    deep = 0
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                deep += 1
                if deep > MOST_DEEP:
                    refuse(f"it has more than {MOST_DEEP} arrays and objects within each other")
            case "]" | "}":
                deep -= 1

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
            refuse(f"it has the key {json.dumps(twice)} twice in one object")
        return made

    def constant(word: str) -> NoReturn:
        refuse(f"it has {word}, which is not JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as e:
        refuse(f"it is not JSON: {e}")


def canonical(value: Any) -> bytes:
    """One way to write a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


class Place:
    """A value in a document, and where it is: what is wrong with it names the place and what was expected."""

    def __init__(self, what: str, value: Any, path: str = "$") -> None:
        self.value = value
        self.path = path
        self._what = what

    def refuse(self, problem: str) -> NoReturn:
        """Raises PackageError that names this place."""
        raise PackageError(f"{self._what}: {self.path}: {problem}")

    def expected(self, what: str) -> NoReturn:
        """Raises PackageError: something else is here."""
        self.refuse(f"expected {what}, found {_shown(self.value)}")

    def object(self, known: frozenset[str] = frozenset()) -> dict[str, Place]:
        """Its members. A key that is one of `known` but for its case is refused: Go would take it for that."""
        if not isinstance(self.value, dict):
            self.expected("an object")
        if known:
            folded = {key.casefold(): key for key in known}
            for key in self.value:
                if key not in known and (meant := folded.get(key.casefold())) is not None:
                    self.refuse(f"the key {_shown(key)} is read as {_shown(meant)} by some clients only")
        return {key: Place(self._what, value, self._below(key)) for key, value in self.value.items()}

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if re.fullmatch(r"\w+", key, re.ASCII) else f"{self.path}[{_shown(key)}]"

    def array(self, least: int, most: int) -> list[Place]:
        """Its items."""
        if not isinstance(self.value, list):
            self.expected("an array")
        if not least <= len(self.value) <= most:
            bound = f"at least {least}" if len(self.value) < least else f"at most {most}"
            self.refuse(f"expected {bound} items, found {len(self.value)}")
        return [Place(self._what, value, f"{self.path}[{n}]") for n, value in enumerate(self.value)]

    def text(self, what: str = "text", most: int = 1 << 16) -> str:
        """Its text, without halves of characters."""
        if not isinstance(self.value, str):
            self.expected(what)
        try:
            long = len(self.value.encode())
        except UnicodeEncodeError:
            self.expected(f"{what} in Unicode")
        if long > most:
            self.refuse(f"expected at most {most} bytes, found {long}")
        return self.value

    def matching(self, pattern: re.Pattern[str], what: str) -> str:
        """Its text, of which all matches."""
        text = self.text(what)
        if pattern.fullmatch(text) is None:
            self.expected(what)
        return text

    def integer(self, least: int, most: int) -> int:
        """Its whole number."""
        if type(self.value) is not int or not least <= self.value <= most:
            self.expected(f"an integer from {least} to {most}")
        return self.value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
