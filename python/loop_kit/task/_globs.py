"""Patterns of files, as `sources` of a component are written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

__all__ = ["BUILT", "NEVER", "Globs"]

_WILD = re.compile(r"[*?\[{\\]")

NEVER = frozenset((
    ".git", ".hg", ".svn", ".jj", ".loop", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".tox", ".nox",
))  # fmt: skip
"""Folders in which nothing is anybody's input, unless a pattern begins with them; those of `loop dev`."""

BUILT = frozenset(("build", "dist", "target"))
"""Folders of what was built: no inputs of a task that names none."""


class Globs:
    """Some patterns, of which the last that matches decides.

    Attributes:
        bases: Files, and folders to be walked, from the workspace's folder: where what matches can be.
    """

    def __init__(self, at: str, patterns: Iterable[str]) -> None:
        """Takes patterns that are written in a folder.

        Args:
            at: The folder, from the workspace's.
            patterns: The patterns; `!` takes out.
        """
        self._rules: list[tuple[bool, str, str]] = []
        for pattern in patterns:
            take, text = not pattern.startswith("!"), pattern.removeprefix("!").rstrip("/")
            parts = text.split("/")
            literal = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
            base = os.path.normpath(os.path.join(at, *parts[:literal]) or ".")
            rest = "/".join(parts[literal:])
            # a pattern without a slash would match at any depth
            self._rules.append((take, base, f"/{rest}" if rest and not rest.startswith("**") else rest))
        self.bases = list(dict.fromkeys(base for take, base, _ in self._rules if take))

    @property
    def literals(self) -> list[str]:
        """The bases that stand for themselves, be they files or folders."""
        return list(dict.fromkeys(base for take, base, rest in self._rules if take and not rest))

    def takes(self, path: str) -> bool:
        """Whether they take a path, which is from the workspace's folder."""
        for take, base, rest in reversed(self._rules):
            if base == ".":
                below = path
            elif path == base:
                if not rest:
                    return take
                continue
            elif path.startswith(f"{base}/"):
                below = path[len(base) + 1 :]
            else:
                continue
            if not NEVER.isdisjoint(below.split("/")[:-1]):
                continue
            if rest in ("", "**") or _matches(rest, below):
                return take
        return False


_COMPILED: dict[str, object] = {}


def _matches(pattern: str, path: str) -> bool:
    from loop_kit.capabilities.fsx._pattern import Pattern  # which only those pay for who have such patterns

    compiled = _COMPILED.get(pattern)
    if compiled is None:
        compiled = _COMPILED[pattern] = Pattern(pattern)
    assert isinstance(compiled, Pattern)
    return compiled.step(compiled.start, path.encode("utf-8", "surrogateescape")).accepts
