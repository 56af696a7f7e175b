"""The words of WIT, with the comments that document what follows them."""

from __future__ import annotations

import re
from collections.abc import Callable

from loop_kit.errors import LoadError

__all__ = ["Lexer"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<doc>///[^\n]*|/\*\*(?!/)(?:.|\n)*?\*/)
      | (?P<comment>//[^\n]*|/\*(?:.|\n)*?\*/)
      | (?P<version>(?<=@)\d+\.\d+\.\d+(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)
      | (?P<id>%?[A-Za-z][0-9A-Za-z]*(?:-[0-9A-Za-z]+)*)
      | (?P<number>\d+(?:\.\d+)*(?:-[0-9A-Za-z.-]+)?)
      | (?P<sign>->|[{}()<>:;,.=@/*_])""",
    re.VERBOSE,
)


class Lexer:
    """Reads words one after another.

    Attributes:
        doc: The documentation that stood right before the next word.
    """

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self.doc = ""
        self._kind = ""
        self._word = ""
        self._start = 0
        self._next()

    def _next(self) -> None:
        docs: list[str] = []
        while True:
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                self._start = self._at
                if self._at == len(self._text):
                    self._kind, self._word, self.doc = "end", "", ""
                    return
                raise self.error(f"{self._text[self._at]!r} is no part of WIT")
            self._at = found.end()
            kind = found.lastgroup or ""
            if kind == "doc":
                docs.append(_comment(found[0]))
            elif kind not in ("space", "comment"):
                self._kind, self._word, self._start = kind, found[0], found.start()
                self.doc = "\n".join(docs).strip("\n")
                return

    def place(self) -> Callable[[], str]:
        """What says where the next word stands, `kv.wit:3:5`; to count lines for each word would take long."""
        start = self._start

        def place() -> str:
            before = self._text[:start]
            return f"{self._file}:{before.count(chr(10)) + 1}:{start - before.rfind(chr(10))}"

        return place

    def error(self, message: str) -> LoadError:
        """A complaint about the next word."""
        return LoadError(f"{self.place()()}: {message}")

    @property
    def done(self) -> bool:
        return self._kind == "end"

    def peek(self, word: str) -> bool:
        """Whether this is the next word; `%list` is a name, not the word `list`."""
        return self._word == word

    def take(self, word: str) -> bool:
        """Whether this was the next word, which has been read then."""
        if self._word != word:
            return False
        self._next()
        return True

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"expected `{word}`, found `{self._word or 'the end'}`")

    def _of(self, kind: str, what: str) -> str:
        if self._kind != kind:
            raise self.error(f"expected {what}, found `{self._word or 'the end'}`")
        word = self._word
        self._next()
        return word

    def name(self) -> str:
        return self._of("id", "a name").removeprefix("%")

    def number(self) -> int:
        return int(self._of("number", "a number"))

    def version(self) -> str:
        """What follows an `@`, or the `version =` of an annotation."""
        return self._of("version" if self._kind == "version" else "number", "a version")

    @property
    def is_name(self) -> bool:
        return self._kind == "id"


def _comment(text: str) -> str:
    if text.startswith("///"):
        return text[3:].removeprefix(" ").rstrip()
    lines = [line.strip().removeprefix("*").removeprefix(" ").rstrip() for line in text[3:-2].splitlines()]
    return "\n".join(lines).strip("\n")
