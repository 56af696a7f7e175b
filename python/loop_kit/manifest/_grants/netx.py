"""The grant of `loop:netx`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_kit.manifest._shape import Duration, Field, Integer, ListOf, MapOf, Size, Table, Text
from loop_kit.manifest._text import FILE, NAME, TEXT

__all__ = ["GRANT", "sentences"]

# The provider says what is wrong with one that only looks like a rule.
RULE = Text(
    'a rule such as "https://api.example.com:443"',
    r"^(https?|wss?|dns)://[^\s@?#]+$",
    examples=(
        "https://api.example.com:443",
        "http://10.0.0.0/8:8080",
        "wss://*.example.com",
        "dns://example.com",
    ),
)
LISTEN = Text(
    'an address such as "127.0.0.1:8080"',
    r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$",
    examples=("127.0.0.1:8080", "[::1]:0"),
)
PEER = Text(
    'an address such as "tcp://127.0.0.1:7000"',
    r"^(tcp://|ws://|unix:)[^\u0000]+$",
    examples=("tcp://127.0.0.1:7000",),
)
PROXY = Text(
    '"environment" or a URL such as "http://proxy.lan:3128"',
    r"^(environment|http://[^\s@]+)$",
    examples=("environment", "http://proxy.lan:3128"),
)

GRANT = Table(
    "grant-loop-netx",
    "What the component may reach, and where it may listen.",
    dict,
    {
        "allow": Field(
            ListOf(RULE),
            "Servers: SCHEME://HOST:PORT, where the host is a name, *.NAME, an address, a network or *, and the port "
            "a number or *. Addresses that are not public need an entry that names them.",
        ),
        "proxy": Field(
            PROXY, "The proxy that requests go through; none by default, whatever the environment says."
        ),
        "listen": Field(
            MapOf(
                Table(
                    "listen",
                    "An address to listen on.",
                    dict,
                    {
                        "address": Field(
                            LISTEN, "Address and port; port 0 takes any that is free.", required=True
                        ),
                        "certificate": Field(FILE, "Its certificates, a PEM file: it then speaks TLS."),
                        "key": Field(FILE, "Their key, a PEM file."),
                    },
                ),
                key_pattern=NAME.pattern,
                key_expects=NAME.expects,
            ),
            "Addresses to listen on, by the name that the component knows them by.",
        ),
        "wrpc": Field(
            MapOf(
                Table(
                    "wrpc",
                    "A wRPC peer.",
                    dict,
                    {
                        "address": Field(PEER, "Where it is.", required=True),
                        "interfaces": Field(
                            ListOf(TEXT), "Interfaces of it that may be called. All if absent."
                        ),
                    },
                ),
                key_pattern=NAME.pattern,
                key_expects=NAME.expects,
            ),
            "wRPC peers, by the name that the component knows them by.",
        ),
        "max-body": Field(Size(), "Bytes of a body that is given or taken whole.", default=16 << 20),
        "max-decoded": Field(Size(), "Bytes that a compressed body may unfold to.", default=1 << 30),
        "max-header": Field(Size(), "Bytes of the fields of a message, 8 KiB or more.", default=64 << 10),
        "max-fields": Field(Integer(1), "Fields of a message.", default=128),
        "max-message": Field(Size(), "Bytes of a WebSocket or gRPC message.", default=16 << 20),
        "max-connections": Field(
            Integer(1), "Connections open at once, to servers and from clients each.", default=256
        ),
        "max-idle": Field(Integer(0), "Connections to one server that are kept unused.", default=32),
        "max-redirects": Field(Integer(0), "Redirects that a request follows.", default=10),
        "connect-timeout": Field(Duration(), "To connect, with the lookup and TLS.", default=10),
        "first-byte-timeout": Field(Duration(), "From there to the head of a response.", default=60),
        "between-bytes-timeout": Field(
            Duration(), "Between two pieces of a body, and that a client leaves an answer unread.", default=60
        ),
        "total-timeout": Field(Duration(), "For a whole request; no end by default."),
        "idle-timeout": Field(Duration(), "How long a connection is kept unused.", default=30),
    },
)


def sentences(grant: Mapping[str, Any]) -> list[str]:
    """What the grant lets a component do, each as the end of "NAME may"."""
    said = [_rule(rule) for rule in grant.get("allow", ())]
    if "proxy" in grant:
        named = grant["proxy"]
        said.append(
            f"go through {'the proxy that the environment names' if named == 'environment' else named}"
        )
    for name, place in grant.get("listen", {}).items():
        tls = ", with TLS" if "certificate" in place else ""
        said.append(f"listen on {place['address']} (as `{name}`{tls})")
    for name, peer in grant.get("wrpc", {}).items():
        interfaces = peer.get("interfaces")
        what = "everything" if interfaces is None else ", ".join(interfaces) or "nothing"
        said.append(f"call {what} of the wRPC peer {peer['address']} (as `{name}`)")
    return said


def _rule(rule: str) -> str:
    scheme, _, where = rule.partition("://")
    verb = {"dns": "look up", "ws": "open WebSockets to", "wss": "open WebSockets to"}.get(
        scheme, "send requests to"
    )
    return f"{verb} {where if scheme == 'dns' else rule}"
