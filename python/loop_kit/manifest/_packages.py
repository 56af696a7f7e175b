"""`[packages]` and `[resolvers]`: the tools of a workspace, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.manifest import model
from loop_kit.manifest._grants.netx import RULE
from loop_kit.manifest._shape import Cursor, Field, Free, ListOf, MapOf, Table, Text
from loop_kit.manifest._text import absolute
from loop_kit.pkg._model import Asked

__all__ = ["PACKAGES", "RESOLVERS"]

_KINDS = ("crates", "github", "go", "npm", "oci", "pypi", "url")


def _asked(text: str, at: Cursor) -> Any:
    try:
        return Asked.parse(text, str(at.keys[-1]))
    except PackageError as error:
        at.problem(str(error), error.hint)
        return None


def _use(text: str, at: Cursor) -> Any:
    if text in _KINDS:
        return text
    kind, _, path = text.partition(":")
    if kind != "component" or not path:
        at.problem(f"{text!r} is no resolver", f"one of {', '.join(_KINDS)}, or component:FILE.wasm")
        return None
    return absolute(path, at)


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    use = raw.get("use")
    known = isinstance(use, str) and use in _KINDS
    for key in ("base",) if not known else ("downloads",):
        if key in raw:
            whose = "a kind that loop-kit knows" if key == "base" else "a component of your own"
            at.problem(f'"{key}" goes with {whose}', at="key", child=key)
    if use == "url" and "base" not in raw:
        at.problem('a source of URLs needs "base": the template of a file', child="use")


def _resolver(use: Any = None, **rest: Any) -> model.Resolver:
    kind = use if isinstance(use, str) else None
    return model.Resolver(kind=kind, path=None if kind else use, **rest)


PACKAGES = MapOf(
    Text(
        'a package such as "npm:esbuild@^0.28"',
        r"^[^\u0000-\u001f]+$",
        _asked,
        ("npm:esbuild@^0.28", "pypi:ruff", "github:BurntSushi/ripgrep@14"),
    ),
    key_pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    key_expects="a name of letters, digits, -, _ and .",
)

RESOLVERS = MapOf(
    Table(
        "resolver",
        "A source of packages.",
        _resolver,
        {
            "use": Field(
                Text(
                    'a kind such as "url", or "component:FILE.wasm"',
                    parse=_use,
                    examples=("url", "component:build/acme.wasm"),
                ),
                "What it is: a kind that loop-kit knows, or a component that exports loop:pkg/resolver.",
                required=True,
            ),
            "base": Field(
                Text("an address", r"^https?://[^\s\u0000]+$"),
                "Where it is, instead of where its client is configured; of `url`, the template of a file.",
            ),
            "config": Field(MapOf(Free()), "What the resolver is told: see docs/pkg.md."),
            "allow": Field(ListOf(RULE), "Servers that it may ask, as in a grant of loop:netx."),
            "downloads": Field(
                ListOf(RULE), "Servers that its files are fetched from, besides those of `allow`."
            ),
        },
        verify=_verify,
    ),
    key_pattern="^[a-z][a-z0-9_-]*$",
    key_expects="a name of lowercase letters, digits, - and _",
)
