"""Which files of the workspace a provider in Python or JavaScript imports, and those in turn."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from loop_kit.dev._files import below

__all__ = ["Imports"]

_MOST = 5000
"""Files of one provider."""

_LONGEST = 4 << 20

_JS = re.compile(
    r"""(?:\bfrom|\bimport|\brequire|\bresolve)\s*\(?\s*(?P<q>["'`])(?P<path>\.{1,2}/[^"'`\n]*)(?P=q)"""
    r"""|\bnew\s+URL\(\s*(?P<p>["'`])(?P<url>\.{1,2}/[^"'`\n]*)(?P=p)"""
)
_JS_ENDINGS = (
    "",
    ".js",
    ".mjs",
    ".cjs",
    ".ts",
    ".mts",
    ".json",
    "/index.js",
    "/index.mjs",
    "/index.ts",
    "/package.json",
)
_JS_FILES = (".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx")

Digest = Callable[[str], Awaitable[str | None]]


class Imports:
    """Follows imports; what a file says is read once for each of its contents.

    Args:
        folder: Where Python looks for modules: the workspace's.
        known: What `keep` returned last time.
    """

    def __init__(self, folder: Path, known: dict[str, list[str]] | None = None) -> None:
        self.folder = folder
        self._known = dict(known or {})
        self._used: dict[str, list[str]] = {}

    def keep(self) -> dict[str, list[str]]:
        """What files say, by their digests."""
        return dict(self._used)

    async def closure(self, entry: Path, digest: Digest) -> frozenset[str]:
        """The files that `entry` is made of, itself among them, whether or not it is there.

        Only files in the workspace's folder count, and of these not what is installed there.
        """
        found = {str(entry)}
        if entry.suffix == ".py":
            found.update(self._packages(entry))
        waiting = sorted(found)
        while waiting and len(found) < _MOST:
            path = waiting.pop()
            kept = await digest(path)
            if kept is None:
                continue
            said = self._known.get(kept)
            if said is None:
                said = _said(path)
                self._known[kept] = said
            self._used[kept] = said
            resolve = self._python if path.endswith(".py") else self._javascript
            for other in resolve(path, said):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return frozenset(found)

    def _packages(self, path: Path) -> Iterator[str]:
        """The `__init__.py` of each package that a module is in."""
        for above in path.parents:
            if above == self.folder or not above.is_relative_to(self.folder):
                return
            if (init := above / "__init__.py").is_file():
                yield str(init)

    def _python(self, path: str, said: list[str]) -> Iterator[str]:
        root = str(self.folder)
        for name in said:
            dots = len(name) - len(name.lstrip("."))
            base = root
            if dots:
                base = path
                for _ in range(dots):
                    base = os.path.dirname(base)
                if not below(base, root):
                    continue
                yield from self._module(base)
            # `from a.b import c`: c may be a module, or a name in a.b; a.b is run either way
            for part in name[dots:].split(".") if name[dots:] else ():
                base = f"{base}/{part}"
                found = list(self._module(base))
                if not found and not os.path.isdir(base):
                    break
                yield from found

    def _module(self, base: str) -> Iterator[str]:
        if base != str(self.folder):
            yield from (file for file in (f"{base}/__init__.py", f"{base}.py") if os.path.isfile(file))

    def _javascript(self, path: str, said: list[str]) -> Iterator[str]:
        for name in said:
            base = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if not below(base, str(self.folder)):
                continue
            bases = [base]
            stem, dot, ending = base.rpartition(".")
            if dot and ending in ("js", "mjs"):  # TypeScript names what a file becomes
                bases.append(f"{stem}.{ending[:-2]}ts")
            candidates = (one + ending for one in bases for ending in _JS_ENDINGS)
            yield from [path for path in candidates if os.path.isfile(path)][:1]


def _said(path: str) -> list[str]:
    """What a file imports, as it says it: `.a.b` and `a.b` of Python, `./a.js` of JavaScript."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(_LONGEST)
    except OSError:
        return []
    if path.endswith(_JS_FILES):
        matches = _JS.finditer(text.decode("utf-8", "replace"))
        return sorted({found["path"] or found["url"] for found in matches})
    if not path.endswith(".py"):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    said: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            said.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            said.add(start)
            joint = "" if start.endswith(".") or not start else "."
            said.update(f"{start}{joint}{alias.name}" for alias in node.names if alias.name != "*")
    return sorted(said)
