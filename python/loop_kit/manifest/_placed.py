"""What the placements `sidecar` and `remote` ask of a provider, beyond the shapes of its keys.

Works on the document as parsed from TOML, so that these problems come together with every other. Values of a wrong
type are the shapes' to report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loop_kit._address import Address
from loop_kit.manifest._artifact import is_artifact
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._shape import Cursor
from loop_kit.manifest._toml import string

__all__ = ["check_placements"]

Raw = Mapping[str, Any]

_PLAIN = ("tcp", "unix", "quic", "ws")
_PLACEHOLDER = re.compile(r"\{(address|host|port|path)\}")
# What each transport's addresses do not have.
_LACKS = {
    "stdio": ("host", "port", "path"),
    "unix": ("host", "port"),
    "shm": ("host", "port"),
    "pipe": ("host", "port"),
    "tcp": ("path",),
    "quic": ("path",),
    "http2": ("path",),
}


def check_placements(raw: Raw, at: Cursor) -> None:
    """Reports providers that could not be reached, or not safely, and grants that nobody would enforce."""
    plain = set()
    for name, provider in _tables(raw, "providers").items():
        use = provider.get("use")
        here = _Place(at, ("providers", name))
        if not isinstance(use, str):
            continue
        if use.startswith("remote:"):
            _check_remote(provider, use.removeprefix("remote:"), here)
        elif use.startswith("sidecar") or is_artifact(use):
            _check_sidecar(provider, here)
        else:
            continue
        if provider.get("handshake") is False:
            plain.add(name)
            if provider.get("config"):
                here.problem("config", "config is passed by the handshake, which this provider does not have")
    for keys, link in _links(raw):
        linked = link.get("provider")
        if isinstance(linked, str) and linked in plain and link.get("grant"):
            message = f"no grant can be passed to {linked}: plain wRPC has none"
            hint = "remove the grant; the provider may do whatever its process may"
            _Place(at, keys).problem("grant", message, hint)


class _Place:
    def __init__(self, at: Cursor, keys: Keys) -> None:
        self.at = at
        self.keys = keys

    def problem(self, key: str, message: str, hint: str | None = None) -> None:
        place = (*self.keys, key)
        self.at.report.append(self.at.source.problem(self.keys, message, hint, at="value", place=place))


def _check_remote(provider: Raw, target: str, here: _Place) -> None:
    try:
        address = Address.parse(target)
    except ValueError:
        return
    _check_login(provider, address.scheme, here)
    if not address.host and "tls" in provider:
        here.problem("tls", f"{address.scheme}: never leaves this machine, and has no TLS")
    if not address.is_local and "tls" not in provider:
        hint = 'add `tls = { ca = "ca.pem" }`, or `tls = {}` to trust the authorities that the system trusts'
        here.problem("use", f"{address.host} is another machine, so the connection must have TLS", hint)
    if provider.get("handshake") is False:
        _check_plain(address.scheme, here, "use")
        if "token" in provider:
            here.problem("token", "the token is shown in the handshake, which this provider does not have")


def _check_sidecar(provider: Raw, here: _Place) -> None:
    listen = _parsed(provider.get("address"))
    given = provider.get("transport")
    transport = given if isinstance(given, str) else listen.scheme if listen else "unix"
    if listen and given is not None and listen.scheme != transport:
        here.problem("address", f"is not of the transport {string(transport)}", "one of the two is enough")
    if listen and listen.scheme != "nats" and not listen.is_local:
        hint = "a sidecar listens on 127.0.0.1; what listens elsewhere is used as `remote:`"
        here.problem("address", f"{listen.host} can be reached by other machines", hint)
    if transport == "nats" and listen is None and "address" not in provider:
        here.problem("transport", "needs a server", 'add address = "nats://127.0.0.1:4222/SUBJECT"')
    _check_login(provider, transport, here)
    told = False
    for key in ("command", "args"):
        words = provider.get(key)
        for word in words if isinstance(words, list) else ():
            for name in _PLACEHOLDER.findall(word) if isinstance(word, str) else ():
                told = True
                if name in _LACKS.get(transport, ()):
                    here.problem(key, f"an address of the transport {string(transport)} has no {name}")
    if provider.get("handshake") is False:
        _check_plain(transport, here, "transport" if "transport" in provider else "address")
        fixed = listen is not None and (not listen.host or listen.port)
        if not told and not fixed and transport in _PLAIN:
            hint = 'add args = ["--listen", "{address}"] in its own words, or the address that it always listens on'
            here.problem("handshake", "the program must be told where to listen", hint)


def _check_login(provider: Raw, transport: str, here: _Place) -> None:
    if "login" in provider and transport != "nats":
        hint = "a provider itself asks for a `token`, or for the certificate in `tls`"
        here.problem("login", f"{transport} has no server to log in to", hint)


def _check_plain(transport: str, here: _Place, key: str) -> None:
    if transport not in _PLAIN:
        message = f"{transport} needs the handshake; plain wRPC has {', '.join(_PLAIN)}"
        here.problem(key, message, "remove `handshake = false`, or change the transport")


def _parsed(text: object) -> Address | None:
    try:
        return Address.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _links(raw: Raw) -> list[tuple[Keys, Raw]]:
    found: list[tuple[Keys, Raw]] = [(("links", name), link) for name, link in _tables(raw, "links").items()]
    for component, table in _tables(raw, "components").items():
        imports = _tables(table, "imports").items()
        found += [(("components", component, "imports", name), link) for name, link in imports]
    return found


def _tables(raw: Raw, key: str) -> dict[str, Raw]:
    table = raw.get(key)
    if not isinstance(table, dict):
        return {}
    return {name: value for name, value in table.items() if isinstance(value, dict)}
