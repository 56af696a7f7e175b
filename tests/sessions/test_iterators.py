"""Async iterators of a Python provider, as the streams that it gives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit import peer, provider

STREAMS = """\
package acme:flow;

interface flow {
  numbers: func(upto: u32) -> stream<u32>;
  within: func(upto: u32) -> future<stream<string>>;
  silent: func() -> stream<u32>;
  settled: func() -> future<u32>;
}
"""


class Flow:
    def __init__(self) -> None:
        self.tasks: set[Any] = set()
        self.asked = 0
        self.closed = 0

    async def items(self, upto: int, waits: int) -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(60):  # of one task, or it raises
                for n in range(upto):
                    self.asked += 1
                    self.tasks.add(asyncio.current_task())
                    if n % waits == 0:
                        await asyncio.sleep(0)
                    yield n
        finally:
            self.closed += 1

    def numbers(self, upto: int) -> AsyncIterator[int]:
        return self.items(upto, 100)

    async def waits(self) -> AsyncIterator[int]:
        """One, and then never another."""
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    async def never(self) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    def silent(self) -> AsyncIterator[int]:
        return self.waits()

    def settled(self) -> Any:
        return asyncio.ensure_future(self.never())

    async def within(self, upto: int) -> Any:
        async def texts() -> AsyncIterator[str]:
            async for n in self.items(upto, 3):
                yield str(n)

        async def later() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            return texts()

        return later()


@contextlib.asynccontextmanager
async def flowing(folder: Path, on: str = "unix") -> AsyncIterator[tuple[Flow, peer.Peer]]:
    (folder / "flow.wit").write_text(STREAMS)
    served, on = Flow(), f"unix:{folder}/s" if on == "unix" else on
    server = await provider.serve(served, on=on, interfaces="acme:flow/flow", wit=folder)
    async with await peer.connect(server.address, "acme:flow/flow", wit=folder) as session:
        yield served, session
    await server.close()


async def test_one_task_pulls_an_async_iterator(tmp_path: Path) -> None:
    async with flowing(tmp_path) as (served, session):
        assert [n async for n in await session.call("numbers", 50_000)] == list(range(50_000))
        assert len(served.tasks) == served.closed == 1
        texts = await (await session.call("within", 10_000))
        assert [t async for t in texts] == [str(n) for n in range(10_000)]
        assert len(served.tasks) == served.closed == 2


async def test_an_async_iterator_is_closed_when_its_reader_leaves(tmp_path: Path) -> None:
    async with flowing(tmp_path) as (served, session):
        stream = await session.call("numbers", 2**32 - 1)
        assert await anext(stream) == 0
        await stream.aclose()
        while not served.closed:
            await asyncio.sleep(0)
        assert served.asked < 2_000_000


@pytest.mark.parametrize("on", ["unix", "quic://127.0.0.1:0", "http2://127.0.0.1:0"])
@pytest.mark.parametrize("ending", ["reader", "session"])
async def test_one_that_waits_is_closed_when_nobody_is_left_to_read(
    tmp_path: Path, on: str, ending: str
) -> None:
    async with flowing(tmp_path, on) as (served, session):
        stream, future = await session.call("silent"), await session.call("settled")
        assert await anext(stream) == 1
        await asyncio.sleep(0.05)  # by now it is asked for another one, and waits
        assert not served.closed
        if ending == "reader":
            await stream.aclose()
            del future
        else:
            await session.close()
        async with asyncio.timeout(5):
            while served.closed < 2:
                await asyncio.sleep(0)
