"""Types for Python and TypeScript from WIT: of a package, a world, or what a component imports and exports.

    from loop_kit import bind

    bind.write("bindings.py", bind.python("wit/"))

They say what the host and the SDKs pass and take, and convert nothing. `docs/bind.md` shows how they are used.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_kit._types import snake
from loop_kit.bind._model import Bound
from loop_kit.bind._python import module
from loop_kit.bind._resolve import bound, worlds
from loop_kit.bind._typescript import declarations
from loop_kit.errors import LoadError

__all__ = [
    "LANGUAGES", "MARK", "Bindings", "bindings", "is_current", "python", "typescript", "worlds", "write",
]  # fmt: skip

LANGUAGES = ("python", "typescript")
MARK = "Made by `loop bind` from "
"""How the first comment of what is made begins."""

Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Bindings:
    """What was made of WIT.

    Attributes:
        text: The module, or the declarations.
        source: What it came from: `acme:kv@0.1.0`, or the name of the world or interfaces.
        digest: SHA-256 of the WIT, hexadecimal.
        imports: The interfaces that a component asks for, and a provider gives.
        exports: Those that a component gives, and its host calls.
        file: What it would be called in a folder.
    """

    text: str
    source: str
    digest: str
    imports: tuple[str, ...]
    exports: tuple[str, ...]
    file: str


def bindings(
    source: Source,
    language: str = "python",
    *,
    world: str | None = None,
    interfaces: Sequence[str] = (),
    guest: bool = False,
) -> Bindings:
    """Types of what is at `source`, and what they are of.

    Args:
        source: A file or folder of WIT with its `deps`, or a component.
        language: One of LANGUAGES.
        world: The world whose imports and exports are wanted; of a component it is the component's own.
        interfaces: The interfaces that are wanted, with or without package and version; none: those of the package.
        guest: For a component in JavaScript instead of a provider or its user. Needs TypeScript.

    Raises:
        LoadError: It is no WIT and no component, is not sound, or lacks what is asked for.
        ValueError: There is no such language, or none for guests.
        OSError: It cannot be read.
    """
    if language not in LANGUAGES:
        raise ValueError(f"{language!r} is none of {', '.join(LANGUAGES)}")
    if guest and language != "typescript":
        raise ValueError(
            "guests in Python have `componentize-py bindings`; only TypeScript has types for guests here"
        )
    try:
        found = bound(source, world, interfaces)
        text = module(found) if language == "python" else declarations(found, guest)
    except RecursionError:
        raise LoadError(f"{source}: its types nest too deeply to be written") from None
    imports, exports = (tuple(i.name for i in side if i.name) for side in (found.imports, found.exports))
    return Bindings(text, found.title, found.digest, imports, exports, _file(source, found, language))


def python(source: Source, *, world: str | None = None, interfaces: Sequence[str] = ()) -> str:
    """A Python module: the arguments, and what it raises, are those of `bindings`."""
    return bindings(source, "python", world=world, interfaces=interfaces).text


def typescript(
    source: Source, *, world: str | None = None, interfaces: Sequence[str] = (), guest: bool = False
) -> str:
    """Declarations for TypeScript: the arguments, and what it raises, are those of `bindings`."""
    return bindings(source, "typescript", world=world, interfaces=interfaces, guest=guest).text


def write(file: Source, text: str) -> bool:
    """Has `text` in the file; whether it was not there before. What is the same already is not touched.

    Whoever reads the file meanwhile sees the old text or the new, never a part.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(file)
    if is_current(path, text):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as made:
            made.write(text)
            os.fchmod(descriptor, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return True


def is_current(file: Source, text: str) -> bool:
    """Whether the file has this text already."""
    try:
        return Path(file).read_bytes() == text.encode()
    except FileNotFoundError:
        return False


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def _file(source: Source, found: Bound, language: str) -> str:
    """Named after the package or world; after the file where it is a component."""
    name = Path(source).stem if found.component else found.title.partition(",")[0].partition("@")[0]
    words = "".join(c if c.isalnum() else "-" for c in name).strip("-").lower()
    return f"{snake(words)}.py" if language == "python" else f"{words}.d.ts"
