"""`use = "builtin:fsx"`: what a provider is and where it runs."""

from __future__ import annotations

import re
from pathlib import Path

from loop_kit.manifest._shape import Cursor, JsonSchema, Shape, did_you_mean
from loop_kit.manifest._text import absolute
from loop_kit.manifest._toml import string

__all__ = ["BUILTINS", "USE", "is_file"]

BUILTINS = ("core", "fsx")

_FORMS = '"builtin:NAME", "python:module:Class" or "component:NAME"'
_LATER = ("sidecar", "remote")
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_PYTHON = rf"{_DOTTED}:{_DOTTED}"


class _Use(Shape):
    expects = f"a provider such as {_FORMS}"

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: str, at: Cursor) -> tuple[str, str, str, Path | None] | None:
        """Returns the text, the placement, the target, and the file that a `component:` names, if it does."""
        placement, colon, target = value.partition(":")
        path = None
        if placement in _LATER and colon:
            at.problem(f"{placement}: is not available in this version", f"use {_FORMS}")
        elif placement not in ("builtin", "python", "component") or not colon:
            at.problem(f"expected {_FORMS}, got {string(value)}", _guess(value))
        elif placement == "builtin" and target not in BUILTINS:
            hint = did_you_mean(target, BUILTINS) or f"there are {', '.join(BUILTINS)}"
            at.problem(f"there is no builtin {string(target)}", hint)
        elif placement == "python" and not re.fullmatch(_PYTHON, target):
            at.problem(f'expected "python:module:Class", got {string(value)}')
        elif placement == "component" and (not target or "\0" in target):
            at.problem(f'expected "component:" and a name or a path, got {string(value)}')
        elif placement == "component" and is_file(target):
            path = absolute(target, at)
        return value, placement, target, path

    def schema(self, defs: JsonSchema) -> JsonSchema:
        forms = (f"builtin:({'|'.join(BUILTINS)})", f"python:{_PYTHON}", r"component:[^\u0000]+")
        examples = ["builtin:fsx", "python:my_module:MyProvider", "component:cache", "component:cache.wasm"]
        return {"type": "string", "pattern": f"^({'|'.join(forms)})$", "examples": examples}


USE = _Use()


def is_file(target: str) -> bool:
    """Whether a `component:` target is a file; else it is a component of the workspace."""
    return "/" in target or "\\" in target or target.endswith((".wasm", ".wat"))


def _guess(value: str) -> str | None:
    if value in BUILTINS:
        return f'did you mean "builtin:{value}"?'
    if is_file(value):
        return f"did you mean {string(f'component:{value}')}?"
    placement, colon, target = value.partition(":")
    near = did_you_mean(placement, ("builtin", "python", "component"))
    return near if colon and target else None
