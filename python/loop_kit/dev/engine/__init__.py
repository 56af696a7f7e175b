"""Engines: components that are built once for a world, and then given code instead of being built anew.

What `loop dev` serves of such a component is one file as of any other, an engine with the code in a section of its own,
so that its digest is that of both. `docs/live.md` says how it is used, `docs/adr/023-live.md` why it is so.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop_kit.errors import CallError, LoadError

if TYPE_CHECKING:
    from loop_kit.pkg import Tools

__all__ = ["SOURCE", "Code", "accept", "join", "recipe", "split", "wants_code"]

SOURCE = "loop:devserver/source"
"""The interface by which an engine is given its code."""

TOOLS = ("esbuild", "componentize-qjs")
"""What scripts take, of their own folders or else of the workspace."""

_HOT = "loop:devserver/hot"
_SECTION = b"loop:code"
_HEAD = 8
"""Bytes before the first section of a component."""


@dataclass(frozen=True, slots=True)
class Code:
    """`loop:devserver/source` of one component: what its engine runs.

    Attributes:
        text: In the language of the engine.
        source_map: Where each part of it was written, as JSON, or "".
    """

    text: str
    source_map: str

    def given(self) -> dict[str, str]:
        """As the interface has it."""
        return {"text": self.text, "source_map": self.source_map}


def join(engine: bytes, code: Code) -> bytes:
    """A component that is an engine with its code."""
    data = json.dumps(code.given(), separators=(",", ":")).encode()
    body = _size(len(_SECTION)) + _SECTION + data
    return engine + b"\0" + _size(len(body)) + body


def split(wasm: bytes) -> tuple[bytes, Code | None]:
    """The engine and its code; as it is and None, of a component that has none."""
    at = _HEAD
    try:
        while at < len(wasm):
            start, kind = at, wasm[at]
            size, at = _sized(wasm, at + 1)
            if kind == 0 and at + size == len(wasm):
                length, name = _sized(wasm, at)
                if wasm[name : name + length] == _SECTION:
                    return wasm[:start], Code(**json.loads(wasm[name + length :]))
            at += size
    except (IndexError, TypeError, ValueError):
        pass  # what it is instead is told where it is loaded
    return wasm, None


def recipe(tools: Tools) -> str:
    """Changes when what makes engines, and code for them, does.

    Args:
        tools: Those of the workspace.
    """
    return " ".join((_own(), *tools.identities(TOOLS)))


@functools.cache
def _own() -> str:
    files = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".js", ".mjs", ".py"))
    return hashlib.sha256(b"\0".join([path.read_bytes() for path in files])).hexdigest()


def wants_code(imports: Iterable[str]) -> str | None:
    """The name, among those of a component's imports, by which it asks for its code."""
    return next((name for name in imports if name.partition("@")[0] == SOURCE), None)


async def accept(app: object, name: str) -> None:
    """Has an engine take up its code.

    Raises:
        LoadError: It cannot: why, with file and line.
    """
    from loop_kit._types import Err

    try:
        await app.call(f"{_HOT}#accept")  # type: ignore[attr-defined]
    except Err as error:
        raise LoadError(f"{name} cannot take up its code: {error.value}") from None
    except CallError as error:
        raise LoadError(f"{name} cannot take up its code: {error}") from None


def _size(number: int) -> bytes:
    """As WebAssembly writes numbers."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _sized(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
        if shift > 35:
            raise ValueError("a number of more than 32 bits")
