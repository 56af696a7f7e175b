"""`[providers.NAME]`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_kit._address import EXAMPLES, LISTEN_PATTERN
from loop_kit.manifest import model
from loop_kit.manifest._bind import BIND
from loop_kit.manifest._pack import PROVIDER_PACK
from loop_kit.manifest._secrets import SECRET, Secrets, with_secrets
from loop_kit.manifest._shape import (
    Bool,
    Choice,
    Cursor,
    Duration,
    Either,
    Field,
    Free,
    ListOf,
    MapOf,
    Table,
    Text,
)
from loop_kit.manifest._text import ENV_NAME, FILE, SOURCE, TEXT, absolute
from loop_kit.manifest._toml import string
from loop_kit.manifest._use import USE, anchored, has_login

__all__ = ["PROVIDER", "means", "of_sidecars"]

# Code of the user's own, in the host's process: what ships with loop-kit is trusted with it.
_NEEDS_TRUST = rf"^python:(?!{re.escape(model.SHIPPED)})"
_OWN = r"^(python|sidecar)(:(?!builtin:)|$)"
_MADE = r"^(python|sidecar|component)(:(?!builtin:)|$)"
_SIDECAR, _REMOTE, _BARE = "^(sidecar(:|$)|oci:|oci-layout:)", "^remote:", "^sidecar$"

# Which keys only mean something where the provider runs elsewhere.
_SIDECAR_KEYS = (
    "args", "env", "transport", "address", "isolate", "start-timeout", "stop-timeout",
)  # fmt: skip
_REMOTE_KEYS = ("tls", "token")
_ELSEWHERE = rf"{_SIDECAR}|{_REMOTE}"
_PLACES = (
    (_BARE, ("command",), '`use = "sidecar"`'),
    (_SIDECAR, _SIDECAR_KEYS, "`sidecar:`"),
    (_REMOTE, _REMOTE_KEYS, "`remote:`"),
    (_ELSEWHERE, ("handshake", "login"), "`sidecar:` and `remote:`"),
    (_OWN, ("sources", "bind"), "`python:` and `sidecar:`"),
    (_MADE, ("pack",), "`python:`, `sidecar:` and `component:`"),
)


def means(key: str, use: str) -> bool:
    """Whether a key of the table means anything for such a provider."""
    return all(re.search(pattern, use) for pattern, keys, _ in _PLACES if key in keys)


def of_sidecars(table: Mapping[str, Any]) -> list[str]:
    """The keys of a provider's table that mean something for one in a process of its own alone."""
    return [key for key in table if key in (*_SIDECAR_KEYS, "handshake", "login")]


class _Command(ListOf):
    """The program and its arguments; a program with a slash is a path from the manifest's folder."""

    def read(self, value: list[object], at: Cursor) -> tuple[Any, ...]:
        argv = super().read(value, at)
        if argv and isinstance(argv[0], str) and "/" in argv[0]:
            return (str(absolute(argv[0], at.child(0))), *argv[1:])
        return argv


class _Listen(Text):
    def read(self, value: str, at: Cursor) -> Any:
        return None if has_login(value, at) else super().read(value, at)


class _Token(Secrets):
    """A secret alone: one that stands in the file is refused, and not repeated."""

    def check(self, value: object, at: Cursor) -> Any:
        if isinstance(value, str):
            at.problem(f"expected {self.expects}, not the secret itself", _reference(value))
            return None
        return super().check(value, at)


_NAMED = _Token(**vars(SECRET))


def _reference(text: str) -> str | None:
    kind, colon, name = text.partition(":")
    named = colon and kind in ("env", "file") and re.fullmatch(r"[A-Za-z0-9_./-]+", name)
    return f"write {{ {kind} = {string(name)} }}" if named else None


def _tls(**values: Any) -> model.Tls:
    return model.Tls(**{key.replace("-", "_"): value for key, value in values.items()})


def _both(raw: Mapping[str, Any], at: Cursor) -> None:
    if ("certificate" in raw) != ("key" in raw):
        at.problem('"certificate" and "key" go together')


TLS = Table(
    "tls",
    "How the connection is secured. An empty table trusts the authorities that the system trusts.",
    _tls,
    {
        "ca": Field(FILE, "Certificates, as PEM, of the authorities to trust instead of the system's."),
        "certificate": Field(FILE, "This host's own certificate, as PEM, for a provider that asks for one."),
        "key": Field(FILE, "The private key of `certificate`, as PEM."),
        "server-name": Field(
            TEXT, "The name that the provider's certificate must have, if not the address's."
        ),
    },
    verify=_both,
    also={"dependentRequired": {"certificate": ["key"], "key": ["certificate"]}},
)


def _one_login(raw: Mapping[str, Any], at: Cursor) -> None:
    if {*raw} not in ({"user", "password"}, {"token"}, {"credentials"}):
        at.problem('a login has "user" and "password", or "token", or "credentials"')


LOGIN = Table(
    "login",
    "Whom to be at a NATS server.",
    lambda **values: model.Login(**values),
    {
        "user": Field(TEXT, "The user's name."),
        "password": Field(_NAMED, "Secret that is its password."),
        "token": Field(_NAMED, "Secret that is the token."),
        "credentials": Field(
            _NAMED, "Secret that is what a file of credentials holds, or one of an NKey's seed."
        ),
    },
    verify=_one_login,
    also={
        "oneOf": [
            {"required": ["user", "password"], "maxProperties": 2},
            {"required": ["token"], "maxProperties": 1},
            {"required": ["credentials"], "maxProperties": 1},
        ]
    },
)


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    use = raw.get("use")
    if not isinstance(use, str):
        return
    if re.match(_NEEDS_TRUST, use) and raw.get("trusted") is not True:
        remedy = "add `trusted = true` if you trust this code, or sandbox it as a component"
        at.problem("runs inside the host with all its rights, so it must be trusted", remedy, child="use")
    for pattern, keys, where in _PLACES:
        for key in keys:
            if key in raw and not re.search(pattern, use):
                at.problem(f"{string(key)} is a key of {where} providers", at="key", child=key)
    if use == "sidecar" and "command" not in raw:
        remedy = 'add command = ["PROGRAM", "ARGUMENT"], or write "sidecar:PROGRAM"'
        at.problem("has no command", remedy, child="use")


def _if_use(pattern: str) -> dict[str, Any]:
    return {"properties": {"use": {"type": "string", "pattern": pattern}}, "required": ["use"]}


def _provider(name: str, use: tuple[str, str, str, Path | None], **values: Any) -> model.Provider:
    text, placement, target, path = use
    given = {key.replace("-", "_"): value for key, value in values.items()}
    if placement == "remote":
        given["transport"] = target.partition(":")[0]
    elif placement in ("sidecar", "oci") and "transport" not in given:
        scheme, colon, _ = given.get("address", "").partition(":")
        given["transport"] = scheme if colon else "pipe" if os.name == "nt" else "unix"
    artifact = model.Artifact(text) if placement == "oci" else None
    return model.Provider(name, text, placement, target, path, artifact=artifact, **given)  # type: ignore[arg-type]


PROVIDER = Table(
    "provider",
    "Whatever exports a capability.",
    _provider,
    {
        "use": Field(USE, "What it is and where it runs.", required=True),
        "config": Field(
            MapOf(Free(with_secrets)),
            "Passed to the provider when it starts. Secrets may stand anywhere in it.",
        ),
        "trusted": Field(
            Bool(),
            "Whether this code may run inside the host, with all the host's rights. Required for `python:` "
            "unless it ships with loop-kit.",
            default=False,
        ),
        "command": Field(
            _Command(TEXT, minimum=1),
            "The program of a sidecar and its arguments. A program with a / is a path; any other is looked up in PATH.",
        ),
        "args": Field(
            ListOf(TEXT),
            "More arguments of a sidecar. {address}, {host}, {port} and {path} stand for where it must listen.",
        ),
        "env": Field(
            MapOf(Either((TEXT, SECRET)), key_pattern=ENV_NAME.pattern, key_expects=ENV_NAME.expects),
            "Environment variables of a sidecar, which has few others.",
        ),
        "transport": Field(
            Choice(model.TRANSPORTS),
            'What a sidecar is reached by: "unix" by default ("pipe" on Windows).',
            default="unix",
        ),
        "address": Field(
            _Listen("an address to listen on", f"^({LISTEN_PATTERN})$", anchored, EXAMPLES),
            "Where a sidecar listens, if not at a private socket or any free port of 127.0.0.1.",
        ),
        "handshake": Field(
            Bool(),
            "False for a program that serves plain wRPC and knows nothing of loop-kit.",
            default=True,
        ),
        "isolate": Field(
            Bool(), "Whether each link has a process of its own, trusted with its grant alone.", default=False
        ),
        "start-timeout": Field(Duration(), "How long a sidecar may take until it is ready.", default="10s"),
        "stop-timeout": Field(
            Duration(), "How long a sidecar may take to end before it is killed.", default="5s"
        ),
        "tls": Field(TLS, TLS.doc),
        "token": Field(_NAMED, "Secret that the remote provider asks for. It is never in this file itself."),
        "login": Field(LOGIN, LOGIN.doc),
        "sources": Field(
            ListOf(SOURCE, minimum=1),
            "Patterns of the files that it is made of, if not those that its own file imports; for `loop dev`.",
        ),
        "bind": Field(BIND, BIND.doc),
        "pack": Field(PROVIDER_PACK, PROVIDER_PACK.doc),
    },
    named=True,
    verify=_verify,
    also={
        "allOf": [
            {
                "if": _if_use(_NEEDS_TRUST),
                "then": {"properties": {"trusted": {"const": True}}, "required": ["trusted"]},
            },
            {"if": _if_use(_BARE), "then": {"required": ["command"]}},
            *(
                {"if": _if_use(pattern), "else": {"properties": dict.fromkeys(keys, False)}}
                for pattern, keys, _ in _PLACES
            ),
        ]
    },
)
