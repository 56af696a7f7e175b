"""Which files the pages of a workspace show, and which of them have really changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from loop_kit.capabilities.fsx._pattern import Pattern
from loop_kit.dev._inputs import Rule, given
from loop_kit.manifest import Component, Link, Manifest

__all__ = ["Assets", "assets_of"]

_KNOWN = 10_000
"""Files of which it is known what they held."""
_LARGEST = 8 << 20
"""Bytes of a file that is read to see whether it is another one; of a larger one its size and time tell."""


def assets_of(manifest: Manifest) -> tuple[Rule, ...]:
    """Which files the pages show: what a component that is served says, or the folders that it may read and not write.

    A folder that it writes to may be written for each page, which would load it anew without an end.
    """
    rules: list[Rule] = []
    # what is watched is told by where it really is
    real = os.path.realpath
    for component in manifest.components.values():
        if component.run != "serve" or not component.serve.live:
            continue
        if component.assets is not None:
            rules += [
                replace(rule, base=real(rule.base)) for rule in given(component.assets, manifest.folder)
            ]
        else:
            rules += [Rule(real(path), ignored=True) for path in _read_only(component, manifest)]
    return tuple(rules)


def _read_only(component: Component, manifest: Manifest) -> Iterator[str]:
    for folder in component.wasi.dirs:
        if folder.mode == "ro":
            yield str(folder.host)
    own = [*_files(component.imports.items())]
    for link in own or _files(manifest.links.items()):
        for root in link.grant.get("roots", {}).values():
            if root.get("mode", "ro") == "ro":
                yield str(root["path"])


def _files(links: Iterable[tuple[str, Link]]) -> Iterator[Link]:
    return (link for key, link in links if key.partition("/")[0].partition("@")[0] == "loop:fsx")


class Assets:
    """Knows what files held that pages show.

    Args:
        manifest: The workspace.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self.define(manifest)

    def define(self, manifest: Manifest) -> None:
        """Goes on with another manifest."""
        self._rules = assets_of(manifest)
        self._compiled: dict[str, Pattern] = {}
        self._bases = {rule.base for rule in self._rules}

    async def changed(self, paths: Iterable[Path]) -> list[str]:
        """Those of the paths that pages show and that hold something else than when they were told last."""
        shown = [text for path in paths if self._shows(text := str(path))]
        if not shown:
            return []
        digests = await asyncio.to_thread(lambda: [_digest(path) for path in shown])
        changed = []
        for path, digest in zip(shown, digests, strict=True):
            if self._known.get(path) != digest:
                changed.append(path)
            self._known[path] = digest
            self._known.move_to_end(path)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return changed

    def _shows(self, path: str) -> bool:
        if path in self._bases and os.path.isdir(path):
            return False  # it is told of as it begins to be watched
        shown = False
        for rule in self._rules:
            if shown != rule.take and rule.matches(path, self._compiled):
                shown = rule.take
        return shown


def _digest(path: str) -> str:
    """Tells what is there from what was there before."""
    try:
        found = os.stat(path)
        if os.path.isdir(path) or found.st_size > _LARGEST:
            return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "gone"
