"""The config of a provider that keeps things in NATS: servers, login, TLS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit._address import Address
from loop_kit.capabilities import _settings
from loop_kit.manifest.model import Login, Tls

__all__ = ["KEYS", "Server", "not_installed", "server"]

KEYS = ("url", "prefix", "replicas", "timeout", "login", "tls")


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, and what there is known of it.

    Attributes:
        urls: `nats://HOST:PORT` of one, or of some of a cluster.
        login: Whom to be.
        tls: Files of certificates; None: without TLS.
        replicas: Servers that keep what is made.
        timeout: Whole seconds that a request may take.
    """

    urls: list[str]
    login: Login | None
    tls: Tls | None
    replicas: int
    timeout: int


def server(given: Mapping[str, Any]) -> Server:
    """What a config says, but for its `prefix`.

    Raises:
        ValueError: A value does not do.
    """
    servers = _servers(given.get("url"))
    tls = _tls(given.get("tls"))
    if tls is None and (far := [server.host for server in servers if not server.is_local]):
        hint = (
            'add `tls = { ca = "/…/ca.pem" }`, or `tls = {}` to trust the authorities that the system trusts'
        )
        raise ValueError(f"config.url: {far[0]} is another machine, so the connection needs TLS; {hint}")
    return Server(
        [_where(server) for server in servers],
        _login(given.get("login")),
        tls,
        _settings.positive("config.replicas", given.get("replicas"), 1),
        _settings.positive("config.timeout", given.get("timeout"), 5),
    )


def not_installed(error: ImportError) -> ValueError:
    """What to tell where a package is missing."""
    hint = 'install it by `pip install "loop-kit[nats]"`'
    return ValueError(f"config.url: NATS takes the package {error.name}; {hint}")


def _servers(value: Any) -> list[Address]:
    example = 'such as "nats://127.0.0.1:4222"'
    urls = [value] if isinstance(value, str) else value
    if "@" in str(value):
        raise ValueError("config.url: a login does not stand in an address; write `login`")
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError(
            f"config.url: write the server, {example}, or a list of those of a cluster; got {value!r}"
        )
    found = []
    for url in urls:
        try:
            address = Address.parse(f"{url}/x")  # of a server alone: the others' have a subject
        except ValueError:
            raise ValueError(f"config.url: expected a server {example}, got {url!r}") from None
        if address.scheme != "nats" or address.path != "x":
            raise ValueError(f"config.url: expected a server {example}, got {url!r}")
        found.append(address)
    return found


def _where(server: Address) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"nats://{host}:{server.port}"


def _login(value: Any) -> Login | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):  # what was written may be a secret
        raise ValueError(f"config.login: must be a table, got a value of type {type(value).__name__}")
    said = _settings.table("config.login", value, ("user", "password", "token", "credentials"))
    if {*said} not in ({"user", "password"}, {"token"}, {"credentials"}):
        raise ValueError("config.login: a login has `user` and `password`, or `token`, or `credentials`")
    for name, text in said.items():
        if not isinstance(text, str):
            raise ValueError(f"config.login.{name}: must be a string")
    return Login(**said)


def _tls(value: Any) -> Tls | None:
    if value is None:
        return None
    said = _settings.table("config.tls", value, ("ca", "certificate", "key", "server-name"))
    for name, text in said.items():
        if not isinstance(text, str) or (name != "server-name" and not Path(text).is_absolute()):
            raise ValueError(f"config.tls.{name}: must be {_what(name)}, got {text!r}")
    if ("certificate" in said) != ("key" in said):
        raise ValueError("config.tls: `certificate` and `key` go together")
    files = {name: Path(said[name]) for name in ("ca", "certificate", "key") if name in said}
    return Tls(**files, server_name=said.get("server-name"))


def _what(name: str) -> str:
    return "a name" if name == "server-name" else "the absolute path of a PEM file"
