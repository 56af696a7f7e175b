"""Adds to a `loop.toml` as a person would: comments, order and format of what is there stay.

Text is put in where it belongs, and is taken only if TOML's own parser then reads what was there and what was added,
nothing else; the result is checked as any manifest.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._load import loads
from loop_kit.manifest._scan import Block, blocks, scan
from loop_kit.manifest._source import dotted
from loop_kit.manifest._toml import inline, key
from loop_kit.manifest.model import Manifest

__all__ = ["Addition", "added", "difference", "save"]


@dataclass(frozen=True)
class Addition:
    """A table, or a value, that a manifest is to have.

    Attributes:
        keys: Where: `("providers", "kv")`.
        value: What stands there.
        comment: Lines above it.
        table: Whether it has a header of its own; else it is one line of the table that it stands in.
    """

    keys: tuple[str, ...]
    value: Mapping[str, Any] | str
    comment: tuple[str, ...] = ()
    table: bool = True


def added(manifest: Manifest, additions: Sequence[Addition]) -> Manifest:
    """The manifest with more in it, as it would stand in its file: see its `source.text`.

    Raises:
        ManifestError: There is something in one of the places already, there is no way to write it there, or what then
            stands there is not allowed.
    """
    text, document = manifest.source.text, manifest.source.parse()
    for one in additions:
        table: Any = document
        for name in one.keys[:-1]:
            table = table.setdefault(name, {})
        if one.keys[-1] in table:
            raise manifest.error(one.keys, "is there already")
        table[one.keys[-1]] = _plain(one.value)
        for candidate in _candidates(text, one):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                if tomllib.loads(candidate) == document:
                    text = candidate
                    break
        else:
            lines = "\n".join(_header(one))
            hint = f"it is written in a way that nothing can be added to; write it by hand:\n{lines}"
            raise manifest.error(one.keys, "cannot be added", hint)
    return loads(text, manifest.path, shown=manifest.source.shown)


def difference(old: Manifest, new: Manifest) -> str:
    """What differs between the texts of two manifests, as `diff -u` has it."""
    before, after = (manifest.source.text.splitlines(keepends=True) for manifest in (old, new))
    lines = difflib.unified_diff(before, after, old.source.shown, new.source.shown)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def save(old: Manifest, new: Manifest) -> None:
    """Has the file of a manifest hold another one, at once; a link goes on leading to it.

    Raises:
        ManifestError: It is not any more as it was read, or cannot be written.
    """
    try:
        path = old.path.resolve(strict=True)
        data = path.read_bytes()
        mark, rest = (data[:3], data[3:]) if data.startswith(b"\xef\xbb\xbf") else (b"", data)
        if rest.replace(b"\r\n", b"\n") != old.source.text.encode():
            raise old.error((), "has changed meanwhile", "do it again")
        text = new.source.text.encode()
        if b"\r\n" in rest:
            text = text.replace(b"\n", b"\r\n")
        _replace(path, mark + text)
    except OSError as e:
        problem = Problem(old.source.shown, None, None, "", f"cannot be written: {e.strerror or e}")
        raise ManifestError([problem]) from None


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.chmod(name, path.stat().st_mode & 0o7777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _candidates(text: str, one: Addition) -> Iterator[str]:
    """Texts that may be it, the one that a person would write first."""
    found = blocks(text)
    *path, last = one.keys
    line = f"{key(last)} = {inline(one.value)}"
    comment = [f"# {words}" for words in one.comment]
    if not one.table:
        if (block := _last(found, tuple(path))) is not None:
            yield _after(text, block.end, [*comment, line])
        under = _dotted_above(text, found, tuple(path))
        if under is not None:  # where `imports."a" = …` stands, others stand beside it
            rest = path[len(under.path) :]
            yield _after(text, under.end, [*comment, f"{dotted(rest)}.{line}"])
    kin = max(1, len(one.keys) - 2)  # what it is put below: others of its kind, or the rest of its component
    near = next((block for block in reversed(found) if block.path[:kin] == one.keys[:kin]), found[-1])
    for block in (near, found[-1]):
        yield _after(text, block.end or len(text), ["", *_header(one)], apart=True)
    spot = scan(text).get(tuple(path))
    if spot is not None and text[spot.value : spot.value + 1] == "{":
        head, tail = text[: spot.value + 1], text[spot.value + 1 :]
        yield f"{head} {line} {tail.lstrip()}" if tail.lstrip().startswith("}") else f"{head} {line},{tail}"


def _header(one: Addition) -> list[str]:
    """The lines of a table of its own, or of the table around a line."""
    keys, comment = one.keys, [f"# {words}" for words in one.comment]
    if one.table and isinstance(one.value, Mapping):
        lines = (f"{key(name)} = {inline(value)}" for name, value in one.value.items())
        return [*comment, f"[{dotted(keys)}]", *lines]
    return [f"[{dotted(keys[:-1])}]", *comment, f"{key(keys[-1])} = {inline(one.value)}"]


def _last(found: Sequence[Block], path: tuple[str, ...]) -> Block | None:
    return next((block for block in reversed(found) if block.path == path), None)


def _dotted_above(text: str, found: Sequence[Block], path: tuple[str, ...]) -> Block | None:
    """The block in which a table is made by dotted keys, where it is."""
    spots = scan(text)
    if path not in spots or _last(found, path) is not None:
        return None
    inside = [
        block for block in found if block.path == path[: len(block.path)] and len(block.path) < len(path)
    ]
    return max(inside, key=lambda block: len(block.path), default=None)


def _after(text: str, offset: int, lines: Sequence[str], *, apart: bool = False) -> str:
    """The text with lines put in below the line of an offset; `apart`: with an empty line before what follows."""
    at = text.find("\n", offset)
    head, tail = (text, "") if at < 0 else (text[: at + 1], text[at + 1 :])
    if head and not head.endswith("\n"):
        head += "\n"
    put = "\n".join(lines)
    end = "\n\n" if apart and tail and not tail.startswith("\n") else "\n"
    return f"{head}{put}{end}{tail}" if head else f"{put.lstrip()}{end}{tail}"


def _plain(value: Any) -> Any:
    """A value as TOML's parser gives it."""
    match value:
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case str():
            return value
        case Sequence():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
        case _:
            return value
