"""The text of one `loop.toml`: decoding, parsing, and naming places in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._scan import Keys, Position, Spot, line_and_column, scan
from loop_kit.manifest._toml import key as quoted

__all__ = ["MAX_BYTES", "Source", "dotted"]

# A manifest is written by hand; more than this is a wrong file, and reading it would only take long.
MAX_BYTES = 1 << 20

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True)
class Source:
    """A manifest's text and the folder that its relative paths start from.

    Attributes:
        path: The file, absolute; its parent is the folder that relative paths start from.
        shown: The file as the user named it, for messages.
        text: Its contents, without a byte order mark.
        uses: What providers are instead of what the text says, by their names.
    """

    path: Path
    shown: str
    text: str
    uses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, path: Path, shown: str, data: bytes) -> Source:
        """Decodes a file's bytes.

        Raises:
            ManifestError: The file is too large or not UTF-8.
        """
        if len(data) > MAX_BYTES:
            raise ManifestError([Problem(shown, None, None, "", f"larger than {MAX_BYTES} bytes")])
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8-sig", "replace")
            line, column = line_and_column(before, len(before))
            bad = f"not UTF-8: byte 0x{data[error.start]:02x}"
            hint = "save the file as UTF-8"
            raise ManifestError([Problem(shown, line, column, "", bad, hint)]) from None
        # As tomllib does, so that offsets in both mean the same.
        return cls(path, shown, text.replace("\r\n", "\n"))

    def parse(self) -> dict[str, Any]:
        """Returns the document.

        Raises:
            ManifestError: It is not TOML.
        """
        try:
            return tomllib.loads(self.text)
        except RecursionError:
            raise ManifestError([Problem(self.shown, None, None, "", "nested too deeply")]) from None
        except ValueError as error:  # TOMLDecodeError, or a number that Python refuses to read
            raise ManifestError([self._syntax_problem(str(error))]) from None

    def position(self, keys: Keys, at: Literal["key", "value"] = "key") -> Position | None:
        """Returns the line and column of a key, or of the nearest table around it; None for the root."""
        while keys:
            spot = self._spots.get(keys)
            if spot is not None:
                return line_and_column(self.text, spot.key if at == "key" else spot.value)
            keys = keys[:-1]
        return None

    def problem(
        self,
        keys: Keys,
        message: str,
        hint: str | None = None,
        *,
        at: Literal["key", "value"] = "key",
        place: Keys | None = None,
    ) -> Problem:
        """Builds a problem with `keys`, pointing at `place` where that is another key."""
        line, column = self.position(keys if place is None else place, at) or (None, None)
        return Problem(self.shown, line, column, dotted(keys), message, hint)

    @cached_property
    def _spots(self) -> dict[Keys, Spot]:
        """Scanned on the first problem only: a good manifest never pays for it."""
        return scan(self.text)

    def _syntax_problem(self, message: str) -> Problem:
        place = _PLACE.search(message)
        if place is None:
            return Problem(self.shown, None, None, "", f"not valid TOML: {message}")
        if place[1] is None:
            line, column = line_and_column(self.text, len(self.text))
        else:
            line, column = int(place[1]), int(place[2])
        reason = message[: place.start()]
        at_colon = self.text.split("\n")[line - 1][column - 1 :].startswith(":")
        hint = "a key with a colon in it must be quoted" if at_colon else None
        return Problem(
            self.shown, line, column, "", f"not valid TOML: {reason[:1].lower()}{reason[1:]}", hint
        )


def dotted(keys: Iterable[str | int]) -> str:
    """Writes a key path as TOML would: `components.site.imports."loop:fsx"`, `dirs[0]`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{quoted(key)}" if text else quoted(key)
    return text
