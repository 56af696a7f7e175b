"""The provider of `wit/kv.wit`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import loop_kit as loop
from loop_kit.provider import provider


class Bucket:
    alive = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, bytes] = {}

    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def size(self) -> int:
        return len(self.values)

    def merge(self, other: Bucket) -> int:
        self.values.update(other.values)
        return len(self.values)

    @staticmethod
    def open(names: list[str]) -> list[Bucket]:
        return [Bucket(name) for name in names]


@provider("acme:kv/store@0.1.0", wit="wit")
class Store:
    Bucket = Bucket

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.waiting: dict[str, asyncio.Event] = {}
        self.gave_up = 0
        self.taken = 0

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def put(self, e: Any) -> int:
        if len(e.key) > 10:
            raise loop.Err(("too-long", len(e.key)))
        self.values[e.key] = e.value
        return len(self.values)

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, data: bytes) -> bytes:
        return data

    def nothing(self) -> None:
        pass

    async def wait(self, key: str) -> int:
        try:
            await self.waiting.setdefault(key, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.gave_up += 1
            raise
        return 1

    def release(self, key: str) -> None:
        self.waiting.setdefault(key, asyncio.Event()).set()

    def cancelled(self) -> int:
        return self.gave_up

    def fail(self, how: str) -> None:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            raise SystemExit(3)
        raise ValueError(how)

    def count(self, upto: int) -> Iterator[int]:
        return iter(range(upto))

    def bytes(self, chunks: int, size: int) -> Iterator[bytes]:
        for _ in range(chunks):
            self.taken += 1
            yield b"x" * size

    def words(self, text: str) -> list[str]:
        return text.split()

    async def total(self, items: AsyncIterator[int]) -> int:
        total = 0
        async for item in items:
            total += item
        return total

    async def length(self, data: AsyncIterator[Any]) -> int:
        length = 0
        async for chunk in data:
            length += len(chunk)
        return length

    async def nested(self, items: AsyncIterator[Awaitable[str]]) -> AsyncIterator[str]:
        async def upper() -> AsyncIterator[str]:
            async for item in items:
                yield (await item).upper()

        return upper()

    async def later(self, v: str) -> Awaitable[str]:
        async def settle() -> str:
            await asyncio.sleep(0)
            return v.upper()

        return settle()

    def asked(self) -> int:
        return self.taken

    async def _broken(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken in the middle")

    def broken(self) -> AsyncIterator[int]:
        return self._broken()


@provider("acme:kv/store@0.1.0", wit="wit")
class Granted(Store):
    """Serves links alone, each with values of its own."""

    def __init__(self, grant: Any = None, config: Any = None) -> None:
        super().__init__()
        if grant == "refuse":
            raise loop.errors.NotGranted("this grant is refused", "test")
        self.values["grant"] = str(grant).encode()
        self.values["config"] = str(config).encode()
