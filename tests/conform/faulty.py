"""Providers with one fault each: `python -m tests.conform.faulty FAULT`. A run must find it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from loop_kit.conform.provider import Conform, reloaded
from loop_kit.provider import run


class FlipsABit(Conform):
    def echo_u16(self, v: int) -> int:
        return v ^ 0x100 if v == 0x8000 else v


class LosesTheSign(Conform):
    def echo_f64(self, v: float) -> float:
        return v + 0.0


class SwapsErrors(Conform):
    def check(self, text: str) -> int:
        return super().check("" if len(text) > 10 else text)


class HidesWhy(Conform):
    def fail(self, message: str) -> None:
        raise ValueError("something went wrong")


class StopsShort(Conform):
    def count(self, upto: int) -> Any:
        return iter(range(min(upto, 99_999)))


class KeepsResources(Conform):
    def __init__(self, grant: Any = None, config: Any = None) -> None:
        super().__init__(grant, config)
        kept: list[Any] = []
        made = self.Counter

        class Counter(made):  # type: ignore[misc,valid-type]
            @staticmethod
            def make(n: int) -> list[Any]:
                kept.extend(made.make(n))  # type: ignore[attr-defined]
                return kept[-n:] if n else []

        self.Counter = Counter


class ReadsAhead(Conform):
    async def hold(self, data: AsyncIterator[bytes], key: str) -> int:
        chunks = [chunk async for chunk in data]
        await self._held.wait(key)
        return sum(map(len, chunks))


class GoesOnWhenCancelled(Conform):
    async def wait(self, key: str) -> int:
        return await asyncio.shield(asyncio.ensure_future(super().wait(key)))


class TakesAnyGrant(Conform):
    def __init__(self, grant: Any = None, config: Any = None) -> None:
        super().__init__({}, config)


FAULTS = (
    *(FlipsABit, LosesTheSign, SwapsErrors, HidesWhy, StopsShort, KeepsResources, ReadsAhead),
    *(GoesOnWhenCancelled, TakesAnyGrant),
)


def main(fault: str) -> None:
    made = {cls.__name__: cls for cls in FAULTS}
    reload = None if fault == "NeverReloads" else reloaded
    token = os.environ.get("LOOP_PROVIDER_TOKEN")
    served = {"token": None if fault == "AsksForNoToken" else token, "reload": reload}
    asyncio.run(run(made.get(fault, Conform), on=None, **served))


if __name__ == "__main__":
    main(sys.argv[1])
