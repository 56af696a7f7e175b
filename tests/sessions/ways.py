"""A Python provider and a session with it, over every transport."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from loop_kit import peer, provider
from loop_kit.manifest import Tls
from tests.sessions.kv import store

WIT = Path(store.__file__).parent / "wit"
ROOT = Path(__file__).parents[2]
KEYS = ROOT / "tests/data/tls"
SERVING = Tls(KEYS / "ca.pem", KEYS / "localhost.pem", KEYS / "localhost.key")
CALLING = Tls(KEYS / "ca.pem", KEYS / "kv-client.pem", KEYS / "kv-client.key")
WAYS = ["unix", "shm", "tcp", "pair", "tls", "quic", "http2", "ws", "nats"]


@contextlib.asynccontextmanager
async def session(
    way: str, folder: Path, served: Any = store.Store, **options: Any
) -> AsyncIterator[peer.Peer]:
    """A provider in this process and a session with it."""
    if way == "pair":
        ours, theirs = socket.socketpair()
        server = await provider.serve(served, on=f"unix:{folder / 'unused'}", **options)
        fd = theirs.detach()
        server.accept(fd, fd)
        fd = ours.detach()
        async with await peer.connect((fd, fd), wit=WIT, **options) as session:
            yield session
    else:
        address = {way: f"{way}:{folder / 's'}" for way in ("unix", "shm")}
        address |= {"tcp": "tcp://127.0.0.1:0", "tls": "tcp://127.0.0.1:0"}
        serving, calling = (SERVING, CALLING) if way == "tls" else (None, None)
        server = await provider.serve(served, on=address.get(way, way), tls=serving, **options)
        async with await peer.connect(server.address, wit=WIT, tls=calling, **options) as session:
            yield session
    await server.close()
    assert not server._sessions
