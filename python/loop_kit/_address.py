"""Addresses of providers as URLs: `unix:/run/kv.sock`, `tcp://127.0.0.1:7000`, `nats://127.0.0.1:4222/kv`, `stdio:`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

__all__ = ["CONNECT_PATTERN", "EXAMPLES", "LISTEN_PATTERN", "Address", "is_loopback"]

_HOST = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_HIGH = "[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"


def _pattern(port: str) -> str:
    net = rf"(tcp|quic|http2)://{_HOST}:({port})|ws://{_HOST}:({port})(/[!-~]*)?"
    # a subject of NATS without wildcards
    nats = rf"nats://{_HOST}(:([1-9][0-9]{{0,3}}|{_HIGH}))?/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
    return rf"{net}|{nats}|(unix|shm|pipe):[^\u0000]+"


# Shared with the JSON Schema, hence ECMA 262 syntax.
CONNECT_PATTERN = _pattern(f"[1-9][0-9]{{0,3}}|{_HIGH}")
LISTEN_PATTERN = _pattern(f"[0-9]{{1,4}}|{_HIGH}")
EXAMPLES = ("unix:/run/kv.sock", "tcp://127.0.0.1:7000", "quic://kv.example:7000", "nats://127.0.0.1:4222/kv")
_NATS_PORT = 4222


class Address(NamedTuple):
    """The parts of an address.

    Attributes:
        scheme: Its transport.
        host: Name or IP address, without brackets; "" where there is none.
        port: 0 where there is none, or any free one is meant.
        path: The socket's path, the subject, the path of a URL; "" where there is none.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address; port 0 is allowed, as for listening.

        Raises:
            ValueError: It is none.
        """
        if text == "stdio:":
            return cls("stdio")
        if not re.fullmatch(LISTEN_PATTERN, text):
            raise ValueError(f"not an address: {text[:100]!r}")
        scheme, _, rest = text.partition(":")
        if scheme in ("unix", "shm", "pipe"):
            return cls(scheme, path=rest)
        where, slash, path = rest.removeprefix("//").partition("/")
        host, colon, port = where.rpartition(":") if re.search(r":[0-9]+$", where) else (where, "", "")
        if scheme == "nats":
            return cls(scheme, host.strip("[]"), int(port) if colon else _NATS_PORT, path)
        return cls(scheme, host.strip("[]"), int(port), slash + path)

    @property
    def is_local(self) -> bool:
        """Whether what is sent there never leaves this machine."""
        return not self.host or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or IP address is this machine's own, decided without a look-up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
