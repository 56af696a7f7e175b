"""`[packages]` and `[resolvers]`: the tools of a workspace, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.manifest import model
from loop_kit.manifest._grants.netx import RULE
from loop_kit.manifest._shape import Cursor, Field, Free, ListOf, MapOf, Table, Text, did_you_mean
from loop_kit.manifest._text import absolute
from loop_kit.manifest._toml import string
from loop_kit.pkg._model import Asked

__all__ = ["PACKAGES", "RESOLVERS", "check_resolvers"]

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
    kind, _, rest = text.partition(":")
    if kind == "provider" and rest:
        return text
    if kind != "component" or not rest:
        known = f"one of {', '.join(_KINDS)}, component:FILE.wasm, or provider:NAME of [providers.NAME]"
        at.problem(f"{text!r} is no resolver", known)
        return None
    return absolute(rest, at)


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    use = raw.get("use")
    known = isinstance(use, str) and use in _KINDS
    for key in ("base",) if not known else ("downloads",):
        if key in raw:
            whose = "a kind that loop-kit knows" if key == "base" else "a component of your own"
            at.problem(f'"{key}" goes with {whose}', at="key", child=key)
    if str(use).startswith("provider:") and "config" in raw:
        name = str(use).partition(":")[2]
        at.problem(f"the config of a provider stands in [providers.{name}.config]", at="key", child="config")
    if use == "url" and "base" not in raw:
        at.problem('a source of URLs needs "base": the template of a file', child="use")


def check_resolvers(raw: Mapping[str, Any], at: Cursor) -> None:
    """Reports resolvers that are to be a provider which is not there."""
    resolvers, providers = raw.get("resolvers"), raw.get("providers")
    known = providers if isinstance(providers, dict) else {}
    for source, table in resolvers.items() if isinstance(resolvers, dict) else ():
        use = table.get("use") if isinstance(table, dict) else None
        name = str(use).partition(":")[2]
        if isinstance(use, str) and use.startswith("provider:") and name and name not in known:
            hint = did_you_mean(name, known) or f"add [providers.{name}]"
            here = at.child("resolvers").child(source)
            here.problem(f"there is no provider {string(name)}", hint, child="use")


def _resolver(use: Any = None, **rest: Any) -> model.Resolver:
    if not isinstance(use, str):
        return model.Resolver(kind=None, path=use, **rest)
    provider = use.partition(":")[2] or None
    return model.Resolver(kind=None if provider else use, provider=provider, **rest)


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
                    'a kind such as "url", "component:FILE.wasm" or "provider:NAME"',
                    parse=_use,
                    examples=("url", "component:build/acme.wasm", "provider:acme"),
                ),
                "What it is: a kind that loop-kit knows, or a component or a provider that exports loop:pkg/resolver.",
                required=True,
            ),
            "base": Field(
                Text("an address", r"^https?://[^\s\u0000]+$"),
                "Where it is, instead of where its client is configured; of `url`, the template of a file.",
            ),
            "config": Field(
                MapOf(Free()), "What the resolver is told: see docs/pkg.md. That of a provider is its own."
            ),
            "allow": Field(
                ListOf(RULE),
                "Servers that it may ask, as in a grant of loop:netx; a provider has them as its grant.",
            ),
            "downloads": Field(
                ListOf(RULE), "Servers that its files are fetched from, besides those of `allow`."
            ),
        },
        verify=_verify,
    ),
    key_pattern="^[a-z][a-z0-9_-]*$",
    key_expects="a name of lowercase letters, digits, - and _",
)
