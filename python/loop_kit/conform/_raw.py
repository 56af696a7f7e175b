"""Frames by hand, for what no well-behaved caller sends. `docs/wire.md` has the layout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from loop_kit import wire

__all__ = ["CALL", "DROP", "FAIL", "GOAWAY", "LINKED", "RESULT", "Raw", "failure"]

_PREFACE = b"LOOP\x01"
_HELLO, _WELCOME = 0x01, 0x02
CALL, RESULT, FAIL = 0x10, 0x11, 0x12
GOAWAY, LINK, LINKED, DROP = 0x22, 0x25, 0x26, 0x28
_MOST = 1 << 24

_INTERFACE = (
    "record { name: string, functions: list<string>, types: list<list<u8>>, resources: list<string> }"
)
_LIMITS = "record { message: u64, calls: u32, channels: u32, window: u32, connection: u32, idle: u32 }"
_SAID = (
    "record { protocol: u32, software: string, identity: string, token: list<u8>, instance: string, "
    f"generation: u64, exports: list<{_INTERFACE}>, imports: list<{_INTERFACE}>, limits: {_LIMITS}, "
    "config-schema: string, transports: list<string>, resume: list<u8> }"
)
_CODES = (
    "provider not-granted no-such-interface no-such-function version-mismatch bad-value bad-handle "
    "deadline-exceeded cancelled provider-gone overloaded protocol guest-trap unauthenticated"
)
_FAILURE = (
    f"record {{ code: enum {{ {', '.join(_CODES.split())} }}, retryable: bool, message: string, "
    "fields: list<tuple<string, string>> }"
)
_LINK = "record { number: u32, name: string, grant: string, config: string }"


@dataclass
class _Limits:
    message: int = 1 << 26
    calls: int = 64
    channels: int = 64
    window: int = 1 << 20
    connection: int = 1 << 24
    idle: int = 30_000


@dataclass
class _Said:
    protocol: int = 1
    software: str = "conform"
    identity: str = ""
    token: bytes = b""
    instance: str = "conform"
    generation: int = 0
    exports: tuple[()] = ()
    imports: tuple[()] = ()
    limits: _Limits = field(default_factory=_Limits)
    config_schema: str = ""
    transports: tuple[()] = ()
    resume: bytes = b""


class Raw:
    """A session whose frames are written by hand.

    Attributes:
        functions: Numbers of the peer's functions by `interface#name`, the interface without version.
        resources: The same of its resources.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.functions: dict[str, int] = {}
        self.resources: dict[str, int] = {}

    @classmethod
    async def open(cls, where: str | tuple[int, int]) -> Raw:
        """Connects, and says nothing yet."""
        if isinstance(where, tuple):
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(limit=_MOST)
            protocol = asyncio.StreamReaderProtocol(reader)
            await loop.connect_read_pipe(lambda: protocol, os.fdopen(where[0], "rb", 0))
            transport, _ = await loop.connect_write_pipe(
                asyncio.streams.FlowControlMixin, os.fdopen(where[1], "wb", 0)
            )
            return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        if where.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(where.removeprefix("unix:"), limit=_MOST))
        url = urlsplit(where)
        return cls(*await asyncio.open_connection(url.hostname, url.port, limit=_MOST))

    async def greet(self, token: str | None) -> None:
        """Shakes hands as one that imports nothing.

        Raises:
            ConnectionError: It was refused.
        """
        said = _Said(token=(token or "").encode())
        self._writer.write(_PREFACE)
        self.send(_HELLO, 0, wire.encode(_SAID, said))
        kind, _, payload = await self.next()
        if kind != _WELCOME:
            raise ConnectionError(f"the session was refused: {failure(payload)[1]}")
        for interface in wire.decode(_SAID, payload).exports:
            name = re.sub("@.*", "", interface.name)
            for function in interface.functions:
                self.functions[f"{name}#{function}"] = len(self.functions)
            for resource in interface.resources:
                self.resources[f"{name}#{resource}"] = len(self.resources)

    async def link(self, number: int, grant: str = "{}") -> None:
        """Binds a link."""
        said = {"number": number, "name": f"conform/{number}", "grant": grant, "config": ""}
        self.send(LINK, 0, wire.encode(_LINK, said))
        while (await self.next())[0] != LINKED:
            pass

    def call(self, stream: int, function: int, link: int, root: bytes) -> None:
        self.send(CALL, stream, wire.encode("tuple<u32, u32, u8>", (function, link, 0)) + root)

    def send(self, kind: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "little") + bytes([kind]) + stream.to_bytes(4, "little")
        self._writer.write(head + payload)

    async def next(self) -> tuple[int, int, bytes]:
        """Kind, stream and payload of the next frame.

        Raises:
            IncompleteReadError: There is none, the connection is closed.
        """
        head = await self._reader.readexactly(8)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "little"))
        return head[3], int.from_bytes(head[4:], "little"), payload

    async def answer(self) -> tuple[int, bytes]:
        """Kind and payload of the next RESULT or FAIL."""
        while True:
            kind, _, payload = await self.next()
            if kind in (RESULT, FAIL):
                return kind, payload
            if kind == GOAWAY:
                raise ConnectionError(f"the session was ended: {failure(payload)[1]}")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the other side was faster
            await self._writer.wait_closed()


def failure(payload: bytes) -> tuple[str, str, dict[str, str]]:
    """Code, message and fields of a failure."""
    said = wire.decode(_FAILURE, payload)
    return said.code.name.lower().replace("_", "-"), said.message, dict(said.fields)
