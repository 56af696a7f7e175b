"""The provider that a conformance run expects, in Python: `python -m loop_kit.conform.provider --on ADDRESS`.

It serves links alone, and refuses those whose grant is `{"refuse": true}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import loop_kit as loop
from loop_kit.provider import provider, run

__all__ = ["Conform", "main", "reloaded"]

_reloaded = 0
_broken = False


def reloaded() -> None:
    """Counts reloads, and fails one when it was told to."""
    global _reloaded, _broken
    if _broken:
        _broken = False
        raise ValueError("this reload fails on purpose")
    _reloaded += 1


class _Waiting:
    """Calls that wait for keys."""

    def __init__(self) -> None:
        self._keys: dict[str, list[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    async def wait(self, key: str) -> None:
        future = asyncio.get_running_loop().create_future()
        self._keys.setdefault(key, []).append(future)
        try:
            await future
        except asyncio.CancelledError:
            self._keys[key].remove(future)
            raise

    def release(self, key: str) -> None:
        for future in self._keys.pop(key, []):
            future.set_result(None)


class _Values:
    def nothing(self) -> None:
        pass

    def two(self, a: int, b: str) -> str:
        return f"{b}{a}"


def _echo(_: Any, v: Any) -> Any:
    return v


_ECHOED = (
    "bool u8 s8 u16 s16 u32 s32 u64 s64 f32 f64 char string bytes numbers doubles strings fixed tuple point shape "
    "color rights nine option nested results units everything"
)
for _type in _ECHOED.split():
    setattr(_Values, f"echo_{_type}", _echo)


class _Channels:
    def __init__(self) -> None:
        self._drawn = 0
        self._held = _Waiting()

    def count(self, upto: int) -> Iterator[int]:
        return iter(range(upto))

    def words(self, text: str) -> list[str]:
        return text.split()

    def pipe(self, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return data

    def points(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return items

    async def sum(self, items: AsyncIterator[int]) -> int:
        total = 0
        async for item in items:
            total += item
        return total

    def later(self, text: Awaitable[str]) -> Awaitable[str]:
        return _exclaimed(text)

    def inner(self, items: Awaitable[AsyncIterator[int]]) -> Awaitable[AsyncIterator[int]]:
        return items

    def each(self, items: AsyncIterator[Awaitable[str]]) -> AsyncIterator[str]:
        async def each() -> AsyncIterator[str]:
            async for item in items:
                yield await _exclaimed(item)

        return each()

    def both(self, of: tuple[AsyncIterator[int], Awaitable[int]]) -> dict[str, Any]:
        items, more = of
        total: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def raised() -> AsyncIterator[int]:
            by, all_of_them = await more, 0
            async for item in items:
                all_of_them += item + by
                yield item + by
            total.set_result(all_of_them)

        return {"total": total, "items": raised()}

    async def _broken(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken on purpose")

    def broken(self) -> AsyncIterator[int]:
        return self._broken()

    def lost(self) -> Awaitable[str]:
        async def lose() -> str:
            raise ValueError("lost on purpose")

        return lose()

    def endless(self, chunk: int) -> Iterator[bytes]:
        while True:
            self._drawn += chunk
            yield bytes(chunk)

    def drawn(self) -> int:
        return self._drawn

    async def hold(self, data: AsyncIterator[bytes], key: str) -> int:
        length = len(await anext(data))
        await self._held.wait(key)
        async for chunk in data:
            length += len(chunk)
        return length

    def let_go(self, key: str) -> None:
        self._held.release(key)


async def _exclaimed(text: Awaitable[str]) -> str:
    return f"{await text}!"


class _Calls:
    def __init__(self, grant: Any, config: Any) -> None:
        self._link = {"grant": _json(grant), "config": _json(config)}
        self._calls = _Waiting()
        self._cancelled = 0

    def add(self, a: int, b: int) -> int:
        return a + b

    def check(self, text: str) -> int:
        if not text:
            raise loop.Err("missing")
        if len(text) > 10:
            raise loop.Err(("too-long", len(text)))
        return len(text)

    def refuse(self) -> None:
        raise loop.Err(None)

    def fail(self, message: str) -> None:
        raise ValueError(message)

    async def wait(self, key: str) -> int:
        try:
            await self._calls.wait(key)
        except asyncio.CancelledError:
            self._cancelled += 1
            raise
        return 1

    def release(self, key: str) -> None:
        self._calls.release(key)

    def waiting(self) -> int:
        return len(self._calls)

    def cancelled(self) -> int:
        return self._cancelled

    def linked(self) -> dict[str, str]:
        return self._link

    def generation(self) -> int:
        return _reloaded

    def break_reload(self) -> None:
        global _broken
        _broken = True


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value)


def _counters() -> type:
    """The class of one link's counters, which knows how many of them there are."""

    class Counter:
        live = 0

        def __init__(self, start: int) -> None:
            self._value = start
            Counter.live += 1

        def __del__(self) -> None:
            Counter.live -= 1

        def add(self, n: int) -> int:
            self._value += n
            return self._value

        def value(self) -> int:
            return self._value

        def merge(self, other: Counter) -> int:
            return self.add(other._value)

        @staticmethod
        def make(n: int) -> list[Counter]:
            return [Counter(i) for i in range(n)]

        @staticmethod
        def total(of: list[Counter]) -> int:
            return sum(counter._value for counter in of)

    return Counter


@provider(
    *(f"loop:conform/{name}@0.1.0" for name in ("values", "channels", "resources", "calls")),
    wit="wit",
)
class Conform(_Values, _Channels, _Calls):
    """All four interfaces, for one link."""

    def __init__(self, grant: Any = None, config: Any = None) -> None:
        if isinstance(grant, dict) and grant.get("refuse"):
            raise loop.errors.NotGranted("this grant is refused on purpose", "conform")
        _Channels.__init__(self)
        _Calls.__init__(self, grant, config)
        self.Counter = _counters()

    def live(self) -> int:
        """How many counters of this link there are."""
        return int(self.Counter.live)  # type: ignore[attr-defined]


def main(arguments: list[str] | None = None) -> int:
    """Serves it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loop_kit.conform.provider", description=__doc__)
    parser.add_argument(
        "--on", metavar="ADDRESS", help="stdio:, unix:PATH or tcp://HOST:PORT (default: stdio:)"
    )
    given = parser.parse_args(arguments)
    token = os.environ.get("LOOP_PROVIDER_TOKEN")
    try:
        asyncio.run(run(Conform, on=given.on, token=token, reload=reloaded))
    except (loop.errors.LoopError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
