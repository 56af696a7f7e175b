"""Where a sidecar listens, and how one that says nothing is found to be listening."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from loop_kit._address import Address

__all__ = ["filled", "listen_on", "reachable"]

_FIRST, _LONGEST, _FACTOR = 0.002, 0.2, 1.5
_DATAGRAM = ("quic",)


def listen_on(transport: str, pattern: str | None, folder: Path, *, exact: bool) -> str:
    """The address that a sidecar is told to listen on.

    Args:
        transport: Its transport.
        pattern: What the manifest says instead of the default, or None.
        folder: For its socket.
        exact: Whether it must be an address to connect to: a program that knows nothing of us cannot tell which port
            it took, so a free one is chosen for it. Another program may take that in between; it then fails to start.
    """
    if transport == "stdio":
        return "stdio:"
    if pattern is None:
        pattern = (
            f"{transport}:{folder / 'socket'}"
            if transport in ("unix", "shm")
            else f"{transport}://127.0.0.1:0"
        )
    address = Address.parse(pattern)
    if not exact or not address.host or address.port:
        return pattern
    kind = socket.SOCK_DGRAM if transport in _DATAGRAM else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, kind) as found:
        found.bind((address.host, 0))
        port = found.getsockname()[1]
    host = f"[{address.host}]" if family == socket.AF_INET6 else address.host
    return f"{address.scheme}://{host}:{port}{address.path}"


def filled(words: Iterable[str], address: str) -> tuple[str, ...]:
    """Arguments with `{address}`, `{host}`, `{port}` and `{path}` replaced by those of an address."""
    parsed = Address.parse(address)
    values = {"address": address, "host": parsed.host, "port": str(parsed.port), "path": parsed.path}

    def fill(word: str) -> str:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        return word

    return tuple(map(fill, words))


async def reachable(address: str) -> None:
    """Returns once somebody listens at an address; asks again and again, ever more slowly."""
    parsed, pause = Address.parse(address), _FIRST
    while not await _listens(parsed):
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * _FACTOR)


async def _listens(address: Address) -> bool:
    if address.scheme in _DATAGRAM:
        return _is_bound(address.port)
    try:
        if address.scheme == "unix":
            _, writer = await asyncio.open_unix_connection(address.path)
        else:
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _is_bound(port: int) -> bool:
    """Whether some socket has a UDP port. Nothing answers on one, and binding it would take it from the sidecar."""
    if sys.platform != "linux":
        return True  # the session's own attempts will tell
    wanted = f":{port:04X}"
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as lines:
            if any(line.split()[1].endswith(wanted) for line in lines):
                return True
    return False
