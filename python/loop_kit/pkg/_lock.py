"""The table `[packages]` of `loop.lock`: what each package is, with checksums for every platform."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.manifest._toml import inline, key
from loop_kit.oci.blobs import is_digest
from loop_kit.pkg._model import Asked, File, Locked, Node, failed

__all__ = ["FILE_NAME", "changing", "read"]

FILE_NAME = "loop.lock"
_HEAD = "# Written by loop: do not edit. It pins what loop.toml asks for.\n"
_PLACE = re.compile(r"[^\x00-\x1f\x7f\\]+")
_RUNNERS = ("native", "node", "python", "cargo", "go")


def read(folder: Path) -> dict[str, Locked]:
    """The packages that are locked, by their aliases; none, where there is no lock.

    Raises:
        PackageError: The lock is damaged.
    """
    path = folder / FILE_NAME
    return {
        alias: _locked(path, alias, table) for alias, table in _document(path).get("packages", {}).items()
    }


def _document(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise failed(
            f"{path} cannot be read: {error}", "take it from where it was committed, or remove it"
        ) from None
    return document if isinstance(document.get("packages", {}), dict) else {**document, "packages": {}}


@contextmanager
def changing(folder: Path) -> Iterator[dict[str, Locked]]:
    """The same, to be changed: what is there when the `with` ends well is written, while nobody else writes."""
    path = folder / FILE_NAME
    guard = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        packages = read(folder)
        yield packages
        _write(path, packages)
    finally:
        os.close(guard)


def _write(path: Path, packages: Mapping[str, Locked]) -> None:
    old = path.read_text("utf-8") if path.exists() else ""
    text = _others(old)
    tables = "\n".join(_text(packages[alias]) for alias in sorted(packages))
    text = "\n".join(part for part in (text.rstrip("\n") + "\n" if text.strip() else _HEAD, tables) if part)
    if text == old:
        return
    tomllib.loads(text)  # what cannot be read is never written
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE_NAME}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _others(text: str) -> str:
    """The text without the tables of packages, each of which begins with its header."""
    kept, mine = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            mine = re.match(r"\[\[?packages[.\]]", line) is not None
        if not mine:
            kept.append(line)
    return "".join(kept)


def _text(locked: Locked) -> str:
    alias = key(locked.asked.alias)
    lines = [
        f"[packages.{alias}]",
        f"asked = {inline(str(locked.asked))}",
        f"layout = {inline(locked.layout)}",
    ]
    if locked.python:
        lines.append(f"python = {inline(locked.python)}")
    for node in locked.nodes:
        lines += [
            "",
            f"[[packages.{alias}.nodes]]",
            f"name = {inline(node.name)}",
            f"version = {inline(node.version)}",
        ]
        lines.append(f"at = {inline(node.at)}")
        if node.needs:
            lines.append(f"needs = {inline(list(node.needs))}")
        if node.optional:
            lines.append("optional = true")
        for file in node.files:
            said: dict[str, Any] = {
                "platforms": list(file.platforms),
                "file": file.file,
                "digest": file.digest,
            }
            said |= {"size": file.size} if file.size is not None else {}
            said |= {"archive": file.archive, "strip": file.strip}
            said |= {"only": list(file.only)} if file.only else {}
            said |= {"bins": [list(bin_) for bin_ in file.bins]} if file.bins is not None else {}
            lines.append(f"[[packages.{alias}.nodes.files]]")
            lines += [f"{name} = {inline(value)}" for name, value in said.items()]
    return "\n".join(lines) + "\n"


def _locked(path: Path, alias: str, table: Any) -> Locked:
    at = f"packages.{alias}"
    try:
        asked = Asked.parse(_str(table["asked"]), alias)
        nodes = tuple(_node(node) for node in table["nodes"])
        layout = _str(table["layout"])
        if not nodes or layout not in ("alone", "flat", "nested"):
            raise ValueError("it has no nodes")
        return Locked(asked, layout, _str(table.get("python", "")), nodes)
    except (KeyError, TypeError, ValueError, PackageError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise failed(
            f"{path}: {at} is damaged: {what}",
            "take it from where it was committed, or `loop pkg add` it again",
        ) from None


def _node(table: Any) -> Node:
    files = tuple(_file(file) for file in table["files"])
    needs = tuple(_str(need) for need in table.get("needs", ()))
    at = _place(table["at"], empty=True)
    return Node(
        _str(table["name"]), _str(table["version"]), at, files, needs, table.get("optional", False) is True
    )


def _file(table: Any) -> File:
    digest, size = _str(table["digest"]), table.get("size")
    if not is_digest(digest):
        raise ValueError(f"{digest[:80]!r} is no digest")
    if size is not None and (not isinstance(size, int) or size < 0):
        raise ValueError(f"{size!r} is no size")
    archive, strip = _str(table["archive"]), table.get("strip", 0)
    if archive not in ("plain", "tar", "zip") or not isinstance(strip, int) or not 0 <= strip <= 64:
        raise ValueError("archive or strip is none")
    bins = table.get("bins")
    known = None
    if bins is not None:
        known = tuple((_name(one[0]), _str(one[1]), _runner(one[2])) for one in bins)
    platforms = tuple(_str(one) for one in table["platforms"])
    only = tuple(_place(one) for one in table.get("only", ()))
    return File(platforms, _name(table["file"]), digest, size, archive, strip, only, known)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _name(value: Any) -> str:
    text = _str(value)
    if not _PLACE.fullmatch(text) or "/" in text or text in (".", ".."):
        raise ValueError(f"{text[:80]!r} is no name of a file")
    return text


def _place(value: Any, *, empty: bool = False) -> str:
    """A path that leads nowhere but down."""
    text = _str(value)
    if not text and empty:
        return text
    if not _PLACE.fullmatch(text) or any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError(f"{text[:80]!r} leads out of the folder")
    return text


def _runner(value: Any) -> str:
    if value not in _RUNNERS:
        raise ValueError(f"{value!r} runs nothing")
    return str(value)


name_checked, place_checked = _name, _place
