"""The table `packages` of `loop.lock`: what each package is, with checksums for every platform."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop_kit import lock as _file_of_all
from loop_kit.errors import PackageError
from loop_kit.oci.blobs import is_digest
from loop_kit.pkg._model import Asked, File, Locked, Node, failed

__all__ = ["bin_checked", "changing", "name_checked", "place_checked", "read"]

_PLACE = re.compile(r"[^\x00-\x1f\x7f\\]+")
_RUNNERS = ("native", "node", "python", "cargo", "go")


def read(path: Path) -> dict[str, Locked]:
    """The packages that are locked, by their aliases; none, where there is no lock.

    Raises:
        ManifestError: The lock cannot be read.
        PackageError: What it has of packages is damaged.
    """
    return _packages(path, _file_of_all.read(path))


def _packages(path: Path, whole: _file_of_all.Lock) -> dict[str, Locked]:
    tables = whole.others.get("packages", {})
    if not isinstance(tables, dict):
        raise failed(f"{path}: packages is no table", "take it from where it was committed")
    return {alias: _locked(path, alias, table) for alias, table in tables.items()}


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Locked]]:
    """The same, to be changed: what is there when the `with` ends well is written, while nobody else writes."""
    with _file_of_all.changing(path) as change:
        packages = _packages(path, change.lock)
        yield packages
        others = {name: value for name, value in change.lock.others.items() if name != "packages"}
        if packages:
            others["packages"] = {alias: _said(packages[alias]) for alias in sorted(packages)}
        change.write(dataclasses.replace(change.lock, others=others))


def _key_of(locked: Locked, node: Node) -> str:
    """What tells a package of a tree from the others."""
    return node.at if locked.layout == "nested" else node.name


def _said(locked: Locked) -> dict[str, Any]:
    said: dict[str, Any] = {"asked": str(locked.asked), "layout": locked.layout}
    if locked.python:
        said["python"] = locked.python
    if locked.signed:
        said["signed"] = list(locked.signed)
    said["root"] = _key_of(locked, locked.nodes[0])
    said["nodes"] = {_key_of(locked, node): _said_of(node) for node in locked.nodes}
    return said


def _said_of(node: Node) -> dict[str, Any]:
    said: dict[str, Any] = {"name": node.name, "version": node.version, "at": node.at}
    said |= {"needs": list(node.needs)} if node.needs else {}
    said |= {"optional": True} if node.optional else {}
    files = {}
    for file in node.files:
        one: dict[str, Any] = {"platforms": list(file.platforms), "digest": file.digest}
        one |= {"size": file.size} if file.size is not None else {}
        one |= {"archive": file.archive, "strip": file.strip}
        one |= {"only": list(file.only)} if file.only else {}
        one |= {"bins": [list(bin_) for bin_ in file.bins]} if file.bins is not None else {}
        files[file.file] = one
    return said | {"files": files}


def _locked(path: Path, alias: str, table: Any) -> Locked:
    at = f"packages.{alias}"
    try:
        asked = Asked.parse(_str(table["asked"]), alias)
        named = {name: _node(node) for name, node in table["nodes"].items()}
        root = named.pop(_str(table["root"]))
        nodes = (root, *(named[name] for name in sorted(named)))
        layout = _str(table["layout"])
        if layout not in ("alone", "flat", "nested"):
            raise ValueError(f"{layout!r} is no layout")
        signed = tuple(_str(name) for name in table.get("signed", ()))
        return Locked(asked, layout, _str(table.get("python", "")), nodes, signed)
    except (AttributeError, KeyError, TypeError, ValueError, PackageError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise failed(
            f"{path}: {at} is damaged: {what}",
            "take it from where it was committed, or `loop pkg add` it again",
        ) from None


def _node(table: Any) -> Node:
    files = tuple(_file(name, file) for name, file in sorted(table["files"].items()))
    needs = tuple(_str(need) for need in table.get("needs", ()))
    at = place_checked(table["at"], empty=True)
    return Node(
        _str(table["name"]), _str(table["version"]), at, files, needs, table.get("optional", False) is True
    )


def _file(name: str, table: Any) -> File:
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
        known = tuple(bin_checked(one[0], one[1], one[2]) for one in bins)
    platforms = tuple(_str(one) for one in table["platforms"])
    only = tuple(place_checked(one) for one in table.get("only", ()))
    return File(platforms, name_checked(name), digest, size, archive, strip, only, known)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def name_checked(value: Any) -> str:
    """A name of a file, without a folder.

    Raises:
        PackageError: It is none.
    """
    text = _str(value)
    if not _PLACE.fullmatch(text) or "/" in text or text in (".", ".."):
        raise failed(f"{text[:80]!r} is no name of a file")
    return text


def place_checked(value: Any, *, empty: bool = False) -> str:
    """A path that leads nowhere but down.

    Raises:
        PackageError: It is none.
    """
    text = _str(value)
    if not text and empty:
        return text
    if not _PLACE.fullmatch(text) or any(part in ("", ".", "..") for part in text.split("/")):
        raise failed(f"{text[:80]!r} leads out of the folder")
    return text


def bin_checked(name: Any, path: Any, runner: Any) -> tuple[str, str, str]:
    """A program: its name, where it is, and what runs it.

    Raises:
        PackageError: It is none.
    """
    if runner not in _RUNNERS:
        raise failed(f"{runner!r} runs nothing")
    at = _str(path) if runner == "python" or path == "." else place_checked(path)
    return name_checked(name), at, str(runner)
