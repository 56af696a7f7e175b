"""`use = "builtin:fsx"`: what a provider is and where it runs."""

from __future__ import annotations

import re
from pathlib import Path

from loop_kit._address import CONNECT_PATTERN, EXAMPLES
from loop_kit._shipped import shipped, shipped_names
from loop_kit.manifest._artifact import ARTIFACT, SCHEMES, check_artifact
from loop_kit.manifest._shape import Cursor, JsonSchema, Shape, did_you_mean
from loop_kit.manifest._text import absolute
from loop_kit.manifest._toml import string

__all__ = ["BUILTINS", "USE", "anchored", "has_login", "is_file", "is_shipped"]

BUILTINS = ("core", "devserver", "fsx", "keyvalue", "netx", "process")
_ASIDE = tuple(name for name in BUILTINS if name != "devserver")  # which is the host itself

_FORMS = (
    '"builtin:NAME", "python:module:Class", "component:NAME", "sidecar:PROGRAM", "remote:ADDRESS" or '
    '"oci:REGISTRY/REPOSITORY:TAG"'
)
_PLACEMENTS = ("builtin", "python", "component", "sidecar", "remote", *SCHEMES)
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_PYTHON = rf"{_DOTTED}:{_DOTTED}"
_KINDS = ("builtin", "python", "node")
# A colon would be a kind that is not known; what has one in its name is given as `command`.
_PROGRAM = r"[^\u0000:]+"
_SIDECAR = rf"builtin:({'|'.join(_ASIDE)})|python:{_PYTHON}|node:[^\u0000]+|{_PROGRAM}"


class _Use(Shape):
    expects = f"a provider such as {_FORMS}"

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: str, at: Cursor) -> tuple[str, str, str, Path | None] | None:
        """Returns the text, the placement, the target, and the file that a `component:` names, if it does."""
        placement, colon, target = value.partition(":")
        path = None
        if placement not in _PLACEMENTS or not (colon or placement == "sidecar"):
            at.problem(f"expected {_FORMS}, got {string(value)}", _guess(value))
        elif placement in SCHEMES:
            check_artifact(value, at)
            return value, "oci", "", None
        elif placement == "builtin" and target not in BUILTINS:
            hint = did_you_mean(target, BUILTINS) or f"there are {', '.join(BUILTINS)}"
            at.problem(f"there is no builtin {string(target)}", hint)
        elif placement == "python" and not re.fullmatch(_PYTHON, target):
            at.problem(f'expected "python:module:Class", got {string(value)}')
        elif placement == "component" and (not target or "\0" in target):
            at.problem(f'expected "component:" and a name or a path, got {string(value)}')
        elif placement == "component" and is_shipped(target):
            path = _shipped(target, at)
        elif placement == "component" and is_file(target):
            path = absolute(target, at)
        elif placement == "sidecar" and colon:
            path = _sidecar(target, at)
        elif placement == "remote" and has_login(target, at):
            pass
        elif placement == "remote" and not re.fullmatch(CONNECT_PATTERN, target):
            at.problem(
                f"expected an address such as {string(EXAMPLES[1])}, got {string(target)}", _remote(target)
            )
        elif placement == "remote":
            target = anchored(target, at)
        return value, placement, target, path

    def schema(self, defs: JsonSchema) -> JsonSchema:
        forms = (
            f"builtin:({'|'.join(BUILTINS)})",
            f"python:{_PYTHON}",
            r"component:[^\u0000]+",
            f"sidecar(:({_SIDECAR}))?",
            f"remote:({CONNECT_PATTERN})",
            ARTIFACT,
        )
        examples = [
            "builtin:fsx", "python:my_module:MyProvider", "component:cache", "component:cache.wasm",
            "component:loop:core/virtual-clock", "sidecar:builtin:fsx", "sidecar:python:my_module:MyProvider",
            "sidecar:node:provider.js",
            "sidecar:bin/provider", f"remote:{EXAMPLES[1]}", "oci:registry.example/acme/kv:1.2.0",
        ]  # fmt: skip
        return {"type": "string", "pattern": f"^({'|'.join(forms)})$", "examples": examples}


USE = _Use()


def is_file(target: str) -> bool:
    """Whether a `component:` target is a file; else it is a component of the workspace, or ships with loop-kit."""
    return not is_shipped(target) and ("/" in target or "\\" in target or target.endswith((".wasm", ".wat")))


def is_shipped(target: str) -> bool:
    """Whether a `component:` target is one that ships with loop-kit: `loop:PACKAGE/WHAT`."""
    return target.startswith("loop:")


def anchored(address: str, at: Cursor) -> str:
    """The address, that of a socket's file from the manifest's folder."""
    scheme, _, path = address.partition(":")
    return f"{scheme}:{absolute(path, at)}" if scheme in ("unix", "shm") else address


def has_login(address: str, at: Cursor) -> bool:
    """Reports an address that says who one is, as URLs may, without repeating it."""
    found = re.match(r"[a-z0-9]+://[^/]*@", address) is not None
    if found:
        hint = 'write the address without it, and login = { user = "NAME", password = { env = "NAME" } }'
        at.problem("a login does not stand in an address, which is shown to everybody", hint)
    return found


def _guess(value: str) -> str | None:
    if value in BUILTINS:
        return f'did you mean "builtin:{value}"?'
    if is_file(value):
        return f"did you mean {string(f'component:{value}')}?"
    placement, colon, target = value.partition(":")
    near = did_you_mean(placement, _PLACEMENTS)
    return near if colon and target else None


def _shipped(target: str, at: Cursor) -> Path | None:
    """The file of a component that ships with loop-kit."""
    known = {f"loop:{name}": name for name in shipped_names()}
    if target not in known:
        hint = did_you_mean(target, known) or f"there are {', '.join(known)}"
        at.problem(f"no component {string(target)} ships with loop-kit", hint)
        return None
    return shipped(known[target]).path


def _sidecar(target: str, at: Cursor) -> Path | None:
    """Checks what follows `sidecar:`, and returns its file, if it names one."""
    kind, colon, rest = target.partition(":")
    if re.fullmatch(_SIDECAR, target):
        if colon:
            return absolute(rest, at) if kind == "node" else None
        return absolute(target, at) if "/" in target else None
    if kind == "builtin" and colon:
        hint = did_you_mean(rest, _ASIDE) or f"there are {', '.join(_ASIDE)}"
        at.problem(f"there is no builtin {string(rest)} for a sidecar", hint)
    elif kind == "python" and colon:
        at.problem(f'expected "sidecar:python:module:Class", got {string(f"sidecar:{target}")}')
    else:
        hint = did_you_mean(kind, _KINDS) or 'use = "sidecar" with command = ["PROGRAM"] takes any name'
        expected = 'expected "sidecar:python:module:Class", "sidecar:node:FILE" or "sidecar:PROGRAM"'
        at.problem(f"{expected}, got {string(f'sidecar:{target}')}", hint)
    return None


def _remote(target: str) -> str | None:
    """What was probably meant by an address that is none."""
    scheme, colon, rest = target.partition(":")
    if scheme == "stdio":
        return "pipes lead to a process that this host starts: write `sidecar:`"
    if scheme in ("wss", "https"):
        instead = "ws" if scheme == "wss" else "http2"
        return f"write {string(f'{instead}:{rest}')} and add `tls`"
    if not colon:
        return (
            f"did you mean {string(f'remote:unix:{target}' if '/' in target else f'remote:tcp://{target}')}?"
        )
    return did_you_mean(scheme, ("unix", "shm", "pipe", "tcp", "quic", "http2", "ws", "nats"))
